"""One flipped bit in any one message leaves no model that passes for the oracle's, whoever flips it.

The sender's own memory, through the hook that sees messages before they are sealed; or the broker, after.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.simulate import Simulation, bit_exact
from broker.base import Parcel
from broker.memory import MemoryBroker
from schemas.address import Address
from schemas.messages import (
    Accept,
    GradientShare,
    Handshake,
    InterceptShare,
    MaskedActivation,
    MaskedInputs,
    MaskedLabels,
    MaskedWeights,
    Message,
    OrderConfirmation,
    OrderContribution,
    PreactivationShare,
    Ready,
    Released,
    Start,
    Transcript,
    WeightShare,
)
from schemas.settings import Deadlines, Settings
from tests.agents.world import DEADLINES, Sample, exact, run

TENSORS = [
    MaskedInputs,
    MaskedLabels,
    MaskedWeights,
    GradientShare,
    PreactivationShare,
    MaskedActivation,
    WeightShare,
    InterceptShare,
]
OTHERS = [
    (Accept, "version"),
    (Ready, "rows"),
    (Ready, "columns"),
    (Start, "rows"),
    (Start, "plan"),
    (Handshake, "key"),
    (Handshake, "signature"),
    (Transcript, "signature"),
    (OrderContribution, "secret"),
    (OrderConfirmation, "confirmation"),
    (OrderConfirmation, "ids"),
]
FLIPPED = Sample((6, 7, 5), rows=66, batch=33, label=1)


def flipped(value: Any, word: int = -1) -> Any:
    """The value with one bit changed: bit 50 of one word of a tensor, bit 0 of anything else."""
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.flat[word % value.size] ^= np.uint64(1 << 50)
        return value
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    return value ^ 1


class Flip:
    """Changes one bit of the `number`th message of a kind; -1 only counts."""

    def __init__(self, kinds: Sequence[type[Message]], number: int, field: str = "words", word: int = -1) -> None:
        self.kinds, self.number, self.field, self.word, self.seen = kinds, number, field, word, 0
        self.where: Address | None = None

    def __call__(self, address: Address, message: Message) -> Message:
        if type(message) not in self.kinds:
            return message
        self.seen += 1
        if self.seen - 1 != self.number:
            return message
        self.where = address
        return message.model_copy(update={self.field: flipped(getattr(message, self.field), self.word)})


@cache
def count(*kinds: type[Message]) -> int:
    """How many messages of these kinds a run has."""
    counter = Flip(kinds, -1)
    _, same = exact(FLIPPED, tap=counter)
    assert same
    return counter.seen


@pytest.mark.parametrize("model", TENSORS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("which", ["first", "last"])
def test_one_flipped_bit_in_a_tensor_is_noticed(model, which):
    """In the first message of a kind as in the last: the run fails, or its model is not the oracle's."""
    flip = Flip([model], 0 if which == "first" else count(model) - 1)
    _, same = exact(FLIPPED, tap=flip)
    assert flip.where is not None
    assert not same


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_one_flipped_bit_in_any_one_message_is_noticed(data):
    """Any word of any tensor that anybody sends."""
    flip = Flip(TENSORS, data.draw(st.integers(0, count_of_tensors() - 1)), word=data.draw(st.integers(0, 1000)))
    _, same = exact(FLIPPED, tap=flip)
    assert flip.where is not None
    assert not same


def count_of_tensors() -> int:
    """Three data parties, four steps: E and f to each other party, y~, g, z and p; then the release."""
    data, steps = 3, 4
    return steps * (2 * data * (data - 1) + (data - 1) + 3 * data) + data * (data - 1) + (data - 1)


def test_the_messages_with_tensors_are_these():
    """So that the flipped one is drawn from all of them."""
    assert count(*TENSORS) == count_of_tensors()


