"""Defines the outcomes of a run, and notes what the parties report about them.

Nothing here sends or waits; `run` does both. The label party's verdict counts. Without it each party decides by itself,
from the same reports in the same way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tercet.agents.core.problems import BROKER, NO_PARTIES, JobProblem
from tercet.agents.core.states import State
from tercet.agents.runs.blame import Report, blame_for_deadline, culprits
from tercet.broker.interface.base import Blocked, BrokerError, Disconnected, Unroutable
from tercet.broker.interface.clock import loop_time
from tercet.broker.interface.outbox import Undeliverable
from tercet.schemas.messages.address import Address, parse_address
from tercet.schemas.messages.kinds import Cancel, Failure, Message, Progress

MISSED_HEARTBEATS = 4  # after so many without a word, a party counts as silent
REFUSALS = (
    "policy.",
    "table.",
    "job.plan",
    "alignment.few",
    "model.missing",
    "model.parties",
)  # codes, of what `deciding` finds
MOST_ATTEMPTS = 10_000  # of one run; a number beyond is no count of anything

E_ = TypeVar("E_", bound=BaseException)


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
    """Says that the run ended well, with the folder of this party's result, if any."""

    folder: Path | None


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


@dataclass(slots=True)
class PeerMonitor:
    """Notes the last reports of all other parties."""

    label: str
    parties: Sequence[str]
    helpers: Sequence[str]  # of them, whom every party's policy has let in as such
    me: str
    on_verdict: Callable[[Failure], None]
    attempt: int = 1
    last_progress: dict[str, tuple[float, Progress]] = field(default_factory=dict)  # when, and what
    overdue: dict[str, str] = field(default_factory=dict)  # each party's deadline that has passed
    complaints: dict[str, Failure] = field(default_factory=dict)  # why each party says that the attempt is off
    since: float = field(default_factory=loop_time)
    _progress_attempt: dict[str, int] = field(default_factory=dict)  # the attempt of what was heard last

    def start_attempt(self, attempt: int) -> None:
        """Begin another attempt, in which nobody is late yet."""
        self.attempt, self.overdue, self.complaints = attempt, {}, {}

    def note_message(self, address: Address, message: Message, taking_part: Sequence[str]) -> RunOutcome | None:
        """Note a control message; the ending that it means, or None if the attempt goes on."""
        match message:
            case Progress() | Failure() if self._names_unknown_party(message):
                return unknown_party(address.sender)
            case Progress():
                self.last_progress[address.sender] = (loop_time(), message)
                self._progress_attempt[address.sender] = address.attempt
                return self._note_progress(address, message, taking_part)
            case Failure():
                return self._note_failure(address, message)
            case Cancel():
                return self._note_cancellation(address.sender, message.by or address.sender)
        return None

    def _note_cancellation(self, sender: str, by: str) -> RunOutcome:
        return Cancelled(by) if by in self.parties else unknown_party(sender)

    def _names_unknown_party(self, message: Progress | Failure) -> bool:
        if isinstance(message, Failure):
            return message.culprit not in {*self.parties, *NO_PARTIES}
        # Whoever helps has the masks of all data parties.
        return not set(message.waits_for) <= set(self.parties) or message.helper not in self.helpers

    def _note_failure(self, address: Address, message: Failure) -> RunOutcome | None:
        if message.verdict and address.sender == self.label:
            self.on_verdict(message)
            return RemoteFailure(message)
        if address.attempt != self.attempt:
            return None
        complaint = message.model_copy(update={"verdict": False})
        self.complaints.setdefault(address.sender, complaint)
        return RemoteFailure(complaint)

    def has_decided(self, party: str) -> bool:
        """Tell whether a party has refused the job, or waits for others' answers."""
        progress = self.last_progress.get(party)
        return party in self.complaints or (progress is not None and bool(progress[1].waits_for))

    def with_all_refusals(self, failure: Failure, own: JobProblem | None) -> Failure:
        """Add to the first reason of all what this party and others refuse the job for."""
        reasons = [failure.reason, *([] if own is None else [own.reason])]
        reasons += [complaint.reason for complaint in self.complaints.values() if is_refusal(complaint)]
        return failure.model_copy(update={"reason": "; also: ".join(dict.fromkeys(reasons))[:2000]})

    def _note_progress(self, address: Address, message: Progress, taking_part: Sequence[str]) -> RunOutcome | None:
        sender, theirs, helper = address.sender, address.attempt, message.helper
        if self.me == self.label:
            if self.attempt < theirs < MOST_ATTEMPTS:  # this party has lost count, and starts a later one
                return Restart(theirs + 1, helper)
            if theirs == self.attempt and message.lost and sender in taking_part:
                return RemoteFailure(restarted_agent(sender).failure(message.state, verdict=False))
        elif sender == self.label and self.attempt < theirs < MOST_ATTEMPTS:
            return Restart(theirs, helper)
        if message.overdue is None or theirs != self.attempt:
            return None
        return self.note_missed_deadline(sender, message.overdue)

    def seconds_silent(self, party: str) -> float:
        """Measure the seconds since a party was last heard of."""
        return loop_time() - self.last_progress[party][0] if party in self.last_progress else loop_time() - self.since

    def silent_parties(self, parties: Sequence[str]) -> list[str]:
        """List the parties that are not heard of."""
        reports = self.reports()
        return [party for party in parties if party not in reports]

    def checkpoint_steps(self, parties: Sequence[str]) -> list[int]:
        """List each party's steps at its last checkpoint in this attempt; -1 if unknown."""
        return [
            self.last_progress[p][1].checkpoint if self._progress_attempt.get(p) == self.attempt else -1
            for p in parties
        ]

    def note_missed_deadline(self, party: str, deadline: str) -> DeadlineMissed:
        """Note that a party's deadline has passed."""
        self.overdue.setdefault(party, deadline)
        return DeadlineMissed(party, deadline)

    def reports(self) -> dict[str, Report]:
        """Give the last report of each other party that is not silent."""
        now = loop_time()
        return {
            party: Report(progress.stage, progress.waits_for)
            for party, (received_at, progress) in self.last_progress.items()
            if now - received_at <= MISSED_HEARTBEATS * progress.interval
        }

    def diagnose(self, outcome: RunFailure, me: str, own: Report, stage: str, *, stuck: JobProblem | None) -> Failure:
        """Give this party's own view of a failure; `stuck` if the broker is known to be at fault."""
        match outcome:
            case RemoteFailure() | FinalFailure():
                return outcome.failure
            case JobProblem():
                return outcome.failure(stage, verdict=False)
            case DeadlineMissed():
                return (stuck or self._blame_for_deadline(me, own)).failure(stage, verdict=False)

    def _blame_for_deadline(self, me: str, own: Report) -> JobProblem:
        # Where several complain at once and no verdict comes, all begin with the same complaint.
        reporter = next(party for party in self.parties if party in self.overdue)
        reports = self.reports() | {me: own}
        for party in culprits(reports, reporter):
            if (
                party in reports and party != me and self.last_progress[party][1].lost
            ):  # neither silent nor busy: it is back
                return restarted_agent(party)
        return blame_for_deadline(reports, reporter, self.overdue[reporter], self.parties)


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


