"""Wraps a whole model as a scikit-learn estimator: `load`, then `predict`.

It learns nothing and tells nobody anything; whoever calls it must have every party's columns of the rows, and may hold
them.
"""

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from tercet.agents.evaluation.metrics import OF_CLASSES, class_probabilities, expected, probabilities
from tercet.agents.models.full_model import Columns, FullModel, ModelDescription, read
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.job import EXPOSURE_MODELS
from tercet.tables.core.problem import TableProblem, UnusableError, join_names
from tercet.tables.core.table import Table
from tercet.tables.encoding.in_memory import PUBLIC, table_from_arrays
from tercet.tables.encoding.offset import Offset
from tercet.tables.encoding.unseen import count_unseen

CLASSIFIERS = {"logistic", *OF_CLASSES}


class UnseenCategories(UserWarning):
    """Warns of rows with categories that no row of the training had."""


def load(path: Path | str) -> "Classifier | Regressor":
    """Load the model from a label party's part, or from a file that `tercet export` wrote.

    Raises:
        ModelPartProblem: there is none, or it is not the whole model.
    """
    return as_scorer(read(Path(path)))


def as_scorer(model: FullModel) -> "Classifier | Regressor":
    """Make the estimator of a whole model."""
    return Classifier(model) if model.description.link in CLASSIFIERS else Regressor(model)


class Scorer(BaseEstimator):  # type: ignore[misc]  # of a library without types
    """Scores tables; the base of classifiers and regressors.

    Everywhere X is one of

    - a table of raw columns, as they are in the parties' own tables: a mapping from name to values, a pyarrow Table,
      or anything that hands itself over as Arrow, such as a data frame. A column is called `party/column`, or just
      `column` where one party alone has such; others are ignored;
    - an array (rows, n_features_in_) of encoded columns, named by `feature_names_in_`.

    Attributes:
        n_features_in_: encoded columns of all parties.
        feature_names_in_: their names, `party/column`, or `party/column=category`.
        columns_in_: the raw columns that a table must have, `party/column`; that of the offset last, if there is one.

    A model with an offset takes tables alone: no encoded column has what its scores begin with.
    """

    def __init__(self, model: FullModel) -> None:
        self.model = model

    def fit(self, X: Any = None, y: Any = None) -> Self:  # noqa: ARG002
        """Do nothing: the model is trained, and stays as it is."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> Self:
        return self

    @property
    def n_features_in_(self) -> int:
        """Number of encoded columns."""
        return len(self.feature_names_in_)

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Of the encoded columns, in their order."""
        names = [f"{one.party}/{name}" for one in self.model.description.columns for name in one.encoding.names]
        return np.array(names, dtype=np.object_)

    @property
    def columns_in_(self) -> tuple[str, ...]:
        """The raw columns, in their order."""
        return tuple(f"{party}/{name}" for party, name in _raw_columns(self.model.description))

    def encode(self, X: Any) -> Floats:
        """Encode a table of all parties' raw columns: float64 (rows, n_features_in_).

        Raises:
            TableProblem: a column lacks, stands there twice, or holds what cannot be read, or of a column of many rows
                no category is known. Unknown ones beside others are warned of.
        """
        table = _as_table(X)
        places = _places(_raw_columns(self.model.description), table.column_names)
        encoded = []
        for one in self.model.description.columns:
            columns = {name: _whole(table.column(places[f"{one.party}/{name}"])) for name in one.encoding.kinds}
            whole = table_from_arrays(f"{one.party}'s columns", one.encoding, columns, table.num_rows)
            _warn_of_unseen(one, whole)
            encoded.append(one.encoding.apply(whole))
        return np.hstack(encoded)

    def scores(self, X: Any) -> Floats:
        """Score a table, (rows, outputs): log-odds, or in the label's unit, or logarithms.

        Raises:
            TableProblem: as `encode`.
            ValueError: an array of another shape, or with a number that is not finite; or of a model with an offset.
        """
        if self.model.description.offset is None:
            return self.model.scores(self.encode(X) if _is_table(X) else self._encoded(X))
        if not _is_table(X):
            raise ValueError("scores of this model begin with an offset: give raw columns by name, the offset's too")
        return self.model.scores(self.encode(X)) + self._offset(_as_table(X), self.model.description.offset)

    def _offset(self, table: pa.Table, offset: Offset) -> Floats:
        """Read what each row's score begins with, (rows, 1)."""
        about = self.model.description
        places = _places(_raw_columns(about), table.column_names)
        column = _whole(table.column(places[f"{about.label_party}/{offset.column}"]))
        try:
            return offset.read(column).reshape(-1, 1)
        except UnusableError as problem:
            raise TableProblem(problem.what, problem.remedy, PUBLIC) from None

    def _encoded(self, X: ArrayLike) -> Floats:
        array = np.asarray(X, dtype=np.float64)
        if array.ndim != 2 or array.shape[1] != self.n_features_in_:
            raise ValueError(
                f"an array of shape {array.shape} came where (rows, {self.n_features_in_}) encoded columns are due; "
                f"give raw columns by name, as a mapping or a table"
            )
        return array


