"""What the parties of an attempt say to each other, from acceptance to release, as scripts.

It is the order of `agents.attempts.phases` with a training of a few steps; the model is a number that depends on every
share of every step. So a share that is lost, taken twice or of another attempt shows.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import NamedTuple

from tercet.agents.core.states import State

STEPS = 4
Value = int | None


class Say(NamedTuple):
    """Send a value to others."""

    kind: str
    to: Sequence[str]
    value: Value = None


class Hear(NamedTuple):
    """Wait for a value of each."""

    kind: str
    senders: Sequence[str]
    deadline: str


class Enter(NamedTuple):
    """Enter a state."""

    state: State
    first_step: int = 0


class Save(NamedTuple):
    """Write a checkpoint."""

    steps: int
    model: int


Script = Generator[Say | Hear | Enter | Save, Mapping[str, Value], int]
"""A `Hear` is answered by the values; the script returns the model."""


class Cast(NamedTuple):
    """Who plays in an attempt, and what one of them has on its disk."""

    me: str
    label: str
    data: Sequence[str]
    helper: str
    held: Mapping[int, int]  # models by steps that were done

    @property
    def others(self) -> list[str]:
        """Everybody else."""
        return [party for party in (*self.data, self.helper) if party != self.me]

    @property
    def partners(self) -> list[str]:
        """The other data parties."""
        return [party for party in self.data if party != self.me]


def mix(*values: Value) -> int:
    """Make one number of some; another one of any others."""
    return hash(("mix", *values)) & 0xFFFFFFFF


def undisturbed_model(data: Sequence[str]) -> int:
    """Train as nobody disturbs it."""
    model = 0
    for step in range(STEPS):
        model = mix(model, mix(*(mix(place, step, model) for place, _ in enumerate(data))))
    return model


def play(cast: Cast) -> Script:
    """Play a party's part of an attempt."""
    yield from (_lead if cast.me == cast.label else _follow)(cast)
    for kind in ("key", "transcript"):
        yield Say(kind, cast.others)
        yield Hear(kind, cast.others, "handshake")
    yield from _align(cast)
    yield Enter(State.ALIGNED)
    first = yield from _agree(cast)
    yield Enter(State.TRAINING, first)
    model = yield from (_help if cast.me == cast.helper else _train)(cast, first)
    yield Enter(State.RELEASED)
    yield Say("released", cast.others)
    yield Hear("released", cast.others, "release")
    return model


def _lead(cast: Cast) -> Generator[Say | Hear | Enter, Mapping[str, Value], None]:
    yield Hear("received", cast.others, "accept")
    yield Say("approvers", cast.others)
    yield Hear("accept", cast.others, "accept")
    yield Enter(State.ACCEPTED)
    yield Enter(State.READY)
    yield Hear("ready", cast.others, "ready")
    yield Say("start", cast.others)


def _follow(cast: Cast) -> Generator[Say | Hear | Enter, Mapping[str, Value], None]:
    yield Say("received", [cast.label])
    yield Hear("approvers", [cast.label], "start")
    yield Say("accept", [cast.label])
    yield Enter(State.ACCEPTED)
    yield Enter(State.READY)
    yield Say("ready", [cast.label])
    yield Hear("start", [cast.label], "start")


def _align(cast: Cast) -> Generator[Say | Hear, Mapping[str, Value], None]:
    if cast.me == cast.helper:
        yield Hear("pseudonyms", cast.data, "alignment")
        yield Say("presence", cast.data)
    else:
        yield Say("pseudonyms", [cast.helper])
        yield Hear("presence", [cast.helper], "alignment")


def _agree(cast: Cast) -> Generator[Say | Hear, Mapping[str, Value], int]:
    """Agree on sizes and on the step to begin with."""
    if cast.me == cast.label:
        yield Hear("sizes", cast.partners, "fit")
        yield Say("terms", cast.others)
        held = yield Hear("checkpoints", cast.partners, "fit")
        first = min([max(cast.held, default=0), *(value or 0 for value in held.values())])
        yield Say("go on", cast.others, first)
        return first
    if cast.me != cast.helper:
        yield Say("sizes", [cast.label])
    yield Hear("terms", [cast.label], "terms")
    if cast.me != cast.helper:
        yield Say("checkpoints", [cast.label], max(cast.held, default=0))
    return (yield Hear("go on", [cast.label], "fit"))[cast.label] or 0


def _train(cast: Cast, first: int) -> Script:
    model, place = cast.held[first] if first else 0, list(cast.data).index(cast.me)
    for step in range(first, STEPS):
        yield Say(f"share {step}", [cast.helper], mix(place, step, model))
        answer = yield Hear(f"answer {step}", [cast.helper], "step")
        model = mix(model, answer[cast.helper])
        yield Save(step + 1, model)
    yield Say("weights", cast.partners)
    yield Hear("weights", cast.partners, "release")
    return model


def _help(cast: Cast, first: int) -> Script:
    for step in range(first, STEPS):
        shares = yield Hear(f"share {step}", cast.data, "fit" if step == first else "step")
        yield Say(f"answer {step}", cast.data, mix(*(shares[party] for party in cast.data)))
    return 0
