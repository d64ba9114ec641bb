"""Runs an agent: takes jobs from partners and its console, runs many at once, answers.

It wires the parts together; `runs` carries one job out. It holds no job's data: that ends with the run, and only the
record stays.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

from tercet.agents.access.console_client import LocalAnswer, LocalRequest, Request
from tercet.agents.access.settings_digest import settings_digests
from tercet.agents.access.state_folder import make_state_folder, report_unusable
from tercet.agents.core import logs
from tercet.agents.core.states import TERMINAL
from tercet.agents.daemon.ping import Pinger
from tercet.agents.daemon.standing_queue import StandingQueue
from tercet.agents.jobs.registry import Jobs
from tercet.agents.jobs.requests import RequestHandler
from tercet.agents.messaging.mailbox import Tap
from tercet.agents.policy.audit_log import AuditLog
from tercet.agents.policy.budget import Budget
from tercet.agents.policy.budget_file import FILE, BudgetFile
from tercet.agents.roles.release import discard
from tercet.agents.runs.run import JobRun, Services
from tercet.agents.serving.serving import Serving
from tercet.agents.session.checkpoint_store import discard_old
from tercet.agents.session.context import system_randomness, work_folder
from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, Delivery
from tercet.broker.sealing.identity import Identity, PublicIdentity
from tercet.mpc.arithmetic.ring import use_threads, warm_up
from tercet.schemas.files.job import AnyJob
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import Round
from tercet.schemas.messages.kinds import (
    LOWEST_VERSION,
    PROTOCOL_VERSION,
    Decide,
    JobStatus,
    Prune,
    Query,
    ScoreQuery,
    Status,
)


class Agent:
    """Runs one party's agent by `serve`; the other methods may be called meanwhile."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        broker: Broker,
        *,
        contribute: Callable[[], bytes] = system_randomness,
        tap: Tap | None = None,
        finished: Callable[[JobRun], None] = lambda _: None,
    ) -> None:
        """Make an agent; `tap` and `finished` (given each ended run) are for the simulator.

        `contribute` is for tests.
        """
        self.settings, self._identity, self._broker = settings, identity, broker
        self._audit, self._audit_opened = AuditLog(settings.state / "audit.log", self.me, identity), asyncio.Event()
        self._budget = Budget(BudgetFile(settings.state / FILE))
        versions = LOWEST_VERSION, PROTOCOL_VERSION
        self._services = Services(settings, identity, broker, contribute, tap, versions, self._audit, self._budget)
        self.jobs = Jobs(self._services, self._spawn, finished)
        self.requests = RequestHandler(self._services, self.jobs, self._spawn)
        pinger = self._pinger = Pinger(settings, identity, broker, self._spawn)
        handle_partner, spawn = self.requests.handle_partner, self._spawn
        serving = self._serving = Serving(settings, identity, broker, self._budget, self._audit, spawn=spawn)
        self._standing_queue = StandingQueue(
            settings,
            identity,
            broker,
            handle_partner,
            self._answer_key_holder,
            pinger=pinger,
            serving=serving,
            spawn=spawn,
        )
        self._tasks = asyncio.TaskGroup()
        self.ready = asyncio.Event()
        self._log = structlog.get_logger()

    @property
    def me(self) -> str:
        """This party."""
        return self.settings.party

    @property
    def key(self) -> PublicIdentity:
        """This party's own."""
        return self._identity.public

    @property
    def is_busy(self) -> bool:
        """Tell whether a job runs here."""
        return bool(self.jobs.runs)

    @property
    def runs(self) -> tuple[JobRun, ...]:
        """The jobs that run here now."""
        return tuple(self.jobs.runs.values())

    @property
    def is_draining(self) -> bool:
        """Tell whether it was told to stop, and takes no more jobs."""
        return self.jobs.is_draining

    @property
    def refused(self) -> Mapping[str, int]:
        """Number of messages that the standing queue has refused, by the name of the error."""
        return self._standing_queue.refused

    async def serve(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then let running jobs end, or end them, and leave.

        Raises:
            Invalid: the state folder cannot be used.
            BrokerError: another agent of this party runs, or the broker refuses.
        """
        logs.bind_party(self.me)
        use_threads(self.settings.limits.threads)
        await asyncio.to_thread(warm_up)  # before there is a heartbeat or a deadline that it could hold up
        with report_unusable(self.settings.state):
            make_state_folder(self.settings.state)
        async with self._tasks:
            with report_unusable(self.settings.state):
                running = self.jobs.recall_records()
            queue = topology.standing_queue(self.me, self.settings.partners)
            await self._broker.declare(queue)
            consumer = await self._broker.consume(queue.name, self._deliver, topology.lane(Round.CONTROL))
            with report_unusable(self.settings.state):
                self._open_audit()
                discard(work_folder(self.settings))  # of an earlier life; no other agent of this name can be at work
                unfinished = {record.job.id for record in running if record.status.state not in TERMINAL}
                discard_old(self.settings.state, unfinished, self.settings.recovery.keep_days)
            self.jobs.resume_recalled(running)
            self.ready.set()
            self._log.info("agent is up", role=self.settings.role, key=str(self._identity.public))
            await self._await_stop(stop)
            await consumer.cancel()
            await self.jobs.drain()
        self._log.info("agent has left")

    def _open_audit(self) -> None:
        """Open audit log and budget, once no other agent of this party can write them."""
        self._budget.open(self._audit.open(records=len(self.jobs.last_status)))
        self._audit_opened.set()

    async def _deliver(self, delivery: Delivery) -> None:
        await self._audit_opened.wait()
        await self._standing_queue.deliver(delivery)

    async def _await_stop(self, stop: asyncio.Event) -> None:
        waiting: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        broken: asyncio.Future[Any] = asyncio.ensure_future(self._broker.failed)
        try:
            done, _ = await asyncio.wait({waiting, broken}, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()
        finally:
            waiting.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.create_task(work)

    async def use_settings(self, settings: Settings) -> None:
        """Use other tables, partners and policy from now on; running jobs keep theirs.

        Raises:
            BrokerError: new partners cannot be heard; nothing has changed.
        """
        if settings.partners.keys() - self.settings.partners.keys():
            await self._broker.declare(topology.standing_queue(self.me, settings.partners))
        self.settings = settings
        self.jobs.use_settings(settings)
        self.requests.use_settings(settings)
        self._standing_queue.use_settings(settings)
        self._pinger.use_settings(settings)
        self._serving.use_settings(settings)

    async def answer_local(self, request: LocalRequest) -> LocalAnswer:
        """Answer what comes in at the agent's socket: the console's questions, and its server's."""
        return await self._serving.score(request) if isinstance(request, ScoreQuery) else await self.answer(request)

    async def answer(self, request: Request, *, on_page: bool = False) -> Status:
        """Answer what the party's own console asks, or its page (`on_page`).

        A console asks through the broker or at the agent's socket.
        """
        if isinstance(request, Prune):
            return await self.requests.prune(request)
        more: dict[str, Any] = {}
        status = self.requests.handle_console(request, on_page=on_page)
        if isinstance(request, Query) and request.partners:
            more["partners"] = await self._pinger.ping_partners()
        if isinstance(request, Query) and request.settings:
            more["settings"] = tuple(settings_digests(self.settings).items())
        return status.model_copy(update=more)

    async def _answer_key_holder(self, request: Request) -> Status:
        """Answer a console at the broker, which has the key, and says itself whose it is."""
        if isinstance(request, Decide) and request.approve and self.settings.policy.approvals > 1:
            return Status(
                problem="[policy] approvals counts persons, and through the broker nobody knows who you are: approve "
                "on the agent's own machine, or on its page"
            )
        return await self.answer(request)

    # --- its jobs

    def submit(self, description: AnyJob) -> JobStatus:
        """See `Jobs.submit`."""
        return self.jobs.submit(description)

    def cancel(self, job: str) -> None:
        """See `Jobs.cancel`."""
        self.jobs.cancel(job)

    def resume(self, job: str) -> None:
        """See `Jobs.resume`."""
        self.jobs.resume(job)

    def status(self, job: str | None = None) -> tuple[JobStatus, ...]:
        """See `Jobs.status`."""
        return self.jobs.status(job)
