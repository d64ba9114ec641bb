"""Trains a model with a helper that deals randomness and receives none of it back.

A data party has three loops: one sends masked words and takes in the others' as far ahead as the look-ahead allows,
one receives what the helper deals, one is online. The equations are in `mpc.blind`, as scripts for `script_driver`.
"""

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from tercet.agents.core.problems import UNDECIDED, JobProblem
from tercet.agents.messaging.inbox import Deadline
from tercet.agents.messaging.trace import loop
from tercet.agents.protocol.checkpointing import CheckpointWriter
from tercet.agents.protocol.flow_control import StepCounter, look_ahead_steps
from tercet.agents.protocol.row_files import lasting_rows, mapped_rows, row_stores
from tercet.agents.protocol.script_driver import BLIND, training_driver
from tercet.agents.session.agreed import TrainingContext
from tercet.agents.training.dealing_check import compare_dealing, opened_problem
from tercet.agents.training.earlier_training import EarlierTraining, first_shares
from tercet.agents.training.epoch_evaluation import Evaluation
from tercet.agents.training.sent_rows import find_rows, receive_row_masks, row_masks
from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.blind.data_party import BlindParty
from tercet.mpc.blind.forward import BlindForward
from tercet.mpc.blind.helper import BlindHelper
from tercet.mpc.blind.loss import BlindLoss
from tercet.mpc.blind.sent_rows import rows_before, steps_before
from tercet.mpc.dealing.bundles import Bundles, ChosenBundles
from tercet.mpc.dealing.received import WrongDealing
from tercet.mpc.dealing.row_checks import RowChecks
from tercet.mpc.dealing.sizes import BlindLayout
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.functions.series import Series
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.linear.epoch_sums import EpochSums
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.score_noise import spread_noise
from tercet.mpc.randomness.secret_order import Order, derive_subkey
from tercet.schemas.messages.kinds import SpreadShare, StepsDone

REPORTS = 4  # of the steps that the helper deals ahead: how often it is told how far the parties are
HELPERS_PATIENCE = 2.0  # in units of a data party's deadline for a step
MOST_REACH = 2.0 / 3.0  # of the series' reach: scores whose root mean square is beyond run away


def public_order(context: TrainingContext) -> Order:
    """Make the order of rows of a blind training, which the helper may know: it sees no row."""
    return Order(derive_subkey(context.shape_digest, "order of a blind training"), context.plan.request.rows)


def chosen_bundles(context: TrainingContext, key: bytes) -> ChosenBundles:
    """Choose the bundles of this attempt that are opened, by the key of the secret order."""
    bundles = Bundles(context.plan, context.first_step)
    return ChosenBundles(bundles, derive_subkey(key, f"opened bundles of attempt {context.attempt}"))


def blind_party(
    context: TrainingContext,
    rows: FeatureSource,
    labels: RowLabels | None,
    key: bytes,
    *,
    order_key: bytes,
    draw: Callable[[], bytes],
    earlier: EarlierTraining,
) -> BlindParty:
    """Make this party for a blind training, from these shares or from the first ones.

    Args:
        context: The job at this party.
        rows: Those that are trained on.
        labels: At the label party, centred, with offsets.
        key: Of the masks on both.
        order_key: Of the secret order, which data parties alone have.
        draw: Gives the seed of a network's first weights.
        earlier: What earlier attempts have left.
    """
    plan, order = context.plan, public_order(context)
    masks, label = context.masks(context.description.helper), context.number(context.label)
    numbers = {context.number(party): party for party in context.partners}
    me, own_masks, checks = context.number(context.me), row_masks(context, context.me, key), plan.request.checks
    stores = row_stores(context, "training", numbers, plan.request.rows, checks=checks, lasting=True)
    row_checks = RowChecks(
        me, plan, masks, count=checks, key=order_key, attempt=context.attempt, digests=earlier.digests
    )
    forward = BlindForward(
        me, plan, rows, order=order, helper_masks=masks, stores=stores, row_masks=own_masks,
        first_use=rows_before(plan, order, context.first_step), bundles=chosen_bundles(context, order_key),
        checks=row_checks,
    )  # fmt: skip
    shares, loss = earlier.shares or first_shares(me, plan, draw), None
    if context.description.evaluation.loss:
        sums = EpochSums(plan.steps_per_epoch, context.first_step, earlier.loss)
        store = lasting_rows(context, "labels", plan.request.rows, plan.loss_columns)
        loss = BlindLoss(
            forward, label, plan.loss_bits, labels, store=store, helper_masks=masks, row_masks=own_masks, sums=sums
        )
    return BlindParty(forward, label, labels, zero_masks=context.zero_masks(), shares=shares, loss=loss)


