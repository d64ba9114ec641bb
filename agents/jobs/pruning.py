"""Removes files of jobs that ended long ago: records, checkpoints, pages, scores, parts.

Never of a job that runs, and never the audit log, the exposure budget or the ids that were scored: those bound what
partners may still be told.
"""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Final

import structlog

from tercet.agents.core.problems import JobProblem
from tercet.agents.core.report_files import report_file, selection_file
from tercet.agents.core.states import TERMINAL
from tercet.agents.jobs.records import Record, Records
from tercet.agents.jobs.registry import Jobs
from tercet.agents.policy.signature import TOLERANCE_SECONDS
from tercet.agents.session.checkpoint_store import DAY, checkpoint_folder
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import Prune, Pruned

MOST_PRUNED: Final = 1000  # jobs in one answer


class TooYoung(ValueError):
    """Says that a record is still needed, and for how long."""


async def prune(jobs: Jobs, settings: Settings, request: Prune) -> tuple[Pruned, ...]:
    """Tell what goes, the oldest job first; it is gone if `request.remove` says so.

    Raises:
        TooYoung: whose announcement still counts could be taken again, were its record gone.
    """
    least = (settings.policy.job_seconds + TOLERANCE_SECONDS) / DAY
    if request.days < least:
        raise TooYoung(
            f"a record is kept for {least:.1f} days at least, for which a signed job counts ([policy] job_seconds)"
        )
    gone = []
    for leftover, record, paths in await asyncio.to_thread(_find_leftovers, jobs.records, settings.state, request):
        if record.job.id in jobs.runs:  # also one that was taken up again meanwhile
            continue
        if not request.remove or _remove_leftovers(jobs, record, paths, request.who):
            gone.append(leftover)
        await asyncio.sleep(0)  # each takes some milliseconds, and jobs run
    return tuple(gone)


def _find_leftovers(records: Records, state: Path, request: Prune) -> list[tuple[Pruned, Record, list[Path]]]:
    """Find ended jobs without queues whose records have not changed for so long."""
    found = []
    for record in records.read_all()[0]:
        days = (time.time() - records.last_change(record.job.id)) / DAY
        if record.cleared and record.status.state in TERMINAL and days >= request.days:
            paths = [path for path in _paths(state, record, models=request.models) if path.exists()]
            size = sum(map(_size, paths))
            found.append((Pruned(job=record.job.id, state=record.status.state, days=days, bytes=size), record, paths))
    return sorted(found, key=lambda one: -one[0].days)[:MOST_PRUNED]


def _paths(state: Path, record: Record, *, models: bool) -> list[Path]:
    job = record.job.id
    kinds = ("predictions", "statistics", *(["models"] if models else []))
    folders = [state / kind / job for kind in kinds]
    return [checkpoint_folder(state, job), report_file(state, job), selection_file(state, job), *folders]


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove_leftovers(jobs: Jobs, record: Record, paths: list[Path], who: str) -> bool:
    """Remove a job's files: the audit log is told first, the record goes last.

    So what is left can be pruned again.
    """
    log = structlog.get_logger()
    try:
        jobs.audit_of(record.job).write_event("pruned", by=who, removed=[path.parent.name for path in paths])
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        jobs.forget(record.job.id)
    except (JobProblem, OSError) as error:
        log.warning("a job could not be pruned", job=record.job.id, why=str(error))
        return False
    log.info("job pruned", job=record.job.id)
    return True
