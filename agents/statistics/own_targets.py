"""Turns the label into what is summed by bin: classes, or a number and its square.

No label leaves from here; the role gives targets to the protocol, which masks them.
"""

from dataclasses import dataclass

import numpy as np

from tercet.agents.alignment.aligned_table import AlignedTable, Marks
from tercet.agents.alignment.table_problems import report_label, report_table
from tercet.agents.roles.own_labels import SCALINGS
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.job import StatisticsJob
from tercet.schemas.files.statistics import TWO_CLASSES
from tercet.tables.encoding.label import Classes, UnfitLabel
from tercet.tables.encoding.two_classes import two_classes

WHOLE = "poisson"  # the label's model whose labels are whole numbers, so that their sums are exact as they are

AMOUNTS = "tweedie"  # the one whose labels are amounts from 0 on


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class OwnTargets:
    """Holds one job's labels of the counted rows.

    Attributes:
        labels: (rows,), in the common order: numbers of classes, or numbers divided by two to the `exponent`.
        classes: how many there are; 0 of a count or an amount.
        names: of the classes, in their order.
        exponent: by which numbers were brought within 1.
    """

    labels: Floats
    classes: int
    names: tuple[str, ...] = ()
    exponent: int = 0


def fit_targets(context: JobContext, job: StatisticsJob, own: AlignedTable, held_out: Marks) -> OwnTargets | None:
    """Prepare the label of the counted rows; None at a party without the label.

    Raises:
        JobProblem: the label does not fit the job; this party is named.
    """
    if own.table.label is None:
        return None
    with report_table(context), report_label(context, job.model):
        return _fit_targets(context, job, own, own.table.label[own.rows][~held_out])


def _fit_targets(context: JobContext, job: StatisticsJob, own: AlignedTable, raw: Floats) -> OwnTargets:
    table = own.table
    if job.model == TWO_CLASSES:
        labels, note = two_classes(raw, table.classes, table.chosen.positive, table.name)
        if note is not None:
            context.note(note)
        names = (table.classes[int(raw[labels == value][0])] for value in (0, 1))
        return OwnTargets(labels, 2, tuple(names))
    if job.counts_classes:
        classes, labels = Classes.fit(raw, table.classes, table.name)
        return OwnTargets(labels, len(classes.names), classes.names)
    if job.model in SCALINGS:
        SCALINGS[job.model](raw, table.name)  # which refuses labels that are none of that kind
    if job.model == AMOUNTS:
        _check_amounts(raw, table.name)
    exponent = 0 if job.model == WHOLE else int(np.frexp(np.abs(raw).max())[1])
    return OwnTargets(np.ldexp(raw, -exponent), 0, (), exponent)


def _check_amounts(raw: Floats, name: str) -> None:
    """Check amounts that may be 0.

    Raises:
        UnfitLabel: some are below 0, or all are 0.
    """
    wrong = int((raw < 0).sum())
    if wrong:
        what = f"the label of table {name!r} is below 0 in {wrong:,} of {len(raw):,} rows"
        raise UnfitLabel(what, 'leave these rows out, or use model = "linear"', name)
    if not raw.any():
        raise UnfitLabel(f"all labels of table {name!r} are 0", "give rows with amounts above 0, too", name)


def label_bits(job: StatisticsJob, rows: int) -> int:
    """Choose the fractional bits of a count or an amount.

    No sum of squares over the rows may wrap.
    """
    return 0 if job.model == WHOLE or job.counts_classes else min(26, (61 - rows.bit_length()) // 2)
