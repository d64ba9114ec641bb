"""Eve is a data party of a running job: what she says beside her part is refused, or ends the job with her name."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from tercet.agents.daemon.agent import Agent
from tercet.broker.interface import topology
from tercet.broker.interface.base import Answer, Envelope, Lane
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.broker.sealing.seal import SessionSeal, associated_data
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.messages.address import Address, Round, parse_address
from tercet.schemas.messages.codec import encode
from tercet.schemas.messages.kinds import (
    BODY_VERSION,
    Failure,
    MaskedActivation,
    MaskedInputs,
    Message,
    Progress,
)
from tests.agents.scenes import BANK, CARD, NOTARY, job
from tests.attacks.field import EVE, Field, Raw, battlefield
from tests.guarded import Guarded

BAD = "message.malformed"
TABLES = ((BANK, "customers"), (EVE, "customers"))
FAR: dict[str, Any] = {"epoch": 2900, "step": 8999}  # steps that the job comes to much later
LATEST: dict[str, Any] = {"epoch": 9_000_000_000}  # later than any heartbeat of hers
BEAT: dict[str, Any] = {"state": "training", "epoch": 0, "step": 0, "steps": 9, "stage": "", "waits_for": ()}


@dataclass
class Insider:
    """Eve in one running job: the keys that her own agent has agreed on, in her hand."""

    field: Field
    raw: Raw
    job: str
    held: "Held"

    @property
    def _run(self) -> bytes:
        return self.field.agents[EVE].jobs.last_run[self.job].run

    @property
    def _session(self) -> SessionSeal:
        session = self.field.agents[EVE].jobs.runs[self.job].context.mailbox._session
        assert session is not None
        return session

    def address(self, message: type[Message] | Message, **changes: Any) -> Address:
        """A message's place."""
        place = Address(self.job, 1, message.round, message.item, 0, 0, EVE, BANK)
        return place._replace(**changes)

    def envelope(self, address: Address, kind: str, body: bytes, run: bytes | None = None) -> Envelope:
        """Sealed as it has to be, and put into bank's queue for its round."""
        associated = associated_data(str(address), kind, self._run if run is None else run)
        if address.round in (Round.CONTROL, Round.HANDSHAKE):
            receiver = self.field.parties[BANK][1].public
            sealed = self.field.parties[EVE][1].seal(body, receiver, associated)
        else:
            sealed = self._session.seal(BANK, body, associated)
        return Envelope(
            exchange=topology.exchange(EVE),
            routing_key=topology.routing_key(self.job, address.round, BANK),
            body=sealed,
            kind=kind,
            address=str(address),
            job=address.job,
            sender=address.sender,
        )

    def letter(self, message: Message, body: bytes | None = None, **changes: Any) -> Envelope:
        """A valid letter, but for what is changed; with a `body` it says something else than the message."""
        content = encode(message) if body is None else body
        return self.envelope(self.address(message, **changes), message.kind, content)


def words(rows: int = 2) -> Any:
    return np.ones((rows, 3), np.uint64)


def inputs(fields: Any) -> bytes:
    """The body of masked inputs with any fields."""
    return bytes(msgpack.packb([BODY_VERSION, MaskedInputs.kind, MaskedInputs.item, fields]))


HUGE = inputs({"words": {"dtype": "<u8", "shape": [10 * 2**27, 1], "data": b""}})


def beat(**changes: Any) -> Progress:
    return Progress.model_construct(**BEAT | {"interval": 1.0, "helper": NOTARY} | changes)


FAILURE = Failure(code="party.silent", stage="", culprit="mallory", reason="so I say")
FEATURES = MaskedInputs(words=words())

