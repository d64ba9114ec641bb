"""A failed job is taken up again by whoever may, from its last checkpoint; any other request changes nothing."""

import asyncio
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tercet.agents.core.problems import JobProblem
from tercet.agents.jobs.requests import RESUMPTION_SECONDS
from tercet.agents.machine.recovery import PAUSES, Attempts
from tercet.agents.messaging.control import control_envelope
from tercet.broker.interface import topology
from tercet.broker.interface.base import Envelope
from tercet.broker.memory.memory_queue import Drop, no_faults
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.kinds import Resumption
from tests.agents.recovering import (
    DATA,
    FOUR,
    STANDBY,
    THREE,
    Recovering,
    files,
    long_job,
    parts,
    recovering,
    same_parts,
    states,
    undisturbed,
)
from tests.agents.scenes import BANK, CARD, NOTARY, ONCE, job, off

TWICE = Recovery(attempts=2)


async def failed(stage: Recovering, absent: str) -> str:
    """A job that has failed at everybody else while one party was away; it is back now, and knows."""
    name = await stage.begun(long_job())
    await stage.crash(absent)
    others = [party for party in THREE if party != absent]
    off(await stage.ended(name, *others), "party.silent", absent)
    assert all(files(stage.state_folder(party), name) for party in DATA)
    return name


@pytest.mark.parametrize(("absent", "asks"), [(BANK, CARD), (CARD, NOTARY)])
async def test_a_job_that_failed_for_a_party_that_was_away_goes_on(tmp_path: Path, absent: str, asks: str) -> None:
    """Whoever was away and whoever asks; from the checkpoint, to the model of an undisturbed run."""
    same = undisturbed(long_job())
    async with recovering(tmp_path, recover=1.0) as stage:
        name = await failed(stage, absent)
        stage.runs.clear()
        await stage.start_patiently(absent)
        reason = off(await stage.ended(name, absent), "party.silent", absent)
        assert "resume" in reason or absent != BANK
        stage.runs.clear()
        stage.agents[asks].resume(name)
        assert states(await stage.ended(name)) == {"done"}
        assert max(stage.runs[party, name].attempts.furthest for party in THREE) > 0
        assert same_parts(parts(tmp_path, name), same.parts)
        assert not any(files(stage.state_folder(party), name) for party in THREE)


async def test_who_is_away_when_a_job_is_taken_up_is_told_when_it_is_back(tmp_path: Path) -> None:
    """However long that takes: what was said then has expired in its queue."""
    async with recovering(tmp_path, recover=1.0) as stage:
        for party in THREE:
            stage.change(party, deadlines=stage.parties[party][0].deadlines.model_copy(update={"accept": 0.8}))
        name = await failed(stage, CARD)
        stage.runs.clear()
        for party in (BANK, NOTARY):
            await stage.stop(party)
            await stage.start_patiently(party)
        await stage.start_patiently(CARD)
        off(await stage.ended(name, CARD), "party.silent", CARD)
        await stage.crash(CARD)
        stage.runs.clear()
        stage.agents[BANK].resume(name)
        await asyncio.sleep(1.2)
        await stage.start(CARD)
        assert states(await stage.ended(name)) == {"done"}


def lossy(envelope: Envelope, _queue: str) -> list[Drop]:
    """No attempt gets through its first step."""
    return [Drop()] if envelope.kind == "pre-activation share" and envelope.sender == CARD else []


async def failed_job(stage: Recovering, submitter: str = BANK) -> str:
    """A job that has failed, all its attempts having come to nothing."""
    stage.memory_broker.faults = lossy
    await stage.start()
    name = stage.submit(long_job(), submitter)
    off(await stage.ended(name), "transport.lost", "broker")
    assert stage.agents[BANK].status(name)[0].attempt == 2
    stage.runs.clear()
    return name


async def test_a_job_that_has_used_up_its_attempts_gets_as_many_again(tmp_path: Path) -> None:
    """First the same happens again, and once that is mended it goes well; asking repeatedly changes nothing."""
    async with recovering(tmp_path, recovery=TWICE) as stage:
        name = await failed_job(stage)
        stage.agents[CARD].resume(name)
        ended = await stage.ended(name)
        off(ended, "transport.lost", "broker")
        assert ended[BANK].attempt == 4
        stage.runs.clear()
        stage.memory_broker.faults = no_faults
        stage.agents[BANK].resume(name)
        await stage.at("training", name, CARD)
        again = resumption(stage, BANK, name)
        stage.memory_broker.accept(again, BANK)
        assert states(await stage.ended(name)) == {"done"}
        stage.memory_broker.accept(again, BANK)
        with capture_logs() as logs:
            await stage.until(lambda: any("is done at card" in line.get("why", "") for line in logs))
        assert stage.where(name) == {"done"}


