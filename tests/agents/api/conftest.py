"""Simulations through the public face run in virtual time and one thread, as those of other tests do."""

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from tercet.agents.api import simulation
from tercet.agents.core.event_loop import RunCoroutine, first_error
from tests import virtual_time

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """An error of a group of tasks comes alone."""
    try:
        return virtual_time.run(coroutine)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


@contextmanager
def virtual_loop() -> Iterator[RunCoroutine]:
    """What stands in the place of a loop in the background."""
    yield run


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for each other took a fifth of what simulations took; in real time all is as in life."""
    if not request.node.get_closest_marker("real_time"):
        monkeypatch.setattr(simulation, "background_loop", virtual_loop)
