"""Finds this party's part of the model that a prediction applies, or a training begins at.

It looks at no row.
"""

from dataclasses import astuple
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tercet.agents.core.problems import JobProblem
from tercet.agents.models import model_part
from tercet.agents.models.model_part import ModelPart, ModelPartProblem
from tercet.agents.protocol.weight_openings import commitments_of
from tercet.agents.session.context import JobContext
from tercet.mpc.scoring.linear import Numbers
from tercet.schemas.files.job import PredictionJob, TrainingJob
from tercet.schemas.messages.kinds import ScoringTerms
from tercet.tables.core.problem import UnusableError
from tercet.tables.encoding.unseen import count_unseen
from tercet.tables.snapshot.snapshot import Snapshot


def read_part(context: JobContext, of: str) -> tuple[ModelPart, dict[str, NDArray[Any]]]:
    """Read this party's part of the model, and its weights.

    Raises:
        JobProblem: there is no such part, or it is damaged.
    """
    try:
        return model_part.load(_folder(context, of))
    except ModelPartProblem as problem:
        raise _missing(context, of, problem) from None


def read_manifest(context: JobContext, of: str) -> ModelPart:
    """Read this party's part of the model without its weights.

    Raises:
        JobProblem: there is no such part.
    """
    try:
        return model_part.manifest(_folder(context, of))
    except ModelPartProblem as problem:
        raise _missing(context, of, problem) from None


def check_parties(context: JobContext, job: PredictionJob | TrainingJob, part: ModelPart) -> None:
    """Check that the job names the parties that trained the model.

    Raises:
        JobProblem: it names others.
    """
    if set(part.parties) != set(job.data_parties) or part.label_party != context.label:
        parties = " and ".join(part.parties)
        raise JobProblem(
            "model.parties",
            context.job.submitter,
            f"{part.job} was trained by {parties} with the label at {part.label_party}, and the job names others",
        )


def compare_table(context: JobContext, part: ModelPart, table: Snapshot) -> None:
    """Warn of unseen categories and the like.

    Raises:
        JobProblem: a column has nothing else; this party is named.
    """
    try:
        unseen = count_unseen(part.encoding, table.batches())
    except UnusableError as problem:
        what = f"table {table.name!r}"
        public = f"at {context.me} the {what} {problem.public}"
        raise JobProblem("table.unusable", context.me, public, f"{what}: {problem}") from None
    for note in (*table.notes, *map(str, unseen)):
        context.note(note)


def scoring_terms(context: JobContext, part: ModelPart) -> ScoringTerms:
    """Collect what this party's part says of the model."""
    numbers = Numbers.from_canonical(part.plan)
    return ScoringTerms(
        model=numbers.model,
        release=part.release,
        fx=numbers.fx,
        f=numbers.f,
        network=part.network,
        alpha=part.alpha,
        noise_bits=numbers.noise_bits,
        exponent=part.score_exponent,
        blind=numbers.is_blind,
        series=astuple(numbers.blind)[:4] if numbers.blind and numbers.network else None,  # which has no power
        seeds=commitments_of(context, part),
    )


def _folder(context: JobContext, of: str) -> Path:
    return context.settings.state / "models" / of


def _missing(context: JobContext, of: str, problem: ModelPartProblem) -> JobProblem:
    reason = f"{context.me} has no usable part of the model {of}"
    return JobProblem("model.missing", context.me, reason, str(problem))
