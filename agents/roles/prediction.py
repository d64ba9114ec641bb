"""Plays a data party in a prediction: matches new rows, and scores its columns.

Only the label party gets scores, and a file with them; the other parties' columns and weights stay where they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.agents.alignment.aligned_table import AlignedTable, align_table
from tercet.agents.alignment.own_table import OwnTable, Reading, read_table
from tercet.agents.alignment.scored_ids import ScoredIds
from tercet.agents.alignment.scored_once import ScoredOnce
from tercet.agents.alignment.table_problems import report_table
from tercet.agents.core.states import State
from tercet.agents.evaluation.stability import Stability
from tercet.agents.models import model_part
from tercet.agents.models.model_part import ModelPart
from tercet.agents.models.population import compare_columns, compare_scores
from tercet.agents.models.scores_file import scored_columns, write_scores
from tercet.agents.protocol.shares import shares_from_part
from tercet.agents.protocol.weight_openings import openings_from_part, send_seed
from tercet.agents.roles.applied_part import check_parties, compare_table, read_part, scoring_terms
from tercet.agents.roles.exposure_profile import check_numbers
from tercet.agents.roles.release import hidden_folder, write_hidden
from tercet.agents.roles.terms import agree_on_scoring
from tercet.agents.scoring.batches import scoring_batch
from tercet.agents.scoring.scoring_pass import own_noise, score_rows
from tercet.agents.session.agreed import ScoringContext, Session, extend
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import total
from tercet.mpc.linear.algebra import zero_share
from tercet.mpc.plan.forward import SCORE_BITS
from tercet.mpc.plan.schedule import Step
from tercet.mpc.scoring.linear import scoring_steps
from tercet.mpc.scoring.scores import decode_scores, encode_scores
from tercet.schemas.files.job import PredictionJob
from tercet.schemas.messages.kinds import PartialScores, Sizes
from tercet.tables.core.problem import problems_of
from tercet.tables.encoding.store import FeatureView

PART = 65_536  # partial scores in a message: 512 KiB


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class AppliedPart:
    """Holds this party's part of the model, and the table that it is applied to."""

    part: ModelPart
    arrays: dict[str, NDArray[Any]]
    read: OwnTable


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class MatchedPart(AppliedPart):
    """Holds also which of the table's rows all data parties have."""

    own: AlignedTable


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class ScoringSetup(MatchedPart):
    """Holds all that scoring needs.

    Attributes:
        context: what all parties have agreed on.
        key: of the secret order.
        words: of the rows, if the forward pass takes them from the helper; else each party scores its own columns.
        offset: (rows, 1), what this party, which has the label, adds to scores, if there is such.
        steps: the batches.
        columns: how far each of this party's columns has moved since the training.
    """

    context: ScoringContext
    key: bytes
    words: FeatureView | None
    offset: Floats | None
    steps: Sequence[Step]
    columns: tuple[Stability, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Scored(ScoringSetup):
    """Adds the scores of the common rows at the label party, in the label's own terms.

    Attributes:
        moved: how far they are from those of the held-out rows, if that is known.
    """

    scores: Floats | None
    moved: Stability | None


class PredictionRole:
    """Plays `phases.Role` for a party that holds columns."""

    working = State.SCORING

    def __init__(self, context: JobContext, job: PredictionJob) -> None:
        self._context, self._job = context, job

    async def prepare(self) -> AppliedPart:
        """Read the model part, and the table by its encoding; nothing has been sent yet.

        Raises:
            JobProblem: there is no such part, it is of other parties, or the table lacks columns of the training.
        """
        context = self._context
        part, arrays = await context.compute(read_part, context, self._job.of)
        check_parties(context, self._job, part)
        check_numbers(context, has_numbers=part.encoding.has_numbers)
        if context.is_label_party and self._job.scorecard is not None and part.link != "logistic":
            context.note(f"there are no points: they are made of log-odds, which a {part.link} model has not")
        reading = Reading(
            expected=part.encoding.kinds, own_ids=context.is_label_party, beside=part.columns_beside
        )  # fmt: skip
        read = await read_table(context, reading)
        await context.compute(compare_table, context, part, read.table)
        return AppliedPart(part=part, arrays=arrays, read=read)

    async def align(self, applied: AppliedPart) -> MatchedPart:
        """Find the rows that all data parties have."""
        return extend(applied, MatchedPart, own=await align_table(self._context, applied.read))

    async def set_up(self, matched: MatchedPart, session: Session) -> ScoringSetup:
        """Agree on the model and the secret order, and encode the rows where words are needed.

        Raises:
            JobProblem: some of the rows have been scored under the model before, or the parties do not agree.
        """
        context, part, own = self._context, matched.part, matched.own
        once, offset = None, await context.compute(_own_offset, context, matched)
        if not context.is_label_party:
            scored = ScoredIds(context.settings.state, (self._job.of, part.run), context.job.run)
            once = await ScoredOnce.check(context, scored, own.table.ids, own.rows)
        sizes, scoring = await _measure_sizes(context, part, own), scoring_terms(context, part)
        agreed = await agree_on_scoring(context, self._job, session, sizes, scoring)
        columns = await context.compute(_compare_columns, context, part, own)
        words, batch = None, PART // agreed.terms.outputs
        if part.helped:
            words = await own.encode(part.encoding, part.norm, agreed.numbers.fx)
            batch = scoring_batch(agreed.numbers)
        if once is not None:
            await once.note_scored()
        key, steps = await own.confirm_order(agreed), list(scoring_steps(len(own.rows), batch, 0, part.alpha))
        context.statistics.steps = len(steps)
        return extend(
            matched,
            ScoringSetup,
            context=agreed,
            key=key,
            words=words,
            offset=offset,
            steps=steps,
            columns=columns,
        )

    async def run_steps(self, setup: ScoringSetup) -> Scored:
        """Score all rows."""
        offset = setup.offset
        scores = await (_score_owned(setup) if setup.words is None else _score_shared(setup, setup.words))
        scaling = setup.part.label_scaling
        if scores is not None and scaling is not None:
            scores = scaling.restore(scores)
        if scores is not None and offset is not None:
            scores = scores + offset
        moved = None if scores is None else _compare_scores(setup.context, setup.part, scores)
        return extend(setup, Scored, scores=scores, moved=moved)

    async def release(self, scored: Scored) -> None:
        """Write the scores at the label party, with ids, in the order of its table."""
        context, scores, own = scored.context, scored.scores, scored.own
        if scores is None:
            return
        folder = hidden_folder(context)
        order = np.argsort(own.rows)
        ids = own.table.own_ids.take(pa.array(own.rows[order]))
        names = () if scored.part.classes is None else scored.part.classes.names
        card = self._job.scorecard or scored.part.scorecard
        columns = scored_columns(scored.part.link, scores[order], names, card)
        await write_hidden(context, folder, lambda: write_scores(folder, self._job.format, ids, columns))


def _compare_columns(context: JobContext, part: ModelPart, own: AlignedTable) -> tuple[Stability, ...]:
    """Compare this party's rows with those of the training, and note what has changed much."""
    if part.population is None or not len(own.rows):
        return ()
    rows = own.table.batches(own.mark_rows(np.ones(len(own.rows), np.bool_)))
    found = compare_columns(part.population, rows)
    for one in found:
        if one.is_large:
            context.note(f"column {one.name!r} has changed since the training (PSI {one.psi:.2f})")
    return found


def _compare_scores(context: JobContext, part: ModelPart, scores: Floats) -> Stability | None:
    found = None if part.population is None else compare_scores(part.population, scores)
    if found is not None and found.is_large:
        context.note(f"scores are others than those of the held-out rows were (PSI {found.psi:.2f})")
    return found


async def _measure_sizes(context: JobContext, part: ModelPart, own: AlignedTable) -> Sizes:
    bits = await context.compute(own.record_bits, part.encoding, np.ones(len(own.rows), np.bool_))
    context.audit.bound_score_bits(bits.record)
    return Sizes(rows=len(own.rows), held_out=0, columns=len(part.columns), outputs=part.outputs, model=part.digest)


def _own_offset(context: JobContext, matched: MatchedPart) -> Floats | None:
    """Read what this party, which has the label, adds to scores, (rows, 1)."""
    offset, own = matched.part.offset, matched.own
    if offset is None:
        return None
    with report_table(context), problems_of(own.table.name, offset.column):
        return offset.read(own.table.holdouts[offset.column].take(pa.array(own.rows))).reshape(-1, 1)


# --- release = "owners": each party scores its own columns


async def _score_owned(setup: ScoringSetup) -> Floats | None:
    context, outputs = setup.context, setup.part.outputs
    own = encode_scores(await context.compute(_partial_scores, setup))
    noise = own_noise(context, setup.own.private, "prediction")
    zero_masks = context.zero_masks("prediction")
    for step in setup.steps:
        me, shape = context.number(context.me), (step.rows, outputs)
        deadline = context.deadline("fit" if step.index == 0 else "step")  # before the first all rows are scored
        if noise is not None:
            own[step.start : step.stop] += noise.words(step, outputs, 1.0, SCORE_BITS)
        share = own[step.start : step.stop] + await context.compute(zero_share, me, zero_masks, step, shape)
        if context.is_label_party:
            letters = await context.mailbox.receive(PartialScores, context.partners, deadline, step=step.position)
            words = context.mailbox.checked_words(letters, dict.fromkeys(letters, shape).__getitem__)
            own[step.start : step.stop] = total([share, *words.values()])
        else:
            await context.mailbox.send(PartialScores(words=share), [context.label], deadline, step=step.position)
        context.statistics.note_step(0, step.index)
    return decode_scores(own) if context.is_label_party else None


def _partial_scores(setup: ScoringSetup) -> Floats:
    """Compute this party's part of common rows' scores, (rows, outputs), in order."""
    own, part = setup.own, setup.part
    scores = np.empty((own.table.rows, part.outputs))
    marks, start = own.mark_rows(np.ones(len(own.rows), np.bool_)), 0
    places = np.flatnonzero(marks)
    for batch in own.table.batches(marks):
        scores[places[start : start + batch.rows]] = model_part.partial_scores(part, setup.arrays, batch)
        start += batch.rows
    return scores[own.rows]


# --- shared weights, whoever knows them too: the forward pass with the helper


async def _score_shared(setup: ScoringSetup, words: FeatureView) -> Floats | None:
    context, part, arrays, numbers = setup.context, setup.part, setup.arrays, setup.context.numbers
    shares = shares_from_part(context, part, arrays)
    await send_seed(context, arrays)
    return await score_rows(
        context,
        numbers,
        words,
        shares,
        setup.steps,
        key=setup.key,
        purpose="prediction",
        noise=own_noise(context, setup.own.private, "prediction", blind_shares=shares if numbers.is_blind else None),
        openings=openings_from_part(context, part, arrays),
        limit=2.0**part.score_exponent,
    )
