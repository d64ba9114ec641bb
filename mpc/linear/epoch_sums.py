"""Adds up a data party's share of each epoch's loss, step by step.

It knows neither what a share is made of nor when it is opened.
"""

import numpy as np

from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.plan.schedule import OutOfTurn, Step


class EpochSums:
    """Holds what each step adds to this party's share, until that is asked for.

    Args:
        steps_per_epoch: How many make an epoch complete.
        first: The first step of this attempt.
        so_far: `before` of that step in an earlier attempt, if it is within an epoch.
    """

    def __init__(self, steps_per_epoch: int, first: int = 0, so_far: Words | None = None) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._epochs: dict[int, list[Words]] = {}
        self._begun, self._skipped = divmod(first, steps_per_epoch)  # an epoch, and its steps that are done
        self._so_far = np.zeros((1, 1), np.uint64) if so_far is None else so_far

    def add(self, step: Step, words: Words) -> None:
        """Add a step's part, (1, 1)."""
        self._epochs.setdefault(step.epoch, []).append(words)

    def share(self, epoch: int) -> Words:
        """Return the share of an epoch whose steps are all added, (1, 1). Asked for once."""
        parts = self._epochs.get(epoch, [])
        before = self._skipped if epoch == self._begun else 0
        if len(parts) + before != self._steps_per_epoch:
            raise OutOfTurn(f"the loss of epoch {epoch} is not complete, or was asked for")
        del self._epochs[epoch]
        return total([self._so_far, *parts] if before else parts)

    def before(self, step: int) -> Words:
        """Return the share of an epoch up to `step`, one of its own; (1, 1)."""
        epoch, position = divmod(step, self._steps_per_epoch)
        skipped = self._skipped if epoch == self._begun else 0
        parts = self._epochs.get(epoch, [])[: position - skipped]
        if len(parts) + skipped != position:
            raise OutOfTurn(f"the loss before step {step} is not complete, or was asked for")
        start = self._so_far if skipped else np.zeros((1, 1), np.uint64)
        return total([start, *parts])
