"""Many small jobs through the same three agents over RabbitMQ, some at a time, each of which has to end as planned.

It speaks to the agents as their operators' consoles do, and looks into none of them.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

from tercet.agents.access.broker import connect
from tercet.agents.access.console import BrokerConsole
from tercet.agents.access.no_agent import NoAgent
from tercet.agents.core.states import TERMINAL
from tercet.broker.sealing.identity import load_identity
from tercet.schemas.files.settings import read_settings
from tercet.schemas.messages.kinds import JobStatus, Status
from tests.deployment import Deployment
from tests.soak.jobs import TABLES, Planned, first, planned, write_tables

PATIENCE = 120.0  # seconds for one job, with others beside it on a busy machine
POLL_SECONDS = 0.8  # each question goes through the broker, and is sealed and signed
TRIES = 6  # each of ten seconds
SETTINGS = """
[deadlines]
verdict = 2
heartbeat = 0.5
[policy]
narrow = true
helper_sees = "scores"
[limits]
parallel_jobs = 64
min_scored_rows = 1
"""


@contextmanager
def agents(folder: Path, url: str) -> Iterator[Deployment]:
    """Three agents that are up, and tell what they hold."""
    write_tables(folder)
    with Deployment(folder, url, TABLES, "notary", extra=SETTINGS, module=("-m", "tests.soak.agent")) as three:
        three.start()
        three.wait_until_up()
        yield three


class Operators:
    """A console at each party, each with one question at a time."""

    def __init__(self, consoles: dict[str, BrokerConsole]) -> None:
        self._consoles = consoles
        self._locks = {party: asyncio.Lock() for party in consoles}

    async def ask(self, party: str, question: Callable[[BrokerConsole], Awaitable[Status]]) -> Status:
        """What a party's agent answers; it is asked again where a busy machine takes too long."""
        for _ in range(TRIES):
            with suppress(NoAgent):
                async with self._locks[party]:
                    return await question(self._consoles[party])
        raise AssertionError(f"{party} does not answer")

    async def until(self, party: str, job: str, *states: str) -> JobStatus:
        """A job's status at a party, once it is in one of these states."""
        end = time.monotonic() + PATIENCE
        found: tuple[JobStatus, ...] = ()
        while time.monotonic() < end:
            found = (await self.ask(party, lambda console: console.query(job))).jobs  # none while it is on its way
            if found and found[0].state in states:
                return found[0]
            await asyncio.sleep(POLL_SECONDS)
        everywhere = {one: await self.ask(one, lambda console: console.query(job)) for one in self._consoles}
        raise AssertionError(f"{job} at {party} is in none of the states {states}: {everywhere}")

    async def run(self, plan: Planned) -> str:
        """A job from its submission to its end at every party; its id."""
        submitted = await self.ask(plan.submitter, lambda console: console.submit(plan.description))
        assert submitted.problem is None, submitted.problem
        job = submitted.jobs[0].job
        if plan.cancel:
            await self.until("notary", job, "training")
            await self.ask("card", lambda console: console.query(job, cancel=True))
        for party in self._consoles:
            ended = await self.until(party, job, *TERMINAL)
            code = None if ended.failure is None else ended.failure.code
            assert (ended.state, code) == plan.expected, f"{job} at {party}: {ended.state}, {ended.failure}"
        return job


@asynccontextmanager
async def operators(deployment: Deployment) -> AsyncIterator[Operators]:
    """Consoles of all parties, connected until the block ends."""
    async with AsyncExitStack() as stack:
        consoles = {}
        for party in deployment.parties:
            settings = read_settings(deployment.settings(party))
            broker = await connect(settings, "console")
            consoles[party] = await stack.enter_async_context(
                BrokerConsole(party, load_identity(settings.identity), broker)
            )
        yield Operators(consoles)


async def _all(deployment: Deployment, plans: Iterable[Planned], parallel: int) -> list[str]:
    waiting = iter(plans)
    async with operators(deployment) as people:

        async def one_after_another() -> list[str]:
            return [await people.run(plan) for plan in waiting]

        return list(itertools.chain(*await asyncio.gather(*(one_after_another() for _ in range(parallel)))))


def soak(deployment: Deployment, numbers: Iterable[int], of: str, parallel: int) -> list[str]:
    """Run the jobs of these numbers, so many at a time; their ids.

    Raises:
        AssertionError: one of them did not end as planned.
    """
    return asyncio.run(_all(deployment, (planned(number, of) for number in numbers), parallel))


def train_first(deployment: Deployment) -> str:
    """Run the training that predictions are made with; its id."""
    (job,) = asyncio.run(_all(deployment, [first()], 1))
    return job


def complaints(deployment: Deployment) -> list[str]:
    """What agents have logged of errors of their own."""
    lines = [line for party in deployment.parties for line in deployment.log(party)]
    return [json.dumps(line) for line in lines if "error of our own" in line["event"]]
