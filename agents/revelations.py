"""What a job tells whom, from its description alone: for the person who is asked, and for the audit log.

docs/protocol.md is where it is argued; nothing here has seen a table, so that no number of rows is known.
"""

from collections.abc import Iterator
from typing import NamedTuple

from schemas.job import PredictionJob, TrainingJob

ALIGNMENT, TRAINING, SCORING, RELEASE = "alignment", "training", "scoring", "release"  # when it is told

_SEEN = {  # by the helper, of the scores of a batch
    "logistic": "the absolute values of all scores, under noise, in secret order and under secret signs",
    "linear": "the absolute values of all scores, under noise, in secret order and under secret signs",
    "poisson": "all scores with their signs, under noise and in secret order",
    "gamma": "the differences of all scores and logarithms of labels, under noise and in secret order: in the first "
    "batches nearly the labels",
    "softmax": "rows of scores under noise, with their classes in secret order: which rows share a predicted class",
}


class Revelation(NamedTuple):
    """One party learns one thing at one stage."""

    stage: str
    party: str
    what: str

    def __str__(self) -> str:
        return f"{self.party} learns {self.what}"


def revelations(job: TrainingJob | PredictionJob) -> tuple[Revelation, ...]:
    """Everything that the job tells anybody beside sizes, times and how far it has come, in the order of its stages.

    Of helpers that stand by, each learns what the first one does from when it takes over.
    """
    told = [*_of_alignment(job)]
    if isinstance(job, TrainingJob):
        told += [*_of_training(job), *_of_release(job)]
    else:
        told += _of_scoring(job)
    return tuple(told)


def _of_alignment(job: TrainingJob | PredictionJob) -> Iterator[Revelation]:
    everybody, helper = ", ".join(job.everybody), " or ".join(job.helpers)
    yield Revelation(
        ALIGNMENT,
        everybody,
        "how many rows are in common, how many encoded columns each party has and how much its rows differ",
    )
    if job.alignment == "aligned":
        yield Revelation(ALIGNMENT, " and ".join(job.data_parties), "that their rows are the same, in the same order")
        return
    if job.alignment == "helper":
        what = "how many ids each party has and how many of them are in which others' tables, under pseudonyms"
        yield Revelation(ALIGNMENT, helper, what)
    else:
        yield Revelation(ALIGNMENT, " and ".join(job.data_parties), "how many ids the other has")
    yield Revelation(ALIGNMENT, " and ".join(job.data_parties), "which of its own ids all the others have")


def _of_training(job: TrainingJob) -> Iterator[Revelation]:
    helper = " or ".join(job.helpers)
    yield Revelation(TRAINING, helper, f"in each batch {_SEEN[job.link]}; how training converges")
    if job.network is not None:
        what = "in each batch the absolute values of all elements of each hidden layer, under noise, in secret order"
        yield Revelation(TRAINING, helper, what)
    if job.scorings:
        times = "once" if job.scorings == 1 else f"up to {job.scorings} times"
        what = f"the scores of held-out rows ({job.evaluation.holdout:.0%} of all in common), under noise, {times}"
        yield Revelation(TRAINING, job.label, what)
    whom = job.label if job.evaluation.loss_to == "label" else " and ".join(job.data_parties)
    if job.evaluation.loss:
        yield Revelation(TRAINING, whom, "the mean training loss of each epoch")
    if job.evaluation.held_out_loss:
        yield Revelation(TRAINING, whom, "the mean loss of all held-out rows after each epoch, and no score for it")
        yield Revelation(TRAINING, helper, "after each epoch the same of held-out rows as of a batch")
    yield Revelation(TRAINING, " and ".join(job.data_parties), "how large scores are at most, to a power of two")
    if job.early_stopping is not None:
        what = "after each epoch whether its model is the best so far, and whether training goes on"
        yield Revelation(TRAINING, ", ".join(job.everybody), what)
    if job.accept_narrow:
        what = "columns themselves, where the parties' columns are so few that the planner would refuse the job"
        yield Revelation(TRAINING, f"{helper} or {job.label}", what)


def _of_scoring(job: PredictionJob) -> Iterator[Revelation]:
    what = (
        'the score of each row in common, under noise of each partner\'s own: with release = "label" an equation with '
        "known weights for each row"
    )
    yield Revelation(SCORING, job.label, what)
    what = "unless each party scores with its own columns' weights: what it sees of a batch in training"
    yield Revelation(SCORING, " or ".join(job.helpers), what)


def _of_release(job: TrainingJob) -> Iterator[Revelation]:
    match job.release:
        case "owners":
            for party in job.data_parties:
                above = " and all above them" if party == job.label else ""
                yield Revelation(RELEASE, party, f"the weights of its own columns{above}")
        case "label":
            what = "all weights, and everybody's column names, categories, means and deviations"
            yield Revelation(RELEASE, job.label, what)
        case "shared":
            return
