"""Warns of what is doubtful about a job's training."""

from tercet.agents.policy.known_job import rankers, together
from tercet.agents.session.context import JobContext


def warnings_of(context: JobContext) -> tuple[str, ...]:
    """Collect the planner's warnings, and what a label party without columns gives away."""
    if context.plan is None or context.terms is None:
        return ()
    job, columns = context.training, context.terms.columns
    partners = rankers(job, dict(zip(job.data_parties, columns, strict=True)))
    if not partners:
        return context.plan.warnings
    caution = (
        f'{job.label} has no columns, so that release = "owners" gives {together(partners)} all weights: customers '
        f'can be ranked without {job.label}; use release = "shared" if that must not be'
    )
    return (*context.plan.warnings, caution)
