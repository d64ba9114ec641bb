"""Splits a data party's common rows, and fits encoding and labels to one side."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tercet.agents.alignment.aligned_table import AlignedTable
from tercet.agents.alignment.own_woe import own_woe
from tercet.agents.alignment.row_counts import check_split
from tercet.agents.alignment.table_problems import report_label, report_table
from tercet.agents.models.population import BinCounts, count_columns
from tercet.agents.roles.applied_part import compare_table
from tercet.agents.roles.continued_part import ContinuedPart
from tercet.agents.roles.exposure_profile import check_numbers
from tercet.agents.roles.loss_rows import check_loss_rows
from tercet.agents.roles.own_labels import OwnLabels, fit_labels
from tercet.agents.roles.release_to_label import check_declared, encoding_message
from tercet.agents.session.context import JobContext
from tercet.agents.session.training_defaults import announced_spread
from tercet.schemas.files.job import TrainingJob, canonical_digest
from tercet.schemas.files.settings import TableSettings
from tercet.schemas.messages.kinds import Sizes
from tercet.tables.core.problem import TableProblem
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.whitening import MOST_WHITENED


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class FittedTable:
    """Holds a data party's table as a training uses it.

    Attributes:
        own: the table, and which of its rows all data parties have.
        held_out: of the common rows, which are not trained on.
        encoding: of the party's columns.
        labels: at the label party.
        counts: of the rows that are trained on, by bins of each column; none while a fold is held out.
        warnings: about this party's own table.
        continued: its part of the model to begin at, if there is one, by which columns and labels are encoded.
    """

    own: AlignedTable
    held_out: NDArray[np.bool_]
    encoding: Encoding
    labels: OwnLabels | None
    counts: tuple[BinCounts, ...]
    warnings: tuple[str, ...]
    continued: ContinuedPart | None = None

    def bind(self, binding: bytes) -> bytes:
        """Bind a checkpoint to the run of the model that the training began at, too."""
        if self.continued is None:
            return binding
        return canonical_digest("tercet continued checkpoint", [binding, self.continued.part.digest])


async def fit_table(
    context: JobContext, job: TrainingJob, own: AlignedTable, start: ContinuedPart | None
) -> FittedTable:
    """Split the common rows and fit the encoding to those that are trained on.

    The encoding of an earlier model, `start`, is applied as it is.

    Raises:
        JobProblem: nothing is left to train on or to evaluate with, or columns or labels do not fit.
    """
    held_out = await own.split_rows(job.evaluation)
    check_split(context, job.evaluation, held_out)
    with report_table(context), report_label(context, job.link):
        fitted = await context.compute(_fit, context, job, own, held_out, start)
    if job.scorings:
        check_numbers(context, has_numbers=fitted.encoding.has_numbers)
    if fitted.labels is not None:
        check_loss_rows(context, job, fitted.labels.plain, fitted.labels.counts, held_out)
    if job.release == "label" and not context.is_label_party:
        check_declared(context, fitted.encoding, own.table.columns)
        # So that it is not at the end that it proves too long.
        await context.compute(encoding_message, context, fitted.encoding)
    for warning in fitted.warnings:
        context.note(warning)
    return fitted


async def measure_sizes(context: JobContext, job: TrainingJob, fitted: FittedTable) -> Sizes:
    """Collect what this party brings to the training.

    Raises:
        JobProblem: scores would tell more of a record than this party's settings allow.
    """
    encoding, held_out = fitted.encoding, int(fitted.held_out.sum())
    bits = await context.compute(fitted.own.record_bits, encoding, ~fitted.held_out)
    context.audit.bound_score_bits(bits.record)
    return Sizes(
        rows=len(fitted.held_out) - held_out,
        held_out=held_out,
        columns=len(encoding.names),
        bits=bits.collision,
        record_bits=bits.record,
        spread=announced_spread(job, encoding),
        outputs=1 if fitted.labels is None else fitted.labels.outputs,
        model=None if fitted.continued is None else fitted.continued.part.digest,
    )


def _fit(
    context: JobContext,
    job: TrainingJob,
    own: AlignedTable,
    held_out: NDArray[np.bool_],
    start: ContinuedPart | None,
) -> FittedTable:
    settings, table = context.settings.tables[context.description.table_of(context.me)], own.table
    trained_on, whiten = own.mark_rows(~held_out), start is None and _is_whitened(context, job, settings)
    if start is None:
        encoding = Encoding.fit(
            lambda: table.batches(trained_on),
            clip=settings.clip,
            rare=settings.rare,
            whiten=whiten,
            woe=own_woe(context),
        )
    else:
        encoding = start.part.encoding
        compare_table(context, start.part, table)
    if not (encoding.varies or context.is_label_party):
        raise TableProblem(
            f"each column of table {table.name!r} has one value in all rows that are trained on",
            "bring columns that differ from row to row, or leave this party out of the job",
            f"no column of table {table.name!r} differs among the rows in common, so that it adds nothing to the model",
        )
    labels = fit_labels(context, job, own, held_out, None if start is None else start.part)
    warnings = [*table.notes, *encoding.warnings]
    if encoding.columns and not encoding.varies:
        warnings.append("no column of the table differs among the rows, so that partners' columns make the model")
    if encoding.whitening is None and encoding.varies and whiten:
        warnings.append(f"more than {MOST_WHITENED} encoded columns: they are not whitened, so training is slower")
    if labels is not None:
        warnings += labels.warnings
    rows = 0 if context.fold is not None else int(trained_on.sum())
    return FittedTable(
        own=own,
        held_out=held_out,
        encoding=encoding,
        labels=labels,
        counts=count_columns(encoding, rows, settings.rare, lambda: table.batches(trained_on)),
        warnings=tuple(warnings),
        continued=start,
    )


def _is_whitened(context: JobContext, job: TrainingJob, settings: TableSettings) -> bool:
    """Tell whether columns are whitened; a network would learn rare directions by heart.

    See docs/benchmarks.md.

    The covariance of a party's columns goes to another party with the owner's word only.
    """
    asked = settings.whiten
    if asked is None:
        asked = job.release != "label" or context.is_label_party
    return asked and job.network is None
