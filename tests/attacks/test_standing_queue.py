"""Eve's letters to the standing queues: none begins what it may not, all are logged, and honest jobs go on."""

import asyncio
import math
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tercet.agents.access.console import BrokerConsole
from tercet.broker.interface import topology
from tercet.broker.interface.base import Envelope
from tercet.broker.interface.dead_letters import BURST
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.schemas.messages.codec import encode
from tercet.schemas.messages.kinds import BODY_VERSION, Cancel, Query, Released
from tests.agents.scenes import BANK, CARD, NOTARY, job, prediction
from tests.attacks.field import CALM, EVE, Field, battlefield
from tests.guarded import Guarded

HERS = job("hers", tables=((BANK, "customers"), (EVE, "customers")))
DAY = 86400
Forge = Callable[[Field], Envelope]


def announced(field: Field, description: Any = HERS, altered: dict[str, Any] | None = None, **changes: Any) -> Envelope:
    """A job of hers for bank; `altered` after she has signed it."""
    signed = field.announcement(description, **changes)
    return field.letter(BANK, signed.model_copy(update=altered or {}), job=description.id)


def body(field: Field, content: bytes, kind: str = "job", item: str = "announcement") -> Envelope:
    """Anything at all, validly sealed."""
    address = field.address(BANK, Cancel(), item=item)
    return field.sealed(address, kind, content, key=topology.announce_key(address.job, BANK))


def packed(fields: Any, kind: str = "job", item: str = "announcement") -> bytes:
    return bytes(msgpack.packb([BODY_VERSION, kind, item, fields]))


def posing(field: Field, **changes: Any) -> Envelope:
    """A letter of hers that says it is from card."""
    address = field.address(BANK, field.announcement(HERS), job=HERS.id)._replace(sender=CARD)
    key = topology.announce_key(HERS.id, BANK)
    return replace(field.sealed(address, "job", encode(field.announcement(HERS)), key=key), **changes)


def resealed(field: Field, **changes: Any) -> Envelope:
    """A valid letter of hers, and then something on its outside changed."""
    return replace(announced(field), **changes)


def nested(depth: int) -> bytes:
    frame = packed(None)  # ends with the one byte of None
    return frame[:-1] + b"\x81\xa1a" * depth + b"\xc0"


# What she sends, and what bank's log says of it: the event, and how the reason begins.
LETTERS: dict[str, tuple[Forge, str, str]] = {
    "an unsigned job": (lambda f: announced(f, altered={"signature": b""}), "job refused", "job.signature"),
    "a job that she altered after signing": (
        lambda f: announced(f, altered={"run": bytes(31) + b"\x01"}),
        "job refused",
        "job.signature",
    ),
    "a job of which the description was altered": (
        lambda f: announced(f, altered={"description": HERS.model_copy(update={"release": "shared"})}),
        "job refused",
        "job.signature",
    ),
    "a job that has expired": (lambda f: announced(f, now=0), "job refused", "job.expired"),
    "a job from the future": (lambda f: announced(f, now=2**33), "job refused", "job.expired"),
    "a job in another's name": (lambda f: announced(f, altered={"submitter": CARD}), "job refused", "job.signature"),
    "a job that card is said to have sent": (posing, "message refused", "it says that it is from card"),
    "the same through card's exchange, which she cannot write to": (
        lambda f: posing(f, sender=CARD),
        "message refused",
        "it says that it is from card",
    ),
    "a letter for notary": (
        lambda f: replace(f.letter(NOTARY, f.announcement(HERS)), routing_key=topology.announce_key("x-1", BANK)),
        "message refused",
        "it is addressed to another party",
    ),
    "a question that only bank's own console may ask": (
        lambda f: f.letter(BANK, Query(job=None)),
        "message refused",
        "not for the standing queue",
    ),
    "a message of a job's round": (lambda f: f.letter(BANK, Released()), "message refused", "not for the standing"),
    "another kind than is sealed": (lambda f: resealed(f, kind="query"), "message refused", "a sealed control"),
    "another address than is sealed": (
        lambda f: resealed(f, address=announced(f).address.replace("/0/0/", "/0/1/")),
        "message refused",
        "a sealed control",
    ),
    "no address": (lambda f: resealed(f, address="x"), "message refused", "a message id that is not"),
    "an address of all signs": (lambda f: resealed(f, address="\x1b[2J\x00" * 20), "message refused", "a message id"),
    "no body": (lambda f: resealed(f, body=b""), "message refused", "a sealed control"),
    "a megabyte of nothing": (lambda f: resealed(f, body=bytes(2**20)), "message refused", "a sealed control"),
    "msgpack that is none": (lambda f: body(f, b"\xc1" * 100), "message refused", "the body is not msgpack"),
    "msgpack nested without end": (lambda f: body(f, nested(200_000)), "message refused", "the body is not msgpack"),
    "msgpack of four thousand million entries": (
        lambda f: body(f, b"\xdd\xff\xff\xff\xff"),
        "message refused",
        "the body is not msgpack",
    ),
    "ten gigabytes that are announced and not there": (
        lambda f: body(f, b"\xc6" + (10 * 2**30 % 2**32).to_bytes(4, "big")),
        "message refused",
        "the body is not msgpack",
    ),
    "numbers that are none": (
        lambda f: body(f, packed({"rate": math.nan, "decay": math.inf})),
        "message refused",
        "the body is no valid job",
    ),
    "a kind that nobody knows": (lambda f: body(f, packed({}, "order")), "message refused", "the body is of no known"),
}


async def known_to(bank: Field) -> set[str]:
    """The jobs that bank's agent has any record of."""
    return {status.job for status in bank.agents[BANK].status()}


