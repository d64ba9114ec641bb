"""One disturbed run: a model is trained and applied while a scenario happens, and has to be that of an undisturbed run.

The undisturbed run is the same job with the same contributions in one process; it is checked against the oracle too.
"""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.agents.access.no_agent import NoAgent
from tercet.agents.core.states import TERMINAL
from tercet.agents.models import model_part
from tercet.agents.simulation.simulate import Simulation, bit_exact, simulate_job
from tercet.broker.interface.base import BrokerError
from tercet.schemas.files.job import AnyJob, Evaluation, Network, PredictionJob, Training, TrainingJob
from tests.agents import scenes
from tests.chaos.fleet import Fleet
from tests.chaos.plans import Deed, Plan, marker, plan_file
from tests.chaos.scenarios import BANK, CARD, STEP_SECONDS, Model, Scenario
from tests.deployment import UNBOUNDED
from tests.fixed_agent import fixed_contribution

ROWS, COLUMNS, EPOCHS, BATCH = 420, 12, 6, 32
RUN_SECONDS = 120.0
LOOK_SECONDS = 0.02
SMALLEST_AUC = 0.9  # of a network: two runs of one differ in their last bits, so that they cannot be compared

EXTRA = f"""
[deadlines]
accept = 5
ready = 10
start = 20
handshake = 3
alignment = 3
fit = 3
terms = 6
step = {STEP_SECONDS}
release = 3
verdict = 1
heartbeat = 0.1
drain = 0.5
recover = 60
[recovery]
checkpoint_steps = 4
checkpoint_seconds = 0.05
[policy]
helper_sees = "scores"
[limits]
max_scorings = 64
"""


class NotTheSame(Exception):
    """A disturbed run that did not end as it has to; the text says how it ended."""


@dataclass
class Result:
    """How a run went."""

    scenario: Scenario
    seconds: float = 0.0
    attempts: int = 0  # of training and prediction together, beyond the first of each
    lives: int = 0  # processes that were started again
    problem: str | None = None
    unreached: list[int] = field(default_factory=list)  # points of the plan


def write_tables(folder: Path) -> dict[str, str]:
    """Two tables with rows in common, in another order and with others; how settings name them."""
    random = np.random.default_rng(11)
    x, ids = random.normal(size=(ROWS, 2 * COLUMNS)), [f"c{number}" for number in range(ROWS)]
    labels = (x @ random.normal(size=2 * COLUMNS) > 0).astype(int)
    for party, part in ((BANK, x[:, :COLUMNS]), (CARD, x[:, COLUMNS:])):
        lines = [f"{i},{','.join(map(repr, row.tolist()))}" for i, row in zip(ids, part, strict=True)]
        if party == BANK:
            lines = [f"{line},{label}" for line, label in zip(lines, labels, strict=True)]
        else:
            lines = [*(f"stranger-{number}{',0.5' * COLUMNS}" for number in range(20)), *reversed(lines)]
        names = [f"{party}-{column}" for column in range(COLUMNS)] + (["label"] if party == BANK else [])
        (folder / f"{party}.csv").write_text("\n".join([f"id,{','.join(names)}", *lines]) + "\n")
    return {
        BANK: f'[tables.customers]\npath = "bank.csv"\nid = "id"\nlabel = "label"\n{UNBOUNDED}',
        CARD: f'[tables.customers]\npath = "card.csv"\nid = "id"\n{UNBOUNDED}',
    }


def training_job(name: str, model: Model) -> TrainingJob:
    """A small job with all that may go wrong: several batches and epochs, held-out rows, metrics and losses."""
    return scenes.job(
        name,
        model=model,
        network=Network(hidden=(6,)) if model == "mlp" else None,
        training=Training(epochs=EPOCHS, batch=BATCH, rate=0.3, schedule="inverse-time", decay=0.01, l2=0.001),
        evaluation=Evaluation(holdout=0.2, metrics="end", loss=True),
        accept_narrow=False,
    )


async def disturbed(fleet: Fleet, scenario: Scenario) -> Result:
    """Run one scenario from the beginning of a training to the last score.

    A run that ends in another way than it has to is a result with a `problem`; nothing of it goes on running.
    """
    since, lives, logged, result = time.monotonic(), fleet.lives, fleet.logged(), Result(scenario)
    training = training_job(scenario.name, scenario.model)
    prediction = scenes.prediction(training.id, name=f"{scenario.name}-scores"[:32].rstrip("-"))
    try:
        await fleet.until_up()
        async with asyncio.timeout(RUN_SECONDS):
            for job in (training, prediction):
                result.unreached += await _run(fleet, job, scenario.plan)
        result.seconds = time.monotonic() - since
        await asyncio.to_thread(_compare, fleet, training, prediction)
    except (NotTheSame, TimeoutError) as problem:
        result.problem = str(problem) or _where(fleet, training, prediction)
        result.seconds = time.monotonic() - since
        for job in (training, prediction):
            await _cancel(fleet, job.id)
    result.lives = fleet.lives - lives
    lines = [line for party in fleet.parties for line in fleet.log(party, logged.get(party, 0))]
    for job in (training, prediction):
        result.attempts += max((line.get("attempt") or 1 for line in lines if line.get("job") == job.id), default=1) - 1
    return result


