"""Traces the last steps of a job at one party; a `StepTrace` shows one of them.

It keeps names, step numbers and times of a bounded number of steps, and never a value that was computed or sent.
Noting an event takes less than a microsecond, and a step has some thirty.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import NamedTuple

from tercet.schemas.core.trace import StepTrace, TraceEvent, TraceKind
from tercet.schemas.messages.address import Round

MOST_STEPS = 64
MOST_EVENTS = 256  # of one step; what a party does between two epochs may be more, and is cut short

LAYERED = frozenset({  # kinds of which a step has one for each layer
    "hidden share", "hidden answer", "error opening", "score opening", "hidden opening", "output error opening",
    "gate opening",
})  # fmt: skip

loop: ContextVar[str] = ContextVar("loop", default="inbox")  # each of a role's loops says here which it is


class Place(NamedTuple):
    """Says where a message belongs: round, epoch, and place within the epoch."""

    round: str
    epoch: int
    step: int


class _Event(NamedTuple):
    kind: TraceKind
    what: str
    whom: Sequence[str]
    loop: str
    where: str
    step: int
    start: float
    end: float


class _Step(NamedTuple):
    first: int
    step: int  # the last of those that went together
    start: float
    end: float
    events: list[_Event]


class Trace:
    """Keeps the last complete steps of one job; each begins where the one before it ends."""

    def __init__(self) -> None:
        self.steps_per_epoch = 0  # until the steps begin
        self.first_epoch = 0  # in addresses of the training's messages
        self.layers = 1  # how many messages of such a kind a step has at most
        self._events: list[_Event] = []
        self._since: float | None = None  # when the step began that is under way
        self._steps: deque[_Step] = deque(maxlen=MOST_STEPS)

    def note(
        self, kind: TraceKind, what: str, start: float, *, step: int, whom: Sequence[str] = (), where: str = ""
    ) -> None:
        """Note an event that began at `start`, by `time.perf_counter`, and has just ended."""
        if len(self._events) < MOST_EVENTS:
            self._events.append(_Event(kind, what, whom, loop.get(), where, step, start, time.perf_counter()))

    def note_message(self, kind: TraceKind, what: str, start: float, place: Place, whom: Sequence[str]) -> None:
        """Note messages sent, opened or waited for since `start`; control messages have no step."""
        step = place.step // self.layers if what in LAYERED else place.step
        index = -1 if place.round == Round.CONTROL else (place.epoch - self.first_epoch) * self.steps_per_epoch + step
        self.note(kind, what, start, step=index, whom=whom)

    def begin(self) -> None:
        """Note that the first step begins, where its beginning tells as much as that of any other."""
        self._since = time.perf_counter()

    def note_finished_step(self, step: int, first: int | None = None) -> None:
        """Note that a step is over, or all from the `first` to it together, and the next one begins."""
        now = time.perf_counter()
        if self._since is not None:
            self._steps.append(_Step(step if first is None else first, step, self._since, now, self._events))
        self._events, self._since = [], now

    def median_step(self, party: str) -> StepTrace | None:
        """Trace the step of median length; None before the second step is over."""
        if not self._steps:
            return None
        by_length = sorted(self._steps, key=lambda traced: traced.end - traced.start)
        return self._to_step_trace(party, by_length[(len(by_length) - 1) // 2])

    def step_trace(self, party: str, step: int) -> StepTrace | None:
        """Trace this step, with those that went together with it; None if it is not remembered."""
        found = (traced for traced in self._steps if traced.first <= step <= traced.step)
        return next((self._to_step_trace(party, traced._replace(step=step)) for traced in found), None)

    def _to_step_trace(self, party: str, step: _Step) -> StepTrace:
        events = tuple(_to_event(event, step.start) for event in step.events)
        return StepTrace(
            party=party, step=step.step, steps=len(self._steps), seconds=step.end - step.start, events=events
        )


def _to_event(event: _Event, start: float) -> TraceEvent:
    return TraceEvent(
        kind=event.kind,
        what=event.what[:64],
        whom=tuple(event.whom),
        loop=event.loop,
        where=event.where,
        step=event.step,
        start=event.start - start,
        seconds=event.end - event.start,
    )


def step_of_all(traces: Mapping[str, Trace], label_party: str) -> dict[str, StepTrace]:
    """Trace the label party's median step at every party that remembers it, by party."""
    median = traces[label_party].median_step(label_party) if label_party in traces else None
    if median is None:
        return {}
    traces_of_step = {party: trace.step_trace(party, median.step) for party, trace in traces.items()}
    return {party: step for party, step in traces_of_step.items() if step is not None}
