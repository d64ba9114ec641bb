"""Keeps all jobs of one agent, running and ended; starts and ends them.

It keeps their records. `runs` carries one job out; `requests` decides on partners' jobs.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import NEXT, TERMINAL, State
from tercet.agents.jobs.announcer import Announcer
from tercet.agents.jobs.cache import JobCache
from tercet.agents.jobs.counters import Counters
from tercet.agents.jobs.records import Record, Records
from tercet.agents.machine.recovery import SavedRun
from tercet.agents.policy.job_audit import JobAudit
from tercet.agents.runs.queues import delete_queues
from tercet.agents.runs.run import JobRun, Services
from tercet.broker.interface.base import BrokerError
from tercet.schemas.core.trace import StepTrace
from tercet.schemas.files.job import AnyJob
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import Job, JobStatus

MOST_LISTED = 200  # jobs in one answer, the latest
MOST_TRACES = 16  # of jobs that are over, the latest


class Jobs:
    """Keeps one agent's jobs.

    Args:
        services: what it lends to each of them.
        spawn: runs something beside, for as long as the agent lives.
        finished: handed each run as it ends.
    """

    def __init__(
        self, services: Services, spawn: Callable[[Coroutine[Any, Any, None]], None], finished: Callable[[JobRun], None]
    ) -> None:
        settings = self._settings = services.settings
        self._me, self._spawn, self._finished = settings.party, spawn, finished
        self._services = replace(
            services, inquire=self._inquire, announce=self._announce_again, resume=self._send_resumption
        )
        self.announcer = Announcer(settings, services.identity, services.broker)
        self.records = Records(settings.state / "jobs")
        self.runs: dict[str, JobRun] = {}
        found = self.records.find
        self.last_status = JobCache(lambda job: None if (old := found(job)) is None else old.status)  # of ended jobs
        # The latest run of each id, to tell a repeated announcement from another run.
        self.last_run = JobCache(lambda job: None if (old := found(job)) is None else old.job)
        self.successors: dict[str, Job] = {}  # runs that begin when the one they supersede has left
        self._traces: dict[str, StepTrace | None] = {}  # of the last that have ended here
        self.counters = Counters()
        self.is_draining = False
        self._idle = asyncio.Event()
        self._log = structlog.get_logger()

    def use_settings(self, settings: Settings) -> None:
        """Begin jobs under other settings from now on."""
        self._settings, self._services = settings, replace(self._services, settings=settings)
        self.announcer.use_settings(settings)

    # --- the agent's lives

    def recall_records(self) -> list[Record]:
        """Answer for the jobs of an earlier life; returns those that ran when it ended."""
        records, unreadable = self.records.read_all()
        for path in unreadable:
            self._log.warning("a file among the job records is none", path=str(path))
        for record in sorted(records, key=lambda record: record.status.submitted):
            self.last_status[record.job.id], self.last_run[record.job.id] = record.status, record.job
        return [record for record in records if record.status.state not in TERMINAL or not record.cleared]

    def resume_recalled(self, running: list[Record]) -> None:
        """Take up again what was running, or tell that it is over where a fault ends a job."""
        why = f"{self._me}'s agent was restarted while the job ran; submit it with --again"
        recovers = self._settings.recovery.attempts > 1
        restarted = None if recovers else JobProblem("agent.restarted", self._me, why)
        for record in running:
            if record.status.state not in NEXT:
                self._log.warning("a job's record is in no known state", job=record.job.id)
            elif record.status.state in TERMINAL:
                self._spawn(self._delete_queues(record))
            else:
                self._log.warning("job was running before the restart", job=record.job.id)
                saved, problem = record.saved_run(State(record.status.state)), record.version_problem(self._me)
                self.start_run(record.job, record.status.submitted, problem or restarted, saved)

    async def _delete_queues(self, record: Record) -> None:
        """Delete queues that an ended job has left, the broker being away at its end."""
        try:
            await delete_queues(self._services.broker, self._settings, record.job.id, self._settings.deadlines.release)
        except BrokerError as error:
            self._log.warning("queues are left at the broker", job=record.job.id, why=str(error))
        else:
            self.records.write(record.model_copy(update={"cleared": True}))

    async def drain(self) -> None:
        """Let running jobs end, or else suspend them."""
        self.is_draining = True
        deadline = self._settings.deadlines.drain
        if not self.runs:
            return
        self._log.info("leaving when the running jobs are over", jobs=sorted(self.runs), seconds=deadline)
        try:
            async with asyncio.timeout(deadline):
                await self._idle.wait()
        except TimeoutError:
            for run in self.runs.values():
                run.suspend(JobProblem("agent.stopped", self._me, f"{self._me}'s agent was stopped by its operator"))

    # --- from the beginning to the end

    def submit(self, description: AnyJob, who: str = "") -> JobStatus:
        """Start a job, or tell a known one's state; `who` is the submitting person's account.

        Raises:
            JobProblem: this party cannot announce the job; nothing was sent.
        """
        known = self.last_run.get(description.id)
        if known is not None and known.description != description:
            raise JobProblem("job.known", self._me, "another job has the same id; give this one another name")
        if known is not None:
            return self.status(description.id)[0]
        obstacle = self.busy_problem()
        if obstacle is not None:
            raise obstacle
        job = self.announcer.make_announcement(description)
        self.audit_of(job).note_received(who)
        run = self.start_run(job, now())
        for party in description.everybody:
            if party != self._me:
                self._spawn(self.announcer.announce(job, party, lambda: self.runs.get(job.id) is run))
        return run.status()

    def busy_problem(self) -> JobProblem | None:
        """Give the reason why no job can start here now, if there is one."""
        if self.is_draining:
            return JobProblem("agent.stopped", self._me, f"{self._me}'s agent is leaving and takes no more jobs")
        if len(self.runs) >= self._settings.limits.parallel_jobs:
            reason = f"{self._me} runs {len(self.runs)} jobs already ([limits] parallel_jobs)"
            return JobProblem("agent.busy", self._me, reason)
        return None

    def start_run(
        self,
        job: Job,
        submitted: str,
        problem: JobProblem | None = None,
        saved: SavedRun | None = None,
    ) -> JobRun:
        """Begin a run; with `problem`, only to tell the others why it cannot go on."""
        run = JobRun(job, self._services, submitted, self._write_record, saved or SavedRun())
        self.runs[job.id], self.last_run[job.id] = run, job
        self._idle.clear()
        self._write_record(run)
        self._spawn(self._execute(run, problem))
        return run

    async def _execute(self, run: JobRun, problem: JobProblem | None) -> None:
        try:
            if problem is not None:  # what is in its queues is sealed for keys that are gone
                await delete_queues(self._services.broker, self._settings, run.job.id, self._settings.deadlines.release)
            await run.execute(problem)
        except BrokerError as error:
            self._log.error("the broker failed a job at its end", job=run.job.id, why=str(error))
        except Exception:  # noqa: BLE001 - a bug of ours ends one job, not all of them
            self._log.exception("an error of our own", job=run.job.id)
        self._close_run(run)  # unless cancelled: then the agent itself ends, and its next life answers for the job

    def _close_run(self, run: JobRun) -> None:
        """Forget the run and keep what is known of it; a run that took precedence begins now."""
        job = run.job.id
        if not run.is_suspended:
            run.mark_failed()
        self.last_status[job] = run.status()
        self._note_end(run)
        self._keep_trace(run)
        del self.runs[job]
        self._write_record(run)
        if not self.runs:
            self._idle.set()
        successor = self.successors.pop(job, None)
        if successor is None or self.is_draining:
            self._finished(run)
        else:
            self.start_run(successor, now())

    def _note_end(self, run: JobRun) -> None:
        try:
            run.audit.note_end(run.status())
        except JobProblem as problem:
            self._log.error("the audit log lacks the end of a job", job=run.job.id, why=problem.detail)

    def _keep_trace(self, run: JobRun) -> None:
        self._traces = dict(list(self._traces.items())[1 - MOST_TRACES :])
        self._traces[run.job.id] = run.context.trace.median_step(self._me)

    def _write_record(self, run: JobRun) -> None:
        self.counters.count_job(run)
        try:
            self.records.write(Record.of(run))
        except OSError as error:
            self._log.error("a job's record cannot be written", job=run.job.id, why=error.strerror)

    def cancel(self, job: str, who: str = "") -> None:
        """End a running job at every party; `who` is the account of the person who wants that."""
        if job not in self.runs:
            return
        try:
            self.runs[job].audit.write_event("cancelled", by=who)
        except JobProblem as problem:  # what is to end does so, whatever the disk says
            self._log.error("the audit log lacks who cancelled a job", job=job, why=problem.detail)
        self.runs[job].cancel()

    def resume(self, job: str) -> None:
        """Take up a failed job again, at every party.

        Raises:
            JobProblem: it cannot be taken up.
        """
        record = None if job in self.runs else self.records.find(job)
        if record is None:
            return  # it runs, or is unknown, which its status tells
        self.restart_failed(record)
        for party in record.job.description.everybody:
            if party != self._me:
                self._send_resumption(record.job, party)

    def restart_failed(self, record: Record) -> None:
        """Go on with a failed run here. Raises JobProblem if that cannot be."""
        obstacle, state = self.busy_problem(), record.status.state
        if obstacle is not None:
            raise obstacle
        if state != State.FAILED or self._settings.recovery.attempts == 1:
            reason = f"{record.job.id} is {state} at {self._me}: only a failed job can be taken up again"
            raise JobProblem("job.resume", self._me, f"{reason}, and only with [recovery] attempts of more than 1")
        if (older := record.version_problem(self._me)) is not None:
            raise older
        self._log.info("job is taken up again", job=record.job.id)
        self.start_run(record.job, record.status.submitted, saved=record.resumed_run())

    def forget(self, job: str) -> None:
        """Know nothing more of a job that has ended.

        Raises:
            OSError: its record cannot be removed.
        """
        self.records.forget(job)
        for known in (self.last_status, self.last_run, self._traces):
            known.pop(job, None)

    # --- what is told

    def status(self, job: str | None = None) -> tuple[JobStatus, ...]:
        """Give the status of one job, or of all, the latest first; empty if it is not known."""
        if job is not None:
            status = self.runs[job].status() if job in self.runs else self.last_status.get(job)
            return () if status is None else (status,)
        known = dict(self.last_status) | {name: run.status() for name, run in self.runs.items()}
        latest = sorted(known.values(), key=lambda status: status.submitted, reverse=True)[:MOST_LISTED]
        return tuple(status.without_history() for status in latest)

    def trace(self, job: str) -> StepTrace | None:
        """Give the trace of a median step; None before there is one, or long after the end."""
        return self.runs[job].context.trace.median_step(self._me) if job in self.runs else self._traces.get(job)

    def audit_of(self, job: Job) -> JobAudit:
        """Open a run's lines in the audit log, and its share of the budget."""
        return JobAudit(job, self._settings, self._services.budget, self._services.log)

    def note_received(self, job: Job) -> JobProblem | None:
        """Tell the audit log that a partner asks for a job; why that cannot be, if it cannot."""
        try:
            self.audit_of(job).note_received()
        except JobProblem as problem:
            return problem
        return None

    def _send_resumption(self, job: Job, party: str) -> None:
        self._spawn(self.announcer.resume(job, party))

    def _inquire(self, job: Job, party: str) -> None:
        if party in self._settings.partners and not self.is_draining:
            self._spawn(self.announcer.inquire(job, party))

    def _announce_again(self, job: Job, party: str) -> None:
        """Announce a job to a party without a record of it, as after a kill."""
        if not self.is_draining:
            self._spawn(self.announcer.announce(job, party, lambda: job.id in self.runs))


def now() -> str:
    """Give the time in UTC, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
