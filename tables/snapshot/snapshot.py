"""Keeps one table as it was at one moment, checked, in a file of the party's own.

A job reads it as often as it likes.

The source is read once, so a file that changes or a query that answers otherwise later can't harm a running job.
The file is for its owner alone: nobody else may read it. It goes when the snapshot is closed, unless
`tables.snapshot.stored_snapshot` has put it where it stays.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tercet.schemas.files.job import canonical_digest
from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.interrupt import Interrupt
from tercet.tables.core.problem import TableFaults, problems_of
from tercet.tables.core.table import Kind, Numbers, Table
from tercet.tables.snapshot.columns import ChosenColumns, FeatureColumn, choose_columns
from tercet.tables.snapshot.recorder import Recorder
from tercet.tables.sources.source import open_source

BATCH = 2**16  # rows
HASH_BYTES = 32
FORMAT: Final = "3"  # of what is kept of a snapshot; 1 had categories as the source spells them, 2 another digest
DIGEST_DOMAIN: Final = f"tercet snapshot {FORMAT}"
MOST_DISTINCT = 10_000  # categories that a description counts


def take_snapshot(
    name: str,
    settings: TableSettings,
    folder: Path,
    *,
    with_label: bool,
    label_kind: Kind | None = "numeric",
    login: tuple[str, str] | None = None,
    expected: Mapping[str, Kind] | None = None,
    own_ids: bool = False,
    interrupt: Interrupt | None = None,
) -> "Snapshot":
    """Read the table `name` of the settings once, check it, and keep the used columns.

    Takes memory for ids and label and one batch; on the disk 8 bytes for each number and its length for each text.

    Args:
        name: of the table.
        settings: what it is and which columns to use.
        folder: where they are kept, of the party's own; made if it is not there, for its owner only.
        with_label: whether to read the label, which otherwise may be missing.
        label_kind: what the model takes it for, a number or a class; None where its type is to say so.
        login: user name and password of a database.
        expected: the features that a model was trained on, in their order, instead of those of the settings.
        own_ids: whether to keep the ids as the table has them too.
        interrupt: set from another thread, it ends a query that a database takes long over.

    Raises:
        TableProblem: the table can't be used; nothing of it was kept.
        OSError: `folder` can't be written; nothing was kept.
    """
    place = settings.database or str(settings.path)
    with problems_of(name, place), closing(open_source(settings, login, interrupt)) as source:
        faults = TableFaults()
        chosen = choose_columns(
            source.schema, settings, faults, with_label=with_label, label_kind=label_kind, expected=expected
        )
        faults.refuse()
        assert chosen is not None  # else something was wrong
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, path = tempfile.mkstemp(prefix="table-", suffix=".arrow", dir=folder)  # made with mode 0600
        try:
            with os.fdopen(descriptor, "wb") as target:
                recorder = Recorder(source, chosen, settings.missing, own_ids=own_ids)
                found = recorder.record(target)
            return Snapshot(
                name,
                Path(path),
                chosen,
                found.ids,
                found.label,
                found.classes,
                own_ids=found.own_ids,
                notes=recorder.notes,
                holdouts=found.holdouts,
            )
        except BaseException:
            Path(path).unlink()
            raise


class Snapshot:
    """Holds a checked table.

    Leave the `with` block or call `close`, and its file is gone, unless it is `persistent`.

    Attributes:
        name: as the settings list it.
        path: of the file with the features.
        chosen: which columns were read as what.
        ids: by the rule of `tables.matching.ids`, none null, none twice.
        own_ids: where they were asked for, as the table has them, in its type; else `ids`.
        label: rows finite float64 values, or None where it was not asked for; of classes their places in `classes`.
        classes: the different classes in the table, sorted; none where the label is a number.
        notes: what its owner should know of it; they name columns.
        holdouts: as texts, null where missing, columns that are no features: rows are held out by them, or scores
            shifted.
    """

    def __init__(  # noqa: PLR0917
        self,
        name: str,
        path: Path,
        chosen: ChosenColumns,
        ids: pa.LargeStringArray,
        label: Numbers | None,
        classes: tuple[str, ...] = (),
        *,
        notes: tuple[str, ...] = (),
        holdouts: Mapping[str, pa.Array] = MappingProxyType({}),
        own_ids: pa.Array | None = None,
        persistent: bool = False,
        checksum: bytes = b"",
    ) -> None:
        """Take over the file.

        Its `checksum` may be known; with `persistent` it does not go with the snapshot.
        """
        self.name, self.chosen, self.ids, self.label, self.classes = name, chosen, ids, label, classes
        self.notes, self.holdouts = notes, holdouts
        self.own_ids = ids if own_ids is None else own_ids
        self.path, self._persistent, self._checksum = path, persistent, checksum
        self._file = pa.memory_map(str(path))
        self._table: pa.Table | None = pa.ipc.open_file(self._file).read_all()  # views of the file, nothing is loaded

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.ids)

    @property
    def columns(self) -> tuple[FeatureColumn, ...]:
        """The features in their order."""
        return self.chosen.columns

    @property
    def table(self) -> pa.Table:
        """The features as they are on the disk: float64 and large_string, null where missing.

        Raises:
            ValueError: the snapshot is closed.
        """
        if self._table is None:
            raise ValueError("the snapshot is closed")
        return self._table

    def persist_at(self, path: Path) -> None:
        """Note that the file has been moved to `path`, and does not go with the snapshot."""
        self.path, self._persistent = path, True

    @property
    def checksum(self) -> bytes:
        """Checksum of the file with the features, which is read once for it: 32 bytes."""
        self._checksum = self._checksum or checksum_of(self.path)
        return self._checksum

    def digest(self) -> bytes:
        """Hash everything that was read: 32 bytes, the same for the same rows in the same order."""
        described = canonical_digest(DIGEST_DOMAIN, [self.chosen.canonical(), list(self.classes)])
        found = hashlib.blake2b(described, digest_size=HASH_BYTES)
        _, offsets, texts = self.ids.buffers()
        bounds = np.frombuffer(offsets, np.int64)[self.ids.offset : self.ids.offset + self.rows + 1]
        found.update(pa.py_buffer(np.diff(bounds)))  # which, unlike the offsets, are the same wherever the ids lie
        found.update(memoryview(texts)[bounds[0] : bounds[-1]])
        found.update(b"" if self.label is None else pa.py_buffer(self.label))
        for values in self.holdouts.values():
            encoded = values.dictionary_encode()
            found.update(pa.py_buffer(encoded.indices.fill_null(-1).to_numpy()))
            found.update(msgpack.packb(encoded.dictionary.to_pylist()))
        found.update(self.checksum)
        return found.digest()

    def batches(self, rows: NDArray[np.bool_] | None = None, size: int = BATCH) -> Iterator[Table]:
        """Read the rows in the order of the source, as often as one likes.

        There are `size` in each batch but the last.

        Args:
            rows: marks those to read, one bool for each row of the table; all by default.
            size: rows of a batch.

        Raises:
            ValueError: `rows` has another length than the table.
        """
        if rows is not None and rows.shape != (self.rows,):
            raise ValueError(f"{rows.shape} marks for {self.rows} rows")
        if not self.columns:  # a table of Arrow's without columns has no rows either
            count = self.rows if rows is None else int(rows.sum())
            for start in range(0, count, size):
                yield Table(self.name, min(size, count - start), (), {}, {})
            return
        if rows is None:
            for start in range(0, self.rows, size):
                yield self._batch(self.table.slice(start, size))
            return
        marked = np.flatnonzero(rows)
        for start in range(0, len(marked), size):
            first, last = marked[start], marked[min(start + size, len(marked)) - 1]
            window = self.table.slice(first, last - first + 1)
            yield self._batch(window.filter(pa.array(rows[first : last + 1])))

    def _batch(self, table: pa.Table) -> Table:
        arrays = {one.name: table[one.name].to_numpy() for one in self.columns}
        by_kind = {
            kind: {one.name: arrays[one.name] for one in self.columns if one.kind == kind}
            for kind in ("numeric", "categorical")
        }
        return Table(self.name, table.num_rows, tuple(arrays), by_kind["numeric"], by_kind["categorical"])

    def close(self) -> None:
        """Remove the file, unless it is persistent.

        Batches that were read stay as they are. May be called again.
        """
        self._table = None
        self._file.close()
        if not self._persistent:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Snapshot({self.name!r}: {self.rows} rows, {len(self.columns)} features)"


def checksum_of(path: Path) -> bytes:
    """Hash a file's content: 32 bytes, at about a gigabyte a second."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=HASH_BYTES)).digest()


