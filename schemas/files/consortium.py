"""Describes the parties that train together and their broker, for `tercet kit`.

Whoever sets up the broker writes it. It holds names, addresses and paths, and neither key nor password.
"""

import re
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from tercet.schemas.core.names import RESERVED
from tercet.schemas.core.strict import Name, TomlModel
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import MAX_PARTIES, MAX_STANDBY, read_toml
from tercet.schemas.files.mistakes import explain
from tercet.schemas.files.settings import TableSettings

_HOST: Final = r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
_URL: Final = re.compile(rf"amqps?://{_HOST}/[A-Za-z0-9._-]+")  # nothing that a page or a shell would take for its own
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


class ConsortiumBroker(TomlModel):
    """Says where the parties' RabbitMQ is, and how they log in.

    Attributes:
        url: with a virtual host that the parties share with nobody else.
        authority: a PEM file of the authorities that vouch for the broker; unset, the system's do.
        login: "password": each party gets one; "certificate": each has a certificate that names it.
    """

    url: str
    authority: Path | None = None
    login: Literal["password", "certificate"] = "password"

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        if not _URL.fullmatch(url):
            raise ValueError("write amqps://host/tercet or amqps://host:port/tercet: host, virtual host, and no login")
        if url.startswith("amqp:") and urlsplit(url).hostname not in _LOOPBACK:
            raise ValueError("amqp:// would send logins in clear; write amqps://, or localhost as the host")
        return url

    @model_validator(mode="after")
    def _certificates_need_tls(self) -> Self:
        if self.url.startswith("amqp:") and (self.authority is not None or self.login == "certificate"):
            raise ValueError("authority and certificates need TLS: write amqps:// in url, or leave them out")
        return self

    @property
    def vhost(self) -> str:
        """The virtual host, the last part of the URL."""
        return self.url.rpartition("/")[2]


class Member(TomlModel):
    """Describes one party.

    Attributes:
        role: "label": a data party that holds the label of the first job; "data"; or "helper".
        tables: what its settings list; unset, the party writes it.
    """

    role: Literal["label", "data", "helper"]
    tables: dict[Name, TableSettings] = {}

    @model_validator(mode="after")
    def _role_fits(self) -> Self:
        if self.role == "helper" and self.tables:
            raise ValueError("a helper holds no tables")
        first = next(iter(self.tables.values()), None)
        if self.role == "label" and first is not None and first.label is None:
            raise ValueError('the first table of the label party names its label column: label = "..."')
        return self


class Consortium(TomlModel):
    """Describes all parties; `name` is that of the folder and of the first job."""

    name: Name
    broker: ConsortiumBroker
    parties: dict[Name, Member] = Field(min_length=3)

    @model_validator(mode="after")
    def _roles_make_a_job(self) -> Self:
        if RESERVED & self.parties.keys():
            raise ValueError(f"no party can be called {' or '.join(sorted(RESERVED))}")
        if len(self.of_role("label")) != 1:
            raise ValueError('under [parties] exactly one has role = "label"')
        if not 2 <= len(self.data_parties) <= MAX_PARTIES:
            raise ValueError(f'2 to {MAX_PARTIES} parties hold data: role = "label" or "data"')
        if not 1 <= len(self.of_role("helper")) <= 1 + MAX_STANDBY:
            raise ValueError(f'1 to {1 + MAX_STANDBY} parties have role = "helper"')
        return self

    def of_role(self, role: str) -> tuple[str, ...]:
        """List the parties of a role, in the file's order."""
        return tuple(name for name, party in self.parties.items() if party.role == role)

    @property
    def label(self) -> str:
        """The party that holds the label."""
        return self.of_role("label")[0]

    @property
    def data_parties(self) -> tuple[str, ...]:
        """The label party, then the others that hold data."""
        return (*self.of_role("label"), *self.of_role("data"))


def read_consortium(path: Path) -> Consortium:
    """Read CONSORTIUM.toml; the authority's path becomes relative to its folder.

    Raises:
        Invalid: the file is missing, is not TOML or has a field that is wrong; the text names it.
    """
    content: dict[str, Any] = read_toml(path)
    try:
        consortium = Consortium.model_validate(content)
    except ValidationError as error:
        raise Invalid(explain(path, error, Consortium, content=content)) from None
    broker = consortium.broker
    if broker.authority is None:
        return consortium
    anchored = broker.model_copy(update={"authority": path.parent / broker.authority})
    return consortium.model_copy(update={"broker": anchored})
