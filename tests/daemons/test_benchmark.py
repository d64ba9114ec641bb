"""The benchmark measures what it says: the same job several times, with nothing beside it on the machine."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks import serve, statistics, step
from benchmarks.cases import CASES, Digits
from benchmarks.deployed import Parties
from tests.deployment import Deployment
from tests.test_namespaces import namespaces, possible


@pytest.fixture
def printed(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Runs a benchmark over this broker and returns what it prints."""

    def run(benchmark: ModuleType, *arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [benchmark.__name__, *arguments, "--url", amqp_url])
        benchmark.main()
        out, reported = capsys.readouterr()
        result: dict[str, Any] = json.loads(out)
        return result | {"told": reported}

    return run


@pytest.fixture
def measured(printed: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Runs the benchmark of steps on a small job and returns what it prints."""
    table = "--rows", "200", "--columns", "24"
    return partial(printed, step, *table, "--batch", "64", "--epochs", "1", "--helper-sees", "scores")


def test_both_ways_end_in_the_same_words_and_only_one_command_is_run(
    measured: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that submits the job; a command line beside the agents would be measured with them."""
    commands: list[tuple[str, ...]] = []

    def noting(real: Callable[..., Any]) -> Callable[..., Any]:
        def command(deployment: Deployment, *arguments: str, party: str = "bank") -> Any:
            commands.append(arguments[:2])
            return real(deployment, *arguments, party=party)

        return command

    monkeypatch.setattr(Deployment, "asked", noting(Deployment.asked))
    monkeypatch.setattr(Deployment, "console", noting(Deployment.console))
    result = measured()
    assert result["in_process"]["bit_exact"] is True
    assert result["rabbitmq"]["identical"] is True
    assert commands == [("job", "submit")]
    for way in ("in_process", "rabbitmq"):
        assert result[way]["seconds_per_step"] > 0
        assert result[way]["bytes_per_step"] > 8 * 64 * 24
    assert result["rabbitmq"]["processor_ms_per_step"].keys() >= {"bank", "card", "notary"}


def test_a_customer_is_served_over_rabbitmq_and_it_is_said_how_long_that_took(
    printed: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By three agents and a server, each a process of its own; how long is the machine's affair."""
    monkeypatch.setattr(serve, "WARM", 1)
    result = printed(serve, "--rate", "20", "--seconds", "0.25", "--rows", "200", "--columns", "24")
    for name in ("new_rows", "the_same_again"):
        assert 0 < result[name]["p50_ms"] <= result[name]["p99_ms"] <= result[name]["most_ms"]
        assert result[name]["processor_ms_per_request"].keys() == {"bank", "card", "serve"}
    assert result["requests"] == 5


def test_a_statistics_job_is_measured_over_rabbitmq_to_its_end(printed: Callable[..., dict[str, Any]]) -> None:
    """By the id that the command gives it, whatever its file says."""
    result = printed(statistics, "--rows", "600", "--columns", "2", "--bins", "4", "--over", "rabbitmq")
    assert "mathematics" not in result
    measured = result["rabbitmq"]
    assert measured["attempts"] == 1
    assert measured["seconds"] > measured["stage_seconds"]["bank"]["counting"] > 0
    assert all(count > 0 for count in measured["sent_bytes"].values())


@possible
def test_a_network_with_a_delay_changes_the_time_and_not_the_model(
    measured: Callable[..., dict[str, Any]],
) -> None:
    """A step lasts a round trip at least; what it was spent on is told, and no namespace is left."""
    before = namespaces()
    result = measured("--delay", "2", "--trace")
    assert result["wide_area"]["identical"] is True
    assert result["wide_area"]["round_trip_ms"] >= 4.0
    assert result["wide_area"]["seconds_per_step"] >= 0.004
    assert "rabbitmq" not in result
    assert result["told"].count("the median of the last") == 3
    assert namespaces() == before


@pytest.mark.parametrize("model", ["softmax", "mlp"])
def test_the_plaintext_step_of_digits_learns_them(model: str) -> None:
    """Whatever is compared with it is compared with something that works."""
    case = CASES[model](argparse.Namespace(batch=128, helper_sees="scores"))
    assert isinstance(case, Digits)
    step, before = case.numpy_step(), case.mistakes()
    for epoch in range(15):
        order = np.random.default_rng(epoch).permutation(len(case.y))
        for start in range(0, len(order), 128):
            step(order[start : start + 128])
    assert before > 0.5
    assert case.mistakes() < 0.05


@pytest.mark.parametrize(("released", "same"), [(1, True), (2, False)])
def test_two_runs_that_differ_are_not_called_identical(
    monkeypatch: pytest.MonkeyPatch, released: int, same: bool
) -> None:
    """The words of one are what the other's agents have released, or they are not."""
    status: dict[str, Any] = {
        "steps": 1,
        "seconds_per_step": 1.0,
        "sent_bytes": {},
        "processor_seconds": None,
        "model_part": "part",
    }
    status["stage_seconds"] = {"training": 1.0}
    job = CASES["logistic"](
        argparse.Namespace(batch=64, rows=400, columns=24, epochs=3, helper_sees="scores", checks=2)
    ).job()
    around = SimpleNamespace(run=lambda _: (dict.fromkeys(job.parties, status), None))
    monkeypatch.setattr(step, "_released", lambda parts, label: {"bank": np.full((3, 1), released, np.uint64)})
    words = {"bank": np.ones((3, 1), np.uint64)}
    assert step.measured(cast("Parties", around), job, words, trace=False)["identical"] is same


def test_a_word_that_differs_is_seen() -> None:
    """So is a block too many."""
    words = {"bank": np.zeros((3, 1), np.uint64), "intercept": np.ones((1, 1), np.uint64)}
    assert step.identical(words, {block: array.copy() for block, array in words.items()})
    assert not step.identical(words, words | {"intercept": np.zeros((1, 1), np.uint64)})
    assert not step.identical(words, words | {"card": np.zeros((3, 1), np.uint64)})
