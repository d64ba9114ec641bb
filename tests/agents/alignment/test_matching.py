"""All data parties find the rows they have in common, in one order, and nobody learns more of the others' ids.

Real mailboxes over the in-process broker; a test sees every message in clear, as the one who receives it does, and may
put another in its place.
"""

import asyncio
import hashlib
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.agents.alignment import matching
from tercet.agents.alignment.matching import align, help_align
from tercet.agents.core.problems import UNDECIDED, JobProblem
from tercet.agents.messaging.mailbox import Mailbox, Tap
from tercet.agents.policy.approval import Approval
from tercet.agents.policy.budget import Budget
from tercet.agents.policy.job_audit import JobAudit
from tercet.agents.session.context import JobContext
from tercet.agents.session.fixed_randomness import FixedRandomness
from tercet.agents.session.table_snapshot import SnapshotStore
from tercet.broker.interface import topology
from tercet.broker.interface.base import Envelope
from tercet.broker.interface.outbox import Outbox
from tercet.broker.memory.broker import MemoryBroker
from tercet.broker.sealing.handshake import SessionSecrets
from tercet.broker.sealing.identity import Identity
from tercet.broker.sealing.seal import SessionSeal
from tercet.schemas.files.job import AnyJob, Evaluation, PredictionJob, Training, TrainingJob
from tercet.schemas.files.settings import Deadlines, Limits, Settings
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.kinds import (
    AlignedRows,
    BlindedIds,
    Job,
    Member,
    Message,
    Presence,
    Pseudonyms,
    TwiceBlindedIds,
)
from tercet.tables.matching.ecdh import Blinding
from tests import virtual_time

BANK, CARD, TELCO, SHOP, NOTARY = "bank", "card", "telco", "shop", "notary"
KEYS = {name: Identity.generate() for name in (BANK, CARD, TELCO, SHOP, NOTARY)}
FEW = Limits(min_rows=1, min_scored_rows=1)
DEADLINES = Deadlines(alignment=10, heartbeat=0.05, verdict=0.4)

ENTRIES: dict[type[Message], tuple[str, int]] = {
    Pseudonyms: ("pseudonyms", 16),
    BlindedIds: ("elements", 32),
    TwiceBlindedIds: ("hashes", 16),
}

Tables = Mapping[str, Sequence[str]]


