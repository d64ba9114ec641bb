"""`python -m benchmarks.statistics`: what a statistics job costs, in processor time by role and in bytes by kind.

All roles run in one process on one thread, without messages or a broker: the mathematics alone. The table is made up.
"""

import argparse
import json
import platform
import sys
import time
from collections import defaultdict

from tercet.mpc.arithmetic import ring
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.interface.script import HELPER
from tercet.mpc.statistics.plan import StatisticsPlan
from tests.mpc.driver import Task
from tests.mpc.statistics.world import StatisticsWorld, make_statistics_job

ROLES = {0: "label party", 1: "partner", HELPER: "helper"}


class Measured(StatisticsWorld):
    """Notes bytes and time, and keeps no tensor."""

    def __post_init__(self) -> None:
        """Count from nothing."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.bytes: dict[str, int] = defaultdict(int)
        super().__post_init__()

    def _advance(self, task: Task, look_ahead: int) -> bool:
        began = time.process_time()
        moved = super()._advance(task, look_ahead)
        self.seconds[ROLES[task.party]] += time.process_time() - began
        return moved

    def post(self, kind: str, turn: int, index: int, way: tuple[int, int], words: Words) -> None:
        """Take a tensor over."""
        self.bytes[kind] += words.nbytes
        self.box[kind, turn, index, *way] = words


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=50, help="of each party")
    parser.add_argument("--bins", type=int, default=10)
    parser.add_argument("--classes", type=int, default=2, help="0 of a count or an amount")
    arguments = parser.parse_args()
    ring.warm_up()
    columns = (arguments.bins,) * arguments.columns
    plan = StatisticsPlan(
        arguments.rows, 0, (columns, columns), classes=arguments.classes, numbers=(arguments.columns,) * 2,
        woe=True, correlations="label",
    )  # fmt: skip
    job = make_statistics_job(plan)
    began = time.process_time()
    world = Measured(job)
    making = time.process_time() - began
    world.run()
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "table": f"{arguments.rows} rows, 2 x {arguments.columns} columns, {arguments.bins} bins, correlations",
        "seconds": {"beginning": making, **world.seconds},
        "bytes": dict(world.bytes),
    }
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
