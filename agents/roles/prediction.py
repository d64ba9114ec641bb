"""Plays a data party in a prediction: matches new rows, and scores its columns.

Only the label party gets scores, and a file with them; the other parties' columns and weights stay where they are.
"""

from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.agents.alignment.aligned_table import AlignedTable
from tercet.agents.alignment.scored_once import ScoredOnce
from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.agents.models import model_part
from tercet.agents.models.model_part import ModelPart
from tercet.agents.models.scores_file import scored_columns, write_scores
from tercet.agents.protocol.shares import shares_from_part
from tercet.agents.protocol.weight_openings import commitments_of, openings_from_part, send_seed
from tercet.agents.roles.applied_part import check_parties, read_part
from tercet.agents.roles.exposure_profile import check_numbers
from tercet.agents.roles.release import hidden_folder, write_hidden
from tercet.agents.scoring.batches import scoring_batch
from tercet.agents.scoring.scoring_pass import own_noise, score_rows
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.dealing.sizes import BlindLayout
from tercet.mpc.linear.algebra import zero_share
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.blind import Blind
from tercet.mpc.plan.forward import SCORE_BITS
from tercet.mpc.plan.schedule import Step
from tercet.mpc.scoring.linear import Numbers, scoring_steps
from tercet.mpc.scoring.scores import decode_scores, encode_scores
from tercet.schemas.messages.kinds import PartialScores, ScoringTerms, Sizes
from tercet.tables.core.problem import UnusableError
from tercet.tables.encoding.unseen import count_unseen

PART = 65_536  # partial scores in a message: 512 KiB


