"""One flipped bit leaves no model that passes for the oracle's, also where the helper sees nothing.

In each kind of message that such a training has beside the other's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pytest

from tercet.agents.session.history import History
from tercet.agents.simulation.simulate import Simulation
from tercet.agents.training import blind_training
from tercet.mpc.arithmetic.fixed import Floats, decode, encode
from tercet.mpc.arithmetic.ring import Words, total
from tercet.schemas.files.job import Evaluation, TrainingJob
from tercet.schemas.messages import kinds as messages
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Message
from tests.agents.training.test_flipped_bits import (
    BIT,
    FLIPPED,
    Flip,
    Models,
    count,
    each_of,
    names,
    put_into,
    undisturbed,
)
from tests.agents.world import NOTHING, Sample, contributions, exact

TRAINED = replace(FLIPPED, privacy=NOTHING)
LOOKED_AT = replace(
    TRAINED, columns=(6, 7), rows=90, evaluation=Evaluation(holdout=0.3, metrics="epoch", loss=True, held_out_loss=True)
)
TWO_EPOCHS = replace(LOOKED_AT, epochs=2)
TENSORS: list[type[Message]] = [
    messages.MaskedInputs,
    messages.MaskedWeights,
    messages.NextWeights,
    messages.DealtShares,
    messages.BundleKey,
    messages.CheckRows,
    messages.WeightShare,
    messages.InterceptShare,
]
OPENED_BY_EACH: list[type[Message]] = [messages.ScoreOpening, messages.OutputErrorOpening]
EVALUATED: list[Models] = [
    (messages.MaskedLossLabels, messages.HeldOutInputs, messages.MaskedScores),
    (messages.MaskedLossScores, messages.HeldOutWeights),
    (messages.LossShare, messages.HeldOutLabels),
    (messages.HeldOutDealtShares,),
    (messages.HeldOutScoreOpening,),
    (messages.HeldOutLossScores,),
    (messages.HeldOutLossShare,),
]
OF_ONE_ROW = messages.HeldOutDealtShares, messages.MaskedScores
BITS = dict.fromkeys(OF_ONE_ROW, 1 << 58)  # of one row's, whose lower bits hardly change what is told of all rows


def flip_in(
    sample: Sample, model: type[Message], which: str, field: str = "words", bits: int = BIT, word: int = -1
) -> tuple[Simulation, bool]:
    """A run with one flipped bit, which has happened."""
    flip = Flip([model], 0 if which == "first" else count(model, sample=sample) - 1, field, word, bits=bits)
    found = exact(sample, tap=flip, contribute=contributions(0))
    assert flip.where is not None
    return found


@pytest.mark.parametrize("model", TENSORS, ids=lambda model: model.__name__)
def test_one_flipped_bit_in_a_tensor_is_noticed(model: type[Message]) -> None:
    """In the last message of a kind: the run fails, or its model is not the oracle's."""
    sample = TWO_EPOCHS if model is messages.NextWeights else replace(TRAINED, columns=(6, 7))
    word = 0 if model is messages.DealtShares else -1  # the last one multiplies a cosine that may round to 0
    _, same = flip_in(sample, model, "last", word=word)
    assert not same


@dataclass(frozen=True)
class Weighed(Sample):
    """A job whose rows count by their class."""

    def description(self) -> TrainingJob:
        """The job, with weights."""
        plain = super().description()
        training = plain.training.model_copy(update={"class_weights": "balanced"})
        return plain.model_copy(update={"training": training})


@pytest.mark.parametrize(
    ("model", "which"),
    [(messages.MaskedRowWeights, "first"), (messages.MaskedErrors, "last")],
    ids=["MaskedRowWeights", "MaskedErrors"],
)
def test_one_flipped_bit_in_what_weighs_errors_is_noticed(model: type[Message], which: str) -> None:
    """Likewise."""
    sample = Weighed(TRAINED.columns, rows=TRAINED.rows, privacy=NOTHING)
    _, same = flip_in(sample, model, which)
    assert not same


@pytest.mark.parametrize(("model", "which"), [(messages.ScoreOpening, "first"), (messages.OutputErrorOpening, "last")])
def test_what_one_party_alone_hears_otherwise_fails_the_job(model: type[Message], which: str) -> None:
    """Three parties have opened different words; all end with that."""
    check_all_fail(TRAINED, model, which)


@pytest.mark.parametrize("models", EVALUATED, ids=names)
def test_one_flipped_bit_in_what_is_evaluated_is_noticed(models: Models) -> None:
    """The run fails, or just its loss or scores are not another run's; what the model is stays as it was."""
    check_noticed_in_what_is_evaluated(LOOKED_AT, models, BITS)


