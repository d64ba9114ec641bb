"""Simulations through the public face run in virtual time, as those of other tests do."""

import pytest

from tercet.agents.core import event_loop
from tests.virtual_time import VirtualLoop


@pytest.fixture(autouse=True)
def virtual_loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for each other took a fifth of what simulations took; in real time all is as in life."""
    if not request.node.get_closest_marker("real_time"):
        monkeypatch.setattr(event_loop, "loop_factory", lambda: VirtualLoop)
