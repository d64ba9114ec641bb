"""Holds what a party's operator may see of a run so far; roles add to it as they learn more."""

from dataclasses import dataclass, field
from typing import Final

from tercet.agents.policy.known_job import NOTHING, JobFacts
from tercet.schemas.files.job import Training


@dataclass(slots=True)
class Findings:
    """Holds one attempt's findings.

    Attributes:
        notes: warnings about this party's own table.
        own_columns: of the table, once it was looked at.
        facts: about the job, once there are terms.
        training: of the job, with numbers in the place of "auto", once there is a plan.
        warnings: of the plan.
    """

    notes: list[str] = field(default_factory=list)
    own_columns: tuple[str, ...] | None = None
    facts: JobFacts = NOTHING
    training: Training | None = None
    warnings: tuple[str, ...] = ()


NO_FINDINGS: Final = Findings()
