"""A job is what its submitter signed, for a while: anything else begins nothing, and the submitter is told why."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.agents.policy.audit_log import Entry, entries
from tercet.agents.policy.signature import TOLERANCE_SECONDS, VALID_SECONDS, sign, signature_problem
from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, Envelope, Queue
from tercet.broker.interface.dead_letters import BURST
from tercet.broker.memory.broker import MemoryConnection
from tercet.broker.sealing.identity import Identity
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.codec import encode
from tercet.schemas.messages.kinds import Job
from tests.agents.policy.test_check import KEYS, announced, settings_of
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, Scene, job, off, scene, three

NOW = 1_800_000_000.0


def signed(now: float = NOW) -> Job:
    """A job as the bank announces it."""
    return sign(announced(), KEYS[BANK], now)


def code(announcement: Job, now: float = NOW, **policy: Any) -> str | None:
    """Why the card processor does not take it."""
    settings = settings_of(CARD)
    settings = settings.model_copy(update={"policy": PolicySettings(**policy)})
    problem = signature_problem(announcement, settings, KEYS[CARD], now)
    if problem is not None:
        assert problem.culprit == announcement.submitter
    return None if problem is None else problem.code


OTHERS: dict[str, Any] = {
    "id": "credit-00000000",
    "run": b"r" * 32,
    "description": job(epochs=5),
    "members": announced().members[:2],
    "submitter": NOTARY,
    "issued": int(NOW) - 1,
    "expires": int(NOW) + VALID_SECONDS + 1,
    "signature": bytes(64),
}


def test_a_job_is_taken_as_it_was_signed() -> None:
    """By anybody who has pinned the submitter's key."""
    assert code(signed()) is None


@pytest.mark.parametrize("field", Job.model_fields)
def test_a_signature_covers_every_field(field: str) -> None:
    """A field that is new has to be here, and under the signature."""
    assert code(signed().model_copy(update={field: OTHERS[field]})) == "job.signature"


@given(st.integers(0, 63), st.integers(1, 255))
def test_a_signature_with_a_changed_byte_is_none(place: int, change: int) -> None:
    """Wherever it is."""
    whole = signed()
    changed = bytearray(whole.signature)
    changed[place] ^= change
    assert code(whole.model_copy(update={"signature": bytes(changed)})) == "job.signature"


def test_a_job_that_nobody_signed_or_another_is_refused() -> None:
    """Whoever says who submitted it."""
    assert code(announced()) == "job.signature"
    assert code(sign(announced(), KEYS[NOTARY], NOW)) == "job.signature"
    stranger = announced().model_copy(update={"submitter": "telco"})
    assert code(sign(stranger, Identity.generate(), NOW)) == "job.signature"


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        (0, None),
        (VALID_SECONDS, None),
        (VALID_SECONDS + 1, "job.expired"),
        (-TOLERANCE_SECONDS, None),
        (-TOLERANCE_SECONDS - 1, "job.expired"),
    ],
)
def test_a_job_is_taken_in_its_time_only(later: float, expected: str | None) -> None:
    """Clocks may differ by some minutes."""
    assert code(signed(), NOW + later) == expected


def test_a_job_that_is_valid_for_longer_than_this_party_takes_is_refused() -> None:
    """It could be repeated for as long, once its record is gone."""
    assert code(signed(), job_seconds=VALID_SECONDS) is None
    assert code(signed(), job_seconds=VALID_SECONDS - 1) == "job.expired"
    eternal = announced().model_copy(update={"issued": int(NOW), "expires": 2**39})
    eternal = eternal.model_copy(update={"signature": KEYS[BANK].sign(eternal.statement)})
    assert code(eternal) == "job.expired"


# --- through agents


def announcement(stage: Scene, announced: Job) -> Envelope:
    """A job as the bank's agent hands it to the broker for the card processor."""
    address = Address(announced.id, 1, Round.CONTROL, Job.item, 0, 0, BANK, CARD)
    forged = stage.forge(BANK, CARD, announced.id, "job", Job.item, encode(announced))
    key = topology.announce_key(announced.id, CARD)
    return Envelope(forged.exchange, key, forged.body, "job", str(address), announced.id, BANK)


def audited(stage: Scene, party: str) -> list[Entry]:
    """A party's audit log."""
    return list(entries((stage.parties[party][0].state / "audit.log").read_bytes()))


