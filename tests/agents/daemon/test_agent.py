"""An agent's life: several jobs at once, cancelled ones, leaving, crashing, coming back; nothing is left behind."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from tercet.agents.cli.runner import UNUSABLE_FILE, run
from tercet.agents.daemon.agent import Agent
from tercet.agents.policy.signature import sign
from tercet.agents.simulation.simulate import Simulation, bit_exact
from tercet.broker.interface.base import Answer, Broker, Envelope, Lane, Occupied, Queue
from tercet.broker.memory.broker import MemoryBroker, MemoryConnection
from tercet.broker.sealing.identity import Identity
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.address import parse_address
from tercet.schemas.messages.codec import encode
from tercet.schemas.messages.kinds import Job
from tests.agents.daemon.stage import started
from tests.agents.recovering import states
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, QUICK, Scene, job, off, on, scene, three

PARTIES = (BANK, CARD, NOTARY)
LONG = 1000  # epochs


# --- many jobs


async def test_jobs_of_three_parties_run_at_once_over_the_same_agents_and_are_all_exact(tmp_path: Path) -> None:
    """Each has keys, queues and an order of its own."""
    async with started(tmp_path, deadlines=PATIENT) as stage:
        descriptions = [job(f"job-{number}", rate=0.1 + number / 20) for number in range(3)]
        ids = [stage.submit(description, party) for description, party in zip(descriptions, PARTIES, strict=True)]
        for description, job_id in zip(descriptions, ids, strict=True):
            assert states(await stage.ended(job_id, seconds=20)) == {"done"}
            runs = {party: stage.runs[party, job_id] for party in PARTIES}
            assert bit_exact(Simulation(description, runs))
        assert stage.left_queues() == set()


async def test_a_job_beyond_the_limit_is_refused_at_the_party_that_is_full(tmp_path: Path) -> None:
    """The running job is not touched."""
    async with scene(three(tmp_path, PATIENT), tmp_path) as stage:
        stage.change(CARD, limits=Limits(parallel_jobs=1))
        await stage.start()
        first = stage.submit(job("first", epochs=LONG))
        await stage.until(lambda: stage.state(CARD, first) == "training")
        second = stage.submit(job("second"))
        assert "parallel_jobs" in off(await stage.ended(second), "agent.busy", CARD)
        assert stage.state(CARD, first) == "training"
        stage.agents[BANK].cancel(first)
        assert states(await stage.ended(first)) == {"cancelled"}


async def test_a_job_submitted_twice_is_one_job_and_anew_another(tmp_path: Path) -> None:
    """Before, during and after it runs."""
    async with started(tmp_path) as stage:
        first = stage.submit(job())
        assert stage.submit(job()) == first
        await stage.until(lambda: stage.state(CARD, first) in {"training", "released", "done"})
        assert stage.submit(job(), CARD) == first
        assert states(await stage.ended(first)) == {"done"}
        assert stage.agents[BANK].submit(job()).state == "done"
        again = stage.submit(job().with_new_id())
        assert again != first
        await stage.until(lambda: stage.state(NOTARY, again) == "training")
        stage.agents[BANK].cancel(again)
        await stage.ended(again)
        assert len(stage.said("job")) == 4


@pytest.mark.parametrize(("first", "second"), [(CARD, BANK), (NOTARY, CARD)])
async def test_one_job_submitted_by_two_parties_at_once_runs_once(tmp_path: Path, first: str, second: str) -> None:
    """All parties keep the same one of the two runs: the label party's, else the one of the lower number."""
    async with started(tmp_path) as stage:
        job_id = stage.submit(job(), first)
        assert stage.submit(job(), second) == job_id
        assert states(await stage.ended(job_id)) == {"done"}
        runs = {stage.agents[party].jobs.last_run[job_id].run for party in PARTIES}
        assert len(runs) == 1
        if BANK in {first, second}:
            assert stage.agents[NOTARY].jobs.last_run[job_id].submitter == BANK


