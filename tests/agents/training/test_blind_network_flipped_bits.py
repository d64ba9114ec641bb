"""One flipped bit leaves no network that passes for the oracle's, also where the helper sees nothing.

In the last of each kind of message that a network has beside a linear model's. Not every bit says something: all
parties but the first use the top one only of what they open to truncate, and of a share of that bit the high ones have
no place in a word.
"""

from dataclasses import replace

import pytest

from tercet.schemas.files.job import Evaluation
from tercet.schemas.messages import kinds as messages
from tercet.schemas.messages.kinds import Message
from tests.agents.networks import mlp
from tests.agents.training.test_blind_flipped_bits import (
    check_all_fail,
    check_noticed_in_what_is_evaluated,
    flip_in,
)
from tests.agents.training.test_flipped_bits import BIT, Models, names
from tests.agents.world import NOTHING

TRAINED = replace(mlp((6, 7, 5), 5, 4, activation="silu", rows=66, batch=33, epochs=1, label=1), privacy=NOTHING)
LOOKED_AT = replace(
    TRAINED, columns=(6, 7), rows=90, evaluation=Evaluation(holdout=0.3, metrics="epoch", loss=True, held_out_loss=True)
)
TENSORS: list[type[Message]] = [messages.DealtShares, messages.NarrowingOpening, messages.NarrowingDealtShares]
OPENED_BY_EACH: list[type[Message]] = [messages.HiddenOpening, messages.ScoreOpening, messages.OutputErrorOpening]
BITS: dict[type[Message], int] = {
    messages.NarrowingOpening: 1 << 63,
    messages.DealtShares: 1,
    messages.NarrowingDealtShares: 1,
    messages.HeldOutDealtShares: 1 << 56,
}
EVALUATED: list[Models] = [
    (messages.HeldOutDealtShares, messages.ScoringDealtShares),
    (messages.HeldOutHiddenOpening,),
    (messages.HeldOutNarrowOpening,),
    (messages.HeldOutScoreOpening,),
    (messages.ScoringHiddenOpening,),
    (messages.ScoringScoreOpening,),  # the run may fail
]


@pytest.mark.parametrize("model", TENSORS, ids=lambda model: model.__name__)
def test_one_flipped_bit_in_a_tensor_is_noticed(model: type[Message]) -> None:
    """In the last message of a kind: the run fails, or its model is not the oracle's."""
    _, same = flip_in(replace(TRAINED, columns=(6, 7)), model, "last", bits=BITS.get(model, BIT))
    assert not same


@pytest.mark.parametrize("model", OPENED_BY_EACH, ids=lambda model: model.__name__)
def test_what_one_party_alone_hears_otherwise_fails_the_job(model: type[Message]) -> None:
    """Three parties have opened different words; all end with that."""
    check_all_fail(TRAINED, model, "last")


@pytest.mark.parametrize("models", EVALUATED, ids=names)
def test_one_flipped_bit_in_what_is_evaluated_is_noticed(models: Models) -> None:
    """The run fails, or just its loss or scores are not another run's; what the model is stays as it was."""
    check_noticed_in_what_is_evaluated(LOOKED_AT, models, BITS)
