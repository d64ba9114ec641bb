"""Whoever is away for a while, by a crash, a stop or a cut line: the job goes on, to the model of an undisturbed run.

Where it does not, all parties say why with one voice, and a person can end it at any moment.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tercet.broker.interface.base import Envelope
from tercet.broker.memory.memory_queue import Drop
from tercet.schemas.files.job import PredictionJob
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.messages.address import parse_address
from tests.agents.policy.test_settings_rules import table
from tests.agents.recovering import (
    DATA,
    FOUR,
    OFTEN,
    STANDBY,
    THREE,
    Recovering,
    files,
    long_job,
    parts,
    recovering,
    same_parts,
    setup_of,
    states,
    undisturbed,
)
from tests.agents.scenes import BANK, CARD, NOTARY, job, make_table, off, on, prediction

JOB = long_job()


async def ends_well(stage: Recovering, folder: Path, name: str) -> None:
    """Everybody is done, the model is the oracle's and the undisturbed run's, and it was gone on with."""
    runs = await stage.exact(name)
    assert same_parts(parts(folder, name), undisturbed(JOB).parts)
    assert runs[BANK].attempts.number > 1
    assert runs[BANK].attempts.furthest > 0


# --- who is away comes back


@pytest.mark.parametrize("party", THREE)
async def test_an_agent_that_crashes_and_is_back_goes_on(tmp_path: Path, party: str) -> None:
    """From the last checkpoint that both data parties have."""
    undisturbed(JOB)
    async with recovering(tmp_path) as stage:
        name = await stage.begun(JOB)
        await stage.restart(party)
        await ends_well(stage, tmp_path, name)


async def test_a_label_party_without_columns_goes_on_too(tmp_path: Path) -> None:
    """Checkpoints and kept tables of no columns are read again as they were."""
    async with recovering(tmp_path) as stage:
        make_table(tmp_path / f"{BANK}.csv", seed=1, columns=0, label=True)
        name = await stage.begun(JOB)
        await stage.restart(BANK)
        runs = await stage.exact(name)
        assert runs[BANK].context.statistics.columns == 0
        assert runs[BANK].attempts.furthest > 0


@pytest.mark.parametrize("party", [CARD])
async def test_an_agent_that_is_stopped_goes_on_in_its_next_life(tmp_path: Path, party: str) -> None:
    """The others need no deadline to learn that it has left; the job fails nowhere meanwhile."""
    undisturbed(JOB)
    async with recovering(tmp_path) as stage:
        name = await stage.begun(JOB)
        await stage.stop(party)
        assert stage.state(party, name) == "recovering"
        others = [other for other in THREE if other != party]
        await stage.at("recovering", name, *others)
        stage.runs.pop((party, name), None)
        await stage.start(party)
        await ends_well(stage, tmp_path, name)


async def test_all_agents_stopped_go_on_in_their_next_lives(tmp_path: Path) -> None:
    """An evening and a morning later."""
    undisturbed(JOB)
    async with recovering(tmp_path) as stage:
        name = await stage.begun(JOB)
        await stage.stop()
        stage.runs.clear()
        await stage.start()
        await ends_well(stage, tmp_path, name)


@pytest.mark.parametrize("party", [BANK])
async def test_a_line_that_is_cut_and_mended_costs_an_attempt(tmp_path: Path, party: str) -> None:
    """However the party itself sees it."""
    undisturbed(JOB)
    async with recovering(tmp_path) as stage:
        name = await stage.begun(JOB)
        stage.connection(party).disconnect()
        others = [other for other in THREE if other != party]
        await stage.at("recovering", name, *others)
        stage.connection(party).reconnect()
        await ends_well(stage, tmp_path, name)


async def test_a_broker_that_is_away_for_a_while_costs_an_attempt(tmp_path: Path) -> None:
    """Nobody hears anybody; afterwards all go on."""
    undisturbed(JOB)
    async with recovering(tmp_path) as stage:
        name = await stage.begun(JOB)
        for party in THREE:
            stage.connection(party).disconnect()
        await stage.at("recovering", name)
        for party in THREE:
            stage.connection(party).reconnect()
        await ends_well(stage, tmp_path, name)


@pytest.mark.parametrize("party", [NOTARY])
async def test_a_prediction_begins_again_as_well(tmp_path: Path, party: str) -> None:
    """It has no checkpoints, and the scores are the same."""
    async with recovering(tmp_path) as stage:
        still = PolicySettings(narrow=True, helper_sees="scores", score_noise=0.0)  # each job's noise is another one
        stage.change(CARD, tables=table(rescoring=True)(stage.parties[CARD][0]).tables, policy=still)
        trained = (await stage.run(job()))[BANK].job
        (expected, scores), again = await scored(stage, prediction(trained)), prediction(trained).with_new_id()
        stage.runs.clear()
        on(stage, lambda p: p.job == again.id and p.kind == "terms", lambda: restart(stage, party))
        found, name = await scored(stage, again)
        assert name != scores
        assert found == expected
        assert stage.runs[BANK, name].attempts.number > 1


def restart(stage: Recovering, party: str) -> None:
    """Begin to do it."""
    stage.tasks.create_task(stage.restart(party))


async def scored(stage: Recovering, description: PredictionJob) -> tuple[bytes, str]:
    """The file that comes of it, and its job."""
    name = stage.submit(description)
    ended = await stage.ended(name, *THREE)
    assert states(ended) == {"done"}
    return await asyncio.to_thread(Path(str(ended[BANK].scores)).read_bytes), name


# --- who does not


def lossy(envelope: Envelope, _queue: str) -> list[Drop]:
    """No attempt gets through its first step."""
    return [Drop()] if envelope.kind == "pre-activation share" and envelope.sender == CARD else []


async def test_when_the_attempts_are_used_up_everybody_says_the_same(tmp_path: Path) -> None:
    """The reason of the last one, after as many as the label party's settings say."""
    async with recovering(tmp_path, recovery=Recovery(attempts=2)) as stage:
        stage.memory_broker.faults = lossy
        ended = await stage.run(job())
        off(ended, "transport.lost", "broker")
        assert {status.attempt for status in ended.values()} == {2}


