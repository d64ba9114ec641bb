"""Checks a job's model, release, scores, losses and scorings against a party's settings.

It compares the description with the settings, and reads no data. A helper has fewer checks, as it has no table.
"""

from collections.abc import Callable
from typing import Final

from tercet.agents.core.problems import JobProblem, collect_problem
from tercet.agents.models.model_part import ModelPart, ModelPartProblem, manifest
from tercet.mpc.plan.exposure import score_less_often
from tercet.schemas.files.job import BLIND_MODELS, PredictionJob, StatisticsJob, TrainingJob
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import Job

_METRICS: Final = ("none", "end", "epoch")  # each allows those before it


def job_refusals(job: Job, settings: Settings) -> list[JobProblem]:
    """List all refusals of a job by the settings, each with the party that can mend it."""
    description, helps = job.description, settings.party in job.description.helpers
    if isinstance(description, TrainingJob):
        checks = _EVERYBODYS if helps else _EVERYBODYS + _DATA_PARTYS
        return [problem for check in checks for problem in collect_problem(check, job, description, settings)]
    if helps:
        return []
    if isinstance(description, PredictionJob):
        return collect_problem(_check_prediction, description, settings)
    return [problem for check in _STATISTICS for problem in collect_problem(check, job, description, settings)]


def accepts_exposure(job: Job, settings: Settings) -> bool:
    """Tell whether this party, by policy or as submitter, accepts that few columns are exposed."""
    description, mine = job.description, job.submitter == settings.party
    asked = description.accept_narrow if isinstance(description, TrainingJob) else True
    return asked and (settings.policy.narrow or mine)


def _refusal(code: str, job: Job, settings: Settings, what: str, mend: str, writes: str = "") -> JobProblem:  # noqa: PLR0917
    """Make a refusal that the submitter, or this party's operator, can mend.

    The operator `writes` something into its settings.
    """
    asked = f"{settings.party} whether it writes {writes}" if writes else settings.party
    return JobProblem(f"policy.{code}", job.submitter, f"{settings.party} {what}: {mend}, or ask {asked}")


def _check_model(job: Job, description: TrainingJob, settings: Settings) -> None:
    models = settings.policy.models
    if models is not None and description.model not in models:
        what = f"trains no {description.model} models ([policy] models)"
        raise _refusal("model", job, settings, what, f"use one of {', '.join(models)}")


def _check_start(_: Job, description: TrainingJob, settings: Settings) -> None:
    me, label, start = settings.party, description.label, description.start
    if start is None or me == label or settings.partners[label].may_hold_model or not _is_held(start, settings):
        return
    raise JobProblem(
        "policy.release",
        me,
        f"{me} no longer lets {label} hold the whole model {start}, and a training that begins there stays near it: "
        f"begin without `start`, or ask {me} about may_hold_model under [partners.{label}]",
    )


def _check_epochs(job: Job, description: TrainingJob, settings: Settings) -> None:
    most = settings.policy.max_epochs
    if most is not None and description.training.epochs > most:
        what = f"trains for at most {most} epochs ([policy] max_epochs)"
        raise _refusal("epochs", job, settings, what, f"the job asks for {description.training.epochs}; use fewer")


def _check_release(job: Job, description: TrainingJob, settings: Settings) -> None:
    me, label, releases = settings.party, description.label, settings.policy.releases
    if description.release not in releases:
        what = f'takes part in no job with release = "{description.release}" ([policy] releases)'
        raise _refusal("release", job, settings, what, "use another release")
    # The label party needs nobody's permission for its own data.
    if me != label and description.release == "label" and not settings.partners[label].may_hold_model:
        raise JobProblem(
            "policy.release",
            me,
            f"{me} does not let {label} hold the whole model: use another release in the job, or, if {me} wants it, "
            f"write may_hold_model = true under [partners.{label}] in {me}'s settings",
        )


def _check_metrics(job: Job, description: TrainingJob, settings: Settings) -> None:
    asked = description.evaluation.metrics if description.scorings else "none"
    allowed = settings.policy.metrics
    if _METRICS.index(asked) > _METRICS.index(allowed):
        what = f'lets no held-out rows be scored as the job asks ([policy] metrics = "{allowed}")'
        mend = f'use metrics = "{allowed}", and to stop early on = "held_out_loss", which tells no score'
        raise _refusal("metrics", job, settings, what, mend)


def _check_scorings(job: Job, description: TrainingJob, settings: Settings) -> None:
    most = settings.limits.max_scorings
    # Scores tell the label party nothing new about its own columns.
    if settings.party != description.label and description.scorings > most:
        raise JobProblem(
            "policy.scorings",
            job.submitter,
            f"{settings.party} lets held-out rows be scored {most} times in a job, and this one asks for "
            f"{description.scorings}: {score_less_often(description.training.epochs, most)} ([limits] max_scorings at "
            f"{settings.party})",
        )


def _check_held_out_scores(job: Job, description: TrainingJob, settings: Settings) -> None:
    me, asked = settings.party, description.evaluation.held_out_scores
    if asked and me != description.label and not settings.policy.held_out_scores:
        what = f"lets no label party have scores of held-out rows as a file ([policy] held_out_scores at {me})"
        raise _refusal("held-out-scores", job, settings, what, "leave held_out_scores out of the job")


def _check_loss(job: Job, description: TrainingJob, settings: Settings) -> None:
    evaluation = description.evaluation
    for asked, what, mend in (
        (evaluation.loss, "training", "use loss = false"),
        (evaluation.held_out_loss, "held-out", "use held_out_loss = false"),
    ):
        if asked and not settings.policy.loss:
            raise _refusal("loss", job, settings, f"lets no {what} loss be opened ([policy] loss)", mend)


