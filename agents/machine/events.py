"""Defines the events of a run: all that its machine hears of.

The shell makes them of what happens.
"""

from dataclasses import dataclass

from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.agents.machine.blame import Report
from tercet.agents.machine.outcomes import Cancelled, Done, Restart, Superseded, Suspended
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Message


@dataclass(frozen=True, slots=True)
class Started:
    """The run begins here; with a problem, only to tell the others of it."""

    problem: JobProblem | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """This party waits for others, and the broker may be the reason; comes before other events."""

    wait: Report
    stuck: JobProblem | None = None


@dataclass(frozen=True, slots=True)
class QueuesOpened:
    """All of the job's queues are consumed."""


@dataclass(frozen=True, slots=True)
class QueuesRefused:
    """None of them is."""

    problem: JobProblem


@dataclass(frozen=True, slots=True)
class ControlArrived:
    """Another party has sent a control message."""

    address: Address
    message: Message


@dataclass(frozen=True, slots=True)
class PhaseEntered:
    """The attempt has come to a state; training goes on from `first_step`."""

    state: State
    first_step: int = 0


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The attempt has ended: well, at every party, or by a problem here."""

    outcome: Done | JobProblem


@dataclass(frozen=True, slots=True)
class AttemptOverdue:
    """A wait of the attempt has outlived its deadline here."""

    deadline: str


@dataclass(frozen=True, slots=True)
class AttemptReplaced:
    """The old attempt has let go of everything, and the next one can begin."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """A person or the agent has an outcome for the run."""

    outcome: JobProblem | Cancelled | Restart | Suspended | Superseded


@dataclass(frozen=True, slots=True)
class RefusalDecided:
    """This party's own reason against the job is known, if it has one."""

    refusal: JobProblem | None


@dataclass(frozen=True, slots=True)
class ResultStored:
    """The job's result for this party is in its place."""


@dataclass(frozen=True, slots=True)
class ResultLost:
    """The disk does not take it."""

    problem: JobProblem


@dataclass(frozen=True, slots=True)
class Drained:
    """All that was said is with the broker, or its deadline has passed."""


@dataclass(frozen=True, slots=True)
class ReportWritten:
    """The page about the job is written, or cannot be."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that the machine wanted to be woken at has come."""


Event = (
    Started
    | Observed
    | QueuesOpened
    | QueuesRefused
    | ControlArrived
    | PhaseEntered
    | AttemptEnded
    | AttemptOverdue
    | AttemptReplaced
    | Ordered
    | RefusalDecided
    | ResultStored
    | ResultLost
    | Drained
    | ReportWritten
    | Tick
)
