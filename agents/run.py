"""One job at one party from its acceptance to its end: the queues, the heartbeat, the lifecycle, and how it ends.

It ends in exactly one terminal state whatever happens, with the same reason at every party: the label party's verdict
counts, and where the label party is silent each party follows the chain of who waits for whom by itself.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import structlog

from agents import approval, lifecycle, logs
from agents.approval import Approval
from agents.audit import AuditLog
from agents.audit_job import JobAudit
from agents.context import ATTEMPT, JobContext, system_randomness
from agents.data_party import DataPartyRole
from agents.ending import (
    MISSED_HEARTBEATS,
    Cancelled,
    Ending,
    Failing,
    Hearing,
    Late,
    Superseded,
    Told,
    broker_problem,
    first_error,
    own_error,
)
from agents.helper import HelperRole
from agents.mailbox import Mailbox, Tap
from agents.policy import check_policy
from agents.policy_exposure import Exposure
from agents.prediction import PredictionRole
from agents.problems import JobProblem, Overdue
from agents.queues import clear_queues, open_queues
from agents.release import discard, keep, unreleased
from agents.reporting import write_report
from agents.states import TERMINAL, State, move
from agents.status import job_status
from agents.verdict import Report, culprits
from broker.base import Broker, BrokerError, Consumer
from broker.identity import Identity, parse_public
from broker.outbox import Outbox, Undeliverable
from schemas.address import Address, Round
from schemas.messages import LOWEST_VERSION, PROTOCOL_VERSION, Cancel, Failure, Job, JobStatus, Message, Progress
from schemas.settings import Settings

IDLE_SECONDS = 1.0  # a thread that is longer at something at a job's end is not waited for
EARLY_BYTES = 2**23  # what a faster party may have sent for alignment before our handshake is done


@dataclass(frozen=True, slots=True)
class Services:
    """What an agent lends to each of its jobs."""

    settings: Settings
    identity: Identity
    broker: Broker
    contribute: Callable[[], bytes] = system_randomness
    tap: Tap | None = None
    versions: tuple[int, int] = (LOWEST_VERSION, PROTOCOL_VERSION)
    log: AuditLog | None = None
    exposure: Exposure = field(default_factory=Exposure)


class JobRun:
    """A job at this party."""

    def __init__(
        self,
        job: Job,
        services: Services,
        submitted: str,
        changed: Callable[["JobRun"], None],
        state: State = State.RECEIVED,
        approved: str = "",
    ) -> None:
        """A job just received, or one of an earlier life in some other state, which can only fail now.

        `approved` names who has approved the run in an earlier life.
        `changed` is called at every change of state, to be written down.
        """
        self.job, self.submitted, self._services, self._changed = job, submitted, services, changed
        self.state = state
        self.failure: Failure | None = None
        self.detail: str | None = None
        self.model_part: Path | None = None
        self.scores: Path | None = None
        self.report: Path | None = None
        self.cleared = False  # no queue of the job is left at the broker
        settings, loop = services.settings, asyncio.get_running_loop()
        self._log = structlog.get_logger()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"maths {job.id}")
        self._outbox = Outbox(services.broker, max_bytes=settings.limits.in_flight_mib * 2**20)
        self._consumers: list[Consumer] = []
        self._beats = count(1)  # numbers the heartbeats, so that an old one says nothing
        self._last_wait = Report("", ())  # as it was when the end began
        self._over: asyncio.Future[Ending] = loop.create_future()
        self._verdict: asyncio.Future[Failure] = loop.create_future()
        self._hearing = Hearing(job.description.label, job.description.parties, self._on_verdict)
        asks = settings.policy.approval and job.submitter != settings.party
        self.approval = Approval(settings.party, asks=asks, given_by=approved)
        self.audit = JobAudit(job, settings, services.exposure, services.log)
        self.context = self._make_context()
        self.role: HelperRole | DataPartyRole | PredictionRole | None = None  # once the policy has found that it fits

    def _make_context(self) -> JobContext:
        job, services = self.job, self._services
        settings = services.settings
        keys = {member.name: member.key for member in job.members}
        # Nobody is spoken to of whose key this party and the job have different ideas.
        partners = {name: p.key for name, p in settings.partners.items() if keys.get(name) == p.key}
        mailbox = Mailbox(
            Address(job.id, ATTEMPT, Round.CONTROL, "", 0, 0, settings.party, ""),
            run=job.run,
            early_bytes=EARLY_BYTES,
            identity=services.identity,
            partners={name: parse_public(key) for name, key in partners.items()},
            outbox=self._outbox,
            limits=settings.limits,
            on_control=self._on_control,
            on_problem=self._end,
            tap=services.tap,
        )
        return JobContext(
            job, settings, services.identity, mailbox, self._executor, self._log, services.contribute,
            approval=self.approval, audit=self.audit, versions=services.versions,
        )  # fmt: skip

    # --- from the beginning to the end

    async def execute(self, ending: JobProblem | None = None) -> None:
        """Run the job to a terminal state; with `ending`, only tell the others why it cannot go on."""
        logs.of_job(self.context.me, self.job.id, ATTEMPT, self.context.statistics)
        patience = self.context.deadline("release").seconds
        try:
            if ending is not None:
                await self._open_queues()  # to hear the verdict
                self._end(ending)
            async with asyncio.TaskGroup() as tasks:
                helpers = [tasks.create_task(self._heartbeat()), tasks.create_task(self._watch_outbox())]
                work = tasks.create_task(self._work())
                over = await asyncio.shield(self._over)
                work.cancel()
                state = await self._settle(over)
                for task in helpers:
                    task.cancel()
            await self._finish(state)
        except asyncio.CancelledError:
            patience = 0.0  # the whole agent ends; its next life clears what is left
            raise
        finally:
            await self._leave(patience)

    async def _work(self) -> None:
        try:
            await self._open_queues()
            self._decide()
            role = self.role = self._make_role()
            self._end(await lifecycle.live(self.context, role, self._enter))
        except* JobProblem as group:
            self._end(first_error(group))
        except* Overdue as group:
            overdue: Overdue = first_error(group)
            self._end(self._hearing.complain(self.context.me, overdue.deadline))
        except* BrokerError as group:
            self._end(broker_problem(first_error(group), self.context.me))
        except* Exception:  # noqa: BLE001 - a bug of ours must not leave the others waiting
            self._own_error()

    def _decide(self) -> None:
        """Raises JobProblem if this party's policy does not let the job in; the audit log is told either way."""
        services = self._services
        try:
            check_policy(self.job, services.settings, services.identity, services.exposure)
        except JobProblem as problem:
            self.audit.decided(problem)
            raise
        self.audit.decided()

    def _make_role(self) -> HelperRole | DataPartyRole | PredictionRole:
        if self._services.settings.role == "helper":
            return HelperRole(self.context)
        training = self.job.description.kind == "training"
        return DataPartyRole(self.context) if training else PredictionRole(self.context)

    def _own_error(self) -> None:
        self._log.exception("an error of our own")
        self._end(own_error(self.context.me))

    def _end(self, ending: Ending) -> None:
        """The first end counts."""
        if not self._over.done():
            self._last_wait = self._wait()
            self._over.set_result(ending)

    def _wait(self) -> Report:
        """What this party waits for now, or waited for when the end began."""
        mailbox = self.context.mailbox
        own = Report(approval.STAGE, ()) if self.approval.waiting else Report(mailbox.stage, mailbox.waits_for)
        return self._last_wait if self._over.done() else own

    def _enter(self, state: State) -> None:
        self.state = move(self.state, state)
        self._log.info("state", state=state)
        self._changed(self)

    async def _open_queues(self) -> None:
        senders = [party for party in self.context.others if party in self._services.settings.partners]
        deliver = self.context.mailbox.deliver
        services = self._services
        await open_queues(services.broker, services.settings, self.job.id, senders, deliver, opened=self._consumers)

    async def _leave(self, patience: float) -> None:
        """Give back what the job had: queues, consumers, the thread."""
        try:
            await self._outbox.close()
            await asyncio.gather(*(consumer.cancel() for consumer in self._consumers))
            await clear_queues(self._services.broker, self._services.settings, self.job.id, patience)
            self.cleared = True
        except BrokerError as error:
            self._log.warning("queues are left at the broker", why=str(error))
        finally:
            await self._clean()
            discard(unreleased(self.context))  # if it was not kept

    async def _clean(self) -> None:
        """Remove the working files. A thread cannot be stopped: what one that is at work still writes goes after it."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self.context.compute(lambda: None)
        except TimeoutError:
            self._executor.submit(self._close_role)
        else:
            self._close_role()
        self._executor.shutdown(wait=False)
        discard(self.context.work_folder)

    def _close_role(self) -> None:
        if self.role is not None:
            self.role.close()
        with suppress(OSError):  # not there, or in use by another run of the same job
            self.context.work_folder.rmdir()

    # --- what others say, and what we say of ourselves

    def _on_control(self, sender: str, message: Message) -> None:
        ending = self._hearing.take(sender, message)
        if ending is not None:
            self._end(ending)

    def _on_verdict(self, failure: Failure) -> None:
        if not self._verdict.done():
            self._verdict.set_result(failure)

    async def _heartbeat(self) -> None:
        while True:
            await self._beat()
            await asyncio.sleep(self._services.settings.deadlines.heartbeat)

    async def _beat(self) -> None:
        await self._tell(self._progress(), required=False, number=next(self._beats))

    def _progress(self) -> Progress:
        statistics, wait = self.context.statistics, self._wait()
        return Progress(
            state=self.state,
            epoch=statistics.epoch,
            step=statistics.step,
            steps=statistics.steps,
            stage=wait.stage[:64],
            waits_for=wait.waits_for,
            interval=self._services.settings.deadlines.heartbeat,
            overdue=self._hearing.overdue.get(self.context.me),
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
        except BrokerError as error:
            self._end(broker_problem(error, self.context.me))
        except Exception:  # noqa: BLE001 - as in `_work`
            self._own_error()

    # --- how it ends

    async def _settle(self, ending: Ending) -> State:
        """Tell the others; the state that the job ends in."""
        if isinstance(ending, Path):
            ending = self._kept(ending)
        match ending:
            case JobProblem() | Late() | Told():
                self.failure = await self._judge(ending)
                self._log.error("job failed", **self.failure.model_dump(exclude={"verdict"}), detail=self.detail)
                return State.FAILED
            case Cancelled():
                # Who was told passes it on, but whoever ended the job sees to it that it arrives.
                await self._tell(Cancel(), required=ending.here)
                await self._drain("verdict")
                return State.CANCELLED
            case Superseded():
                self._log.info("another run of this job has precedence")
                return State.CANCELLED
            case folder:
                self._note_kept(folder)
                await self._drain("release")
                return State.DONE

    async def _finish(self, state: State) -> None:
        """Nobody waits for this party any more."""
        self._enter(state)
        if state == State.DONE:  # and stays so if the page fails, or the agent is killed while it is made
            self.report = await self._write_report()

    def _kept(self, folder: Path) -> Path | JobProblem:
        """The folder's lasting place: only here is it certain that the job comes to its good end."""
        try:
            return keep(folder)
        except OSError as error:
            public = f"{self.context.me} cannot move what the job gives it to its place"
            return JobProblem("disk.write", self.context.me, public, f"{folder}: {error.strerror}")

    def _note_kept(self, folder: Path | None) -> None:
        if folder is not None and isinstance(self.role, PredictionRole):
            self.scores = next(folder.glob("scores.*"))
        else:
            self.model_part = folder

    async def _write_report(self) -> Path | None:
        """The page about the job; a job is done without one, too."""
        assert self.role is not None
        if not self._services.settings.report:
            return None
        try:
            return await self.context.compute(write_report, self.context, self.role, self.model_part)
        except OSError as error:
            self._log.warning("no report could be written", why=error.strerror)
        except Exception:  # noqa: BLE001 - a bug of ours in a picture costs nobody the model
            self._log.exception("an error of our own in the report")
        return None

    async def _judge(self, ending: Failing) -> Failure:
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
            await self._beat()
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

    def _judgement(self, ending: Failing) -> Failure:
        silence = time.monotonic() - self._outbox.answered
        cut_off = silence > MISSED_HEARTBEATS * self._services.settings.deadlines.heartbeat
        return self._hearing.judgement(ending, self.context.me, self._wait(), str(self.state), cut_off=cut_off)

    # --- from outside

    def cancel(self) -> None:
        """A person at this party wants it off."""
        self._end(Cancelled(here=True))

    def approve(self, who: str) -> None:
        """A person at this party lets the job in, in this and every later attempt."""
        self.approval.approve(who)
        self._changed(self)

    def stop(self, problem: JobProblem) -> None:
        """This agent cannot go on with it."""
        self._end(problem)

    def give_up(self) -> None:
        """An error of ours kept the job from ending in order; it has failed here."""
        if self.state not in TERMINAL:
            self.failure = own_error(self.context.me).failure(self.state, verdict=False)
            self.state = State.FAILED

    def supersede(self) -> None:
        """Another run of the same job takes this one's place; nobody needs to be told."""
        self._end(Superseded())

    @property
    def may_yield(self) -> bool:
        """Whether another run could still take this one's place: not all parties have agreed to it yet."""
        return self.state in {State.RECEIVED, State.ACCEPTED, State.READY}

    def _whom(self) -> tuple[str, ...]:
        """The parties at which the waiting ends; our own wait where all wait for one another for a moment."""
        own, me = self._wait(), self.context.me
        if self.state in TERMINAL or not own.waits_for:
            return ()
        return tuple(culprits(self._hearing.reports() | {me: own}, me)) or own.waits_for

    @property
    def in_flight(self) -> dict[str, int]:
        """Bytes that are sent and not yet confirmed, by lane."""
        return self._outbox.in_flight

    def status(self) -> JobStatus:
        """What this party knows of the job."""
        told = {
            "submitted": self.submitted,
            "approval": approval.STAGE if self.approval.waiting else self.approval.given_by,
            "waits_for": self._whom(),
            "failure": self.failure,
            "detail": self.detail,
            "model_part": str(self.model_part) if self.model_part else None,
            "scores": str(self.scores) if self.scores else None,
            "report": str(self.report) if self.report else None,
        }
        heard = {self.context.me: (time.monotonic(), self._progress()), **self._hearing.heard}
        return job_status(self.context, self.state, heard).model_copy(update=told)