async def test_a_job_that_partners_remember_and_no_longer_take_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Which is not that they know its id."""
    async with scene(three(tmp_path), tmp_path) as stage:
        stage.change(CARD, tables={})
        job_id = (await stage.run(job()))[BANK].job
        await stage.stop()
        stage.change(BANK, state=tmp_path / "new disk")
        for party in (CARD, NOTARY):
            stage.pin(party, BANK, may_submit=False)
        stage.runs.clear()
        await stage.start()
        stage.submit(job())
        off(await stage.ended(job_id, BANK), "policy.submitter", BANK)
        assert stage.state(CARD, job_id) == "failed"


# --- cancelling


# At other moments each of them cancels below, and at any time in machine/test_disturbed.py.
@pytest.mark.parametrize(("party", "kind"), [(NOTARY, "handshake"), (CARD, "masked activation")])
async def test_a_job_can_be_cancelled_by_any_party_in_any_state(tmp_path: Path, party: str, kind: str) -> None:
    """In the handshake, or in the second epoch: it ends everywhere, and says so everywhere."""

    def is_time(envelope: Envelope) -> bool:
        return envelope.kind == kind and (kind == "handshake" or parse_address(envelope.address).epoch == 1)

    async with started(tmp_path) as stage:
        job_id = stage.submit(job())
        on(stage, is_time, lambda: stage.agents[party].cancel(job_id))
        assert states(await stage.ended(job_id)) == {"cancelled"}


async def test_a_job_cancelled_at_once_is_off_at_whoever_has_heard_of_it(tmp_path: Path) -> None:
    """The announcement may be on its way; it must not start anything that lasts."""
    async with started(tmp_path) as stage:
        job_id = stage.submit(job())
        stage.agents[BANK].cancel(job_id)
        assert states(await stage.ended(job_id, BANK)) == {"cancelled"}
        await stage.until(lambda: all(stage.state(party, job_id) in {"", "cancelled"} for party in PARTIES))


async def test_a_cancel_and_an_announcement_of_what_has_ended_or_is_unknown_change_nothing(tmp_path: Path) -> None:
    """The state stays what it was. Brokers deliver at least once."""
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job())
        stage.agents[BANK].cancel(ended[BANK].job)
        stage.agents[BANK].cancel("another-00000000")
        for envelope in stage.said("job"):
            stage.memory_broker.accept(envelope, BANK)
        await asyncio.sleep(0.05)
        assert {stage.state(party, ended[BANK].job) for party in PARTIES} == {"done"}
        assert all(agent.jobs.runs == {} for agent in stage.agents.values())


# --- leaving


async def test_an_agent_told_to_leave_ends_its_running_jobs_everywhere(tmp_path: Path) -> None:
    """After the time that its settings allow them."""
    async with started(tmp_path, deadlines=PATIENT.model_copy(update={"drain": 0.02})) as stage:
        job_id = stage.submit(job(epochs=LONG))
        await stage.until(lambda: all(stage.state(p, job_id) == "training" for p in PARTIES))
        await stage.stop(CARD)
        ended = await stage.ended(job_id, *PARTIES)
        assert "stopped by its operator" in off(ended, "agent.stopped", CARD)


async def test_an_agent_told_to_leave_lets_a_job_end_that_is_about_to(tmp_path: Path) -> None:
    """And takes no other."""
    async with started(tmp_path, deadlines=PATIENT.model_copy(update={"drain": 10})) as stage:
        job_id = stage.submit(job())
        await stage.until(lambda: stage.state(CARD, job_id) == "training")
        leaving = asyncio.ensure_future(stage.stop(CARD))
        await stage.until(lambda: stage.agents[CARD].is_draining)
        with pytest.raises(Exception, match="takes no more jobs"):
            stage.submit(job("another"), CARD)
        assert states(await stage.ended(job_id, *PARTIES)) == {"done"}
        await leaving


# --- crashing and coming back


async def test_a_restarted_agent_fails_its_earlier_jobs_and_tells_the_others(tmp_path: Path) -> None:
    """Its keys are gone, and with them what is in its queues, which it clears."""
    async with started(tmp_path, deadlines=PATIENT) as stage:
        job_id = stage.submit(job(epochs=LONG))
        await stage.until(lambda: all(stage.state(p, job_id) == "training" for p in PARTIES))
        await stage.crash(BANK)
        assert any(f".{BANK}.{job_id}" in name for name in stage.memory_broker.queues)
        await stage.start(BANK)
        ended = await stage.ended(job_id, *PARTIES)
        assert "--again" in off(ended, "agent.restarted", BANK)
        assert {status.failure.stage for status in ended.values() if status.failure} == {"training"}


async def test_a_restarted_agent_remembers_how_earlier_jobs_ended(tmp_path: Path) -> None:
    """Their records are all that is left of them; a file that is no record is passed over.

    A job that its submitter forgot and a partner remembers is declined; the partner's record stays as it is.
    """
    async with scene(three(tmp_path), tmp_path) as stage:
        ended = await stage.run(job())
        await stage.stop(CARD)
        (tmp_path / CARD / "jobs" / "notes.json").write_text("{}")
        await stage.start(CARD)
        (status,) = stage.agents[CARD].status()
        assert (status.job, status.state) == (ended[CARD].job, "done")
        assert status.model_part is not None
        await stage.stop(BANK)
        stage.change(BANK, state=tmp_path / "new disk")
        del stage.runs[BANK, status.job]
        await stage.start(BANK)
        stage.submit(job())
        assert "--again" in off(await stage.ended(status.job, BANK), "job.known", BANK)
        assert stage.state(CARD, status.job) == "done"


async def test_a_second_agent_of_one_name_stops_and_harms_nothing(tmp_path: Path) -> None:
    """It shares the state folder, but the running jobs in there are not its own."""
    async with started(tmp_path, deadlines=PATIENT) as stage:
        job_id = stage.submit(job(epochs=8))
        await stage.until(lambda: stage.state(CARD, job_id) == "training")
        settings, identity = stage.parties[CARD]
        twin = stage.memory_broker.connect(CARD)
        with pytest.raises(ExceptionGroup) as caught:
            await Agent(settings, identity, twin).serve(asyncio.Event())
        assert caught.group_contains(Occupied, match="another agent of this name")
        await twin.close()
        assert states(await stage.ended(job_id, seconds=20)) == {"done"}


@pytest.mark.parametrize(
    ("file", "folder"),
    [("state", None), ("", None), (None, "state/audit.log"), (None, "state/exposure.jsonl")],
    ids=["it is a file", "it cannot be made", "no audit log", "no budget"],
)
def test_a_state_folder_that_cannot_be_used_is_a_sentence_and_no_supervisor_starts_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str | None, folder: str | None
) -> None:
    """Exit code 3, with the path and what to do."""
    state = tmp_path / "place" / "state"
    settings = three(tmp_path)[CARD].model_copy(update={"state": state})
    if folder is not None:
        (state.parent / folder).mkdir(parents=True)
    if file is not None:
        (state.parent / file).parent.mkdir(exist_ok=True)
        (state.parent / file).write_text("")

    async def live() -> None:
        await Agent(settings, Identity.generate(), MemoryBroker().connect(CARD)).serve(asyncio.Event())

    with pytest.raises(typer.Exit) as left:
        run(live())
    assert left.value.exit_code == UNUSABLE_FILE
    reported = capsys.readouterr().err
    assert reported.startswith("error: ")
    assert str(state) in reported
    assert "let `state` be a folder" in reported


async def test_a_record_that_cannot_be_written_does_not_stop_a_job(tmp_path: Path) -> None:
    """A restart would not know of it; the log says so."""
    async with scene(three(tmp_path), tmp_path) as stage:
        (tmp_path / NOTARY).mkdir()
        (tmp_path / NOTARY / "jobs").write_text("a file where the folder should be")
        assert states(await stage.run(job())) == {"done"}


async def test_a_disk_that_takes_no_model_part_fails_the_job_for_all(tmp_path: Path) -> None:
    """At the last moment, but better than a model of which a part is missing."""
    async with scene(three(tmp_path), tmp_path) as stage:
        (tmp_path / CARD).mkdir()
        (tmp_path / CARD / "models").write_text("a file where the folder should be")
        ended = await stage.run(job())
        reason = off(ended, "disk.write", CARD)
        assert str(tmp_path) not in reason
        assert str(tmp_path) in (ended[CARD].detail or "")


# --- strangers


async def test_an_agent_lives_through_whatever_comes_to_its_standing_queue(tmp_path: Path) -> None:
    """Unknown senders, changed bytes, other messages than announcements."""
    async with started(tmp_path) as stage:
        job_id = stage.submit(job(tables=((BANK, "customers"), (CARD, "none"))))  # soon refused
        await stage.ended(job_id)
        announcement = next(p for p in stage.said("job") if parse_address(p.address).receiver == CARD)
        progress = stage.forge(BANK, CARD, "other-job", "progress", "progress", b"")
        for address, kind, body in [
            ("no address", "job", announcement.body),
            (announcement.address.replace("/card/", "/notary/"), "job", announcement.body),
            (announcement.address.replace("/bank/", "/mallory/"), "job", announcement.body),
            (announcement.address, "accept", announcement.body),
            (announcement.address, "job", announcement.body[:-1]),
            (announcement.address, "job", b""),
            (progress.address, "progress", progress.body),
        ]:
            stage.memory_broker.accept(replace(announcement, address=address, kind=kind, body=body), BANK)
        assert states(await stage.ended(stage.submit(job()))) == {"done"}
        assert len(stage.agents[CARD].status()) == 2


def announce(stage: Scene, job_: Job) -> None:
    """Let the bank announce a job to the card processor, whatever is in it."""
    envelope = stage.forge(BANK, CARD, job_.id, "job", "announcement", encode(job_))
    stage.memory_broker.accept(replace(envelope, routing_key=f"job.{job_.id}.announce.to.card"), BANK)


async def test_a_job_under_a_wrong_id_or_in_anothers_name_is_not_taken(tmp_path: Path) -> None:
    """A partner may announce its own jobs, under the id that follows from the description."""
    async with started(tmp_path) as stage:
        run = stage.agents[BANK].jobs.announcer.make_announcement(job())
        for changed in (
            run.model_copy(update={"id": "credit-00000000"}),
            run.model_copy(update={"submitter": NOTARY}),
            run.model_copy(update={"submitter": CARD}),
        ):
            announce(stage, changed)
        await asyncio.sleep(0.05)
        assert stage.agents[CARD].status() == ()


async def test_a_job_whose_members_are_not_its_parties_is_refused(tmp_path: Path) -> None:
    """So is one that names the asked party nowhere; the agent comes to no harm."""
    async with started(tmp_path) as stage:
        honest = stage.agents[BANK].jobs.announcer.make_announcement(job())
        other = job(tables=((BANK, "customers"), ("telco", "customers")))
        without = honest.model_copy(update={"members": honest.members[:2]})
        elsewhere = honest.model_copy(update={"description": other, "id": other.id})
        for announced in (sign(one, stage.parties[BANK][1], time.time()) for one in (without, elsewhere)):
            announce(stage, announced)
            failure = (await stage.ended(announced.id, CARD))[CARD].failure
            assert failure is not None
            assert (failure.code, failure.culprit) == ("job.members", BANK)


# --- every await is a place where it may end


class Interrupting:
    """Between an agent and the broker: something happens at the n-th thing that the agent asks for."""

    def __init__(self, inner: MemoryConnection, number: int, happen: Callable[[], None]) -> None:
        self._inner, self._left, self._happen = inner, number, happen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._happen()
            await asyncio.sleep(0)

    async def declare(self, queue: Queue) -> None:
        await self._count()
        await self._inner.declare(queue)

    async def publish(self, envelope: Envelope, lane: Lane) -> None:
        await self._count()
        await self._inner.publish(envelope, lane)

    def send(self, envelope: Envelope, lane: Lane) -> Answer:
        return asyncio.ensure_future(self.publish(envelope, lane))

    async def consume(self, queue_name, handler, lane):
        await self._count()
        return await self._inner.consume(queue_name, handler, lane)

    async def delete(self, queue_name: str) -> None:
        await self._count()
        await self._inner.delete(queue_name)


class InterruptedScene(Scene):
    """One party's agent is interrupted once, at the n-th thing that it asks of the broker."""

    party, number, cancels = "", 0, True

    def broker_of(self, connection: MemoryConnection) -> Broker:
        if connection.party != self.party or not self.number:
            return connection
        number, self.number = self.number, 0
        return Interrupting(connection, number, self._cancel if self.cancels else self._kill)

    def _cancel(self) -> None:
        self.agents[self.party].cancel(job().id)

    def _kill(self) -> None:
        self._living[self.party][1].cancel()


