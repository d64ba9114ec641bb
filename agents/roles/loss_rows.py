"""Checks that losses cover enough rows to reveal none, before one is opened.

It sees labels and which of them are held out; what it says to others is that there are too few, not how many.

With one row of a label value the losses of two epochs or of two jobs tell that row's score, and with a few they nearly
do. So there are `min_loss_rows` of each, as many as a batch has at least where its order is to hide anything; whoever
holds the label may ask for more and not for fewer, since it is the other parties whom the bound protects.

Where rows have weights, those that hardly count do not count here: n rows are (sum w)^2 / sum w^2 of them, which is n
where all weights are the same.
"""

import numpy as np
from numpy.typing import NDArray

from tercet.agents.core.problems import JobProblem
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.functions.links import LINKS
from tercet.schemas.files.job import TrainingJob


def check_loss_rows(
    context: JobContext, job: TrainingJob, labels: Floats, weights: Floats | None, held_out: NDArray[np.bool_]
) -> None:
    """Check, at the label party, that each opened loss is over enough rows of each label.

    Args:
        context: The job at this party.
        job: The same job.
        labels: (rows,), 0 and 1, numbers of classes, or other numbers, as the link has it.
        weights: (rows,), how often they count; None: all alike.
        held_out: (rows,), which of them are not trained on.

    Raises:
        JobProblem: they are too few; whoever wrote the job or holds the label can mend it.
    """
    evaluation, link = job.evaluation, job.link
    least = context.settings.limits.min_loss_rows
    counts = np.ones(len(labels)) if weights is None else weights
    for asked, name, what, among in (
        (evaluation.loss, "loss", "training", ~held_out),
        (evaluation.held_out_loss, "held_out_loss", "held-out", held_out),
    ):
        if asked and fewest_rows(labels[among], link, counts[among]) < least:
            of_each = " of each label value" if link == "logistic" or LINKS[link].classes else ""
            raise JobProblem(
                "table.few-labels",
                context.me,
                f"at {context.me} the {what} loss would be opened over fewer than {least} rows{of_each}, "
                f"from which scores of single rows could be worked out: leave {name} out of the job, or bring more "
                f"rows" + (", or hold out more" if name == "held_out_loss" else ""),
            )


def fewest_rows(labels: Floats, link: str, weights: Floats | None = None) -> float:
    """Count the rows of the rarest label value; all rows, where labels are no classes."""
    counts = np.ones(len(labels)) if weights is None else weights
    of_classes = link == "logistic" or LINKS[link].classes
    groups = np.unique(labels, return_inverse=True)[1] if of_classes else np.zeros(len(labels), np.int64)
    sums, squares = np.bincount(groups, counts), np.bincount(groups, counts * counts)
    return float((sums * sums / np.maximum(squares, np.finfo(np.float64).tiny)).min(initial=len(labels)))
