"""The curious helper's difference-peak attack: whole records from one batch of |z|, without any side information.

It is given values and the width of their noise, and sees neither weights, nor columns, nor the order of rows.

Two rows that differ in the level of one variable differ in z by one number, w_a - w_b, whatever their other columns
say. So among the differences of all pairs of rows that number comes up again and again, while differences of rows that
have little in common are spread out: the histogram has *peaks*. Secret signs do not help: where two rows have
opposite signs the number is |z_a| + |z_b|. The attack therefore

1. merges values that are equal up to noise, and puts each beside its mirror image;
2. finds the differences that come up more often than chance, and takes as a *basis* those that are not sums of a few
   more frequent ones (a change of two variables has a peak as well, but a lower one);
3. walks from value to value along peaks, and so gives each row its coordinates: how often which number of the basis
   leads to it. Neighbours vote; least squares make the numbers sharper, and what does not fit is dropped.

A peak shows when batch^2 p_a p_b 2^-H2(other variables) exceeds about 8, and noise is narrow beside the distances of
differences.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson

from tercet.mpc.arithmetic.fixed import Floats
from tests.attacks.tables import View
from tests.attacks.walking import Indices, edges_of, relation_of, walk

MOST_VALUES = 1500  # peaks are looked for among so many; all rows are walked to
LEAST_PAIRS = 4  # of a peak, beyond what chance gives
MOST_PEAKS, MOST_BASIS, MOST_TRIPLED, MOST_ANSWERS = 200, 72, 30, 16
TOLERANCES = (1.0, 4.0, 64.0)  # of the noise's width


@dataclass(frozen=True)
class Found:
    """What the attack says: coordinates in a basis of differences for each row; all zero where it knows nothing."""

    coordinates: Indices  # (rows, size of the basis)
    walked: NDArray[np.bool_]  # (rows,)
    basis: Floats  # the differences


def attack(view: View) -> list[Found]:
    """Coordinates of each row of one batch, or of one pass under the same weights.

    A few answers, of which nobody could say which is right: for narrow and for wide tolerance, and where values are
    symmetric for each column that may be the sign.
    """
    return [found for factor in TOLERANCES for found in _attack(View(view.values, factor * view.half))]


def _attack(view: View) -> list[Found]:
    values, members = merged(view.values, view.half)
    found = peaks(sparse(values), view.half)
    basis, moves = spanned(found, view.half)
    if not len(basis):
        none = np.zeros((len(view.values), 1), np.int64)
        return [Found(none, np.zeros(len(view.values), bool), basis)]
    nodes = np.concatenate([values, -values])  # node n + i is the mirror image of node i
    edges = edges_of(nodes, found, view.half)
    coordinates, votes = walk(nodes, edges, moves, view.half)
    while len(basis) > 1 and (relation := relation_of(edges, moves, coordinates, votes > 0)) is not None:
        dropped = int(np.flatnonzero(np.abs(relation) == 1).max())  # the least frequent
        moves = moves - np.outer(moves[:, dropped], relation * relation[dropped])
        basis, moves = np.delete(basis, dropped), np.delete(moves, dropped, axis=1)
        coordinates, votes = walk(nodes, edges, moves, view.half)
    basis, moves = reduced(found, basis, moves, np.bincount(edges.peak, minlength=len(found)))
    coordinates, votes = walk(nodes, edges, moves, view.half)
    return [Found(c[members], known[members], basis) for c, known in one_of_both(coordinates, votes)]


def merged(values: Floats, half: float) -> tuple[Floats, Indices]:
    """Distinct values in ascending order, each the mean of what lies within the noise; and which each row has."""
    order = np.argsort(values)
    ascending, number, start = values[order], np.zeros(len(values), np.int64), 0
    for i in range(1, len(values)):
        fresh = ascending[i] - ascending[start] > 2.0 * half
        number[i] = number[i - 1] + fresh
        start = i if fresh else start
    members = np.empty_like(number)
    members[order] = number
    return np.bincount(number, ascending) / np.bincount(number), members


def sparse(values: Floats) -> Floats:
    """At most MOST_VALUES of them, spread evenly in rank."""
    if len(values) <= MOST_VALUES:
        return values
    return np.sort(np.random.default_rng(0).choice(values, MOST_VALUES, replace=False))


def peaks(values: Floats, half: float) -> Floats:
    """Differences that come up more often than by chance, the most frequent first."""
    i, j = np.triu_indices(len(values), 1)
    differences = np.sort(np.concatenate([values[j] - values[i], values[j] + values[i]]))
    window = 4.0 * half  # a difference of two noises is within +-2 half
    differences = differences[differences > window]
    if not len(differences):
        return np.empty(0)
    bounds = np.searchsorted(differences, differences + window, side="right")
    pairs = bounds - np.arange(len(differences))
    around = max(64.0 * window, 0.01 * float(differences[-1]))
    low, high = (np.searchsorted(differences, differences + side * around) for side in (-0.5, 0.5))
    chance = (high - low) * (window / around)
    beyond = pairs - chance
    enough = np.flatnonzero(beyond >= LEAST_PAIRS)
    enough = enough[-poisson.logsf(pairs[enough] - 1, chance[enough]) > np.log(len(differences))]
    found = np.empty(0)
    for k in enough[np.argsort(-beyond[enough], kind="stable")]:
        if len(found) == MOST_PEAKS:
            break
        middle = differences[k] + window / 2.0
        if (np.abs(middle - found) > window).all():
            found = np.append(found, np.median(differences[k : bounds[k]]))
    return found


def spanned(found: Floats, half: float) -> tuple[Floats, Indices]:
    """A basis, and each peak as whole numbers of it.

    A new member is what is no sum or difference of two earlier peaks, nor of three earlier members.
    """
    basis: list[int] = []
    moves, tolerance = np.zeros((len(found), MOST_BASIS), np.int64), 1.5 * half
    for k, peak in enumerate(found):
        move = _explained(peak, found[:k], moves[:k], tolerance)
        if move is None and len(basis) <= MOST_TRIPLED:
            for sign, member in itertools.product((1, -1), basis):
                rest = _explained(peak - sign * found[member], found[basis], moves[basis], tolerance)
                if rest is not None:
                    move = rest + sign * moves[member]
                    break
        if move is not None:
            moves[k] = move
        elif len(basis) < MOST_BASIS:
            moves[k, len(basis)] = 1
            basis.append(k)
    return found[basis], moves[:, : len(basis)]


def _explained(target: float, terms: Floats, moves: Indices, tolerance: float) -> Indices | None:
    """The move that two terms, with any signs, come to where they come to this target."""
    for first, second in ((1, 1), (1, -1), (-1, -1)):
        gaps = np.abs(first * terms[:, None] + second * terms[None, :] - target)
        if gaps.size and gaps.min() < tolerance:
            i, j = np.unravel_index(gaps.argmin(), gaps.shape)
            move: Indices = first * moves[i] + second * moves[j]
            return move
    return None


def reduced(found: Floats, basis: Floats, moves: Indices, pairs: Indices) -> tuple[Floats, Indices]:
    """The same lattice by a basis in which peaks, each counted with its pairs, are sums of the fewest members.

    A change of one variable has more pairs than those of two, but chance may have put one of these first.
    """
    cost = int(pairs @ np.abs(moves).sum(axis=1))
    improved = True
    while improved:
        improved = False
        for i, k in np.argwhere(np.abs(moves.T) == 1):
            if abs(moves[k, i]) != 1 or np.abs(moves[k]).sum() == 1:
                continue  # by now
            column = moves[:, i] * moves[k, i]
            turned = moves - np.outer(column, moves[k])
            turned[:, i] = column
            if (less := int(pairs @ np.abs(turned).sum(axis=1))) < cost:
                basis, moves, cost, improved = basis.copy(), turned, less, True
                basis[i] = found[k]
    return basis, moves


def one_of_both(coordinates: Indices, votes: Indices) -> list[tuple[Indices, NDArray[np.bool_]]]:
    """Coordinates of each value instead of it and its mirror image, and whether it was walked to; all that may be.

    Mostly the walk comes to one of both only. Where columns are symmetric the mirror images lie where other rows could,
    as if there were one column more: which of these columns is the sign, nothing tells.
    """
    n = len(votes) // 2
    here, there = votes[:n], votes[n:]
    mirrored = there > here
    both = (here > 0) & (there > 0)
    answers = [(np.where(mirrored[:, None], coordinates[n:], coordinates[:n]), (here > 0) | (there > 0))]
    if both.sum() < n // 2:
        return answers
    sums, counts = np.unique((coordinates[:n] + coordinates[n:])[both], axis=0, return_counts=True)
    whole = sums[counts.argmax()]
    for column in np.flatnonzero(np.abs(whole) == 1)[:MOST_ANSWERS]:
        up, down = (
            (part[:, column] == 0) & (seen > 0) for part, seen in ((coordinates[:n], here), (coordinates[n:], there))
        )
        answers.append((np.where(up[:, None], coordinates[:n], coordinates[n:]), up | down))
    return answers
