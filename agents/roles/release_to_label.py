"""Releases a whole model to the label party: shares and encodings of all others.

Nobody but the label party receives anything, and shares stay with their holders as well, by which predictions go on.
Whether a data party agrees to this was asked of its settings before the job began, in `policy`.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress

from pydantic import ValidationError

from tercet.agents.core.problems import JobProblem
from tercet.agents.models.model_part import WEIGHTS, Arrays
from tercet.agents.protocol.shares import AnyShares, array_name, block_shares, to_floats, upper_entries, upper_shares
from tercet.agents.session.agreed import TrainingContext
from tercet.agents.session.context import JobContext
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.plan.architecture import Entry, pack, unpack
from tercet.mpc.plan.plan import Plan
from tercet.schemas.messages.kinds import MOST_ENCODING, ColumnEncoding, ModelShare
from tercet.tables.core.problem import join_names
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.shareable import shareable_encoding
from tercet.tables.snapshot.columns import FeatureColumn
from tercet.tables.snapshot.disguise import UNSAID, look_like_values

BLOCK = "block"
MOST_ENTRIES = 2**21  # of an encoding: twice what whitening has at most; each may take half a KiB while it is read

Encodings = Mapping[str, Encoding]


async def send_model(context: TrainingContext, shares: AnyShares, encoding: Encoding) -> None:
    """Send the label party this party's shares of everything, and its encoding."""
    mail, label, deadline = context.mailbox, context.label, context.deadline("release")
    await mail.send(ModelShare(words=pack_shares(context, shares)), [label], deadline)
    await mail.send(encoding_message(context, encoding), [label], deadline)


def encoding_message(context: JobContext, encoding: Encoding) -> ColumnEncoding:
    """Make the message with this party's encoding for the label party.

    Raises:
        JobProblem: it is too long to be; this party is named.
    """
    text, table = shareable_encoding(encoding).model_dump_json().encode(), context.description.table_of(context.me)
    if len(text) > MOST_ENCODING or _entries(text) > MOST_ENTRIES:
        public = f"at {context.me} the encoding of the table {table!r} is too long to be told"
        detail = (
            f"it has {len(text):,} bytes and {_entries(text):,} marks like commas, and at most {MOST_ENCODING:,} and "
            f"{MOST_ENTRIES:,} go: leave out columns with many long texts"
        )
        raise JobProblem("table.unusable", context.me, public, detail)
    return ColumnEncoding(encoding=text)


def check_declared(context: JobContext, encoding: Encoding, columns: Iterable[FeatureColumn]) -> None:
    """Check that no category to be told is a guess that looks like a number or date.

    A few such texts among others pass as categories in any other job. Here their names travel, and could be values.

    Raises:
        JobProblem: this party has to say in its settings that they are categories, and may be told.
    """
    guessed = {one.name for one in columns if one.is_guess}
    doubtful = [
        column.name for column in encoding.columns if column.name in guessed and look_like_values(column.levels)
    ]
    if doubtful:
        table = context.description.table_of(context.me)
        detail = (
            f'with release = "label" {context.label} is told the categories of column {join_names(doubtful)} of table '
            f"{table!r}, some of which look like numbers or dates: if it may be told them, list the column under "
            f"`categorical`; else list it under `numeric`, or leave it out with `columns`"
        )
        raise JobProblem("table.unusable", context.me, f"at {context.me} the table {table!r} {UNSAID}", detail)


async def receive_model(context: TrainingContext, shares: AnyShares) -> tuple[Arrays, Encodings]:
    """Receive the whole model in float64 at the label party, and the others' encodings.

    Raises:
        JobProblem: a share has another length than is due, or an encoding is none or of other columns; its sender is
            named.
    """
    mail, deadline, partners = context.mailbox, context.deadline("release"), context.partners
    mine = pack_shares(context, shares)
    letters = await mail.receive(ModelShare, partners, deadline)
    words = total([mine, *mail.checked_words(letters, lambda _: (1, mine.shape[1])).values()])
    opened = await context.compute(_open_words, context, words, shares.step)
    texts = await mail.receive(ColumnEncoding, partners, deadline)
    return opened, {party: await context.compute(_read_encoding, context, party, texts[party]) for party in partners}


def model_entries(plan: Plan) -> tuple[Entry, ...]:
    """List the whole model's entries: each party's block, and the layers above."""
    width = plan.outputs if plan.network is None else plan.network.hidden[0]
    columns = (Entry(BLOCK, i, (count, width)) for i, count in enumerate(plan.columns))
    return (*columns, *upper_entries(plan))


def pack_shares(context: TrainingContext, shares: AnyShares) -> Words:
    """Pack this party's share of the whole model into one row."""
    owned = {(BLOCK, i): words for i, words in block_shares(context, shares).items()}
    return pack(model_entries(context.plan), owned | upper_shares(shares))


def _open_words(context: TrainingContext, words: Words, steps: int) -> Arrays:
    plan, parties = context.plan, context.description.data_parties

    def place(name: str, k: int) -> str:
        return WEIGHTS + parties[k] if name == BLOCK else array_name(name, k)

    tensors = unpack(model_entries(plan), words, "the whole model")
    return {place(name, k): to_floats(plan, name, block, steps) for (name, k), block in tensors.items()}


def _entries(text: bytes) -> int:
    """Bound the number of values in a JSON text; marks inside texts count too."""
    return sum(map(text.count, (b",", b"[", b"{")))


def _read_encoding(context: TrainingContext, party: str, message: ColumnEncoding) -> Encoding:
    """Parse a partner's encoding, and check its columns against the announced number."""
    columns = context.plan.columns[context.number(party)]
    if _entries(message.encoding) <= MOST_ENTRIES:
        with suppress(ValidationError):
            encoding = Encoding.model_validate_json(message.encoding)
            names, kinds = encoding.names, encoding.kinds
            if len(set(names)) == len(names) == columns and len(kinds) == len(encoding.columns):
                return encoding
    raise JobProblem(
        "message.malformed",
        party,
        f"{party} sent {context.me} no encoding of the columns that it brought to the training; do both agents run the "
        f"same version?",
    )
