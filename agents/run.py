"""One job at one party from its acceptance to its end: the queues, the heartbeat, the lifecycle, and how it ends.

It ends in exactly one terminal state whatever happens, with the same reason at every party: the label party's verdict
counts, and where the label party is silent each party follows the chain of who waits for whom by itself.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from agents import lifecycle, logs
from agents.context import ATTEMPT, JobContext, system_randomness
from agents.data_party import DataPartyRole
from agents.helper import HelperRole
from agents.mailbox import Mailbox, Tap
from agents.policy import check_policy
from agents.problems import BROKER, JobProblem, Overdue
from agents.states import TERMINAL, State, move
from agents.verdict import Report, late
from broker import topology
from broker.base import Broker, BrokerError, Consumer
from broker.identity import Identity, parse_public
from broker.outbox import Outbox, Undeliverable
from schemas.address import Address, Round, parse_address
from schemas.messages import Cancel, Failure, Job, JobStatus, Message, PartyStatus, Progress
from schemas.settings import Settings

OVERDUE = 2**31  # the number of the last heartbeat: beyond all others
MISSED_HEARTBEATS = 4  # after so many without a word, a party counts as silent


@dataclass(frozen=True, slots=True)
class Services:
    """What an agent lends to each of its jobs."""

    settings: Settings
    identity: Identity
    broker: Broker
    contribute: Callable[[], bytes] = system_randomness
    tap: Tap | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """A wait has outlived its deadline: here, or at the party that reported it."""

    reporter: str
    deadline: str


@dataclass(frozen=True, slots=True)
class Told:
    """Another party says that the job is off."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A person wants the job off: at this party, or at another that says so."""

    here: bool


Ending = Path | None | JobProblem | Late | Told | Cancelled