async def _run(fleet: Fleet, job: AnyJob, plan: Plan) -> list[int]:
    """One job to its end everywhere; the numbers of its points that were not reached."""
    plan_file(fleet.plans, job.id).write_text(_of_kind(plan, job.kind).model_dump_json())
    async with asyncio.TaskGroup() as tasks:
        deeds = [tasks.create_task(_do_at_its_point(fleet, job.id, deed)) for deed in plan.deeds]
        refusal = await _submit(fleet, job)
        while refusal is None and not _over(fleet, job.id):  # noqa: ASYNC110 - others write it down
            await asyncio.sleep(LOOK_SECONDS)
        for deed, task in zip(plan.deeds, deeds, strict=True):
            if not marker(fleet.plans, job.id, deed.point).exists():
                task.cancel()
    if refusal is not None:
        raise NotTheSame(f"{job.id} is not taken: {refusal}")
    states = {party: _state(fleet, party, job.id) for party in fleet.parties}
    if set(states.values()) != {"done"}:
        raise NotTheSame(_where(fleet, job))
    due = [n for n, point in enumerate(plan.points) if point.kind == job.kind]
    return [n for n in due if not marker(fleet.plans, job.id, n).exists()]


def _of_kind(plan: Plan, kind: str) -> Plan:
    """The plan for one of a run's two jobs: points keep their numbers, those of the other job are never reached."""
    points = [p if p.kind == kind else p.model_copy(update={"rounds": ()}) for p in plan.points]
    return plan.model_copy(update={"points": tuple(points)})


async def _do_at_its_point(fleet: Fleet, job: str, deed: Deed) -> None:
    while not marker(fleet.plans, job, deed.point).exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(LOOK_SECONDS / 4)
    await fleet.do(deed)


async def _submit(fleet: Fleet, job: AnyJob) -> str | None:
    """At the bank; again while it does not answer, as it may be killed by the very job it is given.

    Returns:
        Why it does not take the job.
    """
    while True:
        try:
            async with fleet.console(BANK) as console:
                status = await console.submit(job)
        except (NoAgent, BrokerError):
            continue
        return status.problem


def _over(fleet: Fleet, job: str) -> bool:
    return all(_state(fleet, party, job) in TERMINAL for party in fleet.parties)


def _state(fleet: Fleet, party: str, job: str) -> str:
    status = fleet.status(party, job)
    return "" if status is None else status.state


def _where(fleet: Fleet, *jobs: AnyJob) -> str:
    reported = []
    for job in jobs:
        for party in fleet.parties:
            status = fleet.status(party, job.id)
            failure = "" if status is None or status.failure is None else f" ({status.failure.code}: {status.failure})"
            reported.append(f"{job.kind} is {'unknown' if status is None else status.state} at {party}{failure}")
    return "; ".join(reported)


async def _cancel(fleet: Fleet, job: str) -> None:
    await fleet.until_up()
    for party in fleet.parties:
        if _state(fleet, party, job) not in TERMINAL | {""}:
            async with fleet.console(party) as console:
                await console.query(job, cancel=True)


# --- whether it is the same


def _compare(fleet: Fleet, training: TrainingJob, prediction: PredictionJob) -> None:
    folder = fleet.deployment.folder
    if training.model == "mlp":
        status = fleet.status(BANK, training.id)
        assert status is not None
        if status.metrics["auc"] < SMALLEST_AUC:
            raise NotTheSame(f"the network's AUC is {status.metrics['auc']:.3f}")
        return
    model, scores = (_undisturbed(fleet, job) for job in (training, prediction))
    if not bit_exact(model):
        raise NotTheSame("the undisturbed run is not the oracle's")
    for party, run in model.runs.items():
        if run.model_part is not None:
            _same_arrays(party, _arrays(folder / party / "models" / training.id), _arrays(run.model_part))
    status, undisturbed = fleet.status(BANK, training.id), model.label_run.status()
    assert status is not None
    if (status.metrics, status.loss) != (undisturbed.metrics, undisturbed.loss):
        raise NotTheSame(f"metrics or loss differ: {status.metrics}, {status.loss}")
    (theirs,) = (folder / BANK / "predictions" / prediction.id).glob("scores.*")
    assert scores.label_run.scores is not None
    if theirs.read_bytes() != scores.label_run.scores.read_bytes():
        raise NotTheSame("the scores differ")


def _arrays(folder: Path) -> dict[str, NDArray[Any]]:
    return model_part.load(folder)[1]


def _same_arrays(party: str, ours: dict[str, NDArray[Any]], undisturbed: dict[str, NDArray[Any]]) -> None:
    if ours.keys() != undisturbed.keys():
        raise NotTheSame(f"{party}'s part has {sorted(ours)} and not {sorted(undisturbed)}")
    for name, array in undisturbed.items():
        if not np.array_equal(ours[name], array):
            raise NotTheSame(f"{name} differs at {party}")


def _undisturbed(fleet: Fleet, job: AnyJob) -> Simulation:
    settings = {party: fleet.settings(party) for party in fleet.parties}
    contribute = {party: fixed_contribution(party) for party in settings}
    return asyncio.run(simulate_job(job, settings, fleet.deployment.folder / "undisturbed", contribute=contribute))
