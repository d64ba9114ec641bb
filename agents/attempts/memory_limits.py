"""Checks that a job's batches fit into this party's memory, before a share leaves.

It sees counts only. A helper has no table to compare them with; without this check a label party could make it compute
any amount.
"""

from tercet.agents.core.problems import JobProblem
from tercet.agents.protocol.flow_control import checked_words, dealt_words, largest_batch, largest_message, words_made
from tercet.agents.roles.prediction import scoring_numbers
from tercet.agents.scoring.batches import scoring_batch
from tercet.agents.session.context import JobContext
from tercet.mpc.dealing.sizes import BlindNumbers
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.messages.kinds import Terms

MOST_SCORED_BATCHES = 2**20  # of one pass, each with an entry in a list; far more rows than any table has


def check_memory_limits(context: JobContext, terms: Terms) -> None:
    """Check that a batch's largest tensor fits into half of `message_mib`.

    Raises:
        JobProblem: it is not.
    """
    is_helper, scored = context.me == context.description.helper, terms.rows
    if isinstance(context.description, TrainingJob):
        _check_training_memory(context, is_helper=is_helper)
        scored = terms.held_out
    if is_helper and scored:
        forward = context.plan or scoring_numbers(context, terms.scoring)
        _check_scoring_memory(context, forward, scored)


def _check_training_memory(context: JobContext, *, is_helper: bool) -> None:
    plan, rows = context.ready_plan, largest_batch(context.ready_plan)
    words = largest_message(plan, helper=is_helper)
    if is_helper:
        words = max(words, words_made(plan, rows), dealt_words(plan), checked_words(plan))
    if not _fits(context, words):
        narrower = "" if plan.network is None else " or narrower layers"
        raise _memory_problem(context, f"for a batch of {rows} rows", f"use smaller batches{narrower}")


def _check_scoring_memory(context: JobContext, forward: BlindNumbers, rows: int) -> None:
    batch = scoring_batch(forward)
    if -(-rows // batch) > MOST_SCORED_BATCHES or not _fits(context, words_made(forward, batch)):
        raise _memory_problem(context, f"to score {rows} rows", "score fewer rows")


def _fits(context: JobContext, words: int) -> bool:
    return 2 * 8 * words <= context.settings.limits.message_mib * 2**20


def _memory_problem(context: JobContext, why: str, remedy: str) -> JobProblem:
    sends = " or ".join(party for party in context.description.parties if party != context.me)
    makes = ", or what it makes itself," if context.me == context.description.helper else ""
    return JobProblem(
        "job.batch",
        context.job.submitter,
        f"what {sends} sends {context.me} {why}{makes} is more than {context.me} takes in: {remedy}, or raise "
        f"[limits] message_mib at {context.me}",
    )
