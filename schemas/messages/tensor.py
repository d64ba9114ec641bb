"""Defines the ring tensor: a block of words modulo 2^64 as a message field.

It checks that the bytes are what the header says; whether the shape is the expected one is the reader's to check with
`expect`, before the words are used.
"""

from math import prod
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator

DTYPE = "<u8"
MAX_AXIS = 2**40  # far above any table, far below what overflows a product of two

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]
else:
    Words = Any  # numpy is loaded by the first tensor: a question to an agent carries none


class ShapeProblem(ValueError):
    """A tensor has another shape than this step of the protocol calls for."""


def _pack(words: Words) -> dict[str, Any]:  # little-endian machines only; so is every one that has wheels of numpy
    import numpy as np  # noqa: PLC0415

    contiguous = words if words.flags.c_contiguous else np.ascontiguousarray(words)
    data = contiguous.data.cast("B") if contiguous.size else b""  # an empty view cannot be cast
    return {"dtype": DTYPE, "shape": contiguous.shape, "data": data}


def _unpack(value: Any) -> Words:
    import numpy as np  # noqa: PLC0415

    if isinstance(value, np.ndarray):
        return _own(value)
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data"}:
        raise ValueError("a ring tensor is a map of dtype, shape and data")
    shape, data = value["shape"], value["data"]
    if value["dtype"] != DTYPE:
        raise ValueError("a ring tensor holds little-endian 64-bit words")
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError("a ring tensor has two axes")
    if not all(type(axis) is int and 0 <= axis < MAX_AXIS for axis in shape):
        raise ValueError("a ring tensor's axes are counts")
    if not isinstance(data, bytes) or len(data) != 8 * prod(shape):
        raise ValueError("a ring tensor's data does not fill its shape")
    return np.frombuffer(data, dtype=DTYPE).reshape(shape)


def _own(words: "NDArray[Any]") -> Words:
    import numpy as np  # noqa: PLC0415

    if words.dtype != np.uint64 or words.ndim != 2:
        raise ValueError("a ring tensor is a matrix of uint64 words")
    return words


# Not in representations: words are not for logs.
RingTensor = Annotated[Words, PlainValidator(_unpack), PlainSerializer(_pack), Field(repr=False)]


def expect(words: Words, *shape: int) -> Words:
    """Return the same words, if they have this shape.

    Raises:
        ShapeProblem: they do not; the text names both shapes and no content.
    """
    if words.shape != shape:
        raise ShapeProblem(f"a tensor of shape {words.shape} came where {shape} was due")
    return words
