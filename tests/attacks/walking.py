"""The walk of the difference-peak attack: from value to value along peaks, whose sums are each value's coordinates.

It is given values, peaks and the width of the noise, and sees nothing of the rows behind them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.fixed import Floats

Indices = NDArray[np.int64]
LEAST_WAYS = 4  # edges that show a relation
MOST_TERMS = 5  # of a relation
ROUNDS = 8


class Edges(NamedTuple):
    """Pairs of nodes that are a peak apart."""

    start: Indices
    end: Indices
    peak: Indices


def edges_of(nodes: Floats, found: Floats, half: float) -> Edges:
    order = np.argsort(nodes)
    ascending, edges = nodes[order], []
    for k, peak in enumerate(found):
        low, high = (np.searchsorted(ascending, ascending + peak + side * 2.0 * half) for side in (-1, 1))
        counts = high - low
        starts = np.repeat(np.arange(len(nodes)), counts)
        bounds = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
        edges.append(Edges(order[starts], order[bounds], np.full(len(starts), k)))
    return Edges(*(np.concatenate(part) for part in zip(*edges, strict=True)))


def walk(nodes: Floats, edges: Edges, moves: Indices, half: float) -> tuple[Indices, Indices]:
    """Coordinates of each node, and how many neighbours say so, from the node with the most neighbours."""
    useful = moves[edges.peak].any(axis=1)
    start, end, move = edges.start[useful], edges.end[useful], moves[edges.peak[useful]]
    coordinates, votes = np.zeros((len(nodes), moves.shape[1]), np.int64), np.zeros(len(nodes), np.int64)
    if not len(start):
        return coordinates, votes
    root = int(np.bincount(np.concatenate([start, end])).argmax())
    known = np.arange(len(nodes)) == root
    for least, rounds in ((1, 1), (3, ROUNDS), (2, ROUNDS), (1, 3)):  # who has several witnesses comes first
        for _ in range(rounds):
            before = known
            votes = _vote(coordinates, known, start, end, move)
            coordinates[root], votes[root] = 0, len(start)
            votes[(votes < least) | ~_fits(nodes, coordinates, votes > 0, half)] = 0
            known = votes > 0
            if np.array_equal(known, before):
                break
    return coordinates, votes


def relation_of(edges: Edges, moves: Indices, coordinates: Indices, known: NDArray[np.bool_]) -> Indices | None:
    """A sum of members of the basis that is nothing, as several ways to one node show."""
    inside = known[edges.start] & known[edges.end] & moves[edges.peak].any(axis=1)
    start, end, peak = (part[inside] for part in edges)
    off = coordinates[start] + moves[peak] - coordinates[end]
    off = off[(np.abs(off) == 1).any(axis=1) & (np.abs(off).sum(axis=1) <= MOST_TERMS)]
    if not len(off):
        return None
    first = np.take_along_axis(off, (off != 0).argmax(axis=1)[:, None], axis=1)
    ways, counts = np.unique(off * np.sign(first), axis=0, return_counts=True)
    relation: Indices = ways[counts.argmax()]
    return relation if counts.max() >= LEAST_WAYS else None


def _vote(coordinates: Indices, known: NDArray[np.bool_], start: Indices, end: Indices, move: Indices) -> Indices:
    """Give each node the coordinates that most of its known neighbours lead to; how many they were."""
    forth, back = np.flatnonzero(known[start]), np.flatnonzero(known[end])
    to = np.concatenate([end[forth], start[back]])
    votes = np.zeros(len(known), np.int64)
    if not len(to):
        return votes
    key = np.random.default_rng(1).integers(1, 2**62, coordinates.shape[1])
    here, moved = coordinates @ key, move @ key
    hashed = np.concatenate([here[start[forth]] + moved[forth], here[end[back]] - moved[back]])
    claimed = (to.astype(np.uint64) << np.uint64(48)) | (hashed.view(np.uint64) >> np.uint64(16))
    order = np.argsort(claimed)
    to, claimed = to[order], claimed[order]
    first = np.flatnonzero(np.r_[True, claimed[1:] != claimed[:-1]])
    count = np.diff(np.r_[first, len(to)])
    ranked = np.argsort(count, kind="stable")  # of several claims to a node the most frequent is written last
    one = order[first[ranked]]
    source, edge = np.concatenate([start[forth], end[back]])[one], np.concatenate([forth, back])[one]
    claims = coordinates[source] + np.where(one < len(forth), 1, -1)[:, None] * move[edge]
    coordinates[to[first[ranked]]], votes[to[first[ranked]]] = claims, count[ranked]
    return votes


def _fits(nodes: Floats, coordinates: Indices, known: NDArray[np.bool_], half: float) -> NDArray[np.bool_]:
    """Which nodes lie where their coordinates say, once the basis is fitted to all of them."""
    design = np.hstack([coordinates, np.ones((len(nodes), 1), np.int64)]).astype(np.float64)
    inside = design[known]
    gram = inside.T @ inside + 1e-9 * np.eye(design.shape[1])  # members that no value uses have no equation
    solved = np.linalg.solve(gram, inside.T @ nodes[known])
    return np.abs(design @ solved - nodes) < 4.0 * half
