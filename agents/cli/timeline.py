"""Shows a traced step to a person: a line for each event, and sums of time.

It knows what a `StepTrace` holds, and nothing of how it came about.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tercet.schemas.core.trace import StepTrace, TraceEvent

BAR = 24  # characters for the whole step
PREPOSITION = {"wait": "for", "send": "to", "open": "from"}


def timeline(trace: StepTrace) -> RenderableType:
    """Draw the events in order, each with a bar on the step's time, and sums below."""
    title = f"{trace.party}, step {trace.step + 1}: {_ms(trace.seconds)} ms, the median of the last {trace.steps}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("at ms", justify="right", no_wrap=True)
    table.add_column("for ms", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, min_width=BAR)
    table.add_column("loop", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("step", justify="right", no_wrap=True)
    for event in sorted(trace.events, key=lambda event: event.start):
        table.add_row(
            _ms(event.start),
            _ms(event.seconds),
            Text(_bar(event, trace.seconds)),
            event.loop,
            escape(_what(event)),
            f"{event.step - trace.step:+d}" if event.step >= 0 and event.step != trace.step else "",
        )
    return Group(table, Text(_sums(trace)), Text(""))


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f}"


def _bar(event: TraceEvent, whole: float) -> str:
    """Draw an event's place in the step; earlier starts begin at the left end."""
    begin, end = max(0.0, event.start) / whole, min(1.0, (event.start + event.seconds) / whole)
    left = min(BAR - 1, int(BAR * begin))
    symbol = "." if event.kind == "wait" else "="
    return (" " * left + symbol * max(1, round(BAR * (end - begin)))).ljust(BAR)[:BAR]


def _what(event: TraceEvent) -> str:
    whom = f" {PREPOSITION.get(event.kind, '')} {' and '.join(event.whom)}" if event.whom else ""
    where = " (thread)" if event.where == "thread" else ""
    return f"{event.kind}: {event.what}{whom}{where}"


def _sums(trace: StepTrace) -> str:
    """Sum up the online loop's waits and all loops' work."""
    waits: dict[str, float] = defaultdict(float)
    work: dict[str, float] = defaultdict(float)
    for event in trace.events:
        inside = max(0.0, min(event.seconds, event.start + event.seconds))
        if event.kind != "wait":
            work[event.kind] += inside
        elif event.loop == "online":
            waits[" and ".join(event.whom) or event.what] += inside
    return f"The online loop waited, in ms, for: {_join(waits)}. All loops: {_join(work)}."


def _join(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{what} {_ms(seconds[what])}" for what in sorted(seconds, key=seconds.__getitem__, reverse=True))
