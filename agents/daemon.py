"""An agent: takes jobs from partners and from its own console, runs many at once, and answers for them.

It decides which jobs are known and who is told; how one job goes is `run`'s business. It holds no job's data: that is
gone with the run, and only the record stays.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from agents import logs
from agents.announcer import Announcer
from agents.audit import AuditLog
from agents.audit_job import JobAudit
from agents.checkpoints import forget_old
from agents.context import system_randomness, work_folder
from agents.decisions import decide, summary
from agents.greeter import Greeter
from agents.mailbox import Tap
from agents.memory import Memory
from agents.policy import check_policy
from agents.policy_signature import signature_problem
from agents.problems import JobProblem
from agents.queues import clear_queues
from agents.reception import Reception
from agents.records import Record, Records
from agents.release import discard
from agents.remembered import Remembered
from agents.run import JobRun, Services
from agents.states import NEXT, TERMINAL, State
from agents.tallies import Tallies
from broker import topology
from broker.allowance import Allowance
from broker.base import Broker, BrokerError, Delivery
from broker.dead_letters import BURST, EVERY_SECONDS
from broker.identity import Identity
from mpc.ring import use_threads, warm_up
from schemas.address import Round
from schemas.job import PredictionJob, TrainingJob
from schemas.messages import (
    LOWEST_VERSION,
    PROTOCOL_VERSION,
    Decide,
    Inquiry,
    Job,
    JobStatus,
    Query,
    Resumption,
    Status,
    Submit,
)
from schemas.settings import Settings
from schemas.trace import StepTrace

MOST_LISTED = 200  # jobs in one answer, the latest
RESUMPTION_SECONDS = 300.0  # between two clocks, and on the way
MOST_TRACES = 16  # of jobs that are over, the latest


class Agent:
    """One party's agent. `serve` runs it; the rest may be called while it runs."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        broker: Broker,
        *,
        contribute: Callable[[], bytes] = system_randomness,
        tap: Tap | None = None,
        finished: Callable[[JobRun], None] = lambda _: None,
        versions: tuple[int, int] = (LOWEST_VERSION, PROTOCOL_VERSION),
    ) -> None:
        """`tap` and `finished`, which is handed each run as it ends, are for the simulator, the others for tests."""
        self.settings, self._identity, self._finished = settings, identity, finished
        self._audit, self._audited = AuditLog(settings.state / "audit.log", self.me, identity), asyncio.Event()
        self._services = Services(
            settings,
            identity,
            broker,
            contribute,
            tap,
            versions,
            self._audit,
            inquire=self._inquire,
            announce=self._announce_again,
        )
        self._broker = broker
        self._records = Records(settings.state / "jobs")
        self._runs: dict[str, JobRun] = {}
        found = self._records.find
        self._known = Remembered(lambda job: None if (old := found(job)) is None else old.status)  # of ended jobs
        self._traces: dict[str, StepTrace | None] = {}  # of the last that have ended here
        # The latest run of each id, to tell a repeated announcement from another run.
        self._jobs = Remembered(lambda job: None if (old := found(job)) is None else old.job)
        self._heirs: dict[str, Job] = {}  # runs that begin when the one they supersede has left
        self._refusals = Allowance(BURST, EVERY_SECONDS)
        self._announcer = Announcer(settings, identity, broker)
        greeter = Greeter(settings, identity, broker, self._spawn)
        self._reception = Reception(settings, identity, broker, self._take, self._console, greeter=greeter)
        self.tallies = Tallies()
        self._idle = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._draining = False
        self.ready = asyncio.Event()
        self._log = structlog.get_logger()

    @property
    def me(self) -> str:
        """This party."""
        return self.settings.party

    @property
    def busy(self) -> bool:
        """Whether a job runs here."""
        return bool(self._runs)

    @property
    def runs(self) -> tuple[JobRun, ...]:
        """The jobs that run here now."""
        return tuple(self._runs.values())

    @property
    def refused(self) -> Mapping[str, int]:
        """How many messages its standing queue has refused, by the name of the error."""
        return self._reception.refused

    @property
    def draining(self) -> bool:
        """Whether it has been told to stop, and takes no more jobs."""
        return self._draining

    # --- the daemon's life

    async def serve(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then let running jobs end, or end them, and leave.

        Raises:
            BrokerError: another agent of this party runs, or the broker refuses.
        """
        logs.of_party(self.me)
        use_threads(self.settings.limits.threads)
        await asyncio.to_thread(warm_up)  # before there is a heartbeat or a deadline that it could hold up
        self.settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with asyncio.TaskGroup() as self._tasks:
            running = self._recall()
            queue = topology.standing_queue(self.me, self.settings.partners)
            await self._broker.declare(queue)
            consumer = await self._broker.consume(queue.name, self._deliver, topology.lane(Round.CONTROL))
            self._open_audit()
            discard(work_folder(self.settings))  # of an earlier life; no other agent of this name can be at work
            unfinished = {record.job.id for record in running if record.status.state not in TERMINAL}
            forget_old(self.settings.state, unfinished, self.settings.recovery.keep_days)
            self._go_on(running)
            self.ready.set()
            self._log.info("agent is up", role=self.settings.role, key=str(self._identity.public))
            await self._stopped(stop)
            await consumer.cancel()
            await self._drain()
        self._log.info("agent has left")

    def _open_audit(self) -> None:
        """Only now it is certain that no other agent of this party writes it."""
        for entry in self._audit.open(records=len(self._known)):
            self._services.exposure.note(entry)
        self._audited.set()

    async def _deliver(self, delivery: Delivery) -> None:
        await self._audited.wait()
        await self._reception.deliver(delivery)

    async def _stopped(self, stop: asyncio.Event) -> None:
        waiting: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        broken: asyncio.Future[Any] = asyncio.ensure_future(self._broker.failed)
        try:
            done, _ = await asyncio.wait({waiting, broken}, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()
        finally:
            waiting.cancel()

    def _recall(self) -> list[Record]:
        """Answer for the jobs of an earlier life; returns those that ran when it ended."""
        records, strange = self._records.read()
        for path in strange:
            self._log.warning("a file among the job records is none", path=str(path))
        for record in sorted(records, key=lambda record: record.status.submitted):
            self._known[record.job.id], self._jobs[record.job.id] = record.status, record.job
        return [record for record in records if record.status.state not in TERMINAL or not record.cleared]

    def _go_on(self, running: list[Record]) -> None:
        """Take up again what was running, or tell that it is over where a fault ends a job."""
        problem = (
            None
            if self.settings.recovery.attempts > 1
            else JobProblem(
                "agent.restarted", self.me, f"{self.me}'s agent was restarted while the job ran; submit it with --again"
            )
        )
        for record in running:
            if record.status.state not in NEXT:
                self._log.warning("a job's record is in no known state", job=record.job.id)
            elif record.status.state in TERMINAL:
                self._spawn(self._clear(record))
            else:
                self._log.warning("job was running before the restart", job=record.job.id)
                memory = record.memory(State(record.status.state))
                self._begin(record.job, record.status.submitted, problem, memory)

    async def _clear(self, record: Record) -> None:
        """Remove queues that an ended job has left, the broker being away at its end."""
        try:
            await clear_queues(self._broker, self.settings, record.job.id, self.settings.deadlines.release)
        except BrokerError as error:
            self._log.warning("queues are left at the broker", job=record.job.id, why=str(error))
        else:
            self._records.write(record.model_copy(update={"cleared": True}))

    async def _drain(self) -> None:
        self._draining = True
        deadline = self.settings.deadlines.drain
        if not self._runs:
            return
        self._log.info("leaving when the running jobs are over", jobs=sorted(self._runs), seconds=deadline)
        try:
            async with asyncio.timeout(deadline):
                await self._idle.wait()
        except TimeoutError:
            for run in self._runs.values():
                run.suspend(JobProblem("agent.stopped", self.me, f"{self.me}'s agent was stopped by its operator"))

    # --- jobs

    def submit(self, description: TrainingJob | PredictionJob) -> JobStatus:
        """Start a job, or tell the state of a known one.

        Raises:
            JobProblem: this party cannot announce the job; nothing was sent.
        """
        known = self._jobs.get(description.id)
        if known is not None and known.description != description:
            raise JobProblem("job.known", self.me, "another job has the same id; give this one another name")
        if known is not None:
            return self.status(description.id)[0]
        obstacle = self._obstacle()
        if obstacle is not None:
            raise obstacle
        job = self._announcer.announcement(description)
        self._audit_of(job).received()
        run = self._begin(job, _now())
        for party in description.everybody:
            if party != self.me:
                self._spawn(self._announcer.announce(job, party, lambda: self._runs.get(job.id) is run))
        return run.status()

    def _obstacle(self) -> JobProblem | None:
        """Why no job can begin here now."""
        if self._draining:
            return JobProblem("agent.stopped", self.me, f"{self.me}'s agent is leaving and takes no more jobs")
        if len(self._runs) >= self.settings.limits.parallel_jobs:
            reason = f"{self.me} runs {len(self._runs)} jobs already ([limits] parallel_jobs)"
            return JobProblem("agent.busy", self.me, reason)
        return None

    def _begin(
        self,
        job: Job,
        submitted: str,
        problem: JobProblem | None = None,
        memory: Memory | None = None,
    ) -> JobRun:
        run = JobRun(job, self._services, submitted, self._write, memory or Memory())
        self._runs[job.id], self._jobs[job.id] = run, job
        self._idle.clear()
        self._write(run)
        self._spawn(self._execute(run, problem))
        return run

    async def _execute(self, run: JobRun, problem: JobProblem | None) -> None:
        try:
            if problem is not None:  # what is in its queues is sealed for keys that are gone
                await clear_queues(self._broker, self.settings, run.job.id, self.settings.deadlines.release)
            await run.execute(problem)
        except BrokerError as error:
            self._log.error("the broker failed a job at its end", job=run.job.id, why=str(error))
        except Exception:  # noqa: BLE001 - a bug of ours ends one job, not all of them
            self._log.exception("an error of our own", job=run.job.id)
        self._close(run)  # unless cancelled: then the agent itself ends, and its next life answers for the job

    def _close(self, run: JobRun) -> None:
        """Forget the run and keep what is known of it; a run that took precedence begins now."""
        job = run.job.id
        if not run.suspended:
            run.give_up()
        self._known[job] = run.status()
        self._note_end(run)
        self._keep_trace(run)
        del self._runs[job]
        self._write(run)
        if not self._runs:
            self._idle.set()
        heir = self._heirs.pop(job, None)
        if heir is None or self._draining:
            self._finished(run)
        else:
            self._begin(heir, _now())

    def _note_end(self, run: JobRun) -> None:
        try:
            run.audit.ended(run.status())
        except JobProblem as problem:
            self._log.error("the audit log lacks the end of a job", job=run.job.id, why=problem.detail)

    def _keep_trace(self, run: JobRun) -> None:
        self._traces = dict(list(self._traces.items())[1 - MOST_TRACES :])
        self._traces[run.job.id] = run.context.trace.median(self.me)

    def trace(self, job: str) -> StepTrace | None:
        """What a step of median length was spent on here; None before there is one, or long after the job's end."""
        return self._runs[job].context.trace.median(self.me) if job in self._runs else self._traces.get(job)

    def _write(self, run: JobRun) -> None:
        self.tallies.note(run)
        try:
            self._records.write(Record.of(run))
        except OSError as error:
            self._log.error("a job's record cannot be written", job=run.job.id, why=error.strerror)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._tasks is not None
        self._tasks.create_task(work)

    def cancel(self, job: str) -> None:
        """End a running job at every party."""
        if job in self._runs:
            self._runs[job].cancel()

    def resume(self, job: str) -> None:
        """Take up a failed job again, at every party.

        Raises:
            JobProblem: it cannot be taken up.
        """
        record = None if job in self._runs else self._records.find(job)
        if record is None:
            return  # it runs, or is unknown, which its status tells
        self._take_up(record)
        for party in record.job.description.everybody:
            if party != self.me:
                self._spawn(self._announcer.resume(record.job, party))

    def _take_up(self, record: Record) -> None:
        obstacle, state = self._obstacle(), record.status.state
        if obstacle is not None:
            raise obstacle
        if state != State.FAILED or self.settings.recovery.attempts == 1:
            reason = f"{record.job.id} is {state} at {self.me}: only a failed job can be taken up again"
            raise JobProblem("job.resume", self.me, f"{reason}, and only with [recovery] attempts of more than 1")
        self._log.info("job is taken up again", job=record.job.id)
        self._begin(record.job, record.status.submitted, memory=record.resumed())

    def _inquire(self, job: Job, party: str) -> None:
        if party in self.settings.partners and not self._draining:
            self._spawn(self._announcer.inquire(job, party))

    def _announce_again(self, job: Job, party: str) -> None:
        """A party has no record of a job: its agent was killed before it had written one, say."""
        if not self._draining:
            self._spawn(self._announcer.announce(job, party, lambda: job.id in self._runs))

    def status(self, job: str | None = None) -> tuple[JobStatus, ...]:
        """One job, or all, the latest first; empty if the job is not known."""
        if job is not None:
            status = self._runs[job].status() if job in self._runs else self._known.get(job)
            return () if status is None else (status,)
        known = dict(self._known) | {name: run.status() for name, run in self._runs.items()}
        return tuple(sorted(known.values(), key=lambda status: status.submitted, reverse=True)[:MOST_LISTED])

    # --- what comes in

    def _take(self, message: Job | Inquiry | Resumption, sender: str) -> None:
        """What a partner says of a job."""
        if isinstance(message, Job):
            self._take_job(message)
            return
        job = self._jobs.get(message.id)
        if job is None and isinstance(message, Inquiry):
            self._spawn(self._announcer.unknown(message, sender))
        elif job is None or job.run != message.run or sender not in job.description.everybody:
            self._log.info("a partner speaks of a run that is not known", job=message.id, partner=sender)
        elif isinstance(message, Inquiry) and message.id not in self._runs:
            self._spawn(self._announcer.outcome(job, sender, self._known[message.id]))
        elif isinstance(message, Resumption) and message.id not in self._runs:
            self._resumed(message, sender)

    def _resumed(self, message: Resumption, sender: str) -> None:
        record, partner = self._records.find(message.id), self.settings.partners[sender]
        fresh = abs(time.time() - message.issued) < RESUMPTION_SECONDS
        if record is None or not fresh or not (partner.may_submit or sender == record.job.submitter):
            self._log.warning("a resumption is not heeded", job=message.id, partner=sender, fresh=fresh)
            return
        try:
            self._take_up(record)
        except JobProblem as problem:
            self._log.warning("a resumption is not heeded", job=message.id, partner=sender, why=problem.reason)

    def _take_job(self, job: Job) -> None:
        """A partner's job."""
        known, running = self._jobs.get(job.id), self._runs.get(job.id)
        problem = signature_problem(job, self.settings, self._identity, time.time())
        if known is not None and known.run == job.run:
            self._log.info("job is known already", job=job.id)
        elif problem is not None:
            self._refuse(job, problem)
        elif known is None:
            self._log.info("job announced", job=job.id, submitter=job.submitter)
            self._begin(job, _now(), self._received(job) or self._obstacle())
        elif not self._allowed(job):
            self._log.warning("job refused", job=job.id, submitter=job.submitter)
        elif running is None or not running.may_yield or known.description != job.description:
            self._spawn(self._announcer.decline(job))
        elif _precedence(job) < _precedence(known):
            self._heirs[job.id] = job
            self._received(job)
            running.supersede()

    def _audit_of(self, job: Job) -> JobAudit:
        return JobAudit(job, self.settings, self._services.exposure, self._audit)

    def _received(self, job: Job) -> JobProblem | None:
        """Tell the audit log that a partner asks for a job; why that cannot be, if it cannot."""
        try:
            self._audit_of(job).received()
        except JobProblem as problem:
            return problem
        return None

    def _refuse(self, job: Job, problem: JobProblem) -> None:
        """Nothing begins, and no record is made; the submitter is told. Of a flood some are, the rest is counted."""
        withheld = self._refusals.take(job.submitter)
        if withheld is None:
            return
        code, why = problem.code, problem.reason
        self._log.warning("job refused", job=job.id, submitter=job.submitter, code=code, why=why, withheld=withheld)
        if self._received(job) is None:
            self._audit_of(job).decided(problem, withheld=withheld)
        self._spawn(self._announcer.decline(job, problem))

    def _allowed(self, job: Job) -> bool:
        try:
            check_policy(job, self.settings, self._identity, self._services.exposure)
        except JobProblem:
            return False
        return True

    def _console(self, request: Submit | Query | Decide) -> Status:
        if isinstance(request, Decide):
            problem = decide(self.me, self._runs.get(request.job), request)
            return Status(jobs=self.status(request.job), problem=problem)
        if isinstance(request, Submit):
            try:
                return Status(jobs=(self.submit(request.description),))
            except JobProblem as problem:
                return Status(problem=str(problem))
        if request.cancel and request.job is not None:
            self.cancel(request.job)
        if request.resume and request.job is not None:
            try:
                self.resume(request.job)
            except JobProblem as problem:
                return Status(problem=str(problem))
        jobs = self.status(request.job)
        unknown = request.job is not None and not jobs
        trace = self.trace(request.job) if request.trace and request.job is not None else None
        asked = self._jobs.get(request.job or "") if request.reveals else None
        reveals = () if asked is None else summary(asked)
        return Status(
            jobs=jobs,
            trace=trace,
            reveals=reveals,
            problem=f"{self.me} knows no job {request.job}" if unknown else None,
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _precedence(job: Job) -> tuple[bool, bytes]:
    """Of two runs of one job, announced at the same time by two parties, everybody keeps the same: the lesser."""
    return job.submitter != job.description.label, job.run
