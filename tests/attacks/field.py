"""Honest agents over a guarded RabbitMQ, and Eve: a partner with a login, a key and a raw connection of her own.

The agents are the real ones with the rights of their party; Eve may do whatever her login allows, frame by frame.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aio_pika
import aiormq
from pamqp.commands import Basic
from structlog.testing import capture_logs

from tercet.agents.daemon.agent import Agent
from tercet.agents.messaging.mailbox import Tap
from tercet.agents.policy.signature import sign
from tercet.agents.runs.run import JobRun
from tercet.agents.simulation.simulate import introduce
from tercet.broker.interface import topology
from tercet.broker.interface.base import Envelope
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.broker.rabbitmq.dead_letters import read_dead_letters
from tercet.broker.sealing.identity import Identity
from tercet.broker.sealing.seal import associated_data
from tercet.schemas.files.job import AnyJob
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.codec import encode
from tercet.schemas.messages.kinds import Job, JobStatus, Member, Message
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, make_table, party_settings
from tests.guarded import Guarded

EVE = "eve"
CALM = PATIENT.model_copy(update={"heartbeat": 0.4})
PATIENCE = 60.0


def four(folder: Path) -> dict[str, Settings]:
    """The settings of three honest parties and Eve, whom they have as a partner that may submit."""
    make_table(folder / f"{BANK}.csv", seed=1, label=True)
    make_table(folder / f"{CARD}.csv", seed=2)
    make_table(folder / f"{EVE}.csv", seed=3)
    return {party: party_settings(folder, party, CALM) for party in (BANK, CARD, NOTARY, EVE)}


@dataclass
class Field:
    """Agents that live, Eve's raw channel, and what has been logged."""

    guarded: Guarded
    parties: dict[str, tuple[Settings, Identity]]
    tasks: asyncio.TaskGroup
    lines: list[Any]
    agents: dict[str, Agent] = field(default_factory=dict)
    brokers: dict[str, RabbitBroker] = field(default_factory=dict)
    runs: dict[tuple[str, str], JobRun] = field(default_factory=dict)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, *parties: str, tap: Tap | None = None) -> None:
        """Start the agents of these parties; `tap` sees and may change what they send."""
        for party in parties:
            settings, identity = self.parties[party]
            broker = await RabbitBroker.connect(
                self.guarded.bare_url, name=party, party=party, credentials=self.guarded.login(party)
            )
            await read_dead_letters(broker, party, 10_000, remove=True)
            self.brokers[party] = broker
            self.agents[party] = agent = Agent(settings, identity, broker, tap=tap, finished=self._finished)
            self.tasks.create_task(agent.serve(self.stop))
            await agent.ready.wait()

    def _finished(self, run: JobRun) -> None:
        self.runs[run.context.me, run.job.id] = run

    def change(self, party: str, **changes: Any) -> None:
        """Other settings for a party, before it starts."""
        settings, identity = self.parties[party]
        self.parties[party] = (settings.model_copy(update=changes), identity)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when something holds."""
        async with asyncio.timeout(PATIENCE):
            while not holds():  # noqa: ASYNC110 - what holds is told by no event
                await asyncio.sleep(0.01)

    async def ended(self, job: str, *parties: str) -> dict[str, JobStatus]:
        """The status at these parties once the job has ended at all of them."""
        await self.until(lambda: all((party, job) in self.runs for party in parties))
        return {party: self.runs[party, job].status() for party in parties}

    async def honest_job(self, description: AnyJob) -> dict[str, JobStatus]:
        """A job of the honest three, to its end."""
        job = self.agents[BANK].submit(description).job
        return await self.ended(job, BANK, CARD, NOTARY)

    def logged(self, event: str, **fields: str) -> bool:
        """Whether there is a line of this event whose fields begin so."""
        return any(
            line["event"] == event and all(str(line.get(name, "")).startswith(text) for name, text in fields.items())
            for line in self.lines
        )

    async def dead_letters(self, party: str) -> list[str]:
        """The reasons that lie with a party's dead letters."""
        found = await read_dead_letters(self.brokers[party], party, 10_000)
        return [letter.reason for letter in found.letters]

    # --- what Eve can make

    def address(self, receiver: str, message: Message, *, job: str = "x-1", **changes: Any) -> Address:
        """Where a message of hers goes."""
        place = Address(job, 1, message.round, message.item, 0, 0, EVE, receiver)
        return place._replace(**changes)

    def sealed(
        self, address: Address, kind: str, body: bytes, *, key: str, run: bytes = b"", of: str = EVE
    ) -> Envelope:
        """An envelope through Eve's exchange, sealed with her identity or with what is said to be another's."""
        mine = self.parties[of][1]
        receiver = self.parties[address.receiver][1].public
        return Envelope(
            exchange=topology.exchange(EVE),
            routing_key=key,
            body=mine.seal(body, receiver, associated_data(str(address), kind, run)),
            kind=kind,
            address=str(address),
            job=address.job,
            sender=address.sender,
        )

    def letter(self, receiver: str, message: Message, **changes: Any) -> Envelope:
        """A valid letter of hers for a standing queue."""
        address = self.address(receiver, message, **changes)
        return self.sealed(address, message.kind, encode(message), key=topology.announce_key(address.job, receiver))

    def announcement(self, description: AnyJob, **changes: Any) -> Job:
        """A job as she submits it, signed and in its time; `changes` are made before she signs."""
        members = tuple(
            Member(name=p, role="helper" if p == NOTARY else "data", key=str(self.parties[p][1].public))
            for p in description.parties
        )
        job = Job(id=description.id, run=bytes(32), description=description, members=members, submitter=EVE)
        issued = changes.pop("now", None)
        job = job.model_copy(update=changes)
        return sign(job, self.parties[EVE][1], time.time() if issued is None else issued)


