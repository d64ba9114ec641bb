"""`python -m tests.chaos [--runs N] [--seed N] [--only NAME]`: disturbed runs over a RabbitMQ of their own.

Each prints a line; the last says how many were not what an undisturbed run is, and the exit code is 1 if any was not.
"""

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from tercet.agents.core import logs
from tests.chaos.fleet import Fleet, fleet
from tests.chaos.remains import remains
from tests.chaos.runs import EXTRA, Result, disturbed, write_tables
from tests.chaos.scenarios import NOTARY, Scenario, everything
from tests.rabbitmq_node import Node, private_node


def prepared(folder: Path, node: Node) -> AbstractAsyncContextManager[Fleet]:
    """Three daemons that are up, and their tables, around a RabbitMQ that may be killed."""
    return fleet(folder, node, write_tables(folder), NOTARY, EXTRA)


def report(result: Result, seed: int) -> str:
    """A line about a run; of one that is not as it has to be also the plan, and how to run it again."""
    scenario = result.scenario
    verdict = "same" if result.problem is None else "NOT THE SAME"
    line = (
        f"{verdict:5} {scenario.name:22} {scenario.what:55} {result.attempts + 1:2} attempts "
        f"{result.lives} restarts {result.seconds:5.1f} s"
    )
    if result.unreached:
        line += f"  points not reached: {result.unreached}"
    if result.problem is None:
        return line
    return "\n".join(
        [
            line,
            f"      {result.problem}",
            f"      plan {scenario.plan.model_dump_json(exclude_defaults=True)}",
            f"      again: python -m tests.chaos --seed {seed} --only {scenario.name}",
        ]
    )


def chosen(seed: int, runs: int, only: str | None) -> list[Scenario]:
    """The first scenarios of a seed, those of a name, or so many that more seeds are needed."""
    found: list[Scenario] = []
    while len(found) < runs:
        more = [scenario for scenario in everything(seed) if only is None or scenario.name == only]
        if not more:
            sys.exit(f"no scenario is called {only}; there are {', '.join(s.name for s in everything(seed))}")
        if found:
            more = [scenario._replace(name=f"{scenario.name}-{len(found)}") for scenario in more]
        found += more
        seed += 1
    return found[:runs]


async def run_all(scenarios: list[Scenario], seed: int, folder: Path) -> int:
    """Run them one after another; how many were not the same, or left something behind."""
    wrong, begun = 0, time.monotonic()
    with private_node() as node:
        async with prepared(folder, node) as one:
            for scenario in scenarios:
                result = await disturbed(one, scenario)
                wrong += result.problem is not None
                print(report(result, seed), flush=True)
            left = await remains(one)
    print("nothing is left of any job" if not left else "\n".join(["left behind:", *left]))
    print(f"{len(scenarios)} runs, {wrong} not the same, {time.monotonic() - begun:.0f} s, seed {seed}")
    return wrong + len(left)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, help="how many; by default one of each scenario, or one of --only")
    parser.add_argument("--seed", type=int, default=None, help="by default a new one")
    parser.add_argument("--only", help="one scenario, by its name")
    parser.add_argument("--keep", type=Path, help="a new folder for settings, states and logs; by default none stay")
    arguments = parser.parse_args()
    logs.configure("error")  # of the undisturbed runs in this process
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    runs = arguments.runs or (1 if arguments.only else len(everything(seed)))
    scenarios = chosen(seed, runs, arguments.only)
    with tempfile.TemporaryDirectory() as nowhere:
        folder = arguments.keep or Path(nowhere)
        folder.mkdir(parents=True, exist_ok=True)
        wrong = asyncio.run(run_all(scenarios, seed, folder))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