class Classifier(ClassifierMixin, Scorer):  # type: ignore[misc]
    """Scores of two classes or more, and what they say of these."""

    @property
    def classes_(self) -> NDArray[Any]:
        """0 and 1, or the texts of the label's classes."""
        classes = self.model.description.classes
        return np.array([0, 1]) if classes is None else np.array(classes.names)

    def decision_function(self, X: Any) -> Floats:
        """Log-odds of 1, (rows,); of more than two classes a score of each, (rows, classes)."""
        scores = self.scores(X)
        return scores if self.model.description.classes else scores[:, 0]

    def predict_proba(self, X: Any) -> Floats:
        """Predict the probability of each class, (rows, classes)."""
        scores = self.scores(X)
        if self.model.description.classes:
            return class_probabilities(self.model.description.link, scores)
        return np.column_stack([probabilities(-scores[:, 0]), probabilities(scores[:, 0])])

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the most probable class, (rows,)."""
        scores = self.scores(X)
        places = scores.argmax(axis=1) if self.model.description.classes else (scores[:, 0] > 0).astype(np.int64)
        return np.asarray(self.classes_[places])


class Regressor(RegressorMixin, Scorer):  # type: ignore[misc]
    """Predicts with a linear, Poisson, gamma or Tweedie link."""

    def predict(self, X: Any) -> Floats:
        """Predict the expected label, (rows,), in its own unit."""
        scores = self.scores(X)[:, 0]
        return expected(scores) if self.model.description.link in EXPOSURE_MODELS else scores


def _warn_of_unseen(columns: Columns, table: Table) -> None:
    try:
        for one in count_unseen(columns.encoding, [table]):
            warnings.warn(f"{columns.party}'s {one}", UnseenCategories, stacklevel=4)
    except UnusableError as problem:
        raise TableProblem(f"{columns.party}'s columns: {problem.what}", problem.remedy, PUBLIC) from None


def _is_table(X: Any) -> bool:
    return isinstance(X, Mapping) or hasattr(X, "__arrow_c_stream__")


def _as_table(X: Any) -> pa.Table:
    if not _is_table(X):
        raise TableProblem("no table of raw columns", "give a mapping from names to values, or a pyarrow Table", PUBLIC)
    try:
        return pa.table(dict(X) if isinstance(X, Mapping) else X)
    except (pa.ArrowException, ValueError, TypeError):
        remedy = "give each column values of one type, and all of them the same number"
        raise TableProblem("the columns are no table", remedy, PUBLIC) from None


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _raw_columns(about: ModelDescription) -> list[tuple[str, str]]:
    """List parties and names of the columns that a table must have."""
    columns = [(one.party, name) for one in about.columns for name in one.encoding.kinds]
    return columns if about.offset is None else [*columns, (about.label_party, about.offset.column)]


def _places(columns: list[tuple[str, str]], names: list[str]) -> dict[str, str]:
    """Map each `party/column` to its name in a table with these names."""
    wanted = {f"{party}/{name}": name for party, name in columns}
    there, owners = Counter(names), Counter(wanted.values())

    def place(full: str, name: str) -> str:
        alone = owners[name] == 1 and name not in wanted
        return name if alone and full not in there else full

    places = {full: place(full, name) for full, name in wanted.items()}
    lacking = [full for full, name in places.items() if name not in there]
    if lacking:
        remedy = "give every party's columns, named as `columns_in_` says where two have one of the same name"
        raise TableProblem(f"the table lacks {join_names(lacking)}", remedy, PUBLIC)
    twice = [name for name in places.values() if there[name] > 1]
    if twice:
        raise TableProblem(f"{join_names(twice)} stands there more than once", "give every column once", PUBLIC)
    return places
