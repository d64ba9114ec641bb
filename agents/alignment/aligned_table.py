"""Finds the rows that all data parties have, and holds a party's table with these.

Only pseudonyms of its ids leave this process, and words that the roles have masked or shared.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.agents.alignment.held_out_column import hold_out_by_column
from tercet.agents.alignment.matching import align
from tercet.agents.alignment.named_split import agree_on_split_key
from tercet.agents.alignment.own_table import OwnTable, changed_table, report_disk
from tercet.agents.core.problems import UNDECIDED, JobProblem
from tercet.agents.session.agreed import AgreedContext
from tercet.agents.session.context import JobContext
from tercet.agents.session.fixed_randomness import Draws
from tercet.mpc.arithmetic.fixed import encode_features
from tercet.mpc.randomness import secret_order
from tercet.schemas.files.job import Evaluation, canonical_digest
from tercet.schemas.messages.kinds import OrderCommitment, OrderConfirmation, OrderContribution
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.entropy import RecordBits, record_bits, sample_rows
from tercet.tables.encoding.store import FeatureStore, FeatureView
from tercet.tables.snapshot.snapshot import Snapshot

RowNumbers = NDArray[np.int64]
Marks = NDArray[np.bool_]

ID_SLICE = 2**16  # ids that are Python texts at a time


class Contributions(NamedTuple):
    """Holds what the parties add to the keys, and 32 bytes that this party keeps to itself."""

    by_party: Mapping[str, bytes]
    private: bytes


@dataclass(frozen=True, slots=True, repr=False)
class AlignedTable:
    """Holds one table in one job, and which of its rows all data parties have.

    Attributes:
        table: the snapshot.
        draws: this party's fixed randomness.
        contributions: of all data parties to the order key.
        private: 32 bytes that only this party has, the same in every attempt.
        alignment_key: made from the contributions.
        split_key: of the held-out rows; the same, but in jobs that name a split.
        rows: of the table, those that all parties have, in the common order.
        digest: keyed, of the ids that all parties have.
    """

    context: JobContext
    table: Snapshot
    draws: Draws
    contributions: Mapping[str, bytes]
    private: bytes
    alignment_key: bytes
    split_key: bytes
    rows: RowNumbers
    digest: bytes

    def checkpoint_binding(self, context: AgreedContext, order_key: bytes) -> bytes:
        """Digest all that a checkpoint must agree with: run, sizes, plan, order, rows, split."""
        of_order, of_split = (secret_order.derive_subkey(key, "checkpoints") for key in (order_key, self.split_key))
        run = [context.job.run, context.session.version]
        return canonical_digest("tercet checkpoint", [*run, context.shape_digest, of_order, self.digest, of_split])

    def of_fold(self, context: JobContext) -> "AlignedTable":
        """Return the same rows for the training of a fold, with another private secret.

        Noise on scores is made of that, and no two folds' scores may have the same.
        """
        if context.fold is None:
            return self
        private = secret_order.derive_subkey(self.private, f"fold {context.fold}")
        return replace(self, context=context, private=private)

    def draw_start(self) -> bytes:
        """Draw the seed of a network's first weights, in each attempt the same.

        A fold's is made of its secret: an attempt that goes on in a later fold draws none for those before it.

        Raises:
            OSError: it cannot be kept.
        """
        return self.draws() if self.context.fold is None else secret_order.derive_subkey(self.private, "start")

    async def split_rows(self, evaluation: Evaluation) -> Marks:
        """Mark the held-out rows among the common ones, the same in every attempt.

        Raises:
            JobProblem: the job names a column to hold rows out by, and it does not fit. Or an earlier attempt held out
                other rows, which the label party answers for.
        """
        marks = await self._choose_held_out(evaluation)
        digest = await self.context.compute(marks_digest, marks)
        with report_disk(self.context):
            agrees = self.draws.matches_held_out(digest, self.context.fold or 0)
        if not agrees:
            raise changed_table(self.context.label)
        return marks

    async def _choose_held_out(self, evaluation: Evaluation) -> Marks:
        if evaluation.holdout_column is not None:
            return await hold_out_by_column(
                self.context, self.table, self.rows, evaluation.holdout_column, evaluation.holdout_from
            )
        return await self.context.compute(self._split_by_chance, evaluation)

    def _split_by_chance(self, evaluation: Evaluation) -> Marks:
        key, fold = secret_order.derive_subkey(self.split_key, "split"), self.context.fold
        if fold is not None:
            return secret_order.choose_fold(key, self._encoded_ids(), fold, evaluation.folds)
        if evaluation.holdout == 0:
            return np.zeros(len(self.rows), np.bool_)
        return secret_order.choose_held_out(key, self._encoded_ids(), evaluation.holdout)

    def _encoded_ids(self) -> Iterator[bytes]:
        for start in range(0, len(self.rows), ID_SLICE):
            some = self.table.ids.take(pa.array(self.rows[start : start + ID_SLICE]))
            yield from (one.encode() for one in some.to_pylist())

    async def confirm_order(self, context: AgreedContext, held_out: Marks | None = None) -> bytes:
        """Derive the order key; confirm with data parties that it and held-out rows agree.

        Raises:
            JobProblem: a party has another key, or holds out other rows.
        """
        deadline = context.deadline("fit")
        key = secret_order.order_key(context.shape_digest, self.contributions)
        digest = b"" if held_out is None else await context.compute(marks_digest, held_out)
        confirmation = OrderConfirmation(confirmation=secret_order.confirmation(key, context.me, digest))
        await context.mailbox.send(confirmation, context.partners, deadline)
        for party, other in (await context.mailbox.receive(OrderConfirmation, context.partners, deadline)).items():
            if not secret_order.confirms(key, party, other.confirmation, digest):
                raise _unconfirmed(context, party)
        return key

    async def encode(self, encoding: Encoding, norm: float, fx: int) -> FeatureView:
        """Write all common rows' words to disk; drop the snapshot but for ids and label.

        The snapshot stays where another training follows that of a fold. Returns the words in the common order, which
        are readable after the file is closed.

        Raises:
            JobProblem: the disk cannot be written.
        """
        with report_disk(self.context):
            return await self.context.compute(self._encode, encoding, norm, fx)

    def _encode(self, encoding: Encoding, norm: float, fx: int) -> FeatureView:
        wanted = np.zeros(self.table.rows, np.bool_)
        wanted[self.rows] = True
        store = FeatureStore.create(self.context.work_folder, "features", len(self.rows), len(encoding.names))
        self.context.files.callback(store.close)
        for batch in self.table.batches(wanted):
            store.append(encode_features(encoding.apply(batch), norm, fx))
        words = store.select(table_places(self.rows))
        if self.context.fold is None:
            self.table.close()
        return words

    def mark_rows(self, chosen: Marks) -> Marks:
        """Mark the table's rows that are the chosen common rows."""
        marks = np.zeros(self.table.rows, np.bool_)
        marks[self.rows[chosen]] = True
        return marks

    def record_bits(self, encoding: Encoding, chosen: Marks) -> RecordBits:
        """Measure the entropy of the chosen common rows as they are encoded."""
        return record_bits(encoding, sample_rows(self.table.batches(self.mark_rows(chosen)), int(chosen.sum())))


