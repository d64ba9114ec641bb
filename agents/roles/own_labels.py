"""Holds the label party's labels of the rows in common, to train on and to evaluate with.

No label leaves from here; the role sends masked ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tercet.agents.alignment.aligned_table import AlignedTable
from tercet.agents.alignment.table_problems import unfit_label
from tercet.agents.models.manifest import ModelPart
from tercet.agents.roles.exposure_profile import TWO_CLASSES
from tercet.agents.session.context import JobContext
from tercet.agents.training.epoch_evaluation import HeldOutLabels
from tercet.agents.training.worth import Constant
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.functions.labels import LabelProblem
from tercet.mpc.functions.links import LINKS
from tercet.mpc.plan.plan import Plan
from tercet.schemas.files.job import TrainingJob
from tercet.tables.encoding.label import Classes, LabelScaling, UnfitLabel
from tercet.tables.encoding.two_classes import check_two_classes, two_classes
from tercet.tables.snapshot.leakage import leakage_warnings
from tercet.tables.snapshot.snapshot import Snapshot

SCALINGS = {  # by link; other labels are taken as they are
    "linear": LabelScaling.fit,
    "poisson": LabelScaling.fit_counts,
    "gamma": LabelScaling.fit_log,
}


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class OwnLabels:
    """Holds one job's labels, fitted to the rows that are trained on.

    Attributes:
        link: of the model.
        raw: (rows,), as the table has them.
        plain: (rows,), what `centred` was made from: numbers of classes, or scaled.
        centred: (rows, outputs), as a model is trained on them.
        held_out: (rows,), which are not trained on.
        scaling: how labels become numbers to train on, where the link scales them.
        classes: the classes that occur, where the link has more than two.
        warnings: for the label party's operator.
    """

    link: str
    raw: Floats
    plain: Floats
    centred: Floats
    held_out: NDArray[np.bool_]
    scaling: LabelScaling | None
    classes: Classes | None
    warnings: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """Number of outputs of a model of them."""
        outputs: int = self.centred.shape[1]
        return outputs

    @property
    def trained_on(self) -> Floats:
        """The centred labels of the rows that are trained on."""
        return self.centred[~self.held_out]

    @property
    def evaluated(self) -> HeldOutLabels:
        """The held-out rows' labels, as metrics compare them and as a loss takes them."""
        labels = self.plain if self.classes is not None else self.centred[:, 0]
        if self.scaling is not None:
            labels = self.raw
        return HeldOutLabels(labels[self.held_out], self.centred[self.held_out], self.to_label_scale)

    def check_plan(self, context: JobContext, plan: Plan) -> None:
        """Check that the plan leaves room for such labels.

        Raises:
            JobProblem: it does not; this party is named.
        """
        try:
            plan.check_labels(self.plain)
        except LabelProblem as problem:
            raise unfit_label(context, self.link, problem) from None

    def constant(self) -> Constant:
        """Fit the best model without any column, to compare the trained one with."""
        scaling = self.scaling
        unit = scaling.scale if scaling is not None and self.link == "poisson" else 1.0  # a deviance grows with it
        return Constant.of(self.link, self.trained_on, self.centred[self.held_out], unit)

    def to_label_scale(self, scores: Floats) -> Floats:
        """Turn scores, (rows, outputs), into what metrics compare with labels.

        That is (rows,), or a score for each class.
        """
        if self.classes is not None:
            return scores
        scores = scores.reshape(len(scores))
        return scores if self.scaling is None else self.scaling.restore(scores)


def check_label_classes(context: JobContext, link: str, table: Snapshot) -> None:
    """Check labels of two classes as soon as the table is read.

    Raises:
        JobProblem: the label party's table has other classes; this party is named.
    """
    if context.is_label_party and link == TWO_CLASSES:
        try:
            check_two_classes(table.classes, table.chosen.positive, table.name)
        except UnfitLabel as problem:
            raise unfit_label(context, link, problem) from None


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
    raw, trained_on, function = table.label[own.rows], ~held_out, LINKS[link]
    label, classes, scaling = raw, None, None
    if function.classes and start is not None and start.classes is not None:
        classes, label = start.classes, start.classes.apply(raw, table.classes, table.name)
    elif function.classes:
        classes, label = Classes.fit(raw, table.classes, table.name)
    elif link == TWO_CLASSES:
        label, note = two_classes(raw, table.classes, table.chosen.positive, table.name)
        if note is not None:
            context.note(note)
    elif link in SCALINGS:
        scaling = SCALINGS[link](raw[trained_on], table.name)  # which checks the labels, too
        scaling = scaling if start is None else start.label_scaling or scaling
        label = scaling.apply(raw)
    function.check_labels(label)
    function.check_labels(label[trained_on])
    warnings = leakage_warnings(table, own.mark_rows(trained_on), classes=function.classes or link == TWO_CLASSES)
    centred = function.centre(label, 1 if classes is None else len(classes.names))
    rare = [] if classes is None else classes.warnings(label[trained_on])
    return OwnLabels(link, raw, label, centred, held_out, scaling, classes, (*rare, *warnings))