def split(data: bytes, size: int) -> list[bytes]:
    """Pieces of so many bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)]


@dataclass
class Alignment:
    """One alignment of some tables, and all that was said and sent meanwhile."""

    tables: Tables
    mode: str = "helper"
    label: str = BANK
    limits: Limits = FEW
    change: Tap = lambda _address, message: message
    prediction: bool = False
    hostile: str = ""  # does not complain, since it is what it complains of
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    split: str | None = None
    split_keys: Mapping[str, bytes] = field(default_factory=dict)  # where they are others than the key
    run: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    said: list[tuple[Address, Message]] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    rows: dict[str, list[int]] = field(default_factory=dict)

    def found(self, party: str) -> list[str]:
        """The ids of a party's common rows, in the common order."""
        return [self.tables[party][row] for row in self.rows[party]]

    def reported(self, party: str) -> list[Any]:
        """What a party has received."""
        return [message for address, message in self.said if address.receiver == party]

    def entries(self, model: type[Message], sender: str) -> list[bytes]:
        """The pseudonyms, elements or hashes that a party has sent in such messages, in order."""
        name, size = ENTRIES[model]
        sent = [m for address, m in self.said if address.sender == sender and isinstance(m, model)]
        return [entry for message in sent for entry in split(getattr(message, name), size)]

    async def execute(self) -> "Alignment":
        """From the contexts to everybody's rows. Raises the first problem of any party."""
        broker = MemoryBroker(tap=self.envelopes.append)
        with ExitStack() as executors:
            contexts = [await self._context(broker, name, executors) for name in self._job().parties]
            try:
                async with asyncio.TaskGroup() as tasks:
                    for context in contexts:
                        tasks.create_task(self._take_part(context))
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
        return self

    async def _take_part(self, context: JobContext) -> None:
        try:
            await self._work(context)
        except JobProblem:
            if context.me != self.hostile:
                raise

    async def _work(self, context: JobContext) -> None:
        if context.me == NOTARY:
            await help_align(context)
            return
        ids = list(self.tables[context.me])
        in_two = pa.chunked_array([ids[:3], ids[3:]], pa.large_string())
        array = in_two if context.is_label_party else pa.array(ids, pa.large_string())
        rows, _ = await align(context, self.key, self.split_keys.get(context.me, self.key), array)
        assert rows.dtype == "int64"
        self.rows[context.me] = rows.tolist()

    def _job(self) -> AnyJob:
        fields: dict[str, Any] = {"name": "credit", "label": self.label, "helper": NOTARY, "alignment": self.mode}
        fields["tables"] = tuple((party, "customers") for party in self.tables)
        if self.prediction:
            return PredictionJob(**fields, kind="prediction", of="credit-01234567")
        fields["evaluation"] = Evaluation(holdout=0.2 if self.split else 0.0, split=self.split)
        return TrainingJob(**fields, model="logistic", training=Training(epochs=1, batch=32, rate=0.5))

    async def _context(self, memory_broker: MemoryBroker, me: str, executors: ExitStack) -> JobContext:
        description = self._job()
        roles: dict[str, Any] = {name: "helper" if name == NOTARY else "data" for name in description.parties}
        members = tuple(Member(name=name, role=role, key=str(KEYS[name].public)) for name, role in roles.items())
        job = Job(id=description.id, run=self.run, description=description, members=members, submitter=BANK)
        nowhere = Path("unused")
        settings = Settings(
            party=me, role=roles[me], identity=nowhere, state=nowhere, limits=self.limits, deadlines=DEADLINES
        )
        mailbox = await self._mailbox(memory_broker, me, job)
        executor = executors.enter_context(ThreadPoolExecutor(1))
        draws = FixedRandomness(Path("unused"), lambda: bytes(32))
        audit = JobAudit(job, settings, Budget())
        return JobContext(
            job=job, description=description, settings=settings, identity=KEYS[me], mailbox=mailbox, executor=executor,
            log=structlog.get_logger(), randomness=draws, common_checkpoint=lambda: 0, attempt=1,
            approval=Approval(me, is_required=False), audit=audit, snapshots=SnapshotStore(job, settings),
        )  # fmt: skip

    async def _mailbox(self, memory_broker: MemoryBroker, me: str, job: Job) -> Mailbox:
        connection = memory_broker.connect(me)
        others = [name for name in job.description.parties if name != me]
        mailbox = Mailbox(
            Address(job.id, 1, Round.CONTROL, "", 0, 0, me, ""),
            run=job.run,
            identity=KEYS[me],
            partners={name: KEYS[name].public for name in others},
            outbox=Outbox(connection),
            limits=self.limits,
            early_bytes=0,
            on_control=lambda *_: None,
            on_problem=_raise,
            tap=self._tap,
        )
        pairs = {name: hashlib.sha256("+".join(sorted((me, name))).encode()).digest() for name in others}
        await mailbox.establish(SessionSeal(SessionSecrets(self.run, pairs), me))
        queue = topology.job_queue(me, job.id, Round.ALIGNMENT, others)
        await connection.declare(queue)
        await connection.consume(queue.name, mailbox.deliver, topology.lane(Round.ALIGNMENT))
        return mailbox

    def _tap(self, address: Address, message: Message) -> Message:
        sent = self.change(address, message)
        self.said.append((address, sent))
        return sent


def _raise(problem: JobProblem) -> None:
    raise problem


def execute(
    tables: Tables, *, chunk: int = matching.CHUNK, elements: int = matching.ELEMENTS, **more: Any
) -> Alignment:
    """Align these tables, in chunks of this size."""
    with patch.object(matching, "CHUNK", chunk), patch.object(matching, "ELEMENTS", elements):
        return virtual_time.run(Alignment(tables, **more).execute(), threads=True)  # as tests look at these


