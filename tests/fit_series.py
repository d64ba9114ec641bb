"""Fits the Fourier series of all activations, and writes them to `mpc/functions/series_table.py`.

`python -m tests.fit_series` (or `make series`) does so, in ten seconds. Each fit is a linear
programme: the least largest error, where coefficients cost what rounding does to their terms.
"""

import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.functions.hidden import HIDDEN
from tercet.mpc.functions.links import LINKS
from tercet.mpc.functions.series_table import Coefficients

TABLE = Path(__file__).parents[1] / "mpc" / "functions" / "series_table.py"
ROUNDING = 2.0**-23  # of a dealt cosine with 22 fractional bits
NODES = 20  # of the programme, for each multiple
FINE = 20001  # points at which the error of a fit is measured
DIGITS = 9  # after the point: all together, the rest changes no value by more than 3e-8
ODD = {"logistic", "linear", "tanh", "sigmoid"}  # functions whose second one is even
CORNER_PART = 0.85  # of a quarter wave: its score has a corner at the end
HEADER = '''"""Holds the coefficients of `series`. Do not edit: `make series` writes this file.

`tests/fit_series.py` has the linear programme that finds them, and says what each was asked for.
"""

Numbers = tuple[float, ...]
Coefficients = tuple[float, Numbers, Numbers, float]  # constant, sines, cosines, largest error
Place = tuple[str, int, int, tuple[int, int, int], tuple[float, float]]
Row = tuple[*Place, Coefficients, Coefficients, float, Coefficients | None]

# Name, reach, period, (first multiple, step, number), (low, high), function, second function, the
# part of the interval on which a link's score is fitted, score: None if it is the function.
# fmt: off
ROWS: tuple[Row, ...] = (
'''


class Spec(NamedTuple):
    """What one row of the table is asked for."""

    name: str
    reach: int
    period: int
    step: int  # 2 for odd multiples, 1 for whole ones; the first is 1
    terms: int
    low: float
    high: float

    @property
    def multiples(self) -> list[int]:
        return [1 + self.step * k for k in range(self.terms)]

    @property
    def score_part(self) -> float:
        """The part of the interval on which the score is fitted."""
        return CORNER_PART if self.name == "logistic" else 1.0

    def scaled(self, part: float) -> "Spec":
        """The same on a part of the interval."""
        return self._replace(low=part * self.low, high=part * self.high)


def even_range(name: str, reach: int, period: int, step: int, *terms: int) -> list[Spec]:
    """Specs on |z| <= reach."""
    return [Spec(name, reach, period, step, k, -float(reach), float(reach)) for k in terms]


# Odd multiples where a function saturates: a quarter wave stays so beyond its reach.
SPECS = [
    *even_range("logistic", 16, 64, 2, 16),
    *even_range("logistic", 32, 128, 2, 16, 24, 32),
    *even_range("logistic", 64, 256, 2, 48),
    *even_range("linear", 32, 128, 1, 8, 12, 16),
    *(Spec("poisson", 5, 32, 1, k, -11.0, 5.0) for k in (12, 16)),
    *(Spec("gamma", 5, 32, 1, k, -5.0, 11.0) for k in (12, 16)),
    *even_range("tanh", 8, 32, 2, 16),
    *even_range("tanh", 16, 64, 2, 24, 32),
    *even_range("sigmoid", 8, 32, 2, 16),
    *even_range("sigmoid", 16, 64, 2, 16, 24),
    *even_range("silu", 8, 32, 1, 16),
    *even_range("silu", 16, 64, 1, 24),
    *even_range("gelu", 8, 32, 1, 16),
    *even_range("gelu", 16, 64, 1, 24, 32),
    *even_range("softplus", 8, 32, 1, 16),
    *even_range("softplus", 16, 64, 1, 24),
]


def functions(name: str) -> tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]:
    """A link's phi and cumulant, or a hidden activation's phi and slope."""
    if name in LINKS:
        return LINKS[name].phi, LINKS[name].cumulant
    return HIDDEN[name].phi, HIDDEN[name].slope


