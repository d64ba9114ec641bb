"""A label party that opens its weights falsely in one of two predictions reads a column, and is stopped now."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tercet.agents.protocol.weight_openings
import tercet.agents.roles.helper
from tercet.agents.models.model_part import ModelPart
from tercet.agents.protocol.weight_openings import receive_seeds
from tercet.agents.roles import applied_part, prediction
from tercet.agents.session.context import JobContext
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.scoring.linear import scoring_steps
from tercet.mpc.scoring.openings import ModelMasks, commitment, guard_exponent
from tercet.schemas.files.job import Network
from tercet.schemas.messages.kinds import ModelOpening, ScoringTerms, ScoringWeights, WeightMaskSeed
from tests.agents.recording import hear_prediction
from tests.agents.roles.test_prediction import newcomers, predict, refused, trained
from tests.agents.world import NOTHING, Sample
from tests.attacks.lying_label_party import ALPHA, LABEL, PARTNER, Scene

LIE = 4.0


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Eight hundred people."""
    return Scene()


def test_two_openings_of_one_model_give_a_column_exactly(scene):
    """With the protection taken out: masks of weights are fresh in each prediction, and weights are opened anew."""
    honest = scene.predict(1, once=False)
    lied = scene.predict(2, once=False, lie=LIE)
    assert scene.read((lied - honest) / LIE) > 0.99
    assert scene.guessed() < 0.06


def test_what_is_opened_once_is_the_same_in_all_predictions(scene):
    """So the partner has it before the first one, and there is nothing to say falsely in the second."""
    (one, weights), (other, again) = (scene.masks(once=True, run=run) for run in (1, 2))
    assert np.array_equal(*(masks[LABEL]("V", PARTNER, LABEL, (6, 1)) for masks in (weights, again)))
    step = next(scoring_steps(9, 9, 0, ALPHA))  # all other masks are fresh
    assert not np.intersect1d(*(masks(LABEL, HELPER)("U", LABEL, LABEL, step, (9, 5)) for masks in (one, other))).size
    first, second = (scene.predict(run, once=True, lie=LIE) for run in (1, 2))
    assert np.abs(first - second).max() < 2.0**-3  # the noise of the helper's view at most: the lie is in both
    assert scene.read((first - second) / LIE) < scene.guessed() + 0.02


def test_one_lie_alone_reads_no_value(scene):
    """Scores have the constant times the column and all else: as large as the guard lets it be."""
    size = scene.limit / 16
    lied = scene.predict(1, once=True, lie=size, limit=scene.limit)
    assert scene.read((lied - lied.mean()) / size) < 0.5


def test_an_enormous_constant_is_stopped(scene):
    """Beside it all else of a score would be nothing; without the guard nobody would see it."""
    with pytest.raises(Diverged, match="a score exceeded"):
        scene.predict(1, once=True, lie=200.0, limit=scene.limit)
    assert scene.read(scene.predict(1, once=True, lie=200.0) / 200.0) > 0.99
    scene.predict(1, once=True, limit=scene.limit)


def test_another_seed_at_the_helper_would_be_as_good_as_another_opening(scene):
    """So it has to be the one that the training's helper has committed to."""
    honest = scene.predict(1, once=True)
    lied = scene.predict_by_another_seed(2, LIE)
    assert scene.read((lied - honest) / LIE) > 0.99
    seed = bytes(range(32))
    assert commitment(seed) != commitment(seed[::-1])


@pytest.mark.parametrize(("largest", "exponent"), [(0.0, 3), (1.9, 3), (2.0, 3), (2.01, 4), (4.0, 4), (1000.0, 12)])
def test_the_guard_is_the_power_of_two_above_four_times_the_largest(largest, exponent):
    """And leaves a model of a few small steps some room."""
    assert guard_exponent(largest) == exponent


def test_masks_of_a_model_are_its_partys_alone():
    """Another seed, another pair of parties or another name gives other words; a short seed is none."""
    names = ("bank", "card", "telco")
    words = {
        ModelMasks(bytes([seed]) * 32, names)(mask, i, j, (4, 2)).tobytes()
        for seed in (1, 2) for mask in ("V", "g/0") for i, j in ((0, 1), (1, 0), (2, 1))
    }  # fmt: skip
    assert len(words) == 12
    turned = ModelMasks(bytes([1]) * 32, names[::-1])("V", 2, 1, (4, 2))
    assert np.array_equal(turned, ModelMasks(bytes([1]) * 32, names)("V", 0, 1, (4, 2)))
    with pytest.raises(ValueError, match="32 bytes"):
        ModelMasks(b"short", names)


