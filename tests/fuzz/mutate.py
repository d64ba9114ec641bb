"""Inputs for a target, as Hypothesis draws them: anything, and valid ones with some changes.

It knows nothing of any format but that texts are made of lines, brackets and numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

# Numbers and brackets that readers stumble over, and heads of msgpack that announce what never comes.
TOKENS = [
    b"\xdd\xff\xff\xff\xff", b"\xdf\x00\x01\x00\x00", b"\xc6\xff\xff\xff\xff", b"\xc7\x00\x05", b"\xc0", b"\x80",
    b"\x90", b"\xcb\x7f\xf8" + bytes(6), b"\xcf" + b"\xff" * 8, b"\x91" * 600, b"\x81" * 600, b"\xc2", b"[" * 3000,
    b"{" * 3000, b'{"a":' * 1500, b"9" * 5000, b"1e999", b"-1", b"nan", b"inf", b"0x7f", b"true", b"null", b'""',
    b'"""', b"\x00", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"~nobody-of-this-name/x", b"a.b.c", b"[[", b"]]", b"=",
    b"\n", b"\r", b"/", b"1979-05-27T07:32:00Z", b"18446744073709551616", b"-9223372036854775809", b"\xe2\x84\x80",
    b"../..", b"[a]\n[a]\n",
]  # fmt: skip


def _overwrite(data: bytes, at: int, other: bytes) -> bytes:
    return data[:at] + other + data[at + len(other) :]


def _insert(data: bytes, at: int, other: bytes) -> bytes:
    return data[:at] + other + data[at:]


def _cut(data: bytes, at: int, other: bytes) -> bytes:
    return data[:at] + data[at + len(other) :]


def _repeat(data: bytes, at: int, other: bytes) -> bytes:
    part = data[at : at + max(1, len(other))]
    return data[:at] + part * 3 + data[at:]


def _replace_value(data: bytes, at: int, other: bytes) -> bytes:
    """What stands between one `=` or `:` and the end of its line, or the next comma, is something else."""
    places = values(data)
    return _with_value(data, places[at % len(places)], other) if places else _insert(data, at, other)


def values(data: bytes) -> list[int]:
    """Where something seems to begin that has a name."""
    return [place + 1 for place, byte in enumerate(data) if byte in b"=:"]


def _with_value(data: bytes, start: int, other: bytes) -> bytes:
    next_ends = [end for end in (data.find(b"\n", start), data.find(b",", start)) if end >= 0]
    return data[:start] + b" " + other + data[min(next_ends, default=len(data)) :]


def every_value_replaced(seed: bytes, most: int) -> Iterator[bytes]:
    """A seed with each of its first values replaced by every other token, bare and as a text."""
    for number, start in enumerate(values(seed)[:most]):
        for token in TOKENS[number % 2 :: 2]:
            yield _with_value(seed, start, token)
            yield _with_value(seed, start, b'"' + token + b'"')


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def one_place_changed(draw: st.DrawFn, content: Any) -> Any:
    """A value of JSON in which one place, however deep, has another value, is gone or is there twice."""
    if not isinstance(content, dict | list) or not content or draw(st.integers(0, 5)) == 0:
        return draw(json)
    if isinstance(content, dict):
        name = draw(st.sampled_from(sorted(content)))
        if draw(st.integers(0, 9)) == 0:
            return {key: value for key, value in content.items() if key != name}
        return content | {name: draw(one_place_changed(content[name]))}
    place = draw(st.integers(0, len(content) - 1))
    new = draw(st.sampled_from([[], [content[place]] * 2]) | one_place_changed(content[place]).map(lambda one: [one]))
    return [*content[:place], *new, *content[place + 1 :]]


CHANGES: Sequence[Callable[[bytes, int, bytes], bytes]] = (_overwrite, _insert, _cut, _repeat, _replace_value)
pieces = st.binary(min_size=1, max_size=8) | st.sampled_from(TOKENS)


@st.composite
def changed(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A seed with up to four changes, or two seeds in one."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        other = draw(pieces | st.sampled_from(seeds))
        data = draw(st.sampled_from(CHANGES))(data, at, other)
    return data


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Mostly what is nearly valid, since anything else is refused at once."""
    return st.binary(max_size=200) | changed(seeds) | changed(seeds) | changed(seeds)
