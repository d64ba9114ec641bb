"""Scores rows by a shared model, batch by batch, without learning anything.

Used for held-out rows and for prediction. The label party learns the scores, and nobody else anything. The equations
are in `mpc.scoring`, as scripts for `script_driver`.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from tercet.agents.core.problems import JobProblem
from tercet.agents.protocol.script_driver import SCORING, ScriptDriver
from tercet.agents.session.agreed import ScoringContext
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.linear.helper import Diverged
from tercet.mpc.plan.architecture import NetworkForward
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.scoring.blind_network import BlindNetworkScorer, BlindNetworkScoringHelper
from tercet.mpc.scoring.linear import Scorer, ScoringHelper
from tercet.mpc.scoring.network import NetworkScorer, NetworkScoringHelper
from tercet.mpc.scoring.openings import Openings

AnyScorer = Scorer | NetworkScorer | BlindNetworkScorer
AnyScoringHelper = ScoringHelper | NetworkScoringHelper | BlindNetworkScoringHelper

MOST_ROWS, MOST_WORDS = 4096, 2**21  # of a batch: 16 MiB of masked inputs from all parties together
ANSWERED, DEALT = 4, 64  # words for each hidden element, where the helper answers and where it deals


def scoring_batch(model: NetworkForward) -> int:
    """Compute the rows that are scored at a time, the same at all parties."""
    units, each = 0 if model.network is None else sum(model.network.hidden), DEALT if model.is_blind else ANSWERED
    return max(32, min(MOST_ROWS, MOST_WORDS // (sum(model.columns) + each * units)))


async def score_batches(
    context: JobContext, scorer: AnyScorer, order: Order, steps: Sequence[Step], openings: Openings
) -> Floats | None:
    """Score some rows; give the label party the scores (rows, outputs), in row order.

    Raises:
        JobProblem: a tensor of a wrong shape came, or a score is beyond the limit.
    """
    scripts = ScriptDriver(context, SCORING, scorer.layout, max(step.rows for step in steps))
    await context.compute(order.permutation, steps[0].epoch)  # sorting many rows takes long
    async with asyncio.TaskGroup() as loops:
        loops.create_task(_run_steps(context, scripts, scorer, steps, openings))
        collecting = None
        if context.is_label_party:
            collecting = loops.create_task(_collect_scores(context, scripts, scorer, order, steps))
    return None if collecting is None else collecting.result()


async def _run_steps(
    context: JobContext, scripts: ScriptDriver, scorer: AnyScorer, steps: Sequence[Step], openings: Openings
) -> None:
    for step in steps:
        await scripts.run(scorer.run_step(step, openings), step)
        scripts.counts["shared"].increment()
        note_scored_step(context, step)


async def _collect_scores(
    context: JobContext, scripts: ScriptDriver, scorer: AnyScorer, order: Order, steps: Sequence[Step]
) -> Floats:
    scores = np.empty((steps[-1].stop, scorer.layout.widths[-1]))
    for step in steps:
        await scripts.wait_for_count("shared", step)
        try:
            scores[order.rows(step)] = await scripts.run(scorer.collect(step), step)
        except Diverged as diverged:
            raise range_problem(context, diverged) from None
    return scores


async def answer_batches(
    context: JobContext, helper: AnyScoringHelper, steps: Sequence[Step], first: str = "step"
) -> None:
    """Play the helper in one pass: deal for each batch, a batch ahead, and answer it.

    `first` names the first batch's deadline, before which the parties may have to encode their rows.

    Raises:
        JobProblem: a score left the range, or a share has a wrong shape.
    """
    scripts = ScriptDriver(context, SCORING, helper.layout, max(step.rows for step in steps))
    dealing = iter(steps)
    for step in steps:
        deadline = context.deadline(first if step.index == 0 else "step")
        while (dealt := next(dealing, None)) is not None:
            await scripts.run(helper.deal_step(dealt), dealt, deadline)
            if dealt.index > step.index:
                break
        try:
            await scripts.run(helper.run_online(step), step, deadline)
        except Diverged as diverged:
            raise range_problem(context, diverged) from None
        note_scored_step(context, step)


def range_problem(context: JobContext, diverged: Diverged) -> JobProblem:
    """Make the problem of a score out of range, which the submitter can mend.

    A row is unlike those trained on, or a party has shifted scores.
    """
    reason = (
        f"a scored row left the range of the model ({diverged.reason}): compare the columns of the rows with those "
        f"trained on, leave rows out that are unlike them, or train with them or with a smaller rate"
    )
    return JobProblem("scoring.range", context.job.submitter, reason)


def note_scored_step(context: JobContext, step: Step) -> None:
    """Note a step of a prediction; held-out rows are no steps of the training."""
    if isinstance(context, ScoringContext):
        context.note_finished_step(step)
