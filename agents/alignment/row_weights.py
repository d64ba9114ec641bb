"""Finds how often each of the label party's rows counts.

It does so by a column of that party's, and by class. No weight leaves from here; the role sends masked ones.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.agents.alignment.aligned_table import AlignedTable
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.plan.schedule import LEAST_ROWS
from tercet.schemas.files.job import TrainingJob
from tercet.tables.core.problem import join_names, problems_of
from tercet.tables.encoding.label import UnfitLabel
from tercet.tables.encoding.offset import ABOVE_0, FROM_0, read_numbers


def read_row_weights(
    job: TrainingJob, own: AlignedTable, classes: Floats, trained_on: NDArray[np.bool_], least: int
) -> Floats | None:
    """Return the weight of each row in common, (rows,), or None where all count alike.

    Args:
        job: The job.
        own: The table, and its rows in common.
        classes: (rows,), places of labels in the table's classes, where they are classes.
        trained_on: (rows,), which rows are.
        least: rows that this party trains on no fewer of.

    Raises:
        UnfitLabel: the weights do not fit, or the job names other classes than there are.
        TableProblem: the column does not fit.
    """
    training, table = job.training, own.table
    if not training.weighs:
        return None
    weights = np.ones(len(classes))
    if training.weights is not None:
        column = table.holdouts[training.weights].take(pa.array(own.rows))
        with problems_of(table.name, training.weights):
            weights = read_numbers(training.weights, column, FROM_0 if job.weighs_errors else ABOVE_0)
    if training.class_weights == "balanced":
        weights = weights * _balanced(classes, trained_on)
    elif training.class_weights is not None:
        weights = weights * _of_classes(dict(training.class_weights), table.classes, classes, table.name)
    _check(weights[trained_on], weights[~trained_on], least, table.name)
    return weights


def _balanced(classes: Floats, trained_on: NDArray[np.bool_]) -> Floats:
    """Weigh rows so that all classes of training rows count as much."""
    _, places = np.unique(classes, return_inverse=True)
    counts = np.bincount(places[trained_on], minlength=places.max() + 1)
    found: Floats = (1.0 / np.maximum(counts, 1))[places]
    return found


def _of_classes(named: dict[str, float], names: tuple[str, ...], classes: Floats, table: str) -> Floats:
    lacking = sorted({*names} ^ {*named})
    if lacking:
        raise UnfitLabel(
            f"class_weights of the job and the label of table {table!r} have different classes: "
            f"{join_names(lacking, 5)}",
            "name each class of the label once, as the table spells it",
            table,
        )
    found: Floats = np.array([named[name] for name in names])[classes.astype(np.int64)]
    return found


def _check(weights: Floats, held_out: Floats, least: int, table: str) -> None:
    """Check that weights choose neither one row nor fewer than this party trains on.

    Rows so weighed are (sum w)^2 / sum w^2, which is all of them where all weights are the same. Held-out rows, if any,
    have a mean weight, by which theirs are divided.
    """
    if not weights.any() or weights.max() > weights.sum() / LEAST_ROWS:
        raise UnfitLabel(
            f"weights of rows of table {table!r} are all 0 where rows are trained on, or one of these is more than 1 / "
            f"{LEAST_ROWS} of their sum",
            "cap weights, or bring more rows",
            table,
        )
    counting = float(weights.sum() ** 2 / np.square(weights).sum())
    if counting < least:
        raise UnfitLabel(
            f"by their weights the rows of table {table!r} that are trained on count for {int(counting):,}, "
            f"(sum w)^2 / sum w^2, and [limits] min_rows is {least:,}",
            "cap weights, bring more rows, or lower min_rows",
            table,
        )
    if len(held_out) and not held_out.any():
        raise UnfitLabel(
            f"weights of rows of table {table!r} are all 0 where rows are held out",
            "give some of these rows a weight above 0, hold out others, or leave out holdout",
            table,
        )
