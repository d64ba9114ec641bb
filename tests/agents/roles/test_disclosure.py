"""What a whole run of agents shows to each role, and to the broker: what is promised, and nothing else.

Every check is a function over a recorded run, and each is shown a run with a planted mistake, which it must notice.
The helper sees scores here, of a linear model or of a network.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tercet.agents.simulation.simulate import bit_exact
from tercet.schemas.files.job import EarlyStopping, Evaluation
from tercet.schemas.messages.address import parse_address
from tercet.schemas.messages.kinds import (
    HeldOutTerms,
    HiddenAnswer,
    HiddenShare,
    MaskedInputs,
    Message,
    PreactivationShare,
    Scores,
    WeightOpening,
)
from tests.agents import plants
from tests.agents.disclosure import (
    check_amounts,
    check_helpers_view,
    check_keys,
    check_kinds,
    check_ledger,
    check_masks_apart,
    check_masks_once,
    check_roles,
    check_said,
    check_sealed,
    check_split,
    check_uniform,
)
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
from tests.agents.recording import Heard, Tables, hear, hear_prediction
from tests.agents.roles.test_prediction import newcomers, people
from tests.agents.world import HELPER, OUTCOME, Sample

Check = Callable[[Heard], None]
Spoil = Callable[[plants.Masks], plants.Masks]


class Planted(NamedTuple):
    """A run with mistakes, and what each check must say of them; none hides behind another."""

    sample: Sample
    mistakes: tuple[plants.Plant, ...]
    noticed: dict[Check, set[str]]


LINEAR_CHECKS: list[Check] = [
    check_kinds,
    check_roles,
    check_amounts,
    check_helpers_view,
    check_ledger,
    check_said,
    check_split,
    check_masks_once,
    check_uniform,
    check_sealed,
    check_keys,
]
NETWORK_CHECKS: list[Check] = [
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
NoisySample = partial(Sample, score_noise=2.0**-5)  # as it is unless somebody changes it
AT_THE_END = Evaluation(holdout=0.3, split="spring", metrics="end", loss=True, held_out_loss=True)
LONG = NoisySample((28, 28, 28), rows=470, batch=48, epochs=1, label=1, rate=0.3, evaluation=EACH_EPOCH)
SHORT = NoisySample((5, 4, 4), rows=120, batch=32, label=2, epochs=2, rate=0.3, l2=0.02, evaluation=EACH_EPOCH)
TWO = NoisySample((9, 8), rows=150, batch=40, label=1, model="linear", epochs=8, schedule="inverse-time", decay=0.02,
             release="shared")  # fmt: skip
STOPPED = NoisySample((8, 7), rows=200, batch=64, epochs=8, rate=0.3, evaluation=AT_THE_END, alignment="ecdh",
                 early_stopping=EarlyStopping(on="held_out_loss", patience=1, least_gain=0.03))  # fmt: skip
FINAL = NoisySample((7, 6, 6), rows=200, batch=64, label=2, epochs=2, model="linear", evaluation=AT_THE_END,
               release="shared", alignment="aligned")  # fmt: skip
CHOICE = NoisySample((5, 4, 4), rows=120, batch=32, label=1, epochs=3, rate=0.3, l2=0.02, model="softmax",
                evaluation=EACH_EPOCH)  # fmt: skip
COUNTS = NoisySample((8, 7), rows=170, batch=48, label=1, rate=0.02, model="poisson", evaluation=EACH_EPOCH)
ALONE = NoisySample((0, 8), rows=170, batch=48, rate=0.3, l2=0.02, evaluation=EACH_EPOCH)  # a label, and no column
CLAIMS = NoisySample((8, 7, 6), rows=170, batch=48, label=2, rate=0.02, l2=0.02, model="gamma", evaluation=AT_THE_END)
SMOOTH = mlp((8, 7, 6), 6, 5, rows=230, batch=48, label=1, epochs=2, rate=0.1, activation="tanh", output="softmax",
             l2=0.02, evaluation=EACH_EPOCH)  # fmt: skip
STEEP = mlp((9, 8), 12, rows=200, batch=48, label=1, epochs=2, rate=0.1, evaluation=EACH_EPOCH)
STOPPED_NETWORK = mlp((8, 7), 6, rows=200, batch=64, epochs=12, rate=0.3, evaluation=AT_THE_END, alignment="ecdh",
              output="linear",
              early_stopping=EarlyStopping(on="held_out_loss", patience=1, least_gain=0.05))  # fmt: skip
FINAL_NETWORK = mlp((7, 6, 6), 5, 4, 3, rows=120, batch=64, label=2, output="poisson", rate=0.03, evaluation=AT_THE_END,
            release="shared", alignment="aligned", activation="softplus")  # fmt: skip

LINEAR_MASKS = ("U", "V", "M", "R", "m_y", "zero", "U_y", "N", "Q", "U*", "M*", "R*")
HELD_OUT_MASKS = ("U", "V", "zero", "U_y", "N", "Q")
# V, R, Q and masks of checks hide what looks uniform by itself; the zero share what only the helper could tell from it.
SAID_UNDER = {"U": "MaskedInputs", "M": "MaskedActivation", "m_y": "MaskedLabels", "U_y": "MaskedLossLabels",
        "N": "LossTerms"}  # fmt: skip
LINEAR_SPOILT: list[tuple[str, Spoil]] = [
    *((f"{name} omitted", partial(plants.zeros, name=name)) for name in LINEAR_MASKS),
    ("U reused", partial(plants.repeated, name="U")),  # two words are equal, as where a mask is omitted
    *(
        (f"{name} of the held-out loss omitted", partial(plants.zeros, name=name, purpose="held-out loss"))
        for name in HELD_OUT_MASKS
    ),
]
NAMED = ("u+", "u-", "tau", "q", "g", "v", "rd", "rw", "rs", "o", "m")
DEALT = ("C", "qg", "h", "t", "ht", "tt", "h2", "t2", "qo", "hw", "tw", "ov")
NETWORK_MASKS = [*(f"{name}/{0 if name == 'o' else 1}" for name in NAMED), *(f"dealt {name}/0" for name in DEALT),
         "S", "R", "U", "V", "m_y", "zero", "zero/0"]  # fmt: skip
SMOOTH_GELU = mlp((5, 4, 4), 4, 3, rows=160, batch=48, epochs=1, label=1, activation="gelu", evaluation=AT_THE_END)
TWO_EPOCHS = mlp((4, 3), 3, rows=80, batch=48, label=1, evaluation=EACH_EPOCH)
NETWORK_SPOILT: list[tuple[str, Spoil]] = [
    *((f"{name} omitted", partial(plants.zeros, name=name)) for name in NETWORK_MASKS),
    ("U reused", partial(plants.repeated, name="U")),
]
SHARES = {"PreactivationShare", "ScoringShare", "HeldOutShare", "GradientShare"}
LOSSES = {"LossTerms", "LossShare", "HeldOutTerms", "HeldOutLossShare"}
LOSS_LABELS = {"MaskedLossLabels", "HeldOutLabels"}
LINEAR_PLANTS = {
    "without what keeps shares apart": Planted(
        SHORT, (plants.no_zero_share, plants.no_zero_share_of_scores, plants.no_r, plants.no_q, plants.whole_scores),
        {check_ledger: {*SHARES, *LOSSES, "Scores"}}),
    "to all, by public keys, and not hidden": Planted(
        SHORT, (plants.sent_to_all(HeldOutTerms), plants.sent_to_all(Scores), plants.public_key("pseudonyms"),
                plants.public_key("split"), plants.no_signs, plants.no_order, plants.no_noise),
        {check_roles: {"HeldOutTerms to others", "Scores to others"}, check_said: {"/pseudonyms/"},
         check_split: set(), check_helpers_view: {"signs agree", "the table's own order", "no noise"}}),
    "of classes": Planted(CHOICE, (plants.noise_by_row, plants.no_class_order),
                          {check_helpers_view: {"no noise", "the classes' own order"}}),
    "named split by a public key": Planted(STOPPED, (plants.public_key("named split"),),
                                           {check_split: set(), check_said: set()}),
    "masks that serve twice": Planted(
        SHORT, (plants.u_y_of_the_loss, plants.forgetful("validation"), plants.borrowed),
        {check_masks_once: set(), check_masks_apart: {"training m_y", "validation U", ": loss U_y"}}),
    "one purpose": Planted(SHORT, (plants.one_purpose("loss"), plants.one_purpose("held-out loss")),
                           {check_ledger: LOSSES | LOSS_LABELS, check_masks_once: set()}),
    "scores beside the held-out loss": Planted(
        LONG, (plants.scores_in_the_terms,), {check_ledger: {"HeldOutTerms"}, check_uniform: {"HeldOutTerms"}}),
    "no seal": Planted(
        SHORT, (plants.no_seal,), {check_sealed: set(), check_keys: {"a session's envelope opens to others"}}),
    "seals": Planted(SHORT, (plants.no_identity_seal, plants.unbound_address, plants.one_nonce), {check_keys: {
        "an identity's envelope opens to others", "a session's envelope opens under another", "a nonce twice"}}),
}  # fmt: skip
NETWORK_PLANTS = {
    "not hidden": Planted(
        SMOOTH, (plants.places_as_they_are, plants.signs_as_they_are, plants.elements_to_the_last_bit,
                 plants.logits_at_their_level, plants.no_noise, plants.no_class_order, plants.no_order,
                 plants.one_purpose("held-out loss", "loss")),
        {check_hidden_views: {"places tell of rows", "signs agree", "no noise"},
         check_output_views: {"no secret level", "no noise", "the classes' own order", "the table's own order"},
         check_zero_shares: {"held-out loss zero", "held-out loss zero/0", "held-out loss zero/1"}}),
    "unit by unit, and no seal": Planted(
        STEEP, (plants.unit_by_unit(12), plants.no_signs, plants.no_seal),
        {check_hidden_views: {"places tell of units"}, check_output_views: {"signs agree with the scores"},
         check_networks_sealed: set(), check_keys: {"a session's envelope opens to others"}}),
    "omitted": Planted(
        SMOOTH_GELU, (plants.no_zero_share_of_networks, plants.omitted("U", "m_y", "v/1")),
        {check_masks_apart: {"training U", "training m_y", "training v/1"},
         check_nothing_in_clear: {"MaskedInputs", "MaskedLabels", "NarrowOpening opens"},
         check_zero_shares: {f"{purpose} {name}" for purpose in ("training", "held-out loss", "validation")
                             for name in ("zero", "zero/0", "zero/1")}}),
    "masks that serve twice": Planted(
        TWO_EPOCHS, (plants.u_y_of_the_loss, plants.forgetful("held-out loss"), plants.one_purpose("validation")),
        {check_masks_apart: {"two holders", "held-out loss U", ": loss U_y"}}),
}  # fmt: skip


class Kind(NamedTuple):
    """A kind of model: what is checked of its runs, and the mistakes that are planted."""

    name: str
    checks: list[Check]
    honest: tuple[Sample, Sample]  # of three parties, and of two
    ended: tuple[Sample, Sample]  # stopped early, and with metrics at the end
    short: Sample  # which draws every kind of mask, in a few steps
    planted: dict[str, Planted]
    spoilt: list[tuple[str, Spoil]]


LINEAR = Kind("linear", LINEAR_CHECKS, (LONG, TWO), (STOPPED, FINAL), SHORT, LINEAR_PLANTS, LINEAR_SPOILT)
NETWORK = Kind(
    "network", NETWORK_CHECKS, (SMOOTH, STEEP), (STOPPED_NETWORK, FINAL_NETWORK), SMOOTH_GELU,
    NETWORK_PLANTS, NETWORK_SPOILT,
)  # fmt: skip
KINDS = LINEAR, NETWORK
NOT_ALONE = {check_uniform, check_kinds}  # of any other run: it has few words, and what kinds there are no run changes


def recorded(sample: Sample, folder: Path, tables: Tables | None = None) -> Heard:
    """A run that ends with the right model."""
    run = hear(sample, folder, tables=tables)
    assert bit_exact(run.simulation)
    return run


def copied(run: Heard) -> Heard:
    """The record of a run, in which something may be said that was not."""
    return replace(run, ear=replace(run.ear, said=list(run.ear.said)))


# --- honest runs


HONEST = [
    (kind, sample, number) for kind in KINDS for sample, number in zip(kind.honest, ("three", "two"), strict=True)
]


@pytest.fixture(scope="module", params=HONEST, ids=lambda one: f"{one[0].name}, {one[2]} parties")
def honest(request, tmp_path_factory) -> tuple[Kind, Heard]:
    """An honest run."""
    kind, sample, _ = request.param
    return kind, recorded(sample, tmp_path_factory.mktemp("run"))


@pytest.mark.sealed
def test_an_honest_run_shows_to_everybody_what_is_promised_and_no_more(honest):
    """Roles, amounts, the helper's view, the ledger, masks used once, uniform words, sealed bodies, lonely keys."""
    kind, heard = honest
    for check in kind.checks:
        check(heard)
    if heard.sample is SMOOTH:  # the other has few words of some kinds
        check_words_uniform(heard)


