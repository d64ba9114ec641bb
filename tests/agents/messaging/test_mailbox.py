"""A party's letters: repeats, parts, order and floods change nothing but what they should, and the sender is named."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tercet.agents.core.problems import DeadlinePassed, JobProblem
from tercet.agents.messaging.inbox import ENVELOPE_BYTES, MOST_USED, PART_BYTES, Deadline, M
from tercet.agents.messaging.mailbox import Mailbox
from tercet.broker.interface.base import Answer, Envelope
from tercet.broker.interface.dead_letters import BURST
from tercet.broker.interface.outbox import Outbox
from tercet.broker.sealing.handshake import SessionSecrets
from tercet.broker.sealing.identity import Identity
from tercet.broker.sealing.seal import SessionSeal
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.address import Address, Round, parse_address
from tercet.schemas.messages.codec import Companion, encode
from tercet.schemas.messages.kinds import (
    Accept,
    AlignedRows,
    Cancel,
    Failure,
    MaskedInputs,
    MaskedLabels,
    Message,
    Presence,
    Progress,
    Ready,
)
from tercet.schemas.messages.tensor import Words

NAMES = ("bank", "card", "notary")
KEYS = {name: Identity.generate() for name in NAMES}
SOON = Deadline("step", 0.05)
SMALL = Limits(part_bytes=1024, message_mib=1)
EARLY = 2**16


class Post:
    """A broker that keeps what is published."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    def send(self, envelope: Envelope, lane: object) -> Answer:
        self.envelopes.append(envelope)
        answer: Answer = asyncio.get_running_loop().create_future()
        answer.set_result(None)
        return answer


class Arrival:
    """An envelope as it comes out of a queue."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope, self.redelivered, self.settled = envelope, False, ""

    async def ack(self) -> None:
        self.settled += "ack"

    async def reject(self, why: str = "") -> None:
        self.settled += "reject"
        self.why = why


class Party:
    """One mailbox, what it has sent, and what it has handed over."""

    def __init__(self, name: str, run: bytes = b"r" * 32) -> None:
        self.post, self.control = Post(), list[tuple[str, Message]]()
        self.problems: list[JobProblem] = []
        self.outbox = Outbox(self.post)  # type: ignore[arg-type]
        partners = {other: key.public for other, key in KEYS.items() if other != name}
        template = Address("job-1", 1, Round.CONTROL, "", 0, 0, name, "")
        self.mailbox = Mailbox(
            template,
            run=run,
            identity=KEYS[name],
            partners=partners,
            outbox=self.outbox,
            limits=SMALL,
            early_bytes=EARLY,
            on_control=lambda address, message: self.control.append((address.sender, message)),
            on_problem=self.problems.append,
        )
        self.name = name

    async def establish(self) -> None:
        """The handshake is done."""
        pairs = {other: bytes("+".join(sorted((self.name, other))), "ascii").ljust(32) for other in NAMES}
        del pairs[self.name]
        await self.mailbox.establish(SessionSeal(SessionSecrets(b"t" * 32, pairs), self.name))

    async def says(self, message: Message, step: int = 0, along: Sequence[Companion] = ()) -> list[Envelope]:
        """The envelopes of one message to the bank."""
        self.post.envelopes.clear()
        await self.mailbox.send(message, ["bank"], Deadline("step", 1), step=step, along=along)
        await self.outbox.drain(1)
        return list(self.post.envelopes)

    async def hears(self, *envelopes: Envelope) -> list[str]:
        """How each delivery was settled."""
        arrivals = [Arrival(envelope) for envelope in envelopes]
        for arrival in arrivals:
            await self.mailbox.deliver(arrival)
        return [arrival.settled for arrival in arrivals]

    async def reads(self, model: type[M], step: int = 0) -> M:
        """The card processor's message of this step."""
        return (await self.mailbox.receive(model, ["card"], SOON, step=step))["card"]

    @property
    def blames(self) -> tuple[str, str]:
        """The code and the culprit of the first problem."""
        return self.problems[0].code, self.problems[0].culprit


