"""A second helper that all parties allow takes over when the first falls silent, and is told nothing before that."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tercet.agents.core.problems import JobProblem
from tercet.broker.memory.memory_queue import Delay
from tercet.schemas.messages.address import parse_address
from tests.agents.recovering import (
    FOUR,
    STANDBY,
    Recovering,
    long_job,
    parts,
    recovering,
    same_parts,
    states,
    undisturbed,
)
from tests.agents.scenes import BANK, CARD, NOTARY, SHARES, job, nothing_left, off, on

JOB = long_job(standby=(STANDBY,))
ABLE = (BANK, CARD, STANDBY)
WHEN = {
    "alignment": lambda envelope: envelope.kind == "pseudonyms",
    "training": lambda envelope: envelope.kind == "masked activation" and parse_address(envelope.address).epoch == 2,
}


def reported(stage: Recovering, party: str) -> set[str]:
    """The kinds of what has been sent to a party."""
    return {envelope.kind for envelope in stage.envelopes if parse_address(envelope.address).receiver == party}


def hangs(stage: Recovering) -> None:
    """It neither hears nor says anything more."""
    stage.hang(NOTARY)


def crashes(stage: Recovering) -> None:
    """It is gone at once."""
    stage.tasks.create_task(stage.crash(NOTARY))


async def comes_back(stage: Recovering) -> None:
    """The same or the next life of it."""
    stage.wake()
    if NOTARY not in stage._living:
        await stage.start(NOTARY)


@pytest.mark.parametrize(
    ("when", "falls_silent"),
    [("alignment", hangs), ("training", crashes)],
)
async def test_the_second_helper_ends_what_the_first_has_begun(
    tmp_path: Path, when: str, falls_silent: Callable[[Recovering], None]
) -> None:
    """The model is the undisturbed one; the second has seen its own attempts alone; the first, when back, is done."""
    same = undisturbed(JOB)
    async with recovering(tmp_path, *FOUR) as stage:
        await stage.start()
        name = stage.submit(JOB)
        on(stage, WHEN[when], lambda: falls_silent(stage))
        await stage.until(lambda: stage.state(STANDBY, name) in {"aligned", "training", "released", "done"})
        await comes_back(stage)
        assert (await stage.exact(name)).keys() == {*ABLE}
        assert states(await stage.ended(name, NOTARY)) == {"done"}
        assert same_parts(parts(tmp_path, name), same.parts)
        secret = [parse_address(envelope.address) for envelope in stage.said(*SHARES, "handshake", "pseudonyms")]
        assert {1} < {address.attempt for address in secret}
        assert 1 not in {address.attempt for address in secret if address.receiver == STANDBY}


async def test_the_first_helper_keeps_its_place_if_it_is_back_in_time(tmp_path: Path) -> None:
    """Nobody else needs to see anything then."""
    async with recovering(tmp_path, *FOUR) as stage:
        name = await stage.begun(JOB)
        await stage.restart(NOTARY)
        ended = await stage.ended(name)
        assert states(ended) == {"done"}
        assert ended[BANK].helper == NOTARY
        assert not reported(stage, STANDBY) & SHARES


async def test_a_label_party_that_is_back_takes_the_helper_that_is_there(tmp_path: Path) -> None:
    """It has heard of neither, gives the first one the time that `takeover` is, and goes on with the second."""
    async with recovering(tmp_path, *FOUR) as stage:
        name = await stage.begun(JOB)
        await stage.crash(NOTARY)
        await stage.restart(BANK)
        ended = await stage.ended(name, *ABLE)
        assert states(ended) == {"done"}
        assert {status.helper for status in ended.values()} == {STANDBY}
        await stage.start(NOTARY)
        assert states(await stage.ended(name, NOTARY)) == {"done"}


async def test_a_helper_that_missed_everything_asks_how_the_job_ended(tmp_path: Path) -> None:
    """The broker may have dropped what waited for it, and the others do not speak of the job any more."""
    async with recovering(tmp_path, *FOUR) as stage:
        name = await stage.begun(JOB)
        await stage.crash(NOTARY)
        assert states(await stage.ended(name, *ABLE)) == {"done"}
        for queue in stage.left_queues():
            stage.memory_broker.delete(queue)
        await stage.start(NOTARY)
        assert states(await stage.ended(name, NOTARY)) == {"done"}


async def test_who_stands_by_hears_that_a_job_lives_and_nothing_of_it(tmp_path: Path) -> None:
    """However long the job takes: it waits for nobody, so that no deadline of its own can pass."""
    async with recovering(tmp_path, *FOUR, accept=0.4, ready=0.4, start=0.8) as stage:
        stage.memory_broker.faults = lambda envelope, _: [Delay(0.2)] if envelope.kind == "masked activation" else []
        await stage.start()
        name = stage.submit(long_job(standby=(STANDBY,), epochs=20))
        await stage.at("training", name, BANK, CARD, NOTARY)
        await asyncio.sleep(0.85)
        stage.agents[BANK].cancel(name)
        assert states(await stage.ended(name)) == {"cancelled"}
        assert reported(stage, STANDBY) == {"job", "progress", "cancel"}
        assert stage.agents[BANK].status(name)[0].attempt == 1


# --- whom the parties allow


def unknown(stage: Recovering) -> tuple[str, str]:
    """The card processor's settings do not list it."""
    stage.forget(CARD, STANDBY)
    return "policy.partner", CARD