class BlindTraining:
    """Trains at a data party."""

    def __init__(
        self, context: TrainingContext, party: BlindParty, evaluation: Evaluation, checkpoints: CheckpointWriter
    ) -> None:
        self._context, self._party, self._evaluation, self._checkpoints = context, party, evaluation, checkpoints
        self._plan, layout = context.plan, BlindLayout(context.plan)
        self._scripts = training_driver(context, BLIND, layout, checkpoints)
        self._ahead = look_ahead_steps(self._plan, context.settings.limits)
        self._may_stop = context.description.early_stopping is not None
        self._order = public_order(context)

    async def run(self) -> None:
        """Run all steps, or as many as the job goes on for."""
        await find_rows(self._context, self._scripts, self._party.sent_rows)
        self._scripts.counts["epochs"] = StepCounter(next(self._context.steps()).epoch)
        async with asyncio.TaskGroup() as loops:
            beside = [
                loops.create_task(self._run_ahead()),
                loops.create_task(self._receive_dealt()),
            ]
            await self._run_online()
            for task in beside:  # they wait for an epoch that is not to be
                task.cancel()

    async def _run_ahead(self) -> None:
        loop.set("ahead")
        for step in self._context.steps():
            await self._scripts.wait_for_count("done", step, ahead=1 - self._ahead)
            if step.position == 0:
                if self._may_stop:  # nothing of an epoch is sent before it is certain
                    await self._scripts.wait_for_count("epochs", step, ahead=step.epoch - step.index)
                await self._context.compute(self._order.permutation, step.epoch)  # sorting a large table takes long
            await self._scripts.run(self._party.prepare_step(step), step)

    async def _receive_dealt(self) -> None:
        loop.set("dealt")
        for step in self._context.steps():
            try:
                await self._scripts.run(self._party.receive_dealt(step), step)
            except WrongDealing:
                raise opened_problem(self._context) from None

    async def _run_online(self) -> None:
        loop.set("online")
        context, reports = self._context, _Reports(self._context)
        for step in context.steps():
            await self._scripts.run(self._party.run_online(step), step)
            await self._scripts.run(self._party.check_rows(step, asked=self._checkpoints.is_due(step)), step)
            context.note_finished_step(step)
            if context.is_label_party and reports.is_due(step.index + 1):
                message, helper = StepsDone(done=step.index + 1), [context.description.helper]
                await context.mailbox.send(message, helper, context.deadline("step"), step=step.index + 1)
            if step.position + 1 == self._plan.steps_per_epoch and not await self._on_epoch_end(step):
                return
            await self._checkpoints.on_step_done(step)

    async def _on_epoch_end(self, step: Step) -> bool:
        """Check dealing and scores, and evaluate the epoch; tell whether to go on."""
        await compare_dealing(self._context, self._party.digests, step.epoch)
        await self._check_spread(step)
        go_on = await self._evaluation.on_epoch_end(step.epoch, self._party.shares)
        self._scripts.counts["epochs"].increment()
        return go_on

    async def _check_spread(self, step: Step) -> None:
        """Open the mean cosine of the epoch's scores, and compare what was opened.

        Raises:
            JobProblem: scores run away, or the parties have opened different words.
        """
        context, party, deadline = self._context, self._party, self._context.deadline("step")
        (mine, weights), opened = party.take_spread(step), party.opened_digest()
        mine += spread_noise(weights, [party.layout.numbers(step, k).total for k in range(len(weights))])
        message = SpreadShare(words=mine, opened=opened)
        await context.mailbox.send(message, context.partners, deadline, epoch=step.epoch)
        letters = await context.mailbox.receive(SpreadShare, context.partners, deadline, epoch=step.epoch)
        others = [name for name, letter in letters.items() if letter.opened != opened]
        if others:
            raise _differs(context, step.epoch, others)
        shape = (1, mine.shape[1])
        sums = total([mine, *context.mailbox.checked_words(letters, lambda _: shape).values()])
        for k, weight in enumerate(weights):
            numbers = party.layout.numbers(step, k)
            cosine = float(decode(sums[:, k : k + 1], numbers.total)[0, 0]) / weight
            if cosine < least_cosine(numbers.series):
                raise _out_of_range(context, step.epoch, cosine, numbers.series, hidden=k < party.layout.output)


def _differs(context: TrainingContext, epoch: int, others: Sequence[str]) -> JobProblem:
    """Blame nobody alone.

    Whoever told two parties different words may not be among those that differ.
    """
    parties = " or ".join(context.description.data_parties)
    reason = (
        f"{' and '.join([context.me, *others])} have opened different words in epoch {epoch}, and no message tells "
        f"whose fault it is, {parties}: do all run the same version? If so, one of them has told others different words"
    )
    return JobProblem("arithmetic.differs", UNDECIDED, reason)


