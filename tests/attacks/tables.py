"""Tables whose columns are levels, and what a helper is shown of them: |z| in secret order, under noise of any width.

It trains by the project's plan, oracle, order and signs, and may look at everything; attacks get a `View` only.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from tercet.mpc.arithmetic.fixed import Floats, decode, encode, encode_features
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.functions.links import LINKS
from tercet.mpc.plan.plan import Plan, Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.secret_order import Order, order_key
from tercet.mpc.reference.linear import Weights, train

Levels = NDArray[np.int64]  # (rows, variables): the level that each row has in each variable
CREDIT = Path(__file__).parents[2] / "examples" / "credit"
# The noise is +-2^-bits of a score: what the first version had, and what there is now.
OPEN, PROTECTED = 21, LINKS["logistic"].noise_bits


@dataclass(frozen=True)
class Table:
    """Rows of levels, and a label that depends on them."""

    levels: Levels
    y: Floats  # 0 or 1

    @functools.cached_property
    def onehot(self) -> Floats:
        """A 0/1 column for each level of each variable, as the tables' encoding makes it."""
        return np.hstack([np.eye(int(column.max()) + 1)[column] for column in self.levels.T])

    @functools.cached_property
    def records(self) -> NDArray[np.int64]:
        """The number of each row's whole record."""
        return np.unique(self.levels, axis=0, return_inverse=True)[1].ravel()

    @property
    def guess(self) -> float:
        """How often the most frequent record is right."""
        return float(np.bincount(self.records).max() / len(self.records))

    def part(self, rows: NDArray[np.int64]) -> "Table":
        """Some of the rows."""
        return Table(self.levels[rows], self.y[rows])


@dataclass(frozen=True)
class View:
    """What a curious helper has of one batch or pass, and the width of the noise, which the plan says."""

    values: Floats  # |z|, (rows,)
    half: float  # the noise is uniform in +-half


@dataclass(frozen=True)
class Trained:
    """A model of two parties' columns after some steps, in words."""

    plan: Plan
    order: Order
    xs: list[Words]
    weights: Weights
    step: Step  # the next one

    def scores(self, xs: list[Words]) -> Words:
        """z of rows without noise, (rows,), f_z fractional bits."""
        z = encode(np.ones(1), self.plan.fx) * self.weights.intercept
        for x, block in zip(xs, self.weights.blocks, strict=True):
            z = z + x @ block
        return z[:, 0]

    def float_scores(self, xs: list[Words]) -> Floats:
        """The same as numbers."""
        return decode(self.scores(xs), self.plan.fz)

    def batch(self, bits: int, seed: int = 0) -> tuple[View, NDArray[np.int64]]:
        """What the helper sees of the next batch; and which rows it is of, which it does not see."""
        rows = self.order.rows(self.step)
        z = self.order.signs(self.step, odd=True)[:, 0] * self.scores([x[rows] for x in self.xs])
        return self._shown(z, bits, seed), rows

    def scoring(self, xs: list[Words], bits: int, seed: int = 0) -> View:
        """What the helper sees of a pass over other rows, here in their own order: no attack may use that."""
        return self._shown(self.scores(xs), bits, seed)

    def _shown(self, z: Words, bits: int, seed: int) -> View:
        return View(np.abs(decode(z + noise(len(z), self.plan.fz, bits, seed), self.plan.fz)), 2.0**-bits)


def noise(rows: int, fz: int, bits: int, seed: int) -> Words:
    """Words uniform in +-2^-bits, as `mpc.randomness.secret_order` makes them; more bits, less noise."""
    width = fz - bits + 1
    words = np.random.default_rng(seed).integers(0, 2**64, rows, np.uint64)
    return (words >> np.uint64(64 - width)) - np.uint64(1 << (width - 1))


def trained(table: Table, *, batch: int = 512, epochs: int = 8, rate: float = 0.5, stop: int | None = None) -> Trained:
    """Train as the credit example does, the first half of the columns at one party, up to the last step but one."""
    halves = np.array_split(table.onehot, 2, axis=1)
    request = Request(
        "logistic", rows=len(table.y), columns=tuple(half.shape[1] for half in halves), batch=batch, epochs=epochs,
        rate=rate, schedule="inverse-time", decay=0.03, accept_narrow=True,
    )  # fmt: skip
    plan = make_plan(request)
    xs = [encode_features(half, norm, plan.fx) for half, norm in zip(halves, plan.norms, strict=True)]
    order = Order(order_key(b"attacks", {"a": b"a" * 32, "b": b"b" * 32}), len(table.y))
    done = plan.steps_total - 1 if stop is None else stop
    y = plan.link.centre(table.y, 1)
    return Trained(plan, order, xs, train(xs, y, plan, order, done), next(iter(plan.steps(done))))


def labelled(levels: Levels, seed: int, signal: float = 2.0) -> Table:
    """Labels by a random weight for each level: a score of deviation `signal`, and chance."""
    rng = np.random.default_rng([seed, 1])
    effects = [rng.normal(size=int(column.max()) + 1)[column] for column in levels.T]
    score = np.sum(effects, axis=0)
    score = signal * (score - score.mean()) / score.std()
    return Table(levels, (rng.random(len(levels)) < 1.0 / (1.0 + np.exp(-score))).astype(np.float64))


def categorical(variables: int, levels: int, rows: int, seed: int, signal: float = 2.0) -> Table:
    """Variables of so many equally likely levels."""
    draws = np.random.default_rng([seed, 0]).integers(0, levels, (rows, variables))
    return labelled(draws, seed, signal)


def yes_no(columns: int, rows: int, seed: int, skewed: bool = False, signal: float = 2.0) -> Table:
    """Yes/no columns, each with one half of yes, or with shares from 0.02 to 0.3."""
    rng = np.random.default_rng([seed, 0])
    shares = rng.uniform(0.02, 0.3, columns) if skewed else np.full(columns, 0.5)
    return labelled((rng.random((rows, columns)) < shares).astype(np.int64), seed, signal)


@functools.cache
def credit_columns() -> dict[str, NDArray[np.int64]]:
    """The credit example's columns of the customers that both parties have, in one order."""
    bank = csv.read_csv(CREDIT / "bank.csv.gz").sort_by("customer")
    card = parquet.read_table(CREDIT / "card.parquet").sort_by("client_id")
    common = np.intersect1d(bank["customer"].to_numpy(), card["client_id"].to_numpy())
    found: dict[str, NDArray[np.int64]] = {}
    for table, key in ((bank, "customer"), (card, "client_id")):
        rows = table.take(pc.index_in(common, table[key].combine_chunks()))
        found |= {name: rows[name].to_numpy().astype(np.int64) for name in rows.column_names if name != key}
    return found


def credit_levels(*names: str) -> Table:
    """Some of the credit example's columns as levels, and who defaulted."""
    columns = credit_columns()
    levels = np.column_stack([np.unique(columns[name], return_inverse=True)[1] for name in names])
    return Table(levels.astype(np.int64), columns["defaulted"].astype(np.float64))
