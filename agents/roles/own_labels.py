"""Holds the label party's labels of the rows in common, to train on and to evaluate with.

No label leaves from here; the role sends masked ones.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.agents.alignment.aligned_table import AlignedTable
from tercet.agents.alignment.row_weights import read_row_weights
from tercet.agents.alignment.table_problems import report_label
from tercet.agents.evaluation.metrics import POWERS
from tercet.agents.models.manifest import LabelTerms, ModelPart
from tercet.agents.roles.exposure_profile import TWO_CLASSES
from tercet.agents.session.context import JobContext
from tercet.agents.training.epoch_evaluation import HeldOutLabels
from tercet.agents.training.worth import Constant
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.functions.links import find_link
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.plan.plan import Plan
from tercet.schemas.files.job import TrainingJob
from tercet.tables.core.problem import problems_of
from tercet.tables.encoding.label import Classes, LabelScaling
from tercet.tables.encoding.offset import Offset
from tercet.tables.encoding.two_classes import two_classes
from tercet.tables.snapshot.leakage import leakage_warnings

SCALINGS = {  # by link; other labels are taken as they are
    "linear": LabelScaling.fit,
    "poisson": LabelScaling.fit_counts,
    "gamma": LabelScaling.fit_log,
    "tweedie": LabelScaling.fit_amounts,
}
SHIFTED = {"poisson", "tweedie"}  # links whose offsets are added to scores: no other label has the same error


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class OwnLabels:
    """Holds one job's labels, fitted to the rows that are trained on.

    Attributes:
        link: of the model.
        raw: (rows,), as the table has them.
        plain: (rows,), what `rows` were made from: numbers of classes, or scaled.
        rows: as a model is trained on them, with the offsets that are added to scores.
        held_out: (rows,), which are not trained on.
        scaling: how scores become labels again, where the link scales these; of rows whose offset is 0.
        unit: of a loss, which grows with the labels.
        classes: the classes that occur, where the link has more than two.
        offset: where the job names one, its column.
        added: (rows,), what it adds to scores in the label's own terms.
        counts: (rows,), how often rows count, where not all count alike.
        warnings: for the label party's operator.
    """

    link: str
    raw: Floats
    plain: Floats
    rows: RowLabels
    held_out: NDArray[np.bool_]
    scaling: LabelScaling | None
    unit: float
    classes: Classes | None
    offset: Offset | None
    added: Floats | None
    counts: Floats | None
    warnings: tuple[str, ...]

    @property
    def centred(self) -> Floats:
        """Centred labels, (rows, outputs)."""
        return self.rows.y

    @property
    def terms(self) -> LabelTerms:
        """Terms of the label in a model part."""
        return LabelTerms(self.scaling, self.classes, self.offset)

    @property
    def outputs(self) -> int:
        """Number of outputs of a model of them."""
        outputs: int = self.rows.shape[1]
        return outputs

    @property
    def trained_rows(self) -> RowLabels:
        """The rows that are trained on."""
        return self.rows[~self.held_out]

    @property
    def trained_on(self) -> Floats:
        """Their centred labels."""
        return self.trained_rows.y

    @property
    def evaluated(self) -> HeldOutLabels:
        """The held-out rows' labels, as metrics compare them and as a loss takes them."""
        labels = self.plain if self.classes is not None else self.centred[:, 0]
        if self.scaling is not None:
            labels = self.raw
        added = None if self.added is None else self.added[self.held_out]

        def to_label(scores: Floats) -> Floats:
            restored = self._to_label_scale(scores)
            return restored if added is None else restored + added

        return HeldOutLabels(labels[self.held_out], self.rows[self.held_out], to_label, added)

    def check_plan(self, context: JobContext, plan: Plan) -> None:
        """Check that the plan leaves room for such labels.

        Raises:
            JobProblem: it does not; this party is named.
        """
        with report_label(context, self.link):
            plan.check_labels(self.plain)
            if self.link == "poisson" and self.rows.offset is not None:  # weights are in these labels
                plan.check_labels(self.centred[:, 0])
            if self.rows.offset is not None:
                plan.check_offsets(self.rows.offset)

    def constant(self) -> Constant:
        """Fit the best model without any column, to compare the trained one with."""
        return Constant.of(self.trained_rows, self.rows[self.held_out], self.unit)

    def _to_label_scale(self, scores: Floats) -> Floats:
        """Turn scores, (rows, outputs), into what metrics compare with labels where offsets are 0.

        That is (rows,), or a score for each class.
        """
        if self.classes is not None:
            return scores
        scores = scores.reshape(len(scores))
        return scores if self.scaling is None else self.scaling.restore(scores)


