"""Checks that losses cover enough rows to reveal none, before one is opened.

It sees labels and which of them are held out; what it says to others is that there are too few, not how many.

With one row of a label value the losses of two epochs or of two jobs tell that row's score, and with a few they nearly
do. So there are `min_loss_rows` of each, as many as a batch has at least where its order is to hide anything; whoever
holds the label may ask for more and not for fewer, since it is the other parties whom the bound protects.
"""

import numpy as np
from numpy.typing import NDArray

from tercet.agents.core.problems import JobProblem
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.functions.links import LINKS
from tercet.schemas.files.job import TrainingJob


def check_loss_rows(context: JobContext, job: TrainingJob, labels: Floats, held_out: NDArray[np.bool_]) -> None:
    """Check, at the label party, that each opened loss is over enough rows of each label.

    Args:
        context: The job at this party.
        job: The same job.
        labels: (rows,), 0 and 1, numbers of classes, or other numbers, as the link has it.
        held_out: (rows,), which of them are not trained on.

    Raises:
        JobProblem: they are too few; whoever wrote the job or holds the label can mend it.
    """
    evaluation, link = job.evaluation, job.link
    least = context.settings.limits.min_loss_rows
    for asked, name, what, among in (
        (evaluation.loss, "loss", "training", labels[~held_out]),
        (evaluation.held_out_loss, "held_out_loss", "held-out", labels[held_out]),
    ):
        if asked and fewest_rows(among, link) < least:
            of_each = " of each label value" if link == "logistic" or LINKS[link].classes else ""
            raise JobProblem(
                "table.few-labels",
                context.me,
                f"at {context.me} the {what} loss would be opened over fewer than {least} rows{of_each}, "
                f"from which scores of single rows could be worked out: leave {name} out of the job, or bring more "
                f"rows" + (", or hold out more" if name == "held_out_loss" else ""),
            )


def fewest_rows(labels: Floats, link: str) -> int:
    """Count the rows of the rarest label value; all rows, where labels are no classes."""
    if link != "logistic" and not LINKS[link].classes:
        return len(labels)
    return int(np.unique(labels, return_counts=True)[1].min(initial=len(labels)))