def test_attempts_are_counted_from_the_last_one_that_got_further() -> None:
    """The more of them come to nothing, the longer the pause; a person who takes the job up again begins anew."""
    attempts, pauses = Attempts(1, NOTARY), list[float]()
    for number in range(1, 10):
        attempts.number = number
        assert attempts.fruitless == number
        pauses.append(attempts.pause)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (PAUSES[0], PAUSES[-1])
    attempts.note_progress(5)
    assert (attempts.fruitless, attempts.pause) == (1, PAUSES[0])
    attempts.number = 10
    attempts.note_progress(5)
    assert attempts.fruitless == 2
    attempts.reset_count()
    assert (attempts.fruitless, attempts.pause) == (0, PAUSES[0])


async def test_only_a_failed_job_is_taken_up_again(tmp_path: Path) -> None:
    """One that is done or cancelled stays so, one that runs runs on, and of an unknown one nothing is said."""
    async with recovering(tmp_path) as stage:
        await stage.start()
        ended = await stage.run(job())
        with pytest.raises(JobProblem, match="is done at bank: only a failed job"):
            stage.agents[BANK].resume(ended[BANK].job)
        name = stage.submit(long_job("another"))
        await stage.at("training", name)
        stage.agents[CARD].resume(name)
        assert stage.agents[BANK].status(name)[0].attempt == 1
        stage.agents[CARD].cancel(name)
        assert states(await stage.ended(name)) == {"cancelled"}
        with pytest.raises(JobProblem, match="is cancelled at card: only a failed job"):
            stage.agents[CARD].resume(name)
        stage.agents[CARD].resume("credit-00000000")
        assert stage.said("resumption") == []


async def test_where_a_fault_ends_a_job_none_is_taken_up_again(tmp_path: Path) -> None:
    """There is no checkpoint either."""
    async with recovering(tmp_path, recovery=ONCE) as stage:
        stage.memory_broker.faults = lossy
        off(await stage.run(job()), "transport.lost", "broker")
        assert files(stage.state_folder(BANK), job().id) == []
        with pytest.raises(JobProblem, match="attempts of more than 1"):
            stage.agents[BANK].resume(job().id)


# --- what others ask


def resumption(stage: Recovering, sender: str, name: str, *, age: float = 0.0, run: bytes | None = None) -> Envelope:
    """One party asks the card processor to take a job up again."""
    known = stage.agents[CARD].jobs.last_run[name]
    message = Resumption(id=name, run=run or known.run, issued=int(time.time() - age))
    return control_envelope(
        message,
        Address(name, 1, Round.CONTROL, message.item, int(time.time()), 0, sender, CARD),
        stage.parties[sender][1],
        stage.parties[CARD][1].public,
        routing_key=topology.announce_key(name, CARD),
    )


async def test_an_old_or_foreign_request_is_not_heeded(tmp_path: Path) -> None:
    """Of another run, recorded a while ago, from one without a part in the job, or from one that may not submit."""
    async with recovering(tmp_path, *FOUR, recovery=TWICE) as stage:
        stage.pin(CARD, NOTARY, may_submit=False)
        stage.memory_broker.faults = lossy
        await stage.start()
        name = stage.submit(long_job())
        off(await stage.ended(name, *THREE), "transport.lost", "broker")
        asked = [
            resumption(stage, BANK, name, age=RESUMPTION_SECONDS + 5),
            resumption(stage, BANK, name, age=-RESUMPTION_SECONDS - 5),
            resumption(stage, BANK, name, run=bytes(32)),
            resumption(stage, STANDBY, name),
            resumption(stage, NOTARY, name),
        ]
        with capture_logs() as logs:
            for envelope in asked:
                stage.memory_broker.accept(envelope, envelope.sender)
            refusals = {"a resumption is not heeded", "a partner speaks of a run that is not known"}
            await stage.until(lambda: sum(line["event"] in refusals for line in logs) == len(asked))
        assert stage.agents[CARD].runs == ()
        stage.memory_broker.faults = no_faults
        fresh = resumption(stage, BANK, name)
        stage.memory_broker.accept(fresh, BANK)
        await stage.at("recovering", name, CARD)
        stage.agents[CARD].cancel(name)
        await stage.until(lambda: stage.state(CARD, name) == "cancelled")
