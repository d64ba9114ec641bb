"""Weighs rows' errors as a data party, by numbers that the label party alone has.

Everybody else sees these under masks, or in shares; the label party sees the others' shares of errors under masks.

Symbols: A are the rows' factors, e_j party j's share of a batch's errors before they are weighed, L the label party.
With masks m of L and n_j of each other party j, all of one bundle, and [x]_j party j's share of an x that is dealt,

    W   = A - m                                            L -> data, with its score opening
    D_j = e_j - n_j                                        j -> L
    A (e_L + sum_j D_j) + [m sum_j n_j]_L                  at L
    W n_j + [m sum_j n_j]_j                                at j; both together are shares of A e

Products are of rows. A Tweedie error is phi(z) - y slope(z): the label is a factor, with its sign, of the slope, and
where rows have weights, these are one of phi. Then A and e have several functions side by side, whose products are
added up. phi without a factor is added to what they give. The dealt product depends on masks of a bundle alone, so that
it is opened and compared like everything else of one (`dealing.bundles`).
"""

import numpy as np

from tercet.mpc.arithmetic.fixed import encode
from tercet.mpc.arithmetic.ring import Words, expect, total
from tercet.mpc.blind.forward import Along, Batch, BlindForward
from tercet.mpc.dealing.hidden_helper import sum_products
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.interface.script import Receive, Script, Send, received_words
from tercet.mpc.plan.schedule import Step

WEIGHT, UNWEIGHTED, WEIGHTED = "row weight", "unweighted", "weighted"  # m, n and their product that is dealt


class WeightedErrors:
    """Acts as a data party beside a `BlindForward`. Not to be shared by threads.

    Args:
        forward: The passes whose errors are weighed.
        label: The label party's index.
        rows: At the label party labels with factors; elsewhere None.
    """

    def __init__(self, forward: BlindForward, label: int, rows: RowLabels | None) -> None:
        self._forward, self._label, self._rows = forward, label, rows
        self._output, self._bits = forward.layout.output, forward.plan.factor_bits

    def opening(self, step: Step, batch: Batch) -> Along:
        """Compute W at the label party, to go with its score opening."""
        if self._rows is None:
            return ()
        shape = self._forward.layout.factors(step.rows)
        return (("row weights", self._factors(batch) - self._mask(WEIGHT, step, shape)),)

    def error_share(self, step: Step, batch: Batch) -> Script[Words]:
        """Compute a share of errors but for the constants of series.

        (rows, outputs), F fractional bits.
        """
        functions = batch.output.numbers.series.functions
        bare = len(functions) - self._forward.plan.factors
        whole = 2.0**self._bits  # gives what has no factor the bits of one
        found = batch.output.shares([(terms, whole if n < bare else 1.0) for n, terms in enumerate(functions)])
        weighed = yield from self.weigh(step, batch, np.hstack(list(found[bare:])))
        return total([weighed, *found[:bare]])

    def weigh(self, step: Step, batch: Batch, share: Words) -> Script[Words]:
        """Turn a share of functions, (rows, factors times outputs), into one of weighed errors.

        These are (rows, outputs), and have F fractional bits.
        """
        dealt, layout = batch.dealt.pop((WEIGHTED, self._output)), self._forward.layout
        if self._rows is None:
            mask, shape = self._mask(UNWEIGHTED, step, layout.unweighted(step.rows)), layout.factors(step.rows)
            yield Send("unweighted errors", 0, (self._label,), share - mask)
            masked = received_words((yield Receive("row weights", 0, {self._label: shape})))[self._label]
            return sum_products(expect(masked, shape, "the label party's masked weights"), mask) + dealt
        due = dict.fromkeys(self._forward.others, layout.unweighted(step.rows))
        theirs = received_words((yield Receive("unweighted errors", 0, due)))
        return sum_products(self._factors(batch), total([share, *theirs.values()])) + dealt

    def _factors(self, batch: Batch) -> Words:
        factors = None if self._rows is None else self._rows[batch.rows].factors
        assert factors is not None
        return encode(factors, self._bits)

    def _mask(self, name: str, step: Step, shape: tuple[int, int]) -> Words:
        return self._forward.mask(name, self._output, step, shape)
