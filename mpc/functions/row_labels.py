"""Holds what the label party has of each row.

That is a centred label, what its score begins with, and what it counts. It is the label party's alone. An offset is a
number of a row that no weight of the model goes with: its score is z plus that number. A row's weight multiplies its
loss, and so its error.
"""

from dataclasses import dataclass, replace
from typing import Self, Union

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Signed
from tercet.mpc.functions.links import FAR_SCORE, Link

FACTOR_BITS = 8  # fractional bits of a row's weight
GOLDEN = 0.6180339887498949  # multiples of it are spread evenly between whole numbers
HALVINGS = 60  # of the interval in which the best constant lies

Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
AnyLabels = Union[Floats, "RowLabels"]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class RowLabels:
    """Holds rows' centred labels, (rows, outputs), their offsets and their weights.

    Offsets are (rows, 1), of a link with one output; so are weights, which have FACTOR_BITS. Where labels multiply a
    function of the score in an error, `amounts` are the labels, times the weights, rounded likewise.
    """

    link: Link
    y: Floats
    offset: Floats | None = None
    weights: Floats | None = None
    amounts: Floats | None = None

    def __post_init__(self) -> None:
        """Round the amounts of all rows, before any are chosen."""
        if self.link.slope is not None and self.amounts is None:
            counted = self.y if self.weights is None else self.weights * self.y
            object.__setattr__(self, "amounts", rounded_weights(counted))

    @classmethod
    def of(cls, link: Link, labels: AnyLabels) -> "RowLabels":
        """Take labels alone for labels without offsets."""
        return labels if isinstance(labels, RowLabels) else cls(link, labels)

    def weighed(self, weights: Floats, trained_on: Flags) -> "RowLabels":
        """Give each row a weight, (rows,).

        It is divided by the mean of its side: rows that are trained on, or others. A Poisson error w (exp(z) - y) is
        exp(z + log w) - w y, so that its label and offset have the weight.
        """
        counts = np.empty((len(self), 1))
        for side in (trained_on, ~trained_on):
            if side.any():
                counts[side, 0] = weights[side] / weights[side].mean()
        if self.link.name == "poisson":
            logs = np.log(counts)
            return replace(self, y=counts * self.y, offset=logs if self.offset is None else self.offset + logs)
        return replace(self, weights=rounded_weights(counts), amounts=None)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: "Signed | Flags") -> Self:
        beside = (None if one is None else one[rows] for one in (self.offset, self.weights, self.amounts))
        return type(self)(self.link, self.y[rows], *beside)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and outputs."""
        return self.y.shape

    @property
    def numbers(self) -> Floats:
        """All of it side by side, (rows, numbers)."""
        more = [one for one in (self.offset, self.weights) if one is not None]
        return np.hstack([self.y, *more]) if more else self.y

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

    @property
    def factors(self) -> Floats | None:
        """Numbers that functions of scores are multiplied by in errors, (rows, functions).

        Weights multiply phi, and amounts, less than 0, the link's slope; None where nothing is multiplied.
        """
        amounts = None if self.amounts is None else -self.amounts
        found = [one for one in (self.weights, amounts) if one is not None]
        return np.hstack(found) if found else None

    def known_error(self, constant: float, slope: float = 0.0) -> Floats:
        """Compute what an error adds to that of series without their constants.

        (rows, outputs). The constants are of phi, and of the slope that labels are multiplied by, if there is one.
        """
        if self.amounts is not None:
            return (constant if self.weights is None else constant * self.weights) - slope * self.amounts
        error = constant - self.target
        return error if self.weights is None else self.weights * error

    def known_loss(self, labels: Floats) -> Floats:
        """Compute the part of each row's loss that its label alone makes.

        (rows, 1), from targets that are rounded.
        """
        if self.weights is None:
            return self.link.label_part(labels)
        return self.weights * self.link.label_part(self.target)

    def loss_factors(self) -> Floats:
        """Return what score and, of weighed rows, cumulant are multiplied by, and taken off a loss.

        (rows, outputs), or twice as many: those of the cumulants come last.
        """
        if self.weights is None:
            return self.target
        return np.hstack([self.weights * self.target, np.broadcast_to(-self.weights, self.shape)])

    def loss(self, z: Floats) -> float:
        """Sum the loss of scores without their offsets over rows."""
        scores = z if self.offset is None else z + self.offset
        if self.weights is None:
            return self.link.loss(scores, self.y)
        return float((self.weights * self.link.losses(scores, self.y)).sum())

    def best_constant(self) -> Floats:
        """Return the score, (outputs,), without offsets, that fits all rows best."""
        shift, weights = self.shift, np.ones((len(self), 1)) if self.weights is None else self.weights
        if self.offset is None or shift is None:
            return self.link.constant((weights * self.y).sum(axis=0) / weights.sum())
        low, high, target = -FAR_SCORE, FAR_SCORE, self.target
        for _ in range(HALVINGS):  # a mean error rises with the score
            middle = (low + high) / 2.0
            if (weights * self.link.error(middle + shift, target)).sum() < 0.0:
                low = middle
            else:
                high = middle
        return np.array([middle])

    def constant_loss(self, of: "RowLabels") -> float:
        """Compute the mean loss of these rows under the best constant for those rows."""
        return self.loss(np.broadcast_to(of.best_constant(), self.y.shape)) / len(self)


def rounded_weights(weights: Floats) -> Floats:
    """Round weights, (rows, 1), to FACTOR_BITS.

    Some are rounded up and some down, evenly over the rows. So all rows of one weight have it on average.
    """
    places = np.arange(len(weights)).reshape(-1, 1) * GOLDEN % 1.0
    found: Floats = np.ldexp(np.floor(np.ldexp(weights, FACTOR_BITS) + places), -FACTOR_BITS)
    return found
