"""Describes the socket by which people on the same machine speak to the agent.

The agent's operator writes it.

Whoever may write to that socket acts for the party, without its key; SECURITY.md says what that means.
"""

from pathlib import Path
from typing import Self

from pydantic import model_validator

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
