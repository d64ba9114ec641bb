"""Decides whether a job goes on after a fault, as which attempt, and with which helper.

Pure: nothing here waits or sends.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tercet.agents.core.states import State
from tercet.agents.machine.outcomes import DeadlineMissed, FinalFailure, RemoteFailure, RunFailure
from tercet.agents.machine.run_config import RunConfig
from tercet.schemas.messages.kinds import JobStatus

PAUSES = (0.0, 0.1, 0.5, 2.0, 5.0, 10.0)  # seconds before an attempt, by the number of fruitless attempts before it

RECOVERABLE = frozenset(
    {
        "agent.restarted",
        "agent.stopped",
        "party.cut-off",
        "party.silent",
        "party.unreachable",
        "transport.broker",
        "transport.lost",
    }
)
"""Codes of faults after which another attempt may succeed, although nobody has changed anything."""
BUSY = "party.busy"
BUSY_ATTEMPTS = 3  # a party that is alive and does not answer may be back from a halt, or have hung for good


@dataclass(slots=True)
class Attempts:
    """Counts the attempts of one run so far, as its record keeps them.

    Attributes:
        number: of the one that counts, from 1.
        helper: who helps in it.
        gained: the number of the last one that began further on than all before it, or of the first.
        furthest: the step that it began with.
    """

    number: int
    helper: str
    gained: int = 1
    furthest: int = 0

    def note_progress(self, first_step: int) -> None:
        """Note the step from which this attempt goes on."""
        if first_step > self.furthest:
            self.gained, self.furthest = self.number, first_step

    def reset_count(self) -> None:
        """Discount all attempts until now, when a person resumes the job."""
        self.gained = self.number + 1

    @property
    def fruitless(self) -> int:
        """Number of attempts in a row, this one included, that have not got further."""
        return self.number - self.gained + 1

    def may_follow(self, code: str, most: int) -> bool:
        """Tell whether another attempt may follow a fault of this code."""
        if code == BUSY:
            return self.fruitless < min(most, BUSY_ATTEMPTS)
        return code in RECOVERABLE and self.fruitless < most

    @property
    def pause(self) -> float:
        """Seconds to wait before the next one."""
        return PAUSES[max(0, min(self.fruitless, len(PAUSES)) - 1)]


@dataclass(frozen=True, slots=True)
class SavedRun:
    """Holds the facts that an agent's earlier life, or its operator, knows.

    Attributes:
        state: where it was.
        attempts: that there have been.
        released: whether this party has what the job gives it, in the hidden folder.
        approved: who has approved the run.
        page_approvers: who has approved it on the page, while it waits for more persons.
        life: of the agent with this run, so that words of an earlier one are not taken for new; it only grows.
        status: as it was.
    """

    state: State = State.RECEIVED
    attempts: Attempts | None = None
    released: bool = False
    approved: str = ""
    life: int = 0
    status: JobStatus | None = None
    page_approvers: tuple[str, ...] = ()


def choose_helper(helpers: Sequence[str], present: Mapping[str, object], current: str) -> str:
    """Keep the current helper, unless it is silent and another one is not."""
    if current in present:
        return current
    return next((helper for helper in helpers if helper in present), current)


def may_pass(outcome: RunFailure, config: RunConfig, attempts: Attempts, find_code: Callable[[], str]) -> bool:
    """Tell whether another attempt may follow an outcome; the label party decides.

    Args:
        outcome: The outcome.
        config: This party's place in the job.
        attempts: The attempts so far.
        find_code: Gives its code, as this party sees it.
    """
    if not config.recovers or isinstance(outcome, FinalFailure):
        return False
    if isinstance(outcome, RemoteFailure) and outcome.failure.verdict:
        return False
    if not config.is_label_party:
        return isinstance(outcome, DeadlineMissed) or find_code() in RECOVERABLE | {BUSY}
    is_last = isinstance(outcome, DeadlineMissed) and outcome.deadline in {"recover", "approve"}
    return not is_last and attempts.may_follow(find_code(), config.attempts)
