"""A helper that deals wrong gradient shares reads columns and spoils no model; checked, it reads none and is named.

Two altered shares suffice for a reading of a whole epoch: so a check of some shares would miss most readings.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import tercet.agents.training.delegated_training
from tercet.agents.roles.data_party import TrainingSetup
from tercet.agents.simulation.simulate import Simulation, bit_exact, simulate_job
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.checks import Checks
from tercet.mpc.plan.plan import Request
from tercet.mpc.reference.linear import train
from tercet.schemas.files.job import Privacy
from tests import virtual_time
from tests.agents.world import Sample, contributions, write_table
from tests.attacks.lying_helper import (
    BATCH,
    COLUMNS,
    EPOCH,
    RARE,
    VICTIM,
    Lie,
    LyingHelper,
    Outcome,
    attacked,
    differ,
    scene,
)
from tests.mpc.world import World, make_job, same

ONE_BATCH = (4, 5)


@pytest.mark.parametrize(("on", "off"), [ONE_BATCH, EPOCH])
@pytest.mark.parametrize("columns", [(9, 12), (9, 12, 4)])
def test_unchecked_it_reads_every_row_and_the_model_is_the_honest_one(columns, on, off):
    """By two altered shares, whether for one batch or for all of an epoch."""
    outcome = attacked(scene(1, 0, columns), on, off)
    assert outcome == Outcome((off - on) * BATCH, (off - on) * BATCH, honest=True, caught=False)


@pytest.mark.parametrize(("on", "off"), [ONE_BATCH, EPOCH])
@pytest.mark.parametrize("checks", [1, 2])
def test_checked_it_reads_nothing_and_is_caught(checks, on, off):
    """With every seed: what it sees from the next step on is uniform, and so is what it takes for rows."""
    guesses, rows = 0, 0
    for seed in range(3):
        outcome = attacked(scene(seed, checks), on, off)
        assert outcome.caught
        assert not outcome.honest
        guesses, rows = guesses + outcome.right, rows + outcome.rows
    assert guesses / rows < 1 / 2**COLUMNS + 6 * (rows * 2**COLUMNS) ** -0.5


@pytest.mark.parametrize(("columns", "label"), [((9, 12, 4), 0), ((9, 12, 4), 2), ((9, 12), 1)])
def test_it_is_caught_whoever_has_the_label(columns, label):
    """And with three parties, where one pair alone notices."""
    outcome = attacked(scene(3, 2, columns, label), *EPOCH)
    assert outcome.caught
    assert outcome.right < outcome.rows / 8


def planted(patch: pytest.MonkeyPatch, what: str) -> None:
    """Mistakes by which a check is worth nothing."""
    if what == "zero shares forget what was found":
        patch.setattr("tercet.mpc.linear.data_party.LinearParty.digests", {})
    elif what == "projections of nothing":
        patch.setattr("tercet.mpc.linear.checks.Projections.of", lambda self, step: [
            (np.zeros((columns, self._sizes.checks), np.uint64), None) for columns in self._sizes.columns])  # fmt: skip
    else:  # the digest does not take in what was found
        patch.setattr(
            "tercet.mpc.linear.checks.hashlib",
            SimpleNamespace(sha256=lambda _: SimpleNamespace(digest=lambda: bytes(32))),
        )


@pytest.mark.parametrize(
    "what", ["zero shares forget what was found", "projections of nothing", "nothing goes into the digest"]
)
def test_a_check_that_is_left_out_is_noticed(what, monkeypatch):
    """The attack succeeds with each of these planted mistakes."""
    planted(monkeypatch, what)
    outcome = attacked(scene(1, 2), *EPOCH)
    assert outcome.right == outcome.rows
    assert outcome.honest


def test_the_weakest_alteration_passes_as_often_as_it_says():
    """The top bit of one weight: by a projection's parity, 2^-checks; the next lower bit 2^-(2 checks)."""
    for checks, top, expected in ((1, 63, 1 / 2), (2, 63, 1 / 4), (2, 62, 1 / 16)):
        caught = 0
        for seed in range(60):
            job = make_job(Request("logistic", 64, (3, 4), 64, 1, 0.3, accept_narrow=True, checks=checks), 0, seed)
            world = World(job)
            helper = LyingHelper(job.plan, 0, {i: world.masks(i, HELPER) for i in world.ids})
            helper.lie = Lie(VICTIM, {2: 2**top}, {2: (0, 1)}, 0, 9)
            world.helper = helper
            world.run()
            caught += differ(world)
        assert abs(1 - caught / 60 - expected) < 4 * (expected * (1 - expected) / 60) ** 0.5


