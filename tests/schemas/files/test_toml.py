"""What a person wrote in TOML is read, or refused, in a time that grows with its length and no faster."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.agents.access.broker import read_credentials
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import read_job, read_toml
from tercet.schemas.files.settings import read_settings
from tercet.schemas.files.toml import MOST_BYTES, MOST_PARTS, parse_toml

SECONDS = 2.0  # it takes milliseconds, and took nine seconds
DEEP = ".".join("a" * 20_000)
HARMFUL = {
    "a dotted key": f"{DEEP} = 1",
    "a dotted key with blanks": " . ".join("a" * 10_000) + " = 1",
    "a quoted one": ".".join(['"a b"'] * 10_000) + " = 1",
    "a quoted one of the other kind": ".".join(["'a.b'", '"\\"."'] * 5_000) + " = 1",
    "a table": f"[{DEEP}]\nb = 1",
    "a table in a list": f"[[{DEEP}]]\nb = 1",
    "a key in an inline table": f"a = {{ {DEEP} = 1 }}",
    "a key behind a string": f'a = "\'"\n{DEEP} = 1',
    "a list in a list": "a = " + "[" * 20_000,
    "a table in a table": "a = " + "{a=" * 15_000,
}


@pytest.mark.parametrize("read", [read_toml, read_job, read_settings, read_credentials])
@pytest.mark.parametrize("text", HARMFUL.values(), ids=HARMFUL)
def test_a_key_without_end_is_refused_at_once(tmp_path: Path, read: Callable[[Path], Any], text: str) -> None:
    """In a job, in settings and in a login; the parser takes the square of its parts."""
    path = tmp_path / "x.toml"
    path.write_text(text)
    path.chmod(0o600)
    before = time.monotonic()
    with pytest.raises(Invalid, match="not TOML"):
        read(path)
    assert time.monotonic() - before < SECONDS


@pytest.mark.parametrize("read", [read_toml, read_job, read_settings])
def test_a_file_that_is_too_long_is_not_read_to_its_end(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    """Whatever it holds."""
    path = tmp_path / "x.toml"
    with path.open("wb") as file:
        file.truncate(2**33)  # a hole, which takes no room
    with pytest.raises(Invalid, match=f"longer than {MOST_BYTES} bytes"):
        read(path)


@pytest.mark.parametrize("sign", ["x", "a.", '"', "'", '\\"', "a.a b.", "\n"])
def test_no_text_of_the_allowed_length_takes_long(sign: str) -> None:
    """Right or wrong: the search for such keys passes over it once."""
    before = time.monotonic()
    for text in (sign * (MOST_BYTES // len(sign) - 9), f"a = {sign}" * (MOST_BYTES // (len(sign) + 4))):
        with suppress(ValueError):
            parse_toml(text.encode())
    assert time.monotonic() - before < 5 * SECONDS


@given(st.integers(1, 3 * MOST_PARTS))
def test_keys_have_as_many_parts_as_anybody_writes(parts: int) -> None:
    """And not one more."""
    text = f"{'.'.join('k' * parts)} = 1".encode()
    if parts <= MOST_PARTS:
        assert parse_toml(text)
    else:
        with pytest.raises(ValueError, match="dotted key"):
            parse_toml(text)


def test_texts_with_many_dots_are_no_keys() -> None:
    """A query that names its columns in full, an address, a number."""
    query = "select " + ", ".join(f"s.t.c{number}" for number in range(2_000)) + " from s.t"
    found = parse_toml(
        f'query = "{query}"\nhost = "a.b.c.d.e.f.example.com"\nlong = """\n1. one\n2. two...\n"""'.encode()
    )
    assert found["query"] == query
