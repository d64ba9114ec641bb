"""Finds this party's part of the model that a training begins at, and its first shares.

Whatever does not fit is refused before a share of it has left.
"""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tercet.agents.core.problems import JobProblem, collect_problem
from tercet.agents.models.model_part import ModelPart
from tercet.agents.policy.table import is_offered
from tercet.agents.protocol.shares import AnyShares, shares_from_part
from tercet.agents.roles.applied_part import check_parties, read_manifest, read_part
from tercet.agents.session.context import JobContext
from tercet.mpc.network.continued import Gain, begin_shares, owned_shares
from tercet.mpc.plan.plan import Plan
from tercet.mpc.scoring.linear import Numbers
from tercet.schemas.files.job import TrainingJob
from tercet.tables.core.problem import SHOWN, join_names


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class ContinuedPart:
    """Holds this party's part of an earlier model."""

    part: ModelPart
    arrays: dict[str, NDArray[Any]]

    def shares(self, context: JobContext, plan: Plan) -> AnyShares:
        """Give this party's shares before the first step of the plan."""
        part, arrays, me = self.part, self.arrays, context.number(context.me)
        if part.helped:
            trained = shares_from_part(context, part, arrays)
        else:
            trained = owned_shares(me, plan, arrays["weight_words"], arrays.get("intercept_words"))
        numbers = Numbers.from_canonical(part.plan)
        return begin_shares(trained, Gain.between(numbers.fx, numbers.f, plan, blind=numbers.is_blind))


def read_continued(context: JobContext, job: TrainingJob) -> ContinuedPart | None:
    """Read this party's part of the model that a job begins at; None where it begins at nothing.

    Raises:
        JobProblem: there is no such part, or it does not fit the job.
    """
    if job.start is None:
        return None
    part, arrays = read_part(context, job.start)
    check_parties(context, job, part)
    check_model(context, job, part)
    check_columns(context, job, part)
    return ContinuedPart(part, arrays)


def continued_manifest(context: JobContext, job: TrainingJob) -> tuple[ModelPart | None, list[JobProblem]]:
    """Look at the part without its weights, before anybody is asked.

    Returns:
        The part, if there is one, and all for which this party refuses the job.
    """
    if job.start is None:
        return None, []
    try:
        part = read_manifest(context, job.start)
    except JobProblem as problem:
        return None, [problem]
    checks = check_parties, check_model, check_columns
    return part, [problem for check in checks for problem in collect_problem(check, context, job, part)]


def check_model(context: JobContext, job: TrainingJob, part: ModelPart) -> None:
    """Check that the job asks for a model of the same link, layers and offset.

    Raises:
        JobProblem: it asks for another.
    """
    if (job.model, job.network) != (part.model, part.network):
        was = f"a {part.model} model" if part.network is None else f"one of {part.network.hidden} hidden units"
        raise _unlike(
            context, f"{part.job} is {was}, and the job asks for other layers or another link: use the same `model` "
            f"and [network]"
        )  # fmt: skip
    offset = part.offset  # the label party's
    if offset is not None and (offset.column, offset.exposure) != (job.offset_of(context.me), job.exposure is not None):
        what = f'{"exposure" if offset.exposure else "offset"} = "{offset.column}"'
        raise _unlike(context, f"scores of {part.job} begin with a column of {context.me}: write {what} in the job too")


def check_columns(context: JobContext, job: TrainingJob, part: ModelPart) -> None:
    """Check that the job uses the model's columns, and that this party still lets it.

    Raises:
        JobProblem: it names others, or this party's settings leave one out.
    """
    me, said, used = context.me, job.columns_of(context.me), part.encoding.kinds
    if said is not None and {*said} != {*used}:
        raise _unlike(context, f"{part.job} has other columns of {me} than [columns] {me} says: leave that out")
    settings = context.settings.tables[job.table_of(me)]
    refused = [column for column in used if not is_offered(settings, column)]
    if refused:
        raise JobProblem(
            "policy.columns",
            me,
            f"{me} no longer lets jobs use some columns of {part.job}: begin without `start`, or ask {me}",
            f"its settings leave out {join_names(refused, SHOWN)}",
        )


def _unlike(context: JobContext, reason: str) -> JobProblem:
    return JobProblem("model.start", context.job.submitter, reason)