@pytest.mark.parametrize(("model", "name"), OTHERS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("which", ["first", "last"])
def test_one_flipped_bit_before_the_training_fails_the_job_everywhere(model, name, which):
    """No model comes of it, and every party says the same."""
    number = 0 if which == "first" else count(model) - 1
    simulation, same = exact(FLIPPED, tap=Flip([model], number, name))
    assert not same
    assert {run.state for run in simulation.runs.values()} == {"failed"}
    failures = {(run.failure.code, run.failure.culprit) for run in simulation.runs.values() if run.failure}
    assert len(failures) == 1


class Flipping(MemoryBroker):
    """A broker that changes one bit of the last byte of the first parcel of a kind in a round."""

    def __init__(self, round_: str, item: str) -> None:
        super().__init__()
        self.place, self.flips = f"/{round_}/{item}/", 0

    def accept(self, parcel: Parcel, party: str) -> None:
        if self.place in parcel.address and not self.flips:
            self.flips += 1
            body = parcel.body[:-1] + bytes([parcel.body[-1] ^ 1])
            parcel = Parcel(
                parcel.exchange, parcel.routing_key, body, parcel.kind, parcel.address, parcel.job, parcel.sender
            )
        super().accept(parcel, party)


MISSED = {"party.cut-off", "transport.lost", "party.silent", "party.busy", "party.unreachable"}
IMPATIENT = Deadlines(
    accept=1, ready=1, start=2, handshake=1, alignment=1, step=1, release=1, verdict=0.3, heartbeat=0.1, drain=1
)


def impatient(folder: Path) -> dict[str, Settings]:
    """The parties, who do not wait long for what will not come."""
    parties = FLIPPED.settings(folder)
    return {party: own.model_copy(update={"deadlines": IMPATIENT}) for party, own in parties.items()}


ALONG = (MaskedLabels, GradientShare)  # under another message's seal
PARCELS = [model for model in (*TENSORS, *dict(OTHERS)) if model not in ALONG]


@pytest.mark.parametrize("model", PARCELS, ids=lambda model: model.__name__)
def test_a_broker_that_changes_one_bit_is_noticed(model):
    """Whatever is sealed in the parcel, its seal does not open, and it is as good as lost: the job fails everywhere."""

    async def disturbed(folder: Path) -> tuple[MemoryBroker, Simulation]:
        office = Flipping(model.round, model.item)
        simulation = await run(FLIPPED, folder, settings=impatient(folder), office=office)
        assert office.flips == 1
        return office, simulation

    with tempfile.TemporaryDirectory() as folder:
        _, simulation = asyncio.run(disturbed(Path(folder)))
        assert not bit_exact(simulation)
    assert {run.failure.code for run in simulation.runs.values() if run.failure} <= MISSED
    assert {run.state for run in simulation.runs.values()} == {"failed"}


def test_a_changed_last_word_leaves_no_finished_job():
    """A party that cannot read that another has its model part does not call the job done."""

    async def disturbed(folder: Path) -> Simulation:
        office = Flipping(Released.round, Released.item)
        return await run(FLIPPED, folder, settings=impatient(folder), office=office)

    with tempfile.TemporaryDirectory() as folder:
        simulation = asyncio.run(disturbed(Path(folder)))
        assert not bit_exact(simulation)
    assert {one.failure.code for one in simulation.runs.values() if one.failure} & MISSED


def test_a_changed_announcement_starts_nothing():
    """The party that got it takes no part, and the others name it; no share has left."""
    heard: list[str] = []

    def note(_: Address, message: Message) -> Message:
        heard.append(message.kind)
        return message

    async def disturbed(folder: Path) -> str:
        code = ""

        def watch(status: Any) -> None:
            nonlocal code
            if status.failure is not None:
                code = status.failure.code
                raise LookupError  # the party that was never told would be waited for in vain

        hasty = {
            party: own.model_copy(update={"deadlines": DEADLINES.model_copy(update={"accept": 0.5})})
            for party, own in FLIPPED.settings(folder).items()
        }
        office = Flipping("control", "announcement")
        try:
            await run(FLIPPED, folder, settings=hasty, tap=note, office=office, watch=watch)
        except* LookupError:
            assert office.flips == 1
        return code

    with tempfile.TemporaryDirectory() as folder:
        assert asyncio.run(disturbed(Path(folder))) in {"party.unreachable", "party.silent"}
    assert set(heard) <= {"accept", "ready", "progress", "failure"}
