"""Masks a data party's rows, which leave once, and keeps those of the others.

It sees this party's features, and the others' under masks. The others' rows are numbered by their first use.
"""

from collections.abc import Mapping

import numpy as np

from tercet.mpc.arithmetic.ring import ShapeProblem, Signed, Words
from tercet.mpc.arithmetic.stored_rows import StoredRows
from tercet.mpc.dealing.row_checks import RowChecks
from tercet.mpc.dealing.row_words import input_masks
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.row_store import RowStore
from tercet.mpc.interface.script import Receive, Script, received_words
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks


class InputRows:
    """Holds the rows of all data parties as party `me` knows them. Not to be shared by threads.

    Args:
        me: This party's index.
        plan: The job's agreed numbers.
        x: This party's features, (rows, columns), f_x fractional bits.
        stores: For E of each other data party, (rows, its columns and check columns).
        masks: Of U, shared with the helper.
        checks: Which add check columns.

    Raises:
        ShapeProblem: the features have another width than the plan says.
    """

    def __init__(
        self, me: int, plan: Plan, x: FeatureSource, *, stores: Mapping[int, RowStore], masks: Masks, checks: RowChecks
    ) -> None:
        self._me, self._x, self._stores, self._masks, self._checks = me, x, stores, masks, checks
        self._due = {i: plan.columns[i] + checks.count for i in stores}
        if x.shape[1] != plan.columns[me]:
            raise ShapeProblem(f"features: expected {plan.columns[me]} columns, got {x.shape[1]}")

    def own(self, rows: Signed) -> StoredRows:
        """Return this party's features, (rows, columns)."""
        return StoredRows(*self._x.locate_rows(rows))

    def masked(self, step: Step, new: Signed) -> Words:
        """Compute E of this party's new rows; `step` is the first that has them."""
        x = self.own(new)
        masked = input_masks(self._masks, step, self._me, x.shape, self._checks.count)
        for part, words in (slice(x.shape[1]), x.copied), (slice(x.shape[1], None), self._checks.columns(x)):
            np.subtract(words, masked[:, part], out=masked[:, part])
        return masked

    def receive(self, places: Signed) -> Script[None]:
        """Keep E of new rows, of all others."""
        due = {i: (len(places), columns) for i, columns in self._due.items()}
        for i, words in received_words((yield Receive("masked inputs", 0, due))).items():
            self._stores[i].write_rows(places, words)

    def stored(self, i: int, places: Signed) -> StoredRows:
        """Return E of these rows, of another data party."""
        return StoredRows(self._stores[i].words, places)
