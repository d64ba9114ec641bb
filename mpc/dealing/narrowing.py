"""Truncates the weights above hidden layers, to `Plan.finished_bits` fractional bits.

Nobody sees them: all are shares.

In training they are truncated in each step, by openings that go with those of the batch (`layers`). A model that is
kept, or that rows are scored by, is truncated once: the data parties run `narrow`, the helper `deal_narrowing`.

A data party sees weights under masks of truncations; the helper receives nothing. Symbols are those of
`arithmetic.truncation`. The mask of the weights above hidden layer k is the sum of a word of each data party.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tercet.mpc.arithmetic import truncation
from tercet.mpc.arithmetic.ring import Words, total
from tercet.mpc.dealing.shares import deal, receive_share
from tercet.mpc.dealing.sizes import BlindLayout, layer_name
from tercet.mpc.interface.script import Script, sum_shares
from tercet.mpc.network.forward import NetworkShares
from tercet.mpc.plan.architecture import Tensors, pack, unpack
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Masks


def narrow(me: int, plan: Plan, shares: NetworkShares, masks: Masks, step: Step) -> Script[NetworkShares]:
    """Truncate a model's upper weights as data party `me`; return the shares with narrow ones.

    Args:
        me: This party's index.
        plan: The job's agreed numbers.
        shares: Of one step and one history at all data parties.
        masks: Shared with the helper, of a purpose of their own: two models under one mask would show a difference.
        step: The address of the masks, alike at all parties and used once.

    Raises:
        ShapeProblem: what another party has sent has the wrong shape.
    """
    layout, others = BlindLayout(plan), tuple(i for i in range(len(plan.columns)) if i != me)
    words = [masks(layer_name("weights", k), me, me, step, layout.upper(k)) for k in layout.hidden]
    share = masked_share(layout, shares.upper, words, first=me == 0)
    opened = yield from sum_shares("weight opening", 0, share, others)
    dealt = yield from receive_share(layout.narrowing(), me, len(plan.columns), masks, step)
    return replace(shares, upper=narrow_share(plan, layout, opened, dealt, first=me == 0))


def deal_narrowing(plan: Plan, masks: Mapping[int, Masks], step: Step) -> Script[None]:
    """Deal parts of the masks of a narrowing as the helper.

    `masks` are shared with each data party, by its index.
    """
    layout, values = BlindLayout(plan), dict[tuple[str, int], Words]()
    for k in layout.hidden:
        mask = total(of(layer_name("weights", k), j, j, step, layout.upper(k)) for j, of in masks.items())
        values |= parts_of(mask, k, "weights", plan.upper_bits - plan.finished_bits)
    yield from deal(layout.narrowing(), values, masks, step)


def parts_of(mask: Words, k: int, name: str, bits: int) -> Tensors:
    """Compute the parts of a truncation's mask that the helper deals."""
    return {(f"{name} high", k): truncation.high_part(mask, bits), (f"{name} top", k): truncation.top_bit(mask)}


def masked_share(layout: BlindLayout, upper: Sequence[Words], masks: Sequence[Words], *, first: bool) -> Words:
    """Compute a share of all upper weights under the masks of their truncation, in one row.

    The `first` party adds what is public.
    """
    shift = truncation.SHIFT if first else truncation.NO_SHIFT
    shares = {("c", k): upper[k] + masks[k] + shift for k in layout.hidden}
    return pack(layout.upper_weights("c"), shares)


def narrow_share(plan: Plan, layout: BlindLayout, opened: Words, dealt: Tensors, *, first: bool) -> tuple[Words, ...]:
    """Compute a share of the truncated weights above each hidden layer.

    `opened` is the sum of all masked shares.
    """
    bits, found = plan.upper_bits - plan.finished_bits, unpack(layout.upper_weights("c"), opened, "opened weights")
    return tuple(
        truncation.share_truncated(words, dealt["weights high", k], dealt["weights top", k], bits, first=first)
        for (_, k), words in found.items()
    )
