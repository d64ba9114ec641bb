"""The file with which a prediction ends: an id and a score for each row, as CSV or Parquet.

It is the label party's alone, and is written before the job is over; whoever ends the job decides whether it stays.
"""

import os
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from mpc.fixed import Floats


def write_scores(
    folder: Path,
    kind: Literal["csv", "parquet"],
    model: str,
    ids: pa.Array | pa.ChunkedArray,
    scores: Floats,
) -> Path:
    """Write scores.csv or scores.parquet into a new folder, readable for its owner only; returns the file.

    Columns: `id`, `score` (log-odds of a logistic model, the label's own unit of a linear one) and, where the model
    has probabilities, `probability`.

    Raises:
        OSError: the disk does not take it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"scores.{kind}"
    columns = {"id": ids, "score": pa.array(scores)}
    if model == "logistic":
        columns["probability"] = pa.array(1 / (1 + np.exp(-np.clip(scores, -700, 700))))
    table = pa.table(columns)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        if kind == "csv":
            csv.write_csv(table, file)
        else:
            parquet.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())
    return path
