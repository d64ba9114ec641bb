"""Describes one step as one party lived through it.

It waited, and computed, sent and opened.

It holds names, numbers and times, and nothing of what was computed or sent.
"""

from typing import Literal

from pydantic import Field

from tercet.schemas.core.strict import Strict

TraceKind = Literal["wait", "maths", "send", "open"]


class TraceEvent(Strict):
    """Describes something that took time at one party.

    Attributes:
        kind: what it was.
        what: the kind of message, or what was computed: the name of the function, or of what a network's script makes.
        whom: for whom it waited, to whom it sent, from whom it opened.
        loop: which of the party's loops did it: "online"; "ahead"; "absorb", or in a network "dealt" and "openings",
            which go on with what came ahead; or "inbox", which takes what arrives.
        where: for maths, "in place" or "thread".
        step: the step that it was for.
        start: seconds from the beginning of the traced step; negative for what began before.
        seconds: how long.
    """

    kind: TraceKind
    what: str = Field(max_length=64)
    whom: tuple[str, ...] = ()
    loop: str = Field(max_length=16)
    where: str = Field(default="", max_length=16)
    step: int
    start: float
    seconds: float


class StepTrace(Strict):
    """Lists the events of one step, by their ends.

    `steps` is how many are remembered, of which this is the median one.
    """

    party: str = Field(max_length=64)
    step: int
    steps: int
    seconds: float
    events: tuple[TraceEvent, ...]
