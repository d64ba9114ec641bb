"""Serves scores of single rows at one agent: asks its partners, and answers them.

What it takes for that is loaded by the first request, so that an agent that serves none starts without.
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import structlog

from tercet.agents.core.problems import JobProblem
from tercet.agents.policy.audit_log import AuditLog
from tercet.agents.policy.budget import Budget
from tercet.broker.interface.base import Broker
from tercet.broker.interface.dead_letters import BURST, EVERY_SECONDS
from tercet.broker.interface.rate_limiter import RateLimiter
from tercet.broker.sealing.identity import Identity
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import ScoreAnswer, ScoreQuery, ScoreRefusal, ScoreReply, ScoreRequest

if TYPE_CHECKING:
    from tercet.agents.serving.answering import ScoreAnswerer
    from tercet.agents.serving.asking import ScoreAsker

STAGE = "serving"


class Serving:
    """Serves scores at one agent; `spawn` runs a task for as long as the agent lives."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        broker: Broker,
        budget: Budget,
        log: AuditLog,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._settings, self._identity, self._broker = settings, identity, broker
        self._budget, self._audit, self._spawn = budget, log, spawn
        self._complaints = RateLimiter(BURST, EVERY_SECONDS)
        self._asker: ScoreAsker | None = None
        self._answerer: ScoreAnswerer | None = None

    def use_settings(self, settings: Settings) -> None:
        """Serve by other settings from now on."""
        self._settings = settings
        for one in (self._asker, self._answerer):
            if one is not None:
                one.use_settings(settings)

    def handle_message(self, address: Address, message: ScoreRequest | ScoreAnswer | ScoreRefusal) -> None:
        """Take what a partner asks or answers."""
        if isinstance(message, ScoreRequest):
            self._answering.handle_request(address, message)
        elif self._asker is not None:  # who has not asked hears nothing
            self._asker.handle_answer(address, message)

    async def score(self, query: ScoreQuery) -> ScoreReply:
        """Answer this party's own server."""
        try:
            return await self._asking.score(query)
        except JobProblem as problem:
            withheld = self._complaints.admit(problem.code)
            if withheld is not None:
                why = problem.detail or problem.reason
                structlog.get_logger().info(
                    "no score", model=query.model, code=problem.code, why=why, withheld=withheld
                )
            return ScoreReply(failure=problem.failure(STAGE, verdict=False))

    @property
    def _asking(self) -> "ScoreAsker":
        from tercet.agents.serving.asking import ScoreAsker  # noqa: PLC0415 - arrays and tables

        if self._asker is None:
            self._asker = ScoreAsker(self._settings, self._identity, self._broker, self._spawn)
        return self._asker

    @property
    def _answering(self) -> "ScoreAnswerer":
        from tercet.agents.serving.answering import AnsweringServices, ScoreAnswerer  # noqa: PLC0415

        if self._answerer is None:
            services = AnsweringServices(self._identity, self._broker, self._budget, self._audit)
            self._answerer = ScoreAnswerer(self._settings, services, self._spawn)
        return self._answerer
