"""Describes where an agent answers about metrics and health, if anywhere.

The agent's operator writes it.

Whoever can connect there learns how many jobs run and fail, never what they are about.
"""

from pydantic import Field

from tercet.schemas.core.strict import TomlModel


class MonitorSettings(TomlModel):
    """`[monitor]`: without a port the agent listens nowhere.

    Attributes:
        port: where GET /metrics, /healthz and /readyz are answered; 9464 is what others use for metrics.
        address: on which of the machine's addresses; there is neither TLS nor a login.
    """

    port: int | None = Field(default=None, ge=0, le=65535)  # 0 is any that is free, for tests
    address: str = "127.0.0.1"
