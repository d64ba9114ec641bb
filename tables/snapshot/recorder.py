"""Checks every value of a source's batches, and writes features into an Arrow file.

It keeps ids and labels and of everything else one batch; what is wrong is counted to the end and then told at once.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tercet.tables.core.problem import SHOWN, TableFaults, UnusableError, WrongRows
from tercet.tables.core.table import Numbers
from tercet.tables.core.values import as_numbers, as_texts, signs, truths
from tercet.tables.encoding.label import ClassColumn
from tercet.tables.matching.ids import IdColumn
from tercet.tables.snapshot.columns import ChosenColumns, FeatureColumn
from tercet.tables.snapshot.disguise import DisguisedColumn, refuse_disguised
from tercet.tables.snapshot.doubtful_columns import RowCounter, doubtful_notes
from tercet.tables.sources.source import Source


class RecordedTable(NamedTuple):
    """Holds what is kept of a table beside its features.

    See `tables.snapshot.snapshot.Snapshot`.
    """

    ids: pa.LargeStringArray
    own_ids: pa.Array | None  # where they are asked for and others than `ids`
    label: Numbers | None
    classes: tuple[str, ...]
    holdouts: Mapping[str, pa.Array]  # as texts


class Recorder:
    """Passes once over one table.

    Args:
        source: opened, and not read yet.
        chosen: which of its columns are what.
        missing: what becomes of features that are not there; labels always are.
        own_ids: whether to keep ids as the table has them too.
    """

    def __init__(
        self, source: Source, chosen: ChosenColumns, missing: Literal["impute", "refuse"], *, own_ids: bool = False
    ) -> None:
        self._source, self._chosen, self._refuses_missing = source, chosen, missing == "refuse"
        label = [FeatureColumn(chosen.label, chosen.label_kind, declared=True)] if chosen.label is not None else []
        self._all = [*chosen.columns, *label]
        self._schema = pa.schema(
            [(one.name, pa.float64() if one.kind == "numeric" else pa.large_string()) for one in chosen.columns]
        )
        # NUMERIC of PostgreSQL is declared a decimal and comes as text.
        self._ids = IdColumn(chosen.id, source, decimal=_decimal(source, chosen.id), own=own_ids)
        self._label: list[Numbers] = []
        self._classes: ClassColumn | None = None
        if chosen.label is not None and chosen.label_kind == "categorical":
            self._classes = ClassColumn(decimal=_decimal(source, chosen.label))
        self._holdouts: dict[str, list[pa.Array]] = {name: [] for name in chosen.holdouts}
        self._finished_ids = pa.array([], pa.large_string())
        self._rows = 0
        self._wrong, self._infinite, self._missing, self._signs, self._truths = (
            {one.name: WrongRows(source) for one in self._all} for _ in range(5)
        )
        self._measured: set[str] = set()  # columns with a number that is neither 0 nor 1
        self._counters = {one.name: RowCounter() for one in chosen.columns if one.kind == "numeric"}
        self._guessed = {one.name: DisguisedColumn(source) for one in chosen.columns if one.is_guess}

    def record(self, target: IO[bytes]) -> RecordedTable:
        """Read everything, write the features to `target`, and return the rest.

        Raises:
            UnusableError: the table can't be used; what was written is worth nothing.
            OSError: `target` can't be written.
        """
        faults = TableFaults()
        self.write(target, faults)
        self.check(faults)
        faults.refuse()
        return self.finish()

    def write(self, target: IO[bytes], faults: TableFaults) -> None:
        """Read everything, and write the features to `target`.

        Raises:
            OSError: `target` can't be written.
        """
        with faults.gather():
            with pa.ipc.new_file(target, self._schema) as writer:
                for batch in self._source.batches(self._chosen.names):
                    writer.write_batch(self._read(batch))
            if self._rows == 0:
                raise UnusableError("it has no rows", "give a table with at least one row", "has no rows")

    def check(self, faults: TableFaults, *, is_whole: bool = True) -> None:
        """Add to `faults` all that is wrong with what was read.

        Of a part only what would be wrong with the whole.
        """
        checks = [self._check_likeness, self._check_label, self._finish_ids]
        checks += [self._check_numbers, self._check_truths, self._check_finite, self._check_missing]
        if is_whole:
            checks.insert(1, lambda: refuse_disguised(self._guessed))
        for check in checks:
            with faults.gather():
                check()

    def finish(self) -> RecordedTable:
        """Give what is kept beside the features, of a table in which nothing is wrong."""
        own_ids = self._ids.own(self._finished_ids)
        holdouts = {name: pa.concat_arrays(parts) for name, parts in self._holdouts.items()}
        if self._classes is not None:
            return RecordedTable(self._finished_ids, own_ids, *self._classes.finish(), holdouts)
        label = np.concatenate(self._label) if self._chosen.label is not None else None
        return RecordedTable(self._finished_ids, own_ids, label, (), holdouts)

    def _finish_ids(self) -> None:
        self._finished_ids = self._ids.finish()

    @property
    def is_disguised(self) -> bool:
        """Tell whether the texts of some column are in disguise, as far as they were read."""
        return any(self._guessed.values())

    def _read(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the features of a batch as they are written."""
        with _refuse_not_utf8(self._chosen.id):
            self._ids.add(batch.column(self._chosen.id))
        for name, parts in self._holdouts.items():
            with _refuse_not_utf8(name):
                parts.append(as_texts(batch.column(name)))
        values = {one.name: self._values(one, batch.column(one.name)) for one in self._all}
        if self._chosen.label is not None and self._classes is None:
            self._label.append(values[self._chosen.label].to_numpy(zero_copy_only=False))
        self._rows += batch.num_rows
        return pa.RecordBatch.from_arrays([values[name] for name in self._schema.names], schema=self._schema)

    def _values(self, column: FeatureColumn, values: pa.Array) -> pa.Array:
        with _refuse_not_utf8(column.name):
            if self._classes is not None and column.name == self._chosen.label:
                read, wrong = self._classes.add(values)
            elif column.kind == "categorical":
                read, wrong = as_texts(values), np.zeros(len(values), np.bool_)
                if column.name in self._guessed:
                    self._guessed[column.name].add(read, self._rows)
            else:
                read, wrong = as_numbers(values)
                measured = _true(pc.and_(pc.not_equal(read, 0.0), pc.not_equal(read, 1.0)))
                self._infinite[column.name].add(_true(pc.is_inf(read)), self._rows)
                if read.null_count:  # as signs are
                    self._signs[column.name].add(signs(values), self._rows)
                if not measured.all():  # as truths are not
                    self._truths[column.name].add(truths(values), self._rows)
                if measured.any():
                    self._measured.add(column.name)
                if column.name in self._counters:
                    self._counters[column.name].add(read.to_numpy(zero_copy_only=False))
        self._wrong[column.name].add(wrong, self._rows)
        if read.null_count:
            self._missing[column.name].add(_true(pc.is_null(read)) & ~wrong, self._rows)
        return read

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the owner on a table that can be used, once recorded; they name columns."""
        found = self._wrong_columns(self._signs, self._chosen.columns)
        what = "read as missing: a sign such as ? or None"
        missing = [f"column {name!r} has {wrong.describe(what)}" for name, wrong in found.items()]
        if self._chosen.as_trained:
            return tuple(missing)
        counting = [
            f"column {name!r} only counts the rows, which tells the label if they are sorted by it: leave it out with "
            f"`columns`"
            for name, counter in self._counters.items()
            if counter
        ]
        return (*missing, *doubtful_notes(self._source.schema, self._chosen), *counting)

    # --- what was found

    def _check_likeness(self) -> None:
        """Check at once, at prediction, all differences from the table in training."""
        if not self._chosen.as_trained:
            return
        texts = [
            f"{name!r} was numeric and holds text: {wrong.describe('other than numbers')}"
            for name, wrong in self._wrong_columns(self._wrong, self._chosen.columns).items()
        ]
        self._chosen.check_likeness(texts)

    def _check_label(self) -> None:
        name = self._chosen.label
        if name is None:
            return
        label, wrong, missing = f"label column {name!r}", self._wrong[name], self._missing[name]
        if wrong and self._classes is not None:
            raise UnusableError(
                f"{label} has {wrong.describe('not whole')}",
                "give classes as texts, whole numbers or true and false, or choose a model that predicts numbers",
                "has a label that is not of classes",
            )
        if wrong:
            raise UnusableError(
                f"{label} should be numeric for this model and has {wrong.describe('other than numbers')}",
                'correct these values, or use a model of classes: "logistic" for two, "one-vs-rest" or "softmax" for '
                "more",
                "has a label that is not a number",
            )
        if missing:
            what, remedy = f"{label} has {missing.describe('missing')}", "fill these in or leave the rows out"
            if self._classes is not None and self._classes.absent:
                what += f", {self._classes.absent:,} of them written as NA, null or the like"
                remedy += "; if that is a class of its own, give it another name"
            raise UnusableError(what, remedy, "has rows without a label")

    def _check_numbers(self) -> None:
        if not self._chosen.as_trained:  # else `_check_likeness` tells it
            remedy = "correct these values, or list the column under `categorical`"
            self._refuse(self._wrong, self._chosen.columns, "should be numeric and has", "other than numbers", remedy)

    def _check_truths(self) -> None:
        measured = [one for one in self._all if one.name in self._measured]
        remedy = "correct these values, or write truth values as 1 and 0"
        self._refuse(self._truths, measured, "should be numeric and has", "written as true or false", remedy)

    def _check_finite(self) -> None:
        remedy = "replace these by finite numbers, or by nothing for missing, or leave the rows out"
        self._refuse(self._infinite, self._all, "has", "not finite", remedy, public="has values that are not finite")

    def _check_missing(self) -> None:
        if self._refuses_missing:
            remedy = "fill these in or leave the rows out"
            self._refuse(self._missing, self._chosen.columns, "has", "missing", remedy, public="has missing values")

    def _refuse(
        self,
        wrong_rows: Mapping[str, WrongRows],
        columns: Iterable[FeatureColumn],
        verb: str,
        what: str,
        remedy: str,
        *,
        public: str = "has text in a numeric column",
    ) -> None:
        if found := self._wrong_columns(wrong_rows, columns):
            raise UnusableError(_describe_columns(found, verb, what), remedy, public)

    @staticmethod
    def _wrong_columns(wrong_rows: Mapping[str, WrongRows], columns: Iterable[FeatureColumn]) -> dict[str, WrongRows]:
        return {one.name: wrong_rows[one.name] for one in columns if wrong_rows[one.name]}


def _decimal(source: Source, column: str) -> bool:
    """Tell whether texts of this column are numbers."""
    decimal: bool = pa.types.is_decimal(source.schema.field(column).type)
    return decimal


def _describe_columns(found: Mapping[str, WrongRows], verb: str, what: str) -> str:
    described = [f"column {name!r} {verb} {wrong.describe(what)}" for name, wrong in list(found.items())[:SHOWN]]
    more = [f"so have {len(found) - SHOWN} more columns"] if len(found) > SHOWN else []
    return "; ".join([*described, *more])


def _true(mask: pa.Array) -> NDArray[np.bool_]:
    """Return a mask of Arrow's, with null for what is not so."""
    array: NDArray[np.bool_] = pc.fill_null(mask, fill_value=False).to_numpy(zero_copy_only=False)
    return array


@contextmanager
def _refuse_not_utf8(name: str) -> Iterator[None]:
    try:
        yield
    except UnicodeError:
        raise UnusableError(
            f"column {name!r} holds text that is not UTF-8", "convert the table to UTF-8", "can't be read"
        ) from None