async def pair() -> tuple[Party, Party]:
    """Bank and card, with session keys."""
    bank, card = Party("bank"), Party("card")
    await bank.establish()
    await card.establish()
    return bank, card


def words(rows: int = 2, value: int = 7) -> Words:
    """A small tensor."""
    return np.full((rows, 3), value, np.uint64)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_the_order_and_the_repeats_each_letter_is_read_once(data: st.DataObject) -> None:
    """Several steps, each in several parts, shuffled and some of them twice."""

    async def example() -> None:
        bank, card = await pair()
        sent = [
            envelope for step in range(3) for envelope in await card.says(MaskedInputs(words=words(90, step)), step)
        ]
        assert len(sent) == 9
        arrivals = data.draw(st.permutations(sent + data.draw(st.lists(st.sampled_from(sent), max_size=9))))
        assert set(await bank.hears(*arrivals)) == {"ack"}
        for step in range(3):
            letter = await bank.reads(MaskedInputs, step)
            assert np.array_equal(letter.words, words(90, step))
        assert set(await bank.hears(*sent)) == {"ack"}  # repeats of what is used already
        assert bank.mailbox._held_bytes["card"] == 0  # reading makes room again
        assert not bank.mailbox._messages
        assert not bank.mailbox._parts
        assert bank.problems == []

    asyncio.run(example())


async def test_a_step_that_a_later_one_has_overtaken_is_read_all_the_same() -> None:
    """Large letters of steps side by side are packed in threads, and one that failed leaves again: neither is lost."""
    bank, card = await pair()
    first, second = [await card.says(MaskedInputs(words=words(90, step)), step) for step in range(2)]
    await bank.hears(*second)
    await bank.reads(MaskedInputs, 1)
    await bank.hears(*first, *first, *second)
    letter = await bank.reads(MaskedInputs)
    assert np.array_equal(letter.words, words(90, 0))
    assert bank.mailbox._held_bytes["card"] == 0


async def test_of_what_was_used_long_ago_nothing_is_remembered_and_repeats_are_dropped() -> None:
    """A job of many steps takes no more room for it."""
    bank, card = await pair()
    first = await card.says(MaskedInputs(words=words(1)))
    for step in range(MOST_USED + 2):
        await bank.hears(*await card.says(MaskedInputs(words=words(1)), step))
        await bank.reads(MaskedInputs, step)
    assert len(bank.mailbox._used[MaskedInputs, "card"]._places) == MOST_USED
    await bank.hears(*first)
    assert bank.mailbox._held_bytes["card"] == 0


async def test_what_comes_before_the_keys_is_opened_when_they_are_there() -> None:
    """A party may be faster through the handshake than another."""
    bank, card = Party("bank"), Party("card")
    await card.establish()
    assert await bank.hears(*await card.says(MaskedInputs(words=words()))) == ["ack"]
    waiting = asyncio.create_task(bank.mailbox.receive(MaskedInputs, ["card"], Deadline("step", 1)))
    await asyncio.sleep(0)
    await bank.establish()
    assert np.array_equal((await waiting)["card"].words, words())
    assert bank.mailbox._held_bytes == {"card": 0, "notary": 0}


async def test_a_wait_ends_with_the_last_of_its_senders() -> None:
    """Not before; meanwhile it says for whom it waits."""
    bank, card, notary = Party("bank"), Party("card"), Party("notary")
    waiting = asyncio.create_task(bank.mailbox.receive(Accept, ["card", "notary"], Deadline("accept", 1)))
    await asyncio.sleep(0)
    assert list(bank.mailbox.waits_for) == ["card", "notary"]
    await bank.hears(*await card.says(Accept()))
    assert list(bank.mailbox.waits_for) == ["notary"]
    assert bank.mailbox.stage == "accept"
    await bank.hears(*await notary.says(Accept()))
    assert set(await waiting) == {"card", "notary"}
    assert list(bank.mailbox.waits_for) == []