def describe(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Describe each column to its owner: its kind, and what little is quickly said about it.

    Keys: `column`; `kind` (id, label, numeric, categorical); `declared`, whether settings or model say so; `missing`
    values; `mean` of numbers, None where all are missing; and `distinct` ids or categories, None above MOST_DISTINCT
    categories. Each entry has all keys, None where one does not apply.
    """
    chosen = snapshot.chosen
    unsaid: dict[str, Any] = {"missing": 0, "mean": None, "distinct": None}
    rows = [{"column": chosen.id, "kind": "id", "declared": True, **unsaid, "distinct": snapshot.rows}]
    if snapshot.label is not None:
        said = {"distinct": len(snapshot.classes)} if snapshot.classes else {"mean": float(snapshot.label.mean())}
        rows.append({"column": chosen.label, "kind": "label", "declared": True, **unsaid} | said)
    for one in snapshot.columns:
        values = snapshot.table[one.name]
        found = {"mean": pc.mean(values).as_py()} if one.kind == "numeric" else {"distinct": _distinct(values)}
        entry = {"column": one.name, "kind": one.kind, "declared": one.declared, **unsaid}
        rows.append(entry | {"missing": values.null_count, **found})
    return rows


def _distinct(values: pa.ChunkedArray) -> int | None:
    found = pa.array([], pa.large_string())
    for chunk in values.chunks:
        found = pc.unique(pa.chunked_array([found, chunk.drop_null()]))
        if len(found) > MOST_DISTINCT:
            return None
    return len(found)
