"""The tests' clock: it jumps while nobody does anything, and waits for whoever does."""

import asyncio
import threading
import time

import pytest

from tests import virtual_time


def test_an_hour_of_sleep_takes_no_time() -> None:
    """And the timers of an hour end in their order."""
    ended: list[int] = []

    async def sleep(minutes: int) -> None:
        await asyncio.sleep(60 * minutes)
        ended.append(minutes)

    async def all_of_them() -> float:
        await asyncio.gather(*(sleep(minutes) for minutes in (60, 1, 20)))
        return asyncio.get_running_loop().time()

    since = time.monotonic()
    assert virtual_time.run(all_of_them()) == pytest.approx(3600, abs=1)
    assert time.monotonic() - since < 60
    assert ended == [1, 20, 60]


def test_a_thread_that_works_is_waited_for() -> None:
    """A deadline that is as long as it works, a few times over, has not passed."""

    async def work() -> str:
        async with asyncio.timeout(0.05):
            await asyncio.to_thread(time.sleep, 0.2)
        return "done"

    for _ in range(5):
        assert virtual_time.run(work(), threads=True) == "done"


def test_a_thread_that_never_ends_does_not_stop_the_clock() -> None:
    """Its deadline passes, later."""

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.to_thread(time.sleep, 1)

    virtual_time.run(work(), threads=True)


def test_a_machine_that_stands_still_costs_nobody_a_deadline() -> None:
    """However long one turn of the loop takes."""

    async def work() -> None:
        async with asyncio.timeout(0.1):
            time.sleep(0.3)  # noqa: ASYNC251 - what another process may do to this one
            await asyncio.sleep(0.05)

    virtual_time.run(work())


def test_the_end_waits_for_threads_as_long_as_they_take() -> None:
    """From Python 3.12 on `asyncio.run` gives them 300 seconds, which virtual time would let pass at once."""
    ended = threading.Event()

    def work() -> None:
        time.sleep(0.2)
        ended.set()

    async def leave_it() -> None:
        asyncio.get_running_loop().run_in_executor(None, work)

    virtual_time.run(leave_it(), threads=True)
    assert ended.is_set()


def test_what_is_meant_for_a_thread_runs_in_a_turn_of_the_loop() -> None:
    """With its result, its error, and not at all once nobody waits."""
    ran: list[int] = []

    async def work() -> None:
        loop, me = asyncio.get_running_loop(), threading.get_ident()
        assert await asyncio.to_thread(threading.get_ident) == me
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)
        loop.run_in_executor(None, ran.append, 1).cancel()
        await asyncio.sleep(1)

    virtual_time.run(work())
    assert ran == []
