"""All parties of a job in one process over the in-process broker, and the plaintext oracle beside them.

The same agents as in production; only the keys are fresh and the broker is memory. The simulator alone may look at
everything, which is how it can tell whether the joint model is the oracle's to the last bit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agents import model_part
from agents.context import system_randomness
from agents.daemon import Agent
from agents.data_party import DataPartyRole
from agents.mailbox import Tap
from agents.records import Records
from agents.run import JobRun
from agents.states import State
from broker.base import Broker
from broker.identity import Identity
from broker.memory import MemoryBroker
from mpc import network_reference, reference
from mpc.elements import Elements
from mpc.fixed import Floats, decode
from mpc.network import Layout
from mpc.network_forward import NetworkShares
from mpc.ring import total
from mpc.schedule import Step
from schemas.job import PredictionJob, TrainingJob
from schemas.messages import JobStatus
from schemas.settings import Partner, Settings
from schemas.tensor import Words

Watch = Callable[[JobStatus], None]
WATCH_SECONDS = 0.1


@dataclass(slots=True)
class Simulation:
    """What came of it: each party's finished run, by name."""

    description: TrainingJob | PredictionJob
    runs: dict[str, JobRun] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def label_run(self) -> JobRun:
        """The label party's, which speaks for the job."""
        return self.runs[self.description.label]

    @property
    def done(self) -> bool:
        """Whether every party says so."""
        return self.runs.keys() == set(self.description.parties) and all(
            run.state == State.DONE for run in self.runs.values()
        )


def introduce(settings: Mapping[str, Settings], folder: Path) -> dict[str, tuple[Settings, Identity]]:
    """The parties with fresh keys, each other's keys pinned, and their state under `folder`."""
    identities = {party: Identity.generate() for party in settings}
    introduced = {}
    for party, own in settings.items():
        partners = {p: _introduced(own, p, i) for p, i in identities.items() if p != party}
        changes = {"partners": partners, "state": folder / party}
        introduced[party] = (own.model_copy(update=changes), identities[party])
    return introduced


def _introduced(settings: Settings, party: str, identity: Identity) -> Partner:
    """Whom nobody has listed may submit, but holds no model."""
    listed = settings.partners.get(party)
    may_hold = listed is not None and listed.may_hold_model
    return Partner(key=str(identity.public), may_submit=True, may_hold_model=may_hold)


async def simulate(
    description: TrainingJob | PredictionJob,
    settings: Mapping[str, Settings],
    folder: Path,
    *,
    watch: Watch = lambda _: None,
    contribute: Mapping[str, Callable[[], bytes]] | None = None,
    tap: Tap | None = None,
    office: MemoryBroker | None = None,
) -> Simulation:
    """Run a job with all its parties in this process; their state and model parts go under `folder`.

    `contribute` and `tap` are for tests: sources of the order key, and a look at (or a hand on) what is sent.
    """
    office = office or MemoryBroker()
    simulation, stop = Simulation(description), asyncio.Event()
    started = asyncio.get_running_loop().time()
    agents: dict[str, Agent] = {}

    def finished(run: JobRun) -> None:
        if run.job.id == description.id:  # and not one that an earlier simulation in this folder left unfinished
            simulation.runs[run.context.me] = run
        # A party that the job never reached has no run of it.
        if description.label in simulation.runs and not any(agent.busy for agent in agents.values()):
            simulation.seconds = asyncio.get_running_loop().time() - started
            stop.set()

    async with asyncio.TaskGroup() as tasks:
        for party, (own, identity) in introduce(settings, folder).items():
            Records(own.state / "jobs").forget(description.id)  # each simulation is a run of its own
            source = (contribute or {}).get(party, system_randomness)
            broker = office.connect(party)
            agent = Agent(own, identity, broker, contribute=source, tap=tap, finished=finished)
            agents[party] = agent
            tasks.create_task(_serve(agent, broker, stop))
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
        with_timeout: Awaitable[Any] = asyncio.wait_for(stop.wait(), WATCH_SECONDS)
        try:
            await with_timeout
        except TimeoutError:
            continue
    watch(agent.status(job)[0])


# --- looking at everything


def bit_exact(simulation: Simulation) -> bool | None:
    """Whether the model parts on disk add up to the plaintext oracle's words; None where nothing was trained."""
    if not isinstance(simulation.description, TrainingJob):
        return None
    if not simulation.done or not whole_exact(simulation):
        return False
    if simulation.description.network is not None:
        return same(network_words(simulation), network_oracle(simulation))
    oracle = oracle_words(simulation)
    blocks, intercept = joint_words(simulation)
    return same([*oracle.blocks, oracle.intercept], [*blocks, intercept])


def whole_exact(simulation: Simulation) -> bool:
    """Whether what the label party holds with release = "label" is what all parties' shares on disk add up to."""
    label, parties = simulation.description.label, simulation.description.data_parties
    parts = {party: model_part.load(_folder(simulation, party)) for party in parties}
    part, whole = parts[label]
    if not part.whole:
        return True
    bits = data_roles(simulation)[label].context.ready_plan.fw

    def meant(name: str) -> Floats:
        shares = (arrays[model_part.SHARE + name.removeprefix(model_part.WEIGHTS)] for _, arrays in parts.values())
        unscaled = name == model_part.INTERCEPT or name.startswith(model_part.BIAS)
        return (1.0 if unscaled else part.alpha) * decode(total(shares), bits)

    return all(np.array_equal(array, meant(name)) for name, array in whole.items() if array.dtype == np.float64)


