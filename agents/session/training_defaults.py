"""Replaces "auto" in a job's training by numbers.

It needs sizes that all parties have told, and reads nothing.
"""

from collections.abc import Sequence

from tercet.mpc.plan.blind import Blind, choose_series
from tercet.mpc.plan.defaults import auto_batch, auto_rate
from tercet.mpc.plan.plan import Plan
from tercet.schemas.files.job import Training, TrainingJob
from tercet.tables.encoding.encoding import Encoding


def resolve_defaults(job: TrainingJob, rows: int, spreads: Sequence[float], columns: Sequence[int]) -> Training:
    """Give the job's training with numbers in the place of "auto".

    Args:
        job: the job.
        rows: that are trained on.
        spreads: of each data party's encoded columns.
        columns: how many each has.
    """
    training = job.training
    batch = auto_batch(rows) if isinstance(training.batch, str) else training.batch
    rate = training.rate
    if isinstance(rate, str):
        crowding = sum(columns) / min(batch, max(1, rows))
        hidden, weighs = job.network is not None, training.weighs
        rate = auto_rate(job.link, spreads, columns_per_row=crowding, hidden=hidden, weighs=weighs)
    return training.model_copy(update={"batch": batch, "rate": rate})


def series_of_job(job: TrainingJob) -> Blind | None:
    """Choose the series of a job's activations; None where the helper computes them."""
    privacy, activation = job.privacy, None if job.network is None else job.network.activation
    if not job.is_blind:
        return None
    return choose_series(
        job.link, privacy.q, privacy.terms, activation, hidden_reach=privacy.hidden_q,
        hidden_terms=privacy.hidden_terms, power=job.link_power,
    )  # fmt: skip


def announced_spread(job: TrainingJob, encoding: Encoding) -> float:
    """Give the spread of this party's columns, if an automatic rate needs it; else 1.

    Of columns that are not whitened it tells how many there are before they are encoded.
    """
    needed = job.training.rate == "auto" and job.network is None
    return encoding.spread if needed else 1.0


def with_planned_numbers(job: TrainingJob, plan: Plan) -> TrainingJob:
    """Give the job as its plan has it, with numbers in the place of "auto"."""
    request = plan.request
    training = job.training.model_copy(update={"batch": request.batch, "rate": request.rate})
    return job.model_copy(update={"training": training})
