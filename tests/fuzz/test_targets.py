"""Whatever is read from others or from a disk ends in what was promised or in the one documented error."""

import base64
import json
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import every_value_replaced, inputs, one_place_changed
from tests.fuzz.targets import SLACK, TARGETS, Target

EXAMPLES = 25


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bytes_end_in_what_is_promised_and_take_little_memory(target: Target, data: st.DataObject) -> None:
    """Random ones, and valid ones with some changes."""
    value = data.draw(inputs(target.seeds()))
    tracemalloc.start()
    try:
        target.run(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < SLACK + target.memory_mib * len(value), f"{peak} bytes for {len(value)}"


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_fuzzing_begins_with_is_read(target: Target) -> None:
    """Else all that follows would be refused at the door."""
    for seed in target.seeds():
        target.run(seed)


WRITTEN = ("settings", "job", "credentials", "manifest", "record", "audit-line")  # texts with names and values
MOST_VALUES = 40


@pytest.mark.parametrize("name", WRITTEN)
def test_every_value_may_be_anything(name: str) -> None:
    """Deep nesting, numbers without end, texts that are no texts, in the place of each value in turn."""
    target = TARGETS[name]
    for seed in target.seeds():
        for text in every_value_replaced(seed, MOST_VALUES):
            target.run(text)


@pytest.mark.parametrize("name", ["manifest", "record", "audit-line"])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_part_of_a_file_of_ours_may_be_another(name: str, data: st.DataObject) -> None:
    """It is JSON as before, and says something else in one place."""
    target = TARGETS[name]
    content = json.loads(data.draw(st.sampled_from(target.seeds())))
    target.run(json.dumps(data.draw(one_place_changed(content))).encode())


def in_pem(der: bytes) -> bytes:
    """A key file with this in it."""
    lines = base64.encodebytes(der).replace(b"\n", b"")
    return b"-----BEGIN PRIVATE KEY-----\n" + lines + b"\n-----END PRIVATE KEY-----\n"


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_key_file_may_be_well_formed_and_hold_anything(data: st.DataObject) -> None:
    """Below the text there is another format, with algorithms of its own."""
    (pem,) = TARGETS["key"].seeds()
    der = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    TARGETS["key"].run(in_pem(data.draw(inputs([der]))))


ED25519, UNKNOWN = bytes.fromhex("06032b6570"), bytes.fromhex("06032b5570")
FOUND: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("settings", lambda _: b"a = " + b"[" * 3000),
    ("settings", lambda _: b"a = " + b"9" * 5000),
    ("settings", lambda seed: seed.replace(b'"~/tercet"', b'"~nobody-of-this-name/tercet"')),
    ("job", lambda seed: seed.replace(b"patience = 2", b"patience = 18446744073709551616")),
    ("credentials", lambda _: b"a = " + b"[" * 3000),
    ("manifest", lambda _: b"[" * 100_000),
    ("manifest", lambda seed: seed.replace(b'"party": "bank"', b'"party": "card2"')),
    ("key", lambda seed: in_pem(base64.b64decode(b"".join(seed.splitlines()[1:-1])).replace(ED25519, UNKNOWN))),
]


@pytest.mark.parametrize(("name", "spoil"), FOUND, ids=lambda one: one if isinstance(one, str) else "")
def test_what_fuzzing_has_found_stays_mended(name: str, spoil: Callable[[bytes], bytes]) -> None:
    """Each of these was once another exception than the documented one."""
    seed = TARGETS[name].seeds()[0]
    assert spoil(seed) != seed
    TARGETS[name].run(spoil(seed))
