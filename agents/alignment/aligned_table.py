"""Holds a data party's table in one job: snapshot, common rows and their encoded words.

Only pseudonyms of its ids leave this process, and words that the roles have masked or shared.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Thread

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.agents.access.table import read_snapshot
from tercet.agents.alignment.held_out_column import hold_out_by_column
from tercet.agents.alignment.matching import align
from tercet.agents.alignment.named_split import NamedSplit
from tercet.agents.alignment.table_problems import unusable_login, unusable_table
from tercet.agents.core.problems import JobProblem
from tercet.agents.policy.table import narrow_table
from tercet.agents.session.context import JobContext
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.mpc.arithmetic.fixed import encode_features
from tercet.mpc.randomness import secret_order
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import TrainingJob, canonical_digest
from tercet.schemas.messages.kinds import OrderCommitment, OrderConfirmation, OrderContribution
from tercet.tables.core.interrupt import Interrupt
from tercet.tables.core.problem import TableProblem
from tercet.tables.core.table import Kind
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.entropy import RecordBits, record_bits, sample_rows
from tercet.tables.encoding.store import FeatureStore, FeatureView
from tercet.tables.snapshot.snapshot import Snapshot

RowNumbers = NDArray[np.int64]

ID_SLICE = 2**16  # ids that are Python texts at a time


@dataclass(slots=True, repr=False)
class AlignmentSecrets:
    """Holds the data parties' contributions, and the keys of alignment and split."""

    contributions: Mapping[str, bytes]
    alignment_key: bytes
    split_key: bytes


