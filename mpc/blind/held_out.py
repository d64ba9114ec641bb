"""Computes the mean loss of held-out rows as a data party, where nobody sees a score.

It is a forward pass without an update. Rows are the same after each epoch, so their features and labels are sent once.
"""

from collections.abc import Sequence

import numpy as np

from tercet.mpc.arithmetic.fixed import encode
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.blind.forward import BlindForward
from tercet.mpc.blind.layers import NO_OFFSET, BlindLayers
from tercet.mpc.blind.loss import BlindLoss
from tercet.mpc.blind.start import AnyShares, to_layers
from tercet.mpc.functions.row_labels import AnyLabels, RowLabels
from tercet.mpc.interface.row_store import RowStore
from tercet.mpc.interface.script import Script
from tercet.mpc.linear.epoch_sums import EpochSums
from tercet.mpc.plan.plan import LossBits
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks


class BlindHeldOut:
    """Acts as a data party in the passes of a job. Not to be shared by threads.

    Args:
        forward: Over the held-out rows.
        label: The label party's index.
        bits: With which no sum over these rows can wrap.
        y: At the label party the centred labels, (rows, outputs), with offsets if there are any; elsewhere None.
        store: Elsewhere for masked labels, (rows, `Plan.loss_columns`).
        helper_masks: As `forward` has them.
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
    ) -> None:
        self._forward, self._label, self._bits = forward, label, bits
        self._y = None if y is None else RowLabels.of(forward.plan.link, y)
        self._store, self._masks, self._layers = store, helper_masks, BlindLayers(forward)

    def begin_pass(self, steps: Sequence[Step]) -> BlindLoss:
        """Begin a pass over all rows; the loss gives the share once all its steps are done."""
        sums = EpochSums(len(steps))
        return BlindLoss(
            self._forward, self._label, self._bits, self._y, store=self._store, helper_masks=self._masks, sums=sums
        )

    def run_step(self, step: Step, loss: BlindLoss, shares: AnyShares) -> Script[None]:
        """Add a batch to the loss, by the model that these are shares of."""
        forward, batch, model = self._forward, self._forward.begin(step), to_layers(shares)
        yield from forward.exchange_inputs(step, batch, model.partners, loss.masked_labels(step, batch))
        yield from loss.receive_labels(batch)
        dealt = yield from forward.receive_dealt(step, batch, loss.dealt)
        weights = yield from forward.receive_weights(batch)
        offset = self._offset(step, batch.rows)
        yield from self._layers.run_forward(step, batch, model, weights, offset)
        yield from loss.add_batch(step, batch, dealt)

    def _offset(self, step: Step, rows: np.ndarray) -> Words | np.uint64:
        shift = None if self._y is None else self._y[rows].shift
        return NO_OFFSET if shift is None else encode(shift / step.alpha, self._forward.plan.fz)