def refused(tables: Tables, **more: Any) -> JobProblem:
    """Align these tables and see it fail; no id is in what is said of it."""
    with pytest.raises(JobProblem) as caught:
        execute(tables, **more)
    reported = f"{caught.value.reason} {caught.value.detail}"
    assert not [one for ids in tables.values() for one in ids if one in reported]
    return caught.value


def people(*numbers: int) -> list[str]:
    """Ids, long enough to be told from chance in a stream of bytes."""
    return [f"person-{number:06d}" for number in numbers]


WHO = (BANK, CARD, TELCO, SHOP)
LISTS = st.lists(st.integers(0, 12), unique=True, max_size=13).map(lambda numbers: people(*numbers, 99))
TWO = {BANK: people(5, 3, 9, 1, 7), CARD: people(1, 2, 3, 4, 5, 6)}
THREE = {**TWO, TELCO: people(6, 5, 4, 3, 9)}


# --- what is found


@settings(max_examples=15, deadline=None)
@given(st.lists(LISTS, min_size=2, max_size=4), st.integers(1, 20))
def test_through_the_helper_all_find_the_same_people_in_the_same_order(lists, chunk):
    """Those that every table has, whatever the order of each, and however many chunks they travel in."""
    done = execute(dict(zip(WHO, lists, strict=False)), chunk=chunk)
    first = done.found(BANK)
    assert sorted(first) == sorted(set.intersection(*map(set, lists)))
    assert all(done.found(party) == first for party in done.tables)


@settings(max_examples=10, deadline=None)
@given(LISTS, LISTS, st.integers(1, 20))
def test_between_two_both_find_the_same_people_in_the_same_order(mine, theirs, elements):
    """With lists of any lengths, and no word to or from the helper."""
    done = execute({BANK: mine, CARD: theirs}, mode="ecdh", elements=elements)
    assert sorted(done.found(BANK)) == sorted(set(mine) & set(theirs))
    assert done.found(CARD) == done.found(BANK)
    assert NOTARY not in {party for address, _ in done.said for party in (address.sender, address.receiver)}


def test_aligned_tables_are_taken_as_they_are():
    """Nothing is sent but a count and a keyed digest."""
    done = execute(dict.fromkeys((BANK, CARD, TELCO), people(3, 1, 2)), mode="aligned")
    assert set(map(tuple, done.rows.values())) == {(0, 1, 2)}
    assert {type(message) for _, message in done.said} == {AlignedRows}


@pytest.mark.parametrize("mode", ["helper", "ecdh"])
def test_the_common_order_is_another_in_each_run_and_not_a_tables(mode):
    """Nothing of how a table was sorted is left in it, and nothing of an earlier run."""
    everybody = people(*range(100))
    orders = [execute({BANK: everybody, CARD: everybody[::-1]}, mode=mode).found(BANK) for _ in range(3)]
    assert len(set(map(tuple, [*orders, everybody, everybody[::-1], sorted(everybody)]))) == 5


# --- who learns what


