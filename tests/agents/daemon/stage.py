"""Agents of a bank, a card processor and a notary that are up, around a broker in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tercet.schemas.files.settings import Deadlines
from tests.agents.scenes import QUICK, Scene, scene, three


@asynccontextmanager
async def started(folder: Path, *parties: str, deadlines: Deadlines = QUICK) -> AsyncIterator[Scene]:
    """A scene of all three, in which those of these parties have started, or of all."""
    async with scene(three(folder, deadlines), folder) as stage:
        await stage.start(*parties)
        yield stage
