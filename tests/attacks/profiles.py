"""The attack on what a job is told before anybody approves it: entropies of columns that the submitter chooses.

The entropy of a yes/no column tells how frequent a yes is. Rounding hides that, but sums of columns are rounded at
other places. So a submitter asks for columns by themselves, in pairs and in threes, and fits frequencies to all.
"""

import functools
import itertools

import numpy as np
from scipy.optimize import lsq_linear

from tercet.agents.policy.budget import Budget
from tercet.agents.roles.exposure_profile import round_up
from tercet.mpc.arithmetic.fixed import Floats
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.entropy import record_bits
from tests.agents.policy.test_budget import number
from tests.agents.policy.test_check import settings_of
from tests.agents.scenes import CARD, job

COLUMNS, ROWS, TABLES, NEAR = 8, 4096, 5, 0.05
LOWEST = 0.02  # of a yes
PAIRS = [(k, k + 1) for k in range(0, COLUMNS, 2)]  # which say more than single columns, where few are answered
ASKED = PAIRS + [sets for size in (1, 2, 3) for sets in itertools.combinations(range(COLUMNS), size)]


@functools.cache
def frequencies(seed: int) -> Floats:
    """How often each column says yes, up to a half: a column's entropy is that of its opposite."""
    return np.random.default_rng(seed).uniform(LOWEST, 0.5, COLUMNS)


@functools.cache
def entropies(seed: int) -> list[float]:
    """The collision entropies of the sets, as a party measures them."""
    rng = np.random.default_rng(100 + seed)
    columns = {f"c{k}": (rng.random(ROWS) < p).astype(np.float64) for k, p in enumerate(frequencies(seed))}

    def measured(chosen: tuple[int, ...]) -> float:
        names = tuple(f"c{k}" for k in chosen)
        table = Table("people", ROWS, names, {name: columns[name] for name in names}, {})
        encoding = Encoding.fit(lambda: iter([table]), clip=16.0, rare=0, whiten=False)
        return record_bits(encoding, iter([table])).collision

    return [measured(chosen) for chosen in ASKED]


def answered(seed: int, *, protected: bool) -> tuple[list[tuple[int, ...]], Floats]:
    """The sets that are answered, and what is said of them."""
    budget, settings = Budget(), settings_of(CARD)
    said = [
        (chosen, round_up(bits) if protected else bits)
        for run, (chosen, bits) in enumerate(zip(ASKED, entropies(seed), strict=True))
        if not protected or budget.spend_profile(number(run + 1, job()), settings, [f"c{k}" for k in chosen])
    ]
    return [chosen for chosen, _ in said], np.array([bits for _, bits in said])


def fitted(seed: int, *, protected: bool) -> Floats:
    """Frequencies by which independent columns would have these entropies."""
    chosen, bits = answered(seed, protected=protected)
    inside = np.array([[float(k in sets) for k in range(COLUMNS)] for sets in chosen])
    if protected:
        bits = bits - 0.5  # the middle of what it may be
    own: Floats = lsq_linear(inside, bits, (0.0, 1.0)).x
    return (1.0 - np.sqrt(np.maximum(2.0 * 2.0**-own - 1.0, 0.0))) / 2.0


def recovered(protected: bool) -> float:
    """Columns whose frequency is right within a twentieth."""
    right = [np.abs(fitted(seed, protected=protected) - frequencies(seed)) < NEAR for seed in range(TABLES)]
    return float(np.mean(right))


def guessed() -> float:
    """Any frequency there may be."""
    return 2 * NEAR / (0.5 - LOWEST)
