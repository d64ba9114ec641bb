"""What a job costs at one party, as status and benchmarks say it."""

import time

import pytest

from tercet.agents.session.statistics import Statistics


def test_a_step_lasts_as_long_as_all_steps_divided_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in a few may be long."""
    clock = iter([0.0, 1.0, 1.5, 2.0, 5.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    statistics = Statistics()
    assert statistics.seconds_per_step is None
    statistics.start_steps()
    for step in range(4):
        statistics.note_step(0, step)
    assert statistics.seconds_per_step == 5.0 / 4