def basis(spec: Spec, z: Floats) -> Floats:
    """One, all sines, all cosines: (points, 1 + 2 terms)."""
    angles = np.outer(z, spec.multiples) * (2.0 * np.pi / spec.period)
    return np.hstack([np.ones((len(z), 1)), np.sin(angles), np.cos(angles)])


def fit(spec: Spec, function: Callable[[Floats], Floats], parity: int = 0) -> Coefficients:
    """Find the coefficients: sines alone where `parity` is -1, no sines where it is 1."""
    use = np.repeat([parity >= 0, parity <= 0, parity >= 0], [1, spec.terms, spec.terms])
    middle, half = (spec.low + spec.high) / 2, (spec.high - spec.low) / 2
    nodes = middle - half * np.cos(np.linspace(0.0, np.pi, NODES * spec.terms))
    z = nodes[nodes >= 0] if parity else nodes
    columns, y = basis(spec, z)[:, use], function(z[:, np.newaxis])[:, 0]
    one, count = np.ones((len(z), 1)), int(use.sum())
    cost = np.full(count, ROUNDING)
    cost[0] *= parity < 0  # the constant is no dealt word
    solved = linprog(  # coefficients are differences of numbers that are not negative
        np.r_[cost, cost, 1.0],
        np.r_[np.c_[columns, -columns, -one], np.c_[-columns, columns, -one]],
        np.r_[y, -y],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9},
    )
    assert solved.success, f"{spec}: {solved.message}"
    found = np.zeros(len(use))
    found[use] = (solved.x[:count] - solved.x[count:-1]).round(DIGITS) + 0.0
    fine = np.linspace(spec.low, spec.high, FINE)
    error = float(np.abs(basis(spec, fine) @ found - function(fine[:, np.newaxis])[:, 0]).max())
    constant, sines, cosines = float(found[0]), found[1 : spec.terms + 1], found[spec.terms + 1 :]
    return constant, numbers(sines, parity <= 0), numbers(cosines, parity >= 0), rounded_up(error)


def numbers(found: Floats, used: bool) -> tuple[float, ...]:
    return tuple(found.tolist()) if used else ()


def rounded_up(error: float) -> float:
    """To four digits, and past what the fine points may have missed."""
    unit = 10.0 ** (math.floor(math.log10(error)) - 3)
    return float(f"{math.ceil(error * 1.001 / unit) * unit:.4g}")


def identity(z: Floats) -> Floats:
    """A score."""
    return z


def row(spec: Spec) -> tuple[Coefficients, Coefficients, Coefficients | None]:
    """Fit the function, the second one, and the score of a link whose function is another."""
    phi, second = functions(spec.name)
    parity = int(spec.name in ODD)
    fitted = fit(spec, phi, -parity), fit(spec, second, parity)
    if spec.name in HIDDEN or spec.name == "linear":
        return *fitted, None
    return *fitted, fit(spec.scaled(spec.score_part), identity, -parity)


def literal(value: object) -> str:
    """A tuple or number, without the padding that repr would need."""
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' * (len(value) == 1)})"
    return repr(value).replace("'", '"')


def wrapped(text: str) -> str:
    """Lines of at most 100 characters, indented; broken between numbers only."""
    indent = "    "
    return textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False) + "\n"


def table() -> str:
    text = HEADER
    for spec in SPECS:
        phi, second, score = row(spec)
        multiples, interval = (1, spec.step, spec.terms), (spec.low, spec.high)
        place = (spec.name, spec.reach, spec.period, multiples, interval)
        text += wrapped(literal((*place, phi, second, spec.score_part, score)) + ",")
        for label, fitted in (("phi", phi), ("second", second), ("score", score)):
            if fitted:
                _, sines, cosines, error = fitted
                norm = math.sqrt(sum(c * c for c in (*sines, *cosines)))
                print(*place, label, f"error {error:.1e} norm {norm:.3g}")
    return text + ")\n"


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
