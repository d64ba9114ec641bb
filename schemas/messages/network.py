"""What a step of a network says beside a linear model's, sealed by the attempt's keys.

Each of them is uniform to its receiver; only the sum of all hidden shares tells the helper something.
"""

from tercet.schemas.messages.address import Round
from tercet.schemas.messages.message import Message
from tercet.schemas.messages.tensor import RingTensor


class MaskOpenings(Message):
    """What leads from masks of hidden activations in secret order to masks in place, with the masked inputs."""

    kind = "mask openings"
    round = Round.MASKED_INPUTS
    item = "mask-openings"
    words: RingTensor  # (1, elements of all hidden layers)


class DealtShares(Message):
    """What the helper deals one data party for a step: its gradient share and, at one party, products of masks."""

    kind = "dealt shares"
    round = Round.DEALT
    item = "step"
    words: RingTensor  # (1, all of them)


class HiddenShare(Message):
    """A data party's share of a hidden layer, to the helper: in secret order, with secret signs and a zero share.

    Its step counts hidden layers: position in the epoch times their number, plus which of them.
    """

    kind = "hidden share"
    round = Round.PREACTIVATIONS
    item = "hidden"
    words: RingTensor  # (1, elements), f_z fractional bits


class HiddenAnswer(Message):
    """A hidden layer's activations and slopes minus masks that the data parties know in shares only, for all of them.

    Its step counts as that of `HiddenShare`.
    """

    kind = "hidden answer"
    round = Round.ACTIVATIONS
    item = "hidden"
    words: RingTensor  # (2 or 3, elements)


class WeightOpening(Message):
    """A share of the weights above hidden layers, under masks: for the way up, and to truncate them."""

    kind = "weight opening"
    round = Round.OPENINGS
    item = "weights"
    words: RingTensor  # (1, twice the weights)


class NarrowOpening(Message):
    """A share of the same weights truncated, under masks, for the way back."""

    kind = "weight opening"
    round = Round.OPENINGS
    item = "narrow-weights"
    words: RingTensor  # (1, weights), 20 fractional bits


class TruncationOpening(Message):
    """A share of a hidden layer's error under a truncation's mask. Its step counts layers, from the output down."""

    kind = "error opening"
    round = Round.OPENINGS
    item = "error"
    words: RingTensor  # (1, elements)


class SlopeOpening(Message):
    """The same once slopes with fractional bits are multiplied on. Its step counts as that of `TruncationOpening`."""

    kind = "error opening"
    round = Round.OPENINGS
    item = "sloped-error"
    words: RingTensor  # (1, elements)


class ErrorOpening(Message):
    """A share of a hidden layer's error under a mask, for the layer below. Its step counts as the two before."""

    kind = "error opening"
    round = Round.OPENINGS
    item = "layer-error"
    words: RingTensor  # (batch, units), F fractional bits


class MaskedError(Message):
    """A share of the first layer's error minus s, for the receiver's own block of weights."""

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
