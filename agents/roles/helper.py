"""Plays the helper: matches pseudonyms, deals gradient shares, computes activations.

It holds no table, takes no part in the secret order, and keeps nothing of a step once that is answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from tercet.agents.alignment.matching import help_align
from tercet.agents.core.states import State
from tercet.agents.protocol.checkpointing import receive_start
from tercet.agents.protocol.weight_openings import (
    make_commitments,
    model_masks,
    needs_helper,
    receive_bound,
    receive_seeds,
)
from tercet.agents.roles.folds import Folds
from tercet.agents.roles.terms import agree_on_plan, agree_on_scoring
from tercet.agents.scoring.batches import scoring_batch
from tercet.agents.scoring.blind_held_out import HeldOutDealer
from tercet.agents.scoring.held_out_loss import answer_held_out_loss
from tercet.agents.scoring.narrowing import deal_narrow_shares
from tercet.agents.scoring.scoring_pass import answer_pass
from tercet.agents.session.agreed import ScoringContext, Session, TrainingContext
from tercet.agents.session.context import JobContext
from tercet.agents.training.blind_training import BlindHelperTraining
from tercet.agents.training.delegated_training import DelegatedHelperTraining, delegated_helper
from tercet.mpc.scoring.linear import scoring_steps
from tercet.mpc.scoring.openings import WeightMasks, blind_exponent, guard_exponent
from tercet.schemas.files.job import PredictionJob, StatisticsJob, TrainingJob
from tercet.schemas.messages.kinds import EpochDecision


@dataclass(frozen=True, slots=True)
class Helped:
    """Holds what a helper knows of a job: what all have agreed on."""

    context: TrainingContext | ScoringContext


class HelperRole:
    """Plays `phases.Role` for the helper, in training and in prediction."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self.working = State.TRAINING if isinstance(context.description, TrainingJob) else State.SCORING

    async def prepare(self) -> None:
        """Do nothing: a helper has no table."""

    async def align(self, _table: None) -> None:
        """Match pseudonyms, if the job wants that."""
        await help_align(self._context)

    async def set_up(self, _rows: None, session: Session) -> Helped:
        """Agree on terms, and receive a training's first step; the order stays unknown here."""
        match self._context.description:
            case TrainingJob() as job:
                self._folds = Folds(self._context, job, partial(_set_up_training, session), _train)
                return await self._folds.set_up()
            case PredictionJob() as job:
                return Helped(await agree_on_scoring(self._context, job, session, None, None))
            case StatisticsJob():
                raise TypeError("statistics have a role of their own")

    async def run_steps(self, helped: Helped) -> Helped:
        """Run all steps."""
        match helped.context:
            case TrainingContext():
                return await self._folds.run_steps(helped)
            case ScoringContext() as context:
                await _predict(context)
        return helped

    async def release(self, helped: Helped) -> None:
        """Do nothing: a helper keeps nothing."""


async def _set_up_training(session: Session, context: JobContext, job: TrainingJob) -> Helped:
    return Helped((await receive_start(await agree_on_plan(context, job, session, None)))[0])


async def _train(helped: Helped) -> Helped:
    if isinstance(helped.context, TrainingContext):
        await _Training(helped.context).run()
    return helped


async def _predict(context: ScoringContext) -> None:
    terms, scoring, numbers = context.terms, context.scoring, context.numbers
    if scoring.release == "owners" and scoring.network is None:
        return  # the parties' scores add up without it
    steps = list(scoring_steps(terms.rows, scoring_batch(numbers), 0, scoring.alpha))
    context.statistics.steps = len(steps)
    masks, limit = await receive_seeds(context, scoring), 2.0**scoring.exponent
    await answer_pass(
        context, numbers, steps, purpose="prediction", limit=limit, weight_masks=masks, first="fit"
    )  # fmt: skip


class _Training:
    """Runs the helper's steps of one training job."""

    def __init__(self, context: TrainingContext) -> None:
        self._context, self._job = context, context.description
        self._dealer: HeldOutDealer | None = None  # of held-out rows, where this party sees no score
        self._model_steps = context.best_steps or context.plan.steps_total  # steps of the model that is kept
        self._helper = None if context.plan.is_blind else delegated_helper(context)

    async def run(self) -> None:
        """Run all steps, and the job's evaluation between epochs and at the end."""
        context, job = self._context, self._job
        if not context.all_steps_done:
            await self._run_steps()
        exponent = await receive_bound(context) if context.all_steps_done else self._exponent()
        message = await context.compute(make_commitments, context, exponent)
        await context.mailbox.send(message, job.data_parties, context.deadline("step"))
        await deal_narrow_shares(context, job.training.epochs)
        if job.scorings and job.evaluation.metrics == "end":
            masks = model_masks(context) if needs_helper(job) else None
            await self._validate(job.training.epochs - 1, self._model_steps, exponent, masks)

    async def _run_steps(self) -> None:
        if self._helper is None:
            await BlindHelperTraining(self._context, self._on_epoch_end).run()
        else:
            await DelegatedHelperTraining(self._context, self._helper, self._on_epoch_end).run()

    def _exponent(self) -> int:
        """Choose the bound of later scores: by the largest so far, or by the range of words."""
        if self._helper is None:
            return blind_exponent(self._context.plan.fz)
        return guard_exponent(self._helper.largest)

    # --- between two epochs

    async def _on_epoch_end(self, epoch: int) -> bool:
        context, job, done = self._context, self._job, (epoch + 1) * self._context.plan.steps_per_epoch
        if job.evaluation.held_out_loss:
            if context.plan.is_blind:
                if self._dealer is None:
                    self._dealer = await context.compute(HeldOutDealer, context, context.terms.held_out)
                await self._dealer.deal(epoch, done)
            else:
                await answer_held_out_loss(context, context.terms.held_out, epoch=epoch, done=done)
        if job.scored_after(epoch):
            await self._validate(epoch, done, self._exponent())
        if job.early_stopping is None:
            return True
        letters = await context.mailbox.receive(EpochDecision, [context.label], context.deadline("step"), epoch=epoch)
        if letters[context.label].best:
            self._model_steps = done
        return letters[context.label].go_on

    async def _validate(
        self, epoch: int, done: int, exponent: int, weight_masks: Mapping[int, WeightMasks] | None = None
    ) -> None:
        context, plan = self._context, self._context.plan
        alpha = await context.compute(plan.alpha_after, done)
        if weight_masks is None:
            await deal_narrow_shares(context, epoch)
        steps = list(scoring_steps(context.terms.held_out, scoring_batch(plan), epoch, alpha))
        await answer_pass(
            context, plan, steps, purpose="validation", limit=2.0**exponent, weight_masks=weight_masks
        )  # fmt: skip
