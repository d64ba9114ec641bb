"""Defines messages of a step of any model, and those that tell how good it is.

The attempt's keys seal them.

Several outputs stand in the secret order of their batch. What a network has beside is in `network_messages`.
"""

from tercet.schemas.messages.address import Round
from tercet.schemas.messages.message import Digest, Message, Secret
from tercet.schemas.messages.tensor import RingTensor


class MaskedInputs(Message):
    """Carries E = s X - U for one batch, to every other data party.

    Uniform: only its owner and the helper know U.
    """

    kind = "masked inputs"
    round = Round.MASKED_INPUTS
    item = "features"
    words: RingTensor  # (batch, columns of the sender), f_x fractional bits


class CheckedMasks(Message):
    """Carries what the receiver checks the helper's dealing by, to one data party.

    These are two projections of masks under masks.

    Uniform: only the sender and the helper know what is under them.
    """

    kind = "checked masks"
    round = Round.MASKED_INPUTS
    item = "checked-masks"
    words: RingTensor  # (batch, checks and as many columns as a projected mask on the activation has)


class MaskedLabels(Message):
    """Carries the label party's scaled labels minus m_y, to every other data party.

    Uniform.

    They come before the step is taken, and so say in time whether it ends with a checkpoint.
    """

    kind = "masked labels"
    round = Round.MASKED_INPUTS
    item = "labels"
    words: RingTensor  # (batch, outputs), F fractional bits
    checkpoint: bool = False


class MaskedWeights(Message):
    """Carries the sender's share of the receiver's block of weights minus v.

    Uniform.
    """

    kind = "masked weights"
    round = Round.MASKED_INPUTS
    item = "weights"
    words: RingTensor  # (columns of the receiver, outputs), f_w fractional bits


class GradientShare(Message):
    """Carries the helper's correction of the receiver's gradient, dealt ahead of time.

    Uniform: it carries r.

    Where that is checked, a part for each other data party, with what it is checked by, in one row.
    """

    kind = "gradient share"
    round = Round.ACTIVATIONS
    item = "gradient"
    words: RingTensor  # (columns of the receiver, outputs), f_w fractional bits


class PreactivationShare(Message):
    """Carries one data party's share of z = X w for one batch, to the helper.

    Uniform on its own by the zero share; the pre-activations only in sum with every other party's.
    """

    kind = "pre-activation share"
    round = Round.PREACTIVATIONS
    item = "output"
    words: RingTensor  # (batch, outputs), f_z fractional bits


class MaskedActivation(Message):
    """Carries the scaled activation minus the masks of the receiver's partners.

    Uniform.
    """

    kind = "masked activation"
    round = Round.ACTIVATIONS
    item = "output"
    words: RingTensor  # (batch, outputs), F fractional bits


class CheckCommitment(Message):
    """Binds the sender, at the end of an epoch, to its digest of the helper's dealing.

    The receiver has a digest of the same.
    """

    kind = "check digest"
    round = Round.OPENINGS
    item = "check-commitment"
    commitment: Digest


class CheckOpening(Message):
    """Opens the sender's commitment to be checked, once the receiver is bound too.

    It tells nothing else.
    """

    kind = "check digest"
    round = Round.OPENINGS
    item = "check-opening"
    salt: Secret


# --- metrics: the loss of an epoch, scores of rows, and whether to go on


class MaskedLossLabels(Message):
    """Carries the label party's signed labels minus a mask, for the loss.

    They go with its masked inputs. Uniform.
    """

    kind = "masked labels"
    round = Round.MASKED_INPUTS
    item = "loss-labels"
    words: RingTensor  # (batch, outputs)


class LossTerms(Message):
    """Carries what the label party computes its share of the loss from.

    It goes with its masked activation. Uniform.
    """

    kind = "loss terms"
    round = Round.ACTIVATIONS
    item = "loss"
    words: RingTensor  # p, (batch, outputs), and below it g, (1, outputs)


class LossShare(Message):
    """Carries a data party's share of an epoch's summed loss.

    Only all shares together say anything.
    """

    kind = "loss share"
    round = Round.METRICS
    item = "loss"
    words: RingTensor  # (1, 1)


class EpochDecision(Message):
    """Tells the label party's decision after an epoch.

    It says whether its model is the best so far, and whether to go on.
    """

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
    """Carries `MaskedWeights` once for a pass over held-out rows.

    Outputs are in their own order. Uniform.
    """

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
    """Carries the pre-activations of scored rows, in secret order, to the label party.

    They come from the helper. The label party may know them.

    Rounded: from all bits of them the label party could solve for narrow columns of the others.
    """

    kind = "scores"
    round = Round.METRICS
    item = "scores"
    words: RingTensor  # (batch, outputs), 16 fractional bits


class PartialScores(Message):
    """Carries what a party's columns add to the scores of some rows, to the label party.

    It is under a zero share.
    """

    kind = "partial scores"
    round = Round.METRICS
    item = "partial"
    words: RingTensor  # (rows, outputs), 16 fractional bits
