"""Describes the layers of a model that is trained blind.

Says who is dealt how much for a step.

Layer 0 has the parties' columns below it. The last layer is the output: a linear model has no other. All others are
hidden; upper layer k is the weights above hidden layer k.
"""

from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from tercet.mpc.functions.series import Series
from tercet.mpc.plan.architecture import Entry, NetworkForward
from tercet.mpc.plan.blind import Blind, StepBits, angle_unit, relative_norm, step_bits
from tercet.mpc.plan.schedule import Step

LAST_SHAPES = 64  # of batches, and numbers of steps, that are kept: a job has two batch sizes, and a rate may fall
TRUNCATIONS = "error high", "error top", "error top slope", "delta high", "delta top"


class BlindNumbers(NetworkForward, Protocol):
    """Names the numbers of a plan that a blind forward pass needs.

    A `plan.Plan`, or the `scoring.Numbers` of a model.
    """

    @property
    def model(self) -> str:
        """The link between score and label, which names the output's series."""

    @property
    def f(self) -> int:
        """Fractional bits of errors, F."""

    @property
    def factor_bits(self) -> int:
        """Fractional bits of rows' factors; 0 where errors are not multiplied by any."""

    @property
    def factors(self) -> int:
        """Numbers of each row that functions of its score are multiplied by."""

    @property
    def hidden_bits(self) -> int:
        """Fractional bits of hidden activations and slopes, P."""

    @property
    def blind(self) -> Blind | None:
        """The series; None where the helper computes activations."""


class LayerNumbers(NamedTuple):
    """Holds the numbers by which a layer's functions are evaluated in one step."""

    series: Series
    unit: np.uint64  # 2^-64ths of a turn for each unit of a pre-activation's word
    scale: float  # by which functions are multiplied: c of the output, 1 of hidden layers
    bits: StepBits  # dealt ones are the same in all steps

    @property
    def total(self) -> int:
        """Fractional bits of a function.

        F of the output, less those of rows' factors, and P of hidden layers.
        """
        return self.bits.dealt + self.bits.public


