"""Writes scores with ids as CSV or Parquet: of a prediction, or of held-out rows.

It is the label party's alone, and is written before the job is over; whoever ends the job decides whether it stays.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from tercet.agents.evaluation.metrics import OF_CLASSES, class_probabilities, expected, probabilities
from tercet.agents.models.points import points_of, whole_points
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.job import Scorecard

# What a spreadsheet takes for a formula, in full width too, or strips from the front of one; but for plain numbers.
FORMULA: Final = "^[ ']*[=+@\\-\\t\\r\\n\uff1d\uff0b\uff20\uff0d]"
NUMBER: Final = "^[+-][0-9]+(\\.[0-9]+)?([eE][+-]?[0-9]+)?$"


def scored_columns(
    link: str, scores: Floats, classes: Sequence[str], scorecard: Scorecard | None = None
) -> dict[str, pa.Array]:
    """Make the output columns of each scored row.

    - linear: `score`, in the label's own unit;
    - logistic: `score`, the log-odds, and `probability`; where there is a scorecard also `points`, rounded;
    - poisson, gamma, tweedie: `score`, the logarithm of the expected label, and `mean`, the expected label;
    - softmax, one-vs-rest: `class`, the most probable one, and `probability_<class>` for each.

    Args:
        link: between score and label.
        scores: (rows, outputs), of a label that was scaled in its own terms.
        classes: what the outputs stand for, where the link has one for each class.
        scorecard: how log-odds become points.
    """
    if link in OF_CLASSES:
        likely = pa.array(classes, pa.large_string()).take(pa.array(scores.argmax(axis=1)))
        chances = class_probabilities(link, scores)
        named = {f"probability_{name}": pa.array(chances[:, place]) for place, name in enumerate(classes)}
        return {"class": likely, **named}
    score = scores[:, 0]
    columns = {"score": pa.array(score)}
    if link == "logistic":
        columns["probability"] = pa.array(probabilities(score))
        if scorecard is not None:
            columns["points"] = pa.array(whole_points(points_of(scorecard, score)))
    elif link != "linear":
        columns["mean"] = pa.array(expected(score))
    return columns


def write_scores(
    folder: Path,
    kind: Literal["csv", "parquet"],
    ids: pa.Array | pa.ChunkedArray,
    columns: Mapping[str, pa.Array],
    name: str = "scores",
) -> Path:
    """Write NAME.csv or NAME.parquet into a private folder, old or new; return the file.

    It has a column `id`, and then `columns`. In CSV a text that a spreadsheet would run begins with a quote more, and
    whole numbers of any type are digits, as people write ids.

    Raises:
        OSError: the disk does not take it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.{kind}"
    table = pa.table({"id": _digits(ids) if kind == "csv" else ids, **columns})
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        if kind == "csv":
            csv.write_csv(without_formulas(table), file)
        else:
            parquet.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())
    return path


def _digits(ids: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return ids.cast(pa.int64()) if pa.types.is_floating(ids.type) else ids


def without_formulas(table: pa.Table) -> pa.Table:
    """Put a single quote before each text and name that a spreadsheet would take for a formula.

    Numbers stay, also those that are texts. Whoever takes off one quote wherever a formula follows has the text again.
    """
    names = _defuse(pa.array(table.column_names, pa.large_string())).to_pylist()
    return pa.table([_defuse(column) if _is_text(column) else column for column in table.columns], names)


def _is_text(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _defuse(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    runs = pc.and_not(pc.match_substring_regex(texts, FORMULA), pc.match_substring_regex(texts, NUMBER))
    quote, nothing = pa.scalar("'", texts.type), pa.scalar("", texts.type)
    return pc.binary_join_element_wise(pc.if_else(runs, quote, nothing), texts, nothing)
