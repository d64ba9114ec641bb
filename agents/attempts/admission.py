"""Decides whether to let a job in: by policy, budget and the table's first rows.

All for which it refuses is told at once. Nothing of the table leaves but what `profiles` tells.
"""

from typing import Final

from tercet.agents.core.problems import collect_problem, join_problems
from tercet.agents.policy.budget import Budget
from tercet.agents.policy.check import refusals
from tercet.agents.roles.exposure_profile import check_sense, own_profile
from tercet.agents.session.context import JobContext
from tercet.schemas.messages.kinds import Profile

NOT_FOR_THEM: Final = {"policy.submitter", "policy.parties", "policy.helper", "policy.purpose"}


async def check_admission(context: JobContext, budget: Budget) -> Profile | None:
    """Let a job in, and give what the other parties are told of this one's table.

    Raises:
        JobProblem: this party refuses it; whoever can mend the first reason is named.
    """
    problems, profile = refusals(context.job, context.settings, context.identity, budget), None
    if context.is_label_party:
        problems += collect_problem(check_sense, context)
    # What is wrong with a table that is not for these parties is not for them either.
    if not any(problem.code in NOT_FOR_THEM for problem in problems):
        profile, more = await own_profile(context)
        problems += more
    if problems:
        raise join_problems(problems)
    return profile
