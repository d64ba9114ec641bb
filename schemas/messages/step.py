"""What a step says of any model, and what tells how good it is; sealed by the attempt's keys.

Several outputs stand in the secret order of their batch. What a network has beside is in `network_messages`.
"""

from tercet.schemas.messages.address import Round
from tercet.schemas.messages.message import Digest, Message, Secret
from tercet.schemas.messages.tensor import RingTensor


class MaskedInputs(Message):
    """E = s X - U for one batch, to every other data party. Uniform: only its owner and the helper know U."""

    kind = "masked inputs"
    round = Round.MASKED_INPUTS
    item = "features"
    words: RingTensor  # (batch, columns of the sender), f_x fractional bits


class CheckedMasks(Message):
    """What the receiver checks the helper's dealing by: two projections of masks under masks, to one data party.

    Uniform: only the sender and the helper know what is under them.
    """

    kind = "checked masks"
    round = Round.MASKED_INPUTS
    item = "checked-masks"
    words: RingTensor  # (batch, checks and as many columns as a projected mask on the activation has)


class MaskedLabels(Message):
    """The label party's scaled labels minus m_y, to every other data party. Uniform.

    They come before the step is taken, and so say in time whether it ends with a checkpoint.
    """

    kind = "masked labels"
    round = Round.MASKED_INPUTS
    item = "labels"
    words: RingTensor  # (batch, outputs), F fractional bits
    checkpoint: bool = False


class MaskedWeights(Message):
    """The sender's share of the receiver's block of weights minus v. Uniform."""

    kind = "masked weights"
    round = Round.MASKED_INPUTS
    item = "weights"
    words: RingTensor  # (columns of the receiver, outputs), f_w fractional bits


class GradientShare(Message):
    """The helper's correction of the receiver's gradient, dealt ahead of time. Uniform: it carries r.

    Where that is checked, a part for each other data party, with what it is checked by, in one row.
    """

    kind = "gradient share"
    round = Round.ACTIVATIONS
    item = "gradient"
    words: RingTensor  # (columns of the receiver, outputs), f_w fractional bits


class PreactivationShare(Message):
    """One data party's share of z = X w for one batch, to the helper.

    Uniform on its own by the zero share; the pre-activations only in sum with every other party's.
    """

    kind = "pre-activation share"
    round = Round.PREACTIVATIONS
    item = "output"
    words: RingTensor  # (batch, outputs), f_z fractional bits


class MaskedActivation(Message):
    """The scaled activation minus the masks of the receiver's partners. Uniform."""

    kind = "masked activation"
    round = Round.ACTIVATIONS
    item = "output"
    words: RingTensor  # (batch, outputs), F fractional bits


class CheckCommitment(Message):
    """At the end of an epoch: the sender is bound to what it and the receiver have found of the helper's dealing."""

    kind = "check digest"
    round = Round.OPENINGS
    item = "check-commitment"
    commitment: Digest


class CheckOpening(Message):
    """Once the receiver is bound too: by what the sender's commitment can be checked, and nothing else."""

    kind = "check digest"
    round = Round.OPENINGS
    item = "check-opening"
    salt: Secret


# --- metrics: the loss of an epoch, scores of rows, and whether to go on


class MaskedLossLabels(Message):
    """The label party's signed labels minus a mask, for the loss, with its masked inputs. Uniform."""

    kind = "masked labels"
    round = Round.MASKED_INPUTS
    item = "loss-labels"
    words: RingTensor  # (batch, outputs)


class LossTerms(Message):
    """What the label party computes its share of the loss from, with its masked activation. Uniform."""

    kind = "loss terms"
    round = Round.ACTIVATIONS
    item = "loss"
    words: RingTensor  # p, (batch, outputs), and below it g, (1, outputs)


class LossShare(Message):
    """A data party's share of an epoch's summed loss; only all shares together say anything."""

    kind = "loss share"
    round = Round.METRICS
    item = "loss"
    words: RingTensor  # (1, 1)


class EpochDecision(Message):
    """The label party has looked at an epoch: whether its model is the best so far, and whether to go on."""

    kind = "epoch decision"
    round = Round.METRICS
    item = "decision"
    best: bool
    go_on: bool


class ScoringInputs(Message):
    """As `MaskedInputs`, for rows that are scored and not trained on. Uniform."""

    kind = "masked inputs"
    round = Round.MASKED_INPUTS
    item = "scoring-features"
    words: RingTensor  # (batch, columns of the sender), f_x fractional bits


class ScoringWeights(Message):
    """As `MaskedWeights`, once for a pass over held-out rows, with outputs in their own order. Uniform."""

    kind = "masked weights"
    round = Round.MASKED_INPUTS
    item = "scoring-weights"
    words: RingTensor  # (columns of the receiver, outputs), f_w fractional bits


class ScoringShare(Message):
    """As `PreactivationShare`, of rows that are scored."""

    kind = "pre-activation share"
    round = Round.PREACTIVATIONS
    item = "scoring-output"
    words: RingTensor  # (batch, outputs), f_z fractional bits


class Scores(Message):
    """The pre-activations of scored rows, in secret order, from the helper to the label party, which may know them.

    Rounded: from all bits of them the label party could solve for narrow columns of the others.
    """

    kind = "scores"
    round = Round.METRICS
    item = "scores"
    words: RingTensor  # (batch, outputs), 16 fractional bits


class PartialScores(Message):
    """What a party's columns add to the scores of some rows, under a zero share, to the label party."""

    kind = "partial scores"
    round = Round.METRICS
    item = "partial"
    words: RingTensor  # (rows, outputs), 16 fractional bits
