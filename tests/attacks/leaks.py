"""What sizes and losses tell beside what they are for: how many raw columns a table has, and the mean of counts.

Neither depends on any one row: the first is a number of the settings, the second a mean over all rows.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tercet.agents.session.training_defaults import announced_spread
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.functions.links import LINKS
from tercet.schemas.files.job import Evaluation, Privacy, Training, TrainingJob
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding

MOST_COLUMNS, ROWS, TABLES = 8, 64, 40
COUNTS, NEAR = 4096, 0.1  # rows with counts; a mean is right within a tenth


def table_of(columns: int, rng: np.random.Generator) -> Encoding:
    """A table of so many columns, some of them categories, as a party that does not whiten encodes it."""
    texts = {f"c{k}": rng.choice(["a", "b", "c"], ROWS).astype(object) for k in range(columns) if rng.random() < 0.5}
    numbers = {f"c{k}": rng.normal(size=ROWS) for k in range(columns) if f"c{k}" not in texts}
    table = Table("people", ROWS, tuple(f"c{k}" for k in range(columns)), numbers, texts)
    return Encoding.fit(lambda: iter([table]), clip=16.0, rare=0, whiten=False)


def job_with(rate: float | str) -> TrainingJob:
    """A training at this rate."""
    return TrainingJob(
        name="credit",
        model="logistic",
        label="bank",
        helper="notary",
        tables=(("bank", "people"), ("card", "people")),
        training=Training.model_validate({"rate": rate}),
        privacy=Privacy(helper_sees="scores"),
    )


def raw_columns(protected: bool) -> float:
    """Tables whose number of columns the helper reads off the spread."""
    rng, job = np.random.default_rng(0), job_with(0.5 if protected else "auto")
    made = [table_of(int(rng.integers(2, MOST_COLUMNS + 1)), rng) for _ in range(TABLES)]
    return float(np.mean([round(announced_spread(job, one)) == len(one.columns) for one in made]))


def guessed_columns() -> float:
    """Any number that there may be."""
    return 1 / (MOST_COLUMNS - 1)


@dataclass(frozen=True)
class Counts:
    """Counts of one company's customers, and the loss of the best model of them, as all data parties are told it."""

    mean: float
    loss: float


@functools.cache
def counts() -> Sequence[Counts]:
    """Counts that follow from columns, of means from 1 to 30."""
    rng, link = np.random.default_rng(1), LINKS["poisson"]
    found = []
    for mean in np.exp(rng.uniform(0.0, np.log(30.0), TABLES)):
        rates = np.exp(rng.normal(0.0, 0.5, COUNTS))
        y: Floats = rng.poisson(mean * rates).astype(np.float64)
        z, label = np.log(mean * rates / y.mean())[:, None], (y / y.mean())[:, None]
        loss = link.cumulant(z) - (link.target(label) * z).sum(axis=1, keepdims=True) + link.label_part(label)
        found.append(Counts(float(y.mean()), float(loss.mean())))
    return found


def mean_counts(protected: bool) -> float:
    """Tables whose mean count a partner tells: half a unit deviance is about 1/2, in units of the mean 1/(2 mean)."""
    asked = Evaluation(loss=True) if protected else Evaluation(loss=True, loss_to="all")
    if asked.loss_to == "label":
        return guessed_means()  # the partner has no loss
    return float(np.mean([abs(1.0 / (2.0 * one.loss) / one.mean - 1.0) < NEAR for one in counts()]))


def guessed_means() -> float:
    """The mean that is near most of them."""
    means = np.array([one.mean for one in counts()])
    return float(max((np.abs(means / one - 1.0) < NEAR).mean() for one in means))
