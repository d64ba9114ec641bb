"""Logs one run by the actions that its machine asks for."""

from collections.abc import Callable

import structlog

from tercet.agents.core.states import State
from tercet.agents.machine import actions
from tercet.agents.machine.machine import RunMachine

Observer = Callable[[actions.Action], None]
"""Called with each action of a run before it is carried out; it decides nothing."""


class RunLog:
    """Observes a run's actions, and keeps the last detail for this party's operator.

    Lines carry the job, attempt and party that are bound to the caller's context.
    """

    def __init__(self, machine: RunMachine) -> None:
        self._machine, self._log = machine, structlog.get_logger()
        self.detail: str | None = None

    def __call__(self, action: actions.Action) -> None:
        """Log an action that somebody would look for."""
        machine, attempts = self._machine, self._machine.attempts
        match action:
            case actions.AbandonAttempt(fault) if fault is not None:
                self._log.warning("attempt is over", **fault.model_dump(exclude={"verdict"}))
            case actions.RecordAttempt():
                self._log.info("attempt begins", number=attempts.number, helper=attempts.helper)
            case actions.TellOperator(detail):
                self.detail = detail
                self._log.warning("the operator should know", why=detail)
            case actions.EnterState(state):
                self._log.info("state", state=state)
                if state == State.FAILED and machine.failure is not None:
                    failure = machine.failure.model_dump(exclude={"verdict"})
                    self._log.error("job failed", **failure, detail=machine.detail or self.detail)
                elif state == State.CANCELLED:
                    self._log.warning("job cancelled", by=machine.cancelled_by)