def table_places(rows: RowNumbers) -> RowNumbers:
    """Return the place of each row, (rows,), among these rows in the table's order."""
    places = np.empty(len(rows), np.int64)
    places[np.argsort(rows)] = np.arange(len(rows))
    return places


def _unconfirmed(context: AgreedContext, party: str) -> JobProblem:
    """Blame nobody where the label party chooses the rows.

    It may have told two partners different ones.
    """
    job = context.description
    if job.holdout_column_of(job.label) is None:
        reason = f"{party} and {context.me} do not reach the same order key; run the job again"
        return JobProblem("order.key", party, reason)
    parties = " or ".join(job.data_parties)
    reason = (
        f"{party} and {context.me} do not hold out the same rows, and no message tells whose fault it is, {parties}: "
        f"do all run the same version? If so, one of them has told others different rows"
    )
    return JobProblem("split.differs", UNDECIDED, reason)


def marks_digest(marks: Marks) -> bytes:
    """Digest which rows are marked."""
    return hashlib.sha256(len(marks).to_bytes(8, "big") + np.packbits(marks).tobytes()).digest()


async def align_table(context: JobContext, own: OwnTable) -> AlignedTable:
    """Contribute to the keys, and find the rows that all data parties have.

    Raises:
        JobProblem: too few rows are in common, the parties find different ones, or they have no common key of the split
            that the job names.
    """
    contributions, private = await _contribute(context, own.draws)
    # The digest leaves out the run: so tests with the same contributions get the same order of rows.
    digest = canonical_digest("tercet alignment", context.job.description.model_dump())
    key = secret_order.alignment_key(digest, contributions)
    async with agree_on_split_key(context, key) as split_key:
        rows, ids_digest = await align(context, key, split_key, own.table.ids)
    return AlignedTable(
        context, own.table, own.draws, contributions, private, key, split_key, rows, ids_digest
    )  # fmt: skip


async def _contribute(context: JobContext, draws: Draws) -> Contributions:
    """Exchange commitments, then contributions, so that no party can choose the order."""
    mailbox, partners, deadline = context.mailbox, context.partners, context.deadline("alignment")
    run = context.job.run
    with report_disk(context):
        mine, private = draws(), draws()
    bound = OrderCommitment(commitment=secret_order.commitment(run, context.me, mine))
    await mailbox.send(bound, partners, deadline)
    commitments = await mailbox.receive(OrderCommitment, partners, deadline)
    for party in partners:
        _note_commitment(context, draws, party, commitments[party].commitment)
    await mailbox.send(OrderContribution(secret=mine), partners, deadline)
    opened = await mailbox.receive(OrderContribution, partners, deadline)
    for party in partners:
        if secret_order.commitment(run, party, opened[party].secret) != commitments[party].commitment:
            reason = f"{party} contributes something else to the secret order than it had committed to"
            raise JobProblem("order.commitment", party, f"{reason}; ask who runs {party}'s agent")
    return Contributions({context.me: mine, **{party: one.secret for party, one in opened.items()}}, private)


def _note_commitment(context: JobContext, draws: Draws, party: str, commitment: bytes) -> None:
    """Store a partner's commitment before that partner sees other contributions."""
    with report_disk(context):
        agrees = draws.matches_commitment(party, commitment)
    if not agrees:
        raise changed_table(party)
