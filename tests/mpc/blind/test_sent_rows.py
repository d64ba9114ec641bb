"""Masked rows that were sent once are found again, or sent again as the same words."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.blind.forward import BlindForward
from tercet.mpc.blind.helper import BlindHelper
from tercet.mpc.blind.loss import BlindLoss
from tercet.mpc.blind.sent_rows import SentRows, rows_before, steps_before
from tercet.mpc.interface.feature_source import ArrayFeatures
from tercet.mpc.interface.row_store import ArrayRows
from tercet.mpc.interface.script import HELPER
from tercet.mpc.linear.epoch_sums import EpochSums
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.plan import Request
from tercet.mpc.randomness.secret_order import Order
from tests.mpc.driver import Driver, Task
from tests.mpc.world import Job, keyed, make_job

REQUEST = Request("logistic", rows=70, columns=(3, 2), batch=20, epochs=3, rate=0.3, blind=Blind(32, 16))
LABEL = 1


@dataclass
class Attempts:
    """Two data parties, whose stores and row masks outlive an attempt."""

    job: Job = field(default_factory=lambda: make_job(REQUEST, LABEL, 1))

    def __post_init__(self) -> None:
        self.plan, self.order = self.job.plan, Order(b"p" * 32, REQUEST.rows)
        self.row_masks, self.labels = keyed(purpose="rows"), [ArrayRows(REQUEST.rows, 1) for _ in range(2)]
        self.stores = [{1 - i: ArrayRows(REQUEST.rows, REQUEST.columns[1 - i])} for i in range(2)]

    def forward(self, i: int, first: int) -> BlindForward:
        """Party i's, in an attempt that begins with a step."""
        return BlindForward(
            i, self.plan, ArrayFeatures(self.job.xs[i]), order=self.order, helper_masks=keyed(attempt=first)(i, HELPER),
            stores=self.stores[i], row_masks=self.row_masks(i, HELPER),
            first_use=rows_before(self.plan, self.order, first),
        )  # fmt: skip

    def sent_rows(self, first: int) -> list[SentRows]:
        """Both parties'."""
        found = []
        for i in range(2):
            forward, y = self.forward(i, first), self.job.y if i == LABEL else None
            loss = BlindLoss(
                forward, LABEL, self.plan.loss_bits, y, store=self.labels[i], helper_masks=keyed()(i, HELPER),
                row_masks=self.row_masks(i, HELPER), sums=EpochSums(self.plan.steps_per_epoch),
            )  # fmt: skip
            found.append(SentRows(forward, LABEL, loss))
        return found

    def send(self, first: int) -> list[Words]:
        """Send all rows of the steps before `first`, and keep the others'; what was sent."""
        driver, steps = Driver(range(2)), list(steps_before(self.plan, first))
        driver.drive([Task(i, iter(steps), rows.send_again) for i, rows in enumerate(self.sent_rows(first))])
        return [sent.words for sent in driver.sent]


@pytest.fixture
def attempts() -> Attempts:
    """Nothing was sent yet."""
    return Attempts()


@pytest.mark.parametrize(("first", "steps"), [(0, []), (2, [0, 1]), (3, [0, 1, 2]), (7, [0, 1, 2])])
def test_rows_were_new_in_the_first_epoch_alone(attempts: Attempts, first: int, steps: list[int]) -> None:
    """So an attempt that begins later finds those of these steps, and all others new in their own step."""
    assert [step.index for step in steps_before(attempts.plan, first)] == steps
    forward = attempts.forward(0, first)
    new = [forward.begin(step).new for step in attempts.plan.steps(first)]
    seen = np.concatenate([attempts.order.permutation(0)[:0], *new])
    before = [attempts.order.rows(step) for step in steps_before(attempts.plan, first)]
    assert sorted(np.concatenate([seen, *before])) == list(range(REQUEST.rows))


def test_digests_agree_where_what_was_sent_is_kept(attempts: Attempts) -> None:
    """At every party, of every party; of steps in the middle of the first epoch too."""
    attempts.send(3)
    for first in (2, 3, 5):
        steps = list(steps_before(attempts.plan, first))
        mine, theirs = (rows.digests(steps) for rows in attempts.sent_rows(first))
        assert mine == theirs


@pytest.mark.parametrize("damage", ["rows", "labels", "nothing kept"])
def test_a_changed_word_is_found(attempts: Attempts, damage: str) -> None:
    """Of features or of labels, and rows that are not there at all."""
    if damage != "nothing kept":
        attempts.send(3)
        store = attempts.labels[1 - LABEL] if damage == "labels" else attempts.stores[0][1]
        row = np.array([5])  # in the order of first use
        store.write_rows(row, store.read_rows(row) + np.uint64(1))
    steps = list(steps_before(attempts.plan, 3))
    mine, theirs = (rows.digests(steps) for rows in attempts.sent_rows(3))
    assert mine != theirs


def test_what_is_sent_again_is_the_same_words(attempts: Attempts) -> None:
    """Whichever attempt sends it: its masks are of the run."""
    some, again = attempts.send(3), attempts.send(2)
    assert len(again) == len(some) * 2 // 3
    assert all(np.array_equal(a, b) for a, b in zip(some, again, strict=False))


@pytest.mark.parametrize("first", [0, 2, 3, 5])
def test_the_helper_has_the_same_masks_of_rows_wherever_it_begins(attempts: Attempts, first: int) -> None:
    """Also of labels: what a data party keeps plus what the helper has are the party's rows."""
    attempts.send(3)
    masks, stores = {i: attempts.row_masks(i, HELPER) for i in range(2)}, [ArrayRows(70, n) for n in REQUEST.columns]
    helper = BlindHelper(
        attempts.plan, LABEL, {i: keyed(attempt=first)(i, HELPER) for i in range(2)}, order=attempts.order,
        stores=dict(enumerate(stores)), labels=ArrayRows(70, 1), row_masks=masks, first=first,
    )  # fmt: skip
    helper.restore_rows(steps_before(attempts.plan, first))
    for step in attempts.plan.steps(first):
        u = helper.input_masks(step)
        if step.index >= 3:  # all is sent
            rows = attempts.order.rows(step)
            places = rows_before(attempts.plan, attempts.order, 3).places(rows)
            assert all(
                np.array_equal(attempts.stores[1 - i][i].read_rows(places) + u[i].copied, attempts.job.xs[i][rows])
                for i in range(2)
            )
