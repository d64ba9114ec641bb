"""Agents that serve single rows by a model trained in one process, and what a test may ask of them."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.messages.kinds import Failure, ScoreQuery, ScoreReply
from tests.agents.recording import Tables
from tests.agents.roles.test_prediction import newcomers, trained
from tests.agents.scenes import Scene, scene
from tests.agents.world import HELPER, PERSON, Sample, write_table

TWO = Sample(columns=(4, 3))
THREE = Sample(columns=(3, 3, 3), seed=1)
CLASSES = Sample(columns=(3, 3), model="softmax", seed=2)
READING = "serving.reading"


@cache
def model_folder(sample: Sample) -> Path:
    """A folder with the parties' parts of a model; the process's own temporary folder, a few files."""
    folder = Path(mkdtemp())
    trained(sample, folder)
    return folder


def copy_of(sample: Sample, folder: Path) -> Tables:
    """Put the parts of a trained model and tables of new rows into a folder."""
    shutil.copytree(model_folder(sample), folder, dirs_exist_ok=True)
    tables = newcomers(sample)
    for party, table in tables.items():
        write_table(folder / f"{party}.csv", table)
    return tables


def known_ids(sample: Sample, folder: Path) -> list[str]:
    """The same; the ids that all parties have."""
    return ids_of(copy_of(sample, folder), *sample.parties)


@asynccontextmanager
async def serving(
    sample: Sample, folder: Path, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> AsyncIterator[Scene]:
    """The data parties' agents, in a folder as `copy_of` leaves it; `changes` of each partner's table."""
    settings = {party: own for party, own in sample.settings(folder).items() if party != HELPER}
    for party, rows in newcomers(sample).items():  # as `settings` has written other ones
        write_table(folder / f"{party}.csv", rows)
    for party, changed in (changes or {}).items():
        table = settings[party].tables["people"].model_copy(update=changed)
        settings[party] = settings[party].model_copy(update={"tables": {"people": table}})
    async with scene(settings, folder) as stage:
        label = sample.parties[sample.label]
        for party in sample.parties:
            if party != label:
                stage.pin(party, label, serving_table="people")
        await stage.start()
        yield stage


def query(sample: Sample, ids: Sequence[str], **changes: Any) -> ScoreQuery:
    """A question of the label party's server."""
    fields = {"model": sample.description().id, "table": "people", "purpose": "", "ids": tuple(ids)}
    return ScoreQuery.model_validate(fields | changes)


async def ask(stage: Scene, sample: Sample, ids: Sequence[str], **changes: Any) -> ScoreReply:
    """What comes back, once all tables are read."""
    agent = stage.agents[sample.parties[sample.label]]
    while True:
        reply = await agent.answer_local(query(sample, ids, **changes))
        assert isinstance(reply, ScoreReply)
        if reply.failure is None or reply.failure.code != READING:
            return reply
        await asyncio.sleep(0.01)


async def failure(stage: Scene, sample: Sample, ids: Sequence[str], **changes: Any) -> Failure:
    """Why there is no score."""
    reply = await ask(stage, sample, ids, **changes)
    assert reply.failure is not None
    return reply.failure


async def scores(stage: Scene, sample: Sample, ids: Sequence[str], **changes: Any) -> dict[str, Floats]:
    """The scores of those rows that have some."""
    reply = await ask(stage, sample, ids, **changes)
    assert reply.failure is None, reply.failure
    found = np.frombuffer(reply.scores).reshape(len(ids), reply.outputs)
    return {one: score for one, score, known in zip(ids, found, reply.known, strict=True) if known}


def ids_of(tables: Tables, *parties: str) -> list[str]:
    """The ids that these parties all have, in the first one's order."""
    return [one for one in tables[parties[0]][PERSON] if all(one in tables[party][PERSON] for party in parties)]
