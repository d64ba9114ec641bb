"""What several files of tests at the agents' level share."""

import pytest

import mpc.planner


@pytest.fixture
def quiet_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise on what the helper sees that is too small to matter, so that plaintext can be compared with."""
    monkeypatch.setattr(mpc.planner, "noise_bits_of", lambda _: 24)
