"""Plays a data party in a training: rows, secret order, steps, released model part.

It decides the order of work. The equations are in mpc, the loops of the steps in `training`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tercet.agents.alignment.aligned_table import AlignedTable
from tercet.agents.alignment.row_counts import check_split
from tercet.agents.alignment.scored_once import ScoredOnce
from tercet.agents.alignment.table_problems import unfit_label
from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.agents.protocol.checkpointing import CheckpointWriter, Contents, find_checkpoint
from tercet.agents.protocol.shares import AnyShares, share_arrays, shares_from_checkpoint
from tercet.agents.protocol.weight_openings import ModelOpenings, open_model, receive_commitments
from tercet.agents.roles.exposure_profile import check_numbers, label_kind
from tercet.agents.roles.own_labels import OwnLabels
from tercet.agents.roles.release import open_model_parts, save_part
from tercet.agents.roles.release_to_label import check_declared, encoding_message
from tercet.agents.scoring.narrowing import narrow_shares
from tercet.agents.session.checkpoint_store import CheckpointFolder, checkpoint_folder
from tercet.agents.session.context import JobContext
from tercet.agents.session.training_defaults import announced_spread
from tercet.agents.training.blind_training import BlindTraining, blind_party
from tercet.agents.training.delegated_training import DelegatedParty, DelegatedTraining, delegated_party
from tercet.agents.training.epoch_evaluation import LOSS, Evaluation, HeldOut, strip_prefix
from tercet.agents.training.sent_rows import agree_on_row_key
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.blind.data_party import BlindParty
from tercet.mpc.functions.labels import LabelProblem
from tercet.mpc.randomness.secret_order import Order
from tercet.schemas.files.settings import TableSettings
from tercet.schemas.messages.kinds import ScoringTerms, Sizes
from tercet.tables.core.problem import TableProblem
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.entropy import RecordBits
from tercet.tables.encoding.label import UnfitLabel
from tercet.tables.encoding.store import FeatureView
from tercet.tables.encoding.whitening import MOST_WHITENED

AnyParty = DelegatedParty | BlindParty
MODEL, EXPONENT = "model/", "exponent"  # in a checkpoint: shares of the model as it is then, and how far scores may go
DIGEST = "digest/"  # likewise: what this party and each other one have found of the helper's dealing


class DataPartyRole:
    """Plays `phases.Role` for a party that holds columns."""

    working = State.TRAINING
    scoring: ScoringTerms | None = None

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.own = AlignedTable(context)
        self._me = context.number(context.me)
        self.held_out: NDArray[np.bool_] = np.empty(0, np.bool_)  # of the common rows
        self.encoding: Encoding | None = None
        self.labels = OwnLabels(context, self.own)  # of the common rows
        self.order: Order | None = None
        self.words: FeatureView | None = None  # of the rows that are trained on
        self.party: AnyParty | None = None
        self.shares: AnyShares | None = None  # of the model that is kept
        self.openings: ModelOpenings | None = None  # of that model
        self.start: AnyShares | None = None  # at an attempt's first step
        self.key = b""  # of the secret order
        self.row_key = b""  # of the masks on this party's rows, in a blind training
        self._evaluation: Evaluation | None = None
        self._checkpoints: CheckpointWriter | None = None
        self._score_exponent: int | None = None  # of how far scores may go, once all steps are done

    async def prepare(self) -> None:
        """Read and check the table; nothing has been sent yet.

        Raises:
            JobProblem: the table, its columns or its labels cannot be used; this party is named.
        """
        training = self.context.training
        await self.own.read(with_label=self.context.is_label_party, label_kind=label_kind(training))
        self.labels.check_table()

    async def align(self) -> None:
        """Find the rows that all data parties have."""
        await self.own.align()

    async def fit(self) -> Sizes:
        """Split the common rows and fit the encoding to those that are trained on.

        Raises:
            JobProblem: nothing is left to train on or to evaluate with, or columns or labels do not fit.
        """
        context = self.context
        self.held_out = await self.own.split_rows()
        rows, held_out = int((~self.held_out).sum()), int(self.held_out.sum())
        if rows == 0 or (held_out > 0) != context.training.evaluation.holds_out:
            raise JobProblem(
                "job.holdout",
                context.job.submitter,
                "the rows in common are so few that none is left to train on, or none to evaluate with: change holdout "
                "in the job, or bring more rows; without a split each run holds out others",
            )
        check_split(context, rows, held_out)
        try:
            await context.compute(self._fit)
        except (UnfitLabel, LabelProblem) as problem:
            raise unfit_label(self.context, problem) from None
        except TableProblem as problem:
            raise JobProblem("table.unusable", context.me, f"at {context.me} {problem.public}", str(problem)) from None
        assert self.encoding is not None
        if context.training.scorings:
            check_numbers(context, has_numbers=self.encoding.has_numbers)
        self.labels.check_losses()
        if context.training.release == "label" and not context.is_label_party:
            check_declared(context, self.encoding, self.own.table.columns)
            await context.compute(
                encoding_message, context, self.encoding
            )  # so that it is not at the end that it proves too long
        for warning in self.warnings:
            context.note(warning)
        bits = await context.compute(self._record_bits)
        context.audit.bound_score_bits(bits.record)
        return Sizes(
            rows=rows,
            held_out=held_out,
            columns=len(self.encoding.names),
            bits=bits.collision,
            record_bits=bits.record,
            spread=announced_spread(context.training, self.encoding),
            outputs=self.labels.outputs,
        )

    def _record_bits(self) -> RecordBits:
        assert self.encoding is not None
        return self.own.record_bits(self.encoding, ~self.held_out)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about this party's own table, once encodings are fitted."""
        found = [] if self.encoding is None else [*self.own.table.notes, *self.encoding.warnings]
        if self.encoding is not None and self.encoding.columns and not self.encoding.varies:
            found.append("no column of the table differs among the rows, so that partners' columns make the model")
        encoding = self.encoding
        if encoding is not None and encoding.whitening is None and encoding.varies and self._is_whitened:
            found.append(f"more than {MOST_WHITENED} encoded columns: they are not whitened, so training is slower")
        return (*found, *self.labels.warnings)

    @property
    def _settings(self) -> TableSettings:
        return self.context.settings.tables[self.context.description.table_of(self.context.me)]

    @property
    def _is_whitened(self) -> bool:
        """Tell whether columns are whitened; a network would learn rare directions by heart.

        See docs/benchmarks.md.

        The covariance of a party's columns goes to another party with the owner's word only.
        """
        training, asked = self.context.training, self._settings.whiten
        if asked is None:
            asked = training.release != "label" or self.context.is_label_party
        return asked and training.network is None

    def _fit(self) -> None:
        settings, table = self._settings, self.own.table
        trained_on = self.own.mark_rows(~self.held_out)
        self.encoding = Encoding.fit(
            lambda: table.batches(trained_on), clip=settings.clip, rare=settings.rare, whiten=self._is_whitened
        )
        if not (self.encoding.varies or self.context.is_label_party):
            raise TableProblem(
                f"each column of table {table.name!r} has one value in all rows that are trained on",
                "bring columns that differ from row to row, or leave this party out of the job",
                f"no column of table {table.name!r} differs among the rows in common, so that it adds nothing to the "
                f"model",
            )
        self.labels.fit(self.held_out)

    async def set_up(self) -> None:
        """Agree on the secret order, and encode the rows.

        Raises:
            JobProblem: the plan leaves no room for such labels; this party is named.
        """
        context = self.context
        assert self.encoding is not None
        plan = context.ready_plan
        self.labels.check_plan()
        await self.own.encode(self.encoding, plan.norms[self._me], plan.fx)
        self.words = self.own.view_rows(~self.held_out)
        if context.training.scorings:
            await ScoredOnce(context).check_held_out(self.own, self.held_out)
        self.key = await self.own.confirm_order()
        self.order = Order(self.key, context.ready_plan.request.rows, attempt=context.noise_attempt)
        await self._resume_from_checkpoint()

    async def _resume_from_checkpoint(self) -> None:
        context = self.context
        folder = CheckpointFolder(
            checkpoint_folder(context.settings.state, context.job.id), self.own.checkpoint_binding(self.key)
        )
        checkpoint = await find_checkpoint(context, folder)
        arrays = {} if checkpoint is None else checkpoint.arrays
        shares = (
            None
            if checkpoint is None
            else shares_from_checkpoint(context, strip_prefix(arrays, MODEL), checkpoint.held.steps)
        )
        digests = {
            context.number(party): words.tobytes() for party, words in strip_prefix(arrays, DIGEST).items()
        } or None
        if context.ready_plan.is_blind:
            assert self.words is not None
            self.row_key = await agree_on_row_key(
                context, self.own.private, self.words, self.labels.trained_on, order_key=self.key
            )
        self.party = await context.compute(self._make_party, shares, digests, arrays.get(LOSS))
        self.start = self.party.shares()
        self._evaluation = await context.compute(self._make_evaluation)
        if checkpoint is not None:
            self._evaluation.restore(arrays, checkpoint.facts)
            exponent = checkpoint.facts.get(EXPONENT)
            self._score_exponent = exponent if isinstance(exponent, int) else None
        self._checkpoints = CheckpointWriter(context, folder, checkpoint, self._checkpoint_contents)

    def _checkpoint_contents(self, steps: int) -> Contents:
        """All that a checkpoint holds."""
        assert self.party is not None
        assert self._evaluation is not None
        arrays, facts = self._evaluation.to_checkpoint(steps)
        model, parties = share_arrays(self.context, self.party.shares()), self.context.description.data_parties
        digests = {parties[j]: np.frombuffer(digest, np.uint8) for j, digest in self.party.digests.items()}
        for prefix, more in ((MODEL, model), (DIGEST, digests)):
            arrays = {**arrays, **{f"{prefix}{name}": words for name, words in more.items()}}
        return arrays, {**facts, EXPONENT: self._score_exponent}

    def _make_party(
        self, shares: AnyShares | None, digests: Mapping[int, bytes] | None, so_far: Words | None
    ) -> AnyParty:
        context, labels, words = self.context, self.labels.trained_on, self.words
        assert self.order is not None
        assert words is not None
        if context.ready_plan.is_blind:
            return blind_party(
                context, words, labels, self.row_key, order_key=self.key, shares=shares, so_far=so_far, digests=digests
            )
        return delegated_party(
            context, words, labels, self.order, key=self.key, shares=shares, so_far=so_far, digests=digests
        )

    def _make_evaluation(self) -> Evaluation:
        assert self.party is not None
        labels, centred = self.labels.held_out
        words, private = self.own.view_rows(self.held_out), self.own.private
        held_out = HeldOut(words, labels, centred, private, self.labels.to_label_scale)
        return Evaluation(self.context, self.key, held_out, self.party.loss, self.labels.constant())

    async def run_steps(self) -> None:
        """Run all steps, and the job's evaluation between epochs."""
        assert self.party is not None
        assert self.order is not None
        assert self._evaluation is not None
        assert self._checkpoints is not None
        if not self.context.all_steps_done:
            if isinstance(self.party, BlindParty):
                await BlindTraining(self.context, self.party, self._evaluation, self._checkpoints).run()
            else:
                await DelegatedTraining(self.context, self.party, self.order, self._evaluation, self._checkpoints).run()
        model = self._evaluation.choose_model(self.party.shares())
        commitments = await receive_commitments(
            self.context, self._score_exponent if self.context.all_steps_done else None
        )
        self._score_exponent = commitments.exponent
        if not self.context.all_steps_done:
            await self._checkpoints.write_last(self.party.shares().step)
        self.shares = await narrow_shares(self.context, model, self.context.training.training.epochs)
        self.openings = await open_model(self.context, self.shares, commitments)
        await self._evaluation.finish(self.shares, self.openings.openings)

    async def release(self) -> Path:
        """Open what the job says to whom it says, and write the part to disk."""
        assert self.shares is not None
        assert self.encoding is not None
        assert self.openings is not None
        release = await open_model_parts(self.context, self.shares, self.encoding)
        label = (self.labels.scaling, self.labels.classes)
        return await save_part(self.context, self.encoding, label, release, self.openings, self.shares.step)

    async def wait_until_idle(self) -> None:
        """Wait until no checkpoint is being written any more."""
        if self._checkpoints is not None:
            await self._checkpoints.wait_until_idle()

    def close(self) -> None:
        """Remove the working copies."""
        self.own.close()
