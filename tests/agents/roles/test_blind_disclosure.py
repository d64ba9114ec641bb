"""Where the helper sees nothing, no tensor reaches it, in a training or in a prediction of its model.

The label party learns scores that are the plaintext model's, within the partners' noise; nobody else has a part of any.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tercet.agents.simulation.simulate import bit_exact
from tercet.schemas.files.job import EarlyStopping, Evaluation
from tercet.schemas.messages.address import Address, parse_address
from tercet.schemas.messages.kinds import Message, Pseudonyms, ScoringShare, StepsDone, WeightMaskSeed
from tests.agents.disclosure import check_keys, check_kinds, check_roles, check_split
from tests.agents.networks import mlp
from tests.agents.networks import plain_scores as plain_network_scores
from tests.agents.networks_disclosure import check_words_uniform
from tests.agents.recording import Heard, Tables, hear, hear_prediction
from tests.agents.roles.test_prediction import check_scores, newcomers, plain_scores, scores_of, trained
from tests.agents.world import HELPER, NOTHING, Sample

CONTROL = {
    "accept", "aligned rows", "approvers", "failure", "go on", "handshake", "order commitment", "progress",
    "pseudonyms", "ready", "received", "released", "sizes", "start", "terms", "transcript",
}  # fmt: skip
TRAINED = Sample(
    (5, 4, 3), rows=120, batch=32, epochs=3, label=1, release="shared", score_noise=0.0, privacy=NOTHING,
    evaluation=Evaluation(holdout=0.3, metrics="epoch", loss=True, held_out_loss=True),
    early_stopping=EarlyStopping(on="loss", patience=3),
)  # fmt: skip
NETWORK = mlp(
    (5, 4, 3), 8, 4, rows=600, batch=48, epochs=4, label=1, activation="silu", release="shared", privacy=NOTHING,
    evaluation=TRAINED.evaluation, early_stopping=EarlyStopping(on="held_out_loss", patience=7),
)  # fmt: skip
WITHIN = 2.0**-10
NETWORKS_WITHIN = 0.01


def reported(said: Sequence[tuple[Address, Message]], party: str) -> list[Message]:
    """What a party received, heartbeats and all."""
    return [message for address, message in said if address.receiver == party]


def holds_a_tensor(message: Message) -> bool:
    """Words of the ring, in any field."""
    return any(isinstance(getattr(message, name), np.ndarray) for name in type(message).model_fields)


def check_helpers_view(run: Heard, *more: str) -> None:
    """No tensor, and of kinds beside control those alone that are named; nor does anything else reach its queue."""
    received = reported(run.ear.said, HELPER)
    crossed = {one.kind for one in run.ear.envelopes if parse_address(one.address).receiver == HELPER}
    tensors = [message.kind for message in received if holds_a_tensor(message) and not isinstance(message, Pseudonyms)]
    assert tensors == []
    assert {message.kind for message in received} - CONTROL == {*more}
    assert crossed - CONTROL == {*more, "job"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model of `run` is."""
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def network_run(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """Likewise of a network; its model is the oracle's."""
    found = hear(NETWORK, tmp_path_factory.mktemp("network"))
    assert bit_exact(found.simulation)
    return found


@pytest.fixture(scope="module")
def run(folder: Path) -> Heard:
    """A training with everything that may be evaluated."""
    return trained(TRAINED, folder)


def test_the_helper_receives_no_tensor_in_a_training(run: Heard) -> None:
    """It is told who takes part, pseudonyms, keys of masks, how many steps are done and whether it goes on."""
    check_helpers_view(run, "row mask key", "steps done", "epoch decision")
    assert {*StepsDone.model_fields} == {"done"}


@pytest.mark.sealed
@pytest.mark.parametrize("check", [check_roles, check_keys, check_split])
def test_who_says_what_to_whom_is_what_is_promised(run: Heard, check: Callable[[Heard], None]) -> None:
    """Each kind goes to those roles alone that the table names, under keys of each pair."""
    check(run)


def test_the_helper_receives_no_tensor_in_a_training_of_a_network(network_run: Heard) -> None:
    """However many layers there are."""
    check_helpers_view(network_run, "row mask key", "steps done", "epoch decision")


@pytest.mark.sealed
@pytest.mark.parametrize("check", [check_kinds, check_roles, check_keys, check_split])
def test_who_says_what_of_a_network_to_whom_is_what_is_promised(
    network_run: Heard, check: Callable[[Heard], None]
) -> None:
    """Openings go between data parties alone, and what is dealt to them."""
    check(network_run)


def test_all_words_of_a_network_are_uniform(network_run: Heard) -> None:
    """Of every kind, between each two parties."""
    check_words_uniform(network_run)


@pytest.mark.parametrize("release", ["owners", "shared"])
def test_scores_of_a_network_are_the_plaintext_models(release: str, tmp_path: Path) -> None:
    """A prediction adds one seed to what the helper receives of a training; it needs no noise to be right."""
    sample = mlp((5, 4), 6, rows=80, epochs=1, rate=0.2, label=1, activation="silu", release=release, privacy=NOTHING)
    scored, tables = checked_prediction(sample, tmp_path)
    expected, found = plain_network_scores(tmp_path, sample, tables), scores_of(scored.simulation)
    scores = np.array([expected[one] for one in found["id"].to_pylist()])
    assert np.abs(found["score"].to_numpy() - scores[:, 0]).max() < NETWORKS_WITHIN


def test_a_tensor_that_reached_the_helper_would_be_found(run: Heard) -> None:
    """One share of scores, as in the other mode."""
    address = next(address for address, _ in run.ear.said if address.receiver == HELPER)
    run.ear.said.append((address, ScoringShare(words=np.zeros((1, 1), np.uint64))))
    try:
        with pytest.raises(AssertionError):
            check_helpers_view(run, "row mask key", "steps done", "epoch decision", "scoring share")
    finally:
        run.ear.said.pop()


def checked_prediction(sample: Sample, folder: Path) -> tuple[Heard, Tables]:
    """A prediction of newcomers by a model of this sample, in which everybody receives what is theirs alone."""
    trained(sample, folder)
    tables = newcomers(sample)
    scored = hear_prediction(sample, folder, tables)
    check_helpers_view(scored, WeightMaskSeed.kind)
    check_roles(scored)
    return scored, tables


# --- predictions


@pytest.mark.parametrize("model", ["logistic", "linear", "one-vs-rest", "gamma"])
def test_without_noise_scores_are_the_plaintext_models(model: str, tmp_path: Path) -> None:
    """The label party adds them up itself; the helper deals at most one seed of masks."""
    sample = Sample((5, 4), rows=90, batch=32, epochs=1, model=model, rate=0.2, release="shared", privacy=NOTHING)
    scored, tables = checked_prediction(sample, tmp_path)
    check_scores(scored, tmp_path, tables)


def test_with_noise_scores_are_within_it(run: Heard, folder: Path) -> None:
    """Uniform in plus or minus each partner's; the sum of two of them stays below twice that."""
    noise = 0.25
    noisy = Sample(**{name: getattr(TRAINED, name) for name in TRAINED.__dataclass_fields__} | {"score_noise": noise})
    tables = newcomers(TRAINED)
    scored = hear_prediction(noisy, folder, tables)
    check_helpers_view(scored, WeightMaskSeed.kind)
    check_roles(scored)
    expected, found = plain_scores(folder, noisy, tables), scores_of(scored.simulation)
    rows = dict(zip(found["id"].to_pylist(), found["score"].to_pylist(), strict=True))
    assert rows.keys() == expected.keys()
    assert noise / 2 < max(abs(score - expected[one][0]) for one, score in rows.items()) <= 2 * noise + WITHIN
