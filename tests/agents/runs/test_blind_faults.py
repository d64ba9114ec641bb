"""What befalls jobs in which the helper sees nothing: silence, wrong shapes, other words, scores that run away.

Every party ends with the same reason, and with whose fault it is.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tercet.agents.core.problems import UNDECIDED
from tercet.schemas.files.job import Evaluation, Network, Privacy
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import (
    BundleKey,
    Message,
    ScoreOpening,
    SpreadShare,
)
from tests.agents.runs.test_network_failures import left, shorter
from tests.agents.runs.test_waits import TELCO
from tests.agents.scenes import (
    BANK,
    CARD,
    PATIENT,
    job,
    make_table,
    off,
    party_settings,
    scene,
    three,
)
from tests.agents.world import NOTHING

ALL = Evaluation(holdout=0.25, metrics="epoch", loss=True, held_out_loss=True)
BLIND = {"epochs": 2, "evaluation": ALL, "privacy": NOTHING}
MUCH_CHECKED = NOTHING.model_copy(update={"checked": 0.5})  # else a run may open no bundle
NETWORK = BLIND | {"model": "mlp", "network": Network(hidden=(5, 4), activation="silu")}
THREE = BLIND | {"tables": ((BANK, "customers"), (CARD, "customers"), (TELCO, "customers"))}

# --- what is wrong

SHAPED: list[tuple[str, type[Message]]] = [
    (CARD, ScoreOpening),
    (CARD, SpreadShare),
    (CARD, BundleKey),
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
        # Which bundles are opened is drawn, and whose turn each is: in so many epochs everybody has one.
        asked = BLIND | {"privacy": MUCH_CHECKED, "epochs": 12 if model is BundleKey else 2}
        reason = off(await stage.run(job(**asked)), "message.shape", sender)
        assert "of a wrong shape" in reason
        assert not left(tmp_path)


async def test_parties_that_open_different_words_end_at_the_end_of_the_epoch(tmp_path: Path) -> None:
    """A party that tells two others different words is found: its model would be nobody's."""
    settings = three(tmp_path, PATIENT)
    make_table(tmp_path / f"{TELCO}.csv", seed=3)
    settings[TELCO] = party_settings(tmp_path, TELCO, PATIENT)
    async with scene(settings, tmp_path) as stage:

        def tap(address: Address, message: Message) -> Message:
            if (address.sender, address.receiver, address.epoch, address.step) != (CARD, TELCO, 0, 1):
                return message
            if not isinstance(message, ScoreOpening):
                return message
            words = message.words.copy()
            words[0, 0] ^= np.uint64(1)
            return message.model_copy(update={"words": words})

        stage.tap = tap
        ended = await stage.run(job(accept_narrow=True, **THREE))
        reason = off(ended, "arithmetic.differs", UNDECIDED)  # what each of them knows does not tell them apart
        assert "have opened different words in epoch 0" in reason
        assert "whose fault it is, bank or card or telco" in reason
        assert "same version" in reason
        assert not left(tmp_path)


async def test_scores_that_run_away_end_the_job_with_what_to_change(tmp_path: Path) -> None:
    """After the epoch in which they do, at every party; the submitter can mend it."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        ended = await stage.run(job(model="linear", rate=400.0, epochs=10, privacy=NOTHING), CARD)
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
