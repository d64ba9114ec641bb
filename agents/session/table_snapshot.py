"""Keeps the snapshot of a party's table in one run, for every later attempt.

Partners' masked rows lie beside it.

It reads the source again only if no usable snapshot is stored. `fixed_randomness` tells whether the table is still the
same. Nothing here looks at a row.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import structlog

from tercet.agents.session.checkpoint_store import discard_table, table_folder
from tercet.agents.session.mapped_rows import MappedRows
from tercet.schemas.files.job import canonical_digest
from tercet.schemas.files.policy import TablePolicy
from tercet.schemas.files.settings import Settings, TableSettings
from tercet.schemas.messages.kinds import Job
from tercet.tables.snapshot.snapshot import Snapshot
from tercet.tables.snapshot.stored_snapshot import SnapshotFolder, SnapshotProblem

# Settings that do not change the rows read. `aligned_table` compares `clip`, `rare` and `whiten`.
# Of a path only the name counts: a party may move its folders between two attempts.
IRRELEVANT_FIELDS = {*TablePolicy.model_fields, "path", "database", "credentials", "clip", "rare", "whiten", "monotone"}
SQLITE = "sqlite:"


class SnapshotStore:
    """Keeps one snapshot for all attempts of a run, whose threads take turns."""

    def __init__(self, job: Job, settings: Settings) -> None:
        self._job, self._state = job, settings.state
        self._is_enabled = settings.recovery.attempts > 1
        self._is_discarded = False
        self._lock = Lock()
        self._log = structlog.get_logger()

    def snapshot(
        self, name: str, settings: TableSettings, reading: Sequence[Any], read_source: Callable[[], Snapshot]
    ) -> Snapshot:
        """Open the stored snapshot of table `name`, or make one by `read_source` and store it.

        Args:
            name: of the table.
            settings: as this job sees them.
            reading: what else decides which columns are read as what.
            read_source: reads the source.

        Raises:
            OSError: the disk does not take it; nothing is left of it.
        """
        if not self._is_enabled:
            return read_source()
        with self._lock:
            folder = SnapshotFolder(table_folder(self._state, self._job.id), self._key(name, settings, reading))
            return self._reopen(folder, name) or self._store(folder, read_source())

    def _key(self, name: str, settings: TableSettings, reading: Sequence[Any]) -> bytes:
        fields = settings.model_dump(mode="json", exclude=IRRELEVANT_FIELDS)
        return snapshot_key(self._job.run, name, _source_name(settings), fields, reading)

    def _reopen(self, folder: SnapshotFolder, name: str) -> Snapshot | None:
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

    def _store(self, folder: SnapshotFolder, snapshot: Snapshot) -> Snapshot:
        try:
            folder.keep(snapshot)
        except BaseException:
            snapshot.close()
            raise
        if self._is_discarded:  # the run has ended meanwhile: a thread cannot be stopped
            folder.remove()
        return snapshot

    def map_rows(self, name: str, rows: int, columns: int) -> MappedRows:
        """Map a file of masked rows, as an earlier attempt left it, or a new one.

        Raises:
            OSError: the disk does not take it.
        """
        folder = table_folder(self._state, self._job.id)
        with self._lock:
            found = MappedRows(folder / name, rows, columns, keep=True)
            if self._is_discarded:  # see `_store`
                discard_table(self._state, self._job.id)
        return found

    def discard(self) -> None:
        """Remove the folder when the run is over; a resumed run reads the table anew."""
        self._is_discarded = True
        discard_table(self._state, self._job.id)


def snapshot_key(run: bytes, name: str, source: str, fields: Mapping[str, Any], reading: Sequence[Any]) -> bytes:
    """Digest all that a stored snapshot must have been read by: 32 bytes."""
    return canonical_digest("tercet table", [run.hex(), name, source, fields, *reading])


def _source_name(settings: TableSettings) -> str:
    if settings.path is not None:
        return settings.path.name
    database = settings.database or ""
    return Path(database).name if database.startswith(SQLITE) else database
