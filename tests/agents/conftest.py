"""What several files of tests at the agents' level share."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

import pytest

import tercet.mpc.plan.planner
from tests.virtual_time import VirtualLoop


@pytest.fixture
def quiet_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise on what the helper sees that is too small to matter, so that plaintext can be compared with."""
    monkeypatch.setattr(tercet.mpc.plan.planner, "noise_bits_of", lambda _: 24)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests in virtual time, but for those that are marked as having to do with sockets or processes."""
    if item.get_closest_marker("real_time"):
        return {"real": asyncio.new_event_loop}
    return {"virtual": partial(VirtualLoop, threads=item.get_closest_marker("threads") is not None)}
