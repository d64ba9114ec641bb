"""Defines the actions of a run: all that its machine wants done.

The shell carries them out, in their order. An action that takes a while is answered by the event that its docstring
names.
"""

from dataclasses import dataclass

from tercet.agents.core.states import State
from tercet.schemas.messages.kinds import Failure, Message


@dataclass(frozen=True, slots=True)
class OpenQueues:
    """Consume all of the job's queues, within a deadline: QueuesOpened, or QueuesRefused."""

    deadline: str


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Run the attempt: PhaseEntered, and AttemptDone, AttemptFailed or AttemptOverdue."""


@dataclass(frozen=True, slots=True)
class StopWork:
    """Cancel what is under way for the attempt, or to open queues."""


@dataclass(frozen=True, slots=True)
class AbandonAttempt:
    """Take in nothing more of the attempt but control messages."""

    fault: Failure | None = None


@dataclass(frozen=True, slots=True)
class ReplaceAttempt:
    """Let the old attempt go, and make this one: AttemptReplaced."""

    number: int
    helper: str


@dataclass(frozen=True, slots=True)
class SendHeartbeat:
    """Send this party's progress to everybody."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to everybody; a required one must find its receivers' queues."""

    message: Message
    required: bool = False


@dataclass(frozen=True, slots=True)
class Drain:
    """Wait until the broker has all that was said, within a deadline: Drained.

    Where receivers may have left, what no queue takes is given up.
    """

    deadline: str
    may_have_left: bool = False


@dataclass(frozen=True, slots=True)
class Inquire:
    """Ask these parties' agents how the run has ended, if it has."""

    parties: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """Announce the job again to a party that does not know it."""

    party: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Tell a party that was away that a person has resumed the run."""

    party: str


@dataclass(frozen=True, slots=True)
class EnterState:
    """Write down that the job is in another state here."""

    state: State


@dataclass(frozen=True, slots=True)
class RecordAttempt:
    """Write down that another attempt begins."""


@dataclass(frozen=True, slots=True)
class AskRefusal:
    """Find out whether this party refuses the job by itself: RefusalDecided."""


@dataclass(frozen=True, slots=True)
class KeepResult:
    """Move what the job gives this party into its place: ResultStored, or ResultLost."""


@dataclass(frozen=True, slots=True)
class WriteReport:
    """Write the page about the job: ReportWritten."""


@dataclass(frozen=True, slots=True)
class TellOperator:
    """Tell this party's own operator something that the others need not read."""

    detail: str


@dataclass(frozen=True, slots=True)
class End:
    """Give everything back: the run is over, or waits for the agent's next life."""


Action = (
    OpenQueues
    | StartAttempt
    | StopWork
    | AbandonAttempt
    | ReplaceAttempt
    | SendHeartbeat
    | Send
    | Drain
    | Inquire
    | Announce
    | Resume
    | EnterState
    | RecordAttempt
    | AskRefusal
    | KeepResult
    | WriteReport
    | TellOperator
    | End
)
