"""Holds out the rows that a column of the label party says, at all data parties.

They learn of each common row on which side it is, and no value. The helper learns how many there are.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.agents.alignment.matching import malformed_message
from tercet.agents.alignment.table_problems import report_table
from tercet.agents.session.context import JobContext
from tercet.schemas.messages.kinds import HeldOutRows
from tercet.tables.core.problem import problems_of
from tercet.tables.snapshot.holdout import mark_held_out
from tercet.tables.snapshot.snapshot import Snapshot

CHUNK = 2**23  # rows in a message: 1 MiB

Flags = NDArray[np.bool_]


async def hold_out_by_column(
    context: JobContext, table: Snapshot, rows: NDArray[np.int64], column: str, first: float | str | None
) -> Flags:
    """Mark the held-out rows among the common `rows`; every data party marks the same.

    Raises:
        JobProblem: the column does not fit, or the label party sends something else than a bit for each row.
    """
    if not context.is_label_party:
        return await _receive(context, len(rows))
    marks = await context.compute(_own_marks, context, table, rows, column, first)
    for number, start in enumerate(range(0, len(marks), CHUNK)):
        bits = np.packbits(marks[start : start + CHUNK]).tobytes()
        await context.mailbox.send(HeldOutRows(bits=bits), context.partners, context.deadline("fit"), step=number)
    return marks


def _own_marks(
    context: JobContext, table: Snapshot, rows: NDArray[np.int64], column: str, first: float | str | None
) -> Flags:
    with report_table(context), problems_of(table.name, column):
        return mark_held_out(column, table.holdouts[column].take(pa.array(rows)), first)


async def _receive(context: JobContext, rows: int) -> Flags:
    label, marks = context.label, np.empty(rows, np.bool_)
    for number, start in enumerate(range(0, rows, CHUNK)):
        count = min(CHUNK, rows - start)
        letters = await context.mailbox.receive(HeldOutRows, [label], context.deadline("fit"), step=number)
        bits = np.frombuffer(letters[label].bits, np.uint8)
        flags = np.unpackbits(bits).view(np.bool_)
        if len(bits) != -(-count // 8) or flags[count:].any():
            raise malformed_message(context, label, HeldOutRows, "not a bit for each row")
        marks[start : start + count] = flags[:count]
    return marks
