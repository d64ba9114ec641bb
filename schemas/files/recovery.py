"""Describes recovery: how often a job begins anew, and notes where it is.

The agent's operator writes it.

Durations of waits are deadlines, and stand with the others.
"""

from pydantic import Field

from tercet.schemas.core.strict import TomlModel


class Recovery(TomlModel):
    """Says how a job goes on after a fault.

    The label party's settings count, for all parties of a job.

    Attributes:
        attempts: so many in a row may end in a fault without getting further; with 1 the first fault ends a job.
        checkpoint_steps: a checkpoint is due when so many steps are done since the last one,
        checkpoint_seconds: or when so much time has passed.
        keep_days: how long the checkpoints of a failed job wait for `tercet job resume`.
    """

    attempts: int = Field(default=8, ge=1, le=1000)
    checkpoint_steps: int = Field(default=1000, ge=1)
    checkpoint_seconds: float = Field(default=30, gt=0)
    keep_days: float = Field(default=7, gt=0)
