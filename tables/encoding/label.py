"""Scales a label for training, and turns a score back into the label's own terms.

It is fitted on training rows' labels and keeps of them a mean and a deviation, or the names of their classes.
"""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from tercet.schemas.core.strict import Strict
from tercet.schemas.messages.kinds import MOST_OUTPUTS
from tercet.tables.core.moments import CLIP, Floats, Moments, standardise
from tercet.tables.core.problem import TableProblem
from tercet.tables.core.values import MISSING, ReadColumn, plain
from tercet.tables.matching.ids import normalise

LEAST_CLASSES, MOST_CLASSES = 3, MOST_OUTPUTS
FEWER = 'use model = "logistic", or of a network output = "logistic"'


class UnfitLabel(TableProblem):
    """A label that the model cannot be trained on; nothing of it is in the public text."""

    def __init__(self, what: str, remedy: str, table: str) -> None:
        super().__init__(what, remedy, f"the label of table {table!r} does not fit the model")


class LabelScaling(Strict):
    """Scales a label: (label - mean) / scale, within ± clip if there is one.

    Attributes:
        log: whether the score is of a logarithm: that of the expected label over `scale`, with a `mean` of 0.
    """

    mean: float
    scale: float = Field(gt=0)
    clip: float | None = Field(default=CLIP, gt=0, le=CLIP)
    log: bool = False

    @model_validator(mode="after")
    def _logarithms_have_no_mean(self) -> Self:
        if self.log and (self.mean != 0 or self.clip is not None):
            raise ValueError("where scores are logarithms, labels are divided and nothing else")
        return self

    @classmethod
    def fit(cls, label: Floats, name: str) -> Self:
        """Learn mean and standard deviation from finite labels (rows,) of training rows.

        They are of table `name`.

        Raises:
            TableProblem: the label is the same in every row.
        """
        mean, scale = _moments(label)
        if scale == 0:
            raise _the_same(name)
        return cls(mean=mean, scale=scale)

    @classmethod
    def fit_log(cls, label: Floats, name: str) -> Self:
        """Learn the mean, by which labels are divided for a model of their logarithm.

        Else as `fit`.

        Raises:
            TableProblem: a label is not above 0, or all are the same.
        """
        wrong = int((label <= 0).sum())
        if wrong:
            raise UnfitLabel(
                f"the label of table {name!r} is 0 or below in {wrong:,} of {len(label):,} training rows",
                "leave these rows out, or use another model",
                name,
            )
        mean, deviation = _moments(label)
        if deviation == 0:
            raise _the_same(name)
        return cls(mean=0.0, scale=mean, clip=None, log=True)

    @classmethod
    def fit_counts(cls, label: Floats, name: str) -> Self:
        """Learn the mean, by which counts are divided; else as `fit`.

        Raises:
            TableProblem: a label is no whole number from 0 on, or all are 0.
        """
        wrong = int((~(label >= 0) | (label != np.rint(label))).sum())
        if wrong:
            raise UnfitLabel(
                f"of the label of table {name!r} {wrong:,} of {len(label):,} training rows have no whole numbers from "
                f"0 on",
                'use counts, or model = "gamma" or "linear"',
                name,
            )
        return cls._by_mean(label, name, "counts")

    @classmethod
    def fit_amounts(cls, label: Floats, name: str) -> Self:
        """Learn the mean, by which amounts from 0 on are divided; else as `fit`.

        Raises:
            TableProblem: a label is below 0, or all are 0.
        """
        wrong = int((label < 0).sum())
        if wrong:
            raise UnfitLabel(
                f"the label of table {name!r} is below 0 in {wrong:,} of {len(label):,} training rows",
                'leave these rows out, or use model = "linear"',
                name,
            )
        return cls._by_mean(label, name, "amounts")

    @classmethod
    def _by_mean(cls, label: Floats, name: str, what: str) -> Self:
        if not label.any():
            raise UnfitLabel(f"all labels of table {name!r} are 0", f"give rows with {what} above 0, too", name)
        return cls(mean=0.0, scale=_moments(label)[0], clip=None, log=True)

    def apply(self, label: Floats) -> Floats:
        """Scale labels, within ± clip; same shape."""
        return standardise(label, self.mean, self.scale, np.inf if self.clip is None else self.clip)

    def restore(self, score: Floats) -> Floats:
        """Turn scores into the label's own unit, or the logarithm of that; same shape."""
        return np.log(self.scale) + score if self.log else self.mean + self.scale * score


def _moments(label: Floats) -> tuple[float, float]:
    moments = Moments()
    moments.add(label)
    return moments.result