class PredictionRole:
    """Plays `phases.Role` for a party that holds columns."""

    working = State.SCORING

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._own = AlignedTable(context)
        self._once = ScoredOnce(context)
        self._part: ModelPart | None = None
        self._arrays: dict[str, NDArray[Any]] = {}
        self._key = b""
        self.scoring: ScoringTerms | None = None
        self.scores: Floats | None = None  # of the common rows at the label party, in the label's terms if it has such

    @property
    def part(self) -> ModelPart:
        """This party's part of the model, once it is read."""
        assert self._part is not None
        return self._part

    async def prepare(self) -> None:
        """Read the model part, and the table by its encoding; nothing has been sent yet.

        Raises:
            JobProblem: there is no such part, it is of other parties, or the table lacks columns of the training.
        """
        context = self._context
        self._part, self._arrays = await context.compute(read_part, context)
        self._norm = self.part.norm
        check_parties(context, self.part)
        check_numbers(context, has_numbers=self.part.encoding.has_numbers)
        numbers = Numbers.from_canonical(self.part.plan)
        self.scoring = ScoringTerms(
            model=numbers.model,
            release=self.part.release,
            fx=numbers.fx,
            f=numbers.f,
            network=self.part.network,
            alpha=self.part.alpha,
            noise_bits=numbers.noise_bits,
            exponent=self.part.score_exponent,
            blind=numbers.is_blind,
            series=astuple(numbers.blind) if numbers.blind and numbers.network else None,
            seeds=commitments_of(context, self.part),
        )
        await self._own.read(with_label=False, expected=self.part.encoding.kinds, own_ids=context.is_label_party)
        await context.compute(self._compare)

    def _compare(self) -> None:
        """Warn of unseen categories and the like; refuse a column of these alone."""
        context, table = self._context, self._own.table
        try:
            unseen = count_unseen(self.part.encoding, table.batches())
        except UnusableError as problem:
            what = f"table {table.name!r}"
            public = f"at {context.me} the {what} {problem.public}"
            raise JobProblem("table.unusable", context.me, public, f"{what}: {problem}") from None
        for note in (*table.notes, *map(str, unseen)):
            context.note(note)

    async def align(self) -> None:
        """Find the rows that all data parties have."""
        await self._own.align()

    async def fit(self) -> Sizes:
        """Fit nothing: the encoding is the training's.

        Raises:
            JobProblem: some of the rows have been scored under the model before.
        """
        part = self.part
        await self._once.check((self._context.prediction.of, part.run), self._own)
        every = np.ones(len(self._own.rows), np.bool_)
        bits = await self._context.compute(self._own.record_bits, part.encoding, every)
        self._context.audit.bound_score_bits(bits.record)
        sizes = {"rows": len(self._own.rows), "held_out": 0, "columns": len(part.columns), "outputs": part.outputs}
        return Sizes(**sizes, model=part.digest)

    async def set_up(self) -> None:
        """Encode the rows if the forward pass needs them in words, and agree on the secret order."""
        if self._needs_helper:
            fx = self.scoring_numbers.fx
            await self._own.encode(self.part.encoding, self.part.norm, fx)
        await self._once.note_scored()
        self._key = await self._own.confirm_order()
        self._context.statistics.steps = len(self._steps())

    def _steps(self) -> list[Step]:
        assert self._context.terms is not None
        terms = self._context.terms
        batch = PART // terms.outputs
        if self._needs_helper:
            batch = scoring_batch(self.scoring_numbers)
        return list(scoring_steps(len(self._own.rows), batch, 0, self.part.alpha))

    async def run_steps(self) -> None:
        """Score all rows."""
        scores = await (self._score_shared() if self._needs_helper else self._score_owned())
        if scores is not None:
            scaling = self.part.label_scaling
            self.scores = scores if scaling is None else scaling.restore(scores)

    async def release(self) -> Path | None:
        """Write the scores at the label party, with ids, in the order of its table."""
        context, scores = self._context, self.scores
        if scores is None:
            return None
        folder = hidden_folder(context)
        order = np.argsort(self._own.rows)
        ids = self._own.table.own_ids.take(pa.array(self._own.rows[order]))
        names = () if self.part.classes is None else self.part.classes.names
        columns = scored_columns(self.part.link, scores[order], names)
        await write_hidden(context, folder, lambda: write_scores(folder, context.prediction.format, ids, columns))
        return folder

    def close(self) -> None:
        """Remove the working copies."""
        self._own.close()

    # --- release = "owners": each party scores its own columns

    async def _score_owned(self) -> Floats | None:
        context = self._context
        own = encode_scores(await context.compute(self._partial))
        noise = own_noise(context, self._own.private, "prediction")
        zero_masks = context.zero_masks("prediction")
        for step in self._steps():
            me, shape = context.number(context.me), (step.rows, self.part.outputs)
            deadline = context.deadline("fit" if step.index == 0 else "step")  # before the first all rows are scored
            if noise is not None:
                own[step.start : step.stop] += noise.words(step, self.part.outputs, 1.0, SCORE_BITS)
            share = own[step.start : step.stop] + await context.compute(zero_share, me, zero_masks, step, shape)
            if context.is_label_party:
                letters = await context.mailbox.receive(PartialScores, context.partners, deadline, step=step.position)
                words = context.mailbox.checked_words(letters, dict.fromkeys(letters, shape).__getitem__)
                own[step.start : step.stop] = total([share, *words.values()])
            else:
                await context.mailbox.send(PartialScores(words=share), [context.label], deadline, step=step.position)
            context.statistics.note_step(0, step.index)
        return decode_scores(own) if context.is_label_party else None

    def _partial(self) -> Floats:
        """Compute this party's part of common rows' scores, (rows, outputs), in order."""
        own, every = self._own, np.ones(len(self._own.rows), np.bool_)
        scores = np.empty((own.table.rows, self.part.outputs))
        marks, start = own.mark_rows(every), 0
        places = np.flatnonzero(marks)
        for batch in own.table.batches(marks):
            scores[places[start : start + batch.rows]] = model_part.partial_scores(self.part, self._arrays, batch)
            start += batch.rows
        return scores[own.rows]

    # --- shared weights, whoever knows them too: the forward pass with the helper

    @property
    def _needs_helper(self) -> bool:
        """Tell whether the helper scores; a network's partial sums would reveal too much."""
        return self.part.release != "owners" or self.part.network is not None

    @property
    def scoring_numbers(self) -> Numbers:
        """The fixed point of the model."""
        return scoring_numbers(self._context, self.scoring)

    async def _score_shared(self) -> Floats | None:
        context, numbers = self._context, self.scoring_numbers
        shares = shares_from_part(context, self.part, self._arrays)
        await send_seed(context, self._arrays)
        return await score_rows(
            context,
            numbers,
            self._own.words,
            shares,
            self._steps(),
            key=self._key,
            purpose="prediction",
            noise=own_noise(
                context, self._own.private, "prediction", blind_shares=shares if numbers.is_blind else None
            ),
            openings=openings_from_part(context, self.part, self._arrays),
            limit=2.0**self.part.score_exponent,
        )


def scoring_numbers(context: JobContext, scoring: ScoringTerms | None) -> Numbers:
    """Make the fixed point from a prediction's terms."""
    assert scoring is not None
    assert context.terms is not None
    terms = context.terms
    layers = scoring.network
    network = None if layers is None else Network(layers.hidden, layers.activation)
    series = None if scoring.series is None else Blind(*scoring.series)
    numbers = Numbers(
        scoring.model, terms.columns, scoring.fx, scoring.f, terms.outputs, network, scoring.noise_bits,
        scoring.blind, series,
    )  # fmt: skip
    if numbers.is_blind and network is not None:
        _check_series(context, numbers)
    return numbers


def _check_series(context: JobContext, numbers: Numbers) -> None:
    """Check that the announced series is stored.

    Raises:
        JobProblem: it is not.
    """
    try:
        BlindLayout(numbers)
    except ValueError:
        reason = f"{context.label} announced a series of the model that {context.me} does not know"
        raise JobProblem("job.terms", context.label, f"{reason}; do both run the same version?") from None
