"""`python -m benchmarks.statistics`: what a statistics job costs, in processor time by role and in bytes by kind.

Over memory all roles run in one process on one thread, without messages or a broker: the mathematics alone. Over
RabbitMQ there is a process for each party, and a table to read. Tables are made up.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.alignment import HELPER as NOTARY
from benchmarks.alignment import PARTIES
from benchmarks.deployed import parties
from benchmarks.memory import write
from benchmarks.report import report
from tercet.mpc.arithmetic import ring
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.interface.script import HELPER
from tercet.mpc.statistics.plan import StatisticsPlan
from tests.mpc.driver import Task
from tests.mpc.statistics.world import StatisticsWorld, make_statistics_job

SETTINGS = '[policy]\nstatistics = "woe"\nstatistics_of_amounts = true\ncorrelations = "label"\n'
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
    parser.add_argument("--classes", type=int, choices=(0, 2), default=2, help="0 of a count or an amount")
    parser.add_argument("--over", nargs="*", choices=("memory", "rabbitmq"), default=("memory", "rabbitmq"))
    parser.add_argument("--url", help="a RabbitMQ to use instead of a private node")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "table": f"{arguments.rows} rows, 2 x {arguments.columns} columns, {arguments.bins} bins, correlations",
    }
    if "memory" in arguments.over:
        result["mathematics"] = mathematics(arguments)
    if "rabbitmq" in arguments.over:
        result["rabbitmq"] = over_rabbitmq(arguments)
    report(result)


def mathematics(arguments: argparse.Namespace) -> dict[str, Any]:
    """All roles on one thread."""
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
    return {"processor_seconds": {"beginning": making, **world.seconds}, "bytes": dict(world.bytes)}


def over_rabbitmq(arguments: argparse.Namespace) -> dict[str, Any]:
    """A process for each party: from the command that submits the job until all have its end on their disks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = {party: write(folder, party, arguments.rows, arguments.columns) for party in PARTIES}
        with parties(folder, tables, NOTARY, url=arguments.url, extra=SETTINGS) as around:
            began = time.perf_counter()
            statuses, broker = around.run_file(PARTIES[0], job_text(arguments))
            seconds = time.perf_counter() - began
            peaks = {party: around.peak_mib(party) for party in around.deployment.parties}
    return {
        "seconds": round(seconds, 1),
        "attempts": statuses[PARTIES[0]]["attempt"],
        "stage_seconds": {party: status["stage_seconds"] for party, status in statuses.items()},
        "broker_processor_seconds": None if broker is None else round(broker, 1),
        "sent_bytes": {party: sum(status["sent_bytes"].values()) for party, status in statuses.items()},
        "peak_mib": peaks,
    }


def job_text(arguments: argparse.Namespace) -> str:
    """The job of a label with two classes, or of an amount, where all is told that can be."""
    model = "logistic" if arguments.classes else "linear"
    tables = "".join(f'{party} = "table"\n' for party in PARTIES)
    return (
        f'kind = "statistics"\nname = "statistics"\nmodel = "{model}"\nlabel = "{PARTIES[0]}"\nhelper = "{NOTARY}"\n'
        f'[tables]\n{tables}[statistics]\nbins = {arguments.bins}\nwoe = true\ncorrelations = "label"\n'
    )


if __name__ == "__main__":
    main()
