"""Defines messages of a pass over held-out rows that opens their mean loss alone.

It opens no score of a row.

Each of them is uniform to its receiver. Only all shares of a batch's scores tell the helper something. Only all shares
of the loss tell the label party something. Their steps are batches of the pass, their epoch is the one before.
"""

from tercet.schemas.messages.address import Round
from tercet.schemas.messages.message import Message
from tercet.schemas.messages.tensor import RingTensor


class HeldOutInputs(Message):
    """As `MaskedInputs`, for the held-out loss."""

    kind = "masked inputs"
    round = Round.MASKED_INPUTS
    item = "held-out-features"
    words: RingTensor  # (batch, columns of the sender), f_x fractional bits


class HeldOutWeights(Message):
    """As `MaskedWeights`, for the held-out loss."""

    kind = "masked weights"
    round = Round.MASKED_INPUTS
    item = "held-out-weights"
    words: RingTensor  # (columns of the receiver, outputs or units), f_w fractional bits


class HeldOutLabels(Message):
    """As `MaskedLossLabels`, of held-out rows."""

    kind = "masked labels"
    round = Round.MASKED_INPUTS
    item = "held-out-labels"
    words: RingTensor  # (batch, outputs)


class HeldOutShare(Message):
    """As `PreactivationShare`, of held-out rows."""

    kind = "pre-activation share"
    round = Round.PREACTIVATIONS
    item = "held-out-output"
    words: RingTensor  # (batch, outputs), f_z fractional bits


class HeldOutTerms(Message):
    """As `LossTerms`, of held-out rows: what comes instead of their scores."""

    kind = "loss terms"
    round = Round.METRICS
    item = "held-out-terms"
    words: RingTensor  # p, (batch, outputs), and below it g, (1, outputs)


class HeldOutLossShare(Message):
    """As `LossShare`, of all held-out rows after an epoch."""

    kind = "loss share"
    round = Round.METRICS
    item = "held-out-loss"
    words: RingTensor  # (1, 1)


# --- what a network has beside


class HeldOutMaskOpenings(Message):
    """As `ScoringMaskOpenings`, for the held-out loss."""

    kind = "mask openings"
    round = Round.MASKED_INPUTS
    item = "held-out-mask-openings"
    words: RingTensor  # (1, elements of all hidden layers)


class HeldOutDealtShares(Message):
    """As `ScoringDealtShares`, for the held-out loss."""

    kind = "dealt shares"
    round = Round.DEALT
    item = "held-out"
    words: RingTensor  # (1, all of them)


class HeldOutHiddenShare(Message):
    """As `ScoringHiddenShare`, for the held-out loss."""

    kind = "hidden share"
    round = Round.PREACTIVATIONS
    item = "held-out-hidden"
    words: RingTensor  # (1, elements), f_z fractional bits


class HeldOutHiddenAnswer(Message):
    """As `ScoringHiddenAnswer`, for the held-out loss."""

    kind = "hidden answer"
    round = Round.ACTIVATIONS
    item = "held-out-hidden"
    words: RingTensor  # (1 or 2, elements)


class HeldOutWeightOpening(Message):
    """As `ScoringWeightOpening`, for the held-out loss."""

    kind = "weight opening"
    round = Round.OPENINGS
    item = "held-out-weights"
    words: RingTensor  # (1, weights), f_w fractional bits


class HeldOutNarrowOpening(Message):
    """As `NarrowOpening`, for the held-out loss where the helper sees nothing."""

    kind = "weight opening"
    round = Round.OPENINGS
    item = "held-out-narrow-weights"
    words: RingTensor  # (1, weights), N fractional bits


class HeldOutHiddenOpening(Message):
    """As `HiddenOpening`, of held-out rows, without slopes. Uniform."""

    kind = "hidden opening"
    round = Round.OPENINGS
    item = "held-out-activations"
    words: RingTensor  # (batch, units), P fractional bits


class HeldOutScoreOpening(Message):
    """As `ScoreOpening`, of held-out rows. Uniform."""

    kind = "score opening"
    round = Round.OPENINGS
    item = "held-out-scores"
    words: RingTensor  # (batch, outputs), f_z fractional bits


class HeldOutLossScores(Message):
    """As `MaskedLossScores`, of held-out rows. Uniform."""

    kind = "masked loss scores"
    round = Round.OPENINGS
    item = "held-out-loss-scores"
    words: RingTensor  # (batch, outputs)
