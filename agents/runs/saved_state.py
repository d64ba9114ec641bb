"""Holds the known facts of a run when it begins; a new run has none.

It is read once; the run itself writes the record.
"""

from dataclasses import dataclass

from tercet.agents.core.states import State
from tercet.agents.runs.recovery import Attempts
from tercet.schemas.messages.kinds import JobStatus


@dataclass(frozen=True, slots=True)
class SavedRun:
    """Holds the facts that an agent's earlier life, or its operator, knows.

    Attributes:
        state: where it was.
        attempts: that there have been.
        released: whether this party has what the job gives it, in the hidden folder.
        approved: who has approved the run.
        life: of the agent with this run, so that words of an earlier one are not taken for new; it only grows.
        status: as it was.
    """

    state: State = State.RECEIVED
    attempts: Attempts | None = None
    released: bool = False
    approved: str = ""
    life: int = 0
    status: JobStatus | None = None
