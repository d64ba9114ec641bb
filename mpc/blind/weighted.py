"""Weighs rows' errors as a data party, by numbers that the label party alone has.

Everybody else sees these under masks, or in shares; the label party sees the others' shares of errors under masks.

Symbols: A are the rows' weights, e_j party j's share of a batch's errors before they are weighed, L the label party.
With masks m of L and n_j of each other party j, all of one bundle, and [x]_j party j's share of an x that is dealt,

    W   = A - m                                            L -> data, with its score opening
    D_j = e_j - n_j                                        j -> L
    A (e_L + sum_j D_j) + [m sum_j n_j]_L                  at L
    W n_j + [m sum_j n_j]_j                                at j; both together are shares of A e

Products are of rows. The dealt product depends on masks of a bundle alone, so that it is opened and compared like
everything else of one (`dealing.bundles`).
"""

from tercet.mpc.arithmetic.fixed import encode
from tercet.mpc.arithmetic.ring import Words, expect, total
from tercet.mpc.blind.forward import Along, Batch, BlindForward
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.interface.script import Receive, Script, Send, received_words
from tercet.mpc.plan.schedule import Step

WEIGHT, UNWEIGHTED, WEIGHTED = "row weight", "unweighted", "weighted"  # m, n and their product that is dealt


class WeightedErrors:
    """Acts as a data party beside a `BlindForward`. Not to be shared by threads.

    Args:
        forward: The passes whose errors are weighed.
        label: The label party's index.
        rows: At the label party labels with weights; elsewhere None.
    """

    def __init__(self, forward: BlindForward, label: int, rows: RowLabels | None) -> None:
        self._forward, self._label, self._rows = forward, label, rows
        self._output, self._bits = forward.layout.output, forward.plan.factor_bits

    def opening(self, step: Step, batch: Batch) -> Along:
        """Compute W at the label party, to go with its score opening."""
        if self._rows is None:
            return ()
        return (("row weights", self._weights(batch) - self._mask(WEIGHT, step, 1)),)

    def weigh(self, step: Step, batch: Batch, share: Words) -> Script[Words]:
        """Turn a share of errors, (rows, outputs), into one of weighed errors.

        These have F fractional bits.
        """
        width, dealt = share.shape[1], batch.dealt.pop((WEIGHTED, self._output))
        if self._rows is None:
            mask, shape = self._mask(UNWEIGHTED, step, width), (step.rows, 1)
            yield Send("unweighted errors", 0, (self._label,), share - mask)
            masked = received_words((yield Receive("row weights", 0, {self._label: shape})))[self._label]
            return expect(masked, shape, "the label party's masked weights") * mask + dealt
        due = dict.fromkeys(self._forward.others, (step.rows, width))
        theirs = received_words((yield Receive("unweighted errors", 0, due)))
        return self._weights(batch) * total([share, *theirs.values()]) + dealt

    def _weights(self, batch: Batch) -> Words:
        assert self._rows is not None and self._rows.weights is not None  # noqa: PT018
        return encode(self._rows.weights[batch.rows], self._bits)

    def _mask(self, name: str, step: Step, width: int) -> Words:
        return self._forward.mask(name, self._output, step, (step.rows, width))
