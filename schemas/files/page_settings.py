"""Describes where an agent serves its page, if anywhere.

The agent's operator writes it.

Whoever can connect there meets a login; what a login may do is said when it is made, by `tercet user add`.
"""

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from tercet.schemas.core.strict import TomlModel


class PageSettings(TomlModel):
    """`[page]`: without a port there is no page.

    Attributes:
        port: where browsers find it.
        address: on which of the machine's addresses; any but a loopback address needs TLS.
        certificate, key: files for TLS, in PEM.
        hosts: the names by which browsers reach it, beside its address and, on loopback, localhost.
    """

    port: int | None = Field(default=None, ge=0, le=65535)  # 0 is any that is free, for tests
    address: str = "127.0.0.1"
    certificate: Path | None = None
    key: Path | None = None
    hosts: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Tell whether nobody of another machine can connect."""
        if self.address == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _others_need_tls(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        if not self.is_local and self.certificate is None:
            raise ValueError(
                "other machines reach this address, so passwords need TLS: write certificate and key, or leave address "
                "out and come through a tunnel"
            )
        if not self.is_local and not self.hosts:
            raise ValueError('write hosts = ["..."], the names by which browsers reach the page')
        return self
