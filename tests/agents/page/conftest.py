"""Passwords cost little here: at full cost a hash takes a processor 50 ms and 64 MiB."""

from functools import cache

import pytest
from argon2 import PasswordHasher

from tercet.agents.page import users


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash as ever, but once over a few bytes."""
    monkeypatch.setattr(users, "_hasher", cache(lambda: PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)))
