"""What takes long to make is made once, one at a time, and by the settings that hold."""

import asyncio
from threading import Event

import pytest

from tercet.agents.core.problems import JobProblem
from tercet.agents.serving.readings import Readings


class Reader:
    """Readings, and the tasks that make them."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.readings: Readings[str] = Readings("card", lambda made: self.tasks.append(asyncio.ensure_future(made)))

    def begin(self, model: str, made: str, go: Event | None = None) -> None:
        """Ask for what is not there yet; it is made once it may."""

        def make() -> str:
            return made if go is None or go.wait(10) else "no leave"

        with pytest.raises(JobProblem, match=r"serving\.reading"):
            self.readings.find((model,), make)


async def test_what_began_before_settings_changed_is_dropped() -> None:
    """It is made anew by the settings that hold."""
    reader, go = Reader(), Event()
    reader.begin("a", "old", go)
    reader.readings.clear()
    go.set()
    await reader.tasks[0]
    reader.begin("a", "new")
    await reader.tasks[1]
    assert reader.readings.find(("a",), str) == "new"


async def test_one_is_made_at_a_time() -> None:
    """Who asks for another one meanwhile asks again."""
    reader, go = Reader(), Event()
    reader.begin("a", "first", go)
    reader.begin("b", "second")
    assert len(reader.tasks) == 1
    go.set()
    await reader.tasks[0]
    reader.begin("b", "second")
    await reader.tasks[1]
    assert [reader.readings.find((name,), str) for name in ("a", "b")] == ["first", "second"]
