"""One flipped bit in any one message leaves no model that passes for the oracle's, whoever flips it.

The sender's own memory, through the hook that sees messages before they are sealed; or the broker, after. The helper
sees scores here, of a linear model or of a network.

Not every bit of every word of a network says something: truncations drop the low ones, all parties but the first use
the top one only of what they open to truncate, and of a share of that bit the high ones have no place in a word.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.agents.simulation.simulate import Simulation, bit_exact
from tercet.broker.interface.base import Envelope
from tercet.broker.memory.broker import MemoryBroker
from tercet.schemas.files.job import EarlyStopping, Evaluation
from tercet.schemas.files.settings import Deadlines, Settings
from tercet.schemas.messages import kinds as messages
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Message
from tests import virtual_time
from tests.agents.networks import mlp, opened_right
from tests.agents.recording import Ear, Heard
from tests.agents.training.test_epoch_evaluation import check_held_out_losses, check_losses, check_scores
from tests.agents.world import DEADLINES, Sample, contributions, exact, run

BIT = 1 << 50  # of a word
TOP = 1 << 63
Models = tuple[type[Message], ...]


class Kind(NamedTuple):
    """A kind of model: its messages with tensors, jobs that have all of them, and how their results are looked at."""

    name: str
    tensors: Models  # of which each matters to the model
    evaluated: tuple[Models, ...]  # and these to a loss or to scores: in a run, one of each
    trained: Sample
    looked_at: Sample
    stopped: Sample
    bits: Mapping[type[Message], int] = MappingProxyType({})  # of a word that every party uses, if not the usual one
    any_word: int = BIT  # bits of which one matters in whatever word

    def wrong(self, simulation: Simulation) -> list[int]:
        """Which of the checks find something that is not the oracle's."""
        looked, found = Heard(self.looked_at, simulation, Ear(), self.looked_at.tables()), []
        for number, check in enumerate((check_losses, check_held_out_losses, check_scores)):
            try:
                check(looked)
            except AssertionError:
                found.append(number)
        return found


def names(models: Models) -> str:
    """What a test of these is called."""
    return "-".join(model.__name__ for model in models)


def put_into(model: type[Message]) -> int:
    """Which of the checks a message matters to."""
    name = model.__name__
    return 2 if name.startswith("Scor") or model is messages.MaskedScores else int(name.startswith("HeldOut"))


EVALUATED = Evaluation(holdout=0.3, metrics="epoch", loss=True, held_out_loss=True)
STOPPING: dict[str, Any] = {"rows": 66, "batch": 33, "label": 1, "epochs": 3, "evaluation": Evaluation(loss=True),
            "early_stopping": EarlyStopping(on="loss", patience=1, least_gain=10.0)}  # fmt: skip