async def test_a_wait_that_is_overdue_names_who_is_missing() -> None:
    """All that this agent waits for, in all its loops."""
    bank, card = await pair()
    other = asyncio.create_task(bank.mailbox.receive(MaskedInputs, ["notary"], Deadline("step", 5)))
    await bank.hears(*await card.says(Accept()))
    with pytest.raises(DeadlinePassed) as caught:
        await bank.mailbox.receive(Ready, ["card"], SOON)
    assert (caught.value.deadline, caught.value.waits_for) == ("step", ("card", "notary"))
    other.cancel()


async def test_a_cancelled_wait_leaves_the_letters_for_the_next() -> None:
    """Nothing is lost between two waits."""
    bank, card = await pair()
    waiting = asyncio.create_task(bank.mailbox.receive(Accept, ["card", "notary"], Deadline("accept", 1)))
    await asyncio.sleep(0)
    await bank.hears(*await card.says(Accept()))
    waiting.cancel()
    await asyncio.wait([waiting])
    assert list(bank.mailbox.waits_for) == []
    assert await bank.mailbox.receive(Accept, ["card"], SOON) == {"card": Accept()}


@pytest.mark.parametrize(
    "change",
    [
        lambda p: replace(p, address=p.address.replace("job-1", "job-2")),
        lambda p: replace(p, address=p.address.replace("/bank/", "/notary/")),
        lambda p: replace(p, address=p.address.replace("/card/", "/mallory/")),
        lambda p: replace(p, address="nonsense"),
    ],
)
async def test_what_is_not_addressed_to_this_party_and_job_is_refused_quietly(
    change: Callable[[Envelope], Envelope],
) -> None:
    """Anybody could have sent it, so nobody is named and the job goes on."""
    bank, card = Party("bank"), Party("card")
    (envelope,) = await card.says(Accept())
    assert await bank.hears(change(envelope)) == ["reject"]
    assert bank.problems == []


async def test_what_is_of_another_attempt_is_taken_and_forgotten() -> None:
    """It is nobody's fault, and of no use: neither a dead letter, nor anything to wait for."""
    bank, card = Party("bank"), Party("card")
    (envelope,) = await card.says(Accept())
    assert await bank.hears(replace(envelope, address=envelope.address.replace("/1/control", "/2/control"))) == ["ack"]
    with pytest.raises(DeadlinePassed):
        await bank.mailbox.receive(Accept, ["card"], SOON)
    assert bank.problems == []


async def test_an_attempt_that_is_over_hears_control_messages_only() -> None:
    """Heartbeats tell of the next one; what belongs to the steps of this one is of no use any more."""
    bank, card = Party("bank"), Party("card")
    bank.mailbox.closed = True
    assert await bank.hears(*await card.says(Accept()), *await card.says(Cancel())) == ["ack", "ack"]
    assert bank.control == [("card", Cancel())]
    with pytest.raises(DeadlinePassed):
        await bank.mailbox.receive(Accept, ["card"], SOON)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: replace(p, body=p.body[:-1]),
        lambda p: replace(p, body=b""),
        lambda p: replace(p, kind="ready"),
        lambda p: replace(p, address=p.address.replace("/0/0/", "/0/1/")),
        lambda p: replace(p, address=p.address.replace("/card/", "/notary/")),
    ],
)
@pytest.mark.parametrize("session", [False, True])
async def test_what_does_not_open_as_what_it_says_is_refused_and_ends_nothing(
    change: Callable[[Envelope], Envelope], *, session: bool
) -> None:
    """Address and kind are under the seal; and since anybody may have sent it, nobody is to blame."""
    bank, card = await pair()
    message: Message = MaskedInputs(words=words()) if session else Accept()
    (envelope,) = await card.says(message)
    assert await bank.hears(change(envelope)) == ["reject"]
    assert bank.problems == []
    assert await bank.hears(envelope) == ["ack"]  # the true one is still welcome


@pytest.mark.parametrize("rows", [3000, 0])
async def test_a_flood_is_stopped_at_the_limit(rows: int) -> None:
    """Letters nobody has asked for count, each sender on its own account; one without content takes room as well."""
    bank, card = await pair()
    message = MaskedInputs(words=words(rows))
    for step in range(2000):
        await bank.hears(*await card.says(message, step))
        if bank.problems:
            break
    assert step == 1_048_576 // (len(encode(message)) + ENVELOPE_BYTES)
    assert bank.blames == ("message.oversized", "card")
    assert bank.mailbox._held_bytes["notary"] == 0


