"""Lets masked rows of a blind training outlive an attempt.

The masks on a party's rows are of the run. Their key goes by the encoded rows, so no two tables meet one mask. Each
data party draws its own and tells the helper.
"""

import hashlib
from typing import Final

import numpy as np

from tercet.agents.protocol.script_driver import ScriptDriver
from tercet.agents.session.agreed import TrainingContext
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.blind.sent_rows import SentRows, steps_before
from tercet.mpc.dealing.row_checks import check_columns
from tercet.mpc.functions.row_labels import RowLabels
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.randomness.masks import PairMasks, derive_key
from tercet.schemas.messages.kinds import RowMaskKey, SentRowDigests

DOMAIN: Final = "tercet row masks"
SLICE: Final = 2**14  # rows that are digested at a time


def row_key(
    context: TrainingContext, private: bytes, rows: FeatureSource, check_columns: Words, labels: Floats | None
) -> bytes:
    """Derive the key of the masks on this party's rows and check columns.

    It goes by these, and by `private`, which this party alone has, the same in each attempt of a run.
    """
    digest = hashlib.sha256(np.ascontiguousarray(check_columns).data)
    for start in range(0, rows.shape[0], SLICE):
        digest.update(rows.read_rows(np.arange(start, min(start + SLICE, rows.shape[0]))).data)
    if labels is not None:
        digest.update(np.ascontiguousarray(labels).data)
    return derive_key(private, digest.digest(), (DOMAIN, context.session.run_digest, context.shape_digest))


def row_masks(context: TrainingContext, party: str, key: bytes) -> PairMasks:
    """Make the masks on a party's rows, the same ones in each attempt.

    The party shares them with whoever helps.
    """
    return PairMasks(
        key, transcript=b"", job=context.session.run_digest, attempt=0, sender=party, receiver="helper", purpose="rows"
    )


async def agree_on_row_key(
    context: TrainingContext, private: bytes, rows: FeatureSource, labels: RowLabels | None, *, order_key: bytes
) -> bytes:
    """Derive the key of the masks on this party's rows, and tell the helper."""
    plan, me = context.plan, context.number(context.me)
    columns = check_columns(plan.columns, plan.request.checks, order_key)[me]
    numbers = None if labels is None else labels.numbers
    key: bytes = await context.compute(row_key, context, private, rows, columns, numbers)
    if not context.all_steps_done:
        await context.mailbox.send(RowMaskKey(secret=key), [context.description.helper], context.deadline("step"))
    return key


async def receive_row_masks(context: TrainingContext) -> dict[int, PairMasks]:
    """Receive, as the helper, the keys of all data parties' row masks."""
    parties = context.description.data_parties
    letters = await context.mailbox.receive(RowMaskKey, parties, context.deadline("fit"))
    return {context.number(party): row_masks(context, party, letters[party].secret) for party in parties}


async def find_rows(context: TrainingContext, scripts: ScriptDriver, rows: SentRows) -> None:
    """Find again what earlier attempts have sent, or have every data party send it anew."""
    steps = list(steps_before(context.plan, context.first_step))
    if not steps:
        return
    mine, deadline = SentRowDigests(digests=await context.compute(rows.digests, steps)), context.deadline("fit")
    await context.mailbox.send(mine, context.partners, deadline)
    letters = await context.mailbox.receive(SentRowDigests, context.partners, deadline)
    found = all(letter.digests == mine.digests for letter in letters.values())
    context.log.info("masked rows of an earlier attempt", found_again=found, steps=len(steps))
    if not found:
        for step in steps:
            await scripts.run(rows.send_again(step), step)
