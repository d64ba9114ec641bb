"""`python -m tests.soak`: does anything grow while the same three agents run hundreds of jobs?

It starts a private RabbitMQ and three agents, looks at what they hold after a first part of the jobs and at the end,
prints both, and exits with 1 if something has grown by more than it may.
"""

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.deployment import Deployment
from tests.rabbitmq_node import private_node
from tests.soak.figures import Figures, allowed, growth_of, look
from tests.soak.run import agents, complaints, soak, train_first


def main() -> None:
    """Read the command line, run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="many jobs through the same agents")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--first", type=int, default=100, help="compare with what is held after so many")
    arguments = parser.parse_args()
    first = min(arguments.first, arguments.jobs // 2)
    folder = Path(tempfile.mkdtemp(prefix="tercet-soak-"))
    with private_node() as node:
        with agents(folder, node.url) as three, explained(three):
            since = time.monotonic()
            of = train_first(three)
            soak(three, range(first), of, arguments.parallel)
            before = look(three, node)
            soak(three, range(first, arguments.jobs), of, arguments.parallel)
            after = look(three, node)
            wrong, growth = complaints(three), growth_of(before, after, arguments.jobs - first)
            if wrong or growth:
                explain(three)
        if not (wrong or growth):
            shutil.rmtree(folder)
        print(f"{arguments.jobs} jobs, {arguments.parallel} at a time, in {time.monotonic() - since:.0f} s")
    Console().print(table(before, after, arguments.jobs - first, f"after {first}"))
    print("\n".join(wrong))
    sys.exit(1 if growth or wrong else 0)


@contextlib.contextmanager
def explained(deployment: Deployment) -> Iterator[None]:
    """A job that does not end as it should is explained."""
    try:
        yield
    except AssertionError:
        explain(deployment)
        raise


def explain(deployment: Deployment) -> None:
    """Leave the agents' logs, and in them where every task of theirs waits."""
    for process in deployment.processes.values():
        process.send_signal(signal.SIGUSR2)
    time.sleep(1)  # for the signals to be heard, before the agents are told to leave
    print(f"the agents' logs are in {deployment.folder}", file=sys.stderr)


def table(before: Figures, after: Figures, jobs: int, when: str) -> Table:
    """Both looks side by side."""
    shown, growth = Table("who", "what", when, "at the end", "may grow by", ""), growth_of(before, after, jobs)
    for where, count in after.items():
        flag = "GROWN" if where in growth else ""
        shown.add_row(*where, f"{before[where]:,}", f"{count:,}", f"{allowed(where[1], jobs):.0f}", flag)
    return shown


if __name__ == "__main__":
    main()
