"""What a forward pass has to know of a plan: the fixed point, the columns and the activation.

It says nothing of how a model came about, so that a model outlives its plan.
"""

from typing import Protocol

from mpc.activations import Activation

SCORE_BITS = 16  # fractional bits of a score that the label party is told; more would help to solve for narrow data


class Forward(Protocol):
    """A `plan.Plan`, or the `scoring.Numbers` of a model."""

    @property
    def columns(self) -> tuple[int, ...]:
        """Encoded columns of each data party, in party order."""

    @property
    def outputs(self) -> int:
        """Outputs of the model, K."""

    @property
    def fx(self) -> int:
        """Fractional bits of features."""

    @property
    def fz(self) -> int:
        """Fractional bits of pre-activations."""

    @property
    def activation(self) -> Activation:
        """The link between score and label."""
