"""A statistics job of several parties equals the plaintext counts and products, to the last bit."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.mpc.arithmetic.ring import to_signed
from tercet.mpc.plan.schedule import OutOfTurn
from tercet.mpc.reference.statistics import count_bins, multiply_columns, passing_bins
from tercet.mpc.statistics.data_party import StatisticsParty, decode_correlations, decode_sums, encode_targets
from tercet.mpc.statistics.merging import merge_bins
from tercet.mpc.statistics.opening import OwnCells
from tercet.mpc.statistics.plan import StatisticsPlan
from tests.mpc.statistics.world import StatisticsJob, StatisticsWorld, make_statistics_job

THREE = StatisticsPlan(
    150, 1, ((3, 1), (2,), (4,)), numbers=(2, 1, 1), least=9, woe=True, correlations="label", message_words=40
)


@st.composite
def plans(draw: st.DrawFn) -> StatisticsPlan:
    """Two to four parties, some without columns, in several batches and pieces of the check."""
    parties = draw(st.integers(2, 4))
    columns = st.lists(st.integers(1, 4), max_size=2).map(tuple)
    return StatisticsPlan(
        rows=draw(st.integers(1, 90)),
        label=draw(st.integers(0, parties - 1)),
        bins=tuple(draw(columns) for _ in range(parties)),
        classes=draw(st.sampled_from([0, 2, 2, 3, 4])),
        numbers=tuple(draw(st.integers(0, 2)) for _ in range(parties)),
        target_bits=draw(st.integers(0, 16)),
        least=draw(st.integers(1, 9)),
        woe=draw(st.booleans()),
        correlations=draw(st.sampled_from(["none", "pairs", "label"])),
        message_words=draw(st.sampled_from([1, 40, 2**19])),
    )


def due_cells(job: StatisticsJob, i: int, n: int) -> OwnCells:
    """What the oracle says of a column: all bins of the label party, else what of a column may be opened."""
    plan, count = job.plan, job.plan.bins[i][n]
    cells = count_bins(job.bins[i][:, n], count, job.targets)
    passes = passing_bins(cells, plan.least, classes=bool(plan.classes)) | (i == plan.label)
    groups = merge_bins(passes, cells[:, 0], count - 1)
    merged = np.array([cells[np.array(groups) == g].sum(axis=0) for g in range(max(groups, default=-1) + 1)], np.int64)
    merged = merged.reshape(-1, cells.shape[1])
    knows = i == plan.label or (plan.woe and len(groups) > 0)
    return OwnCells(groups, merged[:, 0], merged[:, 1:] if knows else None)


def same_cells(found: OwnCells, due: OwnCells) -> bool:
    """Whether all is the same, to the last bit."""
    return plain(found) == plain(due)


def plain(cells: OwnCells) -> list[Any]:
    """As lists."""
    return [None if part is None else np.asarray(part).tolist() for part in cells]


def is_exact(world: StatisticsWorld) -> bool:
    """Whether everybody has learnt what the oracle says, and nobody anything else."""
    job, plan = world.job, world.job.plan
    fine = True
    for i in world.ids:
        own, partners = world.results["cells"][i]
        due = [due_cells(job, i, n) for n in range(len(plan.bins[i]))]
        fine &= len(own) == len(due) and all(map(same_cells, own, due))
        fine &= {*partners} == ({j for j in plan.partners if plan.cells(j)} if i == plan.label else set())
        for j, columns in partners.items():
            sums = [due_cells(replace_woe(job), j, n) for n in range(len(plan.bins[j]))]
            fine &= all(rows_of(cells) == rows_of(joined(one)) for cells, one in zip(columns, sums, strict=True))
    for i, pairs in world.results["pairs"].items():
        fine &= {*pairs} == readable(plan, i)
        fine &= all(np.array_equal(w, multiply_columns(*(job.numbers[k] for k in pair))) for pair, w in pairs.items())
    return bool(fine)


def replace_woe(job: StatisticsJob) -> StatisticsJob:
    """The same job in which owners know their sums."""
    return job._replace(plan=replace(job.plan, woe=True))


def joined(cells: OwnCells) -> Any:
    """Rows and sums together."""
    return np.column_stack([cells.rows, cells.sums]) if cells.sums is not None else np.zeros((0, 1), np.int64)


def rows_of(cells: Any) -> list[list[int]]:
    """Cells in no order."""
    return sorted(cells.tolist())


def readable(plan: StatisticsPlan, i: int) -> set[tuple[int, int]]:
    """The pairs whose products party i may know."""
    has = [k for k, count in enumerate(plan.correlated) if count]
    pairs = {(a, b) for a in has for b in has if a <= b}
    reads_all = plan.correlations == "label" and i == plan.label
    return {pair for pair in pairs if reads_all or (i in pair and (plan.correlations == "pairs" or len({*pair}) == 1))}


@settings(max_examples=40)
@given(plans(), st.integers(0, 2**32 - 1))
def test_a_statistics_job_equals_the_oracle(plan: StatisticsPlan, seed: int) -> None:
    """Whoever goes first; who may know nothing of it has nothing."""
    assert is_exact(StatisticsWorld(make_statistics_job(plan, seed), seed=seed).run())


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_a_cell_that_lacks_a_row_of_any_one_class_is_merged(classes: int) -> None:
    """Whichever class that is: bin k lacks a row of class k, and the last bin none."""
    counts = 3 - np.eye(classes + 1, classes, dtype=np.int64)
    bins, y = (np.repeat(part, counts.ravel()) for part in np.divmod(np.arange(counts.size), classes))
    plan = StatisticsPlan(len(y), 1, ((classes + 1,), ()), classes=classes, least=3, woe=True)
    nothing = np.zeros((len(y), 0), np.uint64)
    world = StatisticsWorld(
        StatisticsJob(plan, [bins[:, np.newaxis], nothing.view(np.int64)], [nothing] * 2, y.astype(np.float64))
    )
    assert is_exact(world.run())
    assert world.results["cells"][0][0][0].groups == (0,) * (classes + 1)


def test_a_wrong_word_at_any_place_is_no_longer_the_oracle() -> None:
    """So the comparison does compare."""
    job = make_statistics_job(THREE)
    world = StatisticsWorld(job).run()
    assert is_exact(world)
    job.numbers[0][0, 0] += np.uint64(1)
    assert not is_exact(world)
    job.numbers[0][0, 0] -= np.uint64(1)
    job.bins[2][0, 0] ^= 1
    assert not is_exact(world)


@cache
def inflation_world() -> StatisticsWorld:
    """A job whose label party tells owners the VIF of their columns."""
    world = StatisticsWorld(make_statistics_job(THREE)).run()
    world.share_inflation({0: np.array([1.5, 2.0]), 1: np.array([3.0]), 2: np.array([np.inf])})
    return world


def test_each_owner_is_sent_the_inflation_of_its_own_columns() -> None:
    """Bit for bit, and nobody that of another."""
    found = inflation_world().results["inflation"]
    assert [found[i].tolist() for i in range(3)] == [[1.5, 2.0], [3.0], [np.inf]]


def test_counts_take_half_the_words_of_amounts() -> None:
    """Two cells share a word where 32 bits are enough."""
    amounts = replace(THREE, classes=0)
    assert [plan.masked_words(0) for plan in (THREE, amounts)] == [2, 4]


def test_amounts_keep_their_sums_and_squares() -> None:
    """With their fractional bits."""
    plan = StatisticsPlan(3, 0, ((1,), (1,)), classes=0, target_bits=4)
    targets = encode_targets(plan, np.array([0.5, -1.25, 3.0]))
    assert decode_sums(plan, to_signed(targets)).tolist() == [[0.5, 0.25], [-1.25, 1.5625], [3.0, 9.0]]
    products = multiply_columns(*(np.array([[2**16], [0], [2**17]], np.uint64) for _ in range(2)))
    assert decode_correlations(plan, products).tolist() == [[5 / 3]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rows": 0}, "rows"),
        ({"label": 3}, "label party"),
        ({"bins": ((1,),)}, "two parties"),
        ({"bins": ((0,), (1,), (1,))}, "one bin"),
        ({"classes": 1}, "two classes"),
        ({"numbers": (1,)}, "for each party"),
        ({"least": 0}, "minimum"),
        ({"fx": 28}, "wrap"),
        ({"message_words": 0}, "word or more"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change: dict[str, Any], reason: str) -> None:
    """With what it needs."""
    with pytest.raises(ValueError, match=reason):
        replace(THREE, **change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bins": np.full((150, 2), 3)}, "within the plan"),
        ({"bins": np.full((150, 2), -1)}, "within the plan"),
        ({"bins": np.zeros((149, 2), np.int64)}, "each row"),
        ({"ordered": (4, 1)}, "ordered"),
        ({"targets": np.zeros((150, 1), np.uint64)}, "label party alone"),
        ({"numbers": None}, "numbers"),
    ],
)
def test_a_party_is_refused_inputs_that_do_not_fit(change: dict[str, Any], reason: str) -> None:
    """Before anything is sent."""
    world = StatisticsWorld(make_statistics_job(THREE))
    with pytest.raises(ValueError, match=reason):
        StatisticsParty(0, THREE, **(world.arguments(0) | change))


def test_labels_that_do_not_fit_are_refused() -> None:
    """Another class, or squares whose sum could wrap."""
    with pytest.raises(ValueError, match="no class"):
        encode_targets(THREE, np.array([0.0, 2.0]))
    with pytest.raises(ValueError, match="too large"):
        encode_targets(replace(THREE, classes=0, target_bits=20), np.array([2.0**12]))


def test_no_step_can_be_run_twice() -> None:
    """A mask must not meet two values."""
    world = StatisticsWorld(make_statistics_job(THREE))
    first = next(THREE.steps())
    next(world.parties[0].run_step(first))
    with pytest.raises(OutOfTurn):
        next(world.parties[0].run_step(first))
    world.helper.deal_step(first).close()
    assert not list(world.helper.deal_step(first))
    with pytest.raises(OutOfTurn):
        list(world.helper.deal_step(first))
