"""Runs all parties of a job in one process, with the plaintext oracle beside them.

The same agents as in production; only the keys are fresh and the broker is memory. The simulator alone may look at
everything, which is how it can tell whether the joint model is the oracle's to the last bit.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tercet.agents.alignment.scored_ids import forget_run
from tercet.agents.daemon.agent import Agent
from tercet.agents.jobs.records import Records
from tercet.agents.messaging.mailbox import Tap
from tercet.agents.runs.run import JobRun
from tercet.agents.session.checkpoint_store import discard_checkpoints
from tercet.agents.session.context import system_randomness
from tercet.agents.simulation.exactness import (
    Simulation,
    bit_exact,
    data_roles,
    joint_words,
    network_arguments,
    network_words,
    oracle_words,
    training_words,
)
from tercet.broker.interface.base import Broker
from tercet.broker.memory.broker import MemoryBroker
from tercet.broker.sealing.identity import Identity
from tercet.schemas.files.job import AnyJob
from tercet.schemas.files.settings import Partner, Settings
from tercet.schemas.messages.kinds import JobStatus

__all__ = [
    "Simulation",
    "Watch",
    "bit_exact",
    "data_roles",
    "introduce",
    "joint_words",
    "network_arguments",
    "network_words",
    "oracle_words",
    "simulate_job",
    "summary",
    "training_words",
]

Watch = Callable[[JobStatus], None]
WATCH_SECONDS = 0.1


def introduce(settings: Mapping[str, Settings], folder: Path) -> dict[str, tuple[Settings, Identity]]:
    """Give the parties fresh keys, pin each other's, and put their state under `folder`."""
    identities = {party: Identity.generate() for party in settings}
    introduced = {}
    for party, own in settings.items():
        partners = {p: _introduce_party(own, p, i) for p, i in identities.items() if p != party}
        changes = {"partners": partners, "state": folder / party}
        introduced[party] = (own.model_copy(update=changes), identities[party])
    return introduced


def _introduce_party(settings: Settings, party: str, identity: Identity) -> Partner:
    """Add missing partners to the settings; they may submit, but hold no model."""
    listed = settings.partners.get(party)
    may_hold = listed is not None and listed.may_hold_model
    return Partner(key=str(identity.public), may_submit=True, may_hold_model=may_hold)


def _forget(state: Path, job: str) -> None:
    """Remove traces of an earlier simulation of this job: run, scored rows, checkpoints."""
    records = Records(state / "jobs")
    earlier = records.find(job)
    if earlier is not None:
        forget_run(state, earlier.job.run)
    records.forget(job)
    discard_checkpoints(state, job)


async def simulate_job(
    description: AnyJob,
    settings: Mapping[str, Settings],
    folder: Path,
    *,
    watch: Watch = lambda _: None,
    contribute: Mapping[str, Callable[[], bytes]] | None = None,
    tap: Tap | None = None,
    broker: MemoryBroker | None = None,
) -> Simulation:
    """Run a job with all its parties in this process; state goes under `folder`.

    Where settings ask a person to approve, nobody is asked: there is nobody who could.
    `contribute` and `tap` are for tests: sources of the order key, and a look at (or a hand on) what is sent.
    """
    broker = broker or MemoryBroker()
    simulation, stop = Simulation(description), asyncio.Event()
    started = asyncio.get_running_loop().time()
    agents: dict[str, Agent] = {}

    def finished(run: JobRun) -> None:
        if run.job.id == description.id:  # and not one that an earlier simulation in this folder left unfinished
            simulation.runs[run.context.me] = run
        # A party that the job never reached has no run of it.
        if description.label in simulation.runs and not any(agent.is_busy for agent in agents.values()):
            simulation.seconds = asyncio.get_running_loop().time() - started
            stop.set()

    async with asyncio.TaskGroup() as tasks:
        for party, (own, identity) in introduce(settings, folder).items():
            _forget(own.state, description.id)  # each simulation is a run of its own
            source = (contribute or {}).get(party, system_randomness)
            connection = broker.connect(party)
            asks_nobody = own.policy.model_copy(update={"approval": False})
            own = own.model_copy(update={"policy": asks_nobody})  # noqa: PLW2901
            agent = Agent(own, identity, connection, contribute=source, tap=tap, finished=finished)
            agents[party] = agent
            tasks.create_task(_serve(agent, connection, stop))
            await agent.ready.wait()
        label = agents[description.label]
        label.submit(description)
        tasks.create_task(_watch(label, description.id, watch, stop))
    return simulation


async def _serve(agent: Agent, broker: Broker, stop: asyncio.Event) -> None:
    try:
        await agent.serve(stop)
    finally:
        await broker.close()


async def _watch(agent: Agent, job: str, watch: Watch, stop: asyncio.Event) -> None:
    while not stop.is_set():
        watch(agent.status(job)[0])
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), WATCH_SECONDS)
    watch(agent.status(job)[0])


def summary(simulation: Simulation) -> dict[str, Any]:
    """Summarize the simulation as one JSON object."""
    run, description = simulation.label_run, simulation.description
    status = run.status()
    return {
        "job": run.job.id,
        "kind": description.kind,
        "state": status.state,
        "model": status.model,
        "parties": {"data": list(description.data_parties), "label": description.label, "helper": description.helper},
        "table_rows": {p: simulation.runs[p].status().table_rows for p in description.data_parties},
        "rows": status.rows,
        "held_out": status.held_out,
        "columns": {p: simulation.runs[p].status().columns for p in description.data_parties},
        "steps": status.step,
        "seconds": round(simulation.seconds, 3),
        "stage_seconds": status.stage_seconds,
        "seconds_per_step": status.seconds_per_step,
        "bytes": _add_counts(simulation, "sent_bytes"),
        "messages": _add_counts(simulation, "sent_messages"),
        "loss": status.loss,
        "held_out_loss": status.held_out_loss,
        "metrics": status.metrics,
        "intervals": {name: list(interval) for name, interval in status.intervals.items()},
        "deviations": status.deviations,
        "folds": list(status.folds),
        "worthless": status.worthless,
        "bit_exact": bit_exact(simulation),
        "warnings": list(status.warnings),
        "failure": None if status.failure is None else status.failure.model_dump(exclude={"verdict"}),
        "details": _places(simulation, "detail"),
        "model_parts": _places(simulation, "model_part"),
        "scores": _places(simulation, "scores"),
        "statistics": _places(simulation, "statistics"),
        "reports": _places(simulation, "report"),
    }


def _places(simulation: Simulation, name: str) -> dict[str, str]:
    found = {party: getattr(run, name) for party, run in simulation.runs.items()}
    return {party: str(value) for party, value in found.items() if value is not None}


def _add_counts(simulation: Simulation, name: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for run in simulation.runs.values():
        for kind, count in getattr(run.status(), name).items():
            sums[kind] = sums.get(kind, 0) + count
    return dict(sorted(sums.items()))
