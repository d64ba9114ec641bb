"""The snapshot of a party's table in one run of a job: taken once, and opened again by every later attempt.

It is read from the source again only where none is kept, or none that can be used; whether that is still the same
table is for `drawn` to say. Nothing here looks at a row.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import structlog

from tercet.agents.session.checkpoint_store import discard_table, table_folder
from tercet.schemas.files.job import canonical_digest
from tercet.schemas.files.policy import TablePolicy
from tercet.schemas.files.settings import Settings, TableSettings
from tercet.schemas.messages.kinds import Job
from tercet.tables.snapshot.snapshot import Snapshot
from tercet.tables.snapshot.stored_snapshot import SnapshotFolder, SnapshotProblem

# What does not bear on what is read; `clip`, `rare` and `whiten` bear on what becomes of it, which `own_rows` minds.
# Of a path the name is enough: a party may go on with its folders elsewhere.
ELSEWHERE = {*TablePolicy.model_fields, "path", "database", "credentials", "clip", "rare", "whiten"}
SQLITE = "sqlite:"


class KeptTable:
    """One for all attempts of a run, whose threads take turns: a late one is not run over by the one after it."""

    def __init__(self, job: Job, settings: Settings) -> None:
        self._job, self._state = job, settings.state
        self._keeps = settings.recovery.attempts > 1
        self._over = False
        self._turn = Lock()
        self._log = structlog.get_logger()

    def snapshot(
        self, name: str, settings: TableSettings, how: Sequence[Any], take: Callable[[], Snapshot]
    ) -> Snapshot:
        """The one of table `name` that is kept, or a new one by `take`, which is kept from now on.

        Args:
            name: of the table.
            settings: as this job sees them.
            how: what else decides which columns are read as what.
            take: reads the source.

        Raises:
            OSError: the disk does not take it; nothing is left of it.
        """
        if not self._keeps:
            return take()
        with self._turn:
            folder = SnapshotFolder(table_folder(self._state, self._job.id), self._belongs(name, settings, how))
            return self._reopened(folder, name) or self._kept(folder, take())

    def _belongs(self, name: str, settings: TableSettings, how: Sequence[Any]) -> bytes:
        told = settings.model_dump(mode="json", exclude=ELSEWHERE)
        return canonical_digest("tercet table", [self._job.run.hex(), name, _place(settings), told, *how])

    def _reopened(self, folder: SnapshotFolder, name: str) -> Snapshot | None:
        why: str | None = None
        try:
            if (found := folder.reopen(name)) is not None:
                return found
        except SnapshotProblem as problem:
            why = str(problem)
        except OSError as error:
            why = error.strerror
        if why is not None:
            self._log.warning("a kept table cannot be used, it is read again", table=name, why=why)
        discard_table(self._state, self._job.id)  # of other settings, say
        return None

    def _kept(self, folder: SnapshotFolder, snapshot: Snapshot) -> Snapshot:
        try:
            folder.keep(snapshot)
        except BaseException:
            snapshot.close()
            raise
        if self._over:  # the run has ended meanwhile: a thread cannot be stopped
            folder.remove()
        return snapshot

    def forget(self) -> None:
        """The run is over; if it is ever taken up again, the table is read anew."""
        self._over = True
        discard_table(self._state, self._job.id)


def _place(settings: TableSettings) -> str:
    if settings.path is not None:
        return settings.path.name
    database = settings.database or ""
    return Path(database).name if database.startswith(SQLITE) else database
