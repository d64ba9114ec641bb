"""Whatever is read from others or from a disk ends in what was promised or in the one documented error."""

import json
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import every_value_replaced, inputs, one_place_changed
from tests.fuzz.targets import SLACK, TARGETS, Target

EXAMPLES = 150


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bytes_end_in_what_is_promised_and_take_little_memory(target: Target, data: st.DataObject) -> None:
    """Random ones, and valid ones with some changes."""
    given_ = data.draw(inputs(target.seeds()))
    tracemalloc.start()
    try:
        target.run(given_)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < SLACK + target.memory * len(given_), f"{peak} bytes for {len(given_)}"


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_fuzzing_begins_with_is_read(target: Target) -> None:
    """Else all that follows would be refused at the door."""
    for seed in target.seeds():
        target.run(seed)


WRITTEN = ("settings", "job", "credentials", "manifest", "record")  # texts with names and values
MOST_VALUES = 40


@pytest.mark.parametrize("name", WRITTEN)
def test_every_value_may_be_anything(name: str) -> None:
    """Deep nesting, numbers without end, texts that are no texts, in the place of each value in turn."""
    target = TARGETS[name]
    for seed in target.seeds():
        for text in every_value_replaced(seed, MOST_VALUES):
            target.run(text)


@pytest.mark.parametrize("name", ["manifest", "record"])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_part_of_a_file_of_ours_may_be_another(name: str, data: st.DataObject) -> None:
    """It is JSON as before, and says something else in one place."""
    target = TARGETS[name]
    content = json.loads(data.draw(st.sampled_from(target.seeds())))
    target.run(json.dumps(data.draw(one_place_changed(content))).encode())
