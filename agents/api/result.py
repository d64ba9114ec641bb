"""Holds what a finished job gives: metrics, history, weights, the page, the model.

It holds what one party may know of a real job, and of a simulation what all parties together know.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import csv, parquet

from tercet.agents.api.report import Report
from tercet.agents.models import full_model, model_part
from tercet.agents.models.plain_weights import blocks_of, class_names, weights_by_party
from tercet.agents.models.scorer import Classifier, Regressor, as_scorer
from tercet.agents.scorecards.card import Cards
from tercet.agents.scorecards.card_file import card_rows, read_cards
from tercet.agents.statistics.result import StatisticsResult, read_statistics, statistics_file
from tercet.agents.statistics.tables import bin_rows, column_rows, correlation_rows
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.messages.console import JobStatus

PARQUET: Final = ".parquet"

Weights = Mapping[str, Mapping[str, float]]
Scorer = Classifier | Regressor


class Result:
    """Holds a finished job's result.

    Attributes:
        status: all that the agent tells of the job: sizes, times, bytes, warnings.
        metrics: of the held-out rows, by name, under the model that was released; empty where this party may not know.
        intervals: of some metrics, low and high, with a confidence of 95%.
        deviations: where the job has folds: standard deviations of the metrics, which then are means over them.
        folds: metrics of each fold, by the model of the others' rows.
        history: an entry for each epoch, which a data frame of any library takes: `epoch` (from 1), `rate` of its first
            step, `seconds`, `loss` and `held_out_loss`, and the metrics of the held-out rows. None stands for what
            was not measured, or not told to this party.
    """

    def __init__(
        self,
        status: JobStatus,
        *,
        weights: Callable[[], Weights],
        report: Report | None,
        scorer: Callable[[], Scorer | None],
        scores: Callable[[], pa.Table | None] = lambda: None,
        statistics: Callable[[], Sequence[StatisticsResult]] = tuple,  # this party's first
        cards: Callable[[Mapping[str, Any]], Cards],  # by changes of the scorecard
    ) -> None:
        """Each function is called only if somebody looks."""
        self.status, self._report = status, report
        self._weights, self._scorer, self._scores = weights, scorer, scores
        self._statistics, self._cards = statistics, cards

    @property
    def job(self) -> str:
        """The job's id."""
        return self.status.job

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the held-out rows, by name."""
        return dict(self.status.metrics)

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Low and high of some metrics, with a confidence of 95%."""
        return dict(self.status.intervals)

    @property
    def deviations(self) -> dict[str, float]:
        """Standard deviations of the metrics over folds; empty without folds."""
        return dict(self.status.deviations)

    @property
    def folds(self) -> list[dict[str, float]]:
        """Metrics of each fold, by name."""
        return [dict(fold) for fold in self.status.folds]

    @property
    def history(self) -> list[dict[str, Any]]:
        """Rates, seconds, losses and metrics by epoch."""
        return history_of(self.status)

    @property
    def report(self) -> Report | None:
        """The page about the job; None where the settings ask for none."""
        return self._report

    @cached_property
    def weights(self) -> Weights:
        """Weights by party and encoded column, before whitening, as far as it may know them.

        Of several classes there is one for each column and class. Of a network it is the size of a column's weights in
        the first layer.
        """
        return self._weights()

    @cached_property
    def scorer(self) -> Scorer | None:
        """The whole model as a scikit-learn estimator; None where this party does not hold it."""
        return self._scorer()

    @cached_property
    def scores(self) -> pa.Table | None:
        """Scores with their ids, as texts, at the label party; None where it gets none.

        They are those of a prediction, or of held-out rows where the training asks for `held_out_scores`.
        """
        return self._scores()

    def scorecard(self, **changes: Any) -> list[dict[str, Any]]:
        """List the points of each value of the columns whose weights it may know, a row each.

        Args:
            changes: `pdo`, `base_points`, `base_odds` and `positives`, where they are to be other than in the job.

        Raises:
            Invalid, ModelPartProblem: it may know no weights, the model is not logistic, or a change is wrong.
        """
        return card_rows(self._cards(changes))

    @cached_property
    def _all_statistics(self) -> Sequence[StatisticsResult]:
        return self._statistics()

    @property
    def statistics(self) -> StatisticsResult | None:
        """The file of a statistics job; None of another job.

        Of a simulation it is the label party's.
        """
        return next(iter(self._all_statistics), None)

    @property
    def columns(self) -> list[dict[str, Any]]:
        """Columns of a statistics job, what tells most of the label first.

        A data frame takes it. Each has `party`, `number`, `column`, `bins`, `iv`, `ks` and `gini`, or `explained`, and
        `vif`.
        """
        return [] if self.statistics is None else column_rows(self.statistics)

    @property
    def bins(self) -> list[dict[str, Any]]:
        """Bins of this party's own columns in a statistics job, of a simulation all parties'.

        A data frame takes it. Each has `party`, `column`, `bin` and `rows`, and `events`, `rate` and `woe` where the
        party was told.
        """
        return [
            {"party": found.party} | row
            for found in self._all_statistics
            for column in found.own
            for row in bin_rows(found, column)
        ]

    @property
    def correlations(self) -> list[dict[str, Any]]:
        """Correlations of a statistics job: `first`, `second`, `correlation`."""
        return [] if self.statistics is None else list(correlation_rows(self.statistics))

    def __repr__(self) -> str:
        metrics = ", ".join(f"{name}={value:.4f}" for name, value in self.metrics.items())
        return f"Result({self.job!r}{': ' if metrics else ''}{metrics})"


