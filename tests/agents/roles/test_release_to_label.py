"""Release = "label" gives the label party the whole model, if all others let it, and gives nobody else anything.

Whole jobs, with everything recorded that was said; what the model then is good for is tested with the scorer.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.agents.models import model_part
from tercet.agents.policy.check import check_policy
from tercet.agents.roles import release, release_to_label
from tercet.agents.session.agreed import TrainingContext
from tercet.agents.simulation.simulate import Simulation, bit_exact
from tercet.mpc.reference import linear as reference
from tercet.schemas.files.job import Evaluation, Network
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import ColumnEncoding, Message, ModelShare, Progress
from tercet.tables.encoding.categorical import CategoricalColumn
from tercet.tables.encoding.encoding import Encoding
from tests.agents.disclosure import check_roles, check_said, check_split
from tests.agents.policy.test_check import KEYS, announced, refusal, settings_of
from tests.agents.policy.test_settings_rules import partner
from tests.agents.recording import Heard, hear
from tests.agents.roles import test_prediction
from tests.agents.roles.test_prediction import people
from tests.agents.runs.test_hung import hang_when, item
from tests.agents.scenes import BANK, CARD, NOTARY, SHARES, job, off, scene, three
from tests.agents.world import Sample, exact, run

CHECKS = [*test_prediction.CHECKS, check_split]
EVALUATED = Evaluation(holdout=0.3, metrics="epoch", loss=True)
SAMPLE = Sample((6, 5, 5), rows=170, batch=64, label=1, epochs=2, rate=0.3, l2=0.02, release="label",
                evaluation=EVALUATED)  # fmt: skip
SHORT = replace(SAMPLE, rows=100, epochs=1, evaluation=Evaluation())
ONE_STEP: dict[str, Any] = {"release": "label", "epochs": 1, "batch": 96}
NETWORK = Sample((6, 5), label=1, rows=120, batch=48, model="mlp", network=Network(hidden=(5, 4)), release="label")


@pytest.fixture(scope="module")
def heard(tmp_path_factory) -> Heard:
    """A run over numbers, categories and gaps."""
    whole = hear(SAMPLE, tmp_path_factory.mktemp("label"), tables=people(SAMPLE, 170, 1), reading={"rare": 37})
    assert bit_exact(whole.simulation)
    return whole


def part_of(simulation: Simulation, party: str) -> tuple[model_part.ModelPart, dict[str, Any]]:
    """A party's part, as it is on its disk."""
    folder = simulation.runs[party].model_part
    assert folder is not None
    return model_part.load(folder)


# --- who learns what


@pytest.mark.sealed
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_a_run_shows_to_everybody_what_is_promised_and_no_more(check, heard):
    """All that any other job is held to: who hears which kind, the ledger of tensors, what is said beside them."""
    check(heard)


def test_nobody_but_the_label_party_receives_anything_that_shared_weights_would_not_have_brought(tmp_path):
    """The same kinds, as often, of the same sizes."""
    runs = [replace(SHORT, release=name) for name in ("label", "shared")]
    released, shared = (hear(one, tmp_path, tables=people(one, 100, 1)) for one in runs)
    for check in (check_roles, check_said):
        check(released)

    def reported(one: Heard, *, to_label: bool) -> Counter[Any]:
        said = [(address, message) for address, message in one.ear.said if not isinstance(message, Progress)]
        return Counter(
            (type(message), address._replace(job=""), getattr(message, "words", np.empty(0)).shape)
            for address, message in said
            if (address.receiver == CARD) == to_label
        )

    assert reported(released, to_label=False) == reported(shared, to_label=False)
    more = reported(released, to_label=True) - reported(shared, to_label=True)
    assert Counter(kind for kind, *_ in more.elements()) == {ModelShare: 2, ColumnEncoding: 2}


async def test_a_covariance_goes_to_the_label_party_with_its_owners_word_only(tmp_path):
    """Bank gives its word, and telco says nothing; its own columns the label party whitens where nobody says no."""
    settings, words = SHORT.settings(tmp_path), {"bank": True, "card": None, "telco": None}
    for party, asked in words.items():
        table = settings[party].tables["people"].model_copy(update={"whiten": asked})
        settings[party] = settings[party].model_copy(update={"tables": {"people": table}})
    part, _ = part_of(await run(SHORT, tmp_path, settings=settings), "card")
    assert {name: one.whitening is not None for name, one in part.encodings.items()} == {"bank": True, "telco": False}
    assert part.encoding.whitening is not None


def test_what_is_said_of_columns_has_no_share_of_rows_in_it(heard):
    """Only the label party's own encoding knows how many values were missing or rare."""
    part, _ = part_of(heard.simulation, "card")
    assert list(part.encodings) == ["bank", "telco"]
    for encoding in part.encodings.values():
        assert {column.missing for column in encoding.columns} <= {0.0, 0.5}
        assert {getattr(column, "rare", 0) for column in encoding.columns} <= {0, 1}
    shares = {column.missing for role in heard.roles for column in role.encoding.columns}
    assert len(shares - {0.0, 0.5}) > 5


