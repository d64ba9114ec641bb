"""Offers simulated joint training as scikit-learn estimators, for its searches.

All parties are simulated in this process. Nothing is protected: whoever calls it has everybody's columns already.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from tercet.agents.api.coefficients import plain_coefficients
from tercet.agents.api.fields import Activation, Schedule
from tercet.agents.api.frames import table_of, unused_name
from tercet.agents.api.joint_model import joint_model
from tercet.agents.api.result import history_of
from tercet.agents.api.simulation import Simulated, arrange, run_simulation
from tercet.agents.models.scorer import as_scorer
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Limits
from tercet.schemas.files.statistics import LabelModel

HALVES: Final = ("first", "second")  # the parties where `columns` names none

Columns = Mapping[str, Sequence[str | int]]
Parts = dict[str, pa.Table]  # a table of each party, rows in the same order


class _Joint(BaseEstimator):  # type: ignore[misc]  # of a library without types
    def __init__(
        self,
        columns: Columns | None = None,
        *,
        model: LabelModel | None = None,
        hidden: Sequence[int] = (),
        activation: Activation = "silu",
        epochs: int | None = None,
        batch: int | Literal["auto"] = "auto",
        rate: float | Literal["auto"] = "auto",
        schedule: Schedule | None = None,
        decay: float = 0.0,
        l2: float = 0.0,
        helper_sees: Literal["nothing", "scores"] | None = None,
        loss: bool = False,
        power: float | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.columns = columns
        self.model = model
        self.hidden = hidden
        self.activation = activation
        self.epochs = epochs
        self.batch = batch
        self.rate = rate
        self.schedule = schedule
        self.decay = decay
        self.l2 = l2
        self.helper_sees = helper_sees
        self.loss = loss
        self.power = power
        self.options = options

    def _train(self, parts: Parts, label: NDArray[Any], link: str) -> Self:
        check_consistent_length(np.empty(next(iter(parts.values())).num_rows), label)
        model, status = run_simulation(
            self._arrange(parts, label, link), lambda done: (joint_model(done), done.label_run.status())
        )
        self.scorer_ = as_scorer(model)
        self.history_ = history_of(status)
        self.n_iter_ = status.step
        if model.description.network is None:
            self._coefficients = plain_coefficients(model, self._order)
        return self

    def _arrange(self, parts: Parts, label: NDArray[Any], link: str) -> Simulated:
        """Arrange a job over the parts, with the label at the first party."""
        owner, name = next(iter(parts)), unused_name("label", parts)
        tables = parts | {owner: parts[owner].append_column(name, pa.array(label))}
        fields = {name: getattr(self, name) for name in ("batch", "rate", "decay", "l2", "loss")}
        optional = {name: getattr(self, name) for name in ("epochs", "schedule", "helper_sees", "power")}
        fields |= {name: value for name, value in optional.items() if value is not None}
        if len(self.hidden):
            fields |= {"model": "mlp", "hidden": self.hidden, "activation": self.activation, "output": link}
        else:
            fields["model"] = link
        # The limits protect partners, and here are none.
        fields["accept_narrow"] = True
        limits = Limits(min_rows=1)
        return arrange(tables, label=(owner, name), id=None, options=self.options or {}, fields=fields, limits=limits)

    def _divide(self, X: Any, *, reset: bool) -> Parts:
        """Give each party its table of X; with `reset` note what X is like."""
        if _is_mapping(X) and (self.columns is None or X.keys() == self.columns.keys()):
            parts = {party: table_of(f"X[{party!r}]", frame) for party, frame in X.items()}
            parts = {party: table.select(self._names(party, table)) for party, table in parts.items()}
            order = [(party, name) for party, table in parts.items() for name in table.column_names]
            features = len(order)
        else:
            table = self._read_table(X, reset=reset)
            parts = self._split(table)
            holders = {name: party for party, part in parts.items() for name in part.column_names}
            order = [(holders[name], name) for name in table.column_names if name in holders]
            features = table.num_columns
        rows = {table.num_rows for table in parts.values()}
        if len(rows) > 1:
            raise Invalid(
                f"X: the parties' frames have {min(rows):,} to {max(rows):,} rows; give all the same customers"
            )
        if reset:
            if rows == {1}:
                raise ValueError("X has n_samples = 1, and a model needs two or more")
            self._order = order
            if _is_mapping(X):
                self.n_features_in_ = features
        return parts

    def _read_table(self, X: Any, *, reset: bool) -> pa.Table:
        if _is_mapping(X):
            return table_of("X", X)
        if hasattr(X, "__arrow_c_stream__"):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return table_of("X", X)
        array = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")
        return pa.table({f"x{place}": array[:, place] for place in range(array.shape[1])})

    def _split(self, table: pa.Table) -> Parts:
        if self.columns is not None:
            return {party: table.select(self._names(party, table)) for party in self.columns}
        names = table.column_names
        half = len(names) // 2
        return dict(zip(HALVES, (table.select(names[:half]), table.select(names[half:])), strict=True))

    def _names(self, party: str, table: pa.Table) -> list[str]:
        """Name a party's columns in a table."""
        if self.columns is None:
            return list(table.column_names)
        there = table.column_names
        numbers = dict(enumerate(there)) | {name: name for name in there}
        if lacking := [one for one in self.columns[party] if one not in numbers]:
            raise Invalid(f"columns: X has no column {lacking[0]!r}, which {party} holds")
        return [numbers[one] for one in self.columns[party]]

    def _rows_to_score(self, X: Any) -> pa.Table:
        """Make the table that the scorer takes."""
        check_is_fitted(self)
        parts = self._divide(X, reset=False)
        return pa.table(
            {f"{party}/{name}": part.column(name) for party, part in parts.items() for name in part.column_names}
        )

    def _coefficient(self, what: str) -> Any:
        """Give one of a linear model's coefficients; a network has none."""
        if not hasattr(self, "_coefficients"):
            raise AttributeError(f"{type(self).__name__} has no coefficients: it is not fitted, or has hidden layers")
        return getattr(self._coefficients, what)

    @property
    def coef_names_(self) -> NDArray[np.object_]:
        """Names of the columns of `coef_`: a number's own, `column=category` of a category."""
        return np.array(self._coefficient("names"), dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.non_deterministic = True  # secrets come from the system's randomness, rows' order and rounding from them
        return tags


class JointClassifier(ClassifierMixin, _Joint):  # type: ignore[misc]
    """Classifies by a model that is trained jointly over simulated parties.

    >>> import numpy as np, tercet
    >>> X = np.arange(200.0).reshape(50, 4) % 7
    >>> y = X[:, 0] > X[:, 3]
    >>> joint = tercet.JointClassifier({"bank": [0, 1], "card": [2, 3]}, epochs=3).fit(X, y)
    >>> joint.predict_proba(X).shape
    (50, 2)

    The model is logistic regression of two classes; of more it is one-vs-rest, or softmax where the helper sees scores.

    X is a data frame of pandas, polars or pyarrow, an array, a mapping from names to columns, or a mapping from party
    to frame. Row n of all frames is the same customer.

    Args:
        columns: by party which columns of X it holds, by name or by number. The first party holds the label. None for
            two parties with half of the columns each, or where X is a mapping from party to frame.
        model: a link; None for the usual one.
        hidden: the width of each hidden layer; without any it is a linear model.
        activation: of hidden layers.
        epochs, batch, rate, schedule, decay, l2: as in [training] of a job; None for what fits most tables.
        helper_sees: as in [privacy] of a job; None for nothing.
        power: of a Tweedie model; None for the usual one.
        loss: whether each epoch's training loss is in `history_`; it needs 32 rows of each class.
        options: by party what [tables.NAME] of its settings may say, such as `categorical`.

    Attributes:
        classes_: of the label, sorted.
        coef_: (1, columns), or of several classes (classes, columns), in the units of X; only without hidden layers.
        intercept_: (1,) or (classes,).
        coef_names_: names of these columns.
        history_: by epoch, as `Result.history` has it.
        n_iter_: steps.
        n_features_in_, feature_names_in_: of X.
        scorer_: the whole model, as `tercet.load` gives it.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on X (rows, columns) and classes y (rows,).

        Raises:
            Invalid: a parameter is wrong.
            JobFailed: the parties could not train.
        """
        check_classification_targets(y)
        parts = self._divide(X, reset=True)
        label = column_or_1d(y, warn=True)
        self.classes_, codes = np.unique(label, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("y has one class only, and a classifier needs two")
        several = "softmax" if self.helper_sees == "scores" else "one-vs-rest"
        return self._train(parts, codes, self.model or ("logistic" if len(self.classes_) == 2 else several))

    def decision_function(self, X: Any) -> Floats:
        """Compute log-odds of the second class, (rows,); of several classes (rows, classes)."""
        rows = self._rows_to_score(X)
        return np.asarray(self.scorer_.decision_function(rows))

    def predict_proba(self, X: Any) -> Floats:
        """Predict the probability of each class, (rows, classes)."""
        rows = self._rows_to_score(X)
        return np.asarray(self.scorer_.predict_proba(rows))

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the most probable class, (rows,)."""
        places = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[places])

    @property
    def coef_(self) -> Floats:
        """Coefficients in the units of X."""
        return np.asarray(self._coefficient("coef"))

    @property
    def intercept_(self) -> Floats:
        """The intercept of each row of `coef_`."""
        return np.asarray(self._coefficient("intercept"))


class JointRegressor(RegressorMixin, _Joint):  # type: ignore[misc]
    """Predicts numbers by a model that is trained jointly over simulated parties.

    >>> import numpy as np, tercet
    >>> X = np.arange(200.0).reshape(50, 4) % 7
    >>> joint = tercet.JointRegressor({"bank": [0, 1], "card": [2, 3]}, epochs=20).fit(X, X[:, 0] - X[:, 3])
    >>> bool(joint.score(X, X[:, 0] - X[:, 3]) > 0.9)
    True

    The model is linear regression; `model` may say "poisson", "gamma" or "tweedie", and `power` the power of the last.
    Everything else is as for `JointClassifier`.

    Attributes:
        coef_: (columns,), in the units of X; only without hidden layers.
        intercept_: a number.
        coef_names_, history_, n_iter_, n_features_in_, feature_names_in_, scorer_: as for `JointClassifier`.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on X (rows, columns) and numbers y (rows,).

        Raises:
            Invalid: a parameter is wrong.
            JobFailed: the parties could not train.
        """
        parts = self._divide(X, reset=True)
        label = column_or_1d(y, warn=True).astype(np.float64)
        assert_all_finite(label, input_name="y")
        return self._train(parts, label, self.model or "linear")

    def predict(self, X: Any) -> Floats:
        """Predict the expected label, (rows,)."""
        rows = self._rows_to_score(X)
        return np.asarray(self.scorer_.predict(rows))

    @property
    def coef_(self) -> Floats:
        """Coefficients in the units of X."""
        return np.asarray(self._coefficient("coef")[0])

    @property
    def intercept_(self) -> float:
        """The intercept."""
        return float(self._coefficient("intercept")[0])


def _is_mapping(X: Any) -> bool:
    """Tell whether X is a mapping of names; a sparse array may be one of places."""
    return isinstance(X, Mapping) and not hasattr(X, "shape")
