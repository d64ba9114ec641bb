"""What befalls jobs in which the helper sees nothing: silence, wrong shapes, other words, scores that run away.

Every party ends with the same reason, and with whose fault it is.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tercet.agents.core.problems import UNDECIDED
from tercet.schemas.files.job import Evaluation, Network, Privacy
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import (
    CheckCommitment,
    CheckOpening,
    CheckRows,
    DealtShares,
    HeldOutDealtShares,
    HeldOutHiddenOpening,
    HeldOutInputs,
    HeldOutLossScores,
    HeldOutLossShare,
    HeldOutNarrowOpening,
    HeldOutScoreOpening,
    HeldOutWeightOpening,
    HeldOutWeights,
    HiddenOpening,
    LossShare,
    MaskedInputs,
    MaskedLossLabels,
    MaskedLossScores,
    MaskedScores,
    MaskedWeights,
    Message,
    NarrowingDealtShares,
    NarrowingOpening,
    NarrowOpening,
    NextWeights,
    OutputErrorOpening,
    PartialScores,
    RowMaskKey,
    ScoreOpening,
    ScoringDealtShares,
    ScoringHiddenOpening,
    ScoringInputs,
    ScoringScoreOpening,
    SlopeOpening,
    SpreadShare,
    StepsDone,
    TruncationOpening,
    WeightMaskSeed,
    WeightOpening,
)
from tests.agents.runs.test_hung_anywhere import DEADLINES, TELCO, Point, Shape, hang
from tests.agents.runs.test_network_failures import left, shorter
from tests.agents.scenes import (
    BANK,
    CARD,
    NOTARY,
    PATIENT,
    Scene,
    job,
    make_table,
    off,
    party_settings,
    prediction,
    scene,
    three,
)
from tests.agents.scenes import quick_switches as quick_switches  # a fixture
from tests.agents.world import NOTHING

ALL = Evaluation(holdout=0.25, metrics="epoch", loss=True, held_out_loss=True)
BLIND = {"epochs": 2, "evaluation": ALL, "privacy": NOTHING}
NETWORK = BLIND | {"model": "mlp", "network": Network(hidden=(5, 4), activation="silu")}
SHAPES = {
    "two": Shape(BLIND),
    "network": Shape(NETWORK),
    "three": Shape(
        BLIND | {"tables": ((BANK, "customers"), (CARD, "customers"), (TELCO, "customers"))},
        (BANK, CARD, TELCO, NOTARY),
    ),
    "owners": Shape({"epochs": 1, "privacy": NOTHING, "release": "owners"}, predicts=True),
    "label": Shape({"epochs": 1, "privacy": NOTHING, "release": "label"}, predicts=True),
}
AT_ONCE = 7  # scenes in one event loop
HANGS: list[tuple[str, str, str, type[Message], int]] = [
    ("two", CARD, BANK, MaskedInputs, 1),
    ("two", NOTARY, CARD, DealtShares, 2),
    ("two", CARD, BANK, ScoreOpening, 1),
    ("two", BANK, CARD, OutputErrorOpening, 2),  # which rows are held out decides on one step or two an epoch
    ("two", CARD, BANK, MaskedLossScores, 2),
    ("two", CARD, BANK, SpreadShare, 1),
    ("two", CARD, BANK, CheckCommitment, 1),
    ("two", BANK, CARD, CheckOpening, 2),
    ("two", CARD, NOTARY, RowMaskKey, 1),
    ("two", BANK, NOTARY, StepsDone, 1),
    ("two", CARD, BANK, HeldOutScoreOpening, 3),  # after those of two steps
    ("two", CARD, BANK, HeldOutLossScores, 3),
    ("two", CARD, BANK, MaskedScores, 1),
    ("three", TELCO, CARD, ScoreOpening, 2),
    ("three", CARD, TELCO, SpreadShare, 2),
    ("three", NOTARY, TELCO, DealtShares, 2),
    ("network", CARD, BANK, HiddenOpening, 3),
    ("network", BANK, CARD, TruncationOpening, 2),
    ("network", CARD, BANK, SlopeOpening, 1),
    ("network", CARD, BANK, NarrowingOpening, 1),
    ("network", NOTARY, BANK, NarrowingDealtShares, 1),
    ("network", BANK, CARD, ScoringScoreOpening, 1),
    ("network", CARD, BANK, ScoringHiddenOpening, 2),
    ("network", CARD, BANK, HeldOutHiddenOpening, 1),
]


async def test_whoever_hangs_at_a_message_of_a_step_is_named_by_every_other_party(tmp_path: Path) -> None:
    """Just before it is sent, whoever is to have it."""
    places, wrong = asyncio.Semaphore(AT_ONCE), list[str]()

    async def one(shape: str, point: Point) -> None:
        try:
            async with places:
                reported = await hang(SHAPES[shape], point, tmp_path / f"{shape} {point}")
            assert reported is not None, "never said"
            assert f"waits for {point.party}" in reported
        except* (AssertionError, TimeoutError) as errors:
            wrong.append(f"{shape}, {point}: {errors.exceptions}")

    points = [(shape, Point(party, model.kind, to, n, after=False)) for shape, party, to, model, n in HANGS]
    await asyncio.gather(*(one(*which) for which in points))
    assert not wrong, "\n".join(wrong)


MESSAGES: list[tuple[str, str, str, type[Message], int]] = [  # which as a rule travel with others
    ("two", CARD, BANK, CheckRows, 2),
    ("two", CARD, BANK, MaskedWeights, 1),
    ("three", BANK, TELCO, MaskedWeights, 1),
    ("two", CARD, BANK, NextWeights, 1),
    ("three", TELCO, BANK, NextWeights, 2),
    ("two", BANK, CARD, HeldOutWeights, 1),
    ("two", NOTARY, BANK, HeldOutDealtShares, 1),
    ("three", NOTARY, BANK, HeldOutDealtShares, 2),
    ("owners", CARD, BANK, PartialScores, 1),
    ("label", CARD, BANK, ScoringInputs, 1),
    ("label", BANK, CARD, ScoringInputs, 1),
    ("label", CARD, NOTARY, WeightMaskSeed, 1),
    ("label", NOTARY, BANK, ScoringDealtShares, 1),
    ("label", CARD, BANK, MaskedScores, 1),
    ("network", CARD, BANK, WeightOpening, 2),
    ("network", BANK, CARD, NarrowOpening, 2),
    ("network", CARD, BANK, HeldOutWeightOpening, 1),
    ("network", BANK, CARD, HeldOutNarrowOpening, 1),
]


def hang_before(stage: Scene, party: str, receiver: str, model: type[Message], number: int) -> None:
    """Let a party hang when it is about to say something for so manieth time, alone or along with more."""
    said = 0

    def tap(address: Address, message: Message) -> Message:
        nonlocal said
        if isinstance(message, model) and (address.sender, address.receiver) == (party, receiver):
            said += 1
            if said == number:
                stage.hang(party)
        return message

    stage.tap = tap


async def hang_in(shape: Shape, place: tuple[str, str, type[Message], int], folder: Path) -> str:
    """What the others make of a run in which a party hangs."""
    async with scene(shape.settings(folder), folder) as stage:
        if shape.changes.get("release") == "label":
            stage.pin(CARD, BANK, may_hold_model=True)
        trained = (await stage.run(shape.job()))[BANK].job if shape.predicts else ""
        await stage.stop()
        hang_before(stage, *place)
        await stage.start()
        job_id = stage.submit(prediction(trained) if shape.predicts else shape.job())
        others = [party for party in shape.parties if party != place[0]]
        ended = await stage.ended(job_id, *others, seconds=DEADLINES.start + 4 * DEADLINES.verdict + 4.0)
        assert stage.memory_broker.is_held(place[0]), "never said"
        return off(ended, "party.silent", place[0])


async def test_whoever_hangs_at_what_travels_along_or_in_a_prediction_is_named(tmp_path: Path) -> None:
    """By every other party, each of which waits for it alone."""
    places, wrong = asyncio.Semaphore(AT_ONCE), list[str]()

    async def one(name: str, place: tuple[str, str, type[Message], int]) -> None:
        label = f"{name} {place[0]} {place[2].__name__} {place[3]} {place[1]}"
        try:
            async with places:
                reported = await hang_in(SHAPES[name], place, tmp_path / label)
            assert f"waits for {place[0]}" in reported, reported
        except* (AssertionError, TimeoutError) as errors:
            wrong.append(f"{label}: {errors.exceptions}")

    await asyncio.gather(*(one(name, (party, to, model, n)) for name, party, to, model, n in MESSAGES))
    assert not wrong, "\n".join(wrong)


# --- what is wrong

SHAPED: list[tuple[str, type[Message]]] = [
    (CARD, MaskedInputs),
    (CARD, MaskedWeights),
    (CARD, NextWeights),
    (CARD, CheckRows),
    (NOTARY, DealtShares),
    (BANK, MaskedLossLabels),
    (CARD, ScoreOpening),
    (CARD, OutputErrorOpening),
    (CARD, MaskedLossScores),
    (CARD, SpreadShare),
    (CARD, LossShare),
    (CARD, MaskedScores),
    (CARD, HeldOutInputs),
    (CARD, HeldOutWeights),
    (NOTARY, HeldOutDealtShares),
    (CARD, HeldOutScoreOpening),
    (CARD, HeldOutLossScores),
    (CARD, HeldOutLossShare),
]


def smaller(sender: str, model: type[Message]) -> Callable[[Address, Message], Message]:
    """See `shorter`; other fields stay."""
    if model is not SpreadShare:
        return shorter(sender, model)

    def tap(address: Address, message: Message) -> Message:
        if address.sender != sender or not isinstance(message, SpreadShare):
            return message
        return message.model_copy(update={"words": np.zeros((2, 1), np.uint64)})

    return tap


@pytest.mark.parametrize(("sender", "model"), SHAPED, ids=lambda one: getattr(one, "__name__", one))
async def test_a_tensor_of_another_shape_is_blamed_on_its_sender(
    tmp_path: Path, sender: str, model: type[Message]
) -> None:
    """At once, in whichever of a party's loops it is found: the others of them wait in vain for much longer."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        stage.tap = smaller(sender, model)
        reason = off(await stage.run(job(**BLIND)), "message.shape", sender)
        assert "of a wrong shape" in reason
        assert not left(tmp_path)