LINEAR = Kind(
    "linear",
    (messages.MaskedInputs, messages.CheckedMasks, messages.MaskedLabels, messages.MaskedWeights,
     messages.GradientShare, messages.PreactivationShare, messages.MaskedActivation, messages.WeightShare,
     messages.InterceptShare),
    ((messages.LossTerms, messages.HeldOutTerms, messages.Scores),  # a network has the others, too
     (messages.LossShare, messages.HeldOutLossShare)),
    Sample((6, 7), rows=66, batch=33, label=1, epochs=1),
    Sample((6, 7), rows=90, batch=33, label=1, epochs=1, evaluation=EVALUATED),
    Sample((6, 7, 5), **STOPPING),
)  # fmt: skip
NETWORK = Kind(
    "network",
    (messages.MaskedInputs, messages.MaskOpenings, messages.MaskedLabels, messages.MaskedWeights,
     messages.DealtShares, messages.WeightOpening, messages.NarrowOpening, messages.HiddenShare,
     messages.HiddenAnswer, messages.PreactivationShare, messages.MaskedActivation, messages.TruncationOpening,
     messages.SlopeOpening, messages.ErrorOpening, messages.MaskedError),
    ((messages.MaskedLossLabels, messages.HeldOutLabels),
     (messages.LossTerms, messages.HeldOutTerms, messages.ScoringShare),
     (messages.LossShare, messages.HeldOutLossShare, messages.Scores),
     (messages.HeldOutShare, messages.ScoringDealtShares), (messages.HeldOutDealtShares, messages.ScoringHiddenShare),
     (messages.HeldOutHiddenShare,),
     # the run may fail
     (messages.ScoringInputs,), (messages.ScoringWeights,), (messages.ScoringMaskOpenings,),
     (messages.ScoringWeightOpening,), (messages.ScoringHiddenAnswer,), (messages.HeldOutInputs,),
     (messages.HeldOutWeights,), (messages.HeldOutMaskOpenings,), (messages.HeldOutWeightOpening,),
     (messages.HeldOutHiddenAnswer,)),
    mlp((6, 7), 5, 4, activation="tanh", output="softmax", rows=66, batch=33, epochs=1, label=1),
    mlp((6, 7), 5, 4, activation="tanh", rows=90, batch=33, epochs=1, label=1, evaluation=EVALUATED),
    mlp((6, 7, 5), 5, **STOPPING),
    {messages.WeightOpening: TOP, messages.SlopeOpening: TOP},
    TOP | BIT | 1,
)  # fmt: skip
KINDS = LINEAR, NETWORK
OPENED: Models = (messages.WeightShare, messages.UpperShare)  # of a network, when the training is over
FLIPPED = Sample((6, 7, 5), rows=66, batch=33, label=1, epochs=1)  # what is told to two alike
OTHERS = [
    (messages.Received, "highest"),
    (messages.Start, "attempt"),
    (messages.Start, "version"),
    (messages.Handshake, "key"),
    (messages.Handshake, "signature"),
    (messages.Transcript, "signature"),
    (messages.OrderCommitment, "commitment"),
    (messages.OrderContribution, "secret"),
    (messages.Presence, "bits"),
    (messages.AlignedRows, "rows"),
    (messages.AlignedRows, "ids"),
    (messages.Sizes, "rows"),
    (messages.Sizes, "held_out"),
    (messages.Sizes, "columns"),
    (messages.Terms, "rows"),
    (messages.Terms, "held_out"),
    (messages.Terms, "plan"),
    (messages.OrderConfirmation, "confirmation"),
    (messages.CheckCommitment, "commitment"),  # of the last epoch
    (messages.CheckOpening, "salt"),
]
PAIR = Sample((6, 7), rows=40, batch=33, epochs=1, alignment="ecdh")


def flipped(value: Any, word: int = -1, bits: int = BIT) -> Any:
    """The value with one bit changed: bit 50 of one word of a tensor (or others), bit 0 of anything else."""
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.flat[word % value.size] ^= np.uint64(bits)
        return value
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    return value ^ (value & -value or 1)  # the lowest bit that is set: a version becomes one of before


class Flip:
    """Changes one bit of the `number`th message of a kind. `bits` of a word, if not the usual one."""

    def __init__(
        self, kinds: Sequence[type[Message]], number: int, field: str = "words", word: int = -1, *, bits: int = BIT
    ) -> None:
        self.kinds, self.number, self.field, self.word, self.seen = kinds, number, field, word, 0
        self.bits = bits
        self.where: Address | None = None

    def __call__(self, address: Address, message: Message) -> Message:
        if type(message) not in self.kinds:
            return message
        self.seen += 1
        if self.seen - 1 != self.number:
            return message
        self.where = address
        return message.model_copy(update={self.field: flipped(getattr(message, self.field), self.word, self.bits)})


def each_of(flips: Sequence[Flip]) -> Callable[[Address, Message], Message]:
    """All of these in one run."""
    return lambda address, message: reduce(lambda changed, flip: flip(address, changed), flips, message)


@cache
def undisturbed(sample: Sample) -> tuple[Counter[type[Message]], Simulation]:
    """A run that is right, and how many messages of each kind it has."""
    seen = Counter[type[Message]]()

    def note(_: Address, message: Message) -> Message:
        seen[type(message)] += 1
        return message

    simulation, same = exact(sample, tap=note, contribute=contributions(0))
    assert same
    return seen, simulation


def count(*kinds: type[Message], sample: Sample = FLIPPED) -> int:
    """How many messages of these kinds a run has."""
    return sum(undisturbed(sample)[0][kind] for kind in kinds)


def each(groups: Callable[[Kind], Sequence[Models]]) -> pytest.MarkDecorator:
    """Each kind of model with each of these groups of messages."""
    cases = [(kind, group) for kind in KINDS for group in groups(kind)]
    return pytest.mark.parametrize(("kind", "models"), cases, ids=[f"{k.name}-{names(group)}" for k, group in cases])


