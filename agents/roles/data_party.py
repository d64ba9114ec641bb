"""Plays a data party in a training: rows, secret order, steps, released model part.

It decides the order of work. The equations are in mpc, the loops of the steps in `training`.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from tercet.agents.alignment.aligned_table import AlignedTable, align_table
from tercet.agents.alignment.own_table import OwnTable, Reading, read_table
from tercet.agents.alignment.scored_ids import model_of
from tercet.agents.alignment.scored_once import ScoredOnce
from tercet.agents.core.states import State
from tercet.agents.models.manifest import LabelTerms
from tercet.agents.models.population import Population, count_scores
from tercet.agents.protocol.checkpointing import CheckpointWriter, Contents, find_checkpoint
from tercet.agents.protocol.shares import AnyShares, share_arrays
from tercet.agents.protocol.weight_openings import ModelOpenings, open_model, receive_commitments
from tercet.agents.roles.applied_part import scoring_terms
from tercet.agents.roles.continued_part import ContinuedPart, read_continued
from tercet.agents.roles.exposure_profile import check_label_classes, label_kind
from tercet.agents.roles.fitted_table import FittedTable, fit_table, measure_sizes
from tercet.agents.roles.folds import Folds
from tercet.agents.roles.held_out_file import write_held_out
from tercet.agents.roles.release import hidden_folder, open_model_parts, save_part, write_hidden
from tercet.agents.roles.terms import agree_on_plan
from tercet.agents.scoring.narrowing import narrow_shares
from tercet.agents.session.agreed import Session, TrainingContext, extend
from tercet.agents.session.checkpoint_store import CheckpointFolder, checkpoint_folder
from tercet.agents.session.context import JobContext
from tercet.agents.training.blind_training import BlindTraining, blind_party
from tercet.agents.training.delegated_training import DelegatedParty, DelegatedTraining, delegated_party
from tercet.agents.training.earlier_training import DIGEST, MODEL, EarlierTraining
from tercet.agents.training.epoch_evaluation import Evaluation, HeldOut
from tercet.agents.training.sent_rows import agree_on_row_key
from tercet.mpc.blind.data_party import BlindParty
from tercet.mpc.randomness.secret_order import Order
from tercet.schemas.files.job import TrainingJob
from tercet.tables.encoding.store import FeatureView

AnyParty = DelegatedParty | BlindParty
EXPONENT = "exponent"  # in a checkpoint: of the bound of scores, once all steps are done


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class TrainingSetup(FittedTable):
    """Holds all that a data party's steps need.

    Attributes:
        context: what all parties have agreed on.
        key: of the secret order.
        order: of the rows that are trained on.
        words: of the rows that are trained on.
        all_words: of the common rows.
        party: this party's side of the arithmetic.
        start: its shares at the attempt's first step.
        evaluation: between epochs.
        checkpoints: writes them.
        exponent: of the bound of scores, if an earlier attempt has done all steps.
    """

    context: TrainingContext
    key: bytes
    order: Order
    words: FeatureView
    all_words: FeatureView
    party: AnyParty
    start: AnyShares
    evaluation: Evaluation
    checkpoints: CheckpointWriter
    exponent: int | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Trained(TrainingSetup):
    """Adds what a data party has at the end: its shares of the kept model, and openings."""

    shares: AnyShares
    openings: ModelOpenings


class DataPartyRole:
    """Plays `phases.Role` for a party that holds columns."""

    working = State.TRAINING

    def __init__(self, context: JobContext, job: TrainingJob) -> None:
        self._context, self._job = context, job
        self._start: ContinuedPart | None = None

    async def prepare(self) -> OwnTable:
        """Read and check the table; nothing has been sent yet.

        Raises:
            JobProblem: the table, its columns, its labels or the part to begin at cannot be used; this party is named.
        """
        context = self._context
        filed = context.is_label_party and self._job.evaluation.held_out_scores
        self._start = await context.compute(read_continued, context, self._job)
        expected = None if self._start is None else self._start.part.encoding.kinds
        reading = Reading(context.is_label_party, label_kind(self._job), expected, own_ids=filed)
        own = await read_table(context, reading)
        check_label_classes(context, own.table.classes, own.table.chosen.positive, own.table.name)
        return own

    async def align(self, own: OwnTable) -> AlignedTable:
        """Find the rows that all data parties have."""
        return await align_table(self._context, own)

    async def set_up(self, own: AlignedTable, session: Session) -> TrainingSetup:
        """Set up the first training that no earlier attempt has finished.

        Raises:
            JobProblem: columns, labels or sizes do not fit the job, or the parties do not agree.
        """
        self._folds = Folds(self._context, self._job, partial(self._set_up_training, own, session), self._train)
        return await self._folds.set_up()

    async def run_steps(self, setup: TrainingSetup) -> Trained:
        """Run all trainings from this one on; return the last, whose model is the job's."""
        return await self._folds.run_steps(setup)

    async def _set_up_training(
        self, common: AlignedTable, session: Session, means: JobContext, job: TrainingJob
    ) -> TrainingSetup:
        """Fit the encoding, agree on plan and secret order, and encode the rows."""
        own = common.of_fold(means)
        start = self._start
        fitted = await fit_table(means, job, own, start)
        sizes = await measure_sizes(means, job, fitted)
        scoring = None if start is None else scoring_terms(means, start.part)
        context = await agree_on_plan(means, job, session, sizes, scoring)
        plan = context.plan
        if fitted.labels is not None:
            fitted.labels.check_plan(context, plan)
        words = await own.encode(fitted.encoding, plan.norms[context.number(context.me)], plan.fx)
        await _note_held_out(context, fitted)
        key = await own.confirm_order(context, fitted.held_out)
        return await _resume_from_checkpoint(context, fitted, words, key)

    async def _train(self, setup: TrainingSetup) -> Trained:
        """Run all steps of one training, and the job's evaluation between epochs."""
        context, party, evaluation = setup.context, setup.party, setup.evaluation
        if not context.all_steps_done:
            if isinstance(party, BlindParty):
                await BlindTraining(context, party, evaluation, setup.checkpoints).run()
            else:
                await DelegatedTraining(context, party, setup.order, evaluation, setup.checkpoints).run()
        model = evaluation.choose_model(party.shares())
        commitments = await receive_commitments(context, setup.exponent if context.all_steps_done else None)
        if not context.all_steps_done:
            await setup.checkpoints.write_last(party.shares().step, **{EXPONENT: commitments.exponent})
        shares = await narrow_shares(context, model, self._job.training.epochs)
        openings = await open_model(context, shares, commitments)
        await evaluation.finish(shares, openings.openings)
        return extend(setup, Trained, shares=shares, openings=openings)

    async def release(self, trained: Trained) -> None:
        """Open what the job says to whom it says, and write the part to disk."""
        context, labels = trained.context, trained.labels
        opened = await open_model_parts(context, trained.shares, trained.encoding)
        label = LabelTerms() if labels is None else labels.terms
        scores = None if labels is None else context.history.scores
        population = Population(columns=trained.counts, scores=None if scores is None else count_scores(scores))
        await save_part(context, trained.encoding, label, opened, trained.openings, trained.shares.step, population)
        if self._job.evaluation.held_out_scores and labels is not None and scores is not None:
            folder, card = hidden_folder(context), self._job.scorecard
            await write_hidden(context, folder, lambda: write_held_out(folder, trained.own, labels, scores, card))


