"""How a label of linear regression becomes a number of order one, and a score a label again.

It is fitted on the training rows' labels and keeps their mean and deviation only.
"""

from typing import Self

from pydantic import Field

from schemas.strict import Strict
from tables.moments import CLIP, Floats, Moments, standardise
from tables.problem import TableProblem


class LabelScaling(Strict):
    """(label - mean) / scale, within ± clip."""

    mean: float
    scale: float = Field(gt=0)
    clip: float = Field(default=CLIP, gt=0, le=CLIP)

    @classmethod
    def fit(cls, label: Floats, name: str) -> Self:
        """Learn mean and standard deviation from the finite labels (rows,) of the training rows of table `name`.

        Raises:
            TableProblem: the label is the same in every row.
        """
        moments = Moments()
        moments.add(label)
        mean, scale = moments.result
        if scale == 0:
            raise TableProblem(
                f"the label of table {name!r} has one value in every training row",
                "give rows whose labels differ",
                f"the label of the table {name!r} is the same in every row",
            )
        return cls(mean=mean, scale=scale)

    def apply(self, label: Floats) -> Floats:
        """Standardise labels, within ± clip; same shape."""
        return standardise(label, self.mean, self.scale, self.clip)

    def restore(self, score: Floats) -> Floats:
        """What the model says in the label's own unit; same shape."""
        return self.mean + self.scale * score
