"""Reads one table that a party's settings list, from CSV or gzipped CSV, and refuses what can't be trained on.

It changes no value and sends nothing; a problem is told twice, in full to the party whose table it is and as a
sentence without columns, counts or values to the others.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from schemas.settings import TableSettings

Numbers = NDArray[np.float64]
Texts = NDArray[np.object_]

SUFFIXES = (".csv", ".csv.gz")
HEADER_LINES = 1  # so the first row stands on line 2 of its file
# One thread, so that a parse error can say on which line it stands; a table is read once for each job.
READ = csv.ReadOptions(use_threads=False)
PARSE = csv.ParseOptions(newlines_in_values=True)
MISSING = frozenset(csv.ConvertOptions().null_values)
RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")


class TableProblem(ValueError):
    """A table that can't be used, and how to mend it.

    Attributes:
        what: what is wrong, for the party whose table it is: names columns, counts and line numbers, shows no values.
        remedy: what that party can do about it.
        public: what the other parties may read: names nothing but the table, as the job does.
    """

    def __init__(self, what: str, remedy: str, public: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what, self.remedy, self.public = what, remedy, public


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Table:
    """The used columns of one table, rows in the order of the file.

    Attributes:
        name: as the settings list it.
        ids: one text for each row, none empty, none twice.
        columns: names of the features, numeric and categorical, in their order.
        numeric: for each numeric column, rows finite float64 values.
        categorical: for each categorical column, rows texts, none empty.
        label: rows finite float64 values, or None where it was not asked for.
    """

    name: str
    ids: Sequence[str]
    columns: tuple[str, ...]
    numeric: Mapping[str, Numbers]
    categorical: Mapping[str, Texts]
    label: Numbers | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.ids)

    def __repr__(self) -> str:
        return (
            f"Table({self.name!r}: {self.rows} rows, {len(self.numeric)} numeric and "
            f"{len(self.categorical)} categorical columns)"
        )


def read_table(name: str, settings: TableSettings, *, with_label: bool) -> Table:
    """The table that the settings list under `name`, its columns in the order of `settings.columns` or of the file.

    The label column is never a feature; it is read only where `with_label` asks for it, and may be missing else.

    Raises:
        TableProblem: the table can't be used; nothing of it was kept.
    """
    return _Reader(name, settings, with_label=with_label).read()


class _Reader:
    """One reading of one table; holds what an error has to name."""

    def __init__(self, name: str, settings: TableSettings, *, with_label: bool) -> None:
        self.name, self.settings, self.with_label = name, settings, with_label

    def read(self) -> Table:
        header = self._header()
        features = self._features(header)
        label = self._label(header)
        numeric = [column for column in features if column not in self.settings.categorical]
        content = self._content([self.settings.id, *features, *label], [*numeric, *label])
        if content.num_rows == 0:
            self._refuse("it has no rows", "give a table with at least one row", "has no rows")
        return Table(
            name=self.name,
            ids=self._ids(content[self.settings.id]),
            columns=tuple(features),
            numeric={column: self._numbers(column, content[column]) for column in numeric},
            categorical={
                column: self._texts(column, content[column])
                for column in features
                if column in self.settings.categorical
            },
            label=self._numbers(label[0], content[label[0]]) if label else None,
        )

    def _refuse(self, what: str, remedy: str, public: str) -> Never:
        """Raise the problem; `public` goes on after the table's name."""
        place = f"table {self.name!r} ({self.settings.path})"
        raise TableProblem(f"{place}: {what}", remedy, f"the table {self.name!r} {public}") from None

    # --- which columns

    def _header(self) -> list[str]:
        path = self.settings.path
        if not path.name.lower().endswith(SUFFIXES):
            self._refuse(
                "the file's name ends neither in .csv nor in .csv.gz",
                "save the table as CSV, comma-separated, with a line of column names",
                "can't be read",
            )
        try:
            with csv.open_csv(path, read_options=READ, parse_options=PARSE) as reader:
                names: list[str] = reader.schema.names
        except (OSError, ValueError, pa.ArrowException) as error:
            self._refuse_file(error)
        twice = [column for column, times in Counter(names).items() if times > 1]
        if twice:
            self._refuse(
                f"column {_list(twice)} stands more than once in the first line",
                "give every column a name of its own",
                "has columns of the same name",
            )
        return names

    def _features(self, header: list[str]) -> list[str]:
        settings = self.settings
        held_back = {settings.id, settings.label}
        features = settings.columns
        if features is None:
            features = tuple(column for column in header if column not in held_back)
        wanted = {"id": [settings.id], "columns": features, "categorical": settings.categorical}
        for setting, columns in wanted.items():
            self._must_exist(setting, columns, header)
        self._must_not_repeat(features, held_back)
        unused = [column for column in settings.categorical if column not in features]
        if unused:
            self._refuse(
                f"`categorical` names {_list(unused)}, which is not among the columns to use",
                "remove it from `categorical` or add it to `columns`",
                "is described wrongly in its owner's settings",
            )
        if not features:
            self._refuse("it has no column beside id and label", "add columns to train on", "has no columns")
        return list(features)

    def _must_exist(self, setting: str, columns: Sequence[str], header: list[str]) -> None:
        unknown = [column for column in columns if column not in header]
        if unknown:
            self._refuse(
                f"`{setting}` names {_list(unknown)}, which the file's first line does not have",
                f"correct `{setting}` in the settings, or the file: comma-separated, names in the first line",
                "lacks a column that its owner's settings name",
            )

    def _must_not_repeat(self, features: Sequence[str], held_back: set[str | None]) -> None:
        wrong = [column for column in features if column in held_back]
        wrong += [column for column, times in Counter(features).items() if times > 1]
        if wrong:
            self._refuse(
                f"`columns` names {_list(wrong)}, which is the id, the label or there already",
                "list in `columns` each feature once, without id and label",
                "is described wrongly in its owner's settings",
            )

    def _label(self, header: list[str]) -> list[str]:
        """The label column as a list of one; of none where no label was asked for."""
        if not self.with_label:
            return []
        label = self.settings.label
        if label is None:
            self._refuse(
                "the job wants a label from it and the settings name none",
                "write `label = ...` into the table's settings",
                "has no label",
            )
        if label == self.settings.id:
            self._refuse("`label` names the id column", "name the column to predict", "has no label")
        if label not in header:
            self._refuse(
                f"`label` names {label!r}, which the file's first line does not have",
                "correct `label` in the settings, or the file",
                "has no label",
            )
        return [label]

    # --- their content

    def _content(self, columns: list[str], numeric: list[str]) -> pa.Table:
        """The columns, numbers as float64 (null where missing) and the others as text."""
        types = {column: pa.float64() if column in numeric else pa.string() for column in columns}
        try:
            return self._parse(types)
        except (OSError, ValueError, pa.ArrowException) as error:
            self._refuse_texts(numeric)
            self._refuse_file(error)

    def _parse(self, types: dict[str, pa.DataType]) -> pa.Table:
        convert = csv.ConvertOptions(column_types=types, include_columns=list(types))
        return csv.read_csv(self.settings.path, read_options=READ, parse_options=PARSE, convert_options=convert)

    def _refuse_texts(self, numeric: list[str]) -> None:
        """Find the first numeric column that holds something else; do nothing if there is none."""
        for column in numeric:
            try:
                texts = self._parse({column: pa.string()})[column]
            except (OSError, ValueError, pa.ArrowException):
                return
            wrong = np.array([not _is_number(text) for text in texts.to_pylist()], dtype=bool)
            if wrong.any():
                self._refuse(
                    f"column {column!r} should be numeric and has {_lines(wrong, 'other than numbers')}",
                    "correct these values, or list the column under `categorical`",
                    "has text in a numeric column",
                )

    def _refuse_file(self, error: Exception) -> Never:
        """The file as a whole is wrong. The library's own text may quote the table, so it is not passed on."""
        ragged = RAGGED.search(str(error))
        if ragged:
            what = "line {} has not {} columns as those before but {}".format(*ragged.groups())
        elif isinstance(error, OSError):
            what = f"it can't be read: {error.strerror or 'the file is damaged or not what its name says'}"
        elif "Empty CSV" in str(error):
            what = "it is empty"
        else:
            what = "it is not CSV in UTF-8"
        self._refuse(
            what,
            "give a comma-separated file in UTF-8 (gzipped for .csv.gz) with a line of column names",
            "can't be read",
        )

    def _ids(self, column: pa.ChunkedArray) -> list[str]:
        ids: list[str] = column.to_pylist()
        empty = np.array([not text.strip() for text in ids], dtype=bool)
        if empty.any():
            self._refuse(
                f"id column {self.settings.id!r} has {_lines(empty, 'empty')}",
                "give every row an id",
                "has rows without an id",
            )
        if len(set(ids)) < len(ids):
            first = {text: row for row, text in reversed(list(enumerate(ids)))}
            again = np.array([first[text] != row for row, text in enumerate(ids)], dtype=bool)
            self._refuse(
                f"id column {self.settings.id!r} has {_lines(again, 'already further up')}",
                "keep one row for each id",
                "has an id more than once",
            )
        return ids

    def _numbers(self, name: str, column: pa.ChunkedArray) -> Numbers:
        missing = pc.is_null(column).to_numpy()
        if missing.any():
            self._refuse(
                f"column {name!r} has {_lines(missing, 'missing or NaN')}",
                "fill these in or leave the rows out",
                "has missing values",
            )
        values: Numbers = column.to_numpy()
        infinite = ~np.isfinite(values)
        if infinite.any():
            self._refuse(
                f"column {name!r} has {_lines(infinite, 'not finite')}",
                "replace these by finite numbers or leave the rows out",
                "has values that are not finite",
            )
        return values

    def _texts(self, name: str, column: pa.ChunkedArray) -> Texts:
        texts = np.array(column.to_pylist(), dtype=np.object_)
        missing = texts == ""
        if missing.any():
            self._refuse(
                f"categorical column {name!r} has {_lines(missing, 'missing')}",
                'fill these in ("unknown" is a category like any other) or leave the rows out',
                "has missing values",
            )
        return texts


def _is_number(text: str) -> bool:
    try:
        pa.array([text.strip(" \t")]).cast(pa.float64())
    except pa.ArrowInvalid:
        return text in MISSING  # which is reported as such
    return True


def _lines(wrong: NDArray[np.bool_], what: str) -> str:
    """How many rows are wrong in which way, and where the first are, counted as an editor does."""
    rows = np.flatnonzero(wrong)
    first = ", ".join(str(row + HEADER_LINES + 1) for row in rows[:3])
    return f"{len(rows)} value{'s' * (len(rows) > 1)} {what} (line {first}{', ...' * (len(rows) > 3)})"


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
