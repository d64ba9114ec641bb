"""Strips an encoding for another party, which must encode with it.

Nothing else that it says of the training rows is left.

It leaves the columns' names, categories, means and deviations, and bins with their weights of evidence. How many values
were missing or rare is taken out.
"""

from tercet.tables.encoding.categorical import CategoricalColumn
from tercet.tables.encoding.encoding import AnyColumn, Encoding
from tercet.tables.encoding.woe import WoeColumn

PLACEHOLDER = 0.5  # in place of a share of rows, of which only whether it is between 0 and 1 is needed


def shareable_encoding(encoding: Encoding) -> Encoding:
    """Strip an encoding that still gives every table the same numbers and names.

    They are the same to the last bit.
    """
    return encoding.model_copy(update={"columns": tuple(_shareable_column(column) for column in encoding.columns)})


def _shareable_column(column: AnyColumn) -> AnyColumn:
    if isinstance(column, WoeColumn):
        return column.model_copy(update={"missing": PLACEHOLDER * bool(column.missing)})
    if isinstance(column, CategoricalColumn):
        return column.model_copy(update={"missing": PLACEHOLDER * bool(column.missing), "rare": int(column.rare > 0)})
    mean = column.mean if column.scale else 0.0  # a constant column becomes zeros, whatever the constant is
    return column.model_copy(update={"missing": PLACEHOLDER * column.tells_missing, "mean": mean})
