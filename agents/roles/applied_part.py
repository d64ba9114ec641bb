"""Finds this party's part of the model that a prediction applies.

It looks at no row.
"""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tercet.agents.core.problems import JobProblem
from tercet.agents.models import model_part
from tercet.agents.models.model_part import ModelPart, ModelPartProblem
from tercet.agents.session.context import JobContext
from tercet.schemas.files.job import PredictionJob


def read_part(context: JobContext, job: PredictionJob) -> tuple[ModelPart, dict[str, NDArray[Any]]]:
    """Read this party's part of the model, and its weights.

    Raises:
        JobProblem: there is no such part, or it is damaged.
    """
    try:
        return model_part.load(_folder(context, job))
    except ModelPartProblem as problem:
        raise _missing(context, job, problem) from None


def read_manifest(context: JobContext, job: PredictionJob) -> ModelPart:
    """Read this party's part of the model without its weights.

    Raises:
        JobProblem: there is no such part.
    """
    try:
        return model_part.manifest(_folder(context, job))
    except ModelPartProblem as problem:
        raise _missing(context, job, problem) from None


def check_parties(context: JobContext, job: PredictionJob, part: ModelPart) -> None:
    """Check that the job names the parties that trained the model.

    Raises:
        JobProblem: it names others.
    """
    if set(part.parties) != set(job.data_parties) or part.label_party != context.label:
        parties = " and ".join(part.parties)
        raise JobProblem(
            "model.parties",
            context.job.submitter,
            f"{job.of} was trained by {parties} with the label at {part.label_party}, and the job names others",
        )


def _folder(context: JobContext, job: PredictionJob) -> Path:
    return context.settings.state / "models" / job.of


def _missing(context: JobContext, job: PredictionJob, problem: ModelPartProblem) -> JobProblem:
    reason = f"{context.me} has no usable part of the model {job.of}"
    return JobProblem("model.missing", context.me, reason, str(problem))
