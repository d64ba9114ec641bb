"""Describes a job's status from what one agent knows and has heard.

It reads and decides nothing; what it tells is for this party's own console and record.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tercet.agents.core.states import TERMINAL, State
from tercet.agents.session.context import JobContext
from tercet.agents.session.history import History
from tercet.broker.interface.clock import loop_time
from tercet.schemas.files.job import PredictionJob, TrainingJob
from tercet.schemas.messages.kinds import EpochStatus, JobStatus, PartyStatus, Progress

NOTHING_HELD: Final = frozenset({State.FAILED, State.CANCELLED})  # by anybody
MOST_NOTES = 20
MOST_EPOCHS = 1000  # that one status tells
ProgressByParty = Mapping[str, tuple[float, Progress]]
"""When each party was heard last, on this machine's monotonic clock, and what it said; this party among them."""


def job_status(context: JobContext, state: State, heard: ProgressByParty) -> JobStatus:
    """Describe a job's progress; the caller adds waits and the end."""
    job, statistics, ended = context.description, context.statistics, state in TERMINAL
    sent = context.mailbox.sent
    return JobStatus(
        job=context.job.id,
        state=state,
        kind=job.kind,
        model=job.of if isinstance(job, PredictionJob) else job.model,
        label=job.label,
        helper=job.helper,
        parties=() if ended else tuple(_party(party, *heard[party]) for party in heard),
        members=job.everybody,
        submitted="",
        table_rows=statistics.table_rows,
        rows=statistics.rows,
        held_out=statistics.held_out,
        columns=statistics.columns,
        epoch=statistics.epoch,
        step=statistics.step,
        steps=statistics.steps,
        seconds_per_step=statistics.seconds_per_step,
        processor_seconds=statistics.processor_seconds,
        sent_bytes={kind: count.bytes for kind, count in sent.items()},
        sent_messages={kind: count.messages for kind, count in sent.items()},
        warnings=(*_first(context.findings.notes), *context.findings.warnings),
        stage_seconds={name: round(seconds, 3) for name, seconds in statistics.stage_seconds.items()},
        metrics=context.history.final_metrics,
        intervals=context.history.intervals,
        deviations=context.history.deviations,
        folds=tuple(context.history.folds),
        fold=statistics.fold,
        loss=context.history.losses[-1] if context.history.losses else None,
        held_out_loss=context.history.held_out_losses[-1] if context.history.held_out_losses else None,
        worthless=context.history.shortfall or None,
        **(_training_numbers(context, job) if isinstance(job, TrainingJob) else {}),
        history=epochs_done(context.history),
        description=context.job.description,
        release=who_holds(job) if isinstance(job, TrainingJob) and state not in NOTHING_HELD else "",
    )


def _training_numbers(context: JobContext, job: TrainingJob) -> dict[str, Any]:
    """Tell how long and how fast a job trains; what is "auto" only once there is a plan."""
    training = context.findings.training or job.training
    best = context.history.best_epoch
    auto = {name: None if getattr(training, name) == "auto" else getattr(training, name) for name in ("batch", "rate")}
    return {"epochs": training.epochs, "l2": training.l2, "best_epoch": None if best is None else best + 1, **auto}


def epochs_done(history: History) -> tuple[EpochStatus, ...]:
    """Describe the latest epochs that are done."""
    losses, held_out = dict(enumerate(history.losses)), dict(enumerate(history.held_out_losses))
    return tuple(
        EpochStatus(
            epoch=epoch + 1,
            rate=history.rates[epoch],
            seconds=round(seconds, 3),
            loss=losses.get(epoch),
            held_out_loss=held_out.get(epoch),
            metrics=history.metrics.get(epoch, {}),
        )
        for epoch, seconds in sorted(history.seconds.items())[-MOST_EPOCHS:]
    )


def who_holds(job: TrainingJob) -> str:
    """Describe in words which parties get which part of the model."""
    above = "all layers above the first" if job.network else "the intercept"
    return {
        "owners": f"each data party has the weights of its own columns, {job.label} {above} too",
        "shared": "no party has a weight, each data party a share of all",
        "label": f"{job.label} has the whole model and everybody's encoding, each other data party a share of all",
    }[job.release]


def _first(notes: Sequence[str]) -> tuple[str, ...]:
    """Shorten notes to a number that a person reads; a table may have thousands."""
    left = len(notes) - MOST_NOTES
    return (*notes[:MOST_NOTES], *([f"{left:,} more warnings are in the log and the report"] if left > 0 else []))


def _party(party: str, heard: float, progress: Progress) -> PartyStatus:
    return PartyStatus(
        party=party,
        state=progress.state,
        stage=progress.stage,
        epoch=progress.epoch,
        step=progress.step,
        waits_for=progress.waits_for,
        heard=round(loop_time() - heard, 1),
    )
