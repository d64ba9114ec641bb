"""Estimates the bits of a record that parties could learn, and refuses jobs for it.

It sees entropies and sizes, never a row. The numbers come from the attacks in tests/attacks; docs/protocol.md has them.

The helper sees the scores of a batch under noise. Say it knew all weights and how frequent each record is.
Then it would name the record of a row right with a chance of about 2^(d - H2). H2 is the collision entropy of
a whole record, and d what one noisy score discloses: 3 to 4 bits. With 9 bits that is 1 to 4 of 100 rows, and
in secret order. Rows that hardly ever share a record, or all but one column of it, show nothing in a batch of
b at all: b^2 2^-H2 is below 8.

The label party learns scores under the partners' own noise. Each tells log2(8 / 2^-4) = 7 bits of a partner's record.
Where the helper sees no score, it stops none either. A label party that opened its weights falsely then has chosen sums
of columns in all that a word of a score holds: log2(2^9 / 2^-4) = 13 bits.
"""

import math
from collections.abc import Sequence

from tercet.mpc.functions.links import LINKS
from tercet.mpc.plan.architecture import Network

SCORE_BITS = 7.0  # of a partner's record by one score, under noise of +-2^-5 in a range of 8
MOST_BLIND_SCORE_BITS = 9  # before the point of a score that the label party adds up itself, with its sign
BLIND_SCORE_BITS = MOST_BLIND_SCORE_BITS + 4.0  # of a partner's record by one such score, under the same noise
UNNAMED_BITS = 5.0  # of a record that one view must leave open to a helper that knows all weights: 1 row of 32
SEEN_BITS = 4.0  # by the helper of one score under noise of +-1/4; the range is 8 of such cells, on each side of zero
SEEN_CLASS_BITS = 3.0  # likewise of each of K scores under noise of +-1/2
SHARED_BITS = 3.0  # a pattern must be shared by 2^3 pairs of a batch to stand out
CAUTION_BITS = 3.0  # within so many of the bound a job is warned of
LEAST_RATIO = 2.0  # a record must hold so many times what scores tell
LEAST_RATIO_KNOWN = 3.0  # likewise, where the weights are known


def joint_bits(bits: Sequence[float]) -> float:
    """Estimate the collision entropy of whole records from that of each party's columns.

    The largest, and half of the others: columns of two parties about the same people are not independent.
    """
    return max(bits) + (sum(bits) - max(bits)) / 2.0


def needed_bits(model: str, outputs: int, largest_view: int, network: Network | None = None) -> float:
    """Compute the collision entropy that whole records need against the helper.

    Args:
        model: The link.
        outputs: K. A network's outputs are no linear combinations of columns, and count as one.
        largest_view: Rows of the largest batch, or of all that are scored by one model.
        network: Hidden layers, if any.
    """
    several = outputs > 1 and network is None
    seen = SEEN_CLASS_BITS * outputs if several else SEEN_BITS
    if not several and not LINKS[model].odd:
        seen += 1.0  # its sign
    return min(UNNAMED_BITS + seen, max(0.0, 2.0 * math.log2(largest_view) - SHARED_BITS))


def disclosed_bits(scorings: int, outputs: int, *, blind: bool) -> float:
    """Give what so many scorings of a row tell the label party of a partner's record, at most."""
    return (BLIND_SCORE_BITS if blind else SCORE_BITS) * scorings * outputs


def most_scorings(record_bits: float, outputs: int, *, weights_known: bool, blind: bool) -> int:
    """Give how often a row may be scored until too much of a partner's record is told."""
    ratio = LEAST_RATIO_KNOWN if weights_known else LEAST_RATIO
    return int(record_bits / ratio / disclosed_bits(1, outputs, blind=blind))


def score_less_often(epochs: int, most: int) -> str:
    """Say what makes a job of so many epochs score held-out rows no more often than that."""
    if most < 1:
        return 'use metrics = "none", with held_out_loss = true, which tells no score, to stop early and to compare by'
    rarer = f"every = {-(-epochs // most)}, " if most < epochs else ""
    return f'use {rarer}metrics = "end" or metrics = "none", and to stop early on = "held_out_loss", which tells none'
