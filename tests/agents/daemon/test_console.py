"""What `tercet job` says to its own agent, and what happens when somebody else says it, or it is killed."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

import tercet.agents.access.console
from tercet.agents.access.console import BrokerConsole
from tercet.agents.access.no_agent import NoAgent
from tercet.agents.messaging.control import control_envelope
from tercet.broker.interface import topology
from tercet.broker.interface.base import Blocked, Envelope
from tercet.broker.sealing.identity import Identity
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.kinds import Message, Query, Status, Submit
from tests.agents.daemon.stage import started
from tests.agents.recovering import states
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, Scene, job, scene, three


async def test_a_console_submits_asks_lists_and_cancels(tmp_path: Path) -> None:
    """All through its own party's agent."""
    async with started(tmp_path, deadlines=PATIENT) as stage, stage.console(BANK) as console:
        (submitted,) = (await console.submit(job(epochs=1000))).jobs
        assert submitted.state == "received"
        await stage.until(lambda: stage.state(BANK, submitted.job) == "training")
        (running,) = (await console.query(submitted.job)).jobs
        assert running.state == "training"
        assert running.steps == 3000
        assert {party.party for party in running.parties} == {BANK, CARD, NOTARY}
        await console.query(submitted.job, cancel=True)
        await stage.ended(submitted.job)
        (other,) = (await console.submit(job("another"))).jobs
        await stage.ended(other.job)
        listed = {status.job: status.state for status in (await console.query()).jobs}
        assert listed == {submitted.job: "cancelled", other.job: "done"}


async def test_any_party_may_submit_and_each_watches_its_own_part(tmp_path: Path) -> None:
    """The label party leads all the same. A job that is known does not begin again, and its answer says how it does."""
    async with started(tmp_path) as stage, stage.console(NOTARY) as console, stage.console(CARD) as other:
        first = await console.submit(job())
        assert first.note is None
        await stage.ended(first.jobs[0].job)
        for asked, has_part in ((console, False), (other, True)):
            (status,) = (await asked.query(job().id)).jobs
            assert (status.state, status.label) == ("done", BANK)
            assert (status.model_part is not None) == has_part
        again = await console.submit(job())
        assert "--again" in (again.note or "")
        assert [status.state for status in again.jobs] == ["done"]


async def test_a_console_is_told_what_a_step_was_spent_on(tmp_path: Path) -> None:
    """While the job runs and when it is over; nothing before a step is done, and nothing unless it asks."""
    async with (
        started(tmp_path, deadlines=PATIENT) as stage,
        stage.console(BANK) as console,
        stage.console(NOTARY) as other,
    ):
        (submitted,) = (await console.submit(job(epochs=1000))).jobs
        assert (await console.trace(submitted.job)).trace is None
        for asked, party in ((console, BANK), (other, NOTARY)):
            await stage.until(lambda: stage.agents[party].status(submitted.job)[0].step > 2)  # noqa: B023
            trace = (await asked.trace(submitted.job)).trace
            assert trace is not None
            assert trace.party == party
            kinds = {event.kind for event in trace.events}
            assert {"maths", "send"} <= kinds <= {"wait", "maths", "send", "open"}
        await console.query(submitted.job, cancel=True)
        await stage.ended(submitted.job)
        assert (await console.trace(submitted.job)).trace is not None
        assert (await console.query(submitted.job)).trace is None


async def test_a_broker_that_takes_nothing_is_not_taken_for_an_agent_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy is at the broker's operator."""
    monkeypatch.setattr(tercet.agents.access.console, "ANSWER_SECONDS", 0.5)
    async with started(tmp_path, CARD) as stage, stage.console(CARD) as console:
        with stage.memory_broker.shortage(), pytest.raises(Blocked, match="low on memory; have its operator"):
            await console.query()
        assert (await console.query()).problem is None


