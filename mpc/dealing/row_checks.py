"""Checks what the helper deals by masks on rows, c_ij and g_ij (`row_words`).

Nobody can open those. It sees words under masks and a key of data parties alone; never a value of another party.

Each batch gets check rows a X_i, and each party's features get check columns X_i s_i. These are random combinations
that the helper does not know, masked like features: a X_i - U*_i and X_i s_i - U'_i. The helper deals c*_ij and g'_ij
for them as for all others. Party i's share of the score of a check row must be that combination of its shares of rows'
scores, and likewise of a check column's gradient. What both ends know of that adds up to zero:

    theta_ij = a c_ij - c*_ij                               s_i^T g_ij - g'_ij       at i
    tau_ij   = a (E_i v_ij + p_ij) - E*_i v_ij - p*_ij      s_i^T d_ij - d'_ij       at j, d_ij = r_ij - E_i^T r_j

An alteration that is a multiple of 2^v passes with a probability of 2^-(checks (64 - v)). Neither end tells the other
its words, as in `linear.checks`. Both hash them into a digest, and compare digests by commitments.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

import numpy as np

from tercet.mpc.arithmetic.ring import Words, expect, product
from tercet.mpc.arithmetic.stored_rows import StoredRows
from tercet.mpc.dealing.row_words import CHECK_ROWS
from tercet.mpc.dealing.sizes import BlindLayout
from tercet.mpc.interface.script import Receive, Script, Send, received_words
from tercet.mpc.linear.algebra import NO_DIGESTS
from tercet.mpc.linear.checks import NO_DIGEST, extend_digest, inner
from tercet.mpc.plan.architecture import Tensors
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Keystream, Masks
from tercet.mpc.randomness.secret_order import derive_subkey

STEPS_AN_EXCHANGE = 32  # of check rows: a message for each step took a tenth of its processor time
LAST_STEPS = 64  # whose check rows are kept: as many as are ahead at a time
NO_KEY = b"nothing is checked"


class RowChecks:
    """Makes data party `me`'s checks in one attempt. Not to be shared by threads.

    For each step `add_scores`, `add_gradient` and `add_dealt`, which may run ahead; then `add_rows`, in order of steps.
    `exchange` ends the checks of all steps since the last exchange, at the same step at all parties.

    Args:
        me: This party's index.
        plan: The job's agreed numbers.
        masks: Shared with the helper.
        count: Check rows of each batch, and check columns of each party.
        key: Of data parties alone. Each attempt of a run has the same one, as masks on check columns are of the run.
        attempt: Its number.
        digests: Where an earlier attempt was, by party.
    """

    def __init__(
        self,
        me: int,
        plan: Plan,
        masks: Masks,
        *,
        count: int = 0,
        key: bytes = NO_KEY,
        attempt: int = 1,
        digests: Mapping[int, bytes] | None = None,
    ) -> None:
        self._me, self._plan, self._columns, self._masks, self.count = me, plan, plan.columns, masks, count
        self._layout = BlindLayout(plan)
        self._others = self._layout.others(me)
        self._row_stream = Keystream(derive_subkey(key, f"check rows of attempt {attempt}"))
        self._a = lru_cache(LAST_STEPS)(self._draw)  # a step asks for it more than once
        self._s = check_columns(plan.columns, count, key)
        self._thetas: dict[int, dict[int, list[Words]]] = defaultdict(dict)  # by step and other party
        self._taus: dict[int, dict[int, list[Words]]] = defaultdict(dict)
        self._open: list[tuple[Step, Words]] = []  # steps since the last exchange, with this party's check rows
        self._digests = {j: NO_DIGEST if digests is None else digests[j] for j in self._others}

    @property
    def digests(self) -> Mapping[int, bytes]:
        """Digests of what this party and each other one have found; the same, or the helper lied."""
        return self._digests if self.count else NO_DIGESTS

    def columns(self, x: StoredRows) -> Words:
        """Compute the check columns of this party's features, (rows, checks)."""
        return x.product(self._s[self._me])

    # --- ahead of time

    def add_scores(self, step: Step, i: int, share: Words) -> None:
        """Accept this party's share of what block i scores.

        (rows, width), as far as it is known ahead.
        """
        if self.count:
            self._taus[step.index][i] = [product(self._a(step), share)]

    def add_gradient(self, step: Step, i: int, share: Words) -> None:
        """Accept this party's share of the gradient of block i and its check columns.

        (columns + checks, width).
        """
        if self.count:
            self._taus[step.index][i].append(self._of_columns(i, share[: self._columns[i]], share[self._columns[i] :]))

    def add_dealt(self, step: Step, dealt: Tensors) -> None:
        """Accept what the helper deals this party by masks on rows (`BlindLayout.row_words`)."""
        for j in self._others if self.count else ():
            scores = product(self._a(step), dealt["c", j]) - dealt["check c", j]
            self._thetas[step.index][j] = [scores, self._of_columns(self._me, dealt["g", j], dealt["check g", j])]

    def _draw(self, step: Step) -> Words:
        """Draw a, (checks, rows), the same one at all data parties."""
        return self._row_stream.words(0, step.epoch, step.position, (self.count, step.rows))

    def _of_columns(self, i: int, gradient: Words, checked: Words) -> Words:
        return inner(self._s[i], gradient) - checked

    # --- online

    def with_rows(self, step: Step, error: Words) -> Words:
        """Add a^T to a batch's error, for check rows to be made with the gradient.

        (rows, width + checks).
        """
        if not self.count:
            return error
        both = np.empty((error.shape[0], error.shape[1] + self.count), np.uint64)
        both[:, : error.shape[1]], both[:, error.shape[1] :] = error, self._a(step).T
        return both

    def add_rows(self, step: Step, combined: Words) -> None:
        """Accept (a X)^T of this party's rows of a batch, and make its check rows of it.

        (columns, checks).
        """
        if self.count:
            mask = self._masks(CHECK_ROWS, self._me, self._me, step, (self.count, combined.shape[0]))
            self._open.append((step, combined.T - mask))

    def is_due(self, step: Step) -> bool:
        """Tell whether a step ends with an exchange; the last of an epoch does."""
        is_last = step.position + 1 == self._plan.steps_per_epoch
        return bool(self.count) and (is_last or (step.index + 1) % STEPS_AN_EXCHANGE == 0)

    def exchange(self) -> Script[None]:
        """Exchange the check rows of all steps since the last exchange.

        What they come to goes into the digests.
        """
        steps, self._open = self._open, []
        if not steps:
            return
        yield Send("check rows", 0, tuple(self._others), np.concatenate([rows for _, rows in steps]))
        due = {i: (len(steps) * self.count, self._columns[i]) for i in self._others}
        received = received_words((yield Receive("check rows", 0, due)))
        found = {i: expect(received[i], due[i], f"check rows of party {i}") for i in self._others}
        for n, (step, _) in enumerate(steps):
            for i, words in found.items():
                self._add_check_scores(step, i, words[n * self.count : (n + 1) * self.count])
            self._digest(step)

    def _add_check_scores(self, step: Step, i: int, masked: Words) -> None:
        width = self._layout.widths[0]
        scores = product(masked, self._masks("V", i, self._me, step, (self._columns[i], width)))
        self._taus[step.index][i][0] -= scores + self._masks("P*", i, self._me, step, (self.count, width))

    def _digest(self, step: Step) -> None:
        thetas, taus = self._thetas.pop(step.index), self._taus.pop(step.index)
        for j in self._others:
            negated = [-words for words in taus[j]]
            both = [*thetas[j], *negated] if self._me < j else [*negated, *thetas[j]]
            self._digests[j] = extend_digest(self._digests[j], both)


def check_columns(columns: tuple[int, ...], count: int, key: bytes) -> tuple[Words, ...]:
    """Draw s_i, (columns, count), of every data party; the same in each attempt of a run."""
    bounds = [int(bound) for bound in np.cumsum([0, *columns])]
    words = Keystream(derive_subkey(key, "check columns")).words(0, 0, 0, (bounds[-1], count))
    return tuple(words[start:end] for start, end in pairwise(bounds))
