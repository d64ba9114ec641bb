"""Trains the models that rows are served by, before a test has a loop of its own."""

import pytest

from tests.agents.scenes import quick_switches as quick_switches  # a fixture
from tests.agents.serving.stage import CLASSES, THREE, TWO, model_folder


@pytest.fixture(autouse=True, scope="session")
def models() -> None:
    """Make each once for all tests."""
    for sample in (TWO, THREE, CLASSES):
        model_folder(sample)