# What is refused, and ends nothing: the reason begins so.
REFUSED: dict[str, tuple[Callable[[Insider], Envelope], str]] = {
    "a letter of another job": (lambda e: e.letter(FEATURES, job="other-0a1b2c3d"), "an address of another job"),
    "a letter for the helper": (lambda e: e.letter(FEATURES, receiver=NOTARY), "an address of another job or party"),
    "a letter of a party that is not in the job": (lambda e: e.letter(FEATURES, sender=CARD), "a sender that is no"),
    "a letter of the helper's": (
        lambda e: e.letter(MaskedActivation(words=words()), sender=NOTARY),
        "it says that it is from notary",
    ),
    "a verdict of bank's own": (
        lambda e: e.letter(FAILURE.model_copy(update={"verdict": True}), sender=BANK),
        "a sender that is no party",
    ),
    "a letter of another run": (
        lambda e: e.envelope(e.address(FAILURE), FAILURE.kind, encode(FAILURE), run=bytes(32)),
        "it does not open",
    ),
    "a letter under another kind": (lambda e: replace(e.letter(FEATURES, **FAR), kind="masked labels"), "it does not"),
    "a letter under another step": (
        lambda e: replace(e.letter(FEATURES, **FAR), address=str(e.address(FEATURES, **FAR | {"step": 8998}))),
        "it does not open",
    ),
    "a letter with a byte changed": (lambda e: flipped(e.letter(FEATURES, **FAR)), "it does not open"),
    "a letter cut short": (lambda e: shortened(e.letter(FEATURES, **FAR)), "it does not open"),
    "no letter": (lambda e: replace(e.letter(FEATURES, **FAR), body=b""), "it does not open"),
    "no address": (lambda e: replace(e.letter(FEATURES), address="x"), "a message id that is not an address"),
    "a part of no parts": (
        lambda e: replace(e.letter(FEATURES), address=str(e.address(FEATURES, part=3, parts=2))),
        "a message id that is not an address",
    ),
}

# What is taken and means nothing: it is of another attempt, or nobody asks for it.
IGNORED: dict[str, Callable[[Insider], Envelope]] = {
    "a letter of a later attempt": lambda e: e.letter(FEATURES, attempt=2),
    "a heartbeat that names a huge attempt": lambda e: e.letter(beat(), attempt=4_000_000_000, **LATEST),
    "what only a helper says, in her own name": lambda e: e.letter(MaskedActivation(words=words()), **FAR),
    "a heartbeat of the beginning": lambda e: e.letter(beat(), step=0),
}

# What is validly sealed and wrong ends the job with her name.
BLAMED: dict[str, Callable[[Insider], Envelope]] = {
    "a tensor of ten gigabytes that are not there": lambda e: e.letter(FEATURES, HUGE, **FAR),
    "msgpack nested without end": lambda e: e.letter(FEATURES, b"\x91" * 100_000, **FAR),
    "a number that is none": lambda e: e.letter(beat(interval=math.nan), **LATEST),
    "a heartbeat about a stranger": lambda e: e.letter(beat(waits_for=("mallory",)), **LATEST),
    "a failure about a stranger": lambda e: e.letter(FAILURE),
    "a heartbeat that names a data party as the helper": lambda e: e.letter(beat(helper=EVE), **LATEST),
}


def flipped(envelope: Envelope) -> Envelope:
    return replace(envelope, body=envelope.body[:-1] + bytes([envelope.body[-1] ^ 1]))


def shortened(envelope: Envelope) -> Envelope:
    return replace(envelope, body=envelope.body[:-1])


class Held:
    """Eve's part of a job from its second step on: her agent says it at `go_on`, and till then the job waits."""

    def __init__(self, broker: RabbitBroker) -> None:
        self.letters: list[tuple[Envelope, Lane, Answer]] = []
        self._broker, self._send = broker, partial(RabbitBroker.send, broker)
        broker.send = self._hold  # type: ignore[method-assign]

    def _hold(self, envelope: Envelope, lane: Lane) -> Answer:
        if envelope.kind != MaskedInputs.kind or parse_address(envelope.address).step == 0:
            return self._send(envelope, lane)
        self.letters.append((envelope, lane, asyncio.get_running_loop().create_future()))
        return self.letters[-1][-1]

    def go_on(self) -> None:
        """Say it now."""
        self._broker.send = self._send  # type: ignore[method-assign]
        for envelope, lane, answer in self.letters:
            self._send(envelope, lane).add_done_callback(partial(settle, answer))


def settle(answer: Answer, _: Answer) -> None:
    answer.set_result(None)


def begun(agent: Agent, started: str) -> bool:
    return agent.status(started)[0].state in {"training", "failed"}


