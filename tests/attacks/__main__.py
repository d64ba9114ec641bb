"""`python -m tests.attacks [--only TEXT]`: what curious and lying parties recover, with each protection out and in.

It prints a table, and exits with 1 if an attack proves nothing without the protection or gets past it.
"""

import argparse
import sys
import time

from rich.console import Console
from rich.table import Table

from tercet.agents.core import logs
from tests.attacks.registry import ATTACKS, Attack

HEADINGS = ("attack", "by whom", "knows", "what is recovered", "protection", "out", "in", "guessing", "")


def judged(attack: Attack) -> tuple[list[str], bool]:
    """The last columns of an attack's row, and whether all is as it should be."""
    without, protected, guess = attack.recovered(False), attack.recovered(True), attack.guess()
    problems = (
        (without < attack.least, "PROVES NOTHING"),
        (protected > guess + attack.margin, "GETS THROUGH"),
    )
    said = ", ".join(text for holds, text in problems if holds)
    return [f"{100 * part:.1f} %" for part in (without, protected, guess)] + [said], not said


def main() -> None:
    """Read the command line, attack, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("--only", default="", help="attacks whose name has this text")
    arguments = parser.parse_args()
    logs.configure("error")
    shown = Table(*HEADINGS[:5], *(heading for heading in HEADINGS[5:]), show_lines=True)
    began, fine = time.monotonic(), True
    for attack in ATTACKS:
        if arguments.only in attack.name:
            columns, good = judged(attack)
            fine &= good
            shown.add_row(attack.name, attack.who, attack.knows, attack.recovers, attack.protection, *columns)
            print(f"{attack.name}: {attack.recovers}: {' '.join(columns)}", file=sys.stderr, flush=True)
    Console(width=None if sys.stdout.isatty() else 160).print(shown)
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