def check_all_fail(sample: Sample, model: type[Message], which: str, field: str = "words") -> None:
    """One flipped bit in what a party hears ends the job at all with the same reason."""
    simulation, _ = flip_in(sample, model, which, field)
    failures = {(run.state, run.failure.code if run.failure else "") for run in simulation.runs.values()}
    assert failures == {("failed", "arithmetic.differs")}


def check_noticed_in_what_is_evaluated(sample: Sample, models: Models, bits: Mapping[type[Message], int]) -> None:
    """The model stays as it was, or the run fails; else just the losses or scores of `models` are not another run's.

    Where a run may fail, one bit is flipped in it; else one in each of what is evaluated apart from the others.
    """
    flips = [Flip([model], count(model, sample=sample) - 1, bits=bits.get(model, BIT)) for model in models]
    simulation, same = exact(sample, tap=each_of(flips), contribute=contributions(0))
    assert all(flip.where is not None for flip in flips)
    assert same == simulation.done
    assert simulation.done or len(models) == 1
    if simulation.done:
        found, due = wrong(simulation, history_of(sample)), sorted(map(put_into, models))
        assert found == due or (sample.network is not None and {*due} <= {*found})  # two runs of a network may differ


def history_of(sample: Sample) -> History:
    """What the label party learns where nobody flips anything."""
    return undisturbed(sample)[1].label_run.context.history


def wrong(simulation: Simulation, expected: History) -> list[int]:
    """Which of losses, held-out losses and scores are not those of another run of the job, which rounds otherwise."""
    found = simulation.label_run.context.history
    assert found.scores is not None
    assert expected.scores is not None
    # The others jump where two rows change places.
    smooth = [{epoch: one["log_loss"] for epoch, one in run.metrics.items()} for run in (found, expected)]
    right = (
        found.losses == pytest.approx(expected.losses, abs=0.01),
        found.held_out_losses == pytest.approx(expected.held_out_losses, abs=1e-3),
        smooth[0] == pytest.approx(smooth[1], abs=1e-3) and np.abs(found.scores - expected.scores).max() < 1e-3,
    )
    return [number for number, one in enumerate(right) if not one]


def test_undisturbed_the_same_checks_hold() -> None:
    """Else they would notice everything."""
    assert wrong(exact(LOOKED_AT, contribute=contributions(0))[0], history_of(LOOKED_AT)) == []


def test_a_changed_hash_of_opened_words_fails_the_job_everywhere() -> None:
    """As words would that differ."""
    check_all_fail(TRAINED, messages.SpreadShare, "last", "opened")


def test_a_changed_spread_changes_no_model() -> None:
    """It ends a job at most, as scores would that run away."""
    simulation, same = flip_in(TRAINED, messages.SpreadShare, "last")
    assert same == simulation.done
    if not same:
        failure = simulation.label_run.failure
        assert failure is not None
        assert failure.code == "training.diverged"


def cosine_sums() -> Floats:
    """The sum of cosines that each epoch opens, in one run of a job whose scores are the same in each."""
    shares = dict[tuple[int, str], Words]()

    def note(address: Address, message: Message) -> Message:
        if isinstance(message, messages.SpreadShare):
            shares[address.epoch, address.sender] = message.words
        return message

    exact(LOOKED_AT, contribute=contributions(0), tap=note)
    epochs = sorted({epoch for epoch, _ in shares})
    sums = np.array([total(words for (at, _), words in shares.items() if at == epoch) for epoch in epochs])
    return decode(sums, 32)


def test_what_is_told_of_an_epochs_scores_is_under_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each party; what noise that is, is a matter of the function that draws it."""
    monkeypatch.setattr(blind_training, "spread_noise", lambda weights, _: np.zeros((1, len(weights)), np.uint64))
    bare = cosine_sums()
    monkeypatch.setattr(blind_training, "spread_noise", lambda weights, bits: encode(weights[None] / 4, bits[0]))
    assert cosine_sums() == pytest.approx(bare * 1.5, rel=0.01)  # of two parties, on cosines of nearly 1


def test_a_helper_that_is_told_of_fewer_steps_changes_no_model() -> None:
    """It deals later, or waits for what has been said; the numbers in its addresses count, not in the message."""
    _, same = flip_in(TRAINED, messages.StepsDone, "first", "done")
    assert same


def test_these_are_all_the_messages_with_tensors() -> None:
    """What else has words would be missed here."""
    seen = {model for model in undisturbed(TWO_EPOCHS)[0] if "words" in model.model_fields}
    scoring = {model for model in seen if model.__name__.startswith("Scoring")}
    weights = {model for model in seen if "Opening" in model.__name__ and "Score" not in model.__name__}
    assert seen - scoring - weights == {*TENSORS, *OPENED_BY_EACH, *chain(*EVALUATED), messages.SpreadShare} - weights