async def training(field: Field, raw: Raw, description: TrainingJob) -> Insider:
    """Eve's hand in a job that has begun to train, and waits for her part in the second step."""
    held = Held(field.brokers[EVE])
    started = field.agents[BANK].submit(description).job
    for party in (BANK, EVE):
        await field.until(partial(begun, field.agents[party], started))
        status = field.agents[party].status(started)[0]
        assert status.state == "training", status
    await field.until(lambda: len(held.letters) > 0)
    return Insider(field, raw, started, held)


async def test_what_she_says_beside_her_part_is_refused_and_the_job_goes_on(guarded: Guarded, tmp_path: Path):
    """Nobody is blamed for what anybody could have sent; each is logged, and kept with the dead letters."""
    async with battlefield(guarded, tmp_path) as (field, raw):
        await field.start(BANK, EVE, NOTARY)
        eve = await training(field, raw, job("beside", tables=TABLES))
        await raw.say(*(forge(eve) for forge in IGNORED.values()), *(forge(eve) for forge, _ in REFUSED.values()))
        await field.until(lambda: sum(line["event"] == "message refused" for line in field.lines) == len(REFUSED))
        eve.held.go_on()
        statuses = await field.ended(eve.job, BANK, EVE, NOTARY)
        assert {status.state for status in statuses.values()} == {"done"}
        stored = await field.dead_letters(BANK)
        assert len(stored) == len(REFUSED)
        logged = [line["why"] for line in field.lines if line["event"] == "message refused"]
        for name, (_, why) in REFUSED.items():
            assert any(reason.startswith(why) for reason in stored), name
            assert any(reason.startswith(why) for reason in logged), name


async def test_what_is_sealed_and_wrong_ends_the_job_with_her_name_and_the_agents_go_on(
    guarded: Guarded, tmp_path: Path
):
    """Her key has signed it, or a key that only she and bank have: there is no doubt who it was."""
    async with battlefield(guarded, tmp_path) as (field, raw):
        await field.start(BANK, EVE, NOTARY, CARD)
        for number, (name, forge) in enumerate(BLAMED.items()):
            eve = await training(field, raw, job(f"wrong-{number}", tables=TABLES))
            await raw.say(forge(eve))
            failure = (await field.ended(eve.job, BANK, NOTARY))[BANK].failure
            assert failure is not None, name
            assert (failure.code, failure.culprit) == (BAD, EVE), name
            assert field.logged("job failed", code=BAD, culprit=EVE), name
        assert {s.state for s in (await field.honest_job(job())).values()} == {"done"}


async def test_a_tensor_of_another_shape_ends_the_job_with_her_name(guarded: Guarded, tmp_path: Path):
    """It is looked at when it is due."""

    def fewer(address: Address, message: Message) -> Message:
        if isinstance(message, MaskedInputs) and address.receiver == BANK and (address.epoch, address.step) == (1, 1):
            return message.model_copy(update={"words": message.words[:-1]})
        return message

    async with battlefield(guarded, tmp_path) as (field, _):
        await field.start(BANK, NOTARY)
        await field.start(EVE, tap=fewer)
        shaped = field.agents[BANK].submit(job("shaped", tables=TABLES)).job
        failure = (await field.ended(shaped, BANK, NOTARY))[BANK].failure
        assert failure is not None
        assert (failure.code, failure.culprit) == ("message.shape", EVE)


async def test_a_flood_of_small_letters_ends_the_job_before_it_fills_the_memory(guarded: Guarded, tmp_path: Path):
    """Each is valid, of a step far ahead, and counts with what it takes, not with its few bytes."""
    async with battlefield(guarded, tmp_path) as (field, raw):
        settings = field.parties[BANK][0]
        field.change(BANK, limits=settings.limits.model_copy(update={"message_mib": 1}))
        for party in (BANK, NOTARY):  # a busy machine may take long for so many letters
            field.change(party, deadlines=settings.deadlines.model_copy(update={"step": 60.0}))
        await field.start(BANK, EVE, NOTARY)
        eve = await training(field, raw, job("flooded", tables=TABLES))
        tiny = MaskedInputs(words=words(0))
        await raw.say(*(eve.letter(tiny, epoch=2000, step=6000 + number) for number in range(1030)))
        failure = (await field.ended(eve.job, BANK, NOTARY))[BANK].failure
        assert failure is not None
        assert (failure.code, failure.culprit) == ("message.oversized", EVE)
