"""Computes the loss of an epoch in shares, where nobody sees a score.

Their sum is one number.

A row's loss is cumulant(z) - sum of y z + label_part(y) (`functions.links`), with a function of z in the place of z for
some links. Cumulant and z are series that the data parties evaluate from what is opened and dealt anyway. The label
party L's y' are sent once, when a batch has a row for the first time, as E_y = y' - U_y. With shares z'_j of the score
and masks n_j and q_j of party j and the helper,

    D_j = z'_j - n_j                                       j -> L
    g   = sum_j q_j - U_y^T sum_j n_j                      helper -> L, with what it deals
    L's share += g - y'^T (z'_L + sum_j D_j) + sum label_part,   j's share -= E_y^T n_j + q_j

and each party's share of the cumulant's sum on top. Products are summed over rows and outputs.

Where rows have weights A, y' has columns A y and beside them -A, and z' has the cumulants beside the scores. So the
cumulants are multiplied likewise, and nothing is on top.
"""

from collections.abc import Mapping

import numpy as np

from tercet.mpc.arithmetic.fixed import decode, encode
from tercet.mpc.arithmetic.ring import Words, expect, sum_along, total
from tercet.mpc.blind.forward import Batch, BlindForward
from tercet.mpc.dealing.sizes import series_of
from tercet.mpc.functions.row_labels import AnyLabels, RowLabels
from tercet.mpc.interface.row_store import RowStore
from tercet.mpc.interface.script import Receive, Script, Send, received_words
from tercet.mpc.linear.epoch_sums import EpochSums
from tercet.mpc.plan.plan import LossBits
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks


class BlindLoss:
    """Computes a data party's part beside a `BlindForward`. Not to be shared by threads.

    Args:
        forward: The passes whose scores count.
        label: The label party's index.
        bits: With which no sum over an epoch's rows can wrap.
        y: At the label party the centred labels, (rows, outputs); elsewhere None.
        store: Elsewhere for E_y, (rows, `Plan.loss_columns`).
        helper_masks: As the forward passes have them.
        row_masks: Likewise, of U_y.
        sums: For this party's share.
    """

    def __init__(
        self,
        forward: BlindForward,
        label: int,
        bits: LossBits,
        y: AnyLabels | None,
        *,
        store: RowStore,
        helper_masks: Masks,
        row_masks: Masks | None = None,
        sums: EpochSums,
    ) -> None:
        self._row_masks = row_masks or helper_masks
        self._forward, self._label, self._bits = forward, label, bits
        self._y = None if y is None else RowLabels.of(forward.plan.link, y)
        self._store, self._masks, self._sums = store, helper_masks, sums
        self._series = series_of(forward.plan)

    @property
    def dealt(self) -> int:
        """Count the words that the helper deals this party beside others."""
        return 1 if self._y is not None else 0

    def masked_labels(self, step: Step, batch: Batch) -> tuple[tuple[str, Words], ...]:
        """Compute E_y of new rows at the label party, to go with its masked inputs."""
        if self._y is None:
            return ()
        return (("loss labels", self.sent_labels(step, batch)),)

    def sent_labels(self, step: Step, batch: Batch) -> Words:
        """Return E_y of new rows: those that the label party sends, or has sent."""
        if self._y is None:
            return self._store.read_rows(batch.new_places)
        labels, shape = self._labels(batch.new), (len(batch.new), self._forward.plan.loss_columns)
        return labels - self._row_masks("U_y", self._label, self._label, step, shape)

    def receive_labels(self, batch: Batch) -> Script[None]:
        """Keep E_y of new rows, at all but the label party."""
        if self._y is None and len(batch.new):
            shape = (len(batch.new), self._forward.plan.loss_columns)
            words = received_words((yield Receive("loss labels", 0, {self._label: shape})))[self._label]
            self._store.write_rows(
                batch.new_places, expect(words, shape, "the label party's masked labels for the loss")
            )

    def add_batch(self, step: Step, batch: Batch, dealt: Words) -> Script[None]:
        """Add a batch to this party's share, once its scores are opened.

        `dealt` is g at the label party.
        """
        forward, (score, share) = self._forward, self._evaluate(batch)
        if self._y is None:
            yield Send("masked scores", 0, (self._label,), score - self._mask("N", step, score.shape))
            n, q = self._mask("N", step, score.shape), self._mask("Q", step, (1, 1))
            self._sums.add(step, share - sum_along(self._store.read_rows(batch.places) * n) - q)
            return
        due = dict.fromkeys(forward.others, (score.shape[0], score.shape[1]))
        theirs = received_words((yield Receive("masked scores", 0, due)))
        self._sums.add(step, share + dealt + self._own_part(step, batch, total([score, *theirs.values()])))

    def _evaluate(self, batch: Batch) -> tuple[Words, Words]:
        """Compute this party's share of z', and of the sum of cumulants.

        The latter, (1, 1), is 0 where they are weighed: then z' has them.
        """
        bits, output, series = self._bits, batch.output, self._series
        score = output.unscaled(series.score_terms, bits.score)
        if not self._weighs:
            return score, sum_along(output.unscaled(series.second, bits.total))
        return np.hstack([score, output.unscaled(series.second, bits.score)]), np.zeros((1, 1), np.uint64)

    @property
    def _weighs(self) -> bool:
        return self._forward.plan.request.weighted

    def _own_part(self, step: Step, batch: Batch, score: Words) -> Words:
        """Compute what the label party's labels add, and the constants of series."""
        bits, outputs, series = self._bits, self._forward.plan.outputs, self._series
        assert self._y is not None
        labels = self._labels(batch.rows)
        constants = [series.score_terms.constant] * outputs
        constant = encode(np.full((1, 1), series.second.constant), bits.total) * np.uint64(step.rows * outputs)
        if self._weighs:
            constants, constant = [*constants, *[series.second.constant] * outputs], np.zeros((1, 1), np.uint64)
        score = score + encode(np.array([constants]), bits.score)
        alone = encode(self._y[batch.rows].known_loss(decode(labels, bits.label)), bits.total)
        return sum_along(alone) + constant - sum_along(labels * score)

    def share(self, epoch: int) -> Words:
        """Return this party's share of the epoch's summed loss, (1, 1).

        It has `bits.total` fractional bits.

        Uniform, and together with any but all of the others'.
        """
        return self._sums.share(epoch)

    def before(self, step: int) -> Words:
        """Return this party's share of an epoch's loss up to `step`, one of its own; (1, 1)."""
        return self._sums.before(step)

    def _labels(self, rows: np.ndarray) -> Words:
        assert self._y is not None
        return encode(self._y[rows].loss_factors(), self._bits.label)

    def _mask(self, name: str, step: Step, shape: tuple[int, ...]) -> Words:
        return self._masks(name, self._label, self._forward.me, step, (shape[0], shape[1]))


def deal_loss(label: int, masks: Mapping[int, Masks], step: Step, labels_mask: Words) -> Words:
    """Compute g, (1, 1), at the helper; `labels_mask` is U_y of the batch."""
    others, shape = [j for j in masks if j != label], (labels_mask.shape[0], labels_mask.shape[1])
    n = total(masks[j]("N", label, j, step, shape) for j in others)
    return total(masks[j]("Q", label, j, step, (1, 1)) for j in others) - sum_along(labels_mask * n)