async def test_a_console_without_an_agent_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while: the agent may be just starting."""
    monkeypatch.setattr(tercet.agents.access.console, "ANSWER_SECONDS", 0.1)
    async with scene(three(tmp_path), tmp_path) as stage, stage.console(BANK) as console:
        with pytest.raises(NoAgent, match="tercet agent"):
            await console.query()


async def test_a_console_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    """Its queue goes with its connection; the agent's answer finds nobody, and the job goes on."""
    async with started(tmp_path) as stage:
        connection = stage.memory_broker.connect(BANK)
        console = await BrokerConsole(BANK, stage.parties[BANK][1], connection).__aenter__()
        asking = asyncio.create_task(console.submit(job()))
        await stage.until(lambda: bool(stage.said("submit")))
        asking.cancel()
        await connection.close()
        assert not any(".console." in name for name in stage.memory_broker.queues)
        assert states(await stage.ended(job().id)) == {"done"}


async def test_consoles_of_one_party_do_not_hear_each_others_answers(tmp_path: Path) -> None:
    """Each has a queue of its own."""
    async with started(tmp_path, BANK) as stage:
        async with stage.console(BANK) as one, stage.console(BANK) as other:
            answers = await asyncio.gather(one.query("credit-00000001"), other.query("credit-00000002"))
        problems = [answer.problem or "" for answer in answers]
        assert [text.rpartition("-")[2] for text in problems] == ["00000001", "00000002"]


def request(message: Message, identity: Identity, stage: Scene, sender: str, receiver: str) -> Envelope:
    """A console's request as somebody might forge it."""
    address = Address("console-forged", 0, Round.CONTROL, message.item, 0, 0, sender, receiver)
    receiving = stage.parties[receiver][1].public
    key = topology.announce_key("console-forged", receiver)
    return control_envelope(message, address, identity, receiving, routing_key=key)


async def test_a_request_that_the_partys_own_key_has_not_sealed_is_refused(tmp_path: Path) -> None:
    """A partner may announce jobs; it may not submit, ask or cancel in another's name, or in its own."""
    async with started(tmp_path, deadlines=PATIENT) as stage:
        job_id = stage.submit(job(epochs=1000))
        await stage.until(lambda: stage.state(CARD, job_id) == "training")
        stolen = Submit(description=job("stolen"))
        for message in (Query(job=job_id, cancel=True), stolen):
            for sender in (CARD, BANK):
                forged = request(message, stage.parties[BANK][1], stage, sender, CARD)
                stage.memory_broker.accept(forged, sender)
            stage.memory_broker.accept(request(message, Identity.generate(), stage, CARD, CARD), CARD)
        await asyncio.sleep(0.05)
        assert stage.state(CARD, job_id) == "training"
        assert [status.job for status in stage.agents[CARD].status()] == [job_id]
        assert stage.said("status") == []
        stage.agents[BANK].cancel(job_id)
        await stage.ended(job_id)


async def test_an_answer_to_another_question_does_not_reach_the_console(tmp_path: Path) -> None:
    """Not its own agent's to an earlier one, nor one to another console, however often the broker brings it."""
    async with started(tmp_path, BANK) as stage:
        async with stage.console(BANK) as other:
            for _ in range(3):
                await other.query("credit-00000000")
        async with stage.console(BANK) as console:
            assert "00000001" in ((await console.query("credit-00000001")).problem or "")
            for number in (2, 3):
                for earlier in stage.said("status"):
                    key = topology.console_key(console._token, BANK)
                    stage.memory_broker.accept(replace(earlier, routing_key=key), BANK)
                answer = await console.query(f"credit-0000000{number}")
                assert (answer.jobs, answer.problem) == ((), f"bank knows no job credit-0000000{number}")


async def test_a_forged_answer_does_not_reach_the_console(tmp_path: Path) -> None:
    """It waits on for its own agent's."""
    async with started(tmp_path, BANK) as stage, stage.console(BANK) as console:
        mallory = Identity.generate()
        address = Address(console._token, 0, Round.CONTROL, Status.item, 0, 1, BANK, BANK)
        key = topology.console_key(console._token, BANK)
        own = stage.parties[BANK][1].public
        forged = control_envelope(Status(problem="pay first"), address, mallory, own, routing_key=key)
        stage.memory_broker.accept(forged, BANK)
        answer = await console.query()
        assert (answer.jobs, answer.problem) == ((), None)
