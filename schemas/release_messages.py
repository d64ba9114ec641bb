"""What opens a model at the end, sealed by the attempt's keys; outputs stand in their own order.

Who gets which of it is the job's release; under "shared" nothing here is sent.
"""

from schemas.address import Round
from schemas.message import EncodingText, Message
from schemas.tensor import RingTensor


class WeightShare(Message):
    """The sender's share of the receiver's block at the end, under release = "owners": the block is opened to it."""

    kind = "weight share"
    round = Round.RELEASE
    item = "block"
    words: RingTensor  # (columns of the receiver, outputs), f_w fractional bits


class InterceptShare(Message):
    """The sender's share of the intercept at the end, to the label party."""

    kind = "weight share"
    round = Round.RELEASE
    item = "intercept"
    words: RingTensor  # (1, outputs), f_w fractional bits


class UpperShare(Message):
    """The sender's share of all layers above the first and of all biases, at the end, to whom they are opened."""

    kind = "weight share"
    round = Round.RELEASE
    item = "upper"
    words: RingTensor  # (1, all of them), f_w fractional bits


class ModelShare(Message):
    """The sender's share of the whole model at the end, to the label party, under release = "label" alone.

    With all of them the label party has every weight, and so an equation in everybody's columns for each row that is
    ever scored.
    """

    kind = "weight share"
    round = Round.RELEASE
    item = "model"
    words: RingTensor  # (1, all of it), f_w fractional bits


class ColumnEncoding(Message):
    """How the sender's columns become numbers, to the label party, under release = "label" alone.

    It names columns and categories and has means and deviations of the rows that were trained on, but no row's value.
    In JSON, since it may have more entries than a body: a `tables.encoding.Encoding`, which is for the reader to check.
    """

    kind = "column encoding"
    round = Round.RELEASE
    item = "encoding"
    encoding: EncodingText