@pytest.mark.sealed
@pytest.mark.parametrize("which", [0, 1], ids=["stopped early, by ECDH", "metrics at the end, aligned"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_so_does_a_run_that_stops_early_or_scores_at_the_end(kind, which, tmp_path):
    """With another alignment; of networks with other outputs and activations, and three hidden layers as well."""
    sample = kind.ended[which]
    run = recorded(sample, tmp_path)
    stopped = run.label.context.statistics.step < run.plan.steps_total
    assert stopped == (sample.early_stopping is not None)
    for check in kind.checks:
        if check not in NOT_ALONE:
            check(run)


@pytest.mark.sealed
@pytest.mark.parametrize("sample", [CHOICE, COUNTS, CLAIMS, ALONE], ids=lambda one: f"{one.model} {one.columns}")
def test_so_does_a_run_of_any_other_link(sample, tmp_path):
    """Classes in an order of their own and noise for each output; labels within the helper's view, where they must."""
    run = recorded(sample, tmp_path)
    for check in LINEAR_CHECKS:
        if check not in NOT_ALONE:
            check(run)


@pytest.mark.sealed
def test_ids_that_two_of_three_share_stay_unknown(tmp_path):
    """The third never hears of them, nor do the two of each other: only what all have is told, one bit of each own."""
    sample, people = SHORT, [f"person-{number:06d}" for number in range(250)]
    whose = {"bank": people[:200], "card": people[40:220], "telco": [*people[20:130], *people[180:250]]}
    common = set(people[40:130]) | set(people[180:200])
    rng, tables = np.random.default_rng(4), {}
    for party, table in sample.tables().items():
        rows = rng.permutation(len(whose[party]))
        tables[party] = {name: (values * 2)[: len(rows)] for name, values in table.items()}
        tables[party]["person_number"] = [whose[party][row] for row in rows]
    run = recorded(sample, tmp_path, tables)
    for role, party in zip(run.roles, run.names, strict=True):
        assert {tables[party]["person_number"][row] for row in role.own.rows} == common
    for check in (check_roles, check_amounts, check_ledger, check_said, check_split, check_sealed, check_keys):
        check(run)
    reported = [repr(message.model_dump()) for _, message in run.ear.said]
    everything = b"".join(envelope.body + envelope.address.encode() for envelope in run.ear.envelopes)
    assert not any(one in text for text in reported for one in people)
    assert not any(one.encode() in everything for one in people)


@pytest.mark.sealed
@pytest.mark.parametrize("sample", [
    mlp((4, 3), 6, rows=80, epochs=1, rate=0.2, label=1),
    mlp((3, 2, 3), 5, 4, rows=80, epochs=1, rate=0.1, label=1, output="softmax", release="shared", activation="gelu"),
], ids=["owners", "shared"])  # fmt: skip
def test_a_prediction_by_a_network_shows_no_more_than_a_pass_of_the_training(sample, tmp_path):
    """Whatever the release: a network always runs through the helper."""
    assert bit_exact(hear(sample, tmp_path, tables=people(sample, sample.rows, 1)).simulation)
    run = hear_prediction(sample, tmp_path, newcomers(sample, 220))
    for check in (*NETWORK_CHECKS, check_words_uniform):
        if check not in {check_kinds, check_split}:
            check(run)


def test_the_size_of_an_envelope_does_not_depend_on_the_data(tmp_path):
    """Another table of the same size, and labels turned round: the same envelopes, byte for byte as long."""
    lengths = []
    for number, seed in enumerate((1, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        sample = mlp((6, 5), 6, 4, rows=150, batch=48, epochs=1, activation="tanh", evaluation=EACH_EPOCH, seed=seed)
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


OF_SEALS = {check_sealed, check_networks_sealed, check_keys}
PLANTS = [
    pytest.param(one, id=f"{kind.name}: {name}", marks=[pytest.mark.sealed] if OF_SEALS & one.noticed.keys() else [])
    for kind in KINDS
    for name, one in kind.planted.items()
]


@pytest.mark.parametrize("planted", PLANTS)
def test_a_planted_mistake_is_noticed(planted, tmp_path):
    """Although the run ends with the right model; also where the check itself is under the mistake."""
    with pytest.MonkeyPatch.context() as patch:
        for plant in planted.mistakes:
            plant(patch)
        mistaken = recorded(planted.sample, tmp_path)
        for check, faults in planted.noticed.items():
            with pytest.raises(AssertionError) as reported:
                check(mistaken)
            assert {fault for fault in faults if fault not in str(reported.value)} == set(), reported.value
    mistaken = replace(mistaken)  # whose plain values are worked out anew
    for check in planted.noticed:
        with pytest.raises(AssertionError):
            check(mistaken)


@pytest.fixture(scope="module")
def few_steps(tmp_path_factory) -> dict[str, Heard]:
    """Honest runs of few steps, by kind, to be read and copied."""
    return {kind.name: recorded(kind.short, tmp_path_factory.mktemp("drawn")) for kind in KINDS}


@pytest.mark.sealed
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_without_a_mistake_the_same_checks_hold(kind, few_steps):
    """Of the runs that mistakes are planted in, and no other test looks at."""
    for check in kind.checks:
        if check not in NOT_ALONE:
            check(few_steps[kind.name])


SPOILT = [pytest.param(kind.name, spoil, id=f"{kind.name}: {name}") for kind in KINDS for name, spoil in kind.spoilt]


@pytest.mark.parametrize(("name", "spoil"), SPOILT)
def test_a_mistake_in_masks_is_noticed(name, spoil, few_steps):
    """In the record of an honest run; that mistakes of the code get into it, the planted ones show.

    So does `test_masks_left_out_show_in_what_is_said`."""
    run = few_steps[name]
    with pytest.raises(AssertionError, match="two addresses of masks gave the same word"):
        check_masks_apart(plants.with_masks(run, spoil(run.ear.masks)))


def test_masks_left_out_show_in_what_is_said(tmp_path):
    """Each kind whose mask is omitted is named, although the run ends with the right model."""
    with pytest.MonkeyPatch.context() as patch:
        plants.omitted(*SAID_UNDER)(patch)
        mistaken = recorded(LONG, tmp_path)
    with pytest.raises(AssertionError, match="gave the same word"):
        check_masks_once(mistaken)
    with pytest.raises(AssertionError, match="not uniform") as reported:
        check_uniform(mistaken)
    assert all(f"'{kind}'" in str(reported.value) for kind in SAID_UNDER.values()), reported.value


def test_a_second_value_under_one_mask_is_noticed(few_steps):
    """Masked inputs that differ between two receivers would show the difference of their values."""
    run = copied(few_steps["linear"])
    check_masks_once(run)
    place = [type(message) for _, message in run.ear.said].index(MaskedInputs)
    address, message = run.ear.said[place]
    assert isinstance(message, MaskedInputs)
    run.ear.said[place] = address, message.model_copy(update={"words": message.words + np.uint64(1)})
    with pytest.raises(AssertionError, match="hides two values"):
        check_masks_once(run)


@pytest.mark.parametrize(("name", "model"), [
    ("linear", MaskedInputs), ("network", MaskedInputs), ("network", HiddenShare), ("network", WeightOpening),
])  # fmt: skip
def test_a_message_to_a_role_that_may_not_have_it_is_noticed(name: str, model: type[Message], few_steps):
    """The helper knows every mask; a data party that has all shares of a layer has the layer."""
    run = copied(few_steps[name])
    check_roles(run)
    address, message = next((a, m) for a, m in run.ear.said if isinstance(m, model))
    wrong = HELPER if address.receiver != HELPER else next(one for one in run.names if one != address.sender)
    run.ear.said.append((address._replace(receiver=wrong), message))
    with pytest.raises(AssertionError):
        check_roles(run)


def test_a_message_beyond_the_protocols_number_is_noticed(few_steps):
    """A second share of z at one step would be a second equation for the helper."""
    run = copied(few_steps["linear"])
    check_amounts(run)
    run.ear.said.append(next((a, m) for a, m in run.ear.said if isinstance(m, PreactivationShare)))
    with pytest.raises(AssertionError):
        check_amounts(run)


def test_masks_of_two_runs_have_nothing_in_common(few_steps, tmp_path):
    """The same job with the same order again: keys are new, so no word of a mask and none on the wire is repeated."""
    seen: list[set[int]] = []
    for run in (few_steps["linear"], hear(SHORT, tmp_path, seed=1)):
        words = [*run.ear.masks.values(), *run.received(MaskedInputs).values()]
        seen.append({int(word) for block in words for word in block.ravel()})
    assert seen[0].isdisjoint(seen[1])


@pytest.mark.parametrize("model", [MaskedInputs, WeightOpening, HiddenAnswer])
def test_a_second_value_under_one_mask_of_a_network_is_noticed(model, few_steps):
    """Words that differ between two receivers would show the difference of their values."""
    run = copied(few_steps["network"])
    check_alike(run)
    address, message = next((a, m) for a, m in run.ear.said if type(m) is model)
    assert isinstance(message, MaskedInputs | WeightOpening | HiddenAnswer)
    others = [party for party in (*run.names, HELPER) if party not in {address.sender, address.receiver}]
    changed = message.model_copy(update={"words": message.words + np.uint64(1)})
    run.ear.said.append((address._replace(receiver=others[0]), changed))
    with pytest.raises(AssertionError, match="differs"):
        check_alike(run)