class AlignedTable:
    """Holds one table in one job. Call the methods in the order in which they stand here."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._secrets: AlignmentSecrets | None = None
        self._store: FeatureStore | None = None
        self._words: FeatureView | None = None
        self._interrupt = Interrupt()
        self.snapshot: Snapshot | None = None
        self.private = b""  # 32 bytes that only this party has, the same in every attempt
        self.digest = b""  # keyed, of the ids that all parties have
        self.rows: RowNumbers = np.empty(0, np.int64)  # of the table, those that all parties have, in the common order

    @property
    def table(self) -> Snapshot:
        """The snapshot; call `read` first."""
        assert self.snapshot is not None
        return self.snapshot

    async def read(
        self,
        *,
        with_label: bool,
        label_kind: Kind = "numeric",
        expected: Mapping[str, Kind] | None = None,
        own_ids: bool = False,
    ) -> None:
        """Take the snapshot, or open the run's earlier one, before anything of it is sent.

        Arguments are those of `take_snapshot`.

        Raises:
            JobProblem: the table cannot be used; this party is named.
        """
        context = self._context
        try:
            await context.compute(
                self._read_snapshot, with_label=with_label, label_kind=label_kind, expected=expected, own_ids=own_ids
            )
        except asyncio.CancelledError:
            # A query may take hours, and its answer is no longer needed. Cancelling it takes a while too.
            Thread(target=self._interrupt.set, name="interrupt", daemon=True).start()
            raise
        except (Invalid, KeyProblem) as problem:
            raise unusable_login(context, problem) from None
        except TableProblem as problem:
            raise unusable_table(context, problem) from None
        except OSError as error:
            raise self._disk_problem(error) from None
        context.statistics.table_rows = self.table.rows
        context.own_columns = tuple(column.name for column in self.table.columns)
        await self._check_unchanged()

    async def _check_unchanged(self) -> None:
        context = self._context
        try:
            unchanged = context.randomness.start_attempt(self._reading_digest(await context.compute(self.table.digest)))
        except OSError as error:
            raise self._disk_problem(error) from None
        if not unchanged:
            raise self._changed_table(context.me)

    def _reading_digest(self, rows: bytes) -> bytes:
        """Digest the rows, and in a training the settings that encode them."""
        context = self._context
        table = context.settings.tables[context.description.table_of(context.me)]
        fitted = [table.clip, table.rare, table.whiten] if context.description.kind == "training" else []
        return canonical_digest("tercet rows", [rows.hex(), *fitted])

    def _changed_table(self, party: str) -> JobProblem:
        """Make the problem of a changed table.

        A run must not use the same signs and noise for two tables, nor choose held-out rows twice.
        """
        reason = (
            f"{party}'s table, or its saved randomness, has changed since the first attempt, so the job cannot go on: "
            f"submit it with --again"
        )
        return JobProblem("table.changed", party, reason)

    def _read_snapshot(
        self, *, with_label: bool, label_kind: Kind, expected: Mapping[str, Kind] | None, own_ids: bool
    ) -> None:
        context = self._context
        job = context.job.description
        name = job.table_of(context.me)
        settings = narrow_table(
            context.settings.tables[name], job.columns_of(context.me), job.holdout_column_of(context.me)
        )
        features = None if expected is None else list(expected.items())
        # Set here, not by the caller: `close` must find the snapshot even if the caller was cancelled meanwhile.
        self.snapshot = context.snapshots.snapshot(
            name,
            settings,
            [with_label, label_kind, features, own_ids],
            lambda: read_snapshot(
                name,
                settings,
                context.work_folder,
                with_label=with_label,
                label_kind=label_kind,
                expected=expected,
                own_ids=own_ids,
                interrupt=self._interrupt,
            ),
        )

    async def align(self) -> None:
        """Contribute to the keys, and find the rows that all data parties have.

        Raises:
            JobProblem: too few rows are in common, the parties find different ones, or they have no common key of the
                split that the job names.
        """
        context, contributions = self._context, await self._contribute()
        # The digest leaves out the run: so tests with the same contributions get the same order of rows.
        digest = canonical_digest("tercet alignment", context.job.description.model_dump())
        key = secret_order.alignment_key(digest, contributions)
        job = context.description
        name = job.evaluation.split if isinstance(job, TrainingJob) else None
        if name is None:
            self._secrets = AlignmentSecrets(contributions, key, key)
            self.rows, self.digest = await align(context, key, self.table.ids)
            return
        split = NamedSplit(context, name)
        with split.reserve():
            split_key = await split.agree(key)
            self._secrets = AlignmentSecrets(contributions, key, split_key)
            self.rows, self.digest = await align(context, key, self.table.ids)
            split.confirm(split_key)  # a partner that has found its rows had stored the key before

    async def _contribute(self) -> Mapping[str, bytes]:
        """Exchange commitments, then contributions, so that no party can choose the order."""
        context = self._context
        mailbox, partners, deadline = context.mailbox, context.partners, context.deadline("alignment")
        mine, run = self._next_secret(), context.job.run
        self.private = self._next_secret()
        bound = OrderCommitment(commitment=secret_order.commitment(run, context.me, mine))
        await mailbox.send(bound, partners, deadline)
        commitments = await mailbox.receive(OrderCommitment, partners, deadline)
        for party in partners:
            self._note_commitment(party, commitments[party].commitment)
        await mailbox.send(OrderContribution(secret=mine), partners, deadline)
        opened = await mailbox.receive(OrderContribution, partners, deadline)
        for party in partners:
            if secret_order.commitment(run, party, opened[party].secret) != commitments[party].commitment:
                reason = f"{party} contributes something else to the secret order than it had committed to"
                raise JobProblem("order.commitment", party, f"{reason}; ask who runs {party}'s agent")
        return {context.me: mine, **{party: message.secret for party, message in opened.items()}}

    def _note_commitment(self, party: str, commitment: bytes) -> None:
        """Store a partner's commitment before that partner sees other contributions."""
        try:
            agrees = self._context.randomness.matches_commitment(party, commitment)
        except OSError as error:
            raise self._disk_problem(error) from None
        if not agrees:
            raise self._changed_table(party)

    def _next_secret(self) -> bytes:
        try:
            return self._context.randomness()
        except OSError as error:
            raise self._disk_problem(error) from None

    def checkpoint_binding(self, order_key: bytes) -> bytes:
        """Digest all that a checkpoint must agree with: run, version, sizes, plan, order, rows."""
        context = self._context
        of_order = secret_order.derive_subkey(order_key, "checkpoints")
        run = [context.job.run, context.version]
        return canonical_digest("tercet checkpoint", [*run, context.shape_digest, of_order, self.digest])

    async def split_rows(self) -> NDArray[np.bool_]:
        """Mark the held-out rows among the common ones; every data party marks the same.

        Raises:
            JobProblem: the job names a column to hold rows out by, and it does not fit.
        """
        context = self._context
        if context.training.evaluation.holdout_column is not None:
            return await hold_out_by_column(context, self.table, self.rows)
        return await context.compute(self._split_by_chance, context.training.evaluation.holdout)

    def _split_by_chance(self, holdout: float) -> NDArray[np.bool_]:
        if holdout == 0:
            return np.zeros(len(self.rows), np.bool_)
        assert self._secrets is not None
        key = secret_order.derive_subkey(self._secrets.split_key, "split")
        return secret_order.choose_held_out(key, self._encoded_ids(), holdout)

    def _encoded_ids(self) -> Iterator[bytes]:
        for start in range(0, len(self.rows), ID_SLICE):
            some = self.table.ids.take(pa.array(self.rows[start : start + ID_SLICE]))
            yield from (one.encode() for one in some.to_pylist())

    async def confirm_order(self) -> bytes:
        """Derive the order key, and confirm with all data parties that it is the same.

        Raises:
            JobProblem: a party has another key.
        """
        context, deadline = self._context, self._context.deadline("fit")
        assert self._secrets is not None
        key = secret_order.order_key(context.shape_digest, self._secrets.contributions)
        confirmation = OrderConfirmation(confirmation=secret_order.confirmation(key, context.me))
        await context.mailbox.send(confirmation, context.partners, deadline)
        for party, other in (await context.mailbox.receive(OrderConfirmation, context.partners, deadline)).items():
            if not secret_order.confirms(key, party, other.confirmation):
                reason = f"{party} and {context.me} do not reach the same order key; run the job again"
                raise JobProblem("order.key", party, reason)
        return key

    async def encode(self, encoding: Encoding, norm: float, fx: int) -> None:
        """Write all common rows' words to disk; drop the snapshot but for ids and label.

        Raises:
            JobProblem: the disk cannot be written.
        """
        try:
            await self._context.compute(self._encode, encoding, norm, fx)
        except OSError as error:
            raise self._disk_problem(error) from None

    def _disk_problem(self, error: OSError) -> JobProblem:
        context = self._context
        public = f"{context.me} cannot write a working copy of its table to its disk"
        return JobProblem("disk.write", context.me, public, f"{context.work_folder}: {error.strerror}")

    def _encode(self, encoding: Encoding, norm: float, fx: int) -> None:
        wanted = np.zeros(self.table.rows, np.bool_)
        wanted[self.rows] = True
        store = FeatureStore.create(self._context.work_folder, "features", len(self.rows), len(encoding.names))
        self._store = store
        for batch in self.table.batches(wanted):
            store.append(encode_features(encoding.apply(batch), norm, fx))
        place = np.empty(len(self.rows), np.int64)  # in the store, which has the rows in the table's order
        place[np.argsort(self.rows)] = np.arange(len(self.rows))
        self._words = store.select(place)
        self.table.close()

    @property
    def words(self) -> FeatureView:
        """The words of all common rows, in the common order; readable after `close`."""
        assert self._words is not None
        return self._words

    def view_rows(self, chosen: NDArray[np.bool_]) -> FeatureView:
        """Select words of the chosen common rows, in the common order."""
        return FeatureView(self.words.stored, self.words.index[chosen])

    def mark_rows(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Mark the table's rows that are the chosen common rows."""
        marks = np.zeros(self.table.rows, np.bool_)
        marks[self.rows[chosen]] = True
        return marks

    def record_bits(self, encoding: Encoding, chosen: NDArray[np.bool_]) -> RecordBits:
        """Measure the entropy of the chosen common rows as they are encoded."""
        return record_bits(encoding, sample_rows(self.table.batches(self.mark_rows(chosen)), int(chosen.sum())))

    def close(self) -> None:
        """Remove the files of snapshot and features."""
        for thing in (self.snapshot, self._store):
            if thing is not None:
                thing.close()
