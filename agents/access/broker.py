"""Connects to RabbitMQ as the settings say: credentials from file or environment, maybe TLS.

Secrets are read here and handed on; they are in no text that this module makes.
"""

import os
import ssl
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tercet.broker.interface.base import CONNECT_SECONDS
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.broker.sealing.identity import read_private, require_private
from tercet.schemas.core.strict import TomlModel
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.mistakes import explain
from tercet.schemas.files.settings import BrokerSettings, Settings
from tercet.schemas.files.toml import parse_toml

USERNAME: Final = "TERCET_BROKER_USERNAME"
PASSWORD: Final = "TERCET_BROKER_PASSWORD"  # noqa: S105 - the name of a variable


class Credentials(TomlModel):
    """Holds the user name and password of the credentials file."""

    username: str
    password: str


async def connect(
    settings: Settings,
    purpose: str = "agent",
    credentials: Credentials | None = None,
    seconds: float = CONNECT_SECONDS,
) -> RabbitBroker:
    """Connect as the settings say, within some seconds; read the login if none is given.

    Raises:
        Invalid, KeyProblem: a file that the settings name cannot be used.
        BrokerError: the broker is not there or refuses.
    """
    broker = settings.broker
    credentials = credentials or own_credentials(broker)
    return await RabbitBroker.connect(
        broker.url,
        credentials=None if credentials is None else (credentials.username, credentials.password),
        tls=tls_context(broker),
        external=broker.certificate is not None and credentials is None,
        name=f"{settings.party} {purpose}",
        party=settings.party,
        deadline=seconds,
    )


def own_credentials(broker: BrokerSettings, environment: MutableMapping[str, str] = os.environ) -> Credentials | None:
    """Read the broker login from the environment, or else from the settings' file, if any.

    It is read once and taken out of the environment, so that no child process inherits it.

    Raises:
        Invalid, KeyProblem: it cannot be used.
    """
    username, password = environment.pop(USERNAME, None), environment.pop(PASSWORD, None)
    if username is not None and password is not None:
        return Credentials(username=username, password=password)
    if (username, password) != (None, None):
        raise Invalid(f"{USERNAME} and {PASSWORD} go together: set both, or neither")
    return None if broker.credentials is None else read_credentials(broker.credentials)


def read_credentials(path: Path) -> Credentials:
    """Read username and password.

    Raises:
        Invalid, KeyProblem: the file is missing, others may read it, or it holds something else.
    """
    content = read_private(path, "write username and password into it")
    try:
        return Credentials.model_validate(parse_toml(content))
    except ValidationError as error:
        raise Invalid(explain(path, error, Credentials, content={})) from None
    except ValueError:  # whose text may quote a password
        raise Invalid(f'{path}: not TOML; write username = "..." and password = "..."') from None


def tls_context(broker: BrokerSettings) -> ssl.SSLContext | None:
    """Make the TLS context for an amqps URL, with the client's certificate if there is one.

    Raises:
        Invalid, KeyProblem: a certificate or key file cannot be used, or others may read the key.
    """
    if not broker.url.startswith("amqps:"):
        return None
    try:
        context = ssl.create_default_context(cafile=None if broker.ca is None else str(broker.ca))
        if broker.certificate is not None and broker.key is not None:
            require_private(broker.key, "give the key that belongs to the certificate")  # ssl reads it by its path
            context.load_cert_chain(broker.certificate, broker.key)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"[broker] ca, certificate or key cannot be used: {error.strerror or error}") from None
    return context
