"""The credit example's job as far as scores go: what each scoring of the held-out customers tells the bank.

It trains by the project's plan, oracle and order on both parties' columns, and may look at everything; attacks get
`Scorings.told` only, and the records of customers whom the bank knows.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tercet.mpc.arithmetic.fixed import Floats, decode, encode_features
from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.randomness.secret_order import Order, order_key
from tercet.mpc.reference.linear import train
from tercet.mpc.scoring.scores import decode_scores, encode_scores
from tests.attacks.tables import Levels, credit_columns

BANK_NUMBERS = ("limit_bal", "age", *(f"pay_amt{month}" for month in range(1, 7)))
BANK_LEVELS = ("sex", "education", "marriage")
DELAYS = tuple(f"pay_delay_{month}" for month in range(1, 7))
BILLS = tuple(f"bill_amt{month}" for month in range(1, 7))
HELD_OUT = 0.2


@dataclass(frozen=True)
class Scorings:
    """The card processor's part of each score of the held-out customers, and what is behind it."""

    parts: Floats  # (rows, scorings), rounded as words are, without noise
    delays: Levels  # (rows, 6)
    bills: Floats  # (rows, 6), standardised; (rows, 0) where the partner has none
    domain: Levels  # distinct records of delays that people have, (records, 6): public
    chances: Floats  # how frequent each is, (records,): public

    def reported(self, noise_bits: int | None, seed: int = 0) -> Floats:
        """What the bank is told once it takes off its own part, with the partner's own noise of +-2^-noise_bits."""
        if noise_bits is None:
            return self.parts
        half = 2.0**-noise_bits
        return self.parts + np.random.default_rng(seed).uniform(-half, half, self.parts.shape)

    @property
    def guess(self) -> float:
        """How often the most frequent record of delays is right."""
        return float((self.delays == self.domain[self.chances.argmax()]).all(axis=1).mean())


@functools.cache
def scorings(times: int = 8, seed: int = 0, *, bills: bool = True) -> Scorings:
    """Train on the credit example and score the held-out customers after each of so many epochs.

    Without `bills` the partner has categories only.
    """
    columns = credit_columns()
    held = np.random.default_rng(seed).random(len(columns["defaulted"])) < HELD_OUT
    levels = {name: np.unique(columns[name], return_inverse=True)[1] for name in (*BANK_LEVELS, *DELAYS)}
    bank = np.hstack([_numbers(BANK_NUMBERS, held), *(_onehot(levels[name]) for name in BANK_LEVELS)])
    numbers = _numbers(BILLS if bills else (), held)
    card = np.hstack([numbers, *(_onehot(levels[name]) for name in DELAYS)])
    request = Request(
        "logistic", rows=int((~held).sum()), columns=(bank.shape[1], card.shape[1]), batch=512, epochs=max(8, times),
        rate=0.5, schedule="inverse-time", decay=0.03, accept_narrow=True,
    )  # fmt: skip
    plan = make_plan(request)
    xs = [encode_features(x, norm, plan.fx) for x, norm in zip((bank, card), plan.norms, strict=True)]
    order = Order(order_key(b"attacks", {"a": bytes([seed]) * 32, "b": b"b" * 32}), request.rows)
    y = plan.link.centre(columns["defaulted"][~held].astype(np.float64), 1)
    parts, weights, trained = [], None, [x[~held] for x in xs]
    for epoch in range(times):
        first, stop = (passes * plan.steps_per_epoch for passes in (epoch, epoch + 1))
        weights = train(trained, y, plan, order, stop, weights, first)
        part = decode(xs[1][held] @ weights.blocks[1], plan.fz)
        parts.append(decode_scores(encode_scores(part)))
    delays = np.column_stack([levels[name] for name in DELAYS]).astype(np.int64)
    domain, counts = np.unique(delays[~held], axis=0, return_counts=True)
    return Scorings(np.hstack(parts), delays[held], numbers[held], domain, counts / counts.sum())


def _numbers(names: tuple[str, ...], held: NDArray[np.bool_]) -> Floats:
    """Columns standardised by the rows that are trained on, as the tables' encoding does."""
    columns = credit_columns()
    numbers = np.array([columns[name] for name in names], np.float64).reshape(len(names), len(held)).T
    scaled: Floats = (numbers - numbers[~held].mean(axis=0)) / numbers[~held].std(axis=0)
    return np.clip(scaled, -16.0, 16.0)


def _onehot(levels: NDArray[np.int64]) -> Floats:
    onehot: Floats = np.eye(int(levels.max()) + 1)[levels]
    return onehot
