"""A training that begins at an earlier model goes on from its very words, as the oracle does, on other rows.

Each start is trained once and continued by all tests that need it.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.agents.models import model_part
from tercet.agents.models.model_part import ModelPart
from tercet.agents.simulation.exactness import bit_exact, first_weights, joint_words, label_party, same, training_words
from tercet.agents.simulation.simulate import Simulation, simulate_job
from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.plan.blind import choose_series
from tercet.mpc.plan.plan import Begin, PlanRefused, Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.reference import linear as reference
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import Evaluation, parse_job
from tests import virtual_time
from tests.agents.disclosure import (
    check_amounts,
    check_helpers_view,
    check_ledger,
    check_masks_once,
    check_roles,
    check_sealed,
)
from tests.agents.networks import mlp
from tests.agents.recording import Heard, hear, settings_of
from tests.agents.recovering import THREE, long_job, parts, recovering, states
from tests.agents.roles.test_prediction import people
from tests.agents.scenes import BANK, CARD
from tests.agents.world import NOTHING, Sample, write_table

HELD_OUT = Evaluation(holdout=0.25)
STARTS = {  # one epoch has steps enough to begin and to go on at
    "owned": Sample((4, 3), epochs=1, privacy=NOTHING),
    "shared": Sample((3, 2, 2), epochs=1, model="one-vs-rest", label=1, l2=0.05, release="shared", privacy=NOTHING),
    "seen": Sample((3, 2, 2), epochs=1, model="poisson", rate=0.03, label=2, l2=0.05, release="shared"),
    "network": mlp((4, 3), 5, epochs=1, activation="tanh", l2=0.02, release="label", privacy=NOTHING),
    "relu": mlp((4, 3), 5, epochs=1, l2=0.02),
    "more": Sample((2, 2), batch=90, rate=0.01, epochs=1, release="shared", privacy=NOTHING),
}
CHANGES: Mapping[str, Mapping[str, Any]] = {  # of the training that goes on, beside other rows
    "owned": {"l2": 0.1, "release": "shared"},  # fewer fractional bits than before: owners round
    "shared": {"release": "owners", "evaluation": HELD_OUT},
    "seen": {"l2": 0.0},
    "network": {"l2": 0.0},
    "relu": {"l2": 0.0},  # and yet its slopes are scaled
}


@dataclass(frozen=True)
class Continued:
    """A start, and the training that has begun there, both in a folder."""

    folder: Path
    first: Heard
    second: Heard


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make each pair once."""
    made: dict[str, Continued] = {}

    def make(name: str) -> Continued:
        if name not in made:
            folder, sample = tmp_path_factory.mktemp(name), STARTS[name]
            first = hear(sample, folder, tables=people(sample, sample.rows, 1))
            parts = {party: folder / party / "models" / first.job.id for party in sample.parties}
            second = hear(going_on(name), folder, tables=new_people(sample), order=3, seed=2)
            assert all(path.exists() for path in parts.values())
            made[name] = Continued(folder, first, second)
        return made[name]

    make("seen")  # in which seals are looked at: those of tests are cheap
    return make


def going_on(name: str, **more: Any) -> Sample:
    """The sample of the training that goes on."""
    return replace(STARTS[name], start=STARTS[name].description().id, **CHANGES.get(name, {}), **more)


def new_people(sample: Sample) -> dict[str, dict[str, list[str]]]:
    """More rows than the start had, and others."""
    return people(sample, 100, 2)


def parts_of(simulation: Simulation) -> dict[str, tuple[ModelPart, dict[str, Any]]]:
    """Everybody's model part."""
    runs = {party: simulation.runs[party] for party in simulation.description.data_parties}
    return {party: model_part.load(run.context.settings.state / "models" / run.job.id) for party, run in runs.items()}


@pytest.mark.parametrize("name", STARTS)
def test_a_training_goes_on_from_the_very_words_of_its_start(continued: Any, name: str) -> None:
    """In both modes, whatever is released: weights before the first step are those that the start ended with."""
    pair = continued(name)
    assert bit_exact(pair.first.simulation)
    assert bit_exact(pair.second.simulation)
    before, plan = ended(pair.first), pair.second.plan
    first = first_weights(pair.second.simulation)
    old, new = 1.0, 1.0
    if name != "owned":
        old, new = pair.first.plan.last_alpha, next(plan.steps()).alpha
        assert old == new
    blocks = [new * decode(words, plan.fw) for words in first.blocks]
    upper = [new * decode(words, plan.upper_bits) for words in first.upper]
    assert_same(before["blocks"], blocks, 0.0 if name != "owned" else 2.0**-plan.fw)
    assert_same(before["upper"], upper)
    assert_same(before["biases"], [decode(words, plan.fw) for words in first.biases], 2.0**-plan.fw)
    assert any(np.any(block != 0) for block in blocks)


