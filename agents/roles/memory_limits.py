"""Checks that a job's batches fit into this party's memory, before a share leaves.

It sees counts only. A helper has no table to compare them with; without this check a label party could make it compute
any amount.
"""

from tercet.agents.core.problems import JobProblem
from tercet.agents.protocol.flow_control import checked_words, dealt_words, largest_batch, largest_message, words_made
from tercet.agents.scoring.batches import scoring_batch
from tercet.agents.session.agreed import TrainingContext
from tercet.agents.session.context import JobContext
from tercet.mpc.dealing.sizes import BlindNumbers

MOST_SCORED_BATCHES = 2**20  # of one pass, each with an entry in a list; far more rows than any table has


def check_training_memory(context: TrainingContext) -> None:
    """Check that a batch's largest tensor fits into half of `message_mib`.

    Raises:
        JobProblem: it does not.
    """
    plan, rows, is_helper = context.plan, largest_batch(context.plan), context.me == context.description.helper
    words = largest_message(plan, helper=is_helper)
    if is_helper:
        words = max(words, words_made(plan, rows), dealt_words(plan), checked_words(plan))
    narrower = "" if plan.network is None else " or narrower layers"
    check_message_memory(context, words, f"for a batch of {rows} rows", f"use smaller batches{narrower}")
    check_scoring_memory(context, plan, context.terms.held_out)


def check_scoring_memory(context: JobContext, forward: BlindNumbers, rows: int) -> None:
    """Check at the helper that what it makes to score so many rows fits likewise.

    Raises:
        JobProblem: it does not.
    """
    if context.me != context.description.helper or not rows:
        return
    batch = scoring_batch(forward)
    if -(-rows // batch) > MOST_SCORED_BATCHES or not _fits(context, words_made(forward, batch)):
        raise _memory_problem(context, f"to score {rows} rows", "score fewer rows")


def check_message_memory(context: JobContext, words: int, why: str, remedy: str) -> None:
    """Check that a message of so many words fits likewise.

    Raises:
        JobProblem: it does not.
    """
    if not _fits(context, words):
        raise _memory_problem(context, why, remedy)


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
