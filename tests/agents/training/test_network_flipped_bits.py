"""A flipped bit in any message of a network's job leaves no model that passes for the oracle's, whoever flips it.

Not every bit of every word says something: truncations drop the low ones, all parties but the first use the top one
only of what they open to truncate, and of a share of that bit the high ones have no place in a word.
"""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.agents.simulation.simulate import Simulation, bit_exact
from tercet.schemas.files.job import EarlyStopping, Evaluation
from tercet.schemas.messages.kinds import (
    DealtShares,
    EpochDecision,
    ErrorOpening,
    HeldOutDealtShares,
    HeldOutHiddenAnswer,
    HeldOutHiddenShare,
    HeldOutInputs,
    HeldOutLabels,
    HeldOutLossShare,
    HeldOutMaskOpenings,
    HeldOutShare,
    HeldOutTerms,
    HeldOutWeightOpening,
    HeldOutWeights,
    HiddenAnswer,
    HiddenShare,
    LossShare,
    LossTerms,
    MaskedActivation,
    MaskedError,
    MaskedInputs,
    MaskedLabels,
    MaskedLossLabels,
    MaskedWeights,
    MaskOpenings,
    Message,
    NarrowOpening,
    PreactivationShare,
    Scores,
    ScoringDealtShares,
    ScoringHiddenAnswer,
    ScoringHiddenShare,
    ScoringInputs,
    ScoringMaskOpenings,
    ScoringShare,
    ScoringWeightOpening,
    ScoringWeights,
    SlopeOpening,
    TruncationOpening,
    UpperShare,
    WeightOpening,
    WeightShare,
)
from tests import virtual_time
from tests.agents.networks import mlp, opened_right
from tests.agents.recording import Ear, Heard
from tests.agents.training import test_flipped_bits
from tests.agents.training.test_flipped_bits import BIT, MISSED, Flip, Flipping, count, impatient, undisturbed
from tests.agents.training.test_network_evaluation import check_losses, check_scores
from tests.agents.world import Sample, contributions, exact, run

TENSORS: list[type[Message]] = [
    MaskedInputs,
    MaskOpenings,
    MaskedLabels,
    MaskedWeights,
    DealtShares,
    WeightOpening,
    NarrowOpening,
    HiddenShare,
    HiddenAnswer,
    PreactivationShare,
    MaskedActivation,
    TruncationOpening,
    SlopeOpening,
    ErrorOpening,
    MaskedError,
]
EVALUATED: list[type[Message]] = [
    MaskedLossLabels,
    LossTerms,
    LossShare,
    ScoringInputs,
    ScoringMaskOpenings,
    ScoringWeights,
    ScoringDealtShares,
    ScoringWeightOpening,
    ScoringHiddenShare,
    ScoringHiddenAnswer,
    ScoringShare,
    Scores,
    HeldOutLabels,
    HeldOutInputs,
    HeldOutMaskOpenings,
    HeldOutWeights,
    HeldOutDealtShares,
    HeldOutWeightOpening,
    HeldOutHiddenShare,
    HeldOutHiddenAnswer,
    HeldOutShare,
    HeldOutTerms,
    HeldOutLossShare,
]
TOP = 1 << 63
TRUNCATING = {WeightOpening: TOP, SlopeOpening: TOP}  # of these the bit that every party uses
OPENED: list[type[Message]] = [WeightShare, UpperShare]
ALONG = (MaskOpenings, MaskedLabels, MaskedWeights, MaskedLossLabels, ScoringMaskOpenings)
FLIPPED = mlp((6, 7, 5), 5, 4, activation="tanh", output="softmax", rows=66, batch=33, epochs=1, label=1)
LOOKED_AT = mlp((6, 7, 5), 5, 4, activation="tanh", rows=90, batch=33, epochs=1, label=1,
                evaluation=Evaluation(holdout=0.3, metrics="epoch", loss=True, held_out_loss=True))  # fmt: skip
STOPPED = mlp((6, 7, 5), 5, rows=66, batch=33, label=1, epochs=3, evaluation=Evaluation(loss=True),
              early_stopping=EarlyStopping(on="loss", patience=1, least_gain=10.0))  # fmt: skip


