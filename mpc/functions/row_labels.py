"""Holds what the label party has of each row.

That is a centred label, and what its score begins with. It is the label party's alone. An offset is a number of a row
that no weight goes with: its score is z plus that number.
"""

from dataclasses import dataclass
from typing import Self, Union

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Signed
from tercet.mpc.functions.links import FAR_SCORE, Link

HALVINGS = 60  # of the interval in which the best constant lies

AnyLabels = Union[Floats, "RowLabels"]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class RowLabels:
    """Holds rows' centred labels, (rows, outputs), and their offsets.

    Offsets are (rows, 1), of a link with one output.
    """

    link: Link
    y: Floats
    offset: Floats | None = None

    @classmethod
    def of(cls, link: Link, labels: AnyLabels) -> "RowLabels":
        """Take labels alone for labels without offsets."""
        return labels if isinstance(labels, RowLabels) else cls(link, labels)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: "Signed | np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Self:
        return type(self)(self.link, self.y[rows], None if self.offset is None else self.offset[rows])

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and outputs."""
        return self.y.shape

    @property
    def numbers(self) -> Floats:
        """All of it side by side, (rows, numbers)."""
        return self.y if self.offset is None else np.hstack([self.y, self.offset])

    @property
    def shift(self) -> Floats | None:
        """Numbers that scores begin with in training.

        (rows, outputs): the link's own, and those of these rows; None where there are none.
        """
        own = None if self.link.offset is None else self.link.offset(self.y)
        if own is None or self.offset is None:
            return self.offset if own is None else own
        return own + self.offset

    @property
    def target(self) -> Floats:
        """Terms that phi is compared with, (rows, outputs)."""
        return self.link.target(self.y)

    def loss(self, z: Floats) -> float:
        """Sum the loss of scores without their offsets over rows."""
        return self.link.loss(z if self.offset is None else z + self.offset, self.y)

    def best_constant(self) -> Floats:
        """Return the score, (outputs,), without offsets, that fits all rows best."""
        shift = self.shift
        if self.offset is None or shift is None:
            return self.link.constant(self.y.mean(axis=0))
        low, high, target = -FAR_SCORE, FAR_SCORE, self.target
        for _ in range(HALVINGS):  # a mean error rises with the score
            middle = (low + high) / 2.0
            if (self.link.phi(middle + shift) - target).sum() < 0.0:
                low = middle
            else:
                high = middle
        return np.array([middle])

    def constant_loss(self, of: "RowLabels") -> float:
        """Compute the mean loss of these rows under the best constant for those rows."""
        return self.loss(np.broadcast_to(of.best_constant(), self.y.shape)) / len(self)
