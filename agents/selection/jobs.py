"""Runs the jobs of a selection: by a running agent, or with all parties in this process.

A job that the agent has run before is looked up.
"""

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tercet.agents.access.console_client import ConsoleClient
from tercet.agents.access.conversation import check_answer, follow_job, own_account
from tercet.agents.core.states import State
from tercet.agents.models import model_part
from tercet.agents.models.plain_weights import plain_weights
from tercet.agents.selection.trail import Trial
from tercet.agents.simulation.simulate import simulate_job
from tercet.schemas.core.error import TercetError
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.console import JobStatus

WORTHLESS = "training.worthless"  # a job in which no epoch was better than a constant

RunJob = Callable[[TrainingJob], Coroutine[Any, Any, Trial]]


class SelectionStopped(TercetError):
    """Says which job of a selection has failed, and how to go on."""


def by_agent(console: ConsoleClient, label: str) -> RunJob:
    """Run jobs through the label party's agent.

    Of earlier calls one that has failed is taken up again, and in place of one that was cancelled another runs.
    """

    async def run(asked: TrainingJob) -> Trial:
        job = asked
        (status,) = check_answer(await console.submit(job, own_account())).jobs
        while status.state == State.CANCELLED:
            job = job.model_copy(update={"again": job.id[-8:]})  # the same in each call, which so finds it
            (status,) = check_answer(await console.submit(job, own_account())).jobs
        if status.state == State.FAILED and not _is_worthless(status):  # in an earlier call
            check_answer(await console.resume(status.job))
        async for found in follow_job(console, status.job):
            status = found
        trial = trial_of(job, status, label)
        return trial if job is asked else trial.model_copy(update={"asked": asked.id})

    return run


def by_simulation(settings: Mapping[str, Settings], folder: Path) -> RunJob:
    """Run jobs with all their parties in this process; their states go under a folder."""

    async def run(job: TrainingJob) -> Trial:
        simulation = await simulate_job(job, settings, folder)
        return trial_of(job, simulation.label_run.status(), job.label)

    return run


def trial_of(job: TrainingJob, status: JobStatus, label: str) -> Trial:
    """Read a job's end as a trial.

    Raises:
        SelectionStopped: the job has failed, or was cancelled.
    """
    columns = tuple((party, name) for party, names in job.columns for name in names)
    if _is_worthless(status):
        return Trial(job=status.job, columns=columns, loss=None)
    if status.state != State.DONE:
        why, then = "was cancelled. Repeat", "runs another in its place"
        if status.failure is not None:
            why, then = f"has failed: {status.failure.reason}. Mend that and repeat", "takes this job up again"
        raise SelectionStopped(f"{status.job} {why} the command: it {then}, and runs no other twice")
    weights = _weights(status, label) if job.release != "shared" else {}
    return Trial(job=status.job, columns=columns, loss=_held_out_loss(status), weights=weights)


def _is_worthless(status: JobStatus) -> bool:
    return status.failure is not None and status.failure.code == WORTHLESS


def _held_out_loss(status: JobStatus) -> float | None:
    """Give the loss of the released model: after the best epoch, where the job stops early."""
    if status.best_epoch is not None:
        losses = {epoch.epoch: epoch.held_out_loss for epoch in status.history}
        return losses.get(status.best_epoch, status.held_out_loss)
    return status.held_out_loss


def _weights(status: JobStatus, label: str) -> dict[str, float]:
    """Measure the length of standardised weights of each of the label party's own columns."""
    if status.model_part is None:
        return {}
    part, arrays = model_part.load(Path(status.model_part))
    own = arrays.get("weights", arrays.get(f"{model_part.WEIGHTS}{label}"))
    if own is None or not part.encoding.columns:
        return {}
    rows = plain_weights(part.encoding, own)[0]
    return {
        column.name: float(np.sqrt(sum(np.sum(np.square(rows[name])) for name in column.names)))
        for column in part.encoding.columns
    }
