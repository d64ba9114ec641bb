"""Bits that are flipped on the way are refused, or change nothing that is opened.

So what a job gives out is true, and whatever words say, no owner is sent the sum of a cell below the minimum.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tercet.mpc.arithmetic.ring import ShapeProblem, Words
from tercet.mpc.reference.statistics import count_bins
from tercet.mpc.statistics.opening import WrongOpening
from tests.mpc.statistics.test_joint import THREE
from tests.mpc.statistics.world import StatisticsWorld, make_statistics_job

JOB = make_statistics_job(replace(THREE, least=15))
KINDS = [
    "masked bins", "masked targets", "masked numbers", "dealt sums", "cell opening", "cell tables", "gate opening",
    "cell marks", "cell groups", "cells", "cell sums", "correlation share",
]  # fmt: skip
REFUSED = WrongOpening, ShapeProblem


@dataclass
class Flipped(StatisticsWorld):
    """One word of one message of a kind is another."""

    kind: str = ""
    bits: int = 1
    which: int = 0  # of the messages of that kind, over all runs
    seen: int = 0

    def post(self, kind: str, turn: int, index: int, way: tuple[int, int], words: Words) -> None:
        """Take a tensor over, other than it was sent."""
        if kind == self.kind:
            if self.seen == self.which:
                words.reshape(-1)[words.size // 2] ^= np.uint64(self.bits)
            self.seen += 1
        super().post(kind, turn, index, way, words)


def run(kind: str, bits: int, which: int) -> Flipped | None:
    """A job with a flipped word; nothing where a party refuses it."""
    world = Flipped(JOB, kind=kind, bits=bits, which=which)
    try:
        return world.run()
    except REFUSED:
        return None


def are_true(world: StatisticsWorld) -> bool:
    """Whether all sums that an owner was sent are those of its cells, and none is below the minimum."""
    plan = JOB.plan
    for i in plan.partners:
        for n, column in enumerate(world.results["cells"][i][0]):
            cells = count_bins(JOB.bins[i][:, n], plan.bins[i][n], JOB.targets)
            for g in range(len(column.rows)):
                rows, positives = cells[np.array(column.groups) == g].sum(axis=0)
                if column.sums[g, 0] != positives or min(positives, rows - positives) < plan.least:
                    return False
    return True


@pytest.mark.parametrize("bits", [1, 2**31, 2**64 - 1])
@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_are_refused_or_harmless(kind: str, bits: int) -> None:
    """In the first two messages of each kind: the job fails, or what owners are sent is true.

    Sums that the label party sends an owner are its own knowledge: it may lie about its labels anyway.
    """
    for world in (run(kind, bits, which) for which in (0, 1)):
        assert world is None or are_true(world) or kind == "cell sums"


@pytest.mark.parametrize("kind", ["masked bins", "masked targets", "dealt sums", "cell groups", "cells"])
def test_one_flipped_bit_of_the_sums_is_refused(kind: str) -> None:
    """Each opened column has to add up to all rows and all labels, which the label party knows."""
    assert run(kind, 1, 0) is None


def test_flipped_numbers_are_refused() -> None:
    """A product under a wrong mask is anywhere among the words, and few words are products of standardised columns."""
    assert run("masked numbers", 1, 0) is None


def test_without_the_sums_of_columns_one_flipped_bit_goes_unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A count is off by one then."""
    monkeypatch.setattr("tercet.mpc.statistics.opening.check_totals", lambda *_: None)
    world = run("masked targets", 1, 0)
    assert world is not None
    assert not are_true(world)


def test_without_the_label_partys_check_a_cell_below_the_minimum_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """To an owner that takes each of its cells for one that passes: so the label party looks before it answers."""
    monkeypatch.setattr("tercet.mpc.statistics.opening.check_cells", lambda *_: None)
    found = [run("cell marks", 1, which) for which in range(4)]
    assert not all(world is None or are_true(world) for world in found)
    monkeypatch.undo()
    assert all(world is None or are_true(world) for world in (run("cell marks", 1, which) for which in range(4)))
