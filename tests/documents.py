"""Makes the parts of documents that come from the code: `make documents` writes them between their markers.

A part begins with `<!-- NAME: make documents -->` and ends with `<!-- end of NAME -->`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tercet.agents.machine import agreement, conclusion
from tercet.agents.machine import modes as machine
from tercet.agents.policy.disclosure_table import DISCLOSURES, TRAINING, Disclosure
from tercet.agents.policy.disclosures import disclosures
from tercet.agents.policy.known_job import ANY_JOB, Case
from tercet.schemas.files.job import read_job

ROOT = Path(__file__).parents[1]
HEAD = ("| who | when | learns | protection |", "|---|---|---|---|")


def row(one: Disclosure, words: Mapping[str, str]) -> str:
    """Write a line of a table."""
    return f"| {one.who} | {one.when} | {one.what.format_map(words)} | {one.protection.format_map(words) or 'none'} |"


def all_disclosures() -> Iterator[str]:
    """Write the whole table, by the jobs that each row belongs to."""
    yield from HEAD
    for group in DISCLOSURES:
        yield f"| **{group.jobs}** | | | |"
        yield from (row(one, ANY_JOB) for one in group.rows)


def views_of_the_helper() -> Iterator[str]:
    """Write what the helper sees while a job trains."""
    yield from ("| the helper sees | protection |", "|---|---|")
    for group in DISCLOSURES:
        if rows := [one for one in group.rows if (one.who, one.when) == ("helper", TRAINING)]:
            yield f"| **{group.jobs}** | |"
            yield from (f"| {one.what.format_map(ANY_JOB)} | {one.protection or 'none'} |" for one in rows)


def disclosures_of_the_demo() -> Iterator[str]:
    """Write the rows that hold for the job of the example."""
    case = Case(read_job(ROOT / "examples/credit/job.toml"))
    yield from HEAD
    yield from (row(one, case.words() | {"label": ANY_JOB["label"]}) for one in disclosures(case))


def modes() -> Iterator[str]:
    """Draw the machine of a run, and the two ways in which it ends."""
    for title, table in (
        ("A run", machine.TRANSITIONS),
        ("The end of a run that has not failed", conclusion.TRANSITIONS),
        ("The end of one that has", agreement.TRANSITIONS),
    ):
        yield from (f"**{title}:**", "", "```mermaid", "stateDiagram-v2", f"    [*] --> {next(iter(table))}")
        for mode, ways in table.items():
            yield from (f"    {mode} --> {after}: {cause.replace(':', ',')}" for cause, after in ways.items())
        yield from ("```", "")


MADE: Mapping[tuple[str, str], Callable[[], Iterable[str]]] = {  # by the document and the part's name
    ("README.md", "what the demo tells"): disclosures_of_the_demo,
    ("SECURITY.md", "who learns what"): all_disclosures,
    ("docs/protocol.md", "what the helper sees"): views_of_the_helper,
    ("docs/architecture.md", "modes of a run"): modes,
}


def with_part(text: str, name: str, lines: Iterable[str]) -> str:
    """Replace one part of a document's text.

    Raises:
        ValueError: the document does not have the part exactly once.
    """
    begin, end = f"<!-- {name}: make documents -->", f"<!-- end of {name} -->"
    pattern = re.escape(begin) + r".*?" + re.escape(end)
    made = "\n".join((begin, "", *lines, "", end))
    text, count = re.subn(pattern, lambda _: made, text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{count} parts are called {name}")
    return text


def main() -> None:
    """Write every part anew."""
    for (document, name), lines in MADE.items():
        path = ROOT / document
        path.write_text(with_part(path.read_text(encoding="utf-8"), name, lines()), encoding="utf-8")


if __name__ == "__main__":
    main()