@pytest.mark.parametrize(
    ("carrier", "carried", "size"),
    [
        (MaskedInputs(words=words()), MaskedLabels(words=words(3000)), 72_000),
        (AlignedRows(rows=1, ids=bytes(32)), Presence(bits=bytes(72_000)), 72_060),
    ],
    ids=["words", "bytes"],
)
async def test_what_travels_along_counts_until_it_is_used_itself(carrier: Message, carried: Message, size: int) -> None:
    """It may be for a step far ahead, and is there long after the letter that it came with is read."""
    bank, card = await pair()
    for step in range(30):
        await bank.hears(*await card.says(carrier, step, [Companion(carried, 9, step)]))
        if bank.problems:
            break
        await bank.reads(type(carrier), step)
    assert step == 1_048_576 // (size + ENVELOPE_BYTES)
    assert bank.blames == ("message.oversized", "card")
    for earlier in range(step):
        await bank.mailbox.receive(type(carried), ["card"], SOON, epoch=9, step=earlier)
    # What is left is the part of the last body that was there when there was no more room.
    assert bank.mailbox._held_bytes["card"] < size + 2 * ENVELOPE_BYTES + PART_BYTES * (size // SMALL.part_bytes + 2)


async def test_a_kind_that_travels_alone_and_along_is_counted_once_each_way() -> None:
    """As words dealt for several steps do: the first carries the others."""
    _, card = await pair()
    message = MaskedInputs(words=words(12))
    alone = len(encode(message))
    await card.says(message)
    before = card.mailbox.sent["masked inputs"].bytes
    await card.says(message, 1, [Companion(message, 0, 2)])
    sent = card.mailbox.sent["masked inputs"]
    assert sent.messages == 3
    assert sent.bytes > before + 1.9 * alone


async def test_a_flood_of_parts_without_content_is_stopped_at_the_limit() -> None:
    """Of bodies that are never whole."""
    bank, card = await pair()
    (envelope,) = await card.says(MaskedInputs(words=words(0)))
    for step in range(2000):
        part = parse_address(envelope.address)._replace(step=step, parts=2)
        body = card.mailbox._seal(part, envelope.kind, str(part), memoryview(b""))
        await bank.hears(replace(envelope, address=str(part), body=body))
        if bank.problems:
            break
    assert step <= 1_048_576 // ENVELOPE_BYTES
    assert bank.blames == ("message.oversized", "card")


async def test_a_flood_of_strange_envelopes_is_not_a_flood_in_the_log() -> None:
    """Of each sender some are told of, then how many were not."""
    bank, card = Party("bank"), Party("card")
    (envelope,) = await card.says(Cancel())
    with capture_logs() as lines:
        for number in range(3 * BURST):
            await bank.hears(replace(envelope, address=f"nonsense {number}", exchange="tercet.from.eve"))
        assert await bank.hears(replace(envelope, address="nonsense")) == ["reject"]
    assert [line["event"] for line in lines] == ["message refused"] * (BURST + 1)


async def test_a_letter_through_another_partys_exchange_is_refused() -> None:
    """Who may write to one is known to the broker: it is not what a replay came through."""
    bank, card = Party("bank"), Party("card")
    (envelope,) = await card.says(Cancel())
    assert await bank.hears(replace(envelope, exchange="tercet.from.notary")) == ["reject"]
    assert bank.control == []
    assert await bank.hears(envelope) == ["ack"]


async def test_more_parts_than_the_limit_could_hold_are_refused_at_the_first() -> None:
    """A body that would be too large is not begun."""
    bank, card = await pair()
    (envelope,) = await card.says(MaskedInputs(words=words()))
    endless = parse_address(envelope.address)._replace(parts=99999)
    body = card.mailbox._seal(endless, envelope.kind, str(endless), memoryview(b"begin"))
    assert await bank.hears(replace(envelope, address=str(endless), body=body)) == ["reject"]
    assert bank.blames == ("message.oversized", "card")


async def test_little_is_kept_before_there_are_keys_and_nobody_is_blamed_for_more() -> None:
    """Anybody could have sent it: not its size alone counts, nor does the same envelope count twice."""
    bank, card = Party("bank"), Party("card")
    await card.establish()
    (flood,) = await card.says(MaskedInputs(words=words()))
    many = [replace(flood, body=b"", address=flood.address.replace("/0/0/", f"/0/{n}/")) for n in range(200)]
    settled = await bank.hears(*many, *many[:10])
    assert settled.count("ack") == EARLY // 1024 + 10
    assert bank.problems == []
    await bank.establish()
    assert bank.problems == []


async def test_letters_of_another_run_of_the_same_job_do_not_open() -> None:
    """Neither control nor anything else: what was recorded then cannot be said again now."""
    earlier, bank = Party("card", run=b"q" * 32), Party("bank")
    failure = Failure(code="a.b", stage="", culprit="card", reason="then")
    assert await bank.hears(*await earlier.says(failure)) == ["reject"]
    assert bank.control == []
    assert bank.problems == []


async def test_a_heartbeat_that_is_repeated_or_overtaken_says_nothing() -> None:
    """Else a recorded one would keep a hung party alive."""
    bank, card = Party("bank"), Party("card")
    beat = Progress(state="t", epoch=0, step=0, steps=9, stage="", waits_for=(), interval=1, helper="notary")
    beats = [(await card.says(beat.model_copy(update={"step": n}), n))[0] for n in (1, 2, 3)]
    assert await bank.hears(beats[0], beats[2], beats[1], beats[0], beats[2]) == ["ack"] * 5
    assert bank.control == [("card", beat.model_copy(update={"step": n})) for n in (1, 3)]


@pytest.mark.parametrize("empty", [True, False])
async def test_two_letters_for_one_address_must_be_the_same(*, empty: bool) -> None:
    """A second mask on one value would give both away; so a different repeat is a fault, an equal one is none."""
    bank, card = await pair()
    block = words(0) if empty else words()
    first, again = [(await card.says(MaskedLabels(words=block)))[0] for _ in range(2)]
    assert await bank.hears(first, again) == ["ack", "ack"]
    (other,) = await card.says(MaskedLabels(words=words(2, 8)))
    assert await bank.hears(other) == ["reject"]
    assert bank.blames == ("message.malformed", "card")
    assert "two different" in bank.problems[0].reason


async def test_a_tensor_of_another_shape_names_its_sender_and_both_shapes() -> None:
    """And nothing of its content."""
    bank, card = await pair()
    await bank.hears(*await card.says(MaskedInputs(words=words(2, 123456789))))
    letters = await bank.mailbox.receive(MaskedInputs, ["card"], SOON)
    with pytest.raises(JobProblem) as caught:
        bank.mailbox.checked_words(letters, lambda _: (3, 3))
    assert (caught.value.code, caught.value.culprit) == ("message.shape", "card")
    assert "(2, 3)" in caught.value.reason
    assert "(3, 3)" in caught.value.reason
    assert "123456789" not in caught.value.reason


async def test_nothing_but_handshake_and_control_can_be_sent_before_the_keys() -> None:
    """It would have to go in clear."""
    card = Party("card")
    with pytest.raises(AssertionError, match="before the handshake"):
        await card.says(MaskedInputs(words=words()))
    assert card.post.envelopes == []


async def test_what_the_broker_sees_of_a_letter_is_its_label() -> None:
    """The management page shows kind, job and sender; the body is sealed."""
    _, card = await pair()
    block = words(2, 0x0123456789ABCDEF)
    (envelope,) = await card.says(MaskedInputs(words=block), step=5)
    assert (envelope.kind, envelope.job, envelope.sender) == ("masked inputs", "job-1", "card")
    assert envelope.exchange == "tercet.from.card"
    assert envelope.routing_key == "job.job-1.masked-inputs.to.bank"
    assert envelope.address == "job-1/1/masked-inputs/features/0/5/card/bank/1.1"
    assert not envelope.persistent
    assert block.tobytes()[:8] not in envelope.body