def least_cosine(series: Series) -> float:
    """Compute the mean cosine of scores at which these are about to leave a series."""
    return math.cos(2.0 * math.pi * MOST_REACH * min(-series.low, series.high) / series.period)


def _out_of_range(context: TrainingContext, epoch: int, cosine: float, series: Series, *, hidden: bool) -> JobProblem:
    """Say that scores are about to leave their series, and what to change.

    How large they are is a detail.
    """
    size = math.sqrt(2.0 * (1.0 - cosine)) * series.period / (2.0 * math.pi)
    what, larger = ("hidden pre-activations", "hidden_q") if hidden else ("scores", "q")
    reason = (
        f"in epoch {epoch} {what} are about to leave the series, which holds up to {min(-series.low, series.high):g}: "
        f"run the job again with a smaller rate or more l2, a larger {larger} under [privacy], or "
        f'helper_sees = "scores"'
    )
    detail = f"their root mean square is at least {size:.3g}"
    return JobProblem("training.diverged", context.job.submitter, reason, detail)


class _Reports:
    """Says after which steps the helper is told how far a data party is."""

    def __init__(self, context: TrainingContext) -> None:
        self._first, self._last = context.first_step, context.plan.steps_total
        self.ahead = look_ahead_steps(context.plan, context.settings.limits)
        self._every = max(1, self.ahead // REPORTS)

    def is_due(self, done: int) -> bool:
        """Tell whether a report is due after so many steps."""
        return (done - self._first) % self._every == 0 or done == self._last

    def after(self, done: int) -> int:
        """Return the steps after which the next report is due."""
        return min(self._last, done + self._every)


class BlindHelperTraining:
    """Deals all steps at the helper, no further ahead than fits.

    `on_epoch_end` does what the job asks of the helper between two epochs, and tells whether to go on.
    """

    def __init__(self, context: TrainingContext, on_epoch_end: Callable[[int], Awaitable[bool]]) -> None:
        self._context, self._plan, self._on_epoch_end = context, context.plan, on_epoch_end
        self._names = dict(enumerate(context.description.data_parties))
        self._scripts, self._reports = training_driver(context, BLIND, BlindLayout(self._plan)), _Reports(context)
        self._order, self._done = public_order(context), context.first_step

    async def run(self) -> None:
        """Deal every step, and wait until all are done."""
        loop.set("ahead")
        context = self._context
        helper = await context.compute(self._make_helper, await receive_row_masks(context))
        context.trace.begin()
        for steps in self._groups():
            first, last = steps[0], steps[-1]
            await self._wait_until_done(last.index + 1 - self._reports.ahead)
            if first.position == 0:
                await context.compute(self._order.permutation, first.epoch)  # sorting a large table takes long
            await self._scripts.run(helper.deal_steps(steps), first)
            context.note_finished_step(last, first)
            if last.position + 1 == self._plan.steps_per_epoch and not await self._on_epoch_end(last.epoch):
                return
        await self._wait_until_done(self._plan.steps_total)

    def _groups(self) -> Iterator[list[Step]]:
        """Yield steps of one epoch whose dealt words travel together."""
        most = max(1, self._reports.ahead // REPORTS)
        for _, steps in itertools.groupby(self._context.steps(), lambda step: (step.epoch, step.position // most)):
            yield list(steps)

    def _make_helper(self, masks: Mapping[int, Masks]) -> BlindHelper:
        context, plan, rows = self._context, self._plan, self._plan.request.rows
        stores, labels = row_stores(context, "training", self._names, rows, checks=plan.request.checks), None
        if context.description.evaluation.loss:
            labels = mapped_rows(context, "training-labels", rows, plan.loss_columns)
        helper = BlindHelper(
            plan, context.number(context.label), context.data_party_masks(), order=self._order, stores=stores,
            labels=labels, row_masks=masks, first=context.first_step,
        )  # fmt: skip
        helper.restore_rows(steps_before(plan, context.first_step))
        return helper

    async def _wait_until_done(self, steps: int) -> None:
        """Wait until the label party has done so many steps.

        With it every other one has used what it was dealt.
        """
        context = self._context
        while self._done < steps:
            first = self._done == context.first_step  # before it rows are encoded
            self._done = self._reports.after(self._done)
            await context.mailbox.receive(StepsDone, [context.label], self._patience(is_first=first), step=self._done)

    def _patience(self, *, is_first: bool) -> Deadline:
        """Wait longer than the data parties do for each other.

        They know who is silent, and this party does not.
        """
        if is_first:
            return self._context.deadline("fit")
        return Deadline("step", HELPERS_PATIENCE * self._context.settings.deadlines.step)
