"""Deals tensors in shares: one data party, which takes turns, is dealt words.

All others have streams.

The words are the tensors less all streams of the others, and so uniform.
"""

from collections.abc import Iterable, Mapping

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.dealing.sizes import explicit_party, layer_name
from tercet.mpc.interface.script import HELPER, Receive, Script, Send, received_words
from tercet.mpc.plan.architecture import Entry, Tensors, flat, pack, unpack
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks

Entries = tuple[Entry, ...]


def streams(entries: Iterable[Entry], party: int, masks: Masks, step: Step) -> Tensors:
    """Return a data party's streams, which are its shares unless it is dealt words."""
    return {(e.name, e.layer): masks(layer_name(e.name, e.layer), party, party, step, e.shape) for e in entries}


def explicit_words(entries: Entries, values: Tensors, masks: Mapping[int, Masks], step: Step, turn: int) -> Words:
    """Take the streams of all parties but the one in turn off the tensors, in one row."""
    words = pack(entries, values)
    parts = unpack(entries, words, "what is dealt")  # views
    for party, of_party in masks.items():
        if party != turn:
            for place, stream in streams(entries, party, of_party, step).items():
                parts[place] -= stream
    return words


def deal(entries: Entries, values: Tensors, masks: Mapping[int, Masks], step: Step) -> Script[None]:
    """Send the party in turn its words, as the helper."""
    turn = explicit_party(step, len(masks))
    yield Send("dealt", 0, (turn,), explicit_words(entries, values, masks, step, turn))


def receive_share(entries: Entries, me: int, parties: int, masks: Masks, step: Step) -> Script[Tensors]:
    """Take in this party's share: what it is dealt, or its streams."""
    if me != explicit_party(step, parties):
        return streams(entries, me, masks, step)
    words = received_words((yield Receive("dealt", 0, {HELPER: flat(entries)})))[HELPER]
    return unpack(entries, words, "what the helper dealt")
