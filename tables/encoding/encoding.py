"""Turns a party's own columns into numbers, and remembers how for rows to come.

It is fitted on training rows only, never sees another party's columns, and travels with the party's model part.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from tercet.schemas.core.strict import Strict
from tercet.tables.core.moments import CLIP, Floats
from tercet.tables.core.problem import TableProblem
from tercet.tables.core.table import Kind, Table
from tercet.tables.encoding.categorical import CategoricalColumn, CategoricalFit
from tercet.tables.encoding.numeric import NumericColumn, NumericFit
from tercet.tables.encoding.whitening import MOST_WHITENED, Whitening, fit_whitening
from tercet.tables.encoding.woe import NO_WOE, WoeByColumn, WoeColumn, WoeFit

AnyColumn = NumericColumn | CategoricalColumn | WoeColumn


class Encoding(Strict):
    """Turns one party's table into numbers; survives JSON exactly.

    Attributes:
        columns: in the table's order.
        clip: standardised and whitened numbers end here.
        whitening: what follows, if anything.
    """

    columns: tuple[Annotated[AnyColumn, Field(discriminator="kind")], ...]
    clip: float = Field(default=CLIP, gt=0, le=CLIP)
    whitening: Whitening | None = None

    @model_validator(mode="after")
    def _whitening_fits(self) -> Self:
        if self.whitening is not None and self.whitening.width != len(self.column_names):
            raise ValueError("the whitening is of another number of columns")
        return self

    @classmethod
    def fit(
        cls,
        batches: Callable[[], Iterable[Table]],
        *,
        clip: float,
        rare: int,
        whiten: bool,
        woe: WoeByColumn = NO_WOE,
    ) -> Self:
        """Learn from the training rows.

        `batches` gives them anew whenever it is called: once, twice to whiten.

        Where no column varies there is nothing to whiten, and nothing is.

        How the rows are split into batches changes a mean or a scale by rounding at most, and categories not at all.

        Args:
            batches: tables of the same columns; of one batch at a time no reference is kept.
            clip: standardised and whitened numbers end here.
            rare: categories with fewer training rows share one column.
            whiten: whether to decorrelate the encoded columns, unless they are more than `MOST_WHITENED`.
            woe: bins and weights of evidence of columns that become these, by name.

        Raises:
            TableProblem: a column has more categories than make sense, or is of another kind than its bins.
            ValueError: there is no training row.
        """
        columns = _fit_columns(batches(), rare, woe)
        plain = cls(columns=columns, clip=clip)
        if not whiten or not plain.varies or len(plain.names) > MOST_WHITENED:
            return plain
        whitening = fit_whitening(len(plain.names), map(plain.apply, batches()))
        return cls(columns=columns, clip=clip, whitening=whitening)

    def apply(self, table: Table) -> Floats:
        """Encode a table with the fitted columns, in any order: float64 (rows, k).

        A row's numbers are the same to the last bit whichever rows go along. Standardised and whitened numbers are
        within ± clip, the others 0 or 1.

        Raises:
            TableProblem: the table has other columns, or a column of the other kind.
        """
        self._check(table)
        encoded = np.zeros((table.rows, len(self.column_names)))
        start = 0
        for column in self.columns:
            stop = start + len(column.names)
            column.encode(table, self.clip, encoded[:, start:stop])
            start = stop
        return encoded if self.whitening is None else self.whitening.apply(encoded, self.clip)

    @property
    def names(self) -> list[str]:
        """A name for each of the k columns that `apply` gives."""
        if self.whitening is None:
            return self.column_names
        return [f"whitened {number + 1}" for number in range(len(self.whitening.directions))]

    @property
    def column_names(self) -> list[str]:
        """A name for each of the d encoded columns before whitening.

        Without whitening they are `names`.
        """
        return [name for column in self.columns for name in column.names]

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Columns that a table to encode has, in the order of training, by kind."""
        return {one.name: one.bins.kind if one.kind == "woe" else one.kind for one in self.columns}

    @property
    def spread(self) -> float:
        """The variance of encoded training rows in any direction, at most.

        Numbers and weights of evidence have 1, a one-hot block less.
        """
        return 1.0 if self.whitening is not None else max(1.0, float(len(self.columns)))

    @property
    def varies(self) -> bool:
        """Tell whether any column does.

        A table of labels alone has none, and one of constants adds nothing to a model.
        """
        return any(column.varies for column in self.columns)

    @property
    def has_numbers(self) -> bool:
        """Tell whether a column stays a number; binned ones are categories.

        Records of categories alone can be solved for from few scores.
        """
        return any(isinstance(column, NumericColumn) for column in self.columns)

    @property
    def changed_categories(self) -> list[str]:
        """Columns whose categories an earlier version has told apart where this one does not.

        They can't be encoded.
        """
        return [one.name for one in self.columns if isinstance(one, CategoricalColumn) and one.has_changed_categories]

    @property
    def warnings(self) -> list[str]:
        """Warnings for the party whose table it is; they name its columns."""
        return [warning for column in self.columns for warning in column.warnings]

    def unwhiten(self, weights: Floats) -> tuple[Floats, float]:
        """Turn weights (k,) of `names` into weights (d,) of `column_names`.

        Returns what to add to the intercept too.

        They give the same scores, but for rows that whitening clips; without whitening they are the weights, and 0.
        """
        return (weights, 0.0) if self.whitening is None else self.whitening.unwhiten(weights)

    def centre(self, weights: Floats) -> tuple[Floats, Floats]:
        """Centre weights (d, ...) of `column_names` by categorical column.

        Those of each lose their mean; returns what that takes off too.

        To be looked at: one-hot columns have no reference, so a number that all weights of a block have in common says
        nothing of any category. A row has one category of each column, that it is missing or rare included, so scores
        stay the same where the sum of the means, (...), goes to the intercept.
        """
        weights, shift, start = weights.copy(), np.zeros(weights.shape[1:]), 0
        for column in self.columns:
            block = weights[start : start + len(column.names)]
            if column.kind == "categorical":
                mean = block.mean(axis=0)
                block -= mean
                shift += mean
            start += len(column.names)
        return weights, shift

    def _check(self, table: Table) -> None:
        kinds = self.kinds
        found = dict.fromkeys(table.numeric, "numeric") | dict.fromkeys(table.categorical, "categorical")
        differences = [
            *(f"{name!r} is not there" for name in kinds if name not in found),
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


def _fit_columns(batches: Iterable[Table], rare: int, woe: WoeByColumn) -> tuple[AnyColumn, ...]:
    """Learn a table's columns in one pass."""
    fits: list[NumericFit | CategoricalFit | WoeFit] = []
    name, rows = "", 0
    for table in batches:
        fits = fits or [_column_fit(table, column, rare, woe) for column in table.columns]
        for fit in fits:
            fit.add(table)
        name, rows = table.name, rows + table.rows
    if rows == 0:
        raise ValueError("an encoding needs at least one training row to be fitted on")
    return tuple(fit.column(name) if isinstance(fit, CategoricalFit) else fit.column() for fit in fits)


def _column_fit(table: Table, name: str, rare: int, woe: WoeByColumn) -> NumericFit | CategoricalFit | WoeFit:
    if name in woe:
        return WoeFit(name, woe[name])
    return NumericFit(name) if name in table.numeric else CategoricalFit(name, rare)
