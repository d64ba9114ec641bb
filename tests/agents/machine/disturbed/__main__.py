"""Runs many disturbed jobs: `python -m tests.agents.machine.disturbed --runs 100000 --processes 2`."""

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.agents.machine.disturbed.world import Broken, World

CHUNK = 500


def run_seed(seed: int) -> tuple[str, str]:
    """Run one job; its end, and what is wrong with it, if anything is."""
    world = World(seed)
    try:
        world.run()
        world.verify()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told with its seed
        kind = "" if isinstance(error, Broken) else f"{type(error).__name__}: "
        return "broken", f"{world.describe()}\n    {kind}{error}"
    return str(world.label.state), ""


def run_chunk(first: int, last: int) -> tuple[Counter[str], list[str]]:
    """Run the jobs of some seeds."""
    states, wrong = Counter[str](), []
    for seed in range(first, last):
        state, what = run_seed(seed)
        states[state] += 1
        if what:
            wrong.append(what)
    return states, wrong


def main() -> int:
    """Run them all, and tell how they ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.agents.machine.disturbed")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    since, states, wrong = time.monotonic(), Counter[str](), list[str]()
    last = chosen.first + chosen.runs
    with ProcessPoolExecutor(chosen.processes) as pool:
        firsts = range(chosen.first, last, CHUNK)
        for some, what in pool.map(run_chunk, firsts, [min(first + CHUNK, last) for first in firsts]):
            states.update(some)
            wrong.extend(what)
    print("\n".join(wrong[:20]))
    print(f"{chosen.runs} runs in {time.monotonic() - since:.0f} s: {dict(states)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
