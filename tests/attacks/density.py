"""Deconvolution: what a whole pass of noised |z| under one set of weights tells of the levels of z beneath.

It is given values and the width of their noise. It names no row: it finds which z there are, and how many of each.

Uniform noise has sharp edges, so the density of the values jumps where a level of z begins and ends to reach it. The
most likely density of z is found by expectation and maximisation over a fine grid (Richardson and Lucy's iteration);
its maxima are the levels. With n rows D levels over a range R stand out while sqrt(2 n) R exceeds about D^1.5.
"""

import numpy as np
from scipy.signal import fftconvolve, find_peaks

from tercet.mpc.arithmetic.fixed import Floats
from tests.attacks.tables import View


def levels(view: View, *, step: float = 0.01, rounds: int = 1500, least: float = 0.1) -> Floats:
    """The levels of |z| that the pass speaks of: maxima of the density of z, of `least` of the highest or more."""
    top = float(view.values.max()) + 2.0 * view.half
    edges = np.arange(-top, top + step, step)
    counts = np.histogram(np.concatenate([view.values, -view.values]), edges)[0].astype(np.float64)
    width = max(1, 2 * round(view.half / step) + 1)
    box = np.full(width, 1.0 / width)
    density = np.full(len(counts), counts.mean())
    for _ in range(rounds):
        expected = np.maximum(fftconvolve(density, box, "same"), 1e-9)
        density = np.maximum(density * fftconvolve(counts / expected, box, "same"), 0.0)
    middle = (edges[1:] + edges[:-1]) / 2.0
    found = find_peaks(density, height=least * density.max(), distance=max(1, round(2 * step / step)))[0]
    found = found[middle[found] >= 0.0]
    return middle[found]  # type: ignore[no-any-return]


def matched(found: Floats, truth: Floats, within: float) -> tuple[float, float]:
    """The part of true levels near a found one, and that of found levels near a true one."""
    if not len(found):
        return 0.0, 0.0
    gaps = np.abs(found[:, None] - truth[None])
    return float((gaps.min(axis=0) <= within).mean()), float((gaps.min(axis=1) <= within).mean())
