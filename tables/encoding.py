"""Turns a party's own columns into the numbers that are trained on, and remembers how, for the rows to come.

It is fitted on training rows only, never sees another party's columns, and travels with the party's model part.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.strict import Strict
from tables.source import Numbers, Table, TableProblem, Texts

CLIP = 16.0  # the bound that the protocol's planner counts on for every encoded number
MOST_CATEGORIES = 1000  # a column with more is an id or a number in disguise


class NumericColumn(Strict):
    """A column that becomes (x - mean) / scale, within ± the encoding's clip; a constant one becomes zeros.

    Attributes:
        mean: of the training rows.
        scale: their standard deviation (divided by the number of rows), 0 if they are all the same.
    """

    kind: Literal["numeric"] = "numeric"
    name: str
    mean: float
    scale: float = Field(ge=0)


class CategoricalColumn(Strict):
    """A column that becomes one 0/1 column for each category seen in training, sorted.

    None is left out as a reference: gradient descent needs no inverse, so the redundant column does no harm, no
    category is special, and one not seen in training has an encoding of its own, all zeros.
    """

    kind: Literal["categorical"] = "categorical"
    name: str
    categories: tuple[str, ...]


class Encoding(Strict):
    """How one party's table becomes numbers; survives JSON exactly."""

    columns: tuple[Annotated[NumericColumn | CategoricalColumn, Field(discriminator="kind")], ...]
    clip: float = Field(default=CLIP, gt=0)

    @classmethod
    def fit(cls, table: Table) -> Self:
        """Learn means, scales and categories from a table of training rows.

        Raises:
            TableProblem: a categorical column has more categories than make sense.
        """
        return cls(
            columns=tuple(
                _fit_numeric(name, table.numeric[name])
                if name in table.numeric
                else _fit_categorical(table.name, name, table.categorical[name])
                for name in table.columns
            )
        )

    def apply(self, table: Table) -> Numbers:
        """Encode a table with the fitted columns, in any order: float64 (rows, d), all within ± clip.

        Raises:
            TableProblem: the table has other columns, or a column of the other kind.
        """
        self._check(table)
        encoded = np.zeros((table.rows, len(self.names)))
        start = 0
        for column in self.columns:
            width = len(list(_names(column)))
            self._encode(column, table, encoded[:, start : start + width])
            start += width
        return encoded

    @property
    def names(self) -> list[str]:
        """A name for each encoded column: that of the column, with `=category` if it is categorical."""
        return [name for column in self.columns for name in _names(column)]

    @property
    def warnings(self) -> list[str]:
        """What the party whose table it is should know; names its columns."""
        columns = [column for column in self.columns if isinstance(column, NumericColumn)]
        constant = [column.name for column in columns if column.scale == 0]
        return [f"column {name!r} has one value in every row and adds nothing to the model" for name in constant]

    def _encode(self, column: NumericColumn | CategoricalColumn, table: Table, target: Numbers) -> None:
        if isinstance(column, CategoricalColumn):
            _one_hot(column, table.categorical[column.name], target)
        else:
            target[:, 0] = _standardise(table.numeric[column.name], column.mean, column.scale, self.clip)

    def _check(self, table: Table) -> None:
        kinds = {column.name: column.kind for column in self.columns}
        found = dict.fromkeys(table.numeric, "numeric") | dict.fromkeys(table.categorical, "categorical")
        differences = [
            *(f"{name!r} is missing" for name in kinds if name not in found),
            *(f"{name!r} was not there in training" for name in found if name not in kinds),
            *(
                f"{name!r} was {kinds[name]} in training and is {found[name]}"
                for name in kinds
                if name in found and kinds[name] != found[name]
            ),
        ]
        if differences:
            raise TableProblem(
                f"table {table.name!r} differs from the one in training: column {', '.join(differences)}",
                "give a table with the same columns and settings as in training",
                f"the table {table.name!r} has other columns than in training",
            )


class LabelScaling(Strict):
    """How a label of linear regression becomes a number of order one, and a score a label again."""

    mean: float
    scale: float = Field(gt=0)
    clip: float = Field(default=CLIP, gt=0)

    @classmethod
    def fit(cls, table: Table) -> Self:
        """Learn mean and standard deviation from a table of training rows.

        Raises:
            TableProblem: the table has no label, or the same one in every row.
        """
        if table.label is None:
            raise TableProblem(
                f"table {table.name!r} was read without its label",
                "name the label column in the settings",
                f"the table {table.name!r} has no label",
            )
        mean, scale = _moments(table.label)
        if scale == 0:
            raise TableProblem(
                f"the label of table {table.name!r} has one value in every row",
                "give rows whose labels differ",
                f"the label of the table {table.name!r} is the same in every row",
            )
        return cls(mean=mean, scale=scale)

    def apply(self, label: Numbers) -> Numbers:
        """Standardise labels, within ± clip; same shape."""
        return _standardise(label, self.mean, self.scale, self.clip)

    def restore(self, score: Numbers) -> Numbers:
        """What the model says in the label's own unit; same shape."""
        return self.mean + self.scale * score


def _fit_numeric(name: str, values: Numbers) -> NumericColumn:
    mean, scale = _moments(values)
    return NumericColumn(name=name, mean=mean, scale=scale)


def _fit_categorical(table: str, name: str, values: Texts) -> CategoricalColumn:
    categories = sorted(set(values.tolist()))
    if len(categories) > MOST_CATEGORIES:
        raise TableProblem(
            f"categorical column {name!r} of table {table!r} has {len(categories)} different values",
            f"group them to at most {MOST_CATEGORIES}, or list the column as numeric or not at all",
            f"the table {table!r} has a column with too many categories",
        )
    return CategoricalColumn(name=name, categories=tuple(categories))


def _moments(values: Numbers) -> tuple[float, float]:
    """Mean and standard deviation of any finite values, (x, 0.0) if all are x."""
    if values.min() == values.max():
        return float(values[0]), 0.0
    # Sums of squares of very large or small numbers leave float64's range; a power of two scales them exactly.
    exponent = int(np.frexp(np.abs(values).max())[1])
    near_one = np.ldexp(values, -exponent)
    mean, deviation = near_one.mean(), near_one.std()
    return float(np.ldexp(mean, exponent)), float(np.ldexp(deviation, exponent))


def _standardise(values: Numbers, mean: float, scale: float, clip: float) -> Numbers:
    if scale == 0:
        return np.zeros_like(values)
    with np.errstate(over="ignore"):  # what overflows is far outside the clip, on the right side
        return np.clip((values - mean) / scale, -clip, clip)


def _one_hot(column: CategoricalColumn, values: Texts, target: NDArray[np.float64]) -> None:
    position = {category: index for index, category in enumerate(column.categories)}
    found = np.fromiter((position.get(value, -1) for value in values), np.int64, len(values))
    known = np.flatnonzero(found >= 0)
    target[known, found[known]] = 1.0


def _names(column: NumericColumn | CategoricalColumn) -> Iterator[str]:
    if isinstance(column, NumericColumn):
        yield column.name
    else:
        yield from (f"{column.name}={category}" for category in column.categories)
