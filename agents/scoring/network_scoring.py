"""Scores rows by a shared network, batch by batch, without learning anything.

Used for held-out rows and for prediction. The label party learns the scores, and nobody else anything.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from tercet.agents.protocol.script_driver import SCORING, ScriptDriver
from tercet.agents.scoring.linear_scoring import note_scored_step, range_problem
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.interface.script import HELPER, Receive, received_words
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.network import NetworkScorer, NetworkScoringHelper
from tercet.mpc.scoring.openings import Openings


async def score_network(
    context: JobContext, scorer: NetworkScorer, order: Order, steps: Sequence[Step], openings: Openings
) -> Floats | None:
    """Score some rows; give the label party the scores (rows, outputs), in row order.

    Raises:
        JobProblem: a tensor of a wrong shape came.
    """
    scripts = ScriptDriver(context, SCORING, scorer.layout, max(step.rows for step in steps))
    await context.compute(order.permutation, steps[0].epoch)  # sorting many rows takes long
    async with asyncio.TaskGroup() as loops:
        loops.create_task(_share(context, scripts, scorer, steps, openings))
        collecting = loops.create_task(_collect(scripts, scorer, order, steps)) if context.is_label_party else None
    return None if collecting is None else collecting.result()


async def _share(
    context: JobContext, scripts: ScriptDriver, scorer: NetworkScorer, steps: Sequence[Step], openings: Openings
) -> None:
    for step in steps:
        await scripts.run(scorer.script(step, openings), step)
        scripts.counts["shared"].increment()
        note_scored_step(context, step)


async def _collect(scripts: ScriptDriver, scorer: NetworkScorer, order: Order, steps: Sequence[Step]) -> Floats:
    shape = (steps[-1].stop, scorer.layout.outputs)
    scores = np.empty(shape)
    for step in steps:
        await scripts.wait_for_count("shared", step)
        receive = Receive("scores", 0, {HELPER: (step.rows, scorer.layout.outputs)})
        words = received_words(await scripts.receive_tensors(receive, step))[HELPER]
        scores[order.rows(step)] = await scripts.compute(scorer.open_scores, step, words)
    return scores


async def answer_network_scores(
    context: JobContext, helper: NetworkScoringHelper, steps: Sequence[Step], first: str = "step"
) -> None:
    """Play the helper in one pass; `first` names the first batch's deadline.

    Before that batch the rows are encoded.

    Raises:
        JobProblem: a score left the range, or a share has a wrong shape.
    """
    scripts = ScriptDriver(context, SCORING, helper.layout, max(step.rows for step in steps))
    for step in steps:
        try:
            await scripts.run(helper.script(step), step, context.deadline(first if step.index == 0 else "step"))
        except Diverged as diverged:
            raise range_problem(context, diverged) from None
        note_scored_step(context, step)