def fit_labels(
    context: JobContext, job: TrainingJob, own: AlignedTable, held_out: NDArray[np.bool_], start: ModelPart | None
) -> OwnLabels | None:
    """Fit classes or scaling to the rows that are trained on; None at a party without the label.

    Those of an earlier model are taken where the training begins at one.

    Raises:
        UnfitLabel, LabelProblem: the labels do not fit the model.
    """
    link, table = job.link, own.table
    if table.label is None:
        return None
    raw, trained_on, function = table.label[own.rows], ~held_out, find_link(link, job.link_power)
    offset, added = _read_offset(context, job, own)
    label, classes, scaled = raw, None, _Scaled(raw, added)
    if function.classes and start is not None and start.classes is not None:
        classes, label = start.classes, start.classes.apply(raw, table.classes, table.name)
    elif function.classes:
        classes, label = Classes.fit(raw, table.classes, table.name)
    elif link == TWO_CLASSES:
        label, note = two_classes(raw, table.classes, table.chosen.positive, table.name)
        if note is not None:
            context.note(note)
    elif link in SCALINGS:
        scaled = _scale(job, raw, added, trained_on, table.name, None if start is None else start.label_scaling)
        label = scaled.label
    function.check_labels(label)
    function.check_labels(label[trained_on])
    warnings = leakage_warnings(table, own.mark_rows(trained_on), classes=function.classes or link == TWO_CLASSES)
    centred = function.centre(label, 1 if classes is None else len(classes.names))
    rare = [] if classes is None else classes.warnings(label[trained_on])
    rows = RowLabels(function, centred, None if scaled.shift is None else scaled.shift.reshape(-1, 1))
    counts = read_row_weights(job, own, raw, trained_on, context.settings.limits.min_rows)
    if counts is not None:
        rows = rows.weighed(counts, trained_on)
    return OwnLabels(
        link=link,
        raw=raw,
        plain=label,
        rows=rows,
        held_out=held_out,
        scaling=scaled.scaling,
        unit=scaled.unit,
        classes=classes,
        offset=offset,
        added=added,
        counts=counts,
        warnings=(*rare, *warnings),
    )


def _read_offset(context: JobContext, job: TrainingJob, own: AlignedTable) -> tuple[Offset | None, Floats | None]:
    """Read the offsets of the rows in common, (rows,), in the label's own terms."""
    column = job.offset_of(context.me)
    if column is None:
        return None, None
    offset, table = Offset(column=column, exposure=job.exposure is not None), own.table
    with problems_of(table.name, column):
        return offset, offset.read(table.holdouts[column].take(pa.array(own.rows)))


class _Scaled(NamedTuple):
    """Holds scaled labels, and offsets that their scores begin with, both (rows,)."""

    label: Floats
    shift: Floats | None
    scaling: LabelScaling | None = None  # from scores, but for the offsets, to the label's own terms
    unit: float = 1.0  # of a loss


def _scale(  # noqa: PLR0917
    job: TrainingJob,
    raw: Floats,
    added: Floats | None,
    trained_on: NDArray[np.bool_],
    name: str,
    start: LabelScaling | None,
) -> _Scaled:
    """Scale labels, as an earlier model did if there is one.

    Offsets are taken off them where that is the same as to add them to scores.
    """
    link, rest = job.link, raw
    if added is not None and link not in SHIFTED:
        rest = raw - added if link == "linear" else raw * np.exp(-added)
    scaling = SCALINGS[link](rest[trained_on], name)  # which checks the labels, too
    scaling = start or scaling
    label = scaling.apply(rest)
    if link not in SHIFTED:
        return _Scaled(label, None, scaling)
    unit = scaling.scale ** (2.0 - POWERS.get(link, job.link_power))  # as deviances grow with labels
    if added is None:
        return _Scaled(label, None, scaling, unit)
    mean = float(np.exp(added[trained_on]).mean()) if start is None else 1.0
    rate = scaling.model_copy(update={"scale": scaling.scale / mean})
    return _Scaled(label, added - np.log(mean), rate, unit)