async def _publish(channel: aiormq.abc.AbstractChannel, envelope: Envelope) -> None:
    properties = Basic.Properties(
        message_type=envelope.kind, message_id=envelope.address, correlation_id=envelope.job, app_id=envelope.sender
    )
    await channel.basic_publish(
        envelope.body, exchange=envelope.exchange, routing_key=envelope.routing_key, properties=properties
    )


@dataclass
class Raw:
    """Eve's connection. What the broker refuses costs her a channel, and she opens another."""

    connection: aio_pika.abc.AbstractConnection

    async def ask(self, what: Callable[[aiormq.abc.AbstractChannel], Any]) -> Any:
        """Do something on a channel of its own."""
        channel = await self.connection.channel()
        try:
            return await what(await channel.get_underlay_channel())
        finally:
            with suppress(aiormq.AMQPError, aiormq.ChannelInvalidStateError):
                await channel.close()

    async def say(self, *envelopes: Envelope) -> None:
        """Publish envelopes as they are."""

        async def publish(channel: aiormq.abc.AbstractChannel) -> None:
            async with asyncio.TaskGroup() as tasks:
                for envelope in envelopes:
                    tasks.create_task(_publish(channel, envelope))

        await self.ask(publish)


@asynccontextmanager
async def eves_connection(guarded: Guarded) -> AsyncIterator[Raw]:
    """By her own login."""
    async with await aio_pika.connect(guarded.url(EVE)) as connection:
        yield Raw(connection)


@asynccontextmanager
async def battlefield(guarded: Guarded, folder: Path) -> AsyncIterator[tuple[Field, Raw]]:
    """A field, and Eve's connection; in the end the agents leave, and their standing queues go."""
    with capture_logs() as lines:
        async with eves_connection(guarded) as eve:
            async with asyncio.TaskGroup() as tasks:
                place = Field(guarded, introduce(four(folder), folder), tasks, lines)
                try:
                    yield place, eve
                finally:
                    place.stop.set()
            for party, broker in place.brokers.items():
                await broker.delete(topology.standing_queue(party, []).name)
                await broker.close()
