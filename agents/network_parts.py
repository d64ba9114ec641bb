"""What differs between a network and a linear model where a data party makes it and opens it to its owners.

The shares of a network stay with their holders whatever the release: prediction always runs the forward pass with the
helper, since partial sums of a hidden layer would tell the label party too much of its partners' columns.
"""

from typing import Any

from numpy.typing import NDArray

from agents.context import JobContext
from agents.model_part import BIAS, UPPER
from agents.shares import above, called, meant
from mpc.elements import Elements
from mpc.fixed import Floats
from mpc.network import Entry, Layout, pack, unpack
from mpc.network_forward import NetworkShares
from mpc.network_party import NetworkParty
from mpc.network_start import first_shares
from mpc.order import Order
from mpc.ring import Words, total
from mpc.rows import Rows
from schemas.messages import UpperShare, WeightShare

Arrays = dict[str, NDArray[Any]]


def network_party(context: JobContext, rows: Rows, labels: Floats | None, *, order: Order, key: bytes) -> NetworkParty:
    """This party in the training of a network, with first weights of which it alone knows its share."""
    me, plan = context.number(context.me), context.ready_plan
    return NetworkParty(
        me,
        context.number(context.label),
        plan,
        rows,
        labels,
        order=order,
        elements=Elements(key),
        helper_masks=context.masks(context.description.helper),
        zero_masks=context.zero_masks(),
        shares=first_shares(me, plan, context.contribute()),
    )


# --- release = "owners"


def upper_entries(layout: Layout) -> tuple[Entry, ...]:
    """All weights above layer 0, and all biases."""
    biases = (Entry(BIAS, k, (1, width)) for k, width in enumerate(layout.widths))
    return (*(Entry(UPPER, k, layout.upper(k)) for k in layout.hidden), *biases)


async def open_network(context: JobContext, shares: NetworkShares) -> Arrays:
    """Each block of layer 0 to its owner, everything above to the label party: what this party gets, by name."""
    plan, deadline, mail = context.ready_plan, context.deadline("release"), context.mailbox
    entries = upper_entries(Layout(plan))
    mine = pack(entries, above(shares))
    for party in context.partners:
        await mail.send(WeightShare(words=shares.partners[context.number(party)]), [party], deadline)
    if not context.leads:
        await mail.send(UpperShare(words=mine), [context.label], deadline)
    letters = await mail.receive(WeightShare, context.partners, deadline)
    shape = (shares.own.shape[0], shares.own.shape[1])
    block = total([shares.own, *mail.words(letters, lambda _: shape).values()])
    arrays: Arrays = {"weights": plan.weights(block, shares.step), "weight_words": block}
    return arrays | await _opened_upper(context, shares, entries, mine) if context.leads else arrays


async def _opened_upper(context: JobContext, shares: NetworkShares, entries: tuple[Entry, ...], mine: Words) -> Arrays:
    plan, mail = context.ready_plan, context.mailbox
    letters = await mail.receive(UpperShare, context.partners, context.deadline("release"))
    words = total([mine, *mail.words(letters, lambda _: (1, mine.shape[1])).values()])
    opened = unpack(entries, words, "opened layers")
    arrays: Arrays = {f"{called(name, k)}_words": layer for (name, k), layer in opened.items()}
    return arrays | {called(name, k): meant(plan, name, layer, shares.step) for (name, k), layer in opened.items()}