SHAPED_LAYERS = [
    *((CARD, model) for model in (HiddenOpening, WeightOpening, NarrowOpening, TruncationOpening, SlopeOpening)),
    *((CARD, model) for model in (HeldOutHiddenOpening, HeldOutWeightOpening, HeldOutNarrowOpening)),
    *((CARD, model) for model in (NarrowingOpening, ScoringHiddenOpening, ScoringScoreOpening)),
    (NOTARY, NarrowingDealtShares),
]


@pytest.mark.parametrize(("sender", "model"), SHAPED_LAYERS, ids=lambda one: getattr(one, "__name__", one))
async def test_so_is_one_of_a_hidden_layer(tmp_path: Path, sender: str, model: type[Message]) -> None:
    """In a step, in the held-out loss, and in what is done with a model."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        stage.tap = shorter(sender, model)
        reason = off(await stage.run(job(**NETWORK)), "message.shape", sender)
        assert "of a wrong shape" in reason
        assert not left(tmp_path)


@pytest.mark.parametrize("model", [ScoreOpening, OutputErrorOpening], ids=lambda model: model.__name__)
async def test_parties_that_open_different_words_end_at_the_end_of_the_epoch(
    tmp_path: Path, model: type[Message]
) -> None:
    """A party that tells two others different words is found: its model would be nobody's."""
    settings = three(tmp_path, PATIENT)
    make_table(tmp_path / f"{TELCO}.csv", seed=3)
    settings[TELCO] = party_settings(tmp_path, TELCO, PATIENT)
    async with scene(settings, tmp_path) as stage:

        def tap(address: Address, message: Message) -> Message:
            if (address.sender, address.receiver, address.epoch, address.step) != (CARD, TELCO, 0, 1):
                return message
            if not isinstance(message, model):
                return message
            words = message.words.copy()  # type: ignore[attr-defined]
            words[0, 0] ^= np.uint64(1)
            return message.model_copy(update={"words": words})

        stage.tap = tap
        ended = await stage.run(SHAPES["three"].job())
        reason = off(ended, "arithmetic.differs", UNDECIDED)  # what each of them knows does not tell them apart
        assert "have opened different words in epoch 0" in reason
        assert "whose fault it is, bank or card or telco" in reason
        assert "same version" in reason
        assert not left(tmp_path)