def broker_problem(error: BrokerError, me: str) -> JobProblem:
    """Make the problem of a broker error, or of a party without a queue."""
    cause = error.reason if isinstance(error, Undeliverable) else error
    if isinstance(cause, Blocked):
        return broker_blocked(cause)
    if isinstance(cause, Disconnected):
        reason = f"{me} has lost its connection to the broker, and could not send in time; see {me}'s log"
        return JobProblem("party.cut-off", me, reason, str(error))
    if not (isinstance(error, Undeliverable) and isinstance(cause, Unroutable)):
        reason = f"the broker does not serve {me}, or not in time; see {me}'s log"
        return JobProblem("transport.broker", BROKER, reason, str(error))
    receiver = parse_address(error.address).receiver
    return JobProblem(
        "party.unreachable",
        receiver,
        f"{receiver} takes no messages of this job (deadline {error.deadline_name!r} at {me}): its agent is not "
        f"running, does not know {me}, or has left the job",
        str(error),
    )


def broker_blocked(alarm: Blocked) -> JobProblem:
    """Make the problem of a broker alarm, which stops all messages."""
    return JobProblem("transport.broker", BROKER, str(alarm))


def connection_lost(me: str) -> JobProblem:
    """Make the problem of a broker that does not answer this party."""
    reason = f"{me}'s connection to the broker is lost or stalled, so that it hears from nobody"
    return JobProblem("party.cut-off", me, reason)


def first_error(group: BaseExceptionGroup[E_]) -> E_:
    """Find the first error of a group, however deep."""
    inner = group.exceptions[0]
    return first_error(inner) if isinstance(inner, BaseExceptionGroup) else inner
