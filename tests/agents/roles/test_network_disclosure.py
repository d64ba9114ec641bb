"""What a whole run of agents shows to each role of a network: what is promised, and nothing else.

Every check is a function over a recorded run, and each is shown a run with a planted mistake, which it must notice.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import tercet.mpc.network.forward
from tercet.agents.simulation.simulate import bit_exact
from tercet.mpc.randomness.elements import Elements
from tercet.schemas.files.job import EarlyStopping, Evaluation
from tercet.schemas.messages.address import parse_address
from tercet.schemas.messages.kinds import HiddenAnswer, HiddenShare, MaskedInputs, Message, WeightOpening
from tests.agents.disclosure import check_keys, check_kinds, check_masks_apart, check_roles, check_said, check_split
from tests.agents.networks import mlp
from tests.agents.networks_disclosure import (
    check_alike,
    check_amounts_of_networks,
    check_hidden_views,
    check_networks_sealed,
    check_nothing_in_clear,
    check_output_views,
    check_words_uniform,
    check_zero_shares,
)
from tests.agents.recording import Heard, hear, hear_prediction
from tests.agents.roles.test_disclosure import (
    forgetful,
    no_class_order,
    no_noise,
    no_order,
    no_seal,
    no_signs,
    no_zero_share_of_held_out,
    omitted,
    one_purpose,
    repeated,
    u_y_of_the_loss,
    with_masks,
    zeros,
)
from tests.agents.roles.test_prediction import newcomers, people
from tests.agents.world import HELPER, OUTCOME, Sample

Plant = Callable[[pytest.MonkeyPatch], None]

CHECKS = [
    check_kinds,
    check_roles,
    check_amounts_of_networks,
    check_hidden_views,
    check_output_views,
    check_alike,
    check_nothing_in_clear,
    check_masks_apart,
    check_zero_shares,
    check_said,
    check_split,
    check_networks_sealed,
    check_keys,
]
EACH_EPOCH = Evaluation(holdout=0.4, metrics="epoch", loss=True, held_out_loss=True, loss_to="all")
AT_THE_END = Evaluation(holdout=0.3, metrics="end", loss=True, held_out_loss=True)
SMOOTH = mlp((8, 7, 6), 6, 5, rows=230, batch=48, label=1, epochs=2, rate=0.1, activation="tanh", output="softmax",
             l2=0.02, evaluation=EACH_EPOCH)  # fmt: skip
STEEP = mlp((9, 8), 12, rows=200, batch=48, label=1, epochs=2, rate=0.1, evaluation=EACH_EPOCH)
FEW = replace(SMOOTH, rows=110)  # for what every step shows
LONG = mlp((8, 7, 6), 6, 5, rows=400, batch=48, label=1, epochs=6, rate=0.1, activation="gelu", output="softmax",
           evaluation=EACH_EPOCH)  # fmt: skip
BROAD = replace(LONG, epochs=2)
STOPPED = mlp((8, 7), 6, rows=200, batch=64, epochs=12, rate=0.3, evaluation=AT_THE_END, alignment="ecdh",
              output="linear",
              early_stopping=EarlyStopping(on="held_out_loss", patience=1, least_gain=0.05))  # fmt: skip
FINAL = mlp((7, 6, 6), 5, 4, 3, rows=200, batch=64, label=2, output="poisson", rate=0.03, evaluation=AT_THE_END,
            release="shared", alignment="aligned", activation="softplus")  # fmt: skip


def recorded(sample: Sample, folder: Path) -> Heard:
    """A run that ends with the right network."""
    run = hear(sample, folder)
    assert bit_exact(run.simulation)
    return run


@pytest.fixture(scope="module", params=[SMOOTH, STEEP], ids=["three parties", "two parties"])
def heard(request, tmp_path_factory) -> Heard:
    """An honest run."""
    return recorded(request.param, tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_an_honest_run_shows_to_everybody_what_is_promised_and_no_more(check, heard):
    """Roles, amounts, the helper's view, nothing in clear, masks apart, zero shares, sealed bodies, lonely keys."""
    check(heard)


@pytest.mark.parametrize("sample", [STOPPED, FINAL], ids=["stopped early, by ECDH", "metrics at the end, aligned"])
def test_so_does_a_run_that_stops_early_or_scores_at_the_end(sample, tmp_path):
    """With other outputs, activations and alignments; three hidden layers as well."""
    run = recorded(sample, tmp_path)
    stopped = run.label.context.statistics.step < run.plan.steps_total
    assert stopped == (sample.early_stopping is not None)
    for check in CHECKS:
        if check is not check_kinds:  # what kinds there are no run changes
            check(run)


