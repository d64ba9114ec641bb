"""What goes wrong with one job stays with it: the daemon lives on, other runs are left alone, nothing stays behind."""

import secrets
import time
from pathlib import Path

from tercet.agents.machine.blame import Report, blame_for_deadline
from tercet.agents.policy.signature import sign
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import Failure, Message, Progress
from tests.agents.scenes import BANK, CARD, NOTARY, job, off, scene, three

LONG = 2000  # epochs
PARTIES = (BANK, CARD, NOTARY)


async def test_a_heartbeat_that_names_a_stranger_fails_its_job_and_no_other(tmp_path: Path) -> None:
    """It is validly sealed, so its sender is named; the agents go on with the next job."""
    spoiled: list[dict[str, object]] = [{"waits_for": ("ghost",), "overdue": "step"}, {"waits_for": ("ghost",)}]
    changes: dict[str, object] = {}

    def tap(address: Address, message: Message) -> Message:
        changed = isinstance(message, Progress) and address.sender == CARD
        return message.model_copy(update=changes) if changed else message

    async with scene(three(tmp_path), tmp_path) as stage:
        stage.tap = tap
        await stage.start()
        for changes in spoiled:
            job_id = stage.submit(job(f"spoiled-{len(changes)}", epochs=LONG))
            off(await stage.ended(job_id, BANK, NOTARY), "message.malformed", CARD)
            await stage.ended(job_id)
        changes = {}
        assert {s.state for s in (await stage.run(job())).values()} == {"done"}


def test_a_chain_of_many_parties_still_fits_into_a_reason() -> None:
    """The sentence is cut short, and every agent can say and read it."""
    names = [f"party-{number:02d}-of-many-others" for number in range(17)]
    reports = {name: Report("", tuple(other for other in names if other != name)) for name in names}
    failure = blame_for_deadline(reports, names[0], "step", names).failure("training", verdict=True)
    assert Failure.model_validate(failure.model_dump()).code == "transport.lost"


async def test_an_error_of_our_own_at_a_jobs_end_leaves_the_agent_alive(tmp_path: Path, monkeypatch) -> None:
    """The job counts as failed here, and the next one runs."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start()
        job_id = stage.submit(job(epochs=LONG))
        await stage.until(lambda: stage.state(CARD, job_id) == "training")
        monkeypatch.setattr(stage.agents[CARD].jobs.runs[job_id]._machine, "_end_with", lambda _: 1 / 0)
        stage.agents[BANK].cancel(job_id)
        ended = await stage.ended(job_id)
        assert (ended[CARD].state, ended[BANK].state) == ("failed", "cancelled")
        assert {s.state for s in (await stage.ended(stage.submit(job()))).values()} == {"done"}


async def test_a_run_of_somebody_who_may_not_submit_does_not_touch_the_one_that_is(tmp_path: Path) -> None:
    """Though it has the same description, and so the same id."""
    settings = three(tmp_path)
    async with scene(settings, tmp_path) as stage:
        partners = stage.parties[CARD][0].partners
        stage.change(CARD, partners=partners | {NOTARY: partners[NOTARY].model_copy(update={"may_submit": False})})
        await stage.start()
        job_id = stage.submit(job(epochs=6))
        await stage.until(lambda: stage.state(CARD, job_id) == "training")
        theirs = (
            stage.agents[CARD]
            .jobs.last_run[job_id]
            .model_copy(update={"run": secrets.token_bytes(32), "submitter": NOTARY})
        )
        stage.agents[CARD].requests.handle_partner(sign(theirs, stage.parties[NOTARY][1], time.time()), NOTARY)
        assert {s.state for s in (await stage.ended(job_id)).values()} == {"done"}
        assert {stage.agents[party].jobs.last_run[job_id].submitter for party in PARTIES} == {BANK}


async def test_queues_are_cleared_when_the_broker_is_back(tmp_path: Path) -> None:
    """A connection that is lost while a job ends leaves nothing for good, and its owner is not to blame others."""
    async with scene(three(tmp_path), tmp_path) as stage:
        await stage.start()
        job_id = stage.submit(job(epochs=LONG))
        await stage.until(lambda: all(stage.state(party, job_id) == "training" for party in PARTIES))
        connection = stage._living[CARD][2]
        connection.disconnect()
        off(await stage.ended(job_id, BANK, NOTARY), "party.silent", CARD)
        await stage.until(lambda: stage.agents[CARD].status(job_id)[0].state == "failed")
        failure = stage.agents[CARD].status(job_id)[0].failure
        assert failure is not None
        assert (failure.code, failure.culprit) == ("party.cut-off", CARD)
        connection.reconnect()
        await stage.ended(job_id)
        assert not [name for name in stage.memory_broker.queues if job_id in name]