@given(st.data())
def test_an_honest_helper_is_never_blamed(data):
    """Any shapes, parties, links, numbers of checks, look-ahead; and the model is the oracle's, bit for bit."""
    parties = data.draw(st.sampled_from([2, 3, 4]))
    columns = tuple(data.draw(st.lists(st.integers(1, 5), min_size=parties, max_size=parties)))
    model, outputs = data.draw(st.sampled_from([("logistic", 1), ("linear", 1), ("softmax", 3), ("softmax", 5)]))
    request = Request(model, data.draw(st.integers(6, 60)), columns, data.draw(st.integers(4, 40)), 2, 0.05,
                      accept_narrow=True, outputs=outputs, checks=data.draw(st.integers(1, 4)))  # fmt: skip
    job = make_job(request, data.draw(st.integers(0, parties - 1)), data.draw(st.integers(0, 99)))
    world = World(job).run(data.draw(st.integers(0, 3)))
    assert not differ(world)
    assert same(world.weights(), train(job.xs, job.y, job.plan, job.order))


def test_what_an_attempt_has_found_is_not_forgotten_in_the_next():
    """A helper that alters a share and then falls silent until the next attempt has gained nothing."""
    job = make_job(Request("logistic", 128, (4, 3), 64, 1, 0.3, accept_narrow=True, checks=2))
    party = World(job).parties[0]
    assert party._checks is not None
    found = {1: bytes(range(32))}
    again = Checks(0, job.plan.checks, party._checks._projections, party._helper_masks, found)
    assert again.digests == found


# --- whole agents

SAMPLE = Sample(columns=(7, 8), rows=330, batch=64, epochs=2, rate=0.3)
COLUMN = "a_yes_or_no"


def lied_to(folder: Path, patch: pytest.MonkeyPatch, checks: int) -> tuple[Simulation, LyingHelper, NDArray[np.int64]]:
    """A job whose helper lies, what it has read, and the column that it is after."""
    tables, bits = SAMPLE.tables(), (np.random.default_rng(5).random(SAMPLE.rows) < RARE[0]).astype(np.int64)
    card = SAMPLE.parties[VICTIM]
    tables[card] = {COLUMN if name == f"{card}_quantity_0" else name: texts for name, texts in tables[card].items()}
    tables[card][COLUMN] = [str(bit) for bit in bits]
    parties = SAMPLE.settings(folder)
    for party, table in tables.items():
        write_table(folder / f"{party}.csv", table)
        plain = {name: one.model_copy(update={"whiten": False}) for name, one in parties[party].tables.items()}
        parties[party] = parties[party].model_copy(update={"tables": plain})
    p, liars = float(bits.mean()), list[LyingHelper]()
    no, yes = (round(value * 2**13) for value in (-np.sqrt(p / (1 - p)), np.sqrt((1 - p) / p)))

    class Lying(LyingHelper):
        """One of them."""

        lie = Lie(VICTIM, {0: 2**45}, {0: (no, yes)}, 0, 8)

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            liars.append(self)

    patch.setattr(tercet.agents.training.delegated_training, "LinearHelper", Lying)
    job = SAMPLE.description().model_copy(update={"privacy": Privacy(helper_sees="scores", checks=checks)})
    simulation = virtual_time.run(simulate_job(job, parties, folder, contribute=contributions(1)))
    return simulation, liars[0], bits


def read_right(simulation: Simulation, helper: LyingHelper, bits: NDArray[np.int64]) -> float:
    """Which part of all rows it has read as they are."""
    role = simulation.runs[SAMPLE.parties[VICTIM]].reached
    assert isinstance(role, TrainingSetup)
    steps, found = list(role.context.plan.steps()), []
    for t, read in helper.read.items():
        truth = bits[role.own.rows][role.order.rows(steps[t])]
        found += [pattern[0] == bit for pattern, bit in zip(read, truth, strict=True)]
    return float(np.mean(found))


def test_agents_do_not_notice_an_unchecked_helper(tmp_path, monkeypatch):
    """It reads the column of nine batches in ten, and the job is done, its model the oracle's to the last bit."""
    simulation, helper, bits = lied_to(tmp_path, monkeypatch, checks=0)
    assert simulation.done
    assert bit_exact(simulation)
    assert read_right(simulation, helper, bits) == 1.0


def test_agents_that_check_end_the_job_and_name_the_helper(tmp_path, monkeypatch):
    """At the end of the epoch; it knows the column no better than if it had said the more frequent value."""
    simulation, helper, bits = lied_to(tmp_path, monkeypatch, checks=2)
    failure = simulation.label_run.failure
    assert failure is not None
    assert (failure.code, failure.culprit) == ("dealing.wrong", "notary")
    assert read_right(simulation, helper, bits) < 1 - bits.mean() + 0.1
