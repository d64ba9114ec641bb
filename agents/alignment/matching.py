"""Finds the data parties' common rows: by the helper, between two, or in equal tables.

A party sends keyed pseudonyms, blinded group elements and a keyed digest, never an id. The helper has no key.
"""

import asyncio
import hmac
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa

from tercet.agents.alignment.row_counts import check_common, partly_matched
from tercet.agents.core.problems import UNDECIDED, JobProblem
from tercet.agents.session.context import JobContext
from tercet.mpc.randomness.secret_order import derive_subkey
from tercet.schemas.files.job import PredictionJob
from tercet.schemas.messages.kinds import AlignedRows, BlindedIds, Message, Presence, Pseudonyms, TwiceBlindedIds
from tercet.tables.matching.digest import ids_digest
from tercet.tables.matching.ecdh import ELEMENT_BYTES, Blinding, InvalidElement, secret_order
from tercet.tables.matching.intersection import (
    ChunkRequest,
    Disordered,
    Merger,
    PresenceBits,
    common_rows,
    unpack_flags,
)
from tercet.tables.matching.pseudonyms import (
    HASH,
    Flags,
    Hashes,
    Repeated,
    RowNumbers,
    as_hashes,
    ascending_order,
    pseudonyms,
)

T = TypeVar("T")

CHUNK = 64_000  # pseudonyms: a little less than 1 MiB, so that each chunk travels in one part
WINDOW = 4  # chunks without an answer yet: enough to keep the helper busy, and few for it to hold
ELEMENTS = 2**14  # in a chunk, 512 KiB: a second or two of work
PIECE = 2**9  # elements that a thread raises at a time, in about 40 ms; a job that ends waits so long at most


async def align(
    context: JobContext, key: bytes, split_key: bytes, ids: pa.Array | pa.ChunkedArray
) -> tuple[RowNumbers, bytes]:
    """Find this party's rows that all data parties have, in an order common to all.

    Returns the rows and a keyed digest of their ids; every data party gets the same digest.

    Args:
        context: of a data party, after the handshake.
        key: 32 bytes that the data parties share and nobody else has, new in each run.
        split_key: of the held-out rows, which all must have alike; it changes neither rows nor digest.
        ids: of the table, in row order; no id is missing, and each is there once.

    Raises:
        JobProblem: too few rows are in common, the parties find different ones or have different split keys, or a
            party breaks the protocol.
        Overdue: a party did not answer in time.
    """
    ids = await context.compute(_whole, ids)
    match context.description.alignment:
        case "helper":
            rows = await _through_helper(context, key, ids)
        case "ecdh":
            rows = await _between_two(context, key, ids)
        case "aligned":
            rows = np.arange(len(ids), dtype=np.int64)
    digest = await _compare(context, key, split_key, ids, rows)
    await check_common(context, ids, len(rows))
    note = await context.compute(partly_matched, context.description.table_of(context.me), ids, rows)
    if note is not None:
        context.note(note)
    return rows, digest


async def help_align(context: JobContext) -> None:
    """Tell each party which of its pseudonyms all have; do nothing in the other modes.

    The helper holds a few chunks of each list, however long the lists are.

    Raises:
        JobProblem: a party's pseudonyms do not ascend.
        Overdue: a party did not send more in time.
    """
    if context.description.alignment != "helper":
        return
    merger, deadline = Merger(context.description.data_parties), context.deadline("alignment")
    while (wanted := merger.next_chunk) is not None:
        for answer in await _merged(context, merger, wanted):
            await context.mailbox.send(Presence(bits=answer.bits), [answer.party], deadline, step=answer.chunk)


