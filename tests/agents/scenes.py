"""Three agents around an in-process broker, and what a test may let befall them: hang, crash, restart, bad input.

The agents are the real ones; a scene holds their keys and settings, so that a test can also speak in a party's name.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tercet.agents.access.console import BrokerConsole
from tercet.agents.cli.runner import SWITCH_SECONDS
from tercet.agents.daemon.agent import Agent
from tercet.agents.messaging.mailbox import Tap
from tercet.agents.runs.run import JobRun
from tercet.agents.session.context import system_randomness
from tercet.agents.simulation.simulate import introduce
from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, Envelope
from tercet.broker.memory.broker import MemoryBroker, MemoryConnection
from tercet.broker.sealing.identity import Identity
from tercet.broker.sealing.seal import associated_data
from tercet.schemas.files.job import AnyJob, PredictionJob, StatisticsJob, Training, TrainingJob
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.files.settings import Deadlines, Limits, Partner, Settings, TableSettings
from tercet.schemas.files.statistics import Measures
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.kinds import JobStatus
from tests.agents.world import SCORES, few_rows

BANK, CARD, TELCO, NOTARY = "bank", "card", "telco", "notary"
ROWS, COLUMNS = 96, 6

QUICK = Deadlines(
    accept=1.0, ready=1.2, start=2.2, handshake=0.8, alignment=0.8, fit=0.8, terms=1.6, step=1.3, release=0.8,
    verdict=0.4, heartbeat=0.08, drain=0.2,
)  # fmt: skip
ONCE = Recovery(attempts=1)  # the first fault is a job's end, so that tests of faults see what is said of them
PATIENT = QUICK.model_copy(
    update={"accept": 20, "ready": 20, "start": 40, "handshake": 20, "alignment": 20, "fit": 20, "terms": 40}
    | {"step": 20, "release": 20}
)

# What no party may have sent when the input of one of them turns out to be bad.
SHARES = {
    "masked inputs", "masked labels", "masked weights", "gradient share", "pre-activation share", "masked activation",
    "mask openings", "dealt shares", "weight opening", "hidden share", "hidden answer", "error opening", "masked error",
    "weight share",
}  # fmt: skip


def make_table(
    path: Path,
    *,
    seed: int = 0,
    rows: int = ROWS,
    columns: int = COLUMNS,
    ids: Sequence[str] | None = None,
    label: bool = False,
    change: Callable[[list[dict[str, str]]], object] = lambda _: None,
) -> None:
    """Write a small table; `change` may spoil its rows first."""
    people = ids or [f"customer {row}" for row in range(rows)]
    cells = _cells(path.stem, seed, rows, columns, label=label)
    named = [{"id": one, **row} for one, row in zip(people, cells, strict=False)]
    change(named)
    lines = [",".join(named[0]), *(",".join(row.values()) for row in named)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@cache
def _cells(stem: str, seed: int, rows: int, columns: int, *, label: bool) -> list[dict[str, str]]:
    """All that a table has beside ids, row by row; to be copied."""
    source, named = random.Random(seed), []
    for _ in range(rows):
        row = {f"{stem}-{column}": f"{source.gauss():.6f}" for column in range(columns)}
        if label:
            row["default"] = str(int(float(row.get(f"{stem}-0", 0)) + source.gauss() > 0))
        named.append(row)
    return named


def job(name: str = "credit", /, **changes: Any) -> TrainingJob:
    """A job of six steps over the bank's and the card processor's tables."""
    shaping = {"epochs": 2, "batch": 32, "rate": 0.5, "l2": 0.0}
    said = {name: changes.pop(name, usual) for name, usual in shaping.items()}
    said |= {name: changes.pop(name) for name in ("weights", "class_weights") if name in changes}
    training = Training.model_validate(said)
    fields: dict[str, Any] = {
        "name": name,
        "model": "logistic",
        "label": BANK,
        "helper": NOTARY,
        "tables": ((BANK, "customers"), (CARD, "customers")),
        "training": training,
        "privacy": SCORES,
        "accept_narrow": "evaluation" in changes,  # tables so small allow one scoring otherwise
    }
    return TrainingJob.model_validate(fields | changes)


def prediction(of: str, /, **changes: Any) -> PredictionJob:
    """Scores of the same tables' rows by the model of a job that is done."""
    fields = {"kind": "prediction", "name": "scores", "of": of, "label": BANK, "helper": NOTARY}
    tables = ((BANK, "customers"), (CARD, "customers"))
    return PredictionJob.model_validate(fields | {"tables": tables} | changes)


def statistics(**measures: Any) -> StatisticsJob:
    """Statistics of the same tables."""
    fields = {"kind": "statistics", "name": "look", "label": BANK, "helper": NOTARY}
    tables = ((BANK, "customers"), (CARD, "customers"))
    return StatisticsJob.model_validate(fields | {"tables": tables, "statistics": Measures(**measures)})