each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@each(lambda kind: [(model,) for model in kind.tensors])
def test_one_flipped_bit_in_a_tensor_is_noticed(kind, models):
    """In the last message of a kind: the run fails, or its model is not the oracle's."""
    (model,) = models
    flip = Flip([model], count(model, sample=kind.trained) - 1, bits=kind.bits.get(model, BIT))
    _, same = exact(kind.trained, tap=flip)
    assert flip.where is not None
    assert not same


@each(lambda kind: kind.evaluated)
def test_one_flipped_bit_in_what_is_evaluated_is_noticed(kind, models):
    """In the last message of a kind: the run fails, or just its loss or scores are not the oracle's. The model is.

    Where a run may fail, one bit is flipped in it; else one in each of what is evaluated apart from the others.
    """
    flips = [Flip([model], count(model, sample=kind.looked_at) - 1) for model in models]
    simulation, same = exact(kind.looked_at, tap=each_of(flips), contribute=contributions(0))
    assert all(flip.where is not None for flip in flips)
    assert same == simulation.done
    assert simulation.done or len(models) == 1
    if simulation.done:
        assert kind.wrong(simulation) == sorted(map(put_into, models))


@each_kind
def test_undisturbed_the_same_checks_hold(kind):
    """Else they would notice everything."""
    assert kind.wrong(undisturbed(kind.looked_at)[1]) == []


@each_kind
@pytest.mark.parametrize(("name", "number"), [("best", 0), ("go_on", 3)])
def test_a_party_that_is_told_something_else_of_an_epoch_has_no_model_that_passes(kind, name, number):
    """It keeps the shares of another epoch, which do not add up with the others', or waits for who has stopped."""
    sample = kind.stopped
    with tempfile.TemporaryDirectory() as folder:
        flip = Flip([messages.EpochDecision], number, name)
        simulation = virtual_time.run(run(sample, Path(folder), settings=impatient(Path(folder), sample), tap=flip))
        assert flip.where is not None
        assert flip.where.receiver == "bank"
        assert not bit_exact(simulation)


@pytest.mark.parametrize("model", OPENED, ids=lambda model: model.__name__)
def test_one_flipped_bit_in_what_a_network_releases_spoils_what_is_opened(model):
    """The shares that stay with their holders, by which predictions go, are what they were."""
    with tempfile.TemporaryDirectory() as folder:
        flip = Flip([model], 0)
        simulation = virtual_time.run(run(NETWORK.trained, Path(folder), tap=flip))
        assert flip.where is not None
        assert bit_exact(simulation)
        assert not opened_right(simulation)


def test_undisturbed_what_a_network_releases_opens_right():
    """Else the same check would notice everything."""
    with tempfile.TemporaryDirectory() as folder:
        assert opened_right(virtual_time.run(run(NETWORK.trained, Path(folder))))


def test_a_flipped_pseudonym_costs_a_row_and_no_more():
    """As if its sender had not had the row; or the list does not ascend, and the helper names the sender."""
    simulation, same = exact(FLIPPED, tap=Flip([messages.Pseudonyms], 0, "pseudonyms"))
    if not same:
        failure = simulation.label_run.failure
        assert failure is not None
        assert failure.code == "message.malformed"
        return
    assert {simulation.runs[party].context.statistics.rows for party in FLIPPED.parties} == {FLIPPED.rows - 1}


@pytest.mark.parametrize(("model", "name"), [(messages.BlindedIds, "elements"), (messages.TwiceBlindedIds, "hashes")])
def test_a_flipped_element_fails_the_job_or_costs_a_row(model, name):
    """What is no element is refused, and where the two do not find the same rows nothing starts."""
    simulation, same = exact(PAIR, tap=Flip([model], 0, name))
    rows = {simulation.runs[party].context.statistics.rows for party in PAIR.parties}
    failure = simulation.label_run.failure
    assert (same and rows == {PAIR.rows - 1}) or (
        failure is not None and failure.code in {"message.malformed", "alignment.differs"}
    )


@each_kind
@settings(max_examples=3, deadline=None, derandomize=True)
@given(data=st.data())
def test_one_flipped_bit_in_any_one_message_is_noticed(kind, data):
    """Any word of any tensor that anybody sends; of a network its lowest bit, its highest and one between."""
    number = data.draw(st.integers(0, count(*kind.tensors, sample=kind.trained) - 1))
    flip = Flip(kind.tensors, number, word=data.draw(st.integers(0, 1000)), bits=kind.any_word)
    _, same = exact(kind.trained, tap=flip, contribute=contributions(0))
    assert flip.where is not None
    assert not same, flip.where


