"""Ends a run that nobody has ended early, as a pure machine.

Theory. The result is moved into its place before anybody hears that the job is done here, and the job stays done
whatever becomes of its page. A run that another one of the same job supersedes ends without a word: all parties know it
by one rule. What is told waits for the broker for as long as a deadline says: what others need for as long as the
release may take, the last heartbeat as long as any other.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from tercet.agents.core.states import State
from tercet.agents.machine import actions, events
from tercet.agents.machine.modes import Table, follow
from tercet.agents.machine.outcomes import Done, Superseded


class ConclusionStep(StrEnum):
    """Names the steps of the end of a run that has not failed."""

    BEGINNING = "beginning"
    KEEPING = "keeping"
    SENDING = "sending"  # until the broker has what was said
    REPORTING = "reporting"
    LEAVING = "leaving"  # until the broker has the last words
    OVER = "over"


TRANSITIONS: Final[Table[ConclusionStep]] = {
    ConclusionStep.BEGINNING: {"done": ConclusionStep.KEEPING, "superseded": ConclusionStep.OVER},
    ConclusionStep.KEEPING: {"result is kept": ConclusionStep.SENDING},
    ConclusionStep.SENDING: {"told": ConclusionStep.REPORTING},
    ConclusionStep.REPORTING: {"report is written": ConclusionStep.LEAVING},
    ConclusionStep.LEAVING: {"told": ConclusionStep.OVER},
    ConclusionStep.OVER: {},
}


class Conclusion:
    """Ends a run that is done, or that another one supersedes."""

    wakeup: float | None = None  # it has no time of its own: `Drained` comes by a deadline

    def __init__(self, outcome: Done | Superseded) -> None:
        self._outcome, self.step = outcome, ConclusionStep.BEGINNING

    @property
    def is_report_due(self) -> bool:
        """Tell whether the job is done here, and its page is being written."""
        return self.step == ConclusionStep.REPORTING

    def begin(self, _now: float) -> Sequence[actions.Action]:
        """Begin; return what to do."""
        if isinstance(self._outcome, Done):
            return self._follow("done", actions.KeepResult())
        return self._follow("superseded", actions.EnterState(State.CANCELLED), actions.End())

    def on(self, event: events.Event, _now: float) -> Sequence[actions.Action]:
        """Take an event; return what to do. One that the step does not wait for means nothing."""
        match self.step, event:
            case ConclusionStep.KEEPING, events.ResultStored():
                return self._follow("result is kept", actions.Drain("release", may_have_left=True))
            case ConclusionStep.SENDING, events.Drained():
                done = actions.EnterState(State.DONE)
                return self._follow("told", done, actions.SendHeartbeat(), actions.WriteReport())
            case ConclusionStep.REPORTING, events.ReportWritten():
                return self._follow("report is written", actions.Drain("verdict"))
            case ConclusionStep.LEAVING, events.Drained():
                return self._follow("told", actions.End())
        return ()

    def _follow(self, cause: str, *todo: actions.Action) -> Sequence[actions.Action]:
        self.step = follow(TRANSITIONS, self.step, cause)
        return todo
