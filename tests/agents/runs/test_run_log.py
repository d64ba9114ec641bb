"""What a run logs follows from its machine's actions alone."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tercet.agents.core.states import State
from tercet.agents.machine import actions
from tercet.agents.machine.machine import RunMachine
from tercet.agents.runs.run_log import RunLog
from tercet.schemas.messages.kinds import Failure

FAILURE = Failure(code="disk.write", culprit="card", stage="aligned", reason="its disk is full", verdict=True)
SAID = FAILURE.model_dump(exclude={"verdict"})


def logged(*todo: actions.Action) -> list[dict[str, Any]]:
    """The lines of a run whose machine asks for these actions."""
    attempts = SimpleNamespace(number=2, helper="notary")
    machine = SimpleNamespace(attempts=attempts, failure=FAILURE, detail=None, cancelled_by="bank")
    log = RunLog(cast(RunMachine, machine))
    with capture_logs() as found:
        for action in todo:
            log(action)
    return cast(list[dict[str, Any]], found)


@pytest.mark.parametrize(
    ("action", "lines"),
    [
        (actions.AbandonAttempt(FAILURE), [{"event": "attempt is over", "log_level": "warning", **SAID}]),
        (actions.AbandonAttempt(), []),
        (
            actions.RecordAttempt(),
            [{"event": "attempt begins", "log_level": "info", "number": 2, "helper": "notary"}],
        ),
        (actions.EnterState(State.READY), [{"event": "state", "log_level": "info", "state": "ready"}]),
        (
            actions.EnterState(State.CANCELLED),
            [
                {"event": "state", "log_level": "info", "state": "cancelled"},
                {"event": "job cancelled", "log_level": "warning", "by": "bank"},
            ],
        ),
        (actions.StartAttempt(), []),
        (actions.SendHeartbeat(), []),
    ],
    ids=lambda one: type(one).__name__,
)
def test_an_action_has_its_lines(action: actions.Action, lines: list[dict[str, Any]]) -> None:
    assert logged(action) == lines


def test_a_failure_is_logged_with_what_the_operator_should_know() -> None:
    """Which other parties do not read, so that it is in no message."""
    *_, failed = logged(actions.TellOperator("/var: no space"), actions.EnterState(State.FAILED))
    assert failed == {"event": "job failed", "log_level": "error", **SAID, "detail": "/var: no space"}