def test_all_words_are_uniform(tmp_path):
    """Of every kind, between each two parties; in a run that is long enough to count them."""
    check_words_uniform(recorded(LONG, tmp_path))


@pytest.mark.parametrize("sample", [
    mlp((4, 3), 6, rows=160, epochs=2, rate=0.2, label=1),
    mlp((3, 2, 3), 5, 4, rows=160, epochs=2, rate=0.1, label=1, output="softmax", release="shared", activation="gelu"),
], ids=["owners", "shared"])  # fmt: skip
def test_a_prediction_shows_no_more_than_a_pass_of_the_training(sample, tmp_path):
    """Whatever the release: a network always runs through the helper."""
    assert bit_exact(hear(sample, tmp_path, tables=people(sample, sample.rows, 1)).simulation)
    run = hear_prediction(sample, tmp_path, newcomers(sample, 1000))
    for check in (*CHECKS, check_words_uniform):
        if check not in {check_kinds, check_split}:
            check(run)


def test_the_size_of_a_envelope_does_not_depend_on_the_data(tmp_path):
    """Another table of the same size, and labels turned round: the same envelopes, byte for byte as long."""
    lengths = []
    for number, seed in enumerate((1, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        sample = mlp((6, 5), 6, 4, rows=150, batch=48, activation="tanh", evaluation=EACH_EPOCH, seed=seed)
        tables = sample.tables()
        people_ = [f"person-{row:04d}" for row in range(150)]  # so that the same rows are held out
        for table in tables.values():
            table["person_number"] = people_
        if number:
            tables["bank"][OUTCOME] = [str(1 - int(text)) for text in tables["bank"][OUTCOME]]
        run = hear(sample, folder, tables=tables)
        found = {}
        for envelope in run.ear.envelopes:
            address = parse_address(envelope.address)
            if address.round not in {"control", "handshake"}:
                found[address._replace(job="")] = len(envelope.body)
        lengths.append(found)
    assert lengths[0] == lengths[1]
    assert len(lengths[0]) > 100


# --- planted mistakes


def no_zero_share(patch: pytest.MonkeyPatch) -> None:
    """Shares of hidden layers and scores as they are."""
    patch.setattr(
        tercet.mpc.network.forward, "zero_share", lambda me, masks, step, shape, *_, **__: np.zeros(shape, np.uint64)
    )


def places_as_they_are(patch: pytest.MonkeyPatch) -> None:
    """Elements row by row."""
    patch.setattr(Elements, "permutation", lambda elements, step, layer, count: np.arange(count))


def rows_as_they_are(patch: pytest.MonkeyPatch) -> None:
    """Elements in another order within each row of the first ones only."""

    def permutation(_: Elements, step: object, layer: int, count: int) -> object:
        return np.arange(count).reshape(-1, count // 4).T.reshape(-1)

    patch.setattr(Elements, "permutation", permutation)


def signs_as_they_are(patch: pytest.MonkeyPatch) -> None:
    """Every element with its own."""
    patch.setattr(Elements, "signs", lambda elements, step, layer, count: np.ones(count, np.uint64))


def elements_to_the_last_bit(patch: pytest.MonkeyPatch) -> None:
    """No noise."""
    patch.setattr(Elements, "noise", lambda elements, step, layer, count, fz: np.zeros(count, np.uint64))


def logits_at_their_level(patch: pytest.MonkeyPatch) -> None:
    """No word that is added to all logits of a row."""
    patch.setattr(Elements, "level", lambda elements, step, rows: np.zeros((rows, 1), np.uint64))


NAMED = ("u+", "u-", "tau", "q", "g", "v", "rd", "rw", "rs", "o", "m")
DEALT = ("C", "qg", "h", "t", "ht", "tt", "h2", "t2", "qo", "hw", "tw", "ov")
MASKS = [*(f"{name}/{0 if name == 'o' else 1}" for name in NAMED), *(f"dealt {name}/0" for name in DEALT),
         "S", "R", "U", "V", "m_y", "zero", "zero/0"]  # fmt: skip
SMOOTH_GELU = mlp((5, 4, 4), 4, 3, rows=100, batch=48, epochs=1, label=1, activation="gelu", evaluation=AT_THE_END)
SEEN = {"U": (check_nothing_in_clear,), "m_y": (check_nothing_in_clear,), "v/1": (check_nothing_in_clear,),
        "u+/1": (check_nothing_in_clear,), "g/1": (check_nothing_in_clear,), "m/1": (check_nothing_in_clear,),
        "tau/1": (check_nothing_in_clear,)}  # fmt: skip
SPOILT = [
    *((f"{name} omitted", partial(zeros, name=name)) for name in MASKS),
    *((f"{name} reused", partial(repeated, name=name)) for name in MASKS),
]
PLANTS = [
    *((f"{name} omitted", omitted(name), (check_masks_apart, *checks), SMOOTH_GELU) for name, checks in SEEN.items()),
    ("zero share omitted", no_zero_share, (check_zero_shares,), FEW),
    ("elements in place", places_as_they_are, (check_hidden_views,), SMOOTH),
    ("elements unit by unit", rows_as_they_are, (check_hidden_views,), STEEP),
    ("signs omitted", signs_as_they_are, (check_hidden_views,), SMOOTH),
    ("noise omitted", elements_to_the_last_bit, (check_hidden_views,), SMOOTH),
    ("level omitted", logits_at_their_level, (check_output_views,), SMOOTH),
    ("noise of scores omitted", no_noise, (check_output_views,), SMOOTH),
    ("order of classes omitted", no_class_order, (check_output_views,), BROAD),
    ("order of rows omitted", no_order, (check_output_views,), SMOOTH),
    ("signs of rows omitted", no_signs, (check_output_views,), STEEP),
    ("validation under training's masks", one_purpose("validation"), (check_masks_apart,), FEW),
    ("held-out loss under training's masks", one_purpose("held-out loss"), (check_masks_apart,), FEW),
    ("held-out loss under the loss's masks", one_purpose("held-out loss", "loss"), (check_zero_shares,), FEW),
    ("U_y of the loss for the held-out loss", u_y_of_the_loss, (check_masks_apart,), FEW),
    ("held-out loss's masks repeated", forgetful("held-out loss"), (check_masks_apart,), FEW),
    ("zero share of the held-out loss omitted", no_zero_share_of_held_out, (check_zero_shares,), FEW),
    ("seal omitted", no_seal, (check_networks_sealed, check_keys), STEEP),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "checks", "sample"), [pytest.param(*rest, id=name) for name, *rest in PLANTS])
def test_a_planted_mistake_is_noticed(plant, checks, sample, tmp_path):
    """Although the run ends with the right network; also where the check itself is under the mistake."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        mistaken = recorded(sample, tmp_path)
        for check in checks:
            with pytest.raises(AssertionError):
                check(mistaken)
    for check in checks:
        with pytest.raises(AssertionError):
            check(mistaken)


@pytest.mark.parametrize(("sample", "checks"), [
    (FEW, (check_masks_apart, check_zero_shares)), (BROAD, (check_output_views,)),
], ids=["few rows", "few epochs"])  # fmt: skip
def test_without_a_mistake_the_same_checks_hold(sample, checks, tmp_path):
    """Of runs that no other test looks at."""
    run = recorded(sample, tmp_path)
    for check in checks:
        check(run)


@pytest.fixture(scope="module")
def draws(tmp_path_factory) -> Heard:
    """An honest run that draws every kind of mask, in more steps than one."""
    run = recorded(replace(SMOOTH_GELU, rows=200), tmp_path_factory.mktemp("drawn"))
    check_masks_apart(run)
    return run


@pytest.mark.parametrize("spoil", [pytest.param(spoil, id=name) for name, spoil in SPOILT])
def test_a_mistake_in_masks_is_noticed(spoil, draws):
    """In the record of an honest run; that mistakes of the code get into it, the planted ones show."""
    with pytest.raises(AssertionError, match="two addresses of masks gave the same word"):
        check_masks_apart(with_masks(draws, spoil(draws.ear.masks)))


@pytest.mark.parametrize("model", [MaskedInputs, WeightOpening, HiddenAnswer])
def test_a_second_value_under_one_mask_is_noticed(model, heard):
    """Words that differ between two receivers would show the difference of their values."""
    said = list(heard.ear.said)
    at = next(place for place, (_, message) in enumerate(said) if type(message) is model)
    address, message = said[at]
    others = [party for party in (*heard.names, HELPER) if party not in {address.sender, address.receiver}]
    try:
        changed = message.model_copy(update={"words": message.words + np.uint64(1)})
        heard.ear.said.append((address._replace(receiver=others[0]), changed))
        with pytest.raises(AssertionError, match="differs"):
            check_alike(heard)
    finally:
        heard.ear.said[:] = said


@pytest.mark.parametrize("model", [MaskedInputs, HiddenShare, WeightOpening])
def test_a_message_to_a_role_that_may_not_have_it_is_noticed(model: type[Message], heard):
    """The helper knows every mask; a data party that has all shares of a layer has the layer."""
    address, message = next((a, m) for a, m in heard.ear.said if isinstance(m, model))
    wrong = HELPER if address.receiver != HELPER else next(name for name in heard.names if name != address.sender)
    heard.ear.said.append((address._replace(receiver=wrong), message))
    try:
        with pytest.raises(AssertionError):
            check_roles(heard)
    finally:
        heard.ear.said.pop()