def _the_same(name: str) -> TableProblem:
    return TableProblem(
        f"the label of table {name!r} has one value in every training row",
        "give rows whose labels differ",
        f"the label of the table {name!r} is the same in every row",
    )


class Classes(Strict):
    """Holds the classes that a label may be, in the order of a model's outputs.

    Attributes:
        names: different ones, in numeric order if all are whole numbers, else in that of their texts.
    """

    names: tuple[str, ...] = Field(min_length=LEAST_CLASSES, max_length=MOST_CLASSES)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError("two classes have one name")
        return self

    @classmethod
    def fit(cls, label: Floats, names: Sequence[str], table: str) -> tuple[Self, Floats]:
        """Learn the classes that occur, and which of them each label is, (rows,).

        Args:
            label: (rows,) places in `names`, of all rows in common, held out or not.
            names: of the whole table, sorted.
            table: its name, for errors.

        Raises:
            UnfitLabel: there are too few classes, or too many.
        """
        found, codes = np.unique(label.astype(np.int64), return_inverse=True)
        said = f"the label of table {table!r} has {len(found):,} class{'es' * (len(found) != 1)} in the rows in common"
        if len(found) < LEAST_CLASSES:
            raise UnfitLabel(
                said, FEWER if len(found) == LEAST_CLASSES - 1 else "give rows of other classes too", table
            )
        if len(found) > MOST_CLASSES:
            remedy = f"group them to at most {MOST_CLASSES}, or choose a model that predicts numbers"
            raise UnfitLabel(said, remedy, table)
        return cls(names=tuple(names[place] for place in found)), codes.astype(np.float64)

    def apply(self, label: Floats, names: Sequence[str], table: str) -> Floats:
        """Give the number of each label's class, (rows,); arguments as of `fit`.

        Raises:
            UnfitLabel: a label is of no such class.
        """
        numbers = {name: number for number, name in enumerate(self.names)}
        codes = np.array([numbers.get(name, -1) for name in names], np.float64)[label.astype(np.int64)]
        strange = int((codes < 0).sum())
        if strange:
            said = f"the label of table {table!r} has {strange:,} rows of classes that the model to start at lacks"
            raise UnfitLabel(said, "leave these rows out, or begin without `start`", table)
        return codes

    def warnings(self, trained_on: Floats) -> list[str]:
        """Warn the label party; `trained_on` are the classes of the training rows."""
        absent = len(self.names) - len(np.unique(trained_on))
        if absent == 0:
            return []
        return [f"{absent} of the label's {len(self.names)} classes occur{'s' * (absent == 1)} in held-out rows only"]


class ClassColumn:
    """Gathers the classes of one table's label batch by batch.

    Args:
        decimal: whether texts are numbers, as PostgreSQL sends its NUMERIC.

    Attributes:
        absent: how many rows hold a text such as "NA", which stands for a class that is not there.
    """

    def __init__(self, *, decimal: bool = False) -> None:
        self._decimal = decimal
        self._parts: list[pa.DictionaryArray] = []
        self.absent = 0

    def add(self, column: pa.Array) -> ReadColumn:
        """Take the labels of the next rows: texts and whole numbers as ids are read, or booleans.

        Returns:
            Their texts, null where missing ("NA" and the like are too); wrong are numbers that are not whole.

        Raises:
            UnicodeError: a text is not UTF-8.
        """
        column = plain(column)
        if pa.types.is_boolean(column.type):
            read = ReadColumn(column.cast(pa.large_string()), np.zeros(len(column), np.bool_))
        else:
            texts, wrong = normalise(column, decimal=self._decimal)
            absent = pc.and_(pc.is_valid(texts), pc.is_in(texts, MISSING))
            self.absent += pc.sum(absent).as_py() or 0
            read = ReadColumn(pc.if_else(absent, pa.scalar(None, pa.large_string()), texts), wrong)
        self._parts.append(read.values.dictionary_encode())
        return read

    def finish(self) -> tuple[Floats, tuple[str, ...]]:
        """Return the place of each row's class, (rows,), and the classes.

        These are in the order of `Classes`.

        There must be rows, and none without a class.
        """
        whole = pa.chunked_array(self._parts).unify_dictionaries().combine_chunks()
        self._parts.clear()
        names = whole.dictionary.to_pylist()
        order = sorted(range(len(names)), key=_key(names))
        place = np.empty(len(names))
        place[order] = np.arange(len(names))
        return place[whole.indices.to_numpy()], tuple(names[one] for one in order)


def _key(names: Sequence[str]) -> Callable[[int], tuple[int, str]]:
    """Make the key by which classes are sorted."""
    whole = all(name.removeprefix("-").isdecimal() and len(name) < 20 for name in names)
    return lambda one: (int(names[one]) if whole else 0, names[one])
