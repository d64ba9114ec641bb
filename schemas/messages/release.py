"""Defines messages that open a model at the end; outputs stand in their own order.

The attempt's keys seal them.

Who gets which of it is the job's release; under "shared" only what is masked is sent. What predictions need beside the
shares is here too.
"""

from pydantic import Field

from tercet.schemas.files.job import MAX_PARTIES
from tercet.schemas.messages.address import Round
from tercet.schemas.messages.message import Digest, EncodingText, Exponent, Message, Secret
from tercet.schemas.messages.tensor import RingTensor


class ScoreBound(Message):
    """Tells a helper that had no step to answer how far scores may go: two to this."""

    kind = "score bound"
    round = Round.METRICS
    item = "bound"
    exponent: Exponent


class ModelCommitments(Message):
    """Tells every data party how far scores may go, from the helper.

    By the commitments, masks of weights are known again.

    The bound is four times the largest score that it has seen, up to the next power of two. A commitment is a hash of
    the seed that it shares with one data party.
    """

    kind = "model commitments"
    round = Round.METRICS
    item = "commitments"
    exponent: Exponent
    seeds: tuple[Digest, ...] = Field(max_length=MAX_PARTIES)


class ModelOpening(Message):
    """Carries `MaskedWeights` of the model that is kept: once for all its predictions.

    Uniform.
    """

    kind = "masked weights"
    round = Round.MASKED_INPUTS
    item = "model-weights"
    words: RingTensor  # (columns of the receiver, outputs or units), f_w fractional bits


class ModelUpperOpening(Message):
    """Carries `WeightOpening` of the model that is kept, for the way up only.

    Once for all its predictions. Uniform.
    """

    kind = "weight opening"
    round = Round.OPENINGS
    item = "model-weights"
    words: RingTensor  # (1, weights), f_w fractional bits


class WeightMaskSeed(Message):
    """Carries the seed of a data party's masks of a model's weights, to the helper.

    The helper of a prediction shares these masks.
    """

    kind = "weight mask seed"
    round = Round.PREACTIVATIONS
    item = "seed"
    secret: Secret


class WeightShare(Message):
    """Carries the sender's share of the receiver's block at the end.

    It is due under release = "owners": the block is opened to it.
    """

    kind = "weight share"
    round = Round.RELEASE
    item = "block"
    words: RingTensor  # (columns of the receiver, outputs), f_w fractional bits


class InterceptShare(Message):
    """Carries the sender's share of the intercept at the end, to the label party."""

    kind = "weight share"
    round = Round.RELEASE
    item = "intercept"
    words: RingTensor  # (1, outputs), f_w fractional bits


class UpperShare(Message):
    """Carries the sender's share of all layers above the first and of all biases.

    It goes, at the end, to whom they are opened.
    """

    kind = "weight share"
    round = Round.RELEASE
    item = "upper"
    words: RingTensor  # (1, all of them), f_w fractional bits


class ModelShare(Message):
    """Carries the sender's share of the whole model at the end, to the label party.

    It is due under release = "label" alone.

    With all of them the label party has every weight, and so an equation in everybody's columns for each row that is
    ever scored.
    """

    kind = "weight share"
    round = Round.RELEASE
    item = "model"
    words: RingTensor  # (1, all of it), f_w fractional bits


class ColumnEncoding(Message):
    """Carries the encoding of the sender's columns, to the label party.

    It is due under release = "label" alone.

    It names columns and categories and has means and deviations of the rows that were trained on, but no row's value.
    It is a `tables.encoding.encoding.Encoding` in JSON, since it may have more entries than a body. The
    reader checks it.
    """

    kind = "column encoding"
    round = Round.RELEASE
    item = "encoding"
    encoding: EncodingText


class ColumnNames(Message):
    """Names the sender's columns in statistics, as far as its policy lets it.

    It is JSON, since there may be more of them than a body has entries. The reader checks it.
    """

    kind = "column names"
    round = Round.RELEASE
    item = "names"
    names: EncodingText


class LabelUnit(Message):
    """Tells by which power of two the label was divided, from the label party.

    It goes to whoever learns sums of the label.
    """

    kind = "label unit"
    round = Round.RELEASE
    item = "unit"
    exponent: int = Field(ge=-2000, le=2000)