def party_settings(folder: Path, party: str, deadlines: Deadlines = QUICK, **changes: Any) -> Settings:
    """A party's settings; data parties have a table `customers` in the folder, the bank's with a label."""
    path = folder / f"{party}.csv"
    label = "default" if party == BANK else None
    tables = {} if party == NOTARY else {"customers": TableSettings(path=path, id="id", label=label, whiten=False)}
    fields: dict[str, Any] = {
        "party": party,
        "role": "helper" if party == NOTARY else "data",
        "identity": folder / f"{party}.key",
        "state": folder / party,
        "tables": tables,
        "deadlines": deadlines,
        "recovery": ONCE,
        "limits": few_rows(Limits()),
        "report": False,
        "policy": PolicySettings(narrow=True, helper_sees="scores"),
    }
    return Settings.model_validate(fields | changes)


def make_narrow(path: Path) -> None:
    """Make a table's columns yes and no, all but three of them the same as one before."""
    names, *rows = (line.split(",") for line in path.read_text().splitlines())
    for row in rows:
        for place, name in enumerate(names):
            if name not in {"id", "label"}:
                row[place] = str(int(float(row[1 + (place - 1) % 3]) > 0))
    path.write_text("\n".join(",".join(row) for row in (names, *rows)) + "\n")


def three(folder: Path, deadlines: Deadlines = QUICK) -> dict[str, Settings]:
    """The settings of a bank, a card processor and a notary, and their tables."""
    folder.mkdir(exist_ok=True)
    make_table(folder / f"{BANK}.csv", seed=1, label=True)
    make_table(folder / f"{CARD}.csv", seed=2)
    return {party: party_settings(folder, party, deadlines) for party in (BANK, CARD, NOTARY)}


def four(folder: Path) -> dict[str, Settings]:
    """As `three`, with a telephone company's too."""
    settings = three(folder)
    make_table(folder / f"{TELCO}.csv", seed=3)
    return settings | {TELCO: party_settings(folder, TELCO, QUICK)}


