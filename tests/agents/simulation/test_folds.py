"""A job with folds trains a model without each fold, and one of all rows: the oracle's, by masks of their own.

What is opened of a model is opened of the last alone.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tercet.agents.scoring.scoring_pass
import tercet.agents.session.agreed
import tercet.agents.training.sent_rows
from tercet.agents.alignment.aligned_table import AlignedTable
from tercet.agents.evaluation.metrics import metrics
from tercet.agents.roles.data_party import DataPartyRole, Trained
from tercet.agents.roles.folds import EPOCHS
from tercet.agents.session.agreed import AgreedContext
from tercet.agents.simulation import exactness
from tercet.agents.simulation.exactness import Simulation
from tercet.mpc.arithmetic.fixed import Floats, decode
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.blind.start import to_layers
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import PairMasks
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.mpc.reference.network import NetworkWeights
from tercet.schemas.files.job import Evaluation, canonical_digest
from tercet.schemas.messages.kinds import Start
from tests.agents.networks import mlp
from tests.agents.recording import Ear
from tests.agents.world import NOTHING, SCORES, Sample, contributions, run

K = 3
FOLDS = Evaluation(folds=K, loss=True)
SHOWN = Sample(privacy=SCORES, evaluation=FOLDS, epochs=1)
BLIND = Sample(privacy=NOTHING, label=1, evaluation=FOLDS, epochs=1)
SHARED = Sample(model="poisson", privacy=NOTHING, release="shared", evaluation=FOLDS)  # two epochs
SHOWN_NETWORK = mlp((5, 4), 4, activation="relu", privacy=SCORES, evaluation=FOLDS, epochs=1)
NETWORK = mlp((5, 4), 4, 3, activation="silu", privacy=NOTHING, label=1, evaluation=FOLDS, epochs=1)
BOTH = {"shown": SHOWN, "blind": BLIND}

Trainings = dict[int | None, dict[str, Trained]]  # by fold and party


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    """Every training of every data party."""
    found: Trainings = defaultdict(dict)
    train = DataPartyRole._train

    async def noting(role: DataPartyRole, setup: Any) -> Trained:
        result = await train(role, setup)
        found[result.context.fold][result.context.me] = result
        return result

    monkeypatch.setattr(DataPartyRole, "_train", noting)
    return found


SAMPLES = {
    "shown": SHOWN, "for the label party": replace(BLIND, release="label"), "shared": SHARED,
    "shown network": SHOWN_NETWORK, "network": NETWORK,
}  # fmt: skip


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
async def test_each_model_is_the_oracles_and_a_folds_is_opened_to_nobody(
    tmp_path: Path, sample: Sample, trained: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ear = Ear()
    simulation = await run(sample, tmp_path, tap=ear.tap)
    assert simulation.done, simulation.label_run.failure
    opened = {address.epoch // EPOCHS for address, message in ear.said if message.round == "release"}
    assert opened == (set() if sample.release == "shared" else {K})
    assert {address.epoch for address, message in ear.said if isinstance(message, Start)} == {0}
    assert exactness.bit_exact(simulation)
    assert [*trained] == [*range(1, K + 1), None]
    for parties in trained.values():
        monkeypatch.setattr(exactness, "data_roles", lambda _, parties=parties: in_order(simulation, parties))
        assert exactness.same(oracle_words(simulation), joint_words(simulation))
    begun = [one.start.own.tobytes() for parties in trained.values() for one in parties.values()]
    assert sample.network is None or len({*begun}) == len(begun), "two trainings draw the same first weights"


async def test_each_row_is_held_out_once_and_scored_by_the_model_of_the_others(
    tmp_path: Path, trained: Trainings
) -> None:
    sample = replace(SHOWN, score_noise=0.0)
    simulation = await run(sample, tmp_path)
    status = simulation.label_run.status()
    marks = {fold: parties["bank"].held_out for fold, parties in trained.items()}
    assert not marks.pop(None).any()
    assert np.array_equal(sum(one.astype(int) for one in marks.values()), np.ones(sample.rows))
    for fold, found in enumerate(status.folds, start=1):
        label = next(one for one in trained[fold].values() if one.labels is not None)
        assert label.labels is not None
        scores = plain_scores(in_order(simulation, trained[fold]))
        history = label.context.history
        assert history.scores is not None
        assert history.scores == pytest.approx(scores[marks[fold]], abs=1e-3)
        assert found == metrics("logistic", label.labels.evaluated.compared, history.scores)
    assert len(status.folds) == K
    for name, mean in status.metrics.items():
        values = [found[name] for found in status.folds]
        assert mean == pytest.approx(statistics.fmean(values))
        assert status.deviations[name] == pytest.approx(statistics.stdev(values))
    for run_ in simulation.runs.values():
        assert run_ is simulation.label_run or not run_.status().folds


async def test_jobs_that_name_a_split_have_the_same_folds(tmp_path: Path, trained: Trainings) -> None:
    held_out = []
    for seed, rate in ((1, 0.5), (2, 0.25)):
        sample = replace(SHOWN, rate=rate, evaluation=Evaluation(folds=K, split="spring"))
        trained.clear()
        await run(sample, tmp_path, contribute=contributions(seed))
        ids = trained[1]["bank"].own
        held_out.append([set(ids.rows[trained[fold]["bank"].held_out]) for fold in range(1, K + 1)])
    assert held_out[0] == held_out[1]


# --- no two folds share a mask


class MasksOfFolds:
    """Notes every mask by the fold that it is drawn in, and every noise on scores."""

    def __init__(self) -> None:
        self.masks: dict[tuple[Any, ...], Words] = {}
        self.noise: dict[tuple[str, int | None], Words] = {}

    def shared(self) -> int:
        """Count words that stand under more than one mask."""
        words = np.concatenate([words.ravel() for words in self.masks.values()])
        return words.size - np.unique(words).size


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> MasksOfFolds:
    """All that is drawn in a run, by fold; terms shape no key, as if all folds had the same."""
    found, folds = MasksOfFolds(), dict[int, int | None]()
    make, make_rows, call = AgreedContext.masks, tercet.agents.training.sent_rows.row_masks, PairMasks.__call__
    own_noise, digest = tercet.agents.scoring.scoring_pass.own_noise, canonical_digest
    alive: list[PairMasks] = []  # so that no two have one identity

    def in_fold(masks: PairMasks, context: AgreedContext) -> PairMasks:
        alive.append(masks)
        folds[id(masks)] = context.fold
        return masks

    def spy(masks: PairMasks, mask: str, i: int, j: int, step: Step, shape: tuple[int, int]) -> Words:
        words = call(masks, mask, i, j, step, shape)
        place = folds[id(masks)], *masks._info[3:], mask, i, j, step.epoch, step.position
        if not mask.startswith("key"):  # a bundle's, of which its masks are made
            found.masks[place] = words
        return words

    def noise(context: AgreedContext, private: bytes, purpose: str, **more: Any) -> ScoreNoise | None:
        made = own_noise(context, private, purpose, **more)
        if made is not None:
            step = Step(0, 0, 0, 0, 4, 1.0, 1.0, 1.0, 1.0)
            found.noise[context.me, context.fold] = made._stream.words(0, 0, 0, (step.rows, 1))
        return made

    monkeypatch.setattr(AgreedContext, "masks", lambda context, *rest: in_fold(make(context, *rest), context))
    for module in (tercet.agents.training.sent_rows, tercet.agents.training.blind_training):
        monkeypatch.setattr(module, "row_masks", lambda context, *rest: in_fold(make_rows(context, *rest), context))
    monkeypatch.setattr(PairMasks, "__call__", spy)
    monkeypatch.setattr("tercet.agents.training.epoch_evaluation.own_noise", noise)
    monkeypatch.setattr(tercet.agents.session.agreed, "canonical_digest", without_terms(digest))
    return found


def without_terms(digest: Callable[[str, Any], bytes], *, planted: bool = False) -> Callable[[str, Any], bytes]:
    """Leave the terms out of a job's shape; as a planted fault, the fold too."""

    def shape(domain: str, value: Any) -> bytes:
        if domain == "tercet job shape":
            description, _, *fold = value
            value = [description, *([] if planted else fold)]
        return digest(domain, value)

    return shape


