"""Translates exceptions of aio-pika and RabbitMQ into broker/interface/base.py's.

It tells our cancellations from aiormq's, and adds names of exchanges, queues and addresses, never a password or a body.
"""

import asyncio
import re
import ssl
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import aiormq
from yarl import URL

from tercet.broker.interface.base import BrokerError, Disconnected, NoLogin, Occupied, Overloaded, Refused, Unroutable

DEFAULT_PORTS: Final = {"amqp": 5672, "amqps": 5671}

# OpenSSL's X509_V_ERR codes for what it checks with X509_V_FLAG_X509_STRICT only, which Python sets from 3.13 on.
_STRICT: Final = range(80, 94)

_EXCHANGE: Final = re.compile(r"exchange '([^']*)'")
_TOPIC: Final = re.compile(r"topic '([^']*)'")
_SIZE: Final = re.compile(r"message size (\d+)")
_INSTEAD_OF_OPENING: Final = re.compile(
    r"Connection\.OpenOk.*<Connection\.Close ?([^>]*)>"
)  # see broker/rabbitmq/tolerant.py
_FULL: Final = "have the broker's operator raise that limit, or end what else is connected"
_OTHER_HOST: Final = (
    "correct the end of the URL, amqps://HOST/VIRTUAL-HOST: `tercet broker definitions` makes the virtual host "
    "'tercet' unless told otherwise"
)
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})

T = TypeVar("T")

# First match counts: the general ones come last.
_MEANINGS: Final[tuple[tuple[tuple[type[BaseException], ...], type[BrokerError], str], ...]] = (
    ((aiormq.PublishError,), Unroutable, "no queue takes it"),
    ((aiormq.DeliveryError,), Overloaded, "the broker did not take it"),
    ((aiormq.ChannelLockedResource,), Occupied, "{error}"),
    ((aiormq.ChannelNotFoundEntity, aiormq.ChannelAccessRefused, aiormq.ChannelPreconditionFailed), Refused, "{error}"),
    (
        (aiormq.AMQPError, aiormq.ChannelInvalidStateError, OSError, TimeoutError),
        Disconnected,
        "the connection to the broker is down ({name})",
    ),
)


def as_broker_error(error: BaseException, doing: str) -> BrokerError | None:
    """Translate an exception to a party that was `doing` something.

    None when it is not the broker's.
    """
    if isinstance(error, BrokerError):
        return error
    for kinds, meaning, text in _MEANINGS:
        if isinstance(error, kinds):
            return meaning(f"{doing}: {text.format(error=error, name=type(error).__name__)}")
    return None


async def call(work: Coroutine[Any, Any, T], *, to_the_end: bool = False) -> T:
    """Await a call of aiormq's; cancelled, end it and let the cancellation through.

    aiormq loses one cancellation in four: a call returns all the same, or fails as if the connection were down. So
    each has a task of its own.

    Args:
        work: The call.
        to_the_end: Do not cut it short: half way, aiormq would close a channel, and now and then the broker closes the
            connection over what it has sent.

    Raises:
        ConnectionError: aiormq has cancelled the call itself, as it does on a dying connection.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        if not to_the_end:
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody else asks for it
        raise
    if task.cancelled():
        raise ConnectionError("aiormq cancels what waits on a dying connection")
    return task.result()


def publish_error(error: BaseException, doing: str, exchange: str, routing_key: str, size: int) -> BrokerError | None:
    """Translate an exception of a publish.

    What RabbitMQ says about another one can hit it.

    RabbitMQ closes the channel over a publish that it refuses, and with it every other that waits for its confirm; only
    the sentence tells whose fault it was.
    """
    if not isinstance(error, aiormq.ChannelClosed):
        return as_broker_error(error, doing)
    reason = str(error)
    about = tuple(
        None if found is None else found[1] for found in (p.search(reason) for p in (_EXCHANGE, _TOPIC, _SIZE))
    )
    ours = (exchange, routing_key, str(size))
    if about == (None, None, None) or any(a not in (None, b) for a, b in zip(about, ours, strict=True)):
        return Disconnected(f"{doing}: the broker closed the channel for another reason")
    if isinstance(error, aiormq.ChannelNotFoundEntity):
        return Unroutable(f"{doing}: there is no exchange {exchange}")
    return Refused(f"{doing}: {reason}")


def occupied_error(queue_name: str) -> Occupied:
    """Return the error of a queue that somebody else has."""
    return Occupied(f"{queue_name} has a consumer: another agent of this name is running")


def host_and_port(address: URL) -> str:
    """Return all of a broker's address that may be shown."""
    return f"{address.scheme}://{address.host}:{address.explicit_port or DEFAULT_PORTS.get(address.scheme, 0)}"


def login_refusal(error: BaseException, address: URL) -> BrokerError | None:
    """Return why no further attempt to connect is of use.

    None when the broker may only be late.
    """
    where = host_and_port(address)
    if isinstance(error, aiormq.AuthenticationError):
        return NoLogin(f"{where} offers no login of the kind the settings ask for (password or certificate)")
    if isinstance(error, aiormq.ProbableAuthenticationError):
        return NoLogin(f"{where} refused the login of {address.user or 'this certificate'!r}; check the credentials")
    if (said := _INSTEAD_OF_OPENING.search(str(error))) is not None:
        return Refused(
            f"{where} does not let {address.user or 'us'!r} into the virtual host {virtual_host(address)!r} "
            f"({said[1]}); {_FULL if ' limit ' in said[1] else _OTHER_HOST}"
        )
    tls = next((one for one in (error, error.__cause__) if isinstance(one, ssl.SSLError)), None)
    if tls is not None:
        return Refused(f"{where}: no agreement on TLS ({tls_reason(tls)}); {tls_remedy(tls)}")
    return None


def virtual_host(address: URL) -> str:
    """Return the virtual host of a URL: the end of its path, or the one called `/`."""
    return address.path.removeprefix("/").replace("%2F", "/") or "/"


def tls_reason(error: OSError) -> str:
    """Describe a failure of TLS in OpenSSL's words, or ours."""
    return "that port does not speak TLS" if speaks_no_tls(error) else str(error)


def speaks_no_tls(error: BaseException) -> bool:
    """Tell whether something answers, and not in TLS."""
    return isinstance(error, ssl.SSLError) and error.reason in _NO_TLS


def tls_remedy(error: BaseException) -> str:
    """Say what to do where TLS does not come about."""
    if speaks_no_tls(error):
        return "give the broker's port for TLS, 5671 as a rule; amqp:// is for the plain one, on loopback"
    return strict_hint(error) or "check the authorities and certificates in the settings"


def strict_hint(error: BaseException) -> str | None:
    """Say what to do about a certificate that only a strict check refuses.

    None for any other error.
    """
    if not isinstance(error, ssl.SSLCertVerificationError) or error.verify_code not in _STRICT:
        return None
    return (
        "Python 3.13 and later refuse certificates without these extensions: "
        "have the authority and what it signed made anew, as docs/broker.md says under TLS"
    )
