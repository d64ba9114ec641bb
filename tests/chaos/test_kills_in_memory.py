"""Agents that die at any message at all, in memory: what the disturbed runs over RabbitMQ try at fifty points.

A dying agent says nothing more from that moment on, and its next life finds its disk as it was then, whatever the dying
one still did to it.
"""

import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tercet.agents.core.states import TERMINAL
from tercet.agents.simulation.simulate import bit_exact, simulate_job
from tercet.broker.interface.base import Broker, Envelope
from tercet.broker.memory.broker import MemoryBroker, MemoryConnection
from tercet.schemas.files.job import Evaluation, TrainingJob
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import Round, parse_address
from tests import virtual_time
from tests.agents.recovering import OFTEN, Recovering, parts
from tests.agents.scenes import BANK, CARD, QUICK, job, scene, three
from tests.chaos.faults import FaultyBroker
from tests.chaos.plans import Plan, Point, Way, When, plan_file
from tests.chaos.scenarios import DATA, PARTIES
from tests.fixed_agent import fixed_contribution

SAID = ("received", "accept", "ready", "sizes", "start", "terms", "checkpoints", "go-on", "released")  # once each
ROUNDS = (*DATA, "release", *(f"control/{item}" for item in SAID))
PATIENCE, EPOCHS, LOSSES = 40.0, 15, "losses"
# Who is started again says so at once: no deadline needs to pass, and a busy machine has all the time it takes.
DEADLINES = QUICK.model_copy(
    update={"accept": 4.0, "ready": 4.0, "start": 8.0, "handshake": 4.0, "alignment": 4.0, "fit": 4.0, "terms": 8.0}
    | {"step": 4.0, "release": 4.0, "recover": 20.0}
)


@dataclass
class Mortals(Recovering):
    """A scene whose agents die where the plan says so, and are started again at once."""

    plans: Path = field(default=Path())

    def broker_of(self, connection: MemoryConnection) -> Broker:
        """See `Scene.broker_of`."""
        return FaultyBroker(connection, connection.party, self.plans, lambda: self.die(connection))

    def die(self, connection: MemoryConnection) -> None:
        """From here on the agent is not heard, and what it does to its disk is undone."""
        connection.disconnect()
        state = self.parties[connection.party][0].state
        was = state.with_name(f"{connection.party}-as-it-was")
        _copy(state, was)
        self.tasks.create_task(self._next_life(connection.party, state, was))

    async def _next_life(self, party: str, state: Path, was: Path) -> None:
        await self.crash(party)
        _put_back(state, was)
        await self.start(party)


def _put_back(state: Path, was: Path) -> None:
    left = state.with_name(f"{state.name}-left")
    state.rename(left)  # a thread of the dying one may be writing there still
    was.rename(state)
    shutil.rmtree(left, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """A folder as it is, while a thread is writing into it."""
    target.mkdir()
    for path in source.iterdir():
        with suppress(FileNotFoundError):
            if path.is_dir():
                _copy(path, target / path.name)
            else:
                shutil.copy2(path, target / path.name)


def description() -> TrainingJob:
    """As many steps as it takes for several checkpoints, held-out rows and losses."""
    return job(epochs=EPOCHS, evaluation=Evaluation(holdout=0.25, loss=True))


def settings_of(folder: Path) -> dict[str, Settings]:
    """Everybody's, with a checkpoint every other step."""
    return {p: own.model_copy(update={"recovery": OFTEN}) for p, own in three(folder, DEADLINES).items()}


@cache
def undisturbed() -> tuple[dict[str, Any], dict[tuple[str, Way], int]]:
    """The arrays of everybody's part and the losses; how many messages each party sends and receives on the way."""
    counts: dict[tuple[str, Way], int] = {}

    def count(envelope: Envelope) -> None:
        address = parse_address(envelope.address)
        directions: tuple[tuple[str, Way], ...] = ((address.sender, "out"), (address.receiver, "in"))
        for party, way in directions:
            if Point(party=party, rounds=ROUNDS, way=way).fits(party, way, address):
                counts[party, way] = counts.get((party, way), 0) + 1

    async def run() -> dict[str, Any]:
        own = {party: fixed_contribution(party) for party in PARTIES}
        memory_broker = MemoryBroker(tap=count)
        done = await simulate_job(description(), settings_of(folder), folder, contribute=own, broker=memory_broker)
        assert bit_exact(done)
        return {**parts(folder, done.description.id), LOSSES: done.label_run.context.history.losses}

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        return virtual_time.run(run()), counts


@st.composite
def deaths(draw: st.DrawFn) -> Plan:
    """One or two of them; the second is counted from the first."""
    _, counts = undisturbed()
    points: list[Point] = []
    for number in range(draw(st.integers(1, 2))):
        party, way = draw(st.sampled_from(sorted(counts)))
        when: When = draw(st.sampled_from(("before", "between", "after")))
        count = draw(st.integers(1, counts[party, way]))
        after = number - 1 if number else None
        points.append(Point(party=party, rounds=ROUNDS, way=way, count=count, when=when, after=after))
    return Plan(seed=0, points=tuple(points))


async def lived_through(plan: Plan, folder: Path) -> dict[str, Any]:
    """The arrays of everybody's part, and the losses, after a run in which agents die as planned."""
    async with scene(settings_of(folder), folder, make=Mortals) as stage:
        assert isinstance(stage, Mortals)
        stage.plans = folder / "plans"
        stage.plans.mkdir()
        plan_file(stage.plans, description().id).write_text(plan.model_dump_json())
        await stage.start()
        name = stage.submit(description())
        await stage.until(lambda: all(stage.state(party, name) in TERMINAL for party in PARTIES), PATIENCE)
        reported = {party: stage.agents[party].status(name) for party in PARTIES}
        assert {status.state for (status,) in reported.values()} == {"done"}, reported
        await stage.until(lambda: (BANK, name) in stage.runs)
        return {**parts(folder, name), LOSSES: stage.runs[BANK, name].context.history.losses}


def same(found: dict[str, Any]) -> None:
    """Check arrays and losses; a bank that has died after the release knows its losses no more."""
    expected, _ = undisturbed()
    for party in (BANK, CARD):
        assert found[party].keys() == expected[party].keys()
        assert all(np.array_equal(found[party][name], array) for name, array in expected[party].items())
    assert found[LOSSES] in ([], expected[LOSSES])


WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # a job that fails takes its time each time


@settings(max_examples=3, deadline=None, print_blob=True, phases=WITHOUT_SHRINKING)
@given(deaths())
def test_whoever_dies_at_whatever_message_the_model_is_the_same(plan: Plan) -> None:
    """Every word of every party's part; and no queue is left."""
    with tempfile.TemporaryDirectory() as folder:
        same(virtual_time.run(lived_through(plan, Path(folder))))


def test_a_run_has_messages_to_die_at_both_ways_at_every_party() -> None:
    """And the plan that nobody dies by changes nothing."""
    _, counts = undisturbed()
    assert set(counts) == {(party, way) for party in PARTIES for way in ("in", "out")}
    assert all(count >= 10 for count in counts.values()), counts
    with tempfile.TemporaryDirectory() as folder:
        alive = virtual_time.run(lived_through(Plan(seed=0), Path(folder)))
    assert len(alive[LOSSES]) == EPOCHS
    same(alive)


def test_the_rounds_to_die_in_are_all_there_are() -> None:
    """A round that is new is died in as well."""
    assert {name.split("/")[0] for name in ROUNDS} == {str(one) for one in Round}
