"""Whether a job's losses are over so many rows that they tell of none, at the label party and before one is opened.

It sees labels and which of them are held out; what it says to others is that there are too few, not how many.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from agents.context import JobContext
from agents.problems import JobProblem
from mpc.activations import ACTIVATIONS
from mpc.fixed import Floats

LEAST_LOSS_ROWS: Final = 32
"""Of each label value in a loss that is opened: with one row of a value, the losses of two epochs or of two jobs tell
that row's score, and with few they tell it nearly. As many as the rows of the smallest batch."""


def check_loss_rows(context: JobContext, labels: Floats, held_out: NDArray[np.bool_], outputs: int) -> None:
    """At the label party: every loss that the job opens is over enough rows of each label value, or of all.

    Args:
        context: The job at this party.
        labels: (rows,), 0 and 1, numbers of classes, or other numbers, as the link has it.
        held_out: (rows,), which of them are not trained on.
        outputs: Of the model.

    Raises:
        JobProblem: they are too few; whoever wrote the job or holds the label can mend it.
    """
    evaluation, link = context.training.evaluation, context.training.link
    for asked, name, what, among in (
        (evaluation.loss, "loss", "training", labels[~held_out]),
        (evaluation.held_out_loss, "held_out_loss", "held-out", labels[held_out]),
    ):
        if asked and fewest(among, link, outputs) < LEAST_LOSS_ROWS:
            of_each = " of each label value" if link == "logistic" or ACTIVATIONS[link].classes else ""
            raise JobProblem(
                "table.few-labels",
                context.me,
                f"at {context.me} the {what} loss would be opened over fewer than {LEAST_LOSS_ROWS} rows{of_each}, "
                f"from which scores of single rows could be worked out: leave {name} out of the job, or bring more "
                f"rows" + (", or hold out more" if name == "held_out_loss" else ""),
            )


def fewest(labels: Floats, link: str, outputs: int) -> int:
    """Rows of the label value that has the fewest; of all, where labels are no classes."""
    values = 2 if link == "logistic" else outputs if ACTIVATIONS[link].classes else 0
    if not values:
        return len(labels)
    return int(np.bincount(labels.astype(np.int64), minlength=values).min())