def assert_same(some: list[Any], others: list[Any], within: float = 0.0) -> None:
    """All arrays, to the last bit or to a rounding."""
    assert len(some) == len(others)
    assert all(np.abs(one - other).max(initial=0) <= within for one, other in zip(some, others, strict=True))


def ended(run: Heard) -> dict[str, list[Any]]:
    """What a finished model's parts add up to, in float64."""
    parts, plan = parts_of(run.simulation), run.plan
    label = parts[run.names[run.sample.label]][1]
    if "weight_words" in label and run.network is None:
        blocks = [arrays["weight_words"] for _, arrays in parts.values()]
        biases, upper = [label["intercept_words"]], []
    else:
        names = sorted(name for name in label if name.startswith("shares/"))
        sums = {name: total(arrays[name] for _, arrays in parts.values()) for name in names}
        blocks = [sums[f"shares/{party}"] for party in parts]
        upper = [sums[name] for name in names if name.startswith("shares/upper.")]
        biases = [sums[name] for name in names if "bias." in name or name == "shares/intercept"]
    return {
        "blocks": [plan.last_alpha * decode(words, plan.fw) for words in blocks],
        "upper": [plan.last_alpha * decode(words, plan.finished_bits) for words in upper],
        "biases": [decode(words, plan.fw) for words in biases],
    }


@pytest.mark.parametrize("name", STARTS)
def test_columns_and_labels_are_encoded_as_they_were(continued: Any, name: str) -> None:
    """Not fitted again, though other rows have other means."""
    pair = continued(name)
    before, after = parts_of(pair.first.simulation), parts_of(pair.second.simulation)
    for party, (part, _) in after.items():
        assert part.encoding == before[party][0].encoding
        assert part.label_scaling == before[party][0].label_scaling
        assert part.classes == before[party][0].classes


@pytest.mark.parametrize("check", [
    check_roles, check_amounts, check_helpers_view, check_ledger, check_masks_once, check_sealed,
])  # fmt: skip
def test_what_is_sent_is_what_a_training_sends(continued: Any, check: Any) -> None:
    """Every word stands for a value of the continued model under masks that are used once."""
    check(continued("seen").second)


def test_no_word_of_the_second_training_is_masked_as_in_the_first(continued: Any) -> None:
    """Or differences of what was sent would tell differences of weights to whoever may not know them."""
    pair = continued("seen")
    seen = {words.tobytes() for words in pair.first.ear.masks.values() if words.size > 1}
    again = {words.tobytes() for words in pair.second.ear.masks.values() if words.size > 1}
    assert seen
    assert not seen & again


def test_a_model_that_has_shrunk_keeps_bits_for_its_scale() -> None:
    """Also where nothing shrinks it further: alpha is a part of the unit of angles."""
    request = Request(
        "logistic", rows=640, columns=(4, 3), batch=64, epochs=2, rate=0.1, blind=choose_series("logistic", None, None),
        accept_narrow=True,
    )  # fmt: skip
    plain, shrunk = make_plan(request), make_plan(replace(request, begin=Begin(0.9, 0)))
    assert shrunk.fz == make_plan(replace(request, l2=0.1)).fz < plain.fz
    assert next(shrunk.steps()).alpha == shrunk.alpha_after(0) == shrunk.last_alpha == 0.9
    assert "begin" not in plain.canonical()["request"]
    with pytest.raises(PlanRefused):
        make_plan(replace(request, begin=Begin(0.0, 0)))


def test_weights_have_the_bits_of_the_shares_to_begin_with() -> None:
    """Where larger steps would leave them fewer, features have fewer instead; in both modes."""
    for blind in (choose_series("logistic", None, None), None):
        request = Request(
            "logistic", rows=9000, columns=(4, 3), batch=512, epochs=2, rate=0.02, blind=blind, accept_narrow=True
        )
        start, few = make_plan(request), replace(request, rows=640, batch=64)
        assert make_plan(few).fw < start.fw
        assert make_plan(replace(few, begin=Begin(1.0, start.fw))).fw >= start.fw


