"""Checks the broker for `tercet doctor`: address, TLS, login and rights.

It asks on names that nobody uses, and takes and changes no message.
"""

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Final

from cryptography import x509
from yarl import URL

from tercet.agents.access.broker import Credentials, tls_context
from tercet.agents.doctor.certificates import read_certificate, validity
from tercet.agents.doctor.finding import Finding, Outcome, fail, ok, warn
from tercet.broker.interface.base import ALARM_REMEDY, BrokerError, NoLogin
from tercet.broker.rabbitmq.channels import FEW_CHANNELS, LEAST_CHANNELS
from tercet.broker.rabbitmq.errors import DEFAULT_PORTS, speaks_no_tls, strict_hint, tls_reason, tls_remedy
from tercet.broker.rabbitmq.probe import Probe, ProbeResult
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import BrokerSettings, Settings

SECONDS: Final = 10.0
RUN_ON: Final = ("3.10.", "4.0.", "4.3.")  # versions that Tercet has been run on
LEAST: Final = (3, 10)
RIGHTS: Final = "let the broker's operator import what `tercet broker definitions` writes"
LOGIN: Final = "compare `credentials` under [broker], or TERCET_BROKER_USERNAME and _PASSWORD, with the broker's users"
ADDRESS: Final = "compare `url` under [broker] (amqps or amqp, port, virtual host) with what the broker's operator says"
LISTED: Final = 3  # rights in one line; the rest are counted


async def check_reachable(broker: BrokerSettings) -> Finding:
    """Check that something listens at the broker's address."""
    url = URL(broker.url)
    host, port = url.host or "", url.explicit_port or DEFAULT_PORTS[url.scheme]
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        why = _why(error)
        hint = "is RabbitMQ running, are host and port in [broker] url right, does a firewall stand between"
        return fail("broker", f"nobody answers at {host}, port {port}: {why}", hint)
    writer.close()
    return ok("broker", f"something listens at {host}, port {port}")


def _why(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return "no such host"
    return getattr(error, "strerror", None) or ("no answer" if isinstance(error, TimeoutError) else str(error))


async def check_tls(broker: BrokerSettings, now: dt.datetime) -> AsyncIterator[Finding]:
    """Check that traffic to the broker is encrypted, and how long certificates are valid."""
    url = URL(broker.url)
    try:
        context = tls_context(broker)
        if context is None:
            yield _plain(url.host or "")
            return
        served = await _served(url, context)
    except (Invalid, KeyProblem) as problem:
        yield fail("tls", str(problem), "correct ca, certificate and key under [broker]")
    except (OSError, TimeoutError) as error:  # ssl.SSLError among them
        hint = "is `ca` the authority of the broker's certificate, does its name fit the URL, is ours wanted"
        if speaks_no_tls(error):
            yield fail("tls", f"no agreement on TLS: {tls_reason(error)}", tls_remedy(error))
        else:
            yield fail("tls", f"no agreement on TLS: {_why(error)}", strict_hint(error) or hint)
    else:
        yield validity("tls", "the broker's certificate", served, now, "have the broker's operator renew it")
        for path, what in ((broker.certificate, "our certificate"), (broker.ca, "the authority's certificate")):
            if path is not None:
                yield validity("tls", f"{what} ({path})", read_certificate(path), now, f"renew {path}")


def _plain(host: str) -> Finding:
    if host in {"localhost", "127.0.0.1", "::1"}:
        return ok("tls", "none, on this machine only")
    return warn("tls", "none: names, kinds and the password can be read on the way", 'write url = "amqps://..."')


async def _served(url: URL, context: ssl.SSLContext) -> x509.Certificate | None:
    async with asyncio.timeout(SECONDS):
        port = url.explicit_port or DEFAULT_PORTS[url.scheme]
        _, writer = await asyncio.open_connection(url.host, port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with suppress(OSError):  # some brokers end the connection first
        await writer.wait_closed()
    return None if shown is None else x509.load_der_x509_certificate(shown)


async def check_rights(settings: Settings, login: Credentials | None) -> AsyncIterator[Finding]:
    """Check login, the broker's version, and that the party's rights suffice and no more."""
    broker = settings.broker
    try:
        async with Probe.connect(
            broker.url,
            settings.party,
            settings.partners,
            credentials=None if login is None else (login.username, login.password),
            tls=tls_context(broker),
            external=broker.certificate is not None and login is None,
        ) as probe:
            yield ok("login", f"taken as {'the certificate' if login is None else login.username}")
            yield _version(*probe.server)
            if (few := _channels(probe.channels)) is not None:
                yield few
                if few.outcome is Outcome.FAIL:
                    return
            if why := await probe.alarm():
                yield fail("alarm", f"the broker takes no messages: it is {why}", ALARM_REMEDY)
                return
            needed = await probe.check_needed()
            for finding in _enough(needed):
                yield finding
            if not needed.refused:
                yield _narrow(await probe.check_excess())
    except (BrokerError, ValueError) as error:
        yield fail("login", str(error), LOGIN if isinstance(error, NoLogin) else ADDRESS)


def _version(product: str, version: str) -> Finding:
    said = f"{product} {version}"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if product != "RabbitMQ" or numbers < LEAST:
        return fail("version", said, "use RabbitMQ 3.10 or later")
    if not version.startswith(RUN_ON):
        return warn("version", f"{said}, which Tercet has not been run on", "try a small job first, and tell us")
    return ok("version", said)


def _channels(allowed: int) -> Finding | None:
    """Describe a wrong limit of channels on a connection, if it is wrong."""
    said, hint = f"the broker allows {allowed} on a connection", "raise `channel_max` in rabbitmq.conf, to 64 or more"
    if allowed < LEAST_CHANNELS:
        return fail("channels", f"{said}, and an agent needs {LEAST_CHANNELS}", hint)
    if allowed < FEW_CHANNELS:
        return warn("channels", f"{said}, so that jobs wait for one another when they begin", hint)
    return None


def _enough(needed: ProbeResult) -> Iterator[Finding]:
    if needed.refused:
        yield fail("rights", f"the broker does not let us {_listed(needed.refused)}", RIGHTS)
    else:
        yield ok("rights", f"all {len(needed.allowed)} that an agent needs")
    if needed.missing:
        said = f"no exchange of theirs is there yet, so that we cannot {_listed(needed.missing)}"
        yield warn("rights", said, "start the partners' agents once, or let the operator import the definitions")


def _narrow(excess: tuple[str, ...]) -> Finding:
    if not excess:
        return ok("rights", "no wider than needed")
    return warn("rights", f"wider than needed: the broker lets us {_listed(excess)}", RIGHTS)


def _listed(rights: tuple[str, ...]) -> str:
    more = len(rights) - LISTED
    return ", ".join(rights[:LISTED]) + (f", and {more} more" if more > 0 else "")
