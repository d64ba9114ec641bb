"""Lists who learns what, for `tercet job show`, the audit log and the documents.

docs/protocol.md gives the arguments. After a change here run `make documents`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tercet.agents.policy.known_job import Case, together
from tercet.schemas.files.job import StatisticsJob, TrainingJob
from tercet.schemas.files.statistics import CLASSES

ALWAYS, ALIGNMENT, TRAINING, SCORING, RELEASE = "always", "alignment", "training", "scoring", "release"  # when
SERVING = "serving"  # after a job: while customers wait
STAGES = (ALWAYS, ALIGNMENT, TRAINING, SCORING, RELEASE, SERVING)

_UNSIGNED = "noise ±1/4 or more, secret order and signs"
_SIGNED = "noise ±1/4 or more, secret order"
_CLASSES = "noise ±1/2 or more, secret order, of classes too"
_PARTNERS = "noise of each partner's own"
_LASTING = "noise of each partner's own, lasting"
_BUDGETS = "noise; partners' budgets"
_BATCH = "what protects a batch"
_PSEUDONYMS = "pseudonyms, new in each run"
_ONE_NUMBER = "a mean over 32 rows or more"
_ALL_ROWS = "a mean over all rows"
_SOME_ROWS = "a noised mean of many rows"
_OWN_BOUND = "its own agent's min_rows"
_CELLS = "secret order, {of_cell}"
_OWN_CELLS = "{of_cell}"
_MANY_ROWS = "{least} rows for each bin"


class Disclosure(NamedTuple):
    """Says who learns what, when, and its protection; `where` chooses jobs of its group."""

    who: str
    when: str
    what: str
    protection: str = ""
    where: Callable[[Case], bool] = lambda _: True


class Group(NamedTuple):
    """Gathers rows for the jobs that `where` chooses; `jobs` is their name in documents."""

    jobs: str
    where: Callable[[Case], bool]
    rows: tuple[Disclosure, ...]


def _helpers_that_see(case: Case) -> Sequence[str]:
    return () if case.trains_blind else case.job.helpers


def _shows_scores(case: Case) -> bool:
    return case.trains_shown


def _trains(condition: Callable[[TrainingJob], bool]) -> Callable[[Case], bool]:
    """Choose trainings for which the condition holds."""
    return lambda case: case.asks(condition)


def _counts(condition: Callable[[StatisticsJob], bool]) -> Callable[[Case], bool]:
    """Choose statistics for which the condition holds."""
    return lambda case: case.counts(condition)


_scores_rows = _trains(lambda job: job.scorings > 0)
_opens_to_owners = _trains(lambda job: job.release == "owners")
_counts_amounts = _counts(lambda job: not job.counts_classes)

WHO: Mapping[str, Callable[[Case], Sequence[str]]] = {  # the parties of a job that a row's `who` stands for
    "every party": lambda case: (together(case.job.everybody),),
    "data parties": lambda case: (together(case.job.data_parties),),
    "data party": lambda case: [party for party in case.job.data_parties if case.known.columns.get(party) != 0],
    "label party": lambda case: (case.job.label,),
    "partners": lambda case: (together(case.partners),),
    "helper": lambda case: (" or ".join(case.job.helpers),),
    "helper or label party": lambda case: (" or ".join((*_helpers_that_see(case), case.job.label)),),
    "standby helper": lambda case: (" or ".join(case.job.standby),),
    "broker": lambda _: ("the broker's operator",),
    "nobody": lambda _: ("nobody",),
}
SERVED = Group(
    "`tercet serve`, where a partner has a `serving_table`",
    lambda case: case.serves,
    (
        Disclosure("label party", SERVING, "the score of each row that it asks for", _LASTING),
        Disclosure("label party", SERVING, "of each whether all partners have it and may score it"),
        Disclosure("label party", SERVING, "of a changed row each partner's change", "rescoring = false; noise"),
        Disclosure("partners", SERVING, "which of their own rows are asked for, and when"),
        Disclosure("partners", SERVING, "hashes of other ids that are asked for", "a key of the two parties"),
        Disclosure("broker", SERVING, "when the label party asks, and the size of what it asks"),
    ),
)
DISCLOSURES: tuple[Group, ...] = (
    Group(
        "every job",
        lambda _: True,
        (
            Disclosure("every party", ALIGNMENT, "how many rows are in common, and how many are held out"),
            Disclosure(
                "every party",
                ALIGNMENT,
                "how many encoded columns each party has",
                where=lambda case: not case.counts(),
            ),
            Disclosure(
                "every party",
                ALIGNMENT,
                "two entropies of each party's columns",
                "rounding to 1/4 bit",
                lambda case: not case.counts(),
            ),
            Disclosure("every party", ALWAYS, "how far each party is, and whom it waits for"),
            Disclosure(
                "every party", ALWAYS, "of a failure its code, culprit, stage and reason", "no data in a reason"
            ),
            Disclosure("broker", ALWAYS, "names of parties and jobs; kinds, addresses, sizes and times of messages"),
        ),
    ),
    Group(
        '`alignment = "helper"`',
        lambda case: case.job.alignment == "helper",
        (
            Disclosure("helper", ALIGNMENT, "how many ids each party has", _PSEUDONYMS),
            Disclosure("helper", ALIGNMENT, "how many ids are in which parties' tables", _PSEUDONYMS),
            Disclosure("data parties", ALIGNMENT, "which of their own ids all of them have"),
        ),
    ),
    Group(
        '`alignment = "ecdh"`',
        lambda case: case.job.alignment == "ecdh",
        (
            Disclosure("data parties", ALIGNMENT, "how many ids the other has"),
            Disclosure("data parties", ALIGNMENT, "which of their own ids all of them have"),
        ),
    ),
    Group(
        '`alignment = "aligned"`',
        lambda case: case.job.alignment == "aligned",
        (Disclosure("data parties", ALIGNMENT, "whether their rows are the same, in the same order"),),
    ),
    Group(
        '`helper_sees = "nothing"`, the default where the model allows it',
        lambda case: case.trains_blind,
        (
            Disclosure("helper", TRAINING, "in which order rows are used, by number", "no id or value with a number"),
            Disclosure("helper", TRAINING, "how many steps are done"),
            Disclosure("data parties", TRAINING, "the root mean square of an epoch's last scores", _SOME_ROWS),
            Disclosure("data parties", TRAINING, "and that of each hidden layer", _SOME_ROWS, lambda case: case.hidden),
            Disclosure(
                "data parties",
                TRAINING,
                "of gamma that of the scores less log(label / mean label)",
                _ALL_ROWS,
                _trains(lambda job: job.model == "gamma"),
            ),
        ),
    ),
    Group(
        '`helper_sees = "scores"`',
        _shows_scores,
        (
            Disclosure("helper", TRAINING, "how training converges"),
            Disclosure("data parties", TRAINING, "four times the largest size of a score, up to the next power of two"),
        ),
    ),
    Group(
        '`helper_sees = "scores"`, no hidden layer, no `start`',
        lambda case: case.trains_shown and not case.hidden and case.asks(lambda job: job.start is None),
        (Disclosure("helper", TRAINING, "that all weights are 0 at the first step"),),
    ),
    Group(
        '`rate = "auto"`, no hidden layer',
        _trains(lambda job: job.training.rate == "auto" and job.network is None),
        (Disclosure("every party", ALIGNMENT, "how many columns a table has that is not whitened"),),
    ),
    Group(
        '`helper_sees = "scores"`, `model = "logistic"`, `"linear"`',
        lambda case: case.link in {"logistic", "linear"},
        (Disclosure("helper", TRAINING, "each score of a batch without its sign", _UNSIGNED),),
    ),
    Group(
        '`helper_sees = "scores"`, `model = "poisson"`',
        lambda case: case.link == "poisson",
        (Disclosure("helper", TRAINING, "each score of a batch with its sign", _SIGNED),),
    ),
    Group(
        '`helper_sees = "scores"`, `model = "gamma"`',
        lambda case: case.link == "gamma",
        (
            Disclosure("helper", TRAINING, "each score of a batch less log(label / mean label)", _SIGNED),
            Disclosure("helper", TRAINING, "in the first batches nearly the labels", _SIGNED),
        ),
    ),
    Group(
        '`model = "softmax"`',
        lambda case: case.link == "softmax" and not case.hidden,
        (Disclosure("helper", TRAINING, "the scores of each row of a batch", _CLASSES),),
    ),
    Group(
        '`model = "mlp"` with `output = "softmax"`',
        lambda case: case.link == "softmax" and case.hidden,
        (Disclosure("helper", TRAINING, "differences of each row's scores", _CLASSES),),
    ),
    Group(
        "both of these",
        lambda case: case.link == "softmax",
        (
            Disclosure("every party", ALIGNMENT, "how many classes there are", where=lambda c: c.training is not None),
            Disclosure("helper", TRAINING, "which rows of a batch share a predicted class", "secret order"),
            Disclosure("helper", TRAINING, "which class that is, where classes are unbalanced", "secret order"),
        ),
    ),
    Group(
        '`model` or `output` is `"one-vs-rest"`',
        _trains(lambda job: job.link == "one-vs-rest"),
        (Disclosure("every party", ALIGNMENT, "how many classes there are"),),
    ),
    Group(
        '`helper_sees = "scores"`, `model = "mlp"`, beside its output\'s scores as above',
        lambda case: case.hidden and case.link is not None,
        (
            Disclosure("helper", TRAINING, "elements of hidden layers without signs", _UNSIGNED),
            Disclosure(
                "helper",
                ALWAYS,
                "after a fault the same elements anew",
                "other noise, the same order",
                lambda c: c.training is not None,
            ),
        ),
    ),
    Group(
        "`[evaluation] holdout` and `metrics`",
        _scores_rows,
        (
            Disclosure("label party", TRAINING, "the scores of held-out rows, {times}", _PARTNERS),
            Disclosure("helper", TRAINING, "of held-out rows what it sees of a batch", _BATCH, _shows_scores),
        ),
    ),
    Group(
        "`[evaluation] folds`",
        _trains(lambda job: job.evaluation.folds > 0),
        (
            Disclosure("label party", TRAINING, "so of each row a score by a model of other rows", _PARTNERS),
            Disclosure("helper", TRAINING, "that of each training, one more than folds", _BATCH, _shows_scores),
        ),
    ),
    Group(
        "`start`",
        _trains(lambda job: job.start is not None),
        (
            Disclosure("every party", ALIGNMENT, "bits, scale and score bound of the model to start at"),
            Disclosure("helper", TRAINING, "of the first batches scores by that model", _BATCH, _shows_scores),
            Disclosure("label party", TRAINING, "scores by a model near another one", _BUDGETS, _scores_rows),
            Disclosure(
                "data party",
                RELEASE,
                "of its own columns how these rows changed weights",
                "budget of models",
                _opens_to_owners,
            ),
            Disclosure(
                "data party", RELEASE, "so nearly its weights at the start, if they were shared", where=_opens_to_owners
            ),
            Disclosure(
                "label party",
                RELEASE,
                "so nearly all weights at the start, and how they changed",
                where=_trains(lambda job: job.release == "label"),
            ),
        ),
    ),
    Group(
        "`[evaluation] held_out_scores`",
        _trains(lambda job: job.evaluation.held_out_scores),
        (Disclosure("label party", RELEASE, "scores of held-out rows with ids, as a file", _PARTNERS),),
    ),
    Group(
        "`[evaluation] split`",
        lambda case: case.holds_out(lambda evaluation: evaluation.split is not None),
        (
            Disclosure("data parties", ALIGNMENT, "whether each has the key of the split"),
            Disclosure("label party", TRAINING, "scores of the same rows in other jobs too", _BUDGETS, _scores_rows),
        ),
    ),
    Group(
        "`[evaluation] holdout_column`",
        lambda case: case.holds_out(lambda evaluation: evaluation.holdout_column is not None),
        (Disclosure("partners", ALIGNMENT, "of each row in common whether {label}'s column holds it out"),),
    ),
    Group(
        "`offset` or `exposure`",
        _trains(lambda job: job.offset_of(job.label) is not None),
        (
            Disclosure("nobody", TRAINING, "what {label} adds to a score, beside {label} itself"),
            Disclosure("data parties", TRAINING, "scores with it in the root mean square above", _SOME_ROWS),
            Disclosure("label party", RELEASE, "a model of few rows, if it chooses these by offsets"),
        ),
    ),
    Group(
        "`[training] weights` or `class_weights`",
        _trains(lambda job: job.training.weighs),
        (
            Disclosure("nobody", TRAINING, "how often a row counts, beside {label} itself"),
            Disclosure("label party", RELEASE, "a model of few rows, if it chooses these by weights", _OWN_BOUND),
            Disclosure(
                "data parties",
                TRAINING,
                "scores with log(weight) in that root mean square",
                _SOME_ROWS,
                _trains(lambda job: job.link == "poisson"),
            ),
            Disclosure(
                "every party",
                ALWAYS,
                "names and weights of the label's classes",
                where=_trains(lambda job: isinstance(job.training.class_weights, tuple)),
            ),
        ),
    ),
    Group(
        "`[evaluation] loss`",
        _trains(lambda job: job.evaluation.loss),
        (Disclosure("label party", TRAINING, "the mean training loss of each epoch", _ONE_NUMBER),),
    ),
    Group(
        "`[evaluation] held_out_loss`",
        _trains(lambda job: job.evaluation.held_out_loss),
        (
            Disclosure("label party", TRAINING, "the mean held-out loss after each epoch", _ONE_NUMBER),
            Disclosure(
                "helper", TRAINING, "after each epoch of held-out rows what it sees of a batch", _BATCH, _shows_scores
            ),
        ),
    ),
    Group(
        '`[evaluation] loss_to = "all"`',
        lambda case: case.asks(
            lambda job: job.evaluation.loss_to == "all" and (job.evaluation.loss or job.evaluation.held_out_loss)
        ),
        (
            Disclosure("partners", TRAINING, "each loss that {label} learns", _ONE_NUMBER),
            Disclosure(
                "partners",
                TRAINING,
                "by it about the mean count of a Poisson model",
                where=_trains(lambda job: job.link == "poisson"),
            ),
        ),
    ),
    Group(
        "`[early_stopping]`",
        _trains(lambda job: job.early_stopping is not None),
        (Disclosure("every party", TRAINING, "whether an epoch's model is the best so far, and whether to go on"),),
    ),
    Group(
        "`accept_narrow`",
        lambda case: case.asks(lambda job: job.accept_narrow) and case.known.exposed != "",
        (Disclosure("helper or label party", TRAINING, "the parties' columns themselves{why}"),),
    ),
    Group(
        '`release = "owners"`',
        _opens_to_owners,
        (
            Disclosure("data party", RELEASE, "the weights of its own columns"),
            Disclosure("label party", RELEASE, "the intercept", where=lambda case: not case.hidden),
            Disclosure(
                "label party",
                RELEASE,
                "of a network all biases, and layers above the first",
                where=lambda case: case.hidden,
            ),
            Disclosure("partners", RELEASE, "all weights there are{bare}", "", lambda case: bool(case.rankers)),
            Disclosure(
                "partners",
                RELEASE,
                "from all weights how to rank customers without {label}",
                where=lambda case: bool(case.rankers),
            ),
        ),
    ),
    Group(
        '`release = "shared"`',
        _trains(lambda job: job.release == "shared"),
        (Disclosure("nobody", RELEASE, "a weight"),),
    ),
    Group(
        '`release = "label"`',
        _trains(lambda job: job.release == "label"),
        (
            Disclosure("label party", RELEASE, "all weights"),
            Disclosure("label party", RELEASE, "names, categories, means and deviations of others' columns"),
            Disclosure(
                "label party",
                RELEASE,
                "the bins of others' columns, and the weight of evidence of each",
                where=_trains(lambda job: job.encoding.woe is not None),
            ),
            Disclosure("label party", RELEASE, "the covariance of others' columns whose table says whiten = true"),
        ),
    ),
    Group(
        "a prediction",
        lambda case: case.predicts,
        (
            Disclosure("label party", SCORING, "the score of each row in common", _PARTNERS),
            Disclosure(
                "label party",
                SCORING,
                "{if_label}by each score an equation with known weights",
                where=lambda case: case.known.model is None or case.known.model.release == "label",
            ),
            Disclosure(
                "helper",
                SCORING,
                "what it saw of a batch in training, unless each party scores its own columns",
                where=lambda case: case.known.model is None,
            ),
        ),
    ),
    Group(
        "statistics",
        lambda case: case.counts(),
        (
            Disclosure("every party", ALIGNMENT, "how many bins each column of each party has"),
            Disclosure(
                "every party",
                ALIGNMENT,
                "which columns of each party are numeric, by their places",
                where=_counts(lambda job: job.statistics.correlations != "none"),
            ),
            Disclosure(
                "every party",
                ALIGNMENT,
                "how many classes the label has",
                where=_counts(lambda job: job.model in CLASSES),
            ),
            Disclosure("label party", RELEASE, "rows and label of each partner's bins", _CELLS),
            Disclosure("label party", RELEASE, "how many bins of each partner's column are too small", "secret order"),
            Disclosure(
                "label party", RELEASE, "names of partners' columns", "column_names under [policy]; else numbers"
            ),
            Disclosure("label party", RELEASE, "by two jobs over nearly the same rows, bins of those that differ"),
        ),
    ),
    Group(
        "statistics of classes",
        _counts(lambda job: job.counts_classes),
        (
            Disclosure("label party", RELEASE, "by these their IV, KS and Gini", _CELLS),
            Disclosure("partners", RELEASE, "which of its own bins have fewer than {least} of a class"),
            Disclosure("partners", RELEASE, "the label of rows by columns that differ in these alone", _MANY_ROWS),
        ),
    ),
    Group(
        "statistics of a count or an amount",
        _counts_amounts,
        (
            Disclosure("label party", RELEASE, "by these what part of the label they explain", _OWN_CELLS),
            Disclosure(
                "label party", RELEASE, "by a label that is 0 but in few rows, their bins", "partners' settings"
            ),
        ),
    ),
    Group(
        "statistics with `woe`",
        _counts(lambda job: job.statistics.woe),
        (
            Disclosure("partners", RELEASE, "label by bin of its own columns", _OWN_CELLS),
            Disclosure("partners", RELEASE, "by these WOE and IV", _OWN_CELLS, _counts(lambda job: job.counts_classes)),
            Disclosure("partners", RELEASE, "the label's unit, of a count or an amount", where=_counts_amounts),
            Disclosure(
                "partners",
                RELEASE,
                "an amount of rows by columns that differ in these alone",
                _MANY_ROWS,
                _counts_amounts,
            ),
        ),
    ),
    Group(
        'statistics with `correlations = "pairs"`',
        _counts(lambda job: job.statistics.correlations == "pairs"),
        (
            Disclosure("data parties", RELEASE, "correlations of its own numeric columns with each other party's"),
            Disclosure("data parties", RELEASE, "by a column that is 0 but in few rows others' values there"),
        ),
    ),
    Group(
        'statistics with `correlations = "label"`',
        _counts(lambda job: job.statistics.correlations == "label"),
        (
            Disclosure("label party", RELEASE, "correlations of all numeric columns, and VIF of each"),
            Disclosure("label party", RELEASE, "by a column that is 0 but in few rows others' values there"),
            Disclosure("partners", RELEASE, "VIF of its own numeric columns"),
        ),
    ),
    SERVED,
    Group(
        "`standby`",
        lambda case: bool(case.job.standby),
        (
            Disclosure(
                "standby helper", ALWAYS, "the job's description, and that it lives; as a helper once it takes over"
            ),
        ),
    ),
)
