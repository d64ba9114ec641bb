"""`python -m tests.soak`: does anything grow while the same three agents run hundreds of jobs?

It starts a private RabbitMQ and three agents, looks at what they hold after a first part of the jobs and at the end,
prints both, and exits with 1 if something has grown by more than it may.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.rabbitmq_node import private_node
from tests.soak.figures import Figures, allowed, grown, look
from tests.soak.run import agents, complaints, soak, train_first


def main() -> None:
    """Read the command line, run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="many jobs through the same agents")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--first", type=int, default=40, help="compare with what is held after so many")
    arguments = parser.parse_args()
    first = min(arguments.first, arguments.jobs // 2)
    with tempfile.TemporaryDirectory(prefix="tercet-soak-") as folder, private_node() as node:
        with agents(Path(folder), node.url) as three:
            since = time.monotonic()
            of = train_first(three)
            soak(three, range(first), of, arguments.parallel)
            before = look(three, node)
            soak(three, range(first, arguments.jobs), of, arguments.parallel)
            after = look(three, node)
            wrong = complaints(three)
        print(f"{arguments.jobs} jobs, {arguments.parallel} at a time, in {time.monotonic() - since:.0f} s")
    jobs = arguments.jobs - first
    Console().print(table(before, after, jobs, f"after {first}"))
    print("\n".join(wrong))
    sys.exit(1 if grown(before, after, jobs) or wrong else 0)


def table(before: Figures, after: Figures, jobs: int, when: str) -> Table:
    """Both looks side by side."""
    shown = Table("who", "what", when, "at the end", "may grow by", "")
    for where, count in after.items():
        most = f"{allowed(where[1], jobs):.0f}"
        mark = "GROWN" if where in grown(before, after, jobs) else ""
        shown.add_row(*where, f"{before[where]:,}", f"{count:,}", most, mark)
    return shown


if __name__ == "__main__":
    main()