async def test_it_goes_on_after_a_fault(tmp_path: Path) -> None:
    """From its own checkpoint; the model is that of the oracle, begun at the words of the start's parts."""
    first = long_job("first", epochs=2, release="shared")
    second = long_job("second", start=first.id, l2=0.01)
    async with recovering(tmp_path) as stage:
        await stage.start()
        assert states(await stage.ended(stage.submit(first), seconds=20)) == {"done"}
        name = await stage.begun(second)
        await stage.restart(CARD)
        assert states(await stage.ended(name, seconds=20)) == {"done"}
        simulation = Simulation(second, {party: stage.runs[party, name] for party in THREE})
        assert bit_exact(simulation)
        label, labels = label_party(simulation)
        assert label.context.first_step > 0
        arrays = parts(tmp_path, first.id).values()
        sums = {name: total(one[f"shares/{name}"] for one in arrays) for name in (BANK, CARD, "intercept")}
        begin = reference.Weights((sums[BANK], sums[CARD]), sums["intercept"])
        xs = training_words(simulation)
        oracle = reference.train(xs, labels.trained_on, label.context.plan, label.order, begin=begin)
        blocks, intercept = joint_words(simulation)
        assert same([*oracle.blocks, oracle.intercept], [*blocks, intercept])


# --- refusals


SHARES = {"masked inputs", "masked weights", "row mask key", "weight share", "pre-activation share"}


def refused(pair: Continued, sample: Sample, **update: Any) -> str:
    """The code by which a training that begins at the pair's start ends, before anything of a model is sent."""
    said: set[str] = set()
    settings = settings_of(sample, pair.folder, update)
    for party, table in new_people(sample).items():
        write_table(pair.folder / f"{party}.csv", table)

    def tap(_: Any, message: Any) -> Any:
        said.add(message.kind)
        return message

    simulation = virtual_time.run(simulate_job(sample.description(), settings, pair.folder, tap=tap))
    assert not SHARES & said
    failure = simulation.label_run.failure
    assert failure is not None
    return str(failure.code)


def test_what_does_not_fit_is_refused_before_a_share_leaves(continued: Any) -> None:
    """Another link, layers, parties, columns or bits, and a start that is not there."""
    pair, same_job = continued("seen"), going_on("seen")
    assert refused(continued("more"), going_on("more", l2=0.1)) == "model.start", "shares have bits too many"
    network = mlp((3, 2, 2), 4, label=2, start=same_job.start, release="shared")
    assert refused(pair, replace(same_job, model="gamma")) == "model.start"
    assert refused(pair, network) == "model.start"
    assert refused(pair, replace(same_job, label=0)) == "model.parties"
    assert refused(pair, replace(same_job, start="other-12345678")) == "model.missing"
    assert refused(pair, same_job, exclude=("bank_quantity_0",)) == "policy.columns"


def test_a_part_of_another_run_is_refused(continued: Any, tmp_path: Path) -> None:
    """Shares of two runs add up to nothing."""
    pair, sample = continued("seen"), STARTS["seen"]
    hear(sample, tmp_path, seed=5, tables=people(sample, sample.rows, 1))
    models = Path("card") / "models" / pair.first.job.id
    mine = pair.folder / models
    mine.rename(tmp_path / "mine")
    shutil.copytree(tmp_path / models, mine)
    try:
        assert refused(pair, going_on("seen")) == "model.differs"
    finally:
        shutil.rmtree(mine)
        (tmp_path / "mine").rename(mine)


def test_a_start_that_the_label_party_holds_needs_every_partners_word(continued: Any) -> None:
    """A training that stays near it gives scores by nearly known weights."""
    sample = replace(going_on("network"), release="owners")
    assert refused(continued("network"), sample) == "policy.release"


def test_folds_are_not_for_a_model_that_may_have_seen_them() -> None:
    """Their scores would be too good."""
    written = {
        "name": "more", "model": "logistic", "label": "bank", "helper": "notary", "start": "first-12345678",
        "tables": {"bank": "customers", "card": "customers"}, "evaluation": {"folds": 3},
    }  # fmt: skip
    with pytest.raises(Invalid, match="seen the folds"):
        parse_job(written, "job")
    assert parse_job(written | {"evaluation": {}}, "job").canonical()["start"] == "first-12345678"