# --- between agents

SAMPLES = [
    Sample((4, 3), rows=160, epochs=3, rate=0.3, label=1, release="shared", privacy=NOTHING),
    Sample((4, 3), rows=160, epochs=3, rate=0.3, label=1, release="shared"),
    Sample((4, 3), rows=160, epochs=3, rate=0.3, label=0, release="label"),
    Sample((4, 3), label=1, rows=120, batch=48, model="mlp", network=Network(hidden=(5, 4)), release="owners"),
]


@pytest.mark.parametrize(
    "sample", SAMPLES, ids=lambda one: f"{one.model} {one.release}{' blind' if one.privacy else ''}"
)
def test_a_label_party_that_changes_its_masks_is_named_by_everybody(sample: Sample, tmp_path: Path, monkeypatch):
    """In its second prediction; no score is told before that is found."""
    trained(sample, tmp_path)
    tables, hand_over, label = (
        newcomers(sample),
        tercet.agents.protocol.weight_openings._seed_from_part,
        sample.parties[sample.label],
    )
    first = hear_prediction(sample, tmp_path, tables)
    assert first.simulation.done
    assert not {ModelOpening, ScoringWeights} & {type(message) for _, message in first.ear.said}

    async def lie(context: JobContext, arrays: Any) -> None:
        seed = hand_over(arrays)
        message = WeightMaskSeed(secret=bytes(32 - len(seed)) + seed[::-1] if context.is_label_party else seed)
        await context.mailbox.send(message, [context.description.helper], context.deadline("step"))

    monkeypatch.setattr("tercet.agents.roles.prediction.send_seed", lie)
    second = predict(sample, tmp_path, tables)
    refused(second, "model.openings", label)
    assert not any(run.scores for run in second.runs.values())


@pytest.mark.parametrize("what", ["seeds", "exponent"])
def test_terms_with_another_seed_or_bound_are_refused_by_the_partners(what: str, tmp_path: Path, monkeypatch):
    """The helper has no part of the model, and takes the terms as they are; so the partners must look."""
    sample, honest = SAMPLES[1], applied_part.scoring_terms
    trained(sample, tmp_path)

    def lie(context: JobContext, part: ModelPart) -> ScoringTerms:
        terms = honest(context, part)
        changes = {"seeds": (b"1" * 32, *terms.seeds[1:]), "exponent": 40}
        return terms.model_copy(update={what: changes[what]}) if context.is_label_party else terms

    monkeypatch.setattr(prediction, "scoring_terms", lie)
    refused(predict(sample, tmp_path, newcomers(sample)), "job.terms", sample.parties[sample.label])


def test_without_the_comparison_of_seeds_nobody_would_notice_a_small_shift(tmp_path: Path, monkeypatch):
    """What is planted here: the helper takes any seed. The guard alone then stops what was not searched for."""
    sample = SAMPLES[1]
    trained(sample, tmp_path)

    async def careless(context: JobContext, scoring: ScoringTerms) -> Any:
        monkeypatch.setattr("tercet.agents.protocol.weight_openings.commitment", lambda _: b"")
        return await receive_seeds(context, scoring.model_copy(update={"seeds": (b"",) * len(sample.parties)}))

    async def lie(context: JobContext, arrays: Any) -> None:
        message = WeightMaskSeed(secret=bytes([3 + context.is_label_party]) * 32)
        await context.mailbox.send(message, [context.description.helper], context.deadline("step"))

    monkeypatch.setattr("tercet.agents.roles.prediction.send_seed", lie)
    monkeypatch.setattr(tercet.agents.roles.helper, "receive_seeds", careless)
    refused(predict(sample, tmp_path, newcomers(sample)), "scoring.range", sample.parties[sample.label])


def test_a_row_beyond_the_guard_ends_a_prediction_and_says_what_to_do(tmp_path: Path):
    """A row that is far out in every column; no score of the job is written."""
    sample = replace(SAMPLES[1], model="linear")
    trained(sample, tmp_path)
    tables = newcomers(sample)
    for party, table in tables.items():
        for name, values in table.items():
            if name.startswith(f"{party}_quantity"):
                values[20] = "1e9"
    run = predict(sample, tmp_path, tables)
    refused(run, "scoring.range", sample.parties[sample.label])
    assert run.label_run.failure is not None
    assert "leave rows out" in run.label_run.failure.reason
