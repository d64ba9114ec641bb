"""Agrees with the other parties on why a run ends early, as a pure machine.

They agree on one failure, or that the run is cancelled.

Theory. The label party decides, so that all parties show the same end. If it is a refusal, the label party waits until
all have decided, and joins their reasons; then it tells its verdict, or that the run is cancelled. Everybody else says
what it knows and waits for the label party's word. Where none comes in time, it goes by what it knows itself: by the
same reports in the same way. A party that hears of another one's refusal first says its own, if it has one. Each wait
has an end.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Final

from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.agents.machine import actions, events
from tercet.agents.machine.modes import Table, follow
from tercet.agents.machine.outcomes import (
    Cancelled,
    DeadlineMissed,
    FinalFailure,
    RemoteFailure,
    RunFailure,
    is_refusal,
)
from tercet.agents.machine.peers import PeerMonitor
from tercet.agents.machine.run_config import RunConfig
from tercet.schemas.messages.kinds import Cancel, Failure


class AgreementStep(StrEnum):
    """Names the steps on the way to one reason."""

    BEGINNING = "beginning"
    DECIDING = "deciding"  # this party's own policy has a word too
    GATHERING = "gathering"  # the label party hears who else refuses
    SENDING = "sending"  # until the broker has the label party's word
    AGREEING = "agreeing"  # the others wait for the label party's word
    OVER = "over"


TRANSITIONS: Final[Table[AgreementStep]] = {
    AgreementStep.BEGINNING: {
        "another party refuses the job": AgreementStep.DECIDING,
        "label party: a refusal": AgreementStep.GATHERING,
        "label party: anything else": AgreementStep.SENDING,
        "reason is final": AgreementStep.OVER,
        "others: said": AgreementStep.AGREEING,
    },
    AgreementStep.DECIDING: {
        "label party: a refusal": AgreementStep.GATHERING,
        "label party: anything else": AgreementStep.SENDING,
        "others: said": AgreementStep.AGREEING,
    },
    AgreementStep.GATHERING: {"all have decided, or not in time": AgreementStep.SENDING},
    AgreementStep.SENDING: {"told": AgreementStep.OVER},
    AgreementStep.AGREEING: {"label party has spoken, or not in time": AgreementStep.OVER},
    AgreementStep.OVER: {},
}


class Agreement:
    """Ends a run with a failure, or as cancelled.

    Args:
        outcome: Why it ends, as this party has met it.
        state: Of the job at this party.
        config: This party's place in the job.
        peers: What the other parties say of themselves.
        diagnose: Gives this party's own view of a failure, at a time.
    """

    def __init__(
        self,
        outcome: RunFailure | Cancelled,
        state: State,
        config: RunConfig,
        peers: PeerMonitor,
        diagnose: Callable[[RunFailure, float], Failure],
    ) -> None:
        self._outcome, self._state, self._config, self._peers = outcome, state, config, peers
        self._diagnose = diagnose
        self.step = AgreementStep.BEGINNING
        self.wakeup: float | None = None
        self.failure: Failure | None = None  # the one that every party shows, once it is known
        self.cancelled_by = ""  # the party that every party shows, where it is known
        self.detail = outcome.detail if isinstance(outcome, JobProblem) else None  # for this party's operator
        self._refusal: JobProblem | None = None  # this party's own
        self._on_wakeup: Callable[[float], Sequence[actions.Action]] = self._speak
        self._last_state = State.FAILED
        self._beats = 0

    def begin(self, now: float) -> Sequence[actions.Action]:
        """Begin; return what to do."""
        if isinstance(self._outcome, RemoteFailure) and is_refusal(self._outcome.failure):
            self._wait(now + self._config.deadlines.verdict / 2, self._speak)
            return self._follow("another party refuses the job", actions.AskRefusal())
        return self._speak(now)

    def on(self, event: events.Event, now: float) -> Sequence[actions.Action]:
        """Take an event; return what to do. One that the step does not wait for means nothing."""
        match self.step, event:
            case AgreementStep.DECIDING, events.RefusalDecided(refusal):
                self._refusal = refusal
                self.detail = self.detail if refusal is None else refusal.detail
                return self._speak(now)
            case AgreementStep.SENDING, events.Drained():
                return self._follow("told", actions.EnterState(self._last_state), actions.End())
            case AgreementStep.AGREEING, _ if self._peers.last_word is not None:
                return self._accept(self._peers.last_word, now)
        return self._on_wakeup(now) if self.wakeup is not None and now >= self.wakeup else ()

    def _speak(self, now: float) -> Sequence[actions.Action]:
        """Say the verdict, or what this party knows."""
        if self._config.is_label_party:
            return self._decide(now)
        if isinstance(self._outcome, FinalFailure):
            self._note(self._outcome, now)
            return self._follow("reason is final", actions.EnterState(State.FAILED), actions.End())
        self._wait(now + self._config.deadlines.verdict, partial(self._accept, self._outcome))
        said = self._follow("others: said", *self._complaint(now))
        return said if self._peers.last_word is None else (*said, *self._accept(self._peers.last_word, now))

    def _complaint(self, now: float) -> Sequence[actions.Action]:
        """Say what this party knows; of each party the label party minds the first word."""
        if self._refusal is not None:
            return [actions.Send(self._refusal.failure(self._state, verdict=False), required=True)]
        match self._outcome:
            case Cancelled():
                return [cancellation(self._outcome)]
            case JobProblem():
                return [actions.Send(self._diagnose(self._outcome, now), required=True)]
            case RemoteFailure(failure):  # its sender may be one of those who cannot speak to the label party
                return [actions.Send(failure.model_copy(update={"verdict": False}))]
            case DeadlineMissed(reporter) if reporter == self._config.me:
                return [actions.SendHeartbeat()]
        return []

    def _accept(self, outcome: RunFailure | Cancelled, now: float) -> Sequence[actions.Action]:
        """End with the label party's word, or with what this party knows."""
        self._note(outcome, now)
        cause = "label party has spoken, or not in time"
        return self._follow(cause, actions.EnterState(self._last_state), actions.End())

    def _note(self, outcome: RunFailure | Cancelled, now: float) -> None:
        self.wakeup = None
        if isinstance(outcome, Cancelled):
            self.cancelled_by, self._last_state = outcome.by, State.CANCELLED
        else:
            self.failure = self._diagnose(outcome, now)

    # --- the label party's verdict

    def _decide(self, now: float) -> Sequence[actions.Action]:
        if isinstance(self._outcome, Cancelled):
            self._note(self._outcome, now)
            return self._follow("label party: anything else", cancellation(self._outcome), actions.Drain("verdict"))
        failure = self._diagnose(self._outcome, now)
        if not is_refusal(failure):
            return self._tell_verdict("label party: anything else", failure)
        self._wait(now + self._config.deadlines.heartbeat, partial(self._gather, failure))
        return self._follow("label party: a refusal")

    def _gather(self, failure: Failure, now: float) -> Sequence[actions.Action]:
        """Give the others time to refuse too, unless all have decided already."""
        deadlines, self._beats = self._config.deadlines, self._beats + 1
        others = (party for party in self._config.everybody if party != self._config.me)
        is_late = self._beats >= max(1, int(deadlines.verdict / 2 / deadlines.heartbeat))
        if is_late or all(self._peers.has_decided(party) for party in others):
            all_reasons = self._peers.with_all_refusals(failure, self._refusal)
            return self._tell_verdict("all have decided, or not in time", all_reasons)
        self._wait(now + deadlines.heartbeat, partial(self._gather, failure))
        return ()

    def _tell_verdict(self, cause: str, failure: Failure) -> Sequence[actions.Action]:
        self.failure, self.wakeup = failure.model_copy(update={"verdict": True}), None
        return self._follow(cause, actions.Send(self.failure, required=True), actions.Drain("verdict"))

    def _wait(self, until: float, call: Callable[[float], Sequence[actions.Action]]) -> None:
        self.wakeup, self._on_wakeup = until, call

    def _follow(self, cause: str, *todo: actions.Action) -> Sequence[actions.Action]:
        self.step = follow(TRANSITIONS, self.step, cause)
        return todo


def cancellation(outcome: Cancelled) -> actions.Send:
    """Tell everybody of a cancellation; the party where it happened makes sure of it."""
    return actions.Send(Cancel(by=outcome.by or None), required=outcome.here)
