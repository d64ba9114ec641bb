"""A RabbitMQ that is short of memory: an idle agent, the doctor and the command line all say so, and go on after it."""

import asyncio
from collections.abc import Callable

import pytest

from tercet.agents.access import console
from tercet.agents.access.broker import connect
from tercet.agents.access.identity import own_identity
from tercet.agents.cli.own_agent import _converse
from tercet.agents.daemon import health
from tercet.agents.daemon.agent import Agent
from tercet.agents.daemon.health import look_for_alarms, readiness_problems
from tercet.agents.doctor.finding import Outcome
from tercet.agents.doctor.run import examine
from tercet.broker.interface.base import ALARM_REMEDY, Blocked
from tercet.broker.rabbitmq.link import RPC_SECONDS
from tercet.schemas.files.settings import read_settings
from tests.daemons.test_doctor import Place
from tests.daemons.test_doctor import place as place  # a fixture
from tests.guarded import Guarded
from tests.rabbitmq_node import short_of_memory

LOW = "it is low on memory"


async def test_a_memory_alarm_is_told_by_agent_doctor_and_command_line(
    place: Place, guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that has nothing to say at the time finds it out all the same, and is ready again afterwards."""
    monkeypatch.setattr(health, "ALARM_SECONDS", 0.1)
    monkeypatch.setattr(console, "ANSWER_SECONDS", 1.0)
    settings = read_settings(place.settings())
    broker, stop = await connect(settings), asyncio.Event()
    agent = Agent(settings, own_identity(settings), broker)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(agent.serve(stop))
        looking = tasks.create_task(look_for_alarms(agent, broker))
        await agent.ready.wait()
        assert readiness_problems(agent, broker) == []
        async with short_of_memory(guarded.node):
            await _until(lambda: readiness_problems(agent, broker) == [f"the broker takes no messages: {LOW}"])
            found = [finding async for finding in examine(place.settings())][-1]
            assert (found.check, found.outcome, found.hint) == ("alarm", Outcome.FAIL, ALARM_REMEDY)
            assert LOW in found.said
            with pytest.raises(Blocked, match=LOW):  # and before a question of the broker's own could be over
                await asyncio.wait_for(_converse(settings, lambda talk: talk.query()), RPC_SECONDS - 5)
        await _until(lambda: readiness_problems(agent, broker) == [])
        answer = await _converse(settings, lambda talk: talk.query())
        assert answer.jobs == ()
        looking.cancel()
        stop.set()
        await serving
    await broker.close()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what holds is told by no event
            await asyncio.sleep(0.02)