BAD: dict[str, Callable[[Job, Identity], Job]] = {
    "job.signature": lambda one, _: one.model_copy(update={"signature": b""}),
    "job.expired": lambda one, key: sign(one, key, time.time() - 2 * VALID_SECONDS),
}


async def test_a_job_that_is_unsigned_or_expired_begins_nothing_and_is_audited(tmp_path: Path) -> None:
    """No queue, no record; a line in the log of who asked and why not; and the next good job is taken."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start()
        honest = stage.agents[BANK].jobs.announcer.make_announcement(job())
        for number, (expected, spoil) in enumerate(BAD.items(), 1):
            stage.memory_broker.accept(announcement(stage, spoil(honest, stage.parties[BANK][1])), BANK)
            await stage.until(lambda number=number: len(audited(stage, CARD)) == 1 + 2 * number)  # type: ignore[misc]
            assert stage.agents[CARD].status() == ()
            assert stage.left_queues() == set()
            *_, received, decided = audited(stage, CARD)
            assert (received.event, received.fields["submitter"]) == ("received", BANK)
            assert (decided.event, decided.fields["accepted"], decided.fields["code"]) == ("decided", False, expected)
            assert list((tmp_path / CARD / "jobs").glob("*")) == []
        assert audited(stage, CARD)[0].event == "opened"
        assert {status.state for status in (await stage.run(job())).values()} == {"done"}


async def test_a_flood_of_unsigned_jobs_does_not_fill_the_log(tmp_path: Path) -> None:
    """Some are told of, the others counted; a good job is taken all the same."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start()
        honest = stage.agents[BANK].jobs.announcer.make_announcement(job("flood"))
        for number in range(3 * BURST):
            bad = honest.model_copy(update={"run": number.to_bytes(32, "big"), "signature": b""})
            stage.memory_broker.accept(announcement(stage, bad), BANK)
        assert {status.state for status in (await stage.run(job())).values()} == {"done"}
        refused = [entry for entry in audited(stage, CARD) if entry.fields.get("code") == "job.signature"]
        assert 0 < len(refused) <= BURST + 1


class SlowQueues(Scene):
    """At the bank's broker it takes a while until a queue of a job is there, as over a slow line."""

    def broker_of(self, connection: MemoryConnection) -> Broker:
        """See `Scene.broker_of`."""
        declare = connection.declare

        async def overdue(queue: Queue) -> None:
            if connection.party == BANK and not queue.name.endswith(".jobs"):
                await asyncio.sleep(0.4)
            await declare(queue)

        connection.declare = overdue  # type: ignore[method-assign]
        return connection


@pytest.mark.parametrize(
    ("make", "wrong", "words"), [(Scene, -2, "compare the clocks"), (SlowQueues, 2, "was issued in the future")]
)
async def test_a_submitter_whose_clock_is_wrong_is_told_by_those_who_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: type[Scene], wrong: int, words: str
) -> None:
    """Also where the refusal is quicker than the submitter's queues: not that the partner was silent."""
    async with scene(three(tmp_path, PATIENT), tmp_path, make=make) as stage:
        await stage.start()
        own = stage.agents[BANK].jobs.announcer
        dated = sign(own.make_announcement(job()), stage.parties[BANK][1], time.time() + wrong * VALID_SECONDS)
        monkeypatch.setattr(own, "make_announcement", lambda _: dated)
        ended = await stage.ended(stage.submit(job()), BANK)
        assert words in off(ended, "job.expired", BANK)


async def test_a_repeated_announcement_begins_nothing_while_it_is_known(tmp_path: Path) -> None:
    """Not after the job's end, nor in another life of the agent: the record stays."""
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job())
        assert {status.state for status in ended.values()} == {"done"}
        (again,) = [one for one in stage.said("job") if parse_receiver(one) == CARD]
        await stage.stop(CARD)
        await stage.start(CARD)
        before = len(audited(stage, CARD))
        for _ in range(3):
            stage.memory_broker.accept(again, BANK)
        await asyncio.sleep(0.05)
        assert len(audited(stage, CARD)) == before
        assert [status.state for status in stage.agents[CARD].status()] == ["done"]
        record = stage.agents[CARD].jobs.records.read_all()[0][0]  # with the signature, for who asks later
        stage.parties[BANK][1].public.verify(record.job.signature, record.job.statement)


def parse_receiver(envelope: Envelope) -> str:
    """To whom a job was announced."""
    return envelope.routing_key.rpartition(".")[2]