def history_of(status: JobStatus) -> list[dict[str, Any]]:
    """Make an entry for each epoch, all with the same keys."""
    names = sorted({name for epoch in status.history for name in epoch.metrics})
    return [
        epoch.model_dump(exclude={"metrics"}) | {name: epoch.metrics.get(name) for name in names}
        for epoch in status.history
    ]


def result_of_status(status: JobStatus, state: Path) -> Result:
    """Make the result of a party's own job, whose files are in the state folder on this machine.

    Raises:
        Invalid, ModelPartProblem: later, when a file is needed that this user cannot read.
    """
    part, page = state / "models" / status.job, state / "reports" / f"{status.job}.html"
    folder = part if status.kind == "training" else state / "predictions" / status.job
    scores = None if status.scores is None else folder / Path(status.scores).name
    return Result(
        status,
        weights=lambda: {} if status.model_part is None else _own_weights(part),
        report=None if status.report is None else Report(lambda: _read(page).decode()),
        scorer=lambda: None if status.model_part is None else _own_scorer(part),
        scores=lambda: None if scores is None else read_scores(scores),
        statistics=lambda: () if status.statistics is None else (read_statistics(statistics_file(state, status.job)),),
        cards=lambda changes: read_cards(part, changes),
    )


def _own_weights(folder: Path) -> Weights:
    part, arrays = model_part.load(folder)
    if not (part.whole or part.release == "owners"):
        return {}
    outputs = class_names(part.classes, part.outputs)
    return weights_by_party(blocks_of(part, arrays), outputs, network=part.network is not None)


def _own_scorer(folder: Path) -> Scorer | None:
    part, arrays = model_part.load(folder)
    return as_scorer(full_model.of_part(part, arrays)) if part.whole else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}; ask on the agent's machine, as a user who may read it") from None


def read_scores(path: Path) -> pa.Table:
    """Read a file of scores, with ids as texts.

    Raises:
        Invalid: this user cannot read it.
    """
    content = pa.BufferReader(_read(path))
    if path.suffix == PARQUET:
        return parquet.read_table(content)
    return csv.read_csv(content, convert_options=csv.ConvertOptions(column_types={"id": pa.string()}))
