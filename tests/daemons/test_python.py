"""A program speaks to agents that are processes of their own, over a real RabbitMQ: `tests/agents/api` has all else."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import tercet
from tercet.agents.core.states import APPROVAL
from tercet.schemas.files.job import read_job
from tests.daemons.test_job_approval import ASKING
from tests.daemons.test_over_rabbitmq import job_file, same_words, simulated, wait_until, write_tables
from tests.deployment import Deployment

FOLDS = 3


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, amqp_url: str) -> Iterator[Deployment]:
    """Three agents that ask their operators, and write reports."""
    folder = tmp_path_factory.mktemp("programs")
    with Deployment(folder, amqp_url, write_tables(folder), "notary", extra=ASKING, report=True) as three:
        three.start()
        three.wait_until_up()
        yield three


@contextmanager
def through_the_broker(deployment: Deployment, name: str) -> Iterator[tercet.Party]:
    """A party whose agent's socket this program cannot find."""
    socket = deployment.socket(name)
    away = socket.rename(socket.with_suffix(".away"))
    try:
        yield tercet.Party(deployment.settings(name))
    finally:
        away.rename(socket)


async def follow(party: tercet.Party, job: str) -> list[str]:
    """What a notebook's loop sees of a job."""
    return [status.state async for status in party.watch(job)]


def until_asked(party: tercet.Party, job: str) -> None:
    """Return when a party's agent waits for a person."""
    wait_until(lambda: job in {status.job for status in party.list() if status.approval == APPROVAL})


def test_a_program_has_folds_trained_through_the_broker_and_each_party_reads_what_it_may(
    deployment: Deployment,
) -> None:
    """It submits, approves, watches in its own loop and outside, and finds the words that the simulator finds."""
    bank, notary = (tercet.Party(deployment.settings(name)) for name in ("bank", "notary"))
    path = job_file(deployment, "by-program", epochs=1, more=f"[evaluation]\nfolds = {FOLDS}\n")
    with through_the_broker(deployment, "card") as card:
        running = card.submit(tercet.Job.from_toml(path))
        for party in (bank, notary):
            until_asked(party, running.id)
            assert any("held out" in line for line in party.reveals(running.id))
            assert party.approve(running.id).approval != APPROVAL
        assert asyncio.run(follow(card, running.id))[-1] == "done"
        assert [status.state for status in running.watch()] == ["done"]
        theirs = running.result()
    assert (theirs.metrics, theirs.folds, [*theirs.weights]) == ({}, [], ["card"])
    own, simulation = bank.results(running.id), simulated(deployment, read_job(path))
    same_words(deployment, running.id, simulation)
    assert own.folds == simulation.label_run.context.history.folds
    assert len(own.folds) == FOLDS
    assert own.metrics.keys() == own.deviations.keys()
    assert [*own.weights] == ["bank"]
    assert own.report is not None
    assert "a0" in own.report.html


def test_a_program_hears_through_the_broker_of_refusals_and_cancels(deployment: Deployment) -> None:
    bank = tercet.Party(deployment.settings("bank"))
    with through_the_broker(deployment, "card") as card:
        running = bank.submit(tercet.Job.from_toml(job_file(deployment, "unwanted", epochs=10_000)))
        until_asked(card, running.id)
        card.refuse(running.id, "not this year")
        with pytest.raises(tercet.JobFailed, match="not this year") as caught:
            running.result()
        assert (caught.value.code, caught.value.party) == ("policy.refused", "card")
        waiting = card.submit(tercet.Job.from_toml(job_file(deployment, "waiting")))
        assert waiting.cancel().state == "cancelled"
        with pytest.raises(tercet.JobFailed, match="it was cancelled"):
            bank.results(waiting.id)
        with pytest.raises(tercet.Invalid, match="card knows no job none-01234567"):
            card.status("none-01234567")
