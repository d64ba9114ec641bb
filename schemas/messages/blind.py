"""Defines messages of a training in which the helper learns nothing.

Others it shares with the other mode.

The attempt's keys seal them. Each is uniform to its receiver, but for what is said; none goes to the helper but
`RowMaskKey`, which it shares with its sender, and `StepsDone`, which holds a number of steps.
"""

from pydantic import Field

from tercet.schemas.files.job import MAX_PARTIES
from tercet.schemas.messages.address import Round
from tercet.schemas.messages.message import Count, Digest, Message, Secret
from tercet.schemas.messages.tensor import RingTensor


class ScoreOpening(Message):
    """Carries a share of a layer's pre-activations as angles, under a mask.

    It goes to every other data party.

    A model without hidden layers has one such layer, the scores. The step of its address counts layers: position in
    the epoch times their number, plus which of them. The label party's says in time whether the step ends with a
    checkpoint.
    """

    kind = "score opening"
    round = Round.OPENINGS
    item = "batch-scores"
    words: RingTensor  # (batch, units or outputs), 2^-64ths of a turn
    checkpoint: bool = False


class HiddenOpening(Message):
    """Carries shares of a hidden layer's activations and slopes under masks.

    It goes to every other data party.

    Its step counts as that of `ScoreOpening`.
    """

    kind = "hidden opening"
    round = Round.OPENINGS
    item = "hidden-activations"
    words: RingTensor  # (twice the batch, units), activations first


class NextWeights(Message):
    """As `MaskedWeights`, for a step whose rows were all sent before. Uniform.

    It travels with an opening of the step before.
    """

    kind = "masked weights"
    round = Round.OPENINGS
    item = "next-weights"
    words: RingTensor  # (columns of the receiver, outputs), f_w fractional bits


class OutputErrorOpening(Message):
    """Carries a share of a layer's errors under a mask, e + r, to every other data party.

    Its step counts layers, from the output down.
    """

    kind = "output error opening"
    round = Round.OPENINGS
    item = "batch-errors"
    words: RingTensor  # (batch, outputs or units), F fractional bits


class MaskedRowWeights(Message):
    """Carries the weights of a batch's rows minus a mask, to every other data party.

    Of a Tweedie model the labels are among them. The label party sends it. Uniform. It travels with a score opening.
    """

    kind = "masked row weights"
    round = Round.OPENINGS
    item = "row-weights"
    words: RingTensor  # (batch, factors): one, or of a weighted Tweedie model two


class MaskedErrors(Message):
    """Carries a share of a batch's errors minus a mask to the label party, which weighs them.

    Uniform.
    """

    kind = "masked errors"
    round = Round.OPENINGS
    item = "unweighted-errors"
    words: RingTensor  # (batch, factors times outputs), F fractional bits less those of weights


class CheckRows(Message):
    """Carries random combinations of the sender's rows in some batches, under masks.

    Uniform. It goes to every other data party after the last of them, and checks what the helper has dealt for them.
    """

    kind = "check rows"
    round = Round.OPENINGS
    item = "check-rows"
    words: RingTensor  # (checks for each batch, columns of the sender)


class BundleKey(Message):
    """Carries the key of the sender's masks of a dealt bundle that is opened and not used.

    To the data party that was dealt its explicit words. By the keys of all data parties it computes what these should
    be. Keys of bundles that are used never leave.
    """

    kind = "bundle key"
    round = Round.OPENINGS
    item = "bundle-key"
    words: RingTensor  # (1, 4): 32 bytes, which no other mask follows from


class SpreadShare(Message):
    """Carries a share of an epoch's summed cosine of scores.

    By it all see whether these run away. Those of hidden layers are beside it, the lowest first.

    A sum tells the mean square. `opened` hashes all words opened so far, which all data parties have alike.
    """

    kind = "spread share"
    round = Round.METRICS
    item = "spread"
    words: RingTensor  # (1, layers), F fractional bits, those of hidden layers P
    opened: Digest


class RowMaskKey(Message):
    """Carries the key of the masks on the sender's rows, to the helper.

    It is the same in each attempt of a run. The sender draws it, and it depends on the rows as a keyed hash does.
    """

    kind = "row mask key"
    round = Round.PREACTIVATIONS
    item = "row-key"
    secret: Secret


class SentRowDigests(Message):
    """Tells every other data party which masked rows an attempt that goes on has found again.

    Each digest is of a data party's rows, as the sender has sent or kept them.
    """

    kind = "sent row digests"
    round = Round.METRICS
    item = "sent-rows"
    digests: tuple[Digest, ...] = Field(max_length=MAX_PARTIES)


class StepsDone(Message):
    """Tells the helper how many steps are done, so that it deals no further ahead than fits."""

    kind = "steps done"
    round = Round.PREACTIVATIONS
    item = "steps-done"
    done: Count


class MaskedLossScores(Message):
    """Carries a share of a batch's scores minus a mask to the label party, for the loss.

    Uniform.
    """

    kind = "masked loss scores"
    round = Round.OPENINGS
    item = "loss-scores"
    words: RingTensor  # (batch, outputs)


class MaskedScores(Message):
    """Carries a share of scores of rows that are not trained on to the label party.

    It is under a zero share.

    It may know the scores, under the partners' noise.
    """

    kind = "masked scores"
    round = Round.METRICS
    item = "masked-scores"
    words: RingTensor  # (batch, outputs), f_z fractional bits


class ScoringHiddenOpening(Message):
    """As `HiddenOpening`, of rows that are scored, without slopes. Uniform."""

    kind = "hidden opening"
    round = Round.OPENINGS
    item = "scoring-activations"
    words: RingTensor  # (batch, units), P fractional bits


class ScoringScoreOpening(Message):
    """As `ScoreOpening`, of a hidden layer's pre-activations of rows that are scored. Uniform."""

    kind = "score opening"
    round = Round.OPENINGS
    item = "scoring-scores"
    words: RingTensor  # (batch, units), f_z fractional bits


class NarrowingOpening(Message):
    """Carries a share of the weights above hidden layers under masks.

    Those of a model are truncated by it.

    Uniform. Its epoch is the one before; of the model that is kept it is the number of epochs.
    """

    kind = "weight opening"
    round = Round.OPENINGS
    item = "model-narrowing"
    words: RingTensor  # (1, weights), P + F fractional bits


class NarrowingDealtShares(Message):
    """Carries what the helper deals one data party to truncate a model's weights."""

    kind = "dealt shares"
    round = Round.DEALT
    item = "model-narrowing"
    words: RingTensor  # (1, twice the weights)