async def test_no_letter_of_hers_begins_what_it_may_not(guarded: Guarded, tmp_path: Path):
    """Each is logged with the reason, and then the three do a job and a prediction as if nothing had been."""
    async with battlefield(guarded, tmp_path) as (field, eve):
        # She has no agent: so long bank tries to decline her jobs, and leaves no earlier.
        field.change(BANK, deadlines=CALM.model_copy(update={"accept": 8}))
        await field.start(BANK, CARD, NOTARY)
        silent = []
        for name, (forge, event, why) in LETTERS.items():
            field.lines.clear()
            await eve.say(forge(field))
            reported = {"code": why} if event == "job refused" else {"why": why}
            try:
                await field.until(partial(field.logged, event, **reported))
            except TimeoutError:
                silent.append((name, [line["event"] for line in field.lines]))
        assert silent == []
        assert field.agents[BANK].status() == ()
        stored = await field.dead_letters(BANK)
        assert any(reason.startswith("it says that it is from card") for reason in stored)
        assert {s.state for s in (await field.honest_job(job())).values()} == {"done"}
        assert {s.state for s in (await field.honest_job(prediction(job().id))).values()} == {"done"}


@pytest.mark.parametrize(
    ("description", "code"),
    [
        (job("hers", tables=((BANK, "salaries"), (EVE, "customers"))), "policy.table"),
        (job("hers", tables=HERS.tables, columns=((BANK, ("id",)),)), "policy.columns"),
    ],
    ids=["a table that bank does not list", "a column that no job may use"],
)
async def test_a_job_that_names_what_she_may_not_is_refused_before_anything_is_read(
    guarded: Guarded, tmp_path: Path, description: Any, code: str
):
    """It is hers, signed and in its time; bank's settings say no."""
    async with battlefield(guarded, tmp_path) as (field, eve):
        await field.start(BANK)
        (tmp_path / "bank.csv").unlink()  # whoever read it would say so
        await eve.say(announced(field, description))
        failure = (await field.ended(description.id, BANK))[BANK].failure
        assert failure is not None
        assert failure.code == code
        assert field.logged("job failed", code=code)


async def test_what_card_has_said_cannot_be_said_again_by_her(guarded: Guarded, tmp_path: Path):
    """As the broker's operator, say, could have recorded it; and her own announcement begins one job, not two."""
    async with battlefield(guarded, tmp_path) as (field, eve):
        heard: list[Envelope] = []
        await field.start(BANK, CARD, NOTARY)
        publish = field.brokers[CARD].publish

        async def recorded(envelope: Envelope, lane: Any) -> None:
            heard.append(envelope)
            await publish(envelope, lane)

        field.brokers[CARD].publish = recorded  # type: ignore[method-assign]
        first = field.agents[CARD].submit(job()).job
        assert {s.state for s in (await field.ended(first, BANK, CARD, NOTARY)).values()} == {"done"}
        letters = [envelope for envelope in heard if envelope.kind == "job"]
        assert {envelope.routing_key.split(".")[-1] for envelope in letters} == {BANK, NOTARY}
        for letter in letters:
            for receiver in (BANK, NOTARY):
                key = topology.announce_key(letter.job, receiver)
                await eve.say(replace(letter, exchange=topology.exchange(EVE), routing_key=key))
        await field.until(lambda: sum(line["event"] == "message refused" for line in field.lines) == 4)
        reasons = [line["why"] for line in field.lines if line["event"] == "message refused"]
        assert all(why.startswith(("it says that it is from card", "it is addressed")) for why in reasons)
        await eve.say(
            field.letter(BANK, field.agents[CARD].jobs.last_run[first], job=first)
        )  # signed by card, sealed by her
        await field.until(lambda: field.logged("job is known already", job=first))
        assert await known_to(field) == {first}
        twice = announced(field)
        await eve.say(twice, twice)
        await field.until(lambda: field.logged("job is known already", job=HERS.id))


async def test_a_flood_is_neither_kept_nor_logged_nor_answered(guarded: Guarded, tmp_path: Path):
    """Of thousands a few lines and dead letters remain, memory is what it was, and bank's console is answered."""
    async with battlefield(guarded, tmp_path) as (field, eve):
        await field.start(BANK)
        poison = [resealed(field, address=f"{n}") for n in range(50)]
        await eve.say(*poison)
        await field.until(lambda: field.agents[BANK].refused["MalformedAddress"] >= 50)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            await eve.say(*poison)
        await field.until(lambda: field.agents[BANK].refused["MalformedAddress"] >= 21 * 50)
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert after - before < 4 * 2**20
        assert sum(line["event"] == "message refused" for line in field.lines) <= BURST + 3
        assert len(await field.dead_letters(BANK)) <= BURST + 3
        broker = await RabbitBroker.connect(guarded.bare_url, name=BANK, credentials=guarded.login(BANK))
        async with BrokerConsole(BANK, field.parties[BANK][1], broker) as console, asyncio.timeout(10):
            assert (await console.query()).jobs == ()


async def test_a_byte_changed_anywhere_is_refused(guarded: Guarded, tmp_path: Path):
    """Of a body, here a valid announcement: at every seventh place; on its outside each text has a test above."""
    async with battlefield(guarded, tmp_path) as (field, eve):
        await field.start(BANK)
        whole = announced(field)
        places = range(0, len(whole.body), 7)
        changed = [
            replace(whole, body=whole.body[:n] + bytes([whole.body[n] ^ 1 << n % 8]) + whole.body[n + 1 :])
            for n in places
        ]
        await eve.say(*changed)
        await field.until(lambda: field.agents[BANK].refused["Forged"] >= len(changed))
        assert await known_to(field) == set()
        assert field.logged("message refused", why="a sealed control message does not open")
