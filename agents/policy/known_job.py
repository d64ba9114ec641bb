"""Holds a job and the facts that are known about it; they choose its disclosures.

It sees no table. A party learns more facts as a run goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Self

from tercet.schemas.files.evaluation import Evaluation
from tercet.schemas.files.job import AnyJob, PredictionJob, StatisticsJob, TrainingJob
from tercet.schemas.messages.kinds import Terms

ANY_JOB = {  # words for the blanks of a row in documents, where no job is known
    "label": "the label party",
    "times": "once or after epochs",
    "why": ", where records are of few kinds",
    "bare": ", if the label party has no columns",
    "if_label": 'with release = "label" ',
    "least": "`least`",
    "of_cell": "`least` or more of a class",
}


class AppliedModel(NamedTuple):
    """Describes the model that a prediction applies: link, release, layers, mode."""

    link: str
    release: str
    hidden: bool
    blind: bool = False  # the helper sees no score

    @property
    def helped(self) -> bool:
        """Tell whether the helper takes part in scoring; if not, each party scores its own columns."""
        return self.release != "owners" or self.hidden


class JobFacts(NamedTuple):
    """Holds the facts about a job beside its description."""

    columns: Mapping[str, int] = MappingProxyType({})  # encoded, by data party
    model: AppliedModel | None = None  # that a prediction applies
    exposed: str | None = None  # why the planner would refuse this job without `accept_narrow`; empty if it would not
    serving: bool = False  # whether this party's settings let single rows be scored for the label party

    @classmethod
    def of(cls, job: AnyJob, terms: Terms | None) -> Self:
        """Collect the facts that the parties have agreed on so far."""
        if terms is None:
            return cls()
        scoring = terms.scoring if isinstance(job, PredictionJob) else None
        model = None
        if scoring is not None:
            model = AppliedModel(scoring.model, scoring.release, scoring.network is not None, scoring.blind)
        return cls(dict(zip(job.data_parties, terms.columns, strict=True)), model)


NOTHING = JobFacts()


class Case(NamedTuple):
    """Holds a job and the facts that are known about it."""

    job: AnyJob
    known: JobFacts = NOTHING

    @property
    def training(self) -> TrainingJob | None:
        """Give the job, if it trains."""
        return self.job if isinstance(self.job, TrainingJob) else None

    @property
    def statistics(self) -> StatisticsJob | None:
        """Give the job, if it counts."""
        return self.job if isinstance(self.job, StatisticsJob) else None

    @property
    def predicts(self) -> bool:
        """Tell whether it is a prediction."""
        return isinstance(self.job, PredictionJob)

    @property
    def trains_blind(self) -> bool:
        """Tell whether it is a training in which the helper learns nothing."""
        return self.training is not None and self.training.is_blind

    @property
    def trains_shown(self) -> bool:
        """Tell whether it is a training in which the helper sees scores."""
        return self.training is not None and not self.training.is_blind

    @property
    def link(self) -> str | None:
        """Name the link whose scores the helper sees; None if it sees none or it is not known yet."""
        if self.training is not None:
            return None if self.training.is_blind else self.training.link
        model = self.known.model
        if model is None or not model.helped or model.blind:
            return None
        # Scores of a gamma training are less log(label / mean label); a new row has no label.
        return "poisson" if model.link == "gamma" else model.link

    @property
    def hidden(self) -> bool:
        """Tell whether the model has hidden layers, as far as that is known."""
        if self.training is not None:
            return self.training.network is not None
        return self.known.model is not None and self.known.model.hidden

    @property
    def serves(self) -> bool:
        """Tell whether the job's model may score single rows, as far as one party's settings say."""
        owned = self.asks(lambda job: job.release == "owners" and job.network is None)
        return owned and self.known.serving

    @property
    def partners(self) -> tuple[str, ...]:
        """Name the data parties without the label."""
        return tuple(party for party in self.job.data_parties if party != self.job.label)

    @property
    def bare(self) -> bool:
        """Tell whether the label party is known to have no columns."""
        return self.known.columns.get(self.job.label) == 0

    @property
    def rankers(self) -> tuple[str, ...]:
        """Name the partners who together get all weights of the model, if there are such."""
        return rankers(self.training, self.known.columns) if self.training is not None else ()

    def asks(self, condition: Callable[[TrainingJob], bool]) -> bool:
        """Tell whether the job is a training for which the condition holds."""
        return self.training is not None and condition(self.training)

    def counts(self, condition: Callable[[StatisticsJob], bool] = lambda _: True) -> bool:
        """Tell whether the job is one of statistics for which the condition holds."""
        return self.statistics is not None and condition(self.statistics)

    def holds_out(self, condition: Callable[[Evaluation], bool]) -> bool:
        """Tell whether the job leaves out rows by a choice for which the condition holds."""
        return not isinstance(self.job, PredictionJob) and condition(self.job.evaluation)

    def words(self) -> dict[str, str]:
        """Give the words for the blanks of a row."""
        words = ANY_JOB | {"label": self.job.label}
        if self.known.model is not None:
            words["if_label"] = ""
        if self.bare:
            words["bare"] = ""
        if self.statistics is not None:
            least = words["least"] = str(self.statistics.statistics.least)
            of_class = self.statistics.counts_classes
            words["of_cell"] = f"{least} or more of a class" if of_class else f"{least} rows or more"
        if self.training is not None:
            times = "once" if self.training.scorings == 1 else f"up to {self.training.scorings} times"
            evaluation = self.training.evaluation
            column = evaluation.holdout_column
            which = f"{evaluation.holdout:.0%} of all" if column is None else f"chosen by {column}"
            if evaluation.folds:
                which = f"all rows in {evaluation.folds} folds"
            words["times"] = f"{which}, {times}"
            if self.known.exposed:
                words["why"] = f": {self.known.exposed}"
        return words


def together(parties: Sequence[str]) -> str:
    """Join names: one; one and two; or one, two and three."""
    return " and ".join(filter(None, [", ".join(parties[:-1]), parties[-1]]))


def rankers(job: TrainingJob, columns: Mapping[str, int]) -> tuple[str, ...]:
    """List partners who together get all weights, as the label party has no columns."""
    if columns.get(job.label) != 0 or job.release != "owners" or job.network is not None:
        return ()
    return tuple(party for party in job.data_parties if party != job.label)