@pytest.mark.parametrize("sample", [*BOTH.values(), NETWORK], ids=[*BOTH, "network"])
async def test_no_two_folds_share_a_mask_or_noise(tmp_path: Path, sample: Sample, book: MasksOfFolds) -> None:
    simulation = await run(sample, tmp_path)
    assert simulation.done
    assert {place[0] for place in book.masks} == {*range(1, K + 1), None}
    assert book.shared() == 0
    assert len({words.tobytes() for words in book.noise.values()}) == len(book.noise) == K


@pytest.mark.parametrize("sample", BOTH.values(), ids=BOTH)
async def test_a_planted_mask_of_two_folds_is_found(
    tmp_path: Path, sample: Sample, book: MasksOfFolds, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = without_terms(canonical_digest, planted=True)
    monkeypatch.setattr(tercet.agents.session.agreed, "canonical_digest", planted)
    await run(sample, tmp_path)
    assert book.shared() > 0


async def test_a_planted_noise_of_two_folds_is_found(
    tmp_path: Path, book: MasksOfFolds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AlignedTable, "of_fold", lambda own, context: replace(own, context=context))
    await run(SHOWN, tmp_path)
    assert len({words.tobytes() for words in book.noise.values()}) == 1


def in_order(simulation: Simulation, parties: dict[str, Trained]) -> dict[str, Trained]:
    """As the job numbers them."""
    return {party: parties[party] for party in simulation.description.data_parties}


def oracle_words(simulation: Simulation) -> list[Words]:
    """What the same training in plaintext ends with."""
    if exactness.label_party(simulation)[0].context.plan.network is not None:
        return exactness.network_oracle(simulation)
    oracle = exactness.oracle_words(simulation)
    return [*oracle.blocks, oracle.intercept]


def opened(parties: dict[str, Trained]) -> NetworkWeights:
    """What the data parties' shares of one training add up to."""
    return exactness.opened_shares([to_layers(one.shares) for one in parties.values()])


def joint_words(simulation: Simulation) -> list[Words]:
    """Its blocks, and what is above them."""
    joint = opened(exactness.data_roles(simulation))
    return [*joint.blocks, *joint.upper, *joint.biases]


def plain_scores(parties: dict[str, Trained]) -> Floats:
    """Of all common rows by one training's model."""
    plan, joint = next(iter(parties.values())).context.plan, opened(parties)
    scores = plan.intercept(joint.biases[0])
    for one, block in zip(parties.values(), joint.blocks, strict=True):
        words = one.all_words.read_rows(np.arange(one.all_words.shape[0]))
        scores = scores + decode(words, plan.fx) @ plan.weights(block)
    return scores[:, 0]
