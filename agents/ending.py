"""How a job ends before its time, and what the parties have said of it: who complains, who was heard, who is to blame.

Nothing here speaks or waits; `run` does both. The label party's verdict counts; where it does not come, each party
judges by itself, from the same reports in the same way.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from agents.problems import BROKER, JobProblem
from agents.verdict import Report, late
from broker.base import BrokerError, Disconnected, Unroutable
from broker.outbox import Undeliverable
from schemas.address import parse_address
from schemas.messages import Cancel, Failure, Message, Progress

MISSED_HEARTBEATS = 4  # after so many without a word, a party counts as silent

E_ = TypeVar("E_", bound=BaseException)


@dataclass(frozen=True, slots=True)
class Late:
    """A wait has outlived its deadline: here, or at the party that reported it."""

    reporter: str
    deadline: str


@dataclass(frozen=True, slots=True)
class Told:
    """Another party says that the job is off."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another run of the same job has precedence, and everybody knows by the same rule."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A person wants the job off: at this party, or at another that says so."""

    here: bool


Failing = JobProblem | Late | Told
Ending = Path | None | Failing | Cancelled | Superseded
"""A path or None is the good end: where this party's model part is, if it has one."""


@dataclass(slots=True)
class Hearing:
    """What one party has heard from the others about themselves and about the end."""

    label: str
    parties: Sequence[str]
    on_verdict: Callable[[Failure], None]
    heard: dict[str, tuple[float, Progress]] = field(default_factory=dict)  # when, and what
    overdue: dict[str, str] = field(default_factory=dict)  # each party's deadline that has passed

    def take(self, sender: str, message: Message) -> Ending:
        """Note a control message; the ending that it means, or None if the job goes on."""
        match message:
            case Progress() if not set(message.waits_for) <= set(self.parties):
                return stranger(sender)
            case Failure() if message.culprit not in (*self.parties, BROKER):
                return stranger(sender)
            case Progress():
                self.heard[sender] = (time.monotonic(), message)
                return None if message.overdue is None else self.complain(sender, message.overdue)
            case Failure():
                if message.verdict and sender == self.label:
                    self.on_verdict(message)
                return Told(message)
            case Cancel():
                return Cancelled(here=False)
        return None

    def complain(self, party: str, deadline: str) -> Late:
        """Note that a party's deadline has passed."""
        self.overdue.setdefault(party, deadline)
        return Late(party, deadline)

    def reports(self) -> dict[str, Report]:
        """What each other party that is not silent said last."""
        now = time.monotonic()
        return {
            party: Report(progress.stage, progress.waits_for)
            for party, (heard, progress) in self.heard.items()
            if now - heard <= MISSED_HEARTBEATS * progress.interval
        }

    def judgement(self, ending: Failing, me: str, own: Report, stage: str, *, cut_off: bool) -> Failure:
        """What this party would say of the end, if nobody else did; `cut_off` if the broker does not answer it."""
        match ending:
            case Told():
                return ending.failure
            case JobProblem():
                return ending.failure(stage, verdict=False)
            case Late():
                if cut_off:
                    reason = f"{me}'s connection to the broker is lost or stalled, so that it hears from nobody"
                    return JobProblem("party.cut-off", me, reason).failure(stage, verdict=False)
                return self._late(me, own).failure(stage, verdict=False)

    def _late(self, me: str, own: Report) -> JobProblem:
        # Where several complain at once and no verdict comes, all begin with the same complaint.
        reporter = next(party for party in self.parties if party in self.overdue)
        return late(self.reports() | {me: own}, reporter, self.overdue[reporter], self.parties)


def stranger(sender: str) -> JobProblem:
    """A control message speaks of somebody who has no part in the job."""
    return JobProblem(
        "message.malformed", sender, f"{sender} speaks of a party that the job does not have; update its agent"
    )


def own_error(me: str) -> JobProblem:
    """A bug of ours; the log has the traceback."""
    return JobProblem("agent.error", me, f"{me}'s agent met an error of its own")


def broker_problem(error: BrokerError, me: str) -> JobProblem:
    """The broker, or whoever should have a queue there, fails this party."""
    cause = error.reason if isinstance(error, Undeliverable) else error
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


def first_error(group: BaseExceptionGroup[E_]) -> E_:
    """The first error of a group, however deep."""
    inner = group.exceptions[0]
    return first_error(inner) if isinstance(inner, BaseExceptionGroup) else inner