@pytest.mark.parametrize("model", ["logistic", "linear"])
async def test_scores_that_run_away_end_the_job_with_what_to_change(tmp_path: Path, model: str) -> None:
    """After the epoch in which they do, at every party; the submitter can mend it."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        ended = await stage.run(job(model=model, rate=400.0, epochs=10, privacy=NOTHING), CARD)
        reason = off(ended, "training.diverged", CARD)
        for words in ("smaller rate", "more l2", "larger q", 'helper_sees = "scores"'):
            assert words in reason
        assert not left(tmp_path)


async def test_hidden_pre_activations_that_run_away_end_the_job_with_what_to_change(tmp_path: Path) -> None:
    """The series of the layer is what has to reach further, not that of the scores."""
    narrow = Privacy(helper_sees="nothing", hidden_q=8, hidden_terms=16)
    changes = {"network": Network(hidden=(8,), activation="softplus"), "rate": 30.0, "epochs": 10, "privacy": narrow}
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        ended = await stage.run(job(**NETWORK | changes | {"evaluation": Evaluation()}), CARD)
        reason = off(ended, "training.diverged", CARD)
        assert "hidden pre-activations are about to leave the series, which holds up to" in reason
        assert "larger hidden_q under [privacy]" in reason
        assert not left(tmp_path)
