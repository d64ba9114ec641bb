"""The wire format: what is valid always encodes and comes back, and whatever else comes ends in the one error."""

import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.schemas.messages.codec import LARGE, Companion, MalformedMessage, decode, decode_all, encode
from tercet.schemas.messages.kinds import (
    BODY_VERSION,
    Accept,
    JobStatus,
    Message,
    OrderContribution,
    PreactivationShare,
    Sizes,
    Status,
)
from tercet.schemas.messages.message import MODELS
from tercet.schemas.messages.tensor import ShapeProblem, expect
from tests.schemas.strategies import EACH, messages, words

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


SIZES = {"rows": 1, "held_out": 0, "columns": 1, "model": None}


def envelope(*content: Any) -> bytes:
    """A body of this version: kind, item, fields and what else is in it."""
    return bytes(msgpack.packb([BODY_VERSION, *content]))


def fields(message: Message) -> dict[str, Any]:
    """A message as plain values, in which tensors can be compared."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in ((name, getattr(message, name)) for name in type(message).model_fields)
    }


def test_every_kind_of_message_is_known_to_the_codec_and_to_these_tests() -> None:
    """And no two share kind and item, by which a reader tells them apart."""
    assert set(MODELS.values()) == set(Message.__subclasses__()) == set(EACH)
    assert len(MODELS) == len(EACH)


@pytest.mark.parametrize("model", EACH, ids=lambda model: model.__name__)
@settings(max_examples=max(1, settings().max_examples * 2 // 5))  # there are many kinds
@given(data=st.data())
def test_a_valid_message_encodes_and_comes_back_the_same(model: type[Message], data: st.DataObject) -> None:
    """Of every kind, with its type."""
    message = data.draw(EACH[model])
    back = decode(encode(message))
    assert type(back) is model
    assert fields(back) == fields(message)
    assert encode(back) == encode(message)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_the_one_error(data: bytes) -> None:
    """Nothing else comes out, whatever comes in."""
    try:
        message = decode(data)
    except MalformedMessage:
        return
    assert isinstance(message, Message)


@given(plain)
def test_any_msgpack_is_a_message_or_the_one_error(value: Any) -> None:
    """Well-formed nonsense too."""
    with pytest.raises(MalformedMessage):
        decode(msgpack.packb(value))


@given(st.sampled_from(sorted(MODELS)), plain)
def test_any_fields_are_a_valid_message_or_the_one_error(kind: tuple[str, str], value: Any) -> None:
    """A right envelope around anything."""
    try:
        message = decode(envelope(*kind, value))
    except MalformedMessage:
        return
    assert decode(encode(message)) is not None


@given(messages, st.data())
def test_a_changed_byte_gives_a_valid_message_or_the_one_error(message: Message, data: st.DataObject) -> None:
    """The seal finds changes; the codec must only survive them."""
    body = bytearray(encode(message))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    problem = ""
    try:
        decode(bytes(body))
    except MalformedMessage as error:
        problem = str(error)
    assert len(problem) < 200


@given(messages, st.data())
def test_a_cut_or_lengthened_message_is_none(message: Message, data: st.DataObject) -> None:
    """A body is exactly one message."""
    body = encode(message)
    for wrong in (body[: data.draw(st.integers(0, len(body) - 1))], body + b"\xc0"):
        with pytest.raises(MalformedMessage):
            decode(wrong)


@given(messages.filter(lambda message: len(fields(message)) > 0), st.data())
def test_a_missing_or_unknown_field_is_refused(message: Message, data: st.DataObject) -> None:
    """A reader knows all that a sender says, or says that it does not."""
    version, kind, item, content = msgpack.unpackb(encode(message))
    required = [name for name, field in type(message).model_fields.items() if field.is_required()]
    variants = [{**content, "extra": 1}]
    if required:
        missing = data.draw(st.sampled_from(required))
        variants.append({name: value for name, value in content.items() if name != missing})
    for variant in variants:
        with pytest.raises(MalformedMessage, match="field"):
            decode(msgpack.packb([version, kind, item, variant]))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not msgpack"),
        (b"\x81" * 2000 + b"\xc0", "not msgpack"),
        (b"\x91" * 100_000, "not msgpack"),
        (b"\xdd\xff\xff\xff\xff", "not msgpack"),
        (b"\xc7\x0c\xff" + b"\xff" * 12, "not msgpack"),
        (b"\xd6\xff\x00\x00\x00\x00", "not msgpack"),
        (b"\x91\xc7\x00\x05", "not msgpack"),
        (b"\xdd\x00\x00\x10\x01" + bytes(4097), "not msgpack"),
        (msgpack.packb([BODY_VERSION - 1, "accept", "accept", {"version": 1}]), f"schema version {BODY_VERSION - 1}"),
        (msgpack.packb([BODY_VERSION + 1, "accept", "accept", {"version": 1}]), f"schema version {BODY_VERSION + 1}"),
        (envelope("accept", "another", {}), "no known kind"),
        (envelope("pseudonyms", "pseudonyms", {"pseudonyms": bytes(17), "last": True}), "field 'pseudonyms'"),
        (envelope("blinded ids", "blinded", {"elements": bytes(16), "last": True}), "field 'elements'"),
        (envelope("sizes", "sizes", SIZES | {"rows": "1"}), "field 'rows'"),
        (envelope("sizes", "sizes", SIZES | {"rows": 1.0}), "field 'rows'"),
        (envelope("sizes", "sizes", SIZES | {"rows": True}), "field 'rows'"),
        (envelope("sizes", "sizes", SIZES | {"rows": -1}), "field 'rows'"),
        (envelope("sizes", "sizes", SIZES | {"rows": 2**40}), "field 'rows'"),
    ],
)
def test_the_error_says_what_is_wrong_and_quotes_nothing(body: bytes, why: str) -> None:
    """Deep nesting, sizes that are not there, other versions, wrong types and numbers out of range."""
    with pytest.raises(MalformedMessage, match=why):
        decode(body)


def array(length: int) -> bytes:
    """The head of an array."""
    return b"\xdd" + length.to_bytes(4, "big")


MAPS = 1_000_000
BOMBS = {
    "maps in one array": array(MAPS) + b"\x80" * MAPS,
    "maps in many arrays": array(1000) + (array(1000) + b"\x80" * 1000) * 1000,
    "arrays in many arrays": array(1000) + (array(1000) + b"\x90" * 1000) * 1000,
    "maps of maps": array(1000) + (b"\xde\x00\xfa" + b"".join(b"\xa2%02x\x80" % n for n in range(250))) * 1000,
    "short texts": array(500) + (array(1000) + b"\xa2ab" * 1000) * 500,
    "extensions": array(4000) + (array(500) + b"\xc7\x00\x05" * 500) * 4000,
    "room for what never comes": array(100_000) * 1000 + bytes(100_000),
    "room for less": array(4096) * 1000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_body_does_not_become_many_times_its_size(name: str) -> None:
    """An empty map is one byte here and 72 as an object: whoever may send a megabyte must not take 70."""
    body = BOMBS[name]
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage, match="not msgpack"):
            decode(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 34 * 2**20 + 18 * len(body)


def test_a_list_of_thousands_of_jobs_is_no_such_body() -> None:
    """Nor one of jobs of which as little as possible is said."""
    said: dict[str, Any] = dict.fromkeys(("job", "state", "kind", "model", "label", "helper", "submitted"), "a")
    least = JobStatus(**said, parties=())
    for jobs in ((least,), (least,) * 4096):
        assert decode(encode(Status(jobs=jobs))) == Status(jobs=jobs)


def test_a_secret_does_not_show_in_the_error() -> None:
    """A refused contribution is still one."""
    body = envelope("order contribution", "contribution", {"secret": b"hush, hush"})
    with pytest.raises(MalformedMessage) as caught:
        decode(body)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(encode(OrderContribution(secret=bytes(32)))) < 100


# --- tensors


def tensor(**changes: Any) -> bytes:
    """A body with a tensor of two by one words, changed."""
    whole = {"dtype": "<u8", "shape": (2, 1), "data": bytes(16)} | changes
    return envelope("pre-activation share", "output", {"words": whole})


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "<f8"},
        {"dtype": ">u8"},
        {"shape": (2,)},
        {"shape": (2, 1, 1)},
        {"shape": (1, 1)},
        {"shape": (3, 1)},
        {"shape": (-2, -1)},
        {"shape": (2.0, 1)},
        {"shape": (True, 2)},
        {"shape": (2**41, 0)},
        {"shape": "21"},
        {"data": bytes(15)},
        {"data": "0" * 16},
        {"extra": 1},
    ],
)
def test_a_tensor_whose_header_lies_is_refused(changes: dict[str, Any]) -> None:
    """Before any of it is used."""
    with pytest.raises(MalformedMessage, match="'words'"):
        decode(tensor(**changes))


def test_a_tensor_comes_back_as_words_that_cannot_be_written() -> None:
    """They are a view of what came."""
    message = decode(tensor())
    assert isinstance(message, PreactivationShare)
    assert message.words.dtype == np.uint64
    assert not message.words.flags.writeable


@pytest.mark.parametrize("wrong", [np.zeros((2, 1)), np.zeros((2, 1), np.int64), np.zeros(2, np.uint64), [[1], [2]]])
def test_only_matrices_of_words_can_be_sent(wrong: Any) -> None:
    """A float that slipped in would be a share that is none."""
    with pytest.raises(ValueError, match="ring tensor"):
        PreactivationShare(words=wrong)


@given(words)
def test_strides_do_not_matter(block: Any) -> None:
    """A transposed view is sent as what it looks like."""
    back = decode(encode(PreactivationShare(words=block.T)))
    assert isinstance(back, PreactivationShare)
    assert np.array_equal(back.words, block.T)


@given(words, st.tuples(st.integers(0, 6), st.integers(0, 6)))
def test_a_shape_is_expected_exactly(block: Any, shape: tuple[int, int]) -> None:
    """The error names both shapes."""
    if block.shape == shape:
        assert expect(block, *shape) is block
    else:
        with pytest.raises(ShapeProblem, match="came where"):
            expect(block, *shape)


def test_a_message_cannot_be_changed() -> None:
    """What was checked stays what it was."""
    message = Sizes(rows=1, held_out=0, columns=1)
    with pytest.raises(ValueError, match="frozen"):
        message.rows = 2


@pytest.mark.parametrize("large", [False, True])
def test_large_tensors_are_spelt_as_msgpack_spells_them(large: bool) -> None:
    """Though it is not msgpack that copies them, alone or in company."""
    block = np.arange(LARGE // 8 + (0 if large else -1), dtype=np.uint64).reshape(1, -1)
    message, along = PreactivationShare(words=block), Companion(PreactivationShare(words=block), 1, 2)
    body = [BODY_VERSION, message.kind, message.item, message.model_dump()]
    company = [[message.kind, message.item, 1, 2, message.model_dump()]]
    assert encode(message) == msgpack.packb(body)
    assert encode(message, [along]) == msgpack.packb([*body, company])
    assert np.array_equal(decode(encode(message)).words, block)  # type: ignore[attr-defined]


def test_messages_travel_together_and_come_back_with_their_places() -> None:
    """The first has its place in the address of the envelope; what reads one message refuses more."""
    first, second = Accept(), Sizes(rows=2, held_out=1, columns=3)
    body = encode(first, [Companion(second, 4, 5), Companion(first, 6, 7)])
    assert decode_all(body) == (first, (Companion(second, 4, 5), Companion(first, 6, 7)))
    assert decode_all(encode(first)) == (first, ())
    with pytest.raises(MalformedMessage, match="more than one"):
        decode(body)


@pytest.mark.parametrize("entry", [[], ["accept", "accept", 0, 0], ["accept", "accept", -1, 0, {"version": 1}], 7])
def test_what_travels_along_is_checked_as_strictly(entry: object) -> None:
    """Kind, item, epoch, step and fields, all of them."""
    with pytest.raises(MalformedMessage):
        decode_all(envelope("accept", "accept", {"version": 1}, [entry]))
