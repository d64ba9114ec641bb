"""Derives who learns what from a job's description, for its approver and the audit log.

What is known beside it makes a sentence say what holds for this job. docs/protocol.md is where it is argued; nothing
here has seen a table, so that no number of rows is known.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Self

from tercet.schemas.files.job import PredictionJob, TrainingJob
from tercet.schemas.messages.kinds import Terms

ALIGNMENT, TRAINING, SCORING, RELEASE = "alignment", "training", "scoring", "release"  # when it is told

_SEEN = {  # by the helper, of the scores of a batch
    "logistic": "the absolute values of all scores, under noise, in secret order and under secret signs",
    "linear": "the absolute values of all scores, under noise, in secret order and under secret signs",
    "poisson": "all scores with their signs, under noise and in secret order",
    "gamma": "the differences of all scores and logarithms of labels, under noise and in secret order: in the first "
    "batches nearly the labels",
    "softmax": "rows of scores under noise, with their classes in secret order: which rows share a predicted class",
}
_HIDDEN = "in each batch the absolute values of all elements of each hidden layer, under noise, in secret order"


class AppliedModel(NamedTuple):
    """Describes the model that a prediction applies: link, holders of weights, layers."""

    link: str
    release: str
    hidden: bool

    @property
    def helped(self) -> bool:
        """Tell whether rows are scored with the helper, or each party scores its own."""
        return self.release != "owners" or self.hidden


class JobFacts(NamedTuple):
    """Holds the facts about a job beside its description."""

    columns: Mapping[str, int] = MappingProxyType({})  # encoded, by data party
    model: AppliedModel | None = None  # that a prediction applies
    exposed: str | None = None  # why the planner would refuse a job that accepts narrow columns; empty if it would not

    @classmethod
    def of(cls, job: TrainingJob | PredictionJob, terms: Terms | None) -> Self:
        """Collect the facts that the parties have agreed on so far."""
        if terms is None:
            return cls()
        scoring = terms.scoring
        model = None if scoring is None else AppliedModel(scoring.model, scoring.release, scoring.network is not None)
        return cls(dict(zip(job.data_parties, terms.columns, strict=True)), model)


class Revelation(NamedTuple):
    """Says that one or more parties learn one thing at one stage."""

    stage: str
    party: str
    what: str

    def __str__(self) -> str:
        verb = "learn" if " and " in self.party else "learns"  # no party's name has a blank
        return f"{self.party} {verb} {self.what}"


NOTHING = JobFacts()


def revelations(job: TrainingJob | PredictionJob, known: JobFacts = NOTHING) -> tuple[Revelation, ...]:
    """List all that a job tells anybody, by stage, beside sizes, times and progress.

    Of helpers that stand by, each learns what the first one does from when it takes over.
    """
    found = [*_of_alignment(job)]
    if isinstance(job, TrainingJob):
        found += [*_of_training(job, known.exposed), *_of_release(job, known.columns)]
    else:
        found += _of_scoring(job, known.model)
    return tuple(found)


def together(parties: Sequence[str]) -> str:
    """Join parties: one; one and two; or one, two and three."""
    return " and ".join(filter(None, [", ".join(parties[:-1]), parties[-1]]))


def _of_alignment(job: TrainingJob | PredictionJob) -> Iterator[Revelation]:
    everybody, helper = together(job.everybody), " or ".join(job.helpers)
    yield Revelation(
        ALIGNMENT,
        everybody,
        "how many rows are in common, how many encoded columns each party has and how much its rows differ",
    )
    if job.alignment == "aligned":
        yield Revelation(ALIGNMENT, together(job.data_parties), "that their rows are the same, in the same order")
        return
    if job.alignment == "helper":
        what = "how many ids each party has and how many of them are in which others' tables, under pseudonyms"
        yield Revelation(ALIGNMENT, helper, what)
    else:
        yield Revelation(ALIGNMENT, together(job.data_parties), "how many ids the other has")
    yield Revelation(ALIGNMENT, together(job.data_parties), "which of their own ids all of them have")


def _of_training(job: TrainingJob, exposed: str | None) -> Iterator[Revelation]:
    helper = " or ".join(job.helpers)
    yield Revelation(TRAINING, helper, f"in each batch {_SEEN[job.link]}; how training converges")
    if job.network is not None:
        yield Revelation(TRAINING, helper, _HIDDEN)
    if job.scorings:
        times = "once" if job.scorings == 1 else f"up to {job.scorings} times"
        what = f"the scores of held-out rows ({job.evaluation.holdout:.0%} of all in common), under noise, {times}"
        yield Revelation(TRAINING, job.label, what)
    whom = job.label if job.evaluation.loss_to == "label" else together(job.data_parties)
    if job.evaluation.loss:
        yield Revelation(TRAINING, whom, "the mean training loss of each epoch")
    if job.evaluation.held_out_loss:
        yield Revelation(TRAINING, whom, "the mean loss of all held-out rows after each epoch, and no score for it")
        yield Revelation(TRAINING, helper, "after each epoch the same of held-out rows as of a batch")
    yield Revelation(TRAINING, together(job.data_parties), "how large scores are at most, to a power of two")
    if job.early_stopping is not None:
        what = "after each epoch whether its model is the best so far, and whether training goes on"
        yield Revelation(TRAINING, together(job.everybody), what)
    if job.accept_narrow and exposed != "":
        why = f": {exposed}" if exposed else ", where they are so few that the planner would refuse the job"
        yield Revelation(TRAINING, f"{helper} or {job.label}", f"the parties' columns themselves{why}")


def _of_scoring(job: PredictionJob, model: AppliedModel | None) -> Iterator[Revelation]:
    score, helper = "the score of each row in common, under noise of each partner's own", " or ".join(job.helpers)
    if model is None:  # a helper knows it when the parties have agreed on it
        score += ': with release = "label" an equation with known weights for each row'
        what = "unless each party scores with its own columns' weights: what it sees of a batch in training"
        yield Revelation(SCORING, job.label, score)
        yield Revelation(SCORING, helper, what)
        return
    known = f", with weights that {job.label} knows: an equation for each row" if model.release == "label" else ""
    yield Revelation(SCORING, job.label, f"{score}{known}")
    if model.helped:
        # No label's logarithm is in a new score. Another link than these is a lie that is refused a moment later.
        seen = _SEEN.get("poisson" if model.link == "gamma" else model.link, "scores")
        yield Revelation(SCORING, helper, f"in each batch {seen}")
    if model.hidden:
        yield Revelation(SCORING, helper, _HIDDEN)


def _of_release(job: TrainingJob, columns: Mapping[str, int]) -> Iterator[Revelation]:
    match job.release:
        case "owners":
            for party in job.data_parties:
                yield Revelation(RELEASE, party, _owned_weights(job, party, columns))
        case "label":
            what = (
                "all weights, and everybody's column names, categories, means and deviations, and the covariance of "
                "columns that are whitened"
            )
            yield Revelation(RELEASE, job.label, what)
        case "shared":
            return


def _owned_weights(job: TrainingJob, party: str, columns: Mapping[str, int]) -> str:
    """Describe the weights that a party gets with release = "owners"."""
    own, above = "the weights of its own columns", "the intercept" if job.network is None else "all layers above"
    if party == job.label:
        return f"{above}, having no columns" if columns.get(party) == 0 else f"{own}, and {above}"
    return own + all_weights(job.label, rankers(job, columns))


def rankers(job: TrainingJob, columns: Mapping[str, int]) -> tuple[str, ...]:
    """List partners who together get all weights, as the label party has no columns."""
    if columns.get(job.label) != 0 or job.release != "owners" or job.network is not None:
        return ()
    return tuple(party for party in job.data_parties if party != job.label)


def all_weights(label: str, partners: Sequence[str]) -> str:
    """Phrase the part of a sentence after "the weights of its own columns"."""
    if not partners:
        return ""
    what = "all that there are" if len(partners) == 1 else f"with those of {together(partners)} all that there are"
    return f", {what}: customers can be ranked by them without {label}"
