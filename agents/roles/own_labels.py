"""Holds the labels of the rows in common, to train on and to evaluate with.

At a party without the label it is empty. No label leaves from here; the role sends masked ones.
"""

import numpy as np
from numpy.typing import NDArray

from tercet.agents.alignment.aligned_table import AlignedTable
from tercet.agents.alignment.table_problems import unfit_label
from tercet.agents.roles.exposure_profile import TWO_CLASSES
from tercet.agents.roles.loss_rows import check_loss_rows
from tercet.agents.session.context import JobContext
from tercet.agents.training.worth import Constant
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.functions.labels import LabelProblem
from tercet.mpc.functions.links import LINKS
from tercet.tables.encoding.label import Classes, LabelScaling, UnfitLabel
from tercet.tables.encoding.two_classes import check_two_classes, two_classes
from tercet.tables.snapshot.leakage import leakage_warnings

SCALINGS = {  # by link; other labels are taken as they are
    "linear": LabelScaling.fit,
    "poisson": LabelScaling.fit_counts,
    "gamma": LabelScaling.fit_log,
}


class OwnLabels:
    """One party's labels in one job.

    Attributes:
        scaling: how labels become numbers to train on, where the link scales them.
        classes: the classes that occur, where the link has more than two.
        centred: (rows, outputs), as a model is trained on them; None at a party without the label.
    """

    def __init__(self, context: JobContext, own: AlignedTable) -> None:
        self._context, self._own = context, own
        self.scaling: LabelScaling | None = None
        self.classes: Classes | None = None
        self.centred: Floats | None = None
        self._plain: Floats = np.empty(0)  # (rows,), what `centred` was made from: numbers of classes, or scaled
        self._held_out: NDArray[np.bool_] = np.empty(0, np.bool_)  # (rows,), which are not trained on
        self._label_warnings: list[str] = []  # warnings of columns that alone tell the label

    def check_table(self) -> None:
        """Check labels of two classes as soon as the table is read.

        Raises:
            JobProblem: the table has other classes; this party is named.
        """
        if self._context.is_label_party and self._context.training.link == TWO_CLASSES:
            table = self._own.table
            try:
                check_two_classes(table.classes, table.chosen.positive, table.name)
            except UnfitLabel as problem:
                raise unfit_label(self._context, problem) from None

    def fit(self, held_out: NDArray[np.bool_]) -> None:
        """Fit classes or scaling to the rows that are trained on, if there is a label.

        Raises:
            UnfitLabel, LabelProblem: the labels do not fit the model.
        """
        link, table = self._context.training.link, self._own.table
        if table.label is None:
            return
        label, trained_on, function = table.label[self._own.rows], ~held_out, LINKS[link]
        if function.classes:
            self.classes, label = Classes.fit(label, table.classes, table.name)
        elif link == TWO_CLASSES:
            label, note = two_classes(label, table.classes, table.chosen.positive, table.name)
            if note is not None:
                self._context.note(note)
        elif link in SCALINGS:
            self.scaling = SCALINGS[link](label[trained_on], table.name)
            label = self.scaling.apply(label)
        function.check_labels(label)
        function.check_labels(label[trained_on])
        classes = function.classes or link == TWO_CLASSES
        self._label_warnings = leakage_warnings(table, self._own.mark_rows(trained_on), classes=classes)
        self._plain, self._held_out = label, held_out
        self.centred = function.centre(label, 1 if self.classes is None else len(self.classes.names))

    def check_losses(self) -> None:
        """Check that each loss that the job opens is over enough rows.

        Raises:
            JobProblem: they are too few.
        """
        if self.centred is not None:
            check_loss_rows(self._context, self._plain, self._held_out)

    def check_plan(self) -> None:
        """Check that the plan leaves room for such labels.

        Raises:
            JobProblem: it does not; this party is named.
        """
        if self.centred is not None:
            try:
                self._context.ready_plan.check_labels(self._plain)
            except LabelProblem as problem:
                raise unfit_label(self._context, problem) from None

    @property
    def outputs(self) -> int:
        """Number of outputs of a model of them; 1 at a party without the label."""
        return 1 if self.centred is None else self.centred.shape[1]

    @property
    def warnings(self) -> list[str]:
        """Warnings that the label party should see of its labels, once they are fitted."""
        classes = [] if self.classes is None else self.classes.warnings(self._plain[~self._held_out])
        return [*classes, *self._label_warnings]

    @property
    def trained_on(self) -> Floats | None:
        """The centred labels of the rows that are trained on."""
        return None if self.centred is None else self.centred[~self._held_out]

    @property
    def held_out(self) -> tuple[Floats | None, Floats | None]:
        """The held-out rows' labels, as metrics compare them and as a loss takes them.

        Their shapes are (rows,) and (rows, outputs).
        """
        if self.centred is None:
            return None, None
        labels = self._plain if self.classes is not None else self.centred[:, 0]
        if self.scaling is not None:
            assert self._own.table.label is not None
            labels = self._own.table.label[self._own.rows]
        return labels[self._held_out], self.centred[self._held_out]

    def constant(self) -> Constant | None:
        """Fit the best model without any column, to compare the trained one with."""
        if self.centred is None:
            return None
        link, scaling = self._context.training.link, self.scaling
        unit = scaling.scale if scaling is not None and link == "poisson" else 1.0  # a deviance grows with its label
        return Constant.of(link, self.centred[~self._held_out], self.centred[self._held_out], unit)

    def to_label_scale(self, scores: Floats) -> Floats:
        """Turn scores, (rows, outputs), into what metrics compare with labels.

        That is (rows,), or a score for each class.
        """
        if self.classes is not None:
            return scores
        scores = scores.reshape(len(scores))
        return scores if self.scaling is None else self.scaling.restore(scores)