def same(some: Iterable[Words], others: Iterable[Words]) -> bool:
    """Word for word."""
    return all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


def oracle_words(simulation: Simulation) -> reference.Weights:
    """What the same training comes to in plaintext."""
    label = data_roles(simulation)[simulation.description.label]
    assert label.labels is not None
    assert label.order is not None
    assert label.shares is not None
    plan, y = label.context.ready_plan, label.labels[~label.held_out]
    return reference.train(training_words(simulation), y, plan, label.order, label.shares.step)


def training_words(simulation: Simulation) -> list[Words]:
    """Each data party's encoded rows that were trained on."""
    words = []
    for role in data_roles(simulation).values():
        assert role.words is not None
        words.append(role.words.take(np.arange(role.words.shape[0])))
    return words


def data_roles(simulation: Simulation) -> dict[str, DataPartyRole]:
    """The data parties' roles, in the job's order."""
    roles = {party: simulation.runs[party].role for party in simulation.description.data_parties}
    return {party: role for party, role in roles.items() if isinstance(role, DataPartyRole)}


def joint_words(simulation: Simulation) -> tuple[list[Words], Words]:
    """Each data party's block of weights and the intercept, in words, as the parts on disk have them."""
    parties, label = simulation.description.data_parties, simulation.description.label
    arrays = {party: model_part.load(_folder(simulation, party))[1] for party in parties}
    assert isinstance(simulation.description, TrainingJob)
    if simulation.description.release == "owners":
        return [arrays[party]["weight_words"] for party in parties], arrays[label]["intercept_words"]
    blocks = [total(arrays[j][f"shares/{i}"] for j in parties) for i in parties]
    return blocks, total(arrays[j]["shares/intercept"] for j in parties)


def network_words(simulation: Simulation) -> list[Words]:
    """A network's blocks, the weights above and all biases in words, as the shares in the parts on disk have them."""
    parties = simulation.description.data_parties
    arrays = {party: model_part.load(_folder(simulation, party))[1] for party in parties}
    names = [f"{model_part.SHARE}{party}" for party in parties]
    names += sorted(name for name in arrays[parties[0]] if name.startswith(model_part.SHARE + model_part.UPPER))
    names += sorted(name for name in arrays[parties[0]] if name.startswith(model_part.SHARE + model_part.BIAS))
    return [total(arrays[party][name] for party in parties) for name in names]


def network_oracle(simulation: Simulation) -> list[Words]:
    """What the same training of a network comes to in plaintext, rounded as the dealt masks of this run say."""
    label = data_roles(simulation)[simulation.description.label]
    assert label.shares is not None
    weights = network_reference.train(network_arguments(simulation), label.shares.step)
    return [*weights.blocks, *weights.upper, *weights.biases]


def network_arguments(simulation: Simulation) -> network_reference.Run:
    """What the oracle of networks takes to repeat this training, but for the number of steps."""
    roles = list(data_roles(simulation).values())
    label = data_roles(simulation)[simulation.description.label]
    assert label.labels is not None
    assert label.order is not None
    plan, y = label.context.ready_plan, label.labels[~label.held_out]
    layout, masks = Layout(plan), [role.context.masks(simulation.description.helper) for role in roles]

    def dealt(name: str, k: int, step: Step) -> Words:
        shape = layout.upper(k) if name == "rw" else layout.elements(k, step.rows)
        return total(mask(f"{name}/{k}", i, i, step, shape) for i, mask in enumerate(masks))

    first = opened_shares([role.first for role in roles if role.first is not None])
    elements = Elements(label.key)
    return network_reference.Run(training_words(simulation), y, plan, label.order, elements, first, dealt)


def opened_shares(shares: Sequence[NetworkShares]) -> network_reference.NetworkWeights:
    """What all parties' shares of one step add up to."""
    blocks = tuple(
        total([mine.own, *(other.partners[i] for j, other in enumerate(shares) if j != i)])
        for i, mine in enumerate(shares)
    )
    upper = tuple(total(layers) for layers in zip(*(share.upper for share in shares), strict=True))
    biases = tuple(total(layers) for layers in zip(*(share.biases for share in shares), strict=True))
    return network_reference.NetworkWeights(blocks, upper, biases)


def _folder(simulation: Simulation, party: str) -> Path:
    folder = simulation.runs[party].model_part
    assert folder is not None
    return folder


def summary(simulation: Simulation) -> dict[str, Any]:
    """One JSON object that says it all."""
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
        "bytes": _added(simulation, "sent_bytes"),
        "messages": _added(simulation, "sent_messages"),
        "loss": status.loss,
        "metrics": status.metrics,
        "bit_exact": bit_exact(simulation),
        "warnings": list(status.warnings),
        "failure": None if status.failure is None else status.failure.model_dump(exclude={"verdict"}),
        "details": _places(simulation, "detail"),
        "model_parts": _places(simulation, "model_part"),
        "scores": _places(simulation, "scores"),
        "reports": _places(simulation, "report"),
    }


def _places(simulation: Simulation, name: str) -> dict[str, str]:
    found = {party: getattr(run, name) for party, run in simulation.runs.items()}
    return {party: str(value) for party, value in found.items() if value is not None}


def _added(simulation: Simulation, name: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for run in simulation.runs.values():
        for kind, count in getattr(run.status(), name).items():
            sums[kind] = sums.get(kind, 0) + count
    return dict(sorted(sums.items()))
