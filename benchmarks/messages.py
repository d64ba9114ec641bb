"""`python -m benchmarks.messages`: what a small message costs, there and back between two parties.

Two processes, bank and card, each with what a party of a job has: a mailbox, an outbox and a link to the broker. Bank
sends sealed words and card answers with as many. `at once` says how many are on their way: 1 is what a step waits for,
32 is a burst. In the same run, on the same private node, two processes do the same with as many bytes and aio-pika
alone: publish with confirms, consume, acknowledge. And both parties do it in this process, over the in-process broker.

Each figure is for one message there and one back, that of some repeats which took the least. Processor time is that of
both processes, from after a warm-up on, and the broker's beside it.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Protocol

import aio_pika
import numpy as np

from benchmarks.deployed import Broker
from benchmarks.report import report
from tercet.agents.cli.runner import run
from tercet.agents.core import logs
from tercet.agents.messaging.inbox import Deadline
from tercet.agents.messaging.mailbox import Mailbox
from tercet.broker.interface import base, topology
from tercet.broker.interface.outbox import Outbox
from tercet.broker.memory.broker import MemoryBroker
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.broker.sealing.handshake import SessionSecrets
from tercet.broker.sealing.identity import Identity
from tercet.broker.sealing.seal import SessionSeal
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.codec import Companion
from tercet.schemas.messages.kinds import Message, NextWeights, OutputErrorOpening, ScoreOpening
from tests.rabbitmq_node import private_node

PARTIES = ("bank", "card")
JOB = "messages-0a1b2c3d"
SOON = Deadline("step", 60.0)
WARM_UP = 500  # messages there and back, before those that count
WORDS_OF_A_COMPANION = 50
SEALED_BYTES = 130  # beside the words: nonce, tag, names of fields; for bodies of aio-pika's that are as long
PREFETCH = 64


class Talk(Protocol):
    """One party's side: it can say something of a step, and hear what the other says of it."""

    async def say(self, step: int) -> None: ...

    async def hear(self, step: int) -> None: ...


@dataclass(frozen=True)
class End:
    """One party's process."""

    way: str
    party: str
    url: str
    session: int | None  # of the broker's processes
    words: int
    companions: bool
    at_once: int
    messages: int

    @property
    def partner(self) -> str:
        return PARTIES[1 - PARTIES.index(self.party)]