@pytest.mark.parametrize("model", TENSORS, ids=lambda model: model.__name__)
def test_one_flipped_bit_in_a_tensor_is_noticed(model):
    """In the last message of a kind: the run fails, or its network is not the oracle's."""
    flip = Flip([model], count(model, sample=FLIPPED) - 1, bits=TRUNCATING.get(model, BIT))
    _, same = exact(FLIPPED, tap=flip)
    assert flip.where is not None
    assert not same


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_a_changed_word_in_any_one_message_is_noticed(data):
    """Any word of any tensor that anybody sends; its lowest bit, its highest and one between."""
    number = data.draw(st.integers(0, count(*TENSORS, sample=FLIPPED) - 1))
    flip = Flip(TENSORS, number, word=data.draw(st.integers(0, 1000)), bits=TOP | BIT | 1)
    _, same = exact(FLIPPED, tap=flip, contribute=contributions(0))
    assert flip.where is not None
    assert not same, flip.where


@pytest.mark.parametrize("model", OPENED, ids=lambda model: model.__name__)
def test_one_flipped_bit_in_what_is_released_spoils_what_is_opened(model):
    """The shares that stay with their holders, by which predictions go, are what they were."""
    with tempfile.TemporaryDirectory() as folder:
        flip = Flip([model], 0)
        simulation = virtual_time.run(run(FLIPPED, Path(folder), tap=flip))
        assert flip.where is not None
        assert bit_exact(simulation)
        assert not opened_right(simulation)


def test_undisturbed_what_is_released_opens_right():
    """Else the same check would notice everything."""
    with tempfile.TemporaryDirectory() as folder:
        assert opened_right(virtual_time.run(run(FLIPPED, Path(folder))))


@pytest.mark.parametrize("model", EVALUATED, ids=lambda model: model.__name__)
def test_one_flipped_bit_in_what_is_evaluated_is_noticed(model):
    """In the last message of a kind: the run fails, or a loss or a score is not the oracle's. The network is."""
    flip = Flip([model], count(model, sample=LOOKED_AT) - 1)
    simulation, same = exact(LOOKED_AT, tap=flip, contribute=contributions(0))
    assert flip.where is not None
    assert same == simulation.done
    if simulation.done:
        looked = Heard(LOOKED_AT, simulation, Ear(), LOOKED_AT.tables())
        with pytest.raises(AssertionError):
            right(looked)


def right(looked: Heard) -> None:
    """All losses and scores are the oracle's."""
    check_losses(looked)
    check_scores(looked)


def test_undisturbed_the_same_checks_hold():
    """Else they would notice everything."""
    _, simulation = undisturbed(LOOKED_AT)
    right(Heard(LOOKED_AT, simulation, Ear(), LOOKED_AT.tables()))


@pytest.mark.parametrize(("name", "number"), [("best", 0), ("go_on", 3)])
def test_a_party_that_is_told_something_else_of_an_epoch_has_no_network_that_passes(name, number):
    """It keeps the shares of another epoch, which do not add up with the others', or waits for who has stopped."""
    with tempfile.TemporaryDirectory() as folder:
        flip = Flip([EpochDecision], number, name)
        simulation = virtual_time.run(run(STOPPED, Path(folder), settings=impatient(Path(folder), STOPPED), tap=flip))
        assert flip.where is not None
        assert not bit_exact(simulation)


# The others are under another message's seal, or in the envelopes of other models as well.
ENVELOPES = [model for model in (*TENSORS, *OPENED) if model not in (*ALONG, *test_flipped_bits.ENVELOPES)]


@pytest.mark.parametrize("model", ENVELOPES, ids=lambda model: model.__name__)
def test_a_broker_that_changes_one_bit_is_noticed(model):
    """The seal does not open, and the envelope is as good as lost: the job fails everywhere, and no party is blamed."""
    with tempfile.TemporaryDirectory() as folder:
        memory_broker = Flipping(model.round, model.item)
        simulation = virtual_time.run(disturbed(FLIPPED, Path(folder), memory_broker))
        assert memory_broker.flips == 1
        assert not bit_exact(simulation)
    assert {one.failure.code for one in simulation.runs.values() if one.failure} <= MISSED
    assert {one.state for one in simulation.runs.values()} == {"failed"}


async def disturbed(sample: Sample, folder: Path, memory_broker: Flipping) -> Simulation:
    """A run at which nobody waits long for what will not come."""
    return await run(sample, folder, settings=impatient(folder, sample), broker=memory_broker)