def test_ids_in_two_of_three_tables_stay_unknown_to_every_data_party():
    """All that one receives are bits of its own list, 0 for these, and the count and digest of what all have."""
    done = execute(THREE, chunk=2)
    for party, ids in THREE.items():
        presence = [message for message in done.reported(party) if isinstance(message, Presence)]
        rest = [message for message in done.reported(party) if not isinstance(message, Presence)]
        assert {type(message) for message in rest} == {AlignedRows}
        assert {message.rows for message in rest} == {2}
        assert len(presence) == -(-len(ids) // 2)
        assert sum(message.bits[0].bit_count() for message in presence) == 2
        assert set(done.found(party)) == set(people(3, 5))


def test_what_a_data_party_receives_does_not_depend_on_how_long_the_others_lists_are():
    """Nor on what they have in common without it."""

    def view(done: Alignment) -> list[tuple[object, ...]]:
        reported = [(a, m) for a, m in done.said if a.receiver == BANK]
        return sorted(
            (a.sender, a.item, a.step, len(getattr(m, "bits", b"")), getattr(m, "rows", 0)) for a, m in reported
        )

    few = {BANK: people(*range(20)), CARD: people(1, 2), TELCO: people(1, 2)}
    many = {BANK: few[BANK], CARD: people(1, 2, *range(100, 300)), TELCO: people(1, 2, *range(200, 999))}
    assert view(execute(few, chunk=3)) == view(execute(many, chunk=3))


def hashes_without_the_key(ids: Sequence[str], *public: bytes) -> set[bytes]:
    """What somebody who has not the key could compute of guessed ids, the first 16 bytes of each."""
    found = set()
    for one in (text.encode() for text in ids):
        for name in ("md5", "sha1", "sha256", "sha512", "sha3_256", "blake2s", "blake2b"):
            found |= {hashlib.new(name, salt + one).digest()[:16] for salt in (b"", *public)}
        found.add(hashlib.blake2b(one, digest_size=16).digest())
        found |= {hashlib.blake2b(one, digest_size=16, key=key).digest() for key in (bytes(32), *public)}
    return found


def public_values(done: Alignment) -> list[bytes]:
    """What the helper knows of the job, as keys."""
    job = done._job()
    return [done.run, job.digest, hashlib.sha256(job.id.encode()).digest()]


def test_the_helper_can_test_no_guess():
    """It sees nothing but pseudonyms in ascending order; whoever lacks the key finds none of them in a guess."""
    done = execute(THREE, chunk=2)
    reported = done.reported(NOTARY)
    assert {type(message) for message in reported} == {Pseudonyms}
    seen = {one for message in reported for one in split(message.pseudonyms, 16)}
    everybody = {one for ids in THREE.values() for one in ids}
    assert len(seen) == len(everybody)
    guesses = hashes_without_the_key(sorted(everybody), *public_values(done))
    assert seen.isdisjoint(guesses)
    for party in THREE:
        order = done.entries(Pseudonyms, party)
        assert order == sorted(order)


def test_two_runs_share_no_pseudonym():
    """Nobody can tell that a person was in both."""
    runs = [execute(THREE) for _ in range(2)]
    first, second = ({one for m in run.reported(NOTARY) for one in split(m.pseudonyms, 16)} for run in runs)
    assert len(first) == len(second) == 8
    assert first.isdisjoint(second)


@pytest.mark.parametrize("mode", ["helper", "ecdh"])
def test_the_broker_sees_neither_ids_nor_pseudonyms_nor_elements(mode):
    """Bodies are sealed from party to party."""
    done = execute(TWO, mode=mode)
    stream = b"".join(envelope.body for envelope in done.envelopes) + repr(done.envelopes).encode()
    secret = [one.encode() for ids in TWO.values() for one in ids]
    secret += [one for model in ENTRIES for party in TWO for one in done.entries(model, party)]
    assert len(secret) == (2 if mode == "helper" else 3) * (5 + 6)
    assert not [one for one in secret if one in stream]


def test_between_two_each_sees_fresh_elements_and_hashes_only():
    """None twice, none in another run, and none that follows from an id without the sender's exponent."""
    runs = [execute(TWO, mode="ecdh", key=b"k" * 32) for _ in range(2)]
    kinds = (BlindedIds, TwiceBlindedIds)
    values = [one for done in runs for kind in kinds for party in TWO for one in done.entries(kind, party)]
    # The hashes of the people whom both have travel both ways, and those are the same: that is the point.
    both = len(set(TWO[BANK]) & set(TWO[CARD]))
    assert len(values) == 2 * 2 * (5 + 6)
    assert len(set(values)) == 2 * (2 * (5 + 6) - both)
    everybody = sorted({one for ids in TWO.values() for one in ids})
    assert hashes_without_the_key(everybody, *public_values(runs[0]), b"k" * 32).isdisjoint(one[:16] for one in values)


def test_between_two_elements_are_not_sent_in_the_order_of_the_table():
    """Or the partner would know on which rows of the table its customers stand."""
    blindings: list[Blinding] = []

    def made(key: bytes) -> Blinding:
        blindings.append(Blinding(key))
        return blindings[-1]

    everybody = people(*range(60))
    with patch.object(matching, "Blinding", made):
        done = execute(dict.fromkeys((BANK, CARD), everybody), mode="ecdh", elements=7)
    names = {element: one for b in blindings for one in everybody for element in [b.blind([one])]}
    for party in (BANK, CARD):
        sent = done.entries(BlindedIds, party)
        assert sorted(names[one] for one in sent) == everybody
        assert [names[one] for one in sent] not in (everybody, everybody[::-1])


# --- how it goes


def test_a_party_has_at_most_a_window_of_chunks_unanswered():
    """So the helper never holds more of it, however long its list is; and the window is used."""
    done = execute({BANK: people(*range(60)), CARD: people(*range(50, 70))}, chunk=2)
    for party in (BANK, CARD):
        out, most = 0, 0
        for address, message in done.said:
            out += (address.sender == party and isinstance(message, Pseudonyms)) - (
                address.receiver == party and isinstance(message, Presence)
            )
            most = max(most, out)
        assert out == 0
        assert most == matching.WINDOW


def test_no_message_is_too_large_for_one_part():
    """A mebibyte with all that stands around the content."""
    done = execute({BANK: people(*range(matching.CHUNK + 5)), CARD: people(*range(3, matching.CHUNK))})
    assert max(len(envelope.body) for envelope in done.envelopes) < Limits().part_bytes
    assert all(envelope.address.endswith("/1.1") for envelope in done.envelopes)
    assert len(done.rows[BANK]) == matching.CHUNK - 3


@pytest.mark.parametrize(
    ("mode", "name"),
    [("helper", "pseudonyms"), ("helper", "ascending_order"), ("ecdh", "secret_order"), ("ecdh", "common_rows")],
)
def test_no_maths_runs_on_the_event_loop(mode, name):
    """Or heartbeats would stop."""
    threads = set()
    original = getattr(matching, name)

    def spy(*args: Any) -> Any:
        threads.add(threading.get_ident())
        return original(*args)

    with patch.object(matching, name, spy):
        execute(TWO, mode=mode)
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("name", ["blind", "blind_again"])
def test_elements_are_raised_in_several_threads_that_end_with_the_alignment(name):
    """Each step of 0.1 ms, and there are millions."""
    threads: set[threading.Thread] = set()
    original: Callable[..., bytes] = getattr(Blinding, name)

    def spy(self: Blinding, pieces: Any) -> bytes:
        threads.add(threading.current_thread())
        return original(self, pieces)

    small = patch.multiple(matching, PIECE=2, _processors=lambda: 3)
    with patch.object(Blinding, name, spy), small:
        execute({BANK: people(*range(200)), CARD: people(*range(100, 300))}, mode="ecdh")
    assert 2 < len(threads) <= 6
    assert threading.current_thread() not in threads
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_after_an_invalid_element_no_more_are_raised():
    """The job has ended; the processors are for others."""
    raised, over = [], threading.Event()
    original = Blinding.blind_again

    def spy(self: Blinding, elements: bytes) -> bytes:
        raised.append(elements)
        if elements != bytes(32):
            over.wait(5)
        return original(self, elements)

    change = swapped(CARD, BlindedIds, lambda m: {"elements": bytes(32) + m.elements[32:]})
    tables: Tables = {BANK: [], CARD: people(*range(100))}
    small = patch.multiple(matching, PIECE=1, _processors=lambda: 2)
    with patch.object(Blinding, "blind_again", spy), small:
        assert refused(tables, mode="ecdh", change=change, hostile=CARD).culprit == CARD
        over.set()
        for thread in threading.enumerate():
            if thread.name.startswith("elements"):
                thread.join(5)
    assert len(raised) <= 4  # the invalid one, and what was in hand


@pytest.mark.threads
async def test_an_alignment_that_is_cancelled_leaves_no_thread_behind():
    """Whatever was still to be raised is not."""
    begun = asyncio.Event()

    def look(_address: Address, message: Message) -> Message:
        begun.set()
        return message

    everybody = people(*range(2000))
    with patch.object(matching, "ELEMENTS", 10):
        task = asyncio.ensure_future(Alignment({BANK: everybody, CARD: everybody}, mode="ecdh", change=look).execute())
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    for thread in threading.enumerate():
        if thread.name.startswith("elements"):
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()


# --- what goes wrong


def swapped(sender: str, model: type[Message], change: Callable[[Any], dict[str, object]], step: int = 0) -> Tap:
    """One party says something else than it should, once."""

    def tap(address: Address, message: Message) -> Message:
        if address.sender == sender and isinstance(message, model) and address.step == step:
            return message.model_copy(update=change(message))
        return message

    return tap


def backwards(field_name: str, size: int) -> Callable[[Any], dict[str, object]]:
    """The entries in the other order."""
    return lambda m: {field_name: b"".join(split(getattr(m, field_name), size)[::-1])}


BY_THE_HELPER = [
    (CARD, Pseudonyms, backwards("pseudonyms", 16), 0, "do not ascend"),
    (CARD, Pseudonyms, lambda m: {"pseudonyms": m.pseudonyms[:16] * 2}, 0, "do not ascend"),
    (CARD, Pseudonyms, lambda m: {"pseudonyms": bytes(len(m.pseudonyms))}, 1, "do not ascend"),
    (CARD, Pseudonyms, lambda m: {"pseudonyms": b""}, 0, "a chunk of another size"),
    (NOTARY, Presence, lambda m: {"bits": bytes([m.bits[0] | 1])}, 0, "0 to fill"),
    (NOTARY, Presence, lambda m: {"bits": m.bits + b"\0"}, 0, "one bit for each"),
    (NOTARY, Presence, lambda m: {"bits": b""}, 1, "one bit for each"),
]
BETWEEN_TWO = [
    (CARD, BlindedIds, lambda m: {"elements": bytes(32) + m.elements[32:]}, 0, "neutral"),
    (CARD, BlindedIds, lambda m: {"elements": m.elements[:-32] + b"\xff" * 32}, 1, "no element"),
    (CARD, BlindedIds, lambda m: {"elements": m.elements[:32] * 2}, 0, "twice"),
    (CARD, BlindedIds, lambda m: {"elements": b"", "last": False}, 0, "a chunk of another size"),
    (CARD, TwiceBlindedIds, lambda m: {"hashes": m.hashes[:16]}, 0, "one hash for each"),
    (CARD, TwiceBlindedIds, lambda m: {"hashes": m.hashes + bytes(16)}, 0, "one hash for each"),
    (CARD, TwiceBlindedIds, lambda m: {"hashes": m.hashes[:16] * 2}, 0, "twice"),
]


@pytest.mark.parametrize(
    ("mode", "sender", "model", "change", "step", "what"),
    [("helper", *case) for case in BY_THE_HELPER] + [("ecdh", *case) for case in BETWEEN_TWO],
)
def test_whoever_does_not_keep_to_the_protocol_is_named(mode, sender, model, change, step, what):
    """Whatever it was, and in whichever chunk."""
    problem = refused(TWO, mode=mode, chunk=2, elements=2, hostile=sender, change=swapped(sender, model, change, step))
    assert (problem.code, problem.culprit) == ("message.malformed", sender)
    assert what in problem.reason


OTHER_ROWS: dict[str, Callable[[int], int]] = {
    "the first": lambda bits: bits ^ 0x80,
    "the last": lambda bits: bits ^ 0x08,
    "as many": lambda bits: 0x38 if bits == 0xE0 else 0xE0,  # three of the five, too
}


@pytest.mark.parametrize("other", OTHER_ROWS.values(), ids=OTHER_ROWS)
def test_a_helper_that_tells_one_party_something_else_is_noticed(other):
    """Before anything of a row has been sent: a row more or a row less, or as many rows of other people."""
    change = swapped(NOTARY, Presence, lambda m: {"bits": bytes([other(m.bits[0])])})

    def only_bank(address: Address, message: Message) -> Message:
        return change(address, message) if address.receiver == BANK else message

    problem = refused(TWO, change=only_bank)
    assert (problem.code, problem.culprit) == ("alignment.differs", NOTARY)


@pytest.mark.parametrize("mode", ["helper", "ecdh", "aligned"])
def test_parties_with_different_keys_of_the_split_find_out_with_the_same_rows(mode):
    """So neither notes that all have its key."""
    tables = dict.fromkeys((BANK, CARD), people(1, 2, 3))
    problem = refused(tables, mode=mode, split_keys={CARD: b"k" * 32}, split="spring")
    assert problem.code == ("table.ids" if mode == "aligned" else "alignment.differs")
    assert problem.culprit == (CARD if mode == "aligned" else UNDECIDED)
    assert "another key of the split 'spring'" in problem.reason


def test_a_partner_that_answers_something_else_is_noticed():
    """Between two there is nobody else whom it could be."""
    change = swapped(CARD, TwiceBlindedIds, lambda m: {"hashes": secrets.token_bytes(len(m.hashes))})
    problem = refused(TWO, mode="ecdh", hostile=CARD, change=change)
    assert (problem.code, problem.culprit) == ("alignment.differs", CARD)


@pytest.mark.parametrize(
    ("code", "ids", "culprit"),
    [
        ("table.rows", people(1, 2, 3, 4), BANK),
        ("table.ids", people(1, 3, 2), CARD),
        ("table.ids", people(1, 2, 4), TELCO),
        ("table.ids", ["person-00000", "1person-000002", "person-000003"], BANK),
    ],
)
def test_tables_that_are_not_aligned_are_told_against_the_label_partys(code, ids, culprit):
    """All parties see the same culprit, whoever complains first."""
    label = TELCO if culprit != TELCO else BANK
    tables = {party: ids if party == culprit else people(1, 2, 3) for party in (BANK, CARD, TELCO)}
    problem = refused(tables, mode="aligned", label=label)
    assert (problem.code, problem.culprit) == (code, culprit)
    assert (" 4" in problem.reason) == (code == "table.rows")


@pytest.mark.parametrize(("mode", "prediction"), [("helper", False), ("ecdh", True), ("aligned", False)])
def test_too_few_rows_in_common_are_told_without_their_number(mode, prediction):
    """The others hear that a limit is not met; how many rows there are, and what our ids look like, stays here."""
    limits = Limits(min_rows=1, min_scored_rows=8) if prediction else Limits(min_rows=8, min_scored_rows=1)
    tables = dict.fromkeys((BANK, CARD), people(3, 1, 2)) if mode == "aligned" else TWO
    problem = refused(tables, mode=mode, limits=limits, prediction=prediction)
    assert problem.code == "alignment.few"
    assert problem.culprit in TWO
    assert ("min_scored_rows" if prediction else "min_rows") in problem.reason
    assert not any(digit in problem.reason for digit in "0123456789")
    assert problem.detail is not None
    assert problem.detail.startswith("3 rows are in common")
    assert execute(tables, mode=mode, limits=Limits(min_rows=3, min_scored_rows=3), prediction=prediction).rows


def test_nothing_in_common_is_few_and_no_accident():
    """Also where a list is empty."""
    empty: list[str] = []
    for tables in ({BANK: people(1), CARD: people(2)}, {BANK: people(1), CARD: empty}, {BANK: empty, CARD: empty}):
        for mode in ("helper", "ecdh"):
            assert refused(tables, mode=mode).code == "alignment.few"
