"""Runs one attempt of a job at one party: mailbox, thread and role, from policy to result.

Keys, masks and received messages belong to one attempt and end with it. The run decides whether another follows.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

import structlog

from tercet.agents.attempts.admission import check_admission
from tercet.agents.attempts.phases import run_phases
from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.agents.messaging.inbox import Latest
from tercet.agents.messaging.mailbox import Mailbox, Tap
from tercet.agents.policy.approval import Approval
from tercet.agents.policy.audit_log import AuditLog
from tercet.agents.policy.budget import Budget
from tercet.agents.policy.job_audit import JobAudit
from tercet.agents.roles.data_party import DataPartyRole
from tercet.agents.roles.helper import HelperRole
from tercet.agents.roles.prediction import PredictionRole
from tercet.agents.roles.release import discard
from tercet.agents.session.checkpoint_store import checkpoint_folder
from tercet.agents.session.context import JobContext, system_randomness
from tercet.agents.session.fixed_randomness import FixedRandomness
from tercet.agents.session.table_snapshot import SnapshotStore
from tercet.agents.statistics.data_party import StatisticsRole
from tercet.agents.statistics.evidence import read_woe
from tercet.agents.statistics.helper import StatisticsHelperRole
from tercet.broker.interface.base import Broker
from tercet.broker.interface.outbox import Outbox
from tercet.broker.sealing.identity import Identity, parse_public
from tercet.schemas.files.job import PredictionJob, StatisticsJob, TrainingJob
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.kinds import LOWEST_VERSION, PROTOCOL_VERSION, Job, Message, Profile

LEAVE_SECONDS = 1.0  # a thread that is longer at something at an attempt's end is not waited for
EARLY_BYTES = 2**23  # what a faster party may have sent for alignment before our handshake is done


@dataclass(frozen=True, slots=True)
class Services:
    """Holds the agent's resources that its jobs share."""

    settings: Settings
    identity: Identity
    broker: Broker
    contribute: Callable[[], bytes] = system_randomness
    tap: Tap | None = None
    versions: tuple[int, int] = (LOWEST_VERSION, PROTOCOL_VERSION)
    log: AuditLog | None = None
    budget: Budget = field(default_factory=Budget)
    inquire: Callable[[Job, str], None] = lambda _job, _party: None
    announce: Callable[[Job, str], None] = lambda _job, _party: None
    resume: Callable[[Job, str], None] = lambda _job, _party: None


@dataclass(frozen=True, slots=True)
class Hooks:
    """Holds a run's shared objects and callbacks for its attempts."""

    approval: Approval
    audit: JobAudit
    snapshots: SnapshotStore
    latest: Latest
    on_control: Callable[[Address, Message], None]
    on_problem: Callable[[JobProblem], None]
    common_checkpoint: Callable[[], int]


class Attempt:
    """Runs attempt `number` with this helper."""

    def __init__(self, job: Job, services: Services, number: int, helper: str, hooks: Hooks) -> None:
        self.number, self.helper, self._services, self._hooks = number, helper, services, hooks
        self.reached: object = None  # what the last phase has returned
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"maths {job.id}")
        self.outbox = Outbox(services.broker, max_bytes=services.settings.limits.in_flight_mib * 2**20)
        self.mailbox = self._make_mailbox(job)
        self.context = self._make_context(job)
        self._decision: asyncio.Task[Profile | None] | None = None

    def _make_mailbox(self, job: Job) -> Mailbox:
        services, hooks = self._services, self._hooks
        settings = services.settings
        keys = {member.name: member.key for member in job.members}
        # Nobody is spoken to of whose key this party and the job have different ideas.
        partners = {name: p.key for name, p in settings.partners.items() if keys.get(name) == p.key}
        return Mailbox(
            Address(job.id, self.number, Round.CONTROL, "", 0, 0, settings.party, ""),
            run=job.run,
            early_bytes=EARLY_BYTES,
            identity=services.identity,
            partners={name: parse_public(key) for name, key in partners.items()},
            outbox=self.outbox,
            limits=settings.limits,
            on_control=hooks.on_control,
            on_problem=hooks.on_problem,
            tap=services.tap,
            latest=hooks.latest,
        )

    def _make_context(self, job: Job) -> JobContext:
        services, hooks = self._services, self._hooks
        return JobContext(
            job=job,
            description=job.description.helped_by(self.helper),
            settings=services.settings,
            identity=services.identity,
            mailbox=self.mailbox,
            executor=self._executor,
            log=structlog.get_logger(),
            randomness=FixedRandomness(checkpoint_folder(services.settings.state, job.id), services.contribute),
            common_checkpoint=hooks.common_checkpoint,
            attempt=self.number,
            approval=hooks.approval,
            audit=hooks.audit,
            snapshots=hooks.snapshots,
            read_woe=cache(read_woe),
            versions=services.versions,
        )

    @property
    def takes_part(self) -> bool:
        """Tell whether this party takes part, and is no helper that stands by."""
        return self.context.me in self.context.description.parties

    async def run(self, enter_state: Callable[[State], None]) -> None:
        """Run the whole attempt.

        A helper that stands by never returns.

        Raises:
            JobProblem: it cannot go on, and whose fault that is.
            Overdue: a deadline has passed.
        """
        self._decision = asyncio.create_task(self._run_policy())
        self._decision.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever still asks
        # An end that another party tells meanwhile does not end it: `own_refusal` has what this party would say.
        profile = await asyncio.shield(self._decision)
        if not self.takes_part:
            await asyncio.Event().wait()

        def enter(state: State, reached: object) -> None:
            self.reached = reached
            enter_state(state)

        context = self.context
        match context.description:
            case StatisticsJob() as job if self._services.settings.role == "helper":
                await run_phases(context, StatisticsHelperRole(context, job), profile, enter)
            case StatisticsJob() as job:
                await run_phases(context, StatisticsRole(context, job), profile, enter)
            case _ if self._services.settings.role == "helper":
                await run_phases(context, HelperRole(context), profile, enter)
            case TrainingJob() as job:
                await run_phases(context, DataPartyRole(context, job), profile, enter)
            case PredictionJob() as job:
                await run_phases(context, PredictionRole(context, job), profile, enter)

    async def _run_policy(self) -> Profile | None:
        """Decide whether to let the job in, and tell the audit log.

        Returns what may be told of this party's table. Raises JobProblem if the job is refused.
        """
        audit = self._hooks.audit
        try:
            profile = await check_admission(self.context, self._services.budget)
        except JobProblem as problem:
            audit.note_decision(problem)
            raise
        audit.note_decision()
        return profile

    async def own_refusal(self) -> JobProblem | None:
        """Wait for this party's decision, and give its refusal, if it refuses."""
        if self._decision is not None:
            await asyncio.wait([self._decision])
            if not self._decision.cancelled() and isinstance(problem := self._decision.exception(), JobProblem):
                return problem
        return None

    async def release_resources(self) -> None:
        """Give back the thread and the working files; a busy thread removes its own later.

        Control messages of the run go on until `close_outbox`.
        """
        self.mailbox.closed = True
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                if self.context.writing:  # a late thread would restore a removed folder
                    await asyncio.wait(self.context.writing)
                await self.context.compute(lambda: None)
        except TimeoutError:
            self._executor.submit(self._close_files)
        else:
            self._close_files()
        self._executor.shutdown(wait=False)
        discard(self.context.work_folder)

    async def close_outbox(self) -> None:
        """Say nothing more."""
        await self.outbox.close()

    def _close_files(self) -> None:
        self.context.files.close()
        with suppress(OSError):  # not there, or in use by another run of the same job
            self.context.work_folder.rmdir()
