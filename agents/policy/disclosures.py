"""Derives who learns what by one job, for the person who approves it and for the audit log.

It fills in the rows of `disclosure_table` that hold for the job. It sees no data.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tercet.agents.policy.disclosure_table import DISCLOSURES, SCORING, SERVED, STAGES, TRAINING, WHO, Disclosure
from tercet.agents.policy.known_job import NOTHING, Case, JobFacts
from tercet.schemas.files.job import AnyJob


class Revelation(NamedTuple):
    """Says what one party, or several parties, learn at one stage."""

    stage: str
    party: str
    what: str

    def __str__(self) -> str:
        verb = "learn" if " and " in self.party else "learns"  # party names have no blanks
        return f"{self.party} {verb} {self.what}"


def disclosures(case: Case, stage: str | None = None) -> Iterator[Disclosure]:
    """Choose the rows that hold for a job, of one stage or of all, in the table's order."""
    for group in DISCLOSURES:
        if group.where(case):
            yield from (row for row in group.rows if stage in {None, _stage(case, row)} and row.where(case))


def revelations(job: AnyJob, known: JobFacts = NOTHING, stage: str | None = None) -> tuple[Revelation, ...]:
    """List everything that the job tells anybody, at one stage or in the order of all."""
    case = Case(job, known)
    words = case.words()
    found = [one for row in disclosures(case, stage) for one in _revelations(case, row, words)]
    return tuple(sorted(found, key=lambda one: STAGES.index(one.stage)))


def serving_revelations(label: str, me: str) -> tuple[Revelation, ...]:
    """List what single rows tell whom, when the label party asks this party for them."""
    who = {"label party": label, "partners": me, "broker": "the broker's operator"}
    return tuple(Revelation(row.when, who[row.who], _protected(row)) for row in SERVED.rows)


def _revelations(case: Case, row: Disclosure, words: Mapping[str, str]) -> Iterator[Revelation]:
    what = _protected(row).format_map(words)
    for party in WHO[row.who](case):
        yield Revelation(_stage(case, row), party, what)


def _stage(case: Case, row: Disclosure) -> str:
    """Name the stage of a row: a prediction scores rows as a training scores a batch."""
    return SCORING if row.when == TRAINING and case.predicts else row.when


def _protected(row: Disclosure) -> str:
    return row.what + (f" (protection: {row.protection})" if row.protection else "")