@dataclass
class Scene:
    """The parties of a test. `change` or `impersonate` one, `start` them, `submit`, and see what becomes of it."""

    parties: dict[str, tuple[Settings, Identity]]
    memory_broker: MemoryBroker
    tasks: asyncio.TaskGroup
    tap: Tap | None = None
    draws: Callable[[str], Callable[[], bytes]] = lambda _: system_randomness  # by party
    envelopes: list[Envelope] = field(default_factory=list)
    agents: dict[str, Agent] = field(default_factory=dict)
    runs: dict[tuple[str, str], JobRun] = field(default_factory=dict)  # those that have ended, by party and job
    _living: dict[str, tuple[asyncio.Event, "asyncio.Task[None]", MemoryConnection]] = field(default_factory=dict)
    _holds: ExitStack = field(default_factory=ExitStack)

    # --- before the agents start

    def change(self, party: str, **changes: Any) -> None:
        """Other settings for one party."""
        settings, identity = self.parties[party]
        self.parties[party] = (settings.model_copy(update=changes), identity)

    def pin(self, party: str, partner: str, **changes: Any) -> None:
        """What one party's settings say of a partner."""
        partners = self.parties[party][0].partners
        self.change(party, partners=partners | {partner: partners[partner].model_copy(update=changes)})

    def forget(self, party: str, partner: str) -> None:
        """A party's settings do not list this partner."""
        self.change(party, partners={p: k for p, k in self.parties[party][0].partners.items() if p != partner})

    # --- agents

    async def start(self, *parties: str) -> None:
        """Start the agents of these parties, or of all."""
        for party in parties or tuple(self.parties):
            settings, identity = self.parties[party]
            connection, stop = self.memory_broker.connect(party), asyncio.Event()
            agent = Agent(
                settings, identity, self.broker_of(connection), contribute=self.draws(party), tap=self.tap,
                finished=self._finished,
            )  # fmt: skip
            task = self.tasks.create_task(self._serve(agent, connection, stop))
            self.agents[party], self._living[party] = agent, (stop, task, connection)
            await agent.ready.wait()

    def connection(self, party: str) -> MemoryConnection:
        """The connection of an agent that lives."""
        return self._living[party][2]

    def broker_of(self, connection: MemoryConnection) -> Broker:
        """The agent's access to the broker; a test may put something in between."""
        return connection

    async def _serve(self, agent: Agent, connection: MemoryConnection, stop: asyncio.Event) -> None:
        try:
            await agent.serve(stop)
        finally:
            await connection.close()

    def _finished(self, run: JobRun) -> None:
        self.runs[run.context.me, run.job.id] = run

    async def stop(self, *parties: str) -> None:
        """What SIGTERM does; returns when the agents have left."""
        leaving = [self._living.pop(party) for party in parties or tuple(self._living)]
        for stop, _, _ in leaving:
            stop.set()
        await asyncio.gather(*(task for _, task, _ in leaving))

    async def crash(self, party: str) -> None:
        """What a power cut does: the connection is gone first, so nothing can be said or cleared any more."""
        _, task, connection = self._living.pop(party)
        connection.disconnect()
        task.cancel()
        await asyncio.wait([task])
        for key in [key for key in self.runs if key[0] == party]:
            del self.runs[key]

    def hang(self, party: str) -> None:
        """From now on the party neither hears nor says anything."""
        if not self.memory_broker.is_held(party):
            self._holds.enter_context(self.memory_broker.hold(party))

    def wake(self) -> None:
        """Who hung goes on."""
        self._holds.close()

    @asynccontextmanager
    async def console(self, party: str) -> AsyncIterator[BrokerConsole]:
        """A console of a party, on a connection of its own."""
        async with BrokerConsole(party, self.parties[party][1], self.memory_broker.connect(party)) as console:
            yield console

    # --- jobs

    def submit(self, description: AnyJob, party: str = BANK) -> str:
        """Submit a job at a party; its id."""
        return self.agents[party].submit(description).job

    async def ended(self, job_id: str, *parties: str, seconds: float = 60.0) -> dict[str, JobStatus]:
        """The job's status at each of these parties (or all that live), once it has ended at all of them."""
        names = parties or tuple(self._living)
        await self.until(lambda: all((party, job_id) in self.runs for party in names), seconds)
        return {party: self.runs[party, job_id].status() for party in names}

    async def until(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        """Return when something holds."""
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - what holds is told by no event
                await asyncio.sleep(0.005)

    async def run(self, description: AnyJob, party: str = BANK) -> dict[str, JobStatus]:
        """Start everybody, unless they live, submit a job, and see how it ends everywhere."""
        if not self._living:
            await self.start()
        return await self.ended(self.submit(description, party))

    def state(self, party: str, job_id: str) -> str:
        """Where a job is at a party; empty if it is not known there."""
        found = self.agents[party].status(job_id)
        return found[0].state if found else ""

    # --- what can be seen and said

    def said(self, *kinds: str) -> list[Envelope]:
        """What has been handed to the broker of these kinds."""
        return [envelope for envelope in self.envelopes if envelope.kind in kinds]

    def left_queues(self) -> set[str]:
        """Queues at the broker beside the standing ones."""
        return {name for name in self.memory_broker.queues if not name.endswith(".jobs")}

    def forge(self, sender: str, receiver: str, job_id: str, kind: str, item: str, body: bytes) -> Envelope:
        """A control message with any body, validly sealed in the sender's name."""
        address = Address(job_id, 1, Round.CONTROL, item, 0, 0, sender, receiver)
        known = self.agents[receiver].jobs.last_run.get(job_id)
        run = known.run if known is not None and kind != "job" else b""
        sealed = self.parties[sender][1].seal(
            body, self.parties[receiver][1].public, associated_data(str(address), kind, run)
        )
        return Envelope(
            exchange=topology.exchange(sender),
            routing_key=topology.routing_key(job_id, Round.CONTROL, receiver),
            body=sealed,
            kind=kind,
            address=str(address),
            job=job_id,
            sender=sender,
        )


@pytest.fixture(autouse=True)
def quick_switches() -> Iterator[None]:
    """What the command line sets: each party's maths thread soon hands the interpreter back."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


@asynccontextmanager
async def scene(
    settings: Mapping[str, Settings], folder: Path, *, make: type[Scene] = Scene, **memory_broker: Any
) -> AsyncIterator[Scene]:
    """Set a scene; at the end all agents leave, and no queue of a job may be left."""
    async with asyncio.TaskGroup() as tasks:
        place = MemoryBroker(**memory_broker)
        own_tap = place.tap
        stage = make(introduce(settings, folder), place, tasks)

        def look(envelope: Envelope) -> None:
            stage.envelopes.append(envelope)
            own_tap(envelope)

        place.tap = look
        try:
            yield stage
        finally:
            stage.wake()
            await stage.stop()
    assert stage.left_queues() == set()


def on(stage: Scene, trigger: Callable[[Envelope], bool], then: Callable[[], object]) -> None:
    """Do something right after the first envelope that is so."""
    look, done = stage.memory_broker.tap, False

    def tap(envelope: Envelope) -> None:
        nonlocal done
        look(envelope)
        if not done and trigger(envelope):
            done = True
            asyncio.get_running_loop().call_soon(then)

    stage.memory_broker.tap = tap


def stranger() -> Partner:
    """A key that belongs to nobody in the scene."""
    return Partner(key=str(Identity.generate().public))


def off(statuses: Mapping[str, JobStatus], code: str, culprit: str) -> str:
    """Check that the job failed at every party with one reason; returns the reason."""
    reported = {party: (status.state, status.failure) for party, status in statuses.items()}
    for state, failure in reported.values():
        assert state == "failed", reported
        assert failure is not None
        assert (failure.code, failure.culprit) == (code, culprit), reported
    reasons = {failure.reason for _, failure in reported.values() if failure is not None}
    assert len(reasons) == 1, reasons
    return reasons.pop()


def nothing_left(stage: Scene) -> None:
    """Check that no share of anything has been handed to the broker."""
    assert {envelope.kind for envelope in stage.envelopes} & SHARES == set()
