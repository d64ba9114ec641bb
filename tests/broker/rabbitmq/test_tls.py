"""amqps:// with a private authority, by password and by client certificate, and what is refused there."""

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tercet.agents.access.broker import connect
from tercet.agents.daemon.agent import Agent
from tercet.agents.runs.run import JobRun
from tercet.agents.simulation.simulate import introduce
from tercet.broker.interface.base import Lane, Refused
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.schemas.files.settings import BrokerSettings
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, job, three
from tests.broker.contract import Place, open_queue
from tests.broker.contract import place as place  # a fixture
from tests.certificates import write_certificate
from tests.guarded import PARTIES, VHOST, guard
from tests.rabbitmq_node import USER, Node, free_ports, private_node


@dataclass(frozen=True)
class Tls:
    """A node that speaks TLS alone to those who show a certificate of its authority."""

    folder: Path
    port: int
    password: str
    node: Node

    @property
    def url(self) -> str:
        return f"amqps://127.0.0.1:{self.port}/"

    def context(self, name: str | None = None) -> ssl.SSLContext:
        """What a party called `name` connects with; without a name it has no certificate."""
        context = ssl.create_default_context(cafile=str(self.folder / "authority.pem"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by itself
        if name is not None:
            context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    folder = tmp_path_factory.mktemp("tls")
    authority = write_certificate(folder, "authority", None)
    write_certificate(folder, "server", authority)
    write_certificate(folder, USER, authority)
    for name in ("nobody", *PARTIES):
        write_certificate(folder, name, authority)
    (port,) = free_ports(1)
    settings = (
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"ssl_options.cacertfile = {folder / 'authority.pem'}",
        f"ssl_options.certfile = {folder / 'server.pem'}",
        f"ssl_options.keyfile = {folder / 'server.key'}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = false",
        "ssl_cert_login_from = common_name",
        "auth_mechanisms.1 = PLAIN",
        "auth_mechanisms.2 = EXTERNAL",
    )
    with private_node(settings=settings, plugins=("rabbitmq_auth_mechanism_ssl",)) as node:
        yield Tls(folder, port, node.password, node)


async def test_a_password_over_tls(tls: Tls, place: Place):
    """The broker's certificate is checked, ours is not asked for."""
    broker = await RabbitBroker.connect(
        tls.url, name="bank", credentials=(USER, tls.password), tls=tls.context(), deadline=5.0
    )
    inbox, _ = await open_queue(broker, place)
    await broker.publish(place.envelope(bytes(300_000)), Lane.BULK)
    await inbox.holds(1)
    await broker.close()


async def test_a_certificate_logs_in_without_a_password(tls: Tls, place: Place):
    """Mutual TLS: the broker takes the name from the certificate."""
    broker = await RabbitBroker.connect(tls.url, name="bank", tls=tls.context(USER), external=True, deadline=5.0)
    inbox, _ = await open_queue(broker, place)
    await broker.publish(place.envelope(), Lane.ONLINE)
    await inbox.holds(1)
    await broker.close()


async def test_a_certificate_of_nobody_is_refused_at_once(tls: Tls):
    """The authority vouches for it, the broker does not know the name."""
    with pytest.raises(Refused, match="refused the login"):
        await RabbitBroker.connect(tls.url, name="bank", tls=tls.context("nobody"), external=True, deadline=30.0)


async def test_a_broker_of_an_unknown_authority_is_refused_at_once(tls: Tls):
    """Before a password is sent."""
    with pytest.raises(Refused, match="TLS"):
        await RabbitBroker.connect(
            tls.url, name="bank", credentials=(USER, tls.password), tls=ssl.create_default_context(), deadline=30.0
        )


async def test_tls_and_a_plain_port_are_told_apart(tls: Tls):
    """In both directions, at once, and before a password is sent."""
    plain = f"127.0.0.1:{tls.node.port}"
    with pytest.raises(Refused, match="does not speak TLS"):
        await RabbitBroker.connect(f"amqps://{plain}/", name="bank", tls=tls.context(), deadline=30.0)
    with pytest.raises(Refused, match="is a port for TLS: write amqps://"):
        await RabbitBroker.connect(tls.url.replace("amqps:", "amqp:"), name="bank", deadline=30.0)


async def test_a_certificate_login_without_tls_is_a_mistake_in_the_settings(tls: Tls):
    """Said before anything is tried."""
    with pytest.raises(ValueError, match="amqps"):
        await RabbitBroker.connect("amqp://127.0.0.1/", name="bank", external=True, tls=tls.context(USER))


async def test_a_whole_job_by_certificates_alone(tls: Tls, tmp_path: Path):
    """Users without a password, each with the rights of its party, by the name in its certificate."""
    guard(tls.node, tmp_path, "--certificates")
    assert not (tmp_path / "bank.credentials.toml").exists()
    ended: dict[str, JobRun] = {}
    over, stop = asyncio.Event(), asyncio.Event()

    def finished(run: JobRun) -> None:
        ended[run.context.me] = run
        if len(ended) == 3:
            over.set()

    parties, agents, brokers = introduce(three(tmp_path, PATIENT), tmp_path), {}, []
    async with asyncio.TaskGroup() as tasks:
        for party, (settings, identity) in parties.items():
            certified = BrokerSettings(
                url=f"{tls.url}{VHOST}",
                ca=tls.folder / "authority.pem",
                certificate=tls.folder / f"{party}.pem",
                key=tls.folder / f"{party}.key",
            )
            broker = await connect(settings.model_copy(update={"broker": certified}))
            agents[party] = agent = Agent(settings, identity, broker, finished=finished)
            tasks.create_task(agent.serve(stop))
            brokers.append(broker)
            await agent.ready.wait()
        agents[BANK].submit(job())
        await asyncio.wait_for(over.wait(), 120)
        stop.set()
    await asyncio.gather(*(broker.close() for broker in brokers))
    assert {party: run.status().state for party, run in ended.items()} == dict.fromkeys((BANK, CARD, NOTARY), "done")
