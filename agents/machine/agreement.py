"""Agrees with the other parties on the reason of a failure, as a pure machine.

Theory. The label party names the reason, so that all parties show the same one. If it is a refusal, the label party
waits until all have decided, and joins their reasons; then it tells its verdict. Everybody else says what it knows and
waits for the verdict. Where none comes in time, it names a reason by itself, from the same reports in the same way. A
party that hears of another one's refusal first says its own, if it has one. Each wait has an end.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.agents.machine import actions, events
from tercet.agents.machine.modes import Table, follow
from tercet.agents.machine.outcomes import DeadlineMissed, FinalFailure, RemoteFailure, RunFailure, is_refusal
from tercet.agents.machine.peers import PeerMonitor
from tercet.agents.machine.run_config import RunConfig
from tercet.schemas.messages.kinds import Failure


class Step(StrEnum):
    """Names the steps on the way to one reason."""

    BEGINNING = "beginning"
    DECIDING = "deciding"  # this party's own policy has a word too
    GATHERING = "gathering"  # the label party hears who else refuses
    SENDING = "sending"  # until the broker has the verdict
    AGREEING = "agreeing"  # the others wait for the verdict
    OVER = "over"


TRANSITIONS: Final[Table[Step]] = {
    Step.BEGINNING: {
        "another party refuses the job": Step.DECIDING,
        "label party: a refusal": Step.GATHERING,
        "label party: a fault": Step.SENDING,
        "reason is final": Step.OVER,
        "others: said": Step.AGREEING,
    },
    Step.DECIDING: {
        "label party: a refusal": Step.GATHERING,
        "label party: a fault": Step.SENDING,
        "others: said": Step.AGREEING,
    },
    Step.GATHERING: {"all have decided, or not in time": Step.SENDING},
    Step.SENDING: {"told": Step.OVER},
    Step.AGREEING: {"verdict is there, or not in time": Step.OVER},
    Step.OVER: {},
}


class Agreement:
    """Ends a run with a failure.

    Args:
        outcome: The failure, as this party has met it.
        state: Of the job at this party.
        config: This party's place in the job.
        peers: What the other parties say of themselves.
        diagnose: Gives this party's own view of a failure, at a time.
    """

    def __init__(
        self,
        outcome: RunFailure,
        state: State,
        config: RunConfig,
        peers: PeerMonitor,
        diagnose: Callable[[RunFailure, float], Failure],
    ) -> None:
        self._outcome, self._state, self._config, self._peers = outcome, state, config, peers
        self._diagnose = diagnose
        self.step = Step.BEGINNING
        self.wakeup: float | None = None
        self.failure: Failure | None = None  # the one that every party shows, once it is known
        self.detail = outcome.detail if isinstance(outcome, JobProblem) else None  # for this party's operator
        self._refusal: JobProblem | None = None  # this party's own
        self._beats = 0

    def begin(self, now: float) -> Sequence[actions.Action]:
        """Begin; return what to do."""
        if isinstance(self._outcome, RemoteFailure) and is_refusal(self._outcome.failure):
            self.wakeup = now + self._config.deadlines.verdict / 2
            return self._follow("another party refuses the job", actions.AskRefusal())
        return self._speak(now)

    def on(self, event: events.Event, now: float) -> Sequence[actions.Action]:
        """Take an event; return what to do. One that the step does not wait for means nothing."""
        match self.step, event:
            case Step.DECIDING, events.RefusalDecided(refusal):
                self._refusal = refusal
                self.detail = self.detail if refusal is None else refusal.detail
                return self._speak(now)
            case Step.SENDING, events.Drained():
                return self._follow("told", actions.EnterState(State.FAILED), actions.End())
            case Step.AGREEING, _ if self._peers.verdict is not None:
                return self._accept(self._peers.verdict)
        return self._wake(now) if self.wakeup is not None and now >= self.wakeup else ()

    def _wake(self, now: float) -> Sequence[actions.Action]:
        """Go on where a step's time has come."""
        match self.step:
            case Step.DECIDING:
                return self._speak(now)
            case Step.GATHERING:
                return self._gather(now)
        return self._accept(self._diagnose(self._outcome, now))

    def _speak(self, now: float) -> Sequence[actions.Action]:
        """Say the verdict, or what this party knows."""
        if self._config.is_label_party:
            return self._decide(now)
        if isinstance(self._outcome, FinalFailure):
            self.failure = self._outcome.failure
            return self._follow("reason is final", actions.EnterState(State.FAILED), actions.End())
        self.wakeup = now + self._config.deadlines.verdict
        said = self._follow("others: said", *self._complaint(now))
        return said if self._peers.verdict is None else (*said, *self._accept(self._peers.verdict))

    def _complaint(self, now: float) -> Sequence[actions.Action]:
        """Say what this party knows; of each party the label party minds the first word."""
        if self._refusal is not None:
            return [actions.Send(self._refusal.failure(self._state, verdict=False), required=True)]
        match self._outcome:
            case JobProblem():
                return [actions.Send(self._diagnose(self._outcome, now), required=True)]
            case RemoteFailure(failure):  # its sender may be one of those who cannot speak to the label party
                return [actions.Send(failure.model_copy(update={"verdict": False}))]
            case DeadlineMissed(reporter) if reporter == self._config.me:
                return [actions.SendHeartbeat()]
        return []

    def _accept(self, failure: Failure) -> Sequence[actions.Action]:
        self.failure, self.wakeup = failure, None
        return self._follow("verdict is there, or not in time", actions.EnterState(State.FAILED), actions.End())

    # --- the label party's verdict

    def _decide(self, now: float) -> Sequence[actions.Action]:
        if not is_refusal(self._diagnose(self._outcome, now)):
            return self._tell_verdict("label party: a fault", now)
        self.wakeup = now + self._config.deadlines.heartbeat
        return self._follow("label party: a refusal")

    def _gather(self, now: float) -> Sequence[actions.Action]:
        """Give the others time to refuse too, unless all have decided already."""
        deadlines, self._beats = self._config.deadlines, self._beats + 1
        others = (party for party in self._config.everybody if party != self._config.me)
        is_late = self._beats >= max(1, int(deadlines.verdict / 2 / deadlines.heartbeat))
        if is_late or all(self._peers.has_decided(party) for party in others):
            return self._tell_verdict("all have decided, or not in time", now)
        self.wakeup = now + deadlines.heartbeat
        return ()

    def _tell_verdict(self, cause: str, now: float) -> Sequence[actions.Action]:
        failure = self._diagnose(self._outcome, now)
        if is_refusal(failure):
            failure = self._peers.with_all_refusals(failure, self._refusal)
        self.failure, self.wakeup = failure.model_copy(update={"verdict": True}), None
        return self._follow(cause, actions.Send(self.failure, required=True), actions.Drain("verdict"))

    def _follow(self, cause: str, *todo: actions.Action) -> Sequence[actions.Action]:
        self.step = follow(TRANSITIONS, self.step, cause)
        return todo
