"""Defines the outcomes of a run, and makes the problems that end it."""

from dataclasses import dataclass

from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.schemas.messages.kinds import Failure

REFUSALS = (
    "policy.",
    "table.",
    "job.plan",
    "alignment.few",
    "model.missing",
    "model.parties",
    "model.start",
)  # codes, of what `deciding` finds


@dataclass(frozen=True, slots=True)
class DeadlineMissed:
    """Says that a wait has outlived its deadline, here or at the party that reported it."""

    reporter: str
    deadline: str


@dataclass(frozen=True, slots=True)
class RemoteFailure:
    """Says that another party has reported a failure."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Done:
    """Says that the run ended well at every party."""


@dataclass(frozen=True, slots=True)
class FinalFailure:
    """Says that the run has failed at a party that cannot go on with it."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Restart:
    """Says that the attempt is over, and another one begins."""

    attempt: int
    helper: str


@dataclass(frozen=True, slots=True)
class Suspended:
    """Says that this party's agent leaves for a while."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """Says that another run of the job has precedence, which everybody knows by one rule."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Says that a person has cancelled the job, here or at another party."""

    by: str  # the party; empty where whoever tells it does not know
    here: bool = False


RunFailure = JobProblem | DeadlineMissed | RemoteFailure | FinalFailure
RunOutcome = Done | RunFailure | Restart | Suspended | Cancelled | Superseded


def is_refusal(failure: Failure) -> bool:
    """Tell whether a failure is a refusal by settings, table or planner, and no fault."""
    return failure.stage == State.RECEIVED and failure.code.startswith(REFUSALS)


def unknown_party(sender: str) -> JobProblem:
    """Make the problem of a control message about a party that the job does not have."""
    return JobProblem(
        "message.malformed", sender, f"{sender} speaks of a party that the job does not have; update its agent"
    )


def restarted_agent(party: str) -> JobProblem:
    """Make the problem of a party that has lost the attempt, mostly by a restart."""
    return JobProblem("agent.restarted", party, f"{party}'s agent has lost the attempt, and is back")


def restarted_here(me: str) -> JobProblem:
    """Make the problem of a run that this party's agent finds after its own restart."""
    return JobProblem("agent.restarted", me, f"{me}'s agent was restarted while the job ran")


def silent_label_party(label: str) -> JobProblem:
    """Make the problem of a label party that does not come back."""
    return JobProblem(
        "party.silent",
        label,
        f"{label} has not been heard of within the deadline 'recover': is its agent running and connected to the "
        f"broker? When it is, `tercet job resume` goes on from the last checkpoint",
    )


def own_error(me: str) -> JobProblem:
    """Make the problem of a bug of ours; the log has the traceback."""
    return JobProblem("agent.error", me, f"{me}'s agent met an error of its own")