class JobRun:
    """A job at this party."""

    def __init__(
        self,
        job: Job,
        services: Services,
        submitted: str,
        changed: Callable[["JobRun"], None],
        state: State = State.RECEIVED,
    ) -> None:
        """A job just received, or one of an earlier life in some other state, which can only fail now.

        `changed` is called at every change of state, to be written down.
        """
        self.job, self.submitted, self._services, self._changed = job, submitted, services, changed
        self.state = state
        self.failure: Failure | None = None
        self.detail: str | None = None
        self.model_part: Path | None = None
        settings, loop = services.settings, asyncio.get_running_loop()
        self._log = structlog.get_logger()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"maths {job.id}")
        self._outbox = Outbox(services.broker, max_bytes=settings.limits.in_flight_mib * 2**20)
        self._consumers: list[Consumer] = []
        self._heard: dict[str, tuple[float, Progress]] = {}
        self._overdue: dict[str, str] = {}  # each party's deadline that has passed
        self._waits_for: tuple[str, ...] = ()  # as it was when the end began
        self._over: asyncio.Future[Ending] = loop.create_future()
        self._verdict: asyncio.Future[Failure] = loop.create_future()
        self.context = self._make_context()
        self.role: HelperRole | DataPartyRole | None = None  # once the policy has found that the job fits it

    def _make_context(self) -> JobContext:
        job, services = self.job, self._services
        settings = services.settings
        keys = {member.name: member.key for member in job.members}
        # Nobody is spoken to of whose key this party and the job have different ideas.
        partners = {name: p.key for name, p in settings.partners.items() if keys.get(name) == p.key}
        mailbox = Mailbox(
            Address(job.id, ATTEMPT, Round.CONTROL, "", 0, 0, settings.party, ""),
            services.identity,
            {name: parse_public(key) for name, key in partners.items()},
            self._outbox,
            settings.limits,
            self._on_control,
            self._end,
            services.tap,
        )
        return JobContext(job, settings, services.identity, mailbox, self._executor, self._log, services.contribute)

    # --- from the beginning to the end

    async def execute(self, ending: JobProblem | None = None) -> None:
        """Run the job to a terminal state; with `ending`, only tell the others why it cannot go on."""
        logs.of_job(self.context.me, self.job.id, ATTEMPT, self.context.statistics)
        if ending is not None:
            self._end(ending)
        try:
            async with asyncio.TaskGroup() as tasks:
                helpers = [tasks.create_task(self._heartbeat()), tasks.create_task(self._watch_outbox())]
                work = tasks.create_task(self._work())
                over = await asyncio.shield(self._over)
                work.cancel()
                await self._settle(over)
                for task in helpers:
                    task.cancel()
        finally:
            await self._leave()

    async def _work(self) -> None:
        try:
            await self._open_queues()
            check_policy(self.job, self._services.settings, self._services.identity)
            helps = self._services.settings.role == "helper"
            role = self.role = HelperRole(self.context) if helps else DataPartyRole(self.context)
            self._enter(State.ACCEPTED)
            self._end(await lifecycle.live(self.context, role, self._enter))
        except* JobProblem as group:
            self._end(_first(group))
        except* Overdue as group:
            overdue: Overdue = _first(group)
            self._overdue.setdefault(self.context.me, overdue.deadline)
            self._end(Late(self.context.me, overdue.deadline), overdue.waits_for)
        except* Undeliverable as group:
            self._end(self._unreachable(_first(group)))
        except* BrokerError as group:
            self._end(self._broker_problem(_first(group)))
        except* Exception:  # noqa: BLE001 - a bug of ours must not leave the others waiting
            self._log.exception("an error of our own")
            self._end(JobProblem("agent.error", self.context.me, f"{self.context.me}'s agent met an error of its own"))

    def _broker_problem(self, error: BrokerError) -> JobProblem:
        me = self.context.me
        return JobProblem("transport.broker", BROKER, f"the broker does not serve {me}; see {me}'s log", str(error))

    def _end(self, ending: Ending, waits_for: tuple[str, ...] | None = None) -> None:
        """The first end counts."""
        if not self._over.done():
            self._waits_for = self.context.mailbox.waits_for if waits_for is None else waits_for
            self._over.set_result(ending)

    def _enter(self, state: State) -> None:
        self.state = move(self.state, state)
        self._log.info("state", state=state)
        self._changed(self)

    # --- queues

    async def _open_queues(self) -> None:
        broker, me = self._services.broker, self.context.me
        rounds = topology.ROUNDS[self._services.settings.role]
        senders = [party for party in self.context.others if party in self._services.settings.partners]
        queues = {round_: topology.job_queue(me, self.job.id, round_, senders) for round_ in rounds}
        await asyncio.gather(*(broker.declare(queue) for queue in queues.values()))
        for round_, queue in queues.items():
            consumer = await broker.consume(queue.name, self.context.mailbox.deliver, topology.lane(round_))
            self._consumers.append(consumer)

    async def _leave(self) -> None:
        """Give back what the job had: queues, consumers, the thread."""
        try:
            await self._outbox.close()
            await asyncio.gather(*(consumer.cancel() for consumer in self._consumers))
            await clear_queues(self._services, self.job)
        except BrokerError as error:
            self._log.warning("queues are left at the broker", why=str(error))
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)

    # --- what others say, and what we say of ourselves

    def _on_control(self, sender: str, message: Message) -> None:
        match message:
            case Progress():
                self._heard[sender] = (time.monotonic(), message)
                if message.overdue is not None:
                    self._overdue.setdefault(sender, message.overdue)
                    self._end(Late(sender, message.overdue))
            case Failure():
                if message.verdict and sender == self.context.description.label and not self._verdict.done():
                    self._verdict.set_result(message)
                self._end(Told(message))
            case Cancel():
                self._end(Cancelled(here=False))

    async def _heartbeat(self) -> None:
        beat = 0
        while True:
            await self._tell(self._progress(), required=False, number=(beat := beat + 1))
            await asyncio.sleep(self._services.settings.deadlines.heartbeat)

    def _progress(self, overdue: str | None = None) -> Progress:
        statistics, mailbox = self.context.statistics, self.context.mailbox
        return Progress(
            state=self.state,
            epoch=statistics.epoch,
            step=statistics.step,
            steps=statistics.steps,
            stage=mailbox.stage[:64],
            waits_for=self._waits_for or mailbox.waits_for,
            interval=self._services.settings.deadlines.heartbeat,
            overdue=overdue,
        )

    async def _tell(self, message: Message, *, required: bool, number: int = 0) -> None:
        """To everybody with whom we speak. Whom it does not reach in time will find us silent."""
        deadline, mailbox = self.context.deadline("verdict"), self.context.mailbox
        try:
            await mailbox.send(message, mailbox.partners, deadline, step=number, required=required)
        except Undeliverable as error:
            self._log.warning("not everybody was told", why=str(error))

    async def _watch_outbox(self) -> None:
        try:
            await asyncio.shield(self._outbox.failed)
        except Undeliverable as error:
            self._end(self._unreachable(error))
        except BrokerError as error:
            self._end(self._broker_problem(error))

    def _unreachable(self, error: Undeliverable) -> JobProblem:
        receiver = parse_address(error.address).receiver
        return JobProblem(
            "party.unreachable",
            receiver,
            f"{receiver} takes no messages of this job (deadline {error.deadline_name!r} at {self.context.me}): its agent is "
            f"not running, does not know {self.context.me}, or has left the job",
            str(error),
        )

    # --- how it ends

    async def _settle(self, ending: Ending) -> None:
        match ending:
            case JobProblem() | Late() | Told():
                self.failure = await self._judge(ending)
                self._log.error("job failed", **self.failure.model_dump(exclude={"verdict"}), detail=self.detail)
                self._enter(State.FAILED)
            case Cancelled():
                # Who was told passes it on, but whoever ended the job sees to it that it arrives.
                await self._tell(Cancel(), required=ending.here)
                await self._drain("verdict")
                self._enter(State.CANCELLED)
            case part:
                self.model_part = part
                await self._drain("release")
                self._enter(State.DONE)

    async def _judge(self, ending: JobProblem | Late | Told) -> Failure:
        """The one reason that every party shows."""
        self.detail = ending.detail if isinstance(ending, JobProblem) else None
        if self.context.leads:
            verdict = self._judgement(ending).model_copy(update={"verdict": True})
            await self._tell(verdict, required=True)
            await self._drain("verdict")
            return verdict
        if isinstance(ending, JobProblem):
            await self._tell(self._judgement(ending), required=True)
        elif isinstance(ending, Told):  # its sender may be one of those who cannot speak to the label party
            await self._tell(ending.failure.model_copy(update={"verdict": False}), required=False)
        elif isinstance(ending, Late) and ending.reporter == self.context.me:
            await self._tell(self._progress(overdue=ending.deadline), required=False, number=OVERDUE)
        try:
            async with asyncio.timeout(self.context.deadline("verdict").seconds):
                return await asyncio.shield(self._verdict)
        except TimeoutError:
            return self._judgement(ending)

    async def _drain(self, deadline: str) -> None:
        try:
            await self._outbox.drain(self.context.deadline(deadline).seconds)
        except TimeoutError as error:
            self._log.warning("not everybody was told", why=str(error))

    def _judgement(self, ending: JobProblem | Late | Told) -> Failure:
        stage = str(self.state)
        match ending:
            case Told():
                return ending.failure
            case Late():
                order = self.context.description.parties
                # Where several complain at once and no verdict comes, all begin with the same complaint.
                reporter = next(party for party in order if party in self._overdue)
                return late(self._reports(), reporter, self._overdue[reporter], order).failure(stage, verdict=False)
            case JobProblem():
                return ending.failure(stage, verdict=False)

    def _reports(self) -> dict[str, Report]:
        now = time.monotonic()
        reports = {
            party: Report(progress.stage, progress.waits_for)
            for party, (heard, progress) in self._heard.items()
            if now - heard <= MISSED_HEARTBEATS * progress.interval
        }
        return reports | {self.context.me: Report(self.context.mailbox.stage, self._waits_for)}

    # --- from outside

    def cancel(self) -> None:
        """A person at this party wants it off."""
        self._end(Cancelled(here=True))

    def stop(self, problem: JobProblem) -> None:
        """This agent cannot go on with it."""
        self._end(problem)

    def status(self) -> JobStatus:
        """What this party knows of the job."""
        now, statistics, job = time.monotonic(), self.context.statistics, self.job.description
        mine = (now, self._progress())
        parties = tuple(
            PartyStatus(
                party=party,
                state=progress.state,
                stage=progress.stage,
                epoch=progress.epoch,
                step=progress.step,
                waits_for=progress.waits_for,
                heard=round(now - heard, 1),
            )
            for party, (heard, progress) in {self.context.me: mine, **self._heard}.items()
        )
        ended = self.state in TERMINAL
        return JobStatus(
            job=self.job.id,
            state=self.state,
            model=job.model,
            label=job.label,
            helper=job.helper,
            parties=() if ended else parties,
            submitted=self.submitted,
            rows=statistics.rows,
            columns=statistics.columns,
            epoch=statistics.epoch,
            step=statistics.step,
            steps=statistics.steps,
            seconds_per_step=statistics.seconds_per_step,
            processor_seconds=statistics.processor_seconds,
            sent_bytes={kind: tally.bytes for kind, tally in self._outbox.sent.items()},
            sent_messages={kind: tally.messages for kind, tally in self._outbox.sent.items()},
            waits_for=() if ended else self._progress().waits_for,
            warnings=self.context.plan.warnings if self.context.plan else (),
            failure=self.failure,
            detail=self.detail,
            model_part=str(self.model_part) if self.model_part else None,
        )


async def clear_queues(services: Services, job: Job) -> None:
    """Delete this party's queues of a job, with what is in them."""
    settings = services.settings
    names = [topology.job_queue_name(settings.party, job.id, r) for r in topology.ROUNDS[settings.role]]
    await asyncio.gather(*(services.broker.delete(name) for name in names))


E_ = TypeVar("E_", bound=BaseException)


def _first(group: BaseExceptionGroup[E_]) -> E_:
    """The first error of a group, however deep."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
