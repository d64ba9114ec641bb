"""Describes where an agent listens: for people on its machine, and for metrics and health.

Whoever may write to that socket acts for the party, without its key; SECURITY.md says what that means. Whoever can
connect to the port learns how many jobs run and fail, never what they are about.
"""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from tercet.schemas.core.strict import TomlModel


class ConsoleSettings(TomlModel):
    """`[console]`: where `tercet job` finds the agent of its own machine, and who may use it.

    Attributes:
        socket: its path; by default `agent.sock` in the state folder.
        group: its members may do all that `tercet job` can; without one the agent's own user and root alone.
    """

    socket: Path | None = None
    group: str | None = None

    @model_validator(mode="after")
    def _others_can_get_there(self) -> Self:
        if self.group is not None and self.socket is None:
            raise ValueError(
                "group needs a socket outside the state folder, which nobody else may enter: write socket = "
                '"/run/tercet/PARTY/agent.sock", say'
            )
        return self


class MonitorSettings(TomlModel):
    """`[monitor]`: without a port the agent listens nowhere.

    Attributes:
        port: where GET /metrics, /healthz and /readyz are answered; 9464 is what others use for metrics.
        address: on which of the machine's addresses; there is neither TLS nor a login.
    """

    port: int | None = Field(default=None, ge=0, le=65535)  # 0 is any that is free, for tests
    address: str = "127.0.0.1"