async def _note_held_out(context: TrainingContext, fitted: FittedTable) -> None:
    """Note the held-out rows as scored under the model that the job makes."""
    if context.fold is not None:
        return  # the fold's model scores no other rows, and nobody keeps it
    if context.description.scorings and fitted.held_out.any() and not context.is_label_party:
        own, model = fitted.own, model_of(context.settings.state, context.job)
        once = await ScoredOnce.check(context, model, own.table.ids, own.rows[fitted.held_out])
        await once.note_scored()


async def _resume_from_checkpoint(
    context: TrainingContext, fitted: FittedTable, all_words: FeatureView, key: bytes
) -> TrainingSetup:
    """Set up the training as the last checkpoint of all parties has it, if there is one."""
    own, place = fitted.own, checkpoint_folder(context.settings.state, context.job.id, context.fold)
    folder = CheckpointFolder(place, fitted.bind(own.checkpoint_binding(context, key)))
    context, checkpoint = await find_checkpoint(context, folder)
    if checkpoint is not None:
        earlier = EarlierTraining.read(context, checkpoint)
    else:
        earlier = EarlierTraining(None if fitted.continued is None else fitted.continued.shares(context, context.plan))
    words, labels = all_words.choose(~fitted.held_out), None if fitted.labels is None else fitted.labels.trained_rows
    order = Order(key, context.plan.request.rows, attempt=context.noise_attempt)
    row_key = b""
    if context.plan.is_blind:
        row_key = await agree_on_row_key(context, own.private, words, labels, order_key=key)

    def make_party() -> AnyParty:
        if context.plan.is_blind:
            return blind_party(context, words, labels, row_key, order_key=key, draw=own.draw_start, earlier=earlier)
        y = None if labels is None else labels.y
        return delegated_party(context, words, y, order, key=key, draw=own.draw_start, earlier=earlier)

    party = await context.compute(make_party)
    evaluation = await context.compute(_make_evaluation, context, fitted, all_words, key, party)
    if checkpoint is not None:
        evaluation.restore(checkpoint.arrays, checkpoint.facts)
    contents = partial(_checkpoint_contents, context, party, evaluation)
    return extend(
        fitted,
        TrainingSetup,
        context=context,
        key=key,
        order=order,
        words=words,
        all_words=all_words,
        party=party,
        start=party.shares(),
        evaluation=evaluation,
        checkpoints=CheckpointWriter(context, folder, checkpoint, contents),
        exponent=None if checkpoint is None else checkpoint.number(EXPONENT),
    )


def _make_evaluation(
    context: TrainingContext, fitted: FittedTable, words: FeatureView, key: bytes, party: AnyParty
) -> Evaluation:
    labels, constant = None, None
    if fitted.labels is not None:
        labels, constant = fitted.labels.evaluated, fitted.labels.constant()
    held_out = HeldOut(words.choose(fitted.held_out), fitted.own.private, labels)
    return Evaluation(context, key, held_out, party.loss, constant)


def _checkpoint_contents(context: TrainingContext, party: AnyParty, evaluation: Evaluation, steps: int) -> Contents:
    """Collect all that a checkpoint holds."""
    arrays, facts = evaluation.to_checkpoint(steps)
    model, parties = share_arrays(context, party.shares()), context.description.data_parties
    digests = {parties[j]: np.frombuffer(digest, np.uint8) for j, digest in party.digests.items()}
    for prefix, more in ((MODEL, model), (DIGEST, digests)):
        arrays = {**arrays, **{f"{prefix}{name}": words for name, words in more.items()}}
    return arrays, {**facts, EXPONENT: None}