def trains(stage: Recovering, name: str, attempt: int) -> bool:
    """Whether the job is in training in this attempt."""
    status = stage.agents[BANK].status(name)[0]
    return (status.state, status.attempt) == ("training", attempt)


async def test_an_attempt_that_gets_further_does_not_count(tmp_path: Path) -> None:
    """Only those in a row that gain nothing."""
    async with recovering(tmp_path, recovery=OFTEN.model_copy(update={"attempts": 2})) as stage:
        await stage.start()
        name = stage.submit(long_job(epochs=12))
        for number in (1, 2):
            await stage.until(lambda: trains(stage, name, number))  # noqa: B023
            await stage.saved(name, more_than=setup_of(stage.run_of(BANK, name)).context.first_step)
            await stage.restart(NOTARY)
        ended = await stage.ended(name, seconds=20)
        assert states(ended) == {"done"}
        assert ended[BANK].attempt > 2


# --- a person ends it


async def crashed(stage: Recovering, name: str) -> None:
    """The card processor is down, and everybody else knows."""
    await stage.crash(CARD)
    await stage.at("recovering", name, BANK, NOTARY)


async def leaderless(stage: Recovering, name: str) -> None:
    """The label party is down, and the others wait for it."""
    await stage.crash(BANK)
    await stage.at("recovering", name, CARD, NOTARY)


@pytest.mark.parametrize(
    ("trouble", "down", "cancels"),
    [(crashed, CARD, NOTARY), (leaderless, BANK, CARD)],
)
async def test_a_job_that_waits_for_somebody_can_be_cancelled(
    tmp_path: Path, trouble: Callable[[Recovering, str], Awaitable[None]], down: str, cancels: str
) -> None:
    """By any party that is there; whoever was down learns it when it is back, and all that was kept is gone."""
    async with recovering(tmp_path) as stage:
        name = await stage.begun(JOB)
        await trouble(stage, name)
        stage.agents[cancels].cancel(name)
        assert states(await stage.ended(name)) == {"cancelled"}
        await stage.start(down)
        assert states(await stage.ended(name)) == {"cancelled"}
        assert not any(files(stage.state_folder(party), name) for party in DATA)


async def test_a_party_that_was_down_learns_that_the_job_was_cancelled_though_the_word_is_lost(tmp_path: Path) -> None:
    """It asks, and is answered."""
    async with recovering(tmp_path) as stage:
        name = await stage.begun(JOB)
        await crashed(stage, name)
        stage.memory_broker.faults = lambda envelope, _: [Drop()] if envelope.kind == "cancel" else []
        stage.agents[BANK].cancel(name)
        assert states(await stage.ended(name)) >= {"cancelled"}
        await stage.start(CARD)
        assert states(await stage.ended(name)) == {"cancelled"}
        assert stage.said("inquiry")
        assert stage.said("outcome")


@pytest.mark.parametrize("cancels", [STANDBY])
async def test_a_job_with_a_helper_that_stands_by_can_be_cancelled(tmp_path: Path, cancels: str) -> None:
    """By that one, too."""
    async with recovering(tmp_path, *FOUR) as stage:
        await stage.start()
        name = stage.submit(long_job(standby=(STANDBY,)))
        await stage.at("training", name, *THREE)
        stage.agents[cancels].cancel(name)
        assert states(await stage.ended(name)) == {"cancelled"}


def first_of_the_second_attempt(kind: str) -> Callable[[Envelope], bool]:
    """Picks out a message."""
    return lambda envelope: envelope.kind == kind and parse_address(envelope.address).attempt == 2


@pytest.mark.parametrize(("party", "kind"), [(CARD, "progress"), (NOTARY, "received")])
async def test_a_job_can_be_cancelled_right_when_an_attempt_begins(tmp_path: Path, party: str, kind: str) -> None:
    """Whether it is noticed in the old attempt, between the two or in the new one."""
    async with recovering(tmp_path) as stage:
        name = await stage.begun(JOB)
        on(stage, first_of_the_second_attempt(kind), lambda: stage.agents[party].cancel(name))
        await stage.restart(NOTARY if party != NOTARY else CARD)
        assert states(await stage.ended(name)) == {"cancelled"}
