"""Opens losses and scores held-out rows between two epochs, and decides to go on.

Only the label party learns scores; the loss goes to whom the job names. Nothing here changes a weight.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from tercet.agents.core.problems import JobProblem
from tercet.agents.evaluation.intervals import intervals
from tercet.agents.evaluation.metrics import metrics
from tercet.agents.protocol.checkpointing import Contents
from tercet.agents.protocol.shares import AnyShares, share_arrays, shares_from_checkpoint
from tercet.agents.scoring.batches import scoring_batch
from tercet.agents.scoring.blind_held_out import HeldOutParty
from tercet.agents.scoring.held_out_loss import held_out_loss, open_mean_loss
from tercet.agents.scoring.narrowing import narrow_shares
from tercet.agents.scoring.scoring_pass import own_noise, score_rows
from tercet.agents.session.agreed import TrainingContext
from tercet.agents.session.history import EarlyStopper
from tercet.agents.training.worth import Constant, shortfall, worthless_model
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.blind.loss import BlindLoss
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.linear.loss import LossParty
from tercet.mpc.scoring.linear import scoring_steps
from tercet.mpc.scoring.openings import Openings
from tercet.schemas.files.job import METRICS
from tercet.schemas.messages.kinds import EpochDecision, LossShare
from tercet.tables.encoding.store import FeatureView

HISTORY, BEST, LOSS = "history/", "best/", "loss"  # in a checkpoint


def strip_prefix(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Select arrays whose names have this prefix, and strip it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


class HeldOutLabels(NamedTuple):
    """Holds the labels of rows that are not trained on."""

    compared: Floats  # (rows,), as `evaluation.metrics` has them
    rows: RowLabels  # centred, as a loss has them
    to_label: Callable[[Floats], Floats]  # from scores, (rows, outputs), to what the labels are compared with
    offset: Floats | None = None  # (rows,), which the scores so compared begin with


class HeldOut(NamedTuple):
    """Holds the rows that are not trained on."""

    words: FeatureView
    private: bytes  # this party's own secret, which its noise on scores is made of
    labels: HeldOutLabels | None  # at the label party


AnyLoss = LossParty | BlindLoss


class Evaluation:
    """Evaluates one training; `loss` is fed by steps, `best` are the best epoch's shares."""

    def __init__(
        self, context: TrainingContext, key: bytes, held_out: HeldOut, loss: AnyLoss | None, constant: Constant | None
    ) -> None:
        job = context.description
        self._constant = constant  # at the label party
        self._context, self._key, self._held_out = context, key, held_out
        rule = job.early_stopping if context.is_label_party else None
        self._stopping = None if rule is None else EarlyStopper(rule, job.link)
        self.loss = loss
        self._blind_held_out: HeldOutParty | None = None
        self.best: AnyShares | None = None
        self._since = time.perf_counter()
        self._rates = context.plan.request.rates()
        self._steps_passed = 0  # of these rates

    async def on_epoch_end(self, epoch: int, shares: Callable[[], AnyShares]) -> bool:
        """Do what the job asks for after an epoch; whether there may be another one."""
        go_on = await self._evaluate_epoch(epoch, shares)
        history, now = self._context.history, time.perf_counter()
        history.seconds[epoch], history.rates[epoch] = now - self._since, self._first_rate(epoch)
        self._since = now
        return go_on

    def _first_rate(self, epoch: int) -> float:
        """Give the learning rate of an epoch's first step; epochs come in order."""
        first = epoch * self._context.plan.steps_per_epoch
        rate = next(itertools.islice(self._rates, first - self._steps_passed, None))
        self._steps_passed = first + 1
        return rate

    async def _evaluate_epoch(self, epoch: int, shares: Callable[[], AnyShares]) -> bool:
        job = self._context.description
        if self.loss is not None:
            await self._open_loss(epoch, self.loss)
        if job.evaluation.held_out_loss:
            await self._open_held_out_loss(epoch, shares())
        if job.scored_after(epoch):
            await self._validate(epoch, shares())
        if job.early_stopping is None:
            self._context.history.keep_scores()
            return True
        decision = await self._agree_on_decision(epoch)
        if decision.best:
            self.best = shares()
            self._context.history.keep_scores(epoch)
        return decision.go_on

    def choose_model(self, last: AnyShares) -> AnyShares:
        """Choose the model to keep: the best epoch's where the job stops early, else the last.

        Raises:
            JobProblem: no epoch's was better than a constant.
        """
        if self._context.description.early_stopping is None:
            return last
        if self.best is None:
            raise worthless_model(self._context)
        return self.best

    async def finish(self, shares: AnyShares, openings: Openings | None) -> None:
        """Score the held-out rows by the final model, if that was not done for each epoch.

        By what of its weights is opened once for all predictions, where there is such.
        """
        job, history = self._context.description, self._context.history
        if job.scorings and job.evaluation.metrics == "end":
            await self._validate(job.training.epochs - 1, shares, openings)
            history.keep_scores()
        if self._constant is not None:
            epoch = job.training.epochs - 1 if history.best_epoch is None else history.best_epoch
            history.shortfall = shortfall(self._constant, history, epoch, last=True)
        if history.scores is not None and history.labels is not None:
            compute = self._context.compute
            history.intervals = await compute(intervals, job.link, history.labels, history.scores)

    # --- for checkpoints

    def to_checkpoint(self, steps: int) -> Contents:
        """Give the state to resume from after so many steps, beside the trained shares."""
        arrays, facts = self._context.history.to_checkpoint()
        contents: dict[str, NDArray[Any]] = {f"{HISTORY}{name}": array for name, array in arrays.items()}
        if self.best is not None:
            contents |= {f"{BEST}{name}": words for name, words in share_arrays(self._context, self.best).items()}
        if self.loss is not None:
            contents[LOSS] = self.loss.before(steps)
        stopping = None if self._stopping is None else self._stopping.to_checkpoint()
        best_steps = 0 if self.best is None else self.best.step
        return contents, {"history": facts, "stopping": stopping, "kept": best_steps}  # type: ignore[dict-item]

    def restore(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Restore an earlier attempt's state; the loss has its part from `LOSS` already."""
        self._context.history.restore(strip_prefix(arrays, HISTORY), facts["history"])
        if facts["kept"]:
            self.best = shares_from_checkpoint(self._context, strip_prefix(arrays, BEST), facts["kept"])
        if self._stopping is not None and facts["stopping"] is not None:
            self._stopping.restore(facts["stopping"])

    # --- losses

    async def _open_loss(self, epoch: int, loss: AnyLoss) -> None:
        context = self._context
        mean = await open_mean_loss(context, LossShare, loss.share(epoch), context.plan, epoch)
        if mean is not None:
            context.history.losses.append(mean * self._loss_unit)

    @property
    def _loss_unit(self) -> float:
        """The others are told losses in units of the mean label, which they do not know."""
        return 1.0 if self._constant is None else self._constant.unit

    async def _open_held_out_loss(self, epoch: int, shares: AnyShares) -> None:
        words, labels = self._held_out.words, None if self._held_out.labels is None else self._held_out.labels.rows
        if self._context.plan.is_blind:
            if self._blind_held_out is None:
                self._blind_held_out = await self._context.compute(HeldOutParty, self._context, words, labels)
            mean = await self._blind_held_out.loss(epoch, shares)
        else:
            y = None if labels is None else labels.y
            mean = await held_out_loss(self._context, words, y, shares, key=self._key, epoch=epoch)
        if mean is not None:
            self._context.history.held_out_losses.append(mean * self._loss_unit)

    # --- held-out rows

    async def _validate(self, epoch: int, shares: AnyShares, openings: Openings | None = None) -> None:
        context, plan, held_out = self._context, self._context.plan, self._held_out
        if openings is None:  # else they are of the model that is kept, which is narrow already
            shares = await narrow_shares(context, shares, epoch)
        rows, alpha = held_out.words.shape[0], await context.compute(plan.alpha_after, shares.step)
        steps = list(scoring_steps(rows, scoring_batch(plan), epoch, alpha))
        noise = own_noise(context, held_out.private, "validation", blind_shares=shares if plan.is_blind else None)
        scores = await score_rows(
            context, plan, held_out.words, shares, steps, key=self._key, purpose="validation", noise=noise,
            openings=openings,
        )  # fmt: skip
        if scores is not None and held_out.labels is not None:
            await context.compute(self._measure, epoch, scores, held_out.labels)

    def _measure(self, epoch: int, scores: Floats, labels: HeldOutLabels) -> None:
        history, scores, job = self._context.history, labels.to_label(scores), self._context.description
        history.metrics[epoch] = metrics(job.link, labels.compared, scores, labels.offset, job.link_power)
        history.latest, history.labels = scores, labels.compared

    # --- early stopping

    async def _agree_on_decision(self, epoch: int) -> EpochDecision:
        context, deadline = self._context, self._context.deadline("step")
        if self._stopping is None:
            letters = await context.mailbox.receive(EpochDecision, [context.label], deadline, epoch=epoch)
            return letters[context.label]
        decision = self._decide(epoch, self._stopping)
        await context.mailbox.send(decision, context.others, deadline, epoch=epoch)
        return decision

    def _decide(self, epoch: int, stopping: EarlyStopper) -> EpochDecision:
        context, job, on = self._context, self._context.description, stopping.rule.on
        if on in METRICS[job.link] and not job.scored_after(epoch):
            return EpochDecision(best=False, go_on=True)
        value = context.history.value(epoch, on)
        if value is None:
            raise JobProblem(
                "job.holdout",
                context.job.submitter,
                f"no early stopping on {on}: all held-out rows have the same label: hold out more; without a split "
                f"each run holds out others",
            )
        worthless = self._constant is not None and shortfall(self._constant, context.history, epoch, last=False)
        best, go_on = stopping.decide(value, worthless=bool(worthless))
        return EpochDecision(best=best, go_on=go_on)
