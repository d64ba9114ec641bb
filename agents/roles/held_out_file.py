"""Writes the label party's file of held-out rows: id, label and score.

The scores are those of the released model. The file lies beside the model part, and comes and goes with it. It is
written only where the job asks for it, and has only what the label party has learned to compute metrics by.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from tercet.agents.alignment.aligned_table import AlignedTable
from tercet.agents.models.scores_file import scored_columns, write_scores
from tercet.agents.roles.own_labels import OwnLabels
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.job import Scorecard

NAME: Final = "held_out"  # of the file, without .csv


def write_held_out(folder: Path, own: AlignedTable, labels: OwnLabels, scores: Floats, card: Scorecard | None) -> None:
    """Write the file into the folder of the model part, in the order of the table.

    Args:
        folder: of the model part.
        own: the table, whose ids are kept.
        labels: of the rows in common.
        scores: of the held-out rows, (rows,), or of several classes (rows, classes).
        card: how they become points, if they do.

    Raises:
        OSError: the disk does not take it.
    """
    rows, names = own.rows[labels.held_out], () if labels.classes is None else labels.classes.names
    order = np.argsort(rows)
    known = labels.evaluated.compared[order]
    label: pa.Array = pa.array(known)
    if names:
        label = pa.array(names, pa.large_string()).take(pa.array(known.astype(np.int64)))
    elif labels.link == "logistic":
        label = pa.array((known > 0).astype(np.int64))
    columns = scored_columns(labels.link, scores.reshape(len(rows), -1)[order], names, card)
    ids = own.table.own_ids.take(pa.array(rows[order]))
    write_scores(folder, "csv", ids, {"label": label, **columns}, NAME)