def not_for_the_table(stage: Recovering) -> tuple[str, str]:
    """The table is for another helper only."""
    (table,) = stage.parties[CARD][0].tables.values()
    stage.change(CARD, tables={"customers": table.model_copy(update={"helpers": (NOTARY,)})})
    return "policy.helper", BANK


@pytest.mark.parametrize("refuse", [unknown, not_for_the_table])
async def test_a_party_that_does_not_allow_the_second_helper_refuses_the_job_at_the_start(
    tmp_path: Path, refuse: Callable[[Recovering], tuple[str, str]]
) -> None:
    """It is too late to ask when the first one is silent."""
    async with recovering(tmp_path, *FOUR) as stage:
        code, culprit = refuse(stage)
        ended = await stage.run(JOB)
        assert STANDBY in off({party: ended[party] for party in (BANK, CARD, NOTARY)}, code, culprit)
        nothing_left(stage)


async def test_a_submitter_that_does_not_know_the_second_helper_announces_nothing(tmp_path: Path) -> None:
    """It could not seal a word for it."""
    async with recovering(tmp_path, *FOUR) as stage:
        stage.forget(BANK, STANDBY)
        await stage.start()
        with pytest.raises(JobProblem, match=STANDBY):
            stage.submit(JOB)
        assert stage.said("job") == []


async def test_without_the_second_helper_a_job_begins_and_ends_all_the_same(tmp_path: Path) -> None:
    """One that is not there when it is not needed holds nobody up."""
    async with recovering(tmp_path, *FOUR) as stage:
        await stage.start(BANK, CARD, NOTARY)
        name = stage.submit(job(standby=(STANDBY,)))
        assert states(await stage.ended(name, BANK, CARD, NOTARY)) == {"done"}


async def test_who_stands_by_does_not_wait_for_ever_for_a_label_party_that_is_gone(tmp_path: Path) -> None:
    """It says the same of it as those who took part."""
    async with recovering(tmp_path, *FOUR, recover=1.0) as stage:
        await stage.start()
        name = stage.submit(JOB)
        await stage.at("training", name, BANK, CARD, NOTARY)
        await stage.crash(BANK)
        off(await stage.ended(name, CARD, NOTARY, STANDBY), "party.silent", BANK)
        await stage.start_patiently(BANK)
        off(await stage.ended(name, BANK), "party.silent", BANK)