@asynccontextmanager
async def interrupted(folder: Path, party: str, number: int, *, cancels: bool) -> AsyncIterator[InterruptedScene]:
    """A scene with all agents up, and an interruption to come."""
    async with scene(three(folder, PATIENT), folder, make=InterruptedScene) as stage:
        assert isinstance(stage, InterruptedScene)
        stage.party, stage.number, stage.cancels = party, number, cancels
        await stage.start()
        yield stage


async def cancel_at(folder: Path, party: str, number: int) -> None:
    """Cancel a job at the n-th await; it has to end in one way everywhere."""
    async with interrupted(folder, party, number, cancels=True) as stage:
        job_id = stage.submit(job())
        ended = await stage.ended(job_id, party)
        await stage.until(lambda: not any(agent.jobs.runs for agent in stage.agents.values()))
        assert states(ended) <= {"cancelled", "done"}
        assert {stage.state(p, job_id) for p in PARTIES} <= {"cancelled", "done", ""}


async def kill_at(folder: Path, party: str, number: int) -> None:
    """Cancel a whole agent at the n-th await, and restart it; what it was doing has failed, and the next job runs."""
    async with interrupted(folder, party, number, cancels=False) as stage:
        job_id = stage.submit(job(epochs=LONG))
        await asyncio.wait([stage._living[party][1]])
        del stage._living[party]
        stage.runs.pop((party, job_id), None)
        await stage.start(party)
        await stage.until(lambda: not any(agent.jobs.runs for agent in stage.agents.values()))
        assert stage.state(party, job_id) == "failed"
        assert {stage.state(p, job_id) for p in PARTIES} <= {"failed", ""}
        assert states(await stage.ended(stage.submit(job("next", epochs=1)))) == {"done"}


@pytest.mark.parametrize("party", PARTIES)
async def test_a_job_cancelled_at_any_await_ends_and_leaves_nothing(tmp_path: Path, party: str) -> None:
    """At every party, in one of the ends; no queue is left, and no task."""
    before = asyncio.all_tasks()
    numbers = [*range(3, 16, 2), 20, 27, 37, 71][PARTIES.index(party) :: 3]  # the first two are the standing queue's
    await asyncio.gather(*(cancel_at(tmp_path / f"at {number}", party, number) for number in numbers))
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() <= before


@pytest.mark.parametrize("party", PARTIES)
async def test_an_agent_cancelled_at_any_await_and_restarted_leaves_nothing(tmp_path: Path, party: str) -> None:
    """What it was doing has failed, everybody knows, and the next job runs."""
    before = asyncio.all_tasks()
    numbers = [3, 5, 9, 12, 17, 31, 84][PARTIES.index(party) :: 3]
    await asyncio.gather(*(kill_at(tmp_path / f"at {number}", party, number) for number in numbers))
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() <= before


def test_quick_deadlines_leave_room_to_tell_silence_from_work() -> None:
    """Four heartbeats fit twice into the helper's half of a step."""
    assert QUICK.step / 2 >= 8 * QUICK.heartbeat
