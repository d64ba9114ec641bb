"""The benchmark measures what it says: the same job twice, with nothing beside it on the machine."""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks import step
from tests.deployment import Deployment
from tests.fixed_agent import fixed_contribution


@pytest.fixture
def measured(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Runs the benchmark on a small job and returns what it prints."""
    small = ["--rows", "400", "--columns", "24", "--batch", "64", "--epochs", "3", "--url", amqp_url]

    def measure(*arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["step", *small, *arguments])
        step.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return measure


def test_both_ways_end_in_the_same_words_and_only_one_command_is_run(
    measured: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that submits the job; a command line beside the agents would be measured with them."""
    commands: list[tuple[str, ...]] = []
    real = Deployment.tercet

    def tercet(deployment: Deployment, *arguments: str, party: str = "bank") -> Any:
        commands.append(arguments[:2])
        return real(deployment, *arguments, party=party)

    monkeypatch.setattr(Deployment, "tercet", tercet)
    result = measured()
    assert result["in_process"]["bit_exact"] is True
    assert result["rabbitmq"]["identical"] is True
    assert commands == [("job", "submit")]
    for way in ("in_process", "rabbitmq"):
        assert result[way]["seconds_per_step"] > 0
        assert result[way]["bytes_per_step"] > 8 * 64 * 24
    assert result["rabbitmq"]["processor_ms_per_step"].keys() >= {"bank", "card", "notary"}


def test_two_runs_that_differ_are_not_called_identical(
    measured: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here because this process draws other contributions than the agents."""
    monkeypatch.setattr(step, "fixed_contribution", lambda party: fixed_contribution(f"not {party}"))
    result = measured()
    assert result["in_process"]["bit_exact"] is True
    assert result["rabbitmq"]["identical"] is False


def test_a_word_that_differs_is_seen() -> None:
    """So is a block too many."""
    words = {"bank": np.zeros((3, 1), np.uint64), "intercept": np.ones((1, 1), np.uint64)}
    assert step.identical(words, {block: array.copy() for block, array in words.items()})
    assert not step.identical(words, words | {"intercept": np.zeros((1, 1), np.uint64)})
    assert not step.identical(words, words | {"card": np.zeros((3, 1), np.uint64)})
