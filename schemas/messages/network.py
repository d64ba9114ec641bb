"""Defines a network's messages of a step beside a linear model's.

The attempt's keys seal them.

Each of them is uniform to its receiver; only the sum of all hidden shares tells the helper something.
"""

from tercet.schemas.messages.address import Round
from tercet.schemas.messages.message import Message
from tercet.schemas.messages.tensor import RingTensor


class MaskOpenings(Message):
    """Carries differences of hidden activations' masks, with the masked inputs.

    They lead from masks in secret order to masks in place.
    """

    kind = "mask openings"
    round = Round.MASKED_INPUTS
    item = "mask-openings"
    words: RingTensor  # (1, elements of all hidden layers)


class DealtShares(Message):
    """Carries what the helper deals one data party for a step.

    That is its gradient share and, at one party, products of masks.
    """

    kind = "dealt shares"
    round = Round.DEALT
    item = "step"
    words: RingTensor  # (1, all of them)


class HiddenShare(Message):
    """Carries a data party's share of a hidden layer, to the helper.

    It is in secret order, with secret signs and a zero share.

    Its step counts hidden layers: position in the epoch times their number, plus which of them.
    """

    kind = "hidden share"
    round = Round.PREACTIVATIONS
    item = "hidden"
    words: RingTensor  # (1, elements), f_z fractional bits


class HiddenAnswer(Message):
    """Carries a hidden layer's activations and slopes minus masks, to all data parties.

    They know the masks in shares only.

    Its step counts as that of `HiddenShare`.
    """

    kind = "hidden answer"
    round = Round.ACTIVATIONS
    item = "hidden"
    words: RingTensor  # (2 or 3, elements)


class WeightOpening(Message):
    """Carries a share of the weights above hidden layers, under masks.

    It is for the way up, and to truncate them; where the helper sees nothing, to truncate them alone.
    """

    kind = "weight opening"
    round = Round.OPENINGS
    item = "weights"
    words: RingTensor  # (1, twice the weights), or once


class NarrowOpening(Message):
    """Carries a share of the same weights truncated, under masks, for the way back.

    Of a blind network it is for both ways.
    """

    kind = "weight opening"
    round = Round.OPENINGS
    item = "narrow-weights"
    words: RingTensor  # (1, weights), 20 fractional bits or more


class TruncationOpening(Message):
    """Carries a share of a hidden layer's error under a truncation's mask.

    Its step counts layers, from the output down.
    """

    kind = "error opening"
    round = Round.OPENINGS
    item = "error"
    words: RingTensor  # (1, elements) in secret order, or (batch, units)


class SlopeOpening(Message):
    """Carries the same share once slopes with fractional bits are multiplied on.

    Its step counts as that of `TruncationOpening`.
    """

    kind = "error opening"
    round = Round.OPENINGS
    item = "sloped-error"
    words: RingTensor  # (1, elements) in secret order, or (batch, units)


class ErrorOpening(Message):
    """Carries a share of a hidden layer's error under a mask, for the layer below.

    Its step counts as the two before.
    """

    kind = "error opening"
    round = Round.OPENINGS
    item = "layer-error"
    words: RingTensor  # (batch, units), F fractional bits


class MaskedError(Message):
    """Carries a share of the first layer's error minus s, for the receiver's own block."""

    kind = "masked error"
    round = Round.OPENINGS
    item = "first-error"
    words: RingTensor  # (batch, units), F fractional bits


class ScoringMaskOpenings(Message):
    """As `MaskOpenings`, for rows that are scored."""

    kind = "mask openings"
    round = Round.MASKED_INPUTS
    item = "scoring-mask-openings"
    words: RingTensor  # (1, elements of all hidden layers)


class ScoringDealtShares(Message):
    """As `DealtShares`, for rows that are scored: products of masks, to one data party."""

    kind = "dealt shares"
    round = Round.DEALT
    item = "scoring"
    words: RingTensor  # (1, all of them)


class ScoringHiddenShare(Message):
    """As `HiddenShare`, of rows that are scored."""

    kind = "hidden share"
    round = Round.PREACTIVATIONS
    item = "scoring-hidden"
    words: RingTensor  # (1, elements), f_z fractional bits


class ScoringHiddenAnswer(Message):
    """As `HiddenAnswer`, of rows that are scored, without slopes."""

    kind = "hidden answer"
    round = Round.ACTIVATIONS
    item = "scoring-hidden"
    words: RingTensor  # (1 or 2, elements)


class ScoringWeightOpening(Message):
    """As `WeightOpening`, for the way up only, once for a pass over held-out rows."""

    kind = "weight opening"
    round = Round.OPENINGS
    item = "scoring-weights"
    words: RingTensor  # (1, weights), f_w fractional bits
