"""Scenes of jobs that go on after a fault: fixed draws, frequent checkpoints, a helper that may stand by.

What the parties say before it is sealed is noted; nothing here decides whether a job went right.
"""

import errno
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tercet.agents.models import model_part
from tercet.agents.roles.data_party import TrainingSetup
from tercet.agents.runs.run import JobRun
from tercet.agents.session.checkpoint_store import SUFFIX, checkpoint_folder
from tercet.agents.session.history import History
from tercet.agents.simulation.simulate import Simulation, bit_exact
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import JobStatus, Message
from tests import virtual_time
from tests.agents.scenes import BANK, CARD, NOTARY, QUICK, Scene, job, party_settings, scene, three
from tests.fixed_agent import fixed_contribution

STANDBY = "notary2"
DATA, THREE, FOUR = (BANK, CARD), (BANK, CARD, NOTARY), (BANK, CARD, NOTARY, STANDBY)
DEADLINES = QUICK.model_copy(update={"recover": 20.0, "takeover": 0.5, "drain": 0.02})
OFTEN = Recovery(checkpoint_steps=2, checkpoint_seconds=0.01)
LONG = 4  # epochs of three steps: long enough for checkpoints on the way

Said = tuple[Address, Message]
Parts = Mapping[str, Mapping[str, Any]]


@dataclass
class Recovering(Scene):
    """A scene in which each party draws the same in each run, and what is said is noted."""

    said_openly: list[Said] = field(default_factory=list)
    draws: Callable[[str], Callable[[], bytes]] = fixed_contribution

    def __post_init__(self) -> None:
        self.tap = self.note

    def note(self, address: Address, message: Message) -> Message:
        """Note what is said before it is sealed."""
        self.said_openly.append((address, message))
        return message

    def run_of(self, party: str, job_id: str) -> JobRun:
        """A run that has not ended."""
        return next(run for run in self.agents[party].runs if run.job.id == job_id)

    def where(self, job_id: str, *parties: str) -> set[str]:
        """The states of a job at these parties, or at all that live."""
        return {self.state(party, job_id) for party in parties or tuple(self._living)}

    async def at(self, state: str, job_id: str, *parties: str) -> None:
        """Return when the job is in this state at these parties, or at all that live."""
        await self.until(lambda: self.where(job_id, *parties) == {state})

    async def saved(self, job_id: str, more_than: int = 0) -> None:
        """Return when both data parties have a checkpoint of this training that goes beyond so many steps."""
        await self.until(lambda: all(furthest(self.state_folder(party), job_id) > more_than for party in DATA))

    async def begun(self, description: TrainingJob, more_than: int = 0) -> str:
        """Start a job, and everybody unless they live; its id, once `saved`."""
        if not self._living:
            await self.start()
        name = self.submit(description)
        await self.saved(name, more_than)
        return name

    async def exact(self, job_id: str) -> dict[str, JobRun]:
        """The runs of a job's parties, once it is done at all of them, with the oracle's model."""
        status = (await self.ended(job_id, BANK, seconds=20))[BANK]
        ended = await self.ended(job_id, *DATA, status.helper, seconds=20)
        assert states(ended) == {"done"}
        runs = {party: self.runs[party, job_id] for party in ended}
        assert bit_exact(Simulation(runs[BANK].job.description.helped_by(status.helper), runs))
        return runs

    def state_folder(self, party: str) -> Path:
        """Of a party as it is now."""
        return self.parties[party][0].state

    async def start_patiently(self, party: str) -> None:
        """Start an agent that has time to ask the others how a job has ended."""
        deadlines = self.parties[party][0].deadlines
        self.change(party, deadlines=deadlines.model_copy(update={"recover": DEADLINES.recover}))
        await self.start(party)

    async def restart(self, *parties: str) -> None:
        """A crash, and another life at once."""
        for party in parties:
            await self.crash(party)
        await self.start(*parties)


def recovering(
    folder: Path, *parties: str, recovery: Recovery = OFTEN, **deadlines: float
) -> AbstractAsyncContextManager[Recovering]:
    """A scene with agents of these parties, three by default, to be started."""
    settings = settings_of(folder, recovery, **deadlines)
    chosen = {party: settings[party] for party in parties or THREE}
    return scene(chosen, folder, make=Recovering)  # type: ignore[return-value]


def settings_of(folder: Path, recovery: Recovery = OFTEN, **deadlines: float) -> dict[str, Settings]:
    """Everybody's, the helper that stands by among them."""
    waits = DEADLINES.model_copy(update=deadlines)
    settings = three(folder, waits)
    other = {"party": STANDBY, "identity": folder / f"{STANDBY}.key", "state": folder / STANDBY}
    settings[STANDBY] = party_settings(folder, NOTARY, waits).model_copy(update=other)
    return {party: own.model_copy(update={"recovery": recovery}) for party, own in settings.items()}


class Undisturbed(NamedTuple):
    """What comes of a job: the arrays of the data parties' parts, and what the label party learns on the way."""

    parts: Parts
    history: History


def long_job(name: str = "credit", /, **changes: Any) -> TrainingJob:
    """A job with time for a few checkpoints."""
    return job(name, **({"epochs": LONG} | changes))


def files(state: Path, job_id: str) -> list[Path]:
    """The checkpoints of a job, the last first."""
    return sorted(checkpoint_folder(state, job_id).glob(f"*{SUFFIX}"), reverse=True)


def furthest(state: Path, job_id: str) -> int:
    """How many steps are done at the last checkpoint; 0 without one."""
    return max((int(path.name.split("-")[0]) for path in files(state, job_id)), default=0)


def fill_disk(patch: pytest.MonkeyPatch, pattern: str = "*") -> None:
    """Let the disk take no file whose path ends like this pattern."""
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().match(pattern):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    patch.setattr(os, "fsync", full)


def states(ended: Mapping[str, JobStatus]) -> set[str]:
    """What the parties say of a job."""
    return {status.state for status in ended.values()}


def setup_of(run: JobRun) -> TrainingSetup:
    """What a data party trains with, or has trained with."""
    assert isinstance(run.reached, TrainingSetup)
    return run.reached


def parts(folder: Path, job_id: str) -> Parts:
    """The arrays of the data parties' model parts."""
    return {party: model_part.load(folder / party / "models" / job_id)[1] for party in DATA}


def same_parts(one: Parts, other: Parts) -> bool:
    """Word for word, but for shares and what was opened of them, whose masks are fresh in each attempt."""
    fresh = ("share", "opened", "weight_mask_seed")
    return all(
        one[party].keys() == other[party].keys()
        and all(np.array_equal(a, other[party][name]) for name, a in one[party].items() if not name.startswith(fresh))
        for party in DATA
    )


@cache
def undisturbed(description: TrainingJob) -> Undisturbed:
    """What comes of a job that nothing happens to."""

    async def run() -> Undisturbed:
        with tempfile.TemporaryDirectory() as place:
            async with recovering(Path(place), *description.everybody) as stage:
                assert states(await stage.run(description)) == {"done"}
                history = stage.runs[BANK, description.id].context.history
                return Undisturbed(parts(Path(place), description.id), history)

    with ThreadPoolExecutor(1) as thread:  # which has no event loop yet
        return thread.submit(virtual_time.run, run()).result()


def attempts_of(said: Sequence[Said], kind: str) -> set[int]:
    """The attempts in which something of this kind was said."""
    return {address.attempt for address, message in said if message.kind == kind}
