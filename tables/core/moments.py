"""Computes mean and deviation of a stream of numbers, and standardises by them.

It keeps no number it has seen but the least and the largest, and knows nothing of tables or columns.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLIP = 16.0  # the bound that the protocol's planner counts on for every encoded number
LEAST_EXPONENT = -1100  # below that of the smallest float64


class Moments:
    """Mean and deviation of all numbers added so far, in one pass, to float64's accuracy.

    Batches are merged by the parallel update of Chan, Golub and LeVeque, which never subtracts large sums of squares.
    Scikit-learn's StandardScaler merges likewise, but its squares leave float64's range beyond 1e154 and below 1e-162,
    so numbers are divided here by a power of two, which is exact, that brings the largest of them near one.
    """

    def __init__(self) -> None:
        self.count = 0
        self._low, self._high = np.inf, -np.inf
        self._exponent = LEAST_EXPONENT
        self._mean = self._squares = 0.0  # of the numbers divided by 2^exponent

    def add(self, values: Floats) -> None:
        """Take in finite numbers of any shape."""
        if values.size == 0:
            return
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        self._widen()
        near_one = np.ldexp(values, -self._exponent)
        mean = float(near_one.mean())
        self._merge(values.size, mean, float(np.square(near_one - mean).sum()))

    @property
    def result(self) -> tuple[float, float]:
        """Return mean and standard deviation (divided by the count).

        It is (x, 0.0) if all are x, and (0.0, 0.0) if there are none.
        """
        if self._low >= self._high:
            return (self._low, 0.0) if self.count else (0.0, 0.0)
        deviation = np.sqrt(self._squares / self.count)
        return float(np.ldexp(self._mean, self._exponent)), float(np.ldexp(deviation, self._exponent))

    def _widen(self) -> None:
        """Go over to the exponent of the largest number so far.

        What then underflows is too small to count.
        """
        largest = max(abs(self._low), abs(self._high))
        if largest == 0:  # whose exponent would hide the small numbers to come
            return
        narrower, self._exponent = self._exponent, max(self._exponent, int(np.frexp(largest)[1]))
        self._mean = float(np.ldexp(self._mean, narrower - self._exponent))
        self._squares = float(np.ldexp(self._squares, 2 * (narrower - self._exponent)))

    def _merge(self, count: int, mean: float, squares: float) -> None:
        total = self.count + count
        apart = mean - self._mean
        self._mean += apart * (count / total)
        self._squares += squares + apart * apart * (self.count * count / total)
        self.count = total


def standardise(values: Floats, mean: float, scale: float, clip: float) -> Floats:
    """Return (values - mean) / scale within ± clip, zeros where scale is 0.

    Same shape, NaN stays.
    """
    if scale == 0:
        return np.zeros_like(values)
    with np.errstate(over="ignore"):  # what overflows is far outside the clip, on the right side
        return np.clip((values - mean) / scale, -clip, clip)
