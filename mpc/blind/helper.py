"""Deals randomness as the helper, and receives nothing.

It knows which rows make a batch, which tells it nothing: neither ids nor values. It never sees features, labels,
weights, scores or errors, in clear or under a mask.

What it deals follows from keys that it shares with each data party, but for three things: of each bundle one data
party, which takes turns, gets explicit words, its share of cos and sin of t (`forward`) and of what hidden layers need
(`hidden_helper`); the label party gets g of a loss (`loss`); and each data party gets what goes by masks on its rows
(`row_words`).
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tercet.mpc.arithmetic.ring import Signed, Words
from tercet.mpc.arithmetic.stored_rows import StoredRows
from tercet.mpc.blind.loss import deal_loss
from tercet.mpc.dealing.bundles import Bundle, Bundles, StepBundles
from tercet.mpc.dealing.hidden_helper import bundle_words
from tercet.mpc.dealing.row_words import RowWords, input_masks
from tercet.mpc.dealing.sizes import BlindLayout
from tercet.mpc.interface.row_store import FirstUse, RowStore
from tercet.mpc.interface.script import Script, Send
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step, Turns
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order


class BlindHelper:
    """Acts as the helper in passes over fixed rows. Not to be shared by threads.

    They are of a training or of a held-out loss.

    Args:
        plan: The job's agreed numbers.
        label: The label party's index.
        masks: Shared with each data party, by its index.
        order: Of the rows, which everybody knows.
        stores: For masks on each data party's rows, (rows, its columns and check columns).
        labels: For U_y, (rows, `Plan.loss_columns`), where a loss is opened.
        row_masks: Of U and U_y, where other masks than `masks` hide rows.
        first_use: Of the rows; None: no row was used yet.
        first: The first step of this attempt.
        trains: Whether gradient shares are dealt.
    """

    def __init__(
        self,
        plan: Plan,
        label: int,
        masks: Mapping[int, Masks],
        *,
        order: Order,
        stores: Mapping[int, RowStore],
        labels: RowStore | None,
        row_masks: Mapping[int, Masks] | None = None,
        first_use: FirstUse | None = None,
        first: int = 0,
        trains: bool = True,
    ) -> None:
        self._plan, self._label, self._masks, self._order = plan, label, masks, order
        self._stores, self._labels, self._trains = stores, labels, trains
        self.layout, self._parties = BlindLayout(plan), range(len(plan.columns))
        self._bundles = Bundles(plan, first) if trains else StepBundles(len(plan.columns))
        self._checks = plan.request.checks if trains else 0
        self._row_words = RowWords(self.layout, masks, self._checks, trains=trains)
        self._row_masks = row_masks or masks
        self._first, self._turns = first_use or FirstUse(plan.request.rows), Turns(first)

    def deal_steps(self, steps: Sequence[Step]) -> Script[None]:
        """Send every data party what it is dealt for some steps, in one message each."""
        first, *later = [(step.index - steps[0].index, self.deal(step)) for step in steps]
        for party, words in first[1].items():
            more = tuple((n, "dealt", parts[party]) for n, parts in later)
            yield Send("dealt", 0, (party,), words, later=more)

    def deal(self, step: Step) -> dict[int, Words]:
        """Compute what each data party is dealt, in one row: its own words, then those of bundles."""
        u = self.input_masks(step)
        parts = {i: [self._row_words.deal(step, i, u[i])] for i in self._parties}
        if self._labels is not None:
            mask = self._labels.read_rows(self._first.places(self._order.rows(step)))
            parts[self._label].append(deal_loss(self._label, self._masks, step, mask))
        for bundle in self._bundles.sent(step):
            parts[bundle.turn].append(self._bundle_words(bundle, step))
        return {i: np.concatenate(row, axis=1) for i, row in parts.items()}

    def _bundle_words(self, bundle: Bundle, step: Step) -> Words:
        masks = {j: bundle.masks(of) for j, of in self._masks.items()}
        return bundle_words(self._plan, self.layout, masks, step, turn=bundle.turn, trains=self._trains)

    def input_masks(self, step: Step) -> dict[int, StoredRows]:
        """Return masks on a batch by data party; those of rows that no step before had are kept."""
        self._turns.begin_step("deal", step)
        rows = self._order.rows(step)
        self._store_new(step, self._first.of(rows))
        places = self._first.places(rows)
        return {i: StoredRows(store.words, places) for i, store in self._stores.items()}

    def restore_rows(self, steps: Iterable[Step]) -> None:
        """Keep masks on all rows that these steps of an earlier attempt have had."""
        for step in steps:
            self._store_new(step, self._first.of(self._order.rows(step)))

    def _store_new(self, step: Step, new: Signed) -> None:
        if not len(new):
            return
        places = self._first.places(new)
        for i, store in self._stores.items():
            block = len(new), self._plan.columns[i]
            store.write_rows(places, input_masks(self._row_masks[i], step, i, block, self._checks))
        if self._labels is not None:
            label, shape = self._label, (len(new), self._plan.loss_columns)
            self._labels.write_rows(places, self._row_masks[label]("U_y", label, label, step, shape))