def count_of_tensors() -> int:
    """Three data parties, two steps: E, f and what is checked to each other party, y~, g, z and p; the release."""
    data, steps = 3, 2
    return steps * (3 * data * (data - 1) + (data - 1) + 3 * data) + data * (data - 1) + (data - 1)


def test_the_messages_with_tensors_are_these():
    """So that the flipped one is drawn from all of them."""
    assert count(*LINEAR.tensors) == count_of_tensors()


@pytest.mark.parametrize(("model", "name"), OTHERS, ids=lambda value: getattr(value, "__name__", value))
def test_one_flipped_bit_beside_the_steps_fails_the_job_everywhere(model, name):
    """In the last message of a kind; no model comes of it, and every party says the same."""
    number = count(model) - 1
    simulation, same = exact(FLIPPED, tap=Flip([model], number, name))
    assert not same
    assert {run.state for run in simulation.runs.values()} == {"failed"}
    failures = {(run.failure.code, run.failure.culprit) for run in simulation.runs.values() if run.failure}
    assert len(failures) == 1


class Flipping(MemoryBroker):
    """A broker that changes one bit of the last byte of the first envelope of a kind in a round."""

    def __init__(self, round_: str, item: str) -> None:
        super().__init__()
        self.place, self.flips = f"/{round_}/{item}/", 0

    def accept(self, envelope: Envelope, party: str) -> None:
        if self.place in envelope.address and not self.flips:
            self.flips += 1
            body = envelope.body[:-1] + bytes([envelope.body[-1] ^ 1])
            envelope = Envelope(
                envelope.exchange,
                envelope.routing_key,
                body,
                envelope.kind,
                envelope.address,
                envelope.job,
                envelope.sender,
            )
        super().accept(envelope, party)


MISSED = {"party.cut-off", "transport.lost", "party.silent", "party.busy", "party.unreachable"}
IMPATIENT = Deadlines(
    accept=1,
    ready=1,
    start=2,
    handshake=1,
    alignment=1,
    fit=1,
    terms=2,
    step=1,
    release=1,
    verdict=0.3,
    heartbeat=0.1,
    drain=1,
)


def impatient(folder: Path, sample: Sample = FLIPPED) -> dict[str, Settings]:
    """The parties, who do not wait long for what will not come."""
    parties = sample.settings(folder)
    return {party: own.model_copy(update={"deadlines": IMPATIENT}) for party, own in parties.items()}


# Under an identity's seal or a session's, in each round. What a lost message means is the same for all kinds, and
# test_waits sees that each is waited for.
ENVELOPES: Models = (messages.Received, messages.Handshake, messages.MaskedInputs)


@pytest.mark.parametrize("model", ENVELOPES, ids=lambda model: model.__name__)
def test_a_broker_that_changes_one_bit_is_noticed(model):
    """Whatever is sealed in the envelope, its seal does not open. It is as good as lost: the job fails everywhere."""

    async def disturbed(folder: Path) -> Simulation:
        memory_broker = Flipping(model.round, model.item)
        simulation = await run(FLIPPED, folder, settings=impatient(folder), broker=memory_broker)
        assert memory_broker.flips == 1
        return simulation

    with tempfile.TemporaryDirectory() as folder:
        simulation = virtual_time.run(disturbed(Path(folder)))
        assert not bit_exact(simulation)
    assert {run.failure.code for run in simulation.runs.values() if run.failure} <= MISSED
    assert {run.state for run in simulation.runs.values()} == {"failed"}


def test_a_changed_last_word_is_made_up_for_by_another():
    """Who cannot read that one party has its model part hears from a third that all have: nobody is done before."""

    async def disturbed(folder: Path) -> Simulation:
        memory_broker = Flipping(messages.Released.round, messages.Released.item)
        return await run(FLIPPED, folder, settings=impatient(folder), broker=memory_broker)

    with tempfile.TemporaryDirectory() as folder:
        simulation = virtual_time.run(disturbed(Path(folder)))
        assert {one.state for one in simulation.runs.values()} == {"done"}
        assert bit_exact(simulation)


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
        memory_broker = Flipping("control", "announcement")
        try:
            await run(FLIPPED, folder, settings=hasty, tap=note, broker=memory_broker, watch=watch)
        except* LookupError:
            assert memory_broker.flips == 1
        return code

    with tempfile.TemporaryDirectory() as folder:
        assert virtual_time.run(disturbed(Path(folder))) in {"party.unreachable", "party.silent"}
    assert set(heard) <= {"received", "progress", "failure"}
