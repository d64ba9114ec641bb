"""Connects to RabbitMQ for the first time, with all options, for as long as allowed.

It declares nothing, and shows no password.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiormq
from aio_pika.abc import ConnectionParameter
from aio_pika.robust_connection import RobustConnection
from yarl import URL

from tercet.broker.interface.base import BrokerError, Disconnected, Refused
from tercet.broker.rabbitmq.errors import DEFAULT_PORTS, call, host_and_port, login_refusal, speaks_no_tls
from tercet.broker.rabbitmq.wire import Wire, WireFactory

RECONNECT_SECONDS: Final = 1  # aio-pika's 5 would use up a step's deadline
ATTEMPT_SECONDS: Final = 10.0
HANDSHAKE_SECONDS: Final = 3.0


class WiredConnection(RobustConnection):
    """Restores itself, and has each time a wire of ours to its broker."""

    PARAMETERS = (
        *RobustConnection.PARAMETERS,
        ConnectionParameter(name="transport_factory", parser=lambda factory: factory, is_kwarg=True),
    )

    def __init__(self, address: URL, **options: Any) -> None:
        self._factory = WireFactory()
        super().__init__(address, transport_factory=self._factory, **options)

    @property
    def wire(self) -> Wire:
        """The wire of the connection that was opened last."""
        if self._factory.newest is None:
            raise RuntimeError("aio-pika opens connections without the transport_factory that aiormq has been given")
        return self._factory.newest


def address_of(url: str, credentials: tuple[str, str] | None, *, external: bool, heartbeat: int) -> URL:
    """Make aio-pika's URL, with the login and the options in it.

    Raises:
        ValueError: it is no address of a broker, or not one that a certificate is shown to.
    """
    address = URL(url)
    if address.scheme not in ("amqp", "amqps") or not address.host:
        raise ValueError(f"a broker's address is amqp://HOST or amqps://HOST, not {address.scheme}://{address.host}")
    if external and address.scheme != "amqps":
        raise ValueError(f"login by certificate needs amqps://, not {host_and_port(address)}")
    if credentials is not None:
        address = address.with_user(credentials[0]).with_password(credentials[1])
    options = {"heartbeat": str(heartbeat), "reconnect_interval": str(RECONNECT_SECONDS)}
    return address.update_query(options | ({"auth": "EXTERNAL"} if external else {}))


async def refusal_of(error: BaseException, address: URL) -> BrokerError | None:
    """Return why no further attempt to connect is of use, if so.

    That is a `login_refusal`, or the port is one for TLS, which is tried.
    """
    hung_up = isinstance(error.__cause__, (ConnectionResetError, asyncio.IncompleteReadError))
    if address.scheme == "amqp" and hung_up and await _speaks_tls(address):
        return Refused(f"{host_and_port(address)} is a port for TLS: write amqps:// in the URL, or give the plain port")
    return login_refusal(error, address)


async def _speaks_tls(address: URL) -> bool:
    """Tell whether a handshake gets anywhere.

    Nothing is said after it, so nobody's certificate is asked for.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            port = address.explicit_port or DEFAULT_PORTS[address.scheme]
            _, writer = await asyncio.open_connection(address.host, port, ssl=context)
    except ssl.SSLError as error:
        return not speaks_no_tls(error)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def connect_robust(
    address: URL,
    tls: ssl.SSLContext | None,
    properties: dict[str, str],
    *,
    until: float,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> WiredConnection:
    """Connect, in as many attempts as there is time for.

    The connection keeps itself up from then on.

    Raises:
        Refused: the broker answers and will not have us.
        Disconnected: nobody has answered until then.
    """
    # aio-pika retries only a connection that has once stood.
    while True:
        connection = WiredConnection(address, ssl_context=tls, client_properties=properties)
        try:
            await call(connection.connect(timeout=ATTEMPT_SECONDS))
        except BaseException as error:
            await connection.close()
            no_use = await refusal_of(error, address)
            if no_use is not None:
                raise no_use from error
            if not isinstance(error, (aiormq.AMQPError, OSError, TimeoutError)):
                raise
            if clock() + RECONNECT_SECONDS > until:
                raise Disconnected(
                    f"no RabbitMQ answers at {host_and_port(address)} ({str(error) or type(error).__name__}); "
                    "is it running, and is the address right?"
                ) from error
            await sleep(RECONNECT_SECONDS)
        else:
            return connection