def test_shares_for_others_and_an_encoding_that_says_more_are_noticed(tmp_path, monkeypatch):
    """A data party that sends its share of the model to everybody, and its encoding as it is."""

    async def supply(context: TrainingContext, shares: Any, encoding: Encoding) -> None:
        deadline, text = context.deadline("release"), encoding.model_dump_json().encode()
        words = release_to_label.pack_shares(context, shares)
        await context.mailbox.send(ModelShare(words=words), context.partners, deadline)
        await context.mailbox.send(ColumnEncoding(encoding=text), [context.label], deadline)

    monkeypatch.setattr(release, "send_model", supply)
    spoilt = hear(SHORT, tmp_path, tables=people(SHORT, 100, 1))
    with pytest.raises(AssertionError, match="ModelShare to others"):
        check_roles(spoilt)
    with pytest.raises(AssertionError, match="something else is said"):
        check_said(spoilt)


# --- what the parts hold


def test_the_label_partys_part_is_the_oracles_model_and_the_others_have_no_weight(heard):
    """As ordinary numbers, of every party's columns; a partner keeps what it had before."""
    plan, order = heard.plan, heard.order
    oracle = reference.release(reference.train(heard.xs, heard.y, plan, order), plan)
    for number, party in enumerate(heard.names):
        part, arrays = part_of(heard.simulation, party)
        shares = {f"shares/{name}" for name in (*heard.names, "intercept")} | {"weight_mask_seed"}
        shares |= {f"opened/{name}" for name in heard.names if name != party}
        assert part.whole == (number == SAMPLE.label)
        if not part.whole:
            assert arrays.keys() == shares
            assert part.encodings == {}
            continue
        assert arrays.keys() == shares | {f"weights/{name}" for name in heard.names} | {"intercept"}
        for name, block in zip(heard.names, oracle.blocks, strict=True):
            assert np.array_equal(arrays[f"weights/{name}"], block)
        assert np.array_equal(arrays["intercept"], oracle.intercept)


async def test_so_is_a_networks_with_all_its_layers(tmp_path):
    """The layers above the first, and every bias."""
    simulation = await run(NETWORK, tmp_path)
    assert bit_exact(simulation)
    part, arrays = part_of(simulation, "card")
    floats = {name: array.shape for name, array in arrays.items() if array.dtype == np.float64}
    blocks = {"weights/bank": (6, 5), "weights/card": (5, 5)}
    assert floats == blocks | {"upper.0": (5, 4), "upper.1": (4, 1), "bias.0": (1, 5), "bias.1": (1, 4),
                               "bias.2": (1, 1)}  # fmt: skip
    assert part.whole
    _, other = part_of(simulation, "bank")
    assert all(name.startswith(("shares/", "opened", "weight_mask_seed")) for name in other)


def changed(part: model_part.ModelPart, arrays: dict[str, Any], how: str) -> tuple[Any, dict[str, Any]]:
    """A part with something wrong."""
    match how:
        case "no block":
            return part, {name: array for name, array in arrays.items() if name != "weights/bank"}
        case "a block of another shape":
            return part, arrays | {"weights/bank": arrays["weights/bank"][:-1].copy()}
        case "a weight that is no number":
            return part, arrays | {"intercept": np.full((1, 1), np.nan)}
        case "no encoding":
            return part.model_copy(update={"encodings": {}}), arrays
        case "another's encoding":
            return part.model_copy(update={"encodings": part.encodings | {"nobody": part.encoding}}), arrays
    return part.model_copy(update={"party": "bank", "encoding": part.encodings["bank"]}), arrays


@pytest.mark.parametrize(
    "how",
    ["no block", "a block of another shape", "a weight that is no number", "no encoding", "another's encoding",
     "a partner's"],
)  # fmt: skip
def test_a_part_that_is_not_what_its_manifest_says_is_refused(how, heard, tmp_path):
    """Whatever is lacking or too much."""
    part, arrays = part_of(heard.simulation, "card")
    with pytest.raises(model_part.ModelPartProblem):
        model_part.save(tmp_path, *changed(part, arrays, how))


# --- who allows it


@pytest.mark.parametrize("party", [BANK, CARD, NOTARY])
def test_only_a_data_party_beside_the_label_party_has_to_allow_it(party):
    """The helper has nothing to give, and the label party receives; both need no setting."""
    announcement = announced(release="label")
    if party != CARD:
        check_policy(announcement, settings_of(party), KEYS[party])
        return
    problem = refusal(announcement, settings_of(CARD))
    assert (problem.code, problem.culprit) == ("policy.release", CARD)
    assert "may_hold_model = true under [partners.bank] in card's settings" in problem.reason