def _check_helper_sees(job: Job, description: TrainingJob, settings: Settings) -> None:
    if not description.is_blind and settings.policy.helper_sees == "nothing":
        me = settings.party
        what = f'lets no helper see scores ([policy] helper_sees = "nothing" at {me})'
        models = ", ".join(sorted(BLIND_MODELS))
        mend = f'write helper_sees = "nothing" under [privacy] in the job, which {models} models allow'
        if description.model == "softmax":
            mend = 'use model = "one-vs-rest", by which the helper sees nothing'
        raise _refusal("helper-sees", job, settings, what, mend)


def _check_narrow(job: Job, description: TrainingJob, settings: Settings) -> None:
    # A submitter accepts this by submitting the job.
    if description.accept_narrow and not settings.policy.narrow and job.submitter != settings.party:
        me = settings.party
        raise JobProblem(
            "policy.narrow",
            me,
            f"the job says accept_narrow, by which {me}'s columns may be exposed, and {me} does not: leave it out, use "
            f"more columns, or, if {me} wants that, write narrow = true under [policy] in {me}'s settings",
        )


def _check_prediction(description: PredictionJob, settings: Settings) -> None:
    me, label = settings.party, description.label
    _check_model_is_blind(description, settings)
    if me == label:
        return
    if not settings.partners[label].predictions:
        raise JobProblem(
            "policy.prediction",
            me,
            f"{me} lets no rows be scored for {label}: ask {me} whether it writes predictions = true under "
            f"[partners.{label}] in its settings",
        )
    if not settings.partners[label].may_hold_model and _is_held(description.of, settings):
        raise JobProblem(
            "policy.release",
            me,
            f"{me} no longer lets {label} hold the whole model {description.of}, and each score would be an equation "
            f"with known weights: train another, or ask {me} about may_hold_model under [partners.{label}]",
        )


def _check_model_is_blind(description: PredictionJob, settings: Settings) -> None:
    part, me = _part(description.of, settings), settings.party
    if part is not None and part.helped and not part.is_blind and settings.policy.helper_sees == "nothing":
        asked = 'helper_sees = "nothing"'
        raise JobProblem(
            "policy.helper-sees",
            me,
            f"{me} lets no helper see scores ([policy] {asked} at {me}), and the helper would see "
            f"those that {description.of} gives: train a model with {asked} under [privacy], or ask "
            f'{me} whether it writes helper_sees = "scores" under [policy]',
        )


def _check_statistics(job: Job, description: StatisticsJob, settings: Settings) -> None:
    me, asked = settings.party, description.statistics
    if settings.policy.statistics == "none":
        what = f'takes part in no statistics ([policy] statistics = "none" at {me})'
        mend = f"leave {me} out" if me != description.label else "train without statistics"
        value = "woe" if asked.woe and me == description.label else PolicySettings().statistics
        raise _refusal("statistics", job, settings, what, mend, f'statistics = "{value}" under [policy]')
    if asked.woe and me == description.label and settings.policy.statistics != "woe":
        what = f"lets no party learn the weight of evidence of its columns ([policy] statistics at {me})"
        raise _refusal("statistics", job, settings, what, "use woe = false", 'statistics = "woe" under [policy]')


def _check_amounts(_: Job, description: StatisticsJob, settings: Settings) -> None:
    me = settings.party
    if me != description.label and not description.counts_classes and not settings.policy.statistics_of_amounts:
        raise JobProblem(
            "policy.statistics",
            me,
            f"{me} takes part in no statistics of a count or an amount, by which {description.label} could choose few "
            f"rows and learn their bins: group the label into classes, or ask {me} whether it writes "
            f"statistics_of_amounts = true under [policy]",
        )


def _check_correlations(job: Job, description: StatisticsJob, settings: Settings) -> None:
    me, asked, allowed = settings.party, description.statistics.correlations, settings.policy.correlations
    if _CORRELATIONS.index(asked) > _CORRELATIONS.index(allowed):
        what = f'lets no correlations be told as the job asks ([policy] correlations = "{allowed}" at {me})'
        mend, writes = f'use correlations = "{allowed}"', f'correlations = "{asked}" under [policy]'
        raise _refusal("correlations", job, settings, what, mend, writes)


def _check_cells(job: Job, description: StatisticsJob, settings: Settings) -> None:
    me, least = settings.party, settings.limits.min_cell
    if description.statistics.least < least:
        what = f"lets nothing be told of a bin of fewer than {least} ([limits] min_cell at {me})"
        writes = f"min_cell = {description.statistics.least} under [limits]"
        raise _refusal("cells", job, settings, what, f"use least = {least} or more", writes)


def _is_held(of: str, settings: Settings) -> bool:
    """Tell whether the label party has all weights."""
    part = _part(of, settings)
    return part is not None and part.release == "label"


def _part(of: str, settings: Settings) -> ModelPart | None:
    """Read the manifest of a model; another check reports that there is none."""
    try:
        return manifest(settings.state / "models" / of)
    except ModelPartProblem:
        return None


_CORRELATIONS: Final = ("none", "pairs", "label")  # each allows those before it
_STATISTICS: Final = (_check_statistics, _check_amounts, _check_correlations, _check_cells)
Check = Callable[[Job, TrainingJob, Settings], None]
_EVERYBODYS: Final[tuple[Check, ...]] = (_check_model, _check_epochs)
_DATA_PARTYS: Final[tuple[Check, ...]] = (
    _check_release, _check_start, _check_metrics, _check_scorings, _check_held_out_scores, _check_loss, _check_narrow,
    _check_helper_sees,
)  # fmt: skip
