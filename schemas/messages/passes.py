"""Defines messages of passes over rows that train nothing and open sums alone.

Of held-out rows that is their mean loss. Their steps are batches of the pass, their epoch is the one before. Each
message is uniform to its receiver. Only all shares of a batch's scores tell the helper something, and only all shares
of the loss tell the label party something.

Of a statistics job those are sums by cell and products of columns, when all rows are done. Each message is uniform to
its receiver but for what is said. None goes to the helper. L is the label party, and a partner each other data party.
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


# --- a statistics job


class MaskedBins(Message):
    """Carries the indicators of a partner's cells in a batch under masks, to L."""

    kind = "masked bins"
    round = Round.MASKED_INPUTS
    item = "statistics-bins"
    words: RingTensor  # (batch, cells of the sender), two to a word where the label has classes


class MaskedTargets(Message):
    """Carries L's targets of a batch under a mask, to each partner."""

    kind = "masked targets"
    round = Round.MASKED_INPUTS
    item = "statistics-targets"
    words: RingTensor  # (batch, targets)


class MaskedNumbers(Message):
    """Carries a batch of columns to correlate under masks, to each other party that correlates."""

    kind = "masked numbers"
    round = Round.MASKED_INPUTS
    item = "statistics-numbers"
    words: RingTensor  # (batch, correlated columns of the sender), f_x fractional bits


class DealtSums(Message):
    """Carries sums of products of masks over the whole pass, from the helper."""

    kind = "dealt sums"
    round = Round.DEALT
    item = "statistics-sums"
    words: RingTensor  # (1, all of them)


class CellTables(Message):
    """Carries a partner's shares of one-time truth tables, from the helper."""

    kind = "cell tables"
    round = Round.DEALT
    item = "cell-tables"
    words: RingTensor  # (1, tables of some cells, and products of bits)


class CellOpening(Message):
    """Carries shares of places in truth tables, between L and a partner."""

    kind = "cell opening"
    round = Round.OPENINGS
    item = "cell-places"
    words: RingTensor  # (cells, classes)


class GateOpening(Message):
    """Carries masked bits of which products are made, between L and a partner.

    Its step counts rounds.
    """

    kind = "gate opening"
    round = Round.OPENINGS
    item = "cell-gates"
    words: RingTensor  # (cells, twice the products)


class CellMarks(Message):
    """Carries L's share of which cells have the minimum, to their owner.

    It alone learns which.
    """

    kind = "cell marks"
    round = Round.OPENINGS
    item = "cell-marks"
    words: RingTensor  # (cells, 1)


class CellGroups(Message):
    """Tells L which cells of the sender are opened together, in an order that is secret to L."""

    kind = "cell groups"
    round = Round.RELEASE
    item = "cell-groups"
    words: RingTensor  # (cells, 1): from 1, or 0 where nothing of a column is opened


class Cells(Message):
    """Carries rows of a partner's opened cells, and its shares of their sums, to L.

    L learns both.
    """

    kind = "cells"
    round = Round.RELEASE
    item = "cells"
    words: RingTensor  # (opened cells, 1 + targets)


class CellSums(Message):
    """Carries L's shares of sums of opened cells to their owner, which learns the sums.

    Where the job asks for WOE alone.
    """

    kind = "cell sums"
    round = Round.RELEASE
    item = "cell-sums"
    words: RingTensor  # (opened cells, targets)


class CorrelationShare(Message):
    """Carries shares of products of columns, to whom the job opens them."""

    kind = "correlation share"
    round = Round.RELEASE
    item = "correlations"
    words: RingTensor  # (1, all of them), 2 f_x fractional bits


class Inflation(Message):
    """Tells a party the VIF of its own columns, from L."""

    kind = "inflation"
    round = Round.RELEASE
    item = "inflation"
    words: RingTensor  # (1, correlated columns), each the bits of a float