def main() -> None:
    """Measure and print; or be one of the two parties."""
    logs.configure("error")
    arguments = parse()
    if arguments.end:
        json.dump(run(run_end(End(**json.load(sys.stdin)))), sys.stdout)
        return
    result: dict[str, Any] = {
        "message": f"{arguments.words} words there and back, {arguments.messages} times, best of {arguments.repeats}",
    }
    with _broker(arguments.url) as broker:
        for way in arguments.ways:
            result[way] = {f"{n} at once": measured(way, n, broker, arguments) for n in arguments.at_once}
    report(result)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.messages", description=__doc__)
    parser.add_argument("--words", type=int, default=100, help="of each message")
    parser.add_argument("--messages", type=int, default=5000, help="there and back, in each repeat")
    parser.add_argument("--repeats", type=int, default=3, help="the one with the least processor time is told")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 32], help="how many are on their way")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--url", help="a RabbitMQ to use instead of a private node")
    parser.add_argument("--end", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def _broker(url: str | None) -> Iterator[Broker]:
    if url is not None:
        yield Broker(url)
        return
    with private_node() as node:
        yield Broker(node.url, node.session)


def measured(way: str, at_once: int, broker: Broker, arguments: argparse.Namespace) -> dict[str, Any]:
    """The repeat with the least processor time of the parties, by what else runs on the machine."""
    repeats = [_measured_once(way, at_once, broker, arguments) for _ in range(arguments.repeats)]
    best = min(repeats, key=lambda found: float(found["processor_us"]["parties"]))
    best["a_second"] = round(median(found["a_second"] for found in repeats))
    return best


def _measured_once(way: str, at_once: int, broker: Broker, arguments: argparse.Namespace) -> dict[str, Any]:
    words, companions, count = arguments.words, way.endswith("companions"), arguments.messages
    both = [End(way, p, broker.url, broker.session, words, companions, at_once, count) for p in PARTIES]
    figures = [run(_in_process(both))] if way.startswith("in_process") else _in_processes(both)
    cost = {"parties": _microseconds(sum(each["processor"] for each in figures), arguments.messages)}
    if figures[0]["broker"] is not None:
        cost["broker"] = _microseconds(figures[0]["broker"], arguments.messages)
    return {"a_second": arguments.messages / figures[0]["seconds"], "processor_us": cost}


def _microseconds(seconds: float, messages: int) -> float:
    return round(1e6 * seconds / messages, 1)


def _in_processes(both: list[End]) -> list[Mapping[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.messages", "--end"]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in both]
    for process, end in zip(running, both, strict=True):
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(end)))
        process.stdin.close()
    figures = []
    for process in running:
        assert process.stdout is not None
        figures.append(process.stdout.read())
        if process.wait() != 0:
            sys.exit("one of the parties failed")
    return [json.loads(text) for text in figures]


async def run_end(end: End) -> Mapping[str, Any]:
    """One party, to its end."""
    async with AsyncExitStack() as stack:
        talk = await (open_bare if end.way == "aio_pika" else open_party)(end, stack)
        return await _timed(end, talk)


async def _in_process(both: list[End]) -> Mapping[str, Any]:
    """Both parties, over the in-process broker."""
    broker = MemoryBroker()
    async with AsyncExitStack() as stack:
        talks = [await open_mailbox(end, broker.connect(end.party), stack) for end in both]
        figures = await asyncio.gather(*(_timed(end, talk) for end, talk in zip(both, talks, strict=True)))
        return {**figures[0], "broker": None}


async def _timed(end: End, talk: Talk) -> dict[str, Any]:
    speak = _lead if end.party == PARTIES[0] else _follow
    broker = Broker(end.url, end.session)
    await speak(talk, range(WARM_UP), end.at_once)
    processor, since, of_broker = time.process_time(), time.perf_counter(), broker.seconds
    await speak(talk, range(WARM_UP, WARM_UP + end.messages), end.at_once)
    seconds, processor, now = time.perf_counter() - since, time.process_time() - processor, broker.seconds
    took = None if now is None or of_broker is None else now - of_broker
    return {"seconds": seconds, "processor": processor, "broker": took}


async def _lead(talk: Talk, steps: range, at_once: int) -> None:
    for step in steps:
        if step >= steps.start + at_once:
            await talk.hear(step - at_once)
        await talk.say(step)
    for step in steps[-at_once:]:
        await talk.hear(step)


async def _follow(talk: Talk, steps: range, _: int) -> None:
    for step in steps:
        await talk.hear(step)
        await talk.say(step)


# --- a party of Tercet's


async def open_party(end: End, stack: AsyncExitStack) -> Talk:
    """A party with a link of its own to RabbitMQ."""
    broker = await RabbitBroker.connect(end.url, name=end.party, party=end.party, prefetch=PREFETCH)
    stack.push_async_callback(broker.close)
    await broker.declare_exchange(topology.exchange(end.party))
    return await open_mailbox(end, broker, stack)


async def open_mailbox(end: End, broker: base.Broker, stack: AsyncExitStack) -> Talk:
    """What a party of a job has."""
    outbox = Outbox(broker)
    stack.push_async_callback(outbox.close)
    mailbox = Mailbox(
        Address(JOB, 1, Round.CONTROL, "", 0, 0, end.party, ""),
        run=b"r" * 32,
        identity=Identity.generate(),
        partners={end.partner: Identity.generate().public},
        outbox=outbox,
        limits=Limits(),
        early_bytes=2**20,
        on_control=lambda _address, _message: None,
        on_problem=_fail,
    )
    await mailbox.establish(SessionSeal(SessionSecrets(b"t" * 32, {end.partner: b"s" * 32}), end.party))
    queue = topology.job_queue(end.party, JOB, Round.OPENINGS, [end.partner])
    await broker.declare(queue)
    await broker.consume(queue.name, mailbox.deliver, topology.lane(Round.OPENINGS))
    stack.push_async_callback(broker.delete, queue.name)
    stack.push_async_callback(outbox.drain, SOON.seconds)
    return _PartyTalk(end, mailbox)


def _fail(problem: Exception) -> None:
    raise problem


class _PartyTalk:
    def __init__(self, end: End, mailbox: Mailbox) -> None:
        self._mailbox, self._partner = mailbox, end.partner
        self._said: Message = ScoreOpening(words=_random_words(end.words))
        few = _random_words(WORDS_OF_A_COMPANION)
        companions = [NextWeights(words=few), OutputErrorOpening(words=few)]
        self._along: list[Message] = list(companions) if end.companions else []

    async def say(self, step: int) -> None:
        along = [Companion(message, 0, step) for message in self._along]
        await self._mailbox.send(self._said, [self._partner], SOON, step=step, along=along)
        self._mailbox.trace.note_finished_step(step)

    async def hear(self, step: int) -> None:
        for message in (self._said, *self._along):
            await self._mailbox.receive(type(message), [self._partner], SOON, step=step)


def _random_words(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**64, (count, 1), dtype=np.uint64)


# --- aio-pika alone


async def open_bare(end: End, stack: AsyncExitStack) -> Talk:
    """Two channels of one connection, to publish on and to consume from."""
    connection = await aio_pika.connect(end.url)
    stack.push_async_callback(connection.close)
    publishing = await connection.channel(on_return_raises=True)
    exchanges = {
        party: await publishing.declare_exchange(f"bare.{party}", aio_pika.ExchangeType.TOPIC, durable=True)
        for party in PARTIES
    }
    consuming = await connection.channel(publisher_confirms=False)
    await consuming.set_qos(prefetch_count=PREFETCH)
    queue = await consuming.declare_queue(f"bare.{end.party}", exclusive=True)
    await queue.bind(exchanges[end.partner], f"to.{end.party}")
    talk = _BareTalk(end, exchanges[end.party])
    await queue.consume(talk.arrive)
    stack.push_async_callback(talk.confirmed)
    return talk


class _BareTalk:
    def __init__(self, end: End, exchange: aio_pika.abc.AbstractExchange) -> None:
        self._end, self._exchange = end, exchange
        self._body = bytes(8 * end.words + SEALED_BYTES)
        self._bodies: asyncio.Queue[bytes] = asyncio.Queue()
        self._sending: set[asyncio.Task[None]] = set()

    async def arrive(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        await message.ack()
        self._bodies.put_nowait(message.body)

    async def say(self, step: int) -> None:
        """Publish without waiting for the confirm, as an outbox does."""
        task = asyncio.create_task(self._publish(f"{JOB}/{step}"))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _publish(self, address: str) -> None:
        message = aio_pika.Message(self._body, message_id=address, correlation_id=JOB, app_id=self._end.party)
        while True:
            try:
                await self._exchange.publish(message, f"to.{self._end.partner}", mandatory=True)
            except aio_pika.exceptions.DeliveryError:  # the other one is not there yet
                await asyncio.sleep(0.05)
            else:
                return

    async def hear(self, step: int) -> None:  # noqa: ARG002 - in the order of arrival
        await self._bodies.get()

    async def confirmed(self) -> None:
        await asyncio.gather(*self._sending)


WAYS = ("rabbitmq", "rabbitmq_companions", "aio_pika", "in_process", "in_process_companions")

if __name__ == "__main__":
    main()
