"""Decorrelates a party's encoded columns, and leads weights back.

Plain gradient descent goes faster so.

It sees encoded training rows when it is fitted, keeps their mean and covariance, and no row.
"""

from collections.abc import Iterable
from typing import Self

import numpy as np
from pydantic import model_validator

from tercet.schemas.core.strict import Strict
from tercet.tables.core.moments import Floats

MOST_WHITENED = 1024  # columns: the matrix travels as text with the model, and the exact products count on it
TOLERANCE = 1e-6  # of the largest variance: directions with less are rounding, noise, or one column told twice
SLICE = 21  # bits of a factor: 2 * 21 bits of a product and 10 of 1024 summands fit the 53 bits of float64
BLOCK = 4096  # rows: bounds the memory, and changes no bit


class Whitening(Strict):
    """Turns encoded columns x into D x - offset, within ± clip.

    On the training rows they have mean 0 and variance 1, and are uncorrelated.

    Attributes:
        directions: D, (k, d), one direction after the other by falling variance.
        offset: D times the columns' mean, (k,).
    """

    directions: tuple[tuple[float, ...], ...]
    offset: tuple[float, ...]

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        widths = {len(direction) for direction in self.directions}
        if len(widths) != 1 or max(widths) > MOST_WHITENED or len(self.offset) != len(self.directions):
            raise ValueError("the whitening has no directions, or they have other lengths than they should")
        return self

    @property
    def width(self) -> int:
        """The number of columns before whitening, d."""
        return len(self.directions[0])

    def apply(self, encoded: Floats, clip: float) -> Floats:
        """Whiten rows (m, d) of numbers within ± max(clip, 1): float64 (m, k).

        A row comes out the same whatever rows go along.
        """
        directions, offset = np.array(self.directions), np.array(self.offset)
        bound = np.frexp(max(clip, 1.0))[1]
        bounds = np.frexp(np.abs(directions).max(axis=1))[1]
        factors = [part.T for part in _slices(directions, bounds[:, None])]
        units = np.ldexp(1.0, bound + bounds)
        whitened = np.empty((len(encoded), len(directions)))
        for start in range(0, len(encoded), BLOCK):
            rows = slice(start, start + BLOCK)
            product = _exact_product(_slices(encoded[rows], bound), factors)
            whitened[rows] = np.clip(product * units - offset, -clip, clip)
        return whitened

    def unwhiten(self, weights: Floats) -> tuple[Floats, float]:
        """Turn weights (k,) of whitened columns into weights (d,) of encoded ones.

        Returns what to add to the intercept too.
        """
        return weights @ np.array(self.directions), -float(weights @ np.array(self.offset))


def fit_whitening(width: int, batches: Iterable[Floats]) -> Whitening:
    """Learn the directions from all encoded training rows, (m, width) at a time.

    It takes one pass; one column varies at least.

    The width is `MOST_WHITENED` at most.
    """
    mean, covariance = _mean_and_covariance(width, batches)
    variances, vectors = np.linalg.eigh(covariance)
    kept = np.flatnonzero(variances > TOLERANCE * variances[-1])[::-1]
    directions = _same_sign(vectors[:, kept].T) / np.sqrt(variances[kept])[:, None]
    return Whitening(directions=tuple(map(tuple, directions.tolist())), offset=tuple((directions @ mean).tolist()))


def _mean_and_covariance(width: int, batches: Iterable[Floats]) -> tuple[Floats, Floats]:
    """Compute mean (width,) and covariance (width, width), merged like `Moments`.

    Both are divided by the number of rows.
    """
    count, mean, scatter = 0, np.zeros(width), np.zeros((width, width))
    for batch in batches:
        if len(batch) == 0:
            continue
        total, batch_mean = count + len(batch), batch.mean(axis=0)
        apart, centred = batch_mean - mean, batch - batch_mean
        scatter += centred.T @ centred + np.outer(apart, apart) * (count * len(batch) / total)
        mean += apart * (len(batch) / total)
        count = total
    return mean, scatter / count


def _same_sign(directions: Floats) -> Floats:
    """Turn each direction so that its largest weight is positive.

    An eigenvector's sign is the library's whim.
    """
    largest = np.abs(directions).argmax(axis=1)[:, None]
    return directions * np.sign(np.take_along_axis(directions, largest, axis=1))


def _slices(values: Floats, bound: Floats | int) -> tuple[Floats, Floats]:
    """Slice values below 2^bound into integers high and low, up to 2^SLICE.

    The values are (high + low 2^-SLICE) 2^(bound - SLICE).
    """
    scaled = values * np.ldexp(1.0, SLICE - bound)
    high = np.rint(scaled)
    return high, np.rint((scaled - high) * 2.0**SLICE)


def _exact_product(left: tuple[Floats, Floats], right: list[Floats]) -> Floats:
    """Return the product of two sliced matrices, over 2 to the sum of their bounds.

    The order in which a library adds up a matrix product depends on the number of rows, and with it the last bits.
    Of slices every sum is a whole number below 2^53, hence exact in any order.
    """
    (high, low), (right_high, right_low) = left, right
    middle = high @ right_low + low @ right_high  # low times low is no more than what slices leave out
    return (high @ right_high + middle * 2.0**-SLICE) * 2.0 ** (-2 * SLICE)
