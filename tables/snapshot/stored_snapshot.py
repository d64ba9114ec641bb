"""Keeps a snapshot beyond the process that took it, and opens it again.

It must be whole and the one that is meant.

It lies in a folder of the party's own, for its owner alone, and says nothing of the rows when it cannot be used.

Features stay in the file that they were written to; ids and label are in a second one. A third describes both. It is
written last and has the checksums of the other two, so that there is all of a snapshot or none.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import ValidationError

from tercet.schemas.core.strict import Strict
from tercet.schemas.messages.message import Digest
from tercet.tables.core.durable import flush, write_durably
from tercet.tables.core.table import Numbers
from tercet.tables.snapshot.columns import ChosenColumns
from tercet.tables.snapshot.snapshot import FORMAT, Snapshot, checksum_of

ID, OWN_ID, LABEL, HOLDOUT = "id", "own id", "label", "holdout "  # columns of the second file; the last a prefix


class SnapshotProblem(ValueError):
    """Refuses to open what is no snapshot of what it should be; the text says why."""


class StoredFile(Strict):
    """Describes one of the two files as it was written."""

    size: int
    checksum: Digest


class SnapshotFacts(Strict):
    """Describes the snapshot, in the third file.

    Attributes:
        belongs: of what it is a snapshot.
        digest: `Snapshot.digest`.
        chosen, classes, notes: as there.
    """

    format: Literal["3"] = FORMAT
    belongs: Digest
    digest: Digest
    features: StoredFile
    rows: StoredFile
    chosen: ChosenColumns
    classes: tuple[str, ...]
    notes: tuple[str, ...]


class SnapshotFolder:
    """Keeps one snapshot in a folder.

    Args:
        folder: of this alone; made, for its owner only, if it is not there.
        belongs: 32 bytes, a digest of all that a snapshot must agree with to be opened again.
    """

    def __init__(self, folder: Path, belongs: bytes) -> None:
        self._folder, self._belongs = folder, belongs
        # Named by what they belong to: whoever comes late removes nothing of those after it.
        self._features, self._rows, self._facts = (
            folder / f"{belongs.hex()[:16]}.{kind}" for kind in ("features", "rows", "json")
        )

    def keep(self, snapshot: Snapshot) -> None:
        """Move the snapshot here, where it stays when it is closed.

        When this returns, all of it is on the disk.

        Raises:
            OSError: the disk does not take it; nothing of it is left here.
        """
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            shutil.move(snapshot.path, self._features)
            snapshot.persist_at(self._features)
            _write_rows(self._rows, snapshot)
            flush(self._features)
            write_durably(self._facts, self._facts_of(snapshot).model_dump_json().encode())
        except BaseException:
            self.remove()
            raise

    def _facts_of(self, snapshot: Snapshot) -> SnapshotFacts:
        return SnapshotFacts(
            belongs=self._belongs,
            digest=snapshot.digest(),
            features=StoredFile(size=self._features.stat().st_size, checksum=snapshot.checksum),
            rows=StoredFile(size=self._rows.stat().st_size, checksum=checksum_of(self._rows)),
            chosen=snapshot.chosen,
            classes=snapshot.classes,
            notes=snapshot.notes,
        )

    def reopen(self, name: str) -> Snapshot | None:
        """Open the snapshot of table `name` that is kept here, or None if there is none.

        Raises:
            KeptProblem: it is not whole, or another one.
            OSError: the disk does not let it be read.
        """
        try:
            facts = SnapshotFacts.model_validate_json(self._facts.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise SnapshotProblem("what is said of it is torn, or of another version of tercet") from None
        if facts.belongs != self._belongs:
            raise SnapshotProblem("it is of another run, or was read by other settings")
        for path, file in ((self._features, facts.features), (self._rows, facts.rows)):
            _check(path, file)
        return self._opened(name, facts)

    def _opened(self, name: str, facts: SnapshotFacts) -> Snapshot:
        try:
            ids, own_ids, label, holdouts = _read_rows(self._rows)
            checksum = facts.features.checksum
            snapshot = Snapshot(
                name,
                self._features,
                facts.chosen,
                ids,
                label,
                facts.classes,
                own_ids=own_ids,
                notes=facts.notes,
                holdouts=holdouts,
                persistent=True,
                checksum=checksum,
            )
        except (pa.ArrowException, KeyError):
            raise SnapshotProblem("it does not hold what a snapshot holds") from None
        if snapshot.digest() != facts.digest:
            snapshot.close()
            raise SnapshotProblem("what is said of it was changed")
        return snapshot

    def remove(self) -> None:
        """Remove what is kept here, and the folders that are empty then."""
        for path in (self._facts, self._features, self._rows):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()
            self._folder.parent.rmdir()


def _write_rows(path: Path, snapshot: Snapshot) -> None:
    columns = {ID: snapshot.ids} | ({} if snapshot.label is None else {LABEL: pa.array(snapshot.label)})
    columns |= {} if snapshot.own_ids is snapshot.ids else {OWN_ID: snapshot.own_ids}
    columns |= {f"{HOLDOUT}{name}": values for name, values in snapshot.holdouts.items()}
    batch = pa.RecordBatch.from_pydict(columns)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())


def _read_rows(path: Path) -> tuple[pa.LargeStringArray, pa.Array | None, Numbers | None, dict[str, pa.Array]]:
    """Map the file.

    Returns ids, these as the table has them if that is kept, label, and columns that hold rows out.
    """
    with pa.memory_map(str(path)) as file:
        batch = pa.ipc.open_file(file).get_batch(0)
    label = batch.column(LABEL).to_numpy() if LABEL in batch.schema.names else None
    own_ids = batch.column(OWN_ID) if OWN_ID in batch.schema.names else None
    holdouts = {
        name.removeprefix(HOLDOUT): batch.column(name) for name in batch.schema.names if name.startswith(HOLDOUT)
    }
    return batch.column(ID), own_ids, label, holdouts


def _check(path: Path, file: StoredFile) -> None:
    try:
        whole = path.stat().st_size == file.size and checksum_of(path) == file.checksum
    except FileNotFoundError:
        whole = False
    if not whole:
        raise SnapshotProblem("it is torn or was changed")
