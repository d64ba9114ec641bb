"""Notes what the other parties of a run report about themselves.

Pure: nothing here sends, waits or knows a clock. The label party's verdict counts. Without it each party decides by
itself, from the same reports in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tercet.agents.core.problems import NO_PARTIES, JobProblem
from tercet.agents.core.states import State
from tercet.agents.machine.blame import Report, blame_for_deadline, culprits
from tercet.agents.machine.outcomes import (
    Cancelled,
    DeadlineMissed,
    Done,
    FinalFailure,
    RemoteFailure,
    Restart,
    RunFailure,
    RunOutcome,
    is_refusal,
    restarted_agent,
    unknown_party,
)
from tercet.agents.machine.run_config import RunConfig
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Cancel, Failure, Message, Progress

MISSED_HEARTBEATS = 4  # after so many without a word, a party counts as silent
MOST_ATTEMPTS = 10_000  # of one run; a number beyond is no count of anything


@dataclass(slots=True)
class PeerMonitor:
    """Notes the last reports of all other parties."""

    label: str
    parties: Sequence[str]
    helpers: Sequence[str]  # of them, whom every party's policy has let in as such
    me: str
    since: float  # when the run began here
    attempt: int = 1
    last_word: RemoteFailure | Cancelled | None = None  # the label party's: its verdict, or that the run is cancelled
    last_progress: dict[str, tuple[float, Progress]] = field(default_factory=dict)  # when, and what
    overdue: dict[str, str] = field(default_factory=dict)  # each party's deadline that has passed
    complaints: dict[str, Failure] = field(default_factory=dict)  # why each party says that the attempt is off
    _progress_attempt: dict[str, int] = field(default_factory=dict)  # the attempt of what was heard last

    def start_attempt(self, attempt: int) -> None:
        """Begin another attempt, in which nobody is late yet."""
        self.attempt, self.overdue, self.complaints = attempt, {}, {}

    def note_message(
        self, address: Address, message: Message, taking_part: Sequence[str], now: float
    ) -> RunOutcome | None:
        """Note a control message; the ending that it means, or None if the attempt goes on."""
        match message:
            case Progress() | Failure() if self._names_unknown_party(message):
                return unknown_party(address.sender)
            case Progress():
                self.last_progress[address.sender] = (now, message)
                self._progress_attempt[address.sender] = address.attempt
                return self._note_progress(address, message, taking_part)
            case Failure():
                return self._note_failure(address, message)
            case Cancel():
                return self._note_cancellation(address.sender, message.by or address.sender)
        return None

    def _note_cancellation(self, sender: str, by: str) -> RunOutcome:
        if by not in self.parties:
            return unknown_party(sender)
        if sender == self.label:
            self.last_word = self.last_word or Cancelled(by)
        return Cancelled(by)

    def _names_unknown_party(self, message: Progress | Failure) -> bool:
        if isinstance(message, Failure):
            return message.culprit not in {*self.parties, *NO_PARTIES}
        # Whoever helps has the masks of all data parties.
        return not set(message.waits_for) <= set(self.parties) or message.helper not in self.helpers

    def _note_failure(self, address: Address, message: Failure) -> RunOutcome | None:
        if message.verdict and address.sender == self.label:
            self.last_word = self.last_word or RemoteFailure(message)
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
        if message.overdue is not None and theirs == self.attempt:
            return self.note_missed_deadline(sender, message.overdue)
        return Done() if message.state == State.DONE else None

    def may_be_done(self, state: State, config: RunConfig, helper: str) -> bool:
        """Tell whether others may be done: all are known to have released, this party too."""
        others = (self.last_progress.get(party) for party in config.others(helper))
        released = {State.RELEASED, State.DONE}
        return state in released and all(heard is not None and heard[1].state in released for heard in others)

    def seconds_silent(self, party: str, now: float) -> float:
        """Measure the seconds since a party was last heard of."""
        return now - (self.last_progress[party][0] if party in self.last_progress else self.since)

    def silent_parties(self, parties: Sequence[str], now: float) -> tuple[str, ...]:
        """List the parties that are not heard of."""
        reports = self.reports(now)
        return tuple(party for party in parties if party not in reports)

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

    def reports(self, now: float) -> dict[str, Report]:
        """Give the last report of each other party that is not silent."""
        return {
            party: Report(progress.stage, progress.waits_for)
            for party, (received_at, progress) in self.last_progress.items()
            if now - received_at <= MISSED_HEARTBEATS * progress.interval
        }

    def diagnose(self, outcome: RunFailure, own: Report, stage: str, now: float, stuck: JobProblem | None) -> Failure:
        """Give this party's own view of a failure; `stuck` if the broker is known to be at fault."""
        match outcome:
            case RemoteFailure() | FinalFailure():
                return outcome.failure
            case JobProblem():
                return outcome.failure(stage, verdict=False)
            case DeadlineMissed():
                return (stuck or self._blame_for_deadline(own, now)).failure(stage, verdict=False)

    def _blame_for_deadline(self, own: Report, now: float) -> JobProblem:
        # Where several complain at once and no verdict comes, all begin with the same complaint.
        reporter = next(party for party in self.parties if party in self.overdue)
        reports = self.reports(now) | {self.me: own}
        for party in culprits(reports, reporter):
            if party in reports and party != self.me and self.last_progress[party][1].lost:
                return restarted_agent(party)  # neither silent nor busy: it is back
        return blame_for_deadline(reports, reporter, self.overdue[reporter], self.parties)