async def _merged(context: JobContext, merger: Merger, wanted: ChunkRequest) -> list[PresenceBits]:
    party, step = wanted
    received = await context.mailbox.receive(Pseudonyms, [party], context.deadline("alignment"), step=step)
    if not _full(len(received[party].pseudonyms) // HASH.itemsize, CHUNK, last=received[party].last):
        raise malformed_message(context, party, Pseudonyms, "a chunk of another size")
    try:
        return await context.compute(merger.add_chunk, received[party].pseudonyms, last=received[party].last)
    except Disordered as problem:
        raise malformed_message(context, party, Pseudonyms, str(problem)) from None


# --- through the helper


async def _through_helper(context: JobContext, key: bytes, ids: pa.Array) -> RowNumbers:
    hashes = await _pseudonyms(context, derive_subkey(key, "pseudonyms"), ids)
    order = await context.compute(ascending_order, hashes)
    present = np.zeros(len(order), np.bool_)
    chunks = _chunks(len(order), CHUNK)
    for number in range(len(chunks) + WINDOW):
        if (answered := number - WINDOW) >= 0:
            present[chunks[answered]] = await _presence(context, answered, len(present[chunks[answered]]))
        if number < len(chunks):
            await _send_pseudonyms(context, hashes[order[chunks[number]]], number, last=number == len(chunks) - 1)
    return order[present]


async def _pseudonyms(context: JobContext, key: bytes, ids: pa.Array) -> Hashes:
    """Make pseudonyms in slices, so that a job that ends waits for one slice only."""
    hashes = np.empty(len(ids), HASH)
    for part in _chunks(len(ids), CHUNK):
        hashes[part] = await context.compute(pseudonyms, key, ids.slice(part.start, CHUNK))
    return hashes


async def _send_pseudonyms(context: JobContext, hashes: Hashes, number: int, *, last: bool) -> None:
    message, helper = Pseudonyms(pseudonyms=hashes.tobytes(), last=last), context.description.helper
    await context.mailbox.send(message, [helper], context.deadline("alignment"), step=number)


async def _presence(context: JobContext, number: int, count: int) -> Flags:
    helper, deadline = context.description.helper, context.deadline("alignment")
    answer = (await context.mailbox.receive(Presence, [helper], deadline, step=number))[helper]
    try:
        return unpack_flags(answer.bits, count)
    except ValueError as problem:
        raise malformed_message(context, helper, Presence, str(problem)) from None


# --- between two data parties alone


async def _between_two(context: JobContext, key: bytes, ids: pa.Array) -> RowNumbers:
    pool = ThreadPoolExecutor(_processors(), thread_name_prefix=f"elements {context.job.id}")
    try:
        order = await context.compute(secret_order, len(ids))
        exchange = _Exchange(context, Blinding(derive_subkey(key, "elements")), ids, order, pool)
        mine, theirs = await exchange.run()
        return order[await exchange.compare(mine, theirs)]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Exchange:
    """Runs one side of ECDH in step: my chunk, the partner's chunk, the partner's answer.

    It sends its own elements in a random order, so that their places tell nothing about places in the table.
    """

    def __init__(
        self, context: JobContext, blinding: Blinding, ids: pa.Array, order: RowNumbers, pool: Executor
    ) -> None:
        self._context, self._blinding, self._ids, self._order, self._pool = context, blinding, ids, order, pool
        (self._partner,) = context.partners
        self._deadline = context.deadline("alignment")

    async def run(self) -> tuple[Hashes, Hashes]:
        """Exchange ids; return twice blinded hashes of mine, in secret order, and of the partner's."""
        chunks = _chunks(len(self._order), ELEMENTS)
        mine, theirs, more, number = np.empty(len(self._order), HASH), bytearray(), True, 0
        while number < len(chunks) or more:
            part = chunks[number] if number < len(chunks) else None
            if part is not None:
                await self._offer(self._order[part], number, last=number == len(chunks) - 1)
            if more:
                hashes, more = await self._answer(number)
                theirs += hashes
            if part is not None:
                mine[part] = await self._collect(number, len(mine[part]))
            number += 1
        return mine, np.frombuffer(theirs, HASH)

    async def compare(self, mine: Hashes, theirs: Hashes) -> RowNumbers:
        """Find the places in `mine` of values that `theirs` has too, in the common order."""
        try:
            return await self._context.compute(common_rows, mine, theirs)
        except Repeated:  # not by this party: its ids differ, and so do their elements
            what = "the same element or hash twice"
            raise malformed_message(self._context, self._partner, BlindedIds, what) from None

    async def _offer(self, rows: RowNumbers, number: int, *, last: bool) -> None:
        blinded = await self._spread(self._blind, [rows[at : at + PIECE] for at in range(0, len(rows), PIECE)])
        message = BlindedIds(elements=blinded, last=last)
        await self._context.mailbox.send(message, [self._partner], self._deadline, step=number)

    def _blind(self, rows: RowNumbers) -> bytes:
        return self._blinding.blind(self._ids.take(pa.array(rows)).to_pylist())

    async def _answer(self, number: int) -> tuple[bytes, bool]:
        """Raise a chunk of the partner's; return its hashes, and whether more chunks come."""
        mail, partner = self._context.mailbox, self._partner
        chunk = (await mail.receive(BlindedIds, [partner], self._deadline, step=number))[partner]
        elements, width = chunk.elements, PIECE * ELEMENT_BYTES
        if not _full(len(elements) // ELEMENT_BYTES, ELEMENTS, last=chunk.last):
            raise malformed_message(self._context, partner, BlindedIds, "a chunk of another size")
        pieces = [elements[at : at + width] for at in range(0, len(elements), width)]
        try:
            hashes = await self._spread(self._blinding.blind_again, pieces)
        except InvalidElement as problem:
            raise malformed_message(self._context, partner, BlindedIds, str(problem)) from None
        await mail.send(TwiceBlindedIds(hashes=hashes), [partner], self._deadline, step=number)
        return hashes, not chunk.last

    async def _collect(self, number: int, count: int) -> Hashes:
        partner = self._partner
        answer = await self._context.mailbox.receive(TwiceBlindedIds, [partner], self._deadline, step=number)
        hashes = as_hashes(answer[partner].hashes)
        if len(hashes) != count:
            raise malformed_message(self._context, partner, TwiceBlindedIds, "not one hash for each element")
        return hashes

    async def _spread(self, function: Callable[[T], bytes], pieces: list[T]) -> bytes:
        loop = asyncio.get_running_loop()
        return b"".join(await asyncio.gather(*(loop.run_in_executor(self._pool, function, piece) for piece in pieces)))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- comparing what all have found


async def _compare(context: JobContext, key: bytes, split_key: bytes, ids: pa.Array, rows: RowNumbers) -> bytes:
    digest = await context.compute(ids_digest, derive_subkey(key, "rows"), ids, rows)
    compared = hmac.digest(derive_subkey(split_key, "compared rows"), digest, "sha256")
    deadline = context.deadline("alignment")
    await context.mailbox.send(_proof(compared, context.me, len(rows)), context.partners, deadline)
    received = await context.mailbox.receive(AlignedRows, context.partners, deadline)
    label = context.description.label
    # A party that differs from the label party is at fault.
    for party in sorted(received, key=lambda one: one != label):
        if received[party] != _proof(compared, party, len(rows)):
            raise _differs(context, party, received[party].rows, len(rows))
    return digest


def _proof(digest: bytes, party: str, rows: int) -> AlignedRows:
    """Prove what this party found; no other party can use the proof as its own."""
    return AlignedRows(rows=rows, ids=hmac.digest(digest, party.encode(), "sha256"))


def _differs(context: JobContext, party: str, theirs: int, mine: int) -> JobProblem:
    job, me = context.description, context.me
    culprit = me if party == job.label else party
    split = None if isinstance(job, PredictionJob) else job.evaluation.split
    other_key = "" if split is None else f"; or one of the two has another key of the split {split!r}"
    if job.alignment == "aligned" and theirs != mine:
        return JobProblem(
            "table.rows",
            culprit,
            f"{party}'s table has {theirs} rows and {me}'s has {mine}: with alignment = \"aligned\" both must hold the "
            f'same ids in the same order; use alignment = "helper" to have them matched',
        )
    if job.alignment == "aligned":
        return JobProblem(
            "table.ids",
            culprit,
            f"{me}'s table and {party}'s do not hold the same ids in the same order, as alignment = \"aligned\" "
            f'requires: sort both by the id and leave out who is in one only, or use alignment = "helper"{other_key}',
        )
    teller = job.helper if job.alignment == "helper" else party
    return JobProblem(
        "alignment.differs",
        teller if split is None else UNDECIDED,
        f"{me} and {party} do not find the same rows in common: {teller} told one of them something wrong, or one of "
        f"the two is at fault, and nobody can know which; let all run the same release, and run the job again"
        f"{other_key}",
    )


def malformed_message(context: JobContext, party: str, model: type[Message], what: str) -> JobProblem:
    """Blame a party for a message that does not keep to the protocol."""
    return JobProblem(
        "message.malformed",
        party,
        f"{party} sent {context.me} a message that is not valid ({model.kind}): {what}; do both agents run the same "
        f"version?",
    )


def _whole(ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Join the chunks, so that rows can be read quickly in any order."""
    return ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids


def _full(count: int, size: int, *, last: bool) -> bool:
    """Tell whether a chunk has full size; only the last may be smaller."""
    return count <= size if last else count == size


def _chunks(count: int, size: int) -> list[slice]:
    """Cut so many rows into slices; no rows make one empty slice."""
    return [slice(at, min(at + size, count)) for at in range(0, max(count, 1), size)]
