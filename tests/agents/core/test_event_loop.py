"""A loop of one's own runs beside another one, and ends with all that runs on it."""

import asyncio
import threading

import pytest

from tercet.agents.core.event_loop import background_loop


async def answer() -> int:
    """A coroutine that needs a loop."""
    await asyncio.sleep(0)
    return 42


def test_it_runs_where_no_loop_runs() -> None:
    with background_loop() as run:
        assert (run(answer()), run(answer())) == (42, 42)
    assert not [thread for thread in threading.enumerate() if thread.name == "tercet"]


@pytest.mark.real_time
async def test_it_runs_where_a_loop_runs_already() -> None:
    """As in a notebook."""
    with background_loop() as run:
        assert run(answer()) == 42


def test_an_error_of_a_group_comes_alone() -> None:
    async def fail() -> None:
        async with asyncio.TaskGroup() as inner:
            inner.create_task(answer())
            raise KeyError("mine")

    with background_loop() as run, pytest.raises(KeyError, match="mine"):
        run(fail())
    assert not [thread for thread in threading.enumerate() if thread.name == "tercet"]


def test_what_is_left_is_cancelled() -> None:
    """Whoever leaves early, by Ctrl-C say, leaves no task behind."""
    ended = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def spawn() -> "asyncio.Task[None]":
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        return task

    with background_loop() as run:
        task = run(spawn())
    assert task.cancelled()
    assert ended == [True]
