"""A partner's agent that starts late, while another attempt is just beginning, finds its way into the job.

`tests/agents/machine` has such starts at every moment, in virtual time; these are over a real RabbitMQ.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tercet.agents.daemon.agent import Agent
from tercet.agents.runs.run import JobRun
from tercet.agents.simulation.simulate import introduce
from tercet.broker.rabbitmq.broker import RabbitBroker
from tercet.broker.sealing.identity import Identity
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.files.settings import Settings
from tests.agents.scenes import BANK, CARD, NOTARY, PATIENT, job, three

LATE_STARTS = 3
ACCEPT = 0.8  # seconds, after which the label party begins another attempt
SECONDS = 30.0  # for a job that takes one


@asynccontextmanager
async def agent(url: str, settings: Settings, identity: Identity, ended: dict[str, JobRun]) -> AsyncIterator[Agent]:
    """A party's agent over RabbitMQ; those of its jobs that end are noted."""
    broker = await RabbitBroker.connect(url, name=settings.party, party=settings.party)

    def finished(run: JobRun) -> None:
        ended[run.job.id] = run

    stop, one = asyncio.Event(), Agent(settings, identity, broker, finished=finished)
    serving = asyncio.create_task(one.serve(stop))
    try:
        await one.ready.wait()
        yield one
    finally:
        stop.set()
        await serving
        await broker.close()


async def test_late_starts_all_get_into_their_job(tmp_path: Path, amqp_url: str) -> None:
    """The heartbeats that tell of other attempts wait in the queue that a late one opens, or come while it does."""
    deadlines = PATIENT.model_copy(update={"accept": ACCEPT, "heartbeat": 0.05, "drain": 5.0})
    settings = {
        party: own.model_copy(update={"recovery": Recovery(attempts=100)})
        for party, own in three(tmp_path, deadlines).items()
    }
    parties, late_count = introduce(settings, tmp_path), 0
    ended: dict[str, dict[str, JobRun]] = {party: {} for party in parties}
    async with (
        agent(amqp_url, *parties[BANK], ended[BANK]) as bank,
        agent(amqp_url, *parties[NOTARY], ended[NOTARY]),
    ):
        for number in range(LATE_STARTS):
            name = bank.submit(job(f"late-{number}", epochs=1)).job
            await asyncio.sleep(ACCEPT * (1 + number / LATE_STARTS))
            async with agent(amqp_url, *parties[CARD], ended[CARD]), asyncio.timeout(SECONDS):
                while not all(name in found for found in ended.values()):  # noqa: ASYNC110 - what ends says so nowhere
                    await asyncio.sleep(0.02)
            assert {found[name].state for found in ended.values()} == {"done"}, number
            late_count += ended[BANK][name].attempts.number > 1
    assert late_count > LATE_STARTS / 2