class BlindLayout:
    """Widths, series and shapes of one plan's layers.

    Raises:
        ValueError: the helper computes this job's activation.
    """

    def __init__(self, plan: BlindNumbers) -> None:
        if plan.blind is None:
            raise ValueError("the helper computes this job's activation")
        hidden = () if plan.network is None else plan.network.hidden
        self._plan, self._blind = plan, plan.blind
        self.columns, self.widths = plan.columns, (*hidden, plan.outputs)
        self.hidden, self.output = range(len(hidden)), len(hidden)
        self._numbers_of = lru_cache(LAST_SHAPES)(self._make_numbers)  # a step asks for the same ones several times
        self._dealt = lru_cache(LAST_SHAPES)(self._list_dealt)
        self._row_words = lru_cache(LAST_SHAPES)(self._list_row_words)

    @property
    def turns(self) -> int:
        """Count the openings of one kind in a step, at most."""
        return len(self.widths)

    @property
    def narrow_bits(self) -> int:
        """Fractional bits of truncated weights above hidden layers, N."""
        return self._plan.fz - self._plan.hidden_bits

    def upper(self, k: int) -> tuple[int, int]:
        """Return the shape of the weights above hidden layer k."""
        return self.widths[k], self.widths[k + 1]

    def upper_weights(self, name: str) -> tuple[Entry, ...]:
        """Return one tensor of this name for every upper layer."""
        return tuple(Entry(name, k, self.upper(k)) for k in self.hidden)

    def series(self, k: int) -> Series:
        """Return the series of layer k's activation."""
        blind, network = self._blind, self._plan.network
        if k == self.output or network is None:
            return series_of(self._plan)
        return blind.hidden_series(network.activation)

    def numbers(self, step: Step, k: int) -> LayerNumbers:
        """Return the numbers of layer k in a step."""
        scale, least = (step.scale, step.least) if k == self.output else (1.0, 1.0)
        return self._numbers_of(k, scale, least, step.alpha)

    def _make_numbers(self, k: int, scale: float, least: float, alpha: float) -> LayerNumbers:
        series, plan = self.series(k), self._plan
        total = plan.f - plan.factor_bits if k == self.output else plan.hidden_bits
        unit = angle_unit(alpha, plan.fz, series.period)
        return LayerNumbers(series, unit, scale, step_bits(least, total, relative_norm(series)))

    def dealt(self, rows: int, *, trains: bool) -> tuple[Entry, ...]:
        """List the tensors of which every data party is dealt a share, one of them explicitly."""
        return self._dealt(rows, trains)

    def _list_dealt(self, rows: int, trains: bool) -> tuple[Entry, ...]:  # noqa: FBT001 - for a cache
        entries = [self._angles(k, rows) for k in range(self.turns)]
        for k in self.hidden:
            names = ("weights high", "weights top", *(("gradient",) if trains else ()))
            entries += [Entry(name, k, self.upper(k)) for name in names]
            entries.append(Entry("product", k, (rows, self.widths[k + 1])))
            entries += [Entry(name, k, (rows, self.widths[k])) for name in TRUNCATIONS if trains]
        if trains and self._plan.factor_bits:
            entries.append(Entry("weighted", self.output, (rows, self.widths[-1])))
        return tuple(entries)

    def narrowing(self) -> tuple[Entry, ...]:
        """List likewise what truncates upper weights once."""
        return tuple(Entry(f"weights {part}", k, self.upper(k)) for k in self.hidden for part in ("high", "top"))

    def scoring(self, rows: int) -> tuple[Entry, ...]:
        """List likewise what scores rows that are not trained on."""
        angles = (self._angles(k, rows) for k in self.hidden)
        return (*angles, Entry("scores", self.output, (rows, self.widths[-1])))

    def factors(self, rows: int) -> tuple[int, int]:
        """Return the shape of rows' factors."""
        return rows, self._plan.factors

    def unweighted(self, rows: int) -> tuple[int, int]:
        """Return the shape of what these multiply: of each factor in turn, all outputs."""
        return rows, self._plan.factors * self.widths[-1]

    def product(self, step: Step) -> tuple[int, int]:
        """Return the shape of c_ij, and of each mask on its parts."""
        return step.rows, self.widths[0]

    def others(self, i: int) -> tuple[int, ...]:
        """Return all data parties but this one."""
        return tuple(j for j in range(len(self.columns)) if j != i)

    def row_words(self, i: int, rows: int, checks: int, *, trains: bool) -> tuple[Entry, ...]:
        """List the tensors that party i is dealt by masks on rows.

        Their layer is the index of the other party.
        """
        return self._row_words(i, rows, checks, trains)

    def _list_row_words(self, i: int, rows: int, checks: int, trains: bool) -> tuple[Entry, ...]:  # noqa: FBT001
        width, found = self.widths[0], []
        for j in self.others(i):
            found += [Entry("c", j, (rows, width)), Entry("check c", j, (checks, width))]
            if trains:
                found += [Entry("g", j, (self.columns[i], width)), Entry("check g", j, (checks, width))]
        return tuple(found)

    def _angles(self, k: int, rows: int) -> Entry:
        """Describe cos and sin of the multiples of layer k's t."""
        return Entry("angles", k, (2 * len(self.series(k).multiples) * rows, self.widths[k]))


def series_of(plan: BlindNumbers) -> Series:
    """Return the series of the output's activation.

    Raises:
        ValueError: the helper computes this job's activation.
    """
    if plan.blind is None:
        raise ValueError("the helper computes this job's activation")
    return plan.blind.series(plan.model)


def layer_name(name: str, k: int) -> str:
    """Name a mask, or a share of what is dealt, of layer k."""
    return f"{name}/{k}" if k else name


def explicit_party(step: Step, parties: int) -> int:
    """Return the data party whose share of the dealt words is explicit; they take turns."""
    return step.index % parties