def test_what_is_allowed_to_one_party_is_not_allowed_to_another():
    """The setting stands beside the key of the party that may."""
    asked = announced(release="label")
    check_policy(asked, partner(BANK, may_hold_model=True)(settings_of(CARD)), KEYS[CARD])
    assert refusal(asked, partner(NOTARY, may_hold_model=True)(settings_of(CARD))).code == "policy.release"


async def test_a_refusal_comes_before_any_share_leaves(tmp_path: Path) -> None:
    """And before any table is read."""
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job(release="label"))
        reason = off(ended, "policy.release", CARD)
        assert "may_hold_model" in reason
        kinds = {envelope.kind for envelope in stage.envelopes}
        assert not kinds & (SHARES | {"column encoding", "order contribution", "pseudonyms"})
        assert {status.table_rows for party, status in ended.items() if party == CARD} == {0}


# --- a partner that sends something else


def cut(message: Message) -> Message:
    """One word too few."""
    assert isinstance(message, ModelShare)
    return ModelShare(words=message.words[:, :-1].copy())


def recoded(change: Callable[[Any], Any]) -> Callable[[Message], Message]:
    """An encoding of other columns."""

    def spoil(message: Message) -> Message:
        assert isinstance(message, ColumnEncoding)
        columns = Encoding.model_validate_json(message.encoding).columns
        return ColumnEncoding(encoding=Encoding(columns=change(columns)).model_dump_json().encode())

    return spoil


def written(text: bytes) -> Callable[[Message], Message]:
    """Whatever is written in place of an encoding."""
    return lambda _: ColumnEncoding(encoding=text)


ELSE: dict[str, tuple[type[Message], Callable[[Message], Message]]] = {
    "a share too short": (ModelShare, cut),
    "no encoding": (ColumnEncoding, written(
        b'{"columns": [{"kind": "numeric", "name": "x", "mean": 1e999, "scale": 1}]}')),
    "a column lacks": (ColumnEncoding, recoded(lambda columns: columns[1:])),
    "a column twice": (ColumnEncoding, recoded(lambda columns: (*columns[1:], columns[1]))),
    # A category has two columns: as many different names as are due, and one too many.
    "a category twice": (ColumnEncoding, recoded(
        lambda columns: (CategoricalColumn(name=columns[0].name, categories=("a", "a")), *columns[1:]))),
    # Short, but each of its entries would take a hundred times as much memory, and as much again to be refused.
    "too many": (ColumnEncoding, written(b'{"columns":[' + b"{}," * 2**20 + b"{}]}")),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "change"), ELSE.values(), ids=ELSE)
async def test_a_share_or_an_encoding_of_something_else_is_blamed_on_its_sender(
    tmp_path: Path, kind: type[Message], change: Callable[[Message], Message]
) -> None:
    """And no part stays anywhere."""

    def tap(_: Address, message: Message) -> Message:
        return change(message) if type(message) is kind else message

    code = "message.shape" if kind is ModelShare else "message.malformed"
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.pin(CARD, BANK, may_hold_model=True)
        stage.tap = tap
        off(await stage.run(job(**ONE_STEP)), code, CARD)
        assert [list((tmp_path / party / "models").glob("*")) for party in (BANK, CARD)] == [[], []]


@pytest.mark.parametrize("sample", [NETWORK, Sample(release="label")], ids=["network", "logistic"])
def test_one_flipped_bit_in_a_share_of_the_model_is_noticed_by_the_simulator(sample: Sample) -> None:
    """The shares on disk are right, and what the label party holds is not what they add up to.

    Undisturbed it is: `heard` and `test_so_is_a_networks_with_all_its_layers` ask for that.
    Of two parties: with three, two flips may cancel each other.
    """

    def flip(_: Address, message: Message) -> Message:
        if not isinstance(message, ModelShare):
            return message
        words = message.words.copy()
        words[0, -1] ^= np.uint64(1 << 20)
        return ModelShare(words=words)

    simulation, same = exact(sample, tap=flip)
    assert simulation.done
    assert not same


@pytest.mark.parametrize(("limit", "most"), [("MOST_ENCODING", 500), ("MOST_ENTRIES", 20)])
async def test_an_encoding_that_is_too_long_to_be_told_ends_the_job_before_it_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    """Not after hours, when it is due."""
    monkeypatch.setattr(release_to_label, limit, most)
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.pin(CARD, BANK, may_hold_model=True)
        off(await stage.run(job(release="label")), "table.unusable", CARD)
        assert not {envelope.kind for envelope in stage.envelopes} & SHARES


async def test_a_partner_that_hangs_before_its_encoding_is_named(tmp_path: Path) -> None:
    """The label party waits for it, and the helper for nobody any more."""
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.pin(CARD, BANK, may_hold_model=True)
        hang_when(stage, CARD, item("model", CARD))
        await stage.start()
        job_id = stage.submit(job(**ONE_STEP))
        reason = off(await stage.ended(job_id, BANK, NOTARY), "party.silent", CARD)
        assert "'release'" in reason
