"""Handles what partners and the party's own console ask about jobs.

It trusts a job's signature and this party's policy, and nothing else.
"""

import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import structlog

from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import State
from tercet.agents.jobs.approvals import PageUsers, basis_of, decide_approval, summarize_revelations
from tercet.agents.jobs.pruning import TooYoung, prune
from tercet.agents.jobs.records import Record
from tercet.agents.jobs.registry import Jobs, now
from tercet.agents.policy.check import check_policy
from tercet.agents.policy.signature import signature_problem
from tercet.agents.runs.run import Services
from tercet.broker.interface.dead_letters import BURST, EVERY_SECONDS
from tercet.broker.interface.rate_limiter import RateLimiter
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import Decide, Inquiry, Job, Prune, Query, Resumption, Status, Submit

RESUMPTION_SECONDS = 300.0  # between two clocks, and on the way


class RequestHandler:
    """Handles one agent's requests. `spawn` runs a task for as long as the agent lives."""

    def __init__(self, services: Services, jobs: Jobs, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._settings, self._identity, self._services = services.settings, services.identity, services
        self._me, self._jobs, self._spawn = services.settings.party, jobs, spawn
        self._refusals = RateLimiter(BURST, EVERY_SECONDS)
        self.page_users: PageUsers = tuple  # who may approve on the page; the page says so, if there is one
        self._log = structlog.get_logger()

    def use_settings(self, settings: Settings) -> None:
        """Decide by other settings from now on."""
        self._settings, self._services = settings, replace(self._services, settings=settings)

    def handle_partner(self, message: Job | Inquiry | Resumption, sender: str) -> None:
        """Handle a partner's message about a job."""
        if isinstance(message, Job):
            self._handle_job(message)
            return
        job = self._jobs.last_run.get(message.id)
        if job is None and isinstance(message, Inquiry):
            self._spawn(self._jobs.announcer.send_unknown(message, sender))
        elif job is None or job.run != message.run or sender not in job.description.everybody:
            self._log.info("a partner speaks of a run that is not known", job=message.id, partner=sender)
        elif isinstance(message, Inquiry) and message.id not in self._jobs.runs:
            self._spawn(self._jobs.announcer.send_outcome(job, sender, self._jobs.last_status[message.id]))
        elif isinstance(message, Resumption) and message.id not in self._jobs.runs:
            self._handle_resumption(job, message, sender)

    def _handle_resumption(self, job: Job, message: Resumption, sender: str) -> None:
        """Take a failed run up again, or tell whoever wants that why not."""
        record = self._jobs.records.find(message.id)
        stale = abs(time.time() - message.issued) >= RESUMPTION_SECONDS
        why = "it is old, or clocks differ" if stale else self._try_resume(record, message.id, sender)
        if why is None:
            return
        self._log.warning("a resumption is not heeded", job=message.id, partner=sender, why=why)
        if stale:  # recorded, perhaps: the answer could end a run that its sender takes up meanwhile
            return
        if record is not None and record.status.state in {State.DONE, State.CANCELLED}:
            self._spawn(self._jobs.announcer.send_outcome(job, sender, record.status))
        else:
            reason = f"{self._me} does not take {message.id} up again for {sender}: {why}"
            self._spawn(
                self._jobs.announcer.decline_resumption(job, sender, JobProblem("job.resume", self._me, reason))
            )

    def _try_resume(self, record: Record | None, job: str, sender: str) -> str | None:
        me, partner = self._me, self._settings.partners[sender]
        if record is None:
            return f"{me} has no record of {job} any more: submit it with --again"
        if not (partner.may_submit or sender == record.job.submitter):
            return (
                f"it takes no jobs from {sender}: let {record.job.submitter} resume it, or let {me} write "
                f"may_submit = true under [partners.{sender}]"
            )
        try:
            self._jobs.restart_failed(record)
        except JobProblem as problem:
            return problem.reason
        return None

    def _handle_job(self, job: Job) -> None:
        """Handle a partner's job."""
        known, running = self._jobs.last_run.get(job.id), self._jobs.runs.get(job.id)
        problem = signature_problem(job, self._settings, self._identity, time.time())
        if known is not None and known.run == job.run:
            self._log.info("job is known already", job=job.id)
        elif problem is not None:
            self._refuse_job(job, problem)
        elif known is None:
            self._log.info("job announced", job=job.id, submitter=job.submitter)
            self._jobs.start_run(job, now(), self._jobs.note_received(job) or self._jobs.busy_problem())
        elif (refusal := self._policy_problem(job)) is not None:
            self._refuse_job(job, refusal)
        elif running is None or not running.may_yield or known.description != job.description:
            self._spawn(self._jobs.announcer.decline(job))
        elif _precedence(job) < _precedence(known):
            self._jobs.successors[job.id] = job
            self._jobs.note_received(job)
            running.supersede()

    def _refuse_job(self, job: Job, problem: JobProblem) -> None:
        """Refuse a job without a record; tell the submitter. Count the refusals of a flood."""
        withheld = self._refusals.admit(job.submitter)
        if withheld is None:
            return
        code, why = problem.code, problem.reason
        self._log.warning("job refused", job=job.id, submitter=job.submitter, code=code, why=why, withheld=withheld)
        if self._jobs.note_received(job) is None:
            self._jobs.audit_of(job).note_decision(problem, withheld=withheld)
        self._spawn(self._jobs.announcer.decline(job, problem))

    def _policy_problem(self, job: Job) -> JobProblem | None:
        try:
            check_policy(job, self._settings, self._identity, self._services.budget)
        except JobProblem as problem:
            return problem
        return None

    async def prune(self, request: Prune) -> Status:
        """Tell what is left of old jobs, or remove it."""
        try:
            return Status(pruned=await prune(self._jobs, self._settings, request))
        except TooYoung as problem:
            return Status(problem=str(problem))

    def _handle_decision(self, request: Decide, *, on_page: bool) -> Status:
        jobs, run, users = self._jobs.status(request.job), self._jobs.runs.get(request.job), self.page_users
        status = jobs[0] if jobs else None
        problem = decide_approval(self._me, run, status, request, on_page=on_page, page_users=users)
        return Status(jobs=self._jobs.status(request.job), problem=problem)

    def handle_console(self, request: Submit | Query | Decide, *, on_page: bool = False) -> Status:
        """Answer a request of the party's own console, or of its page."""
        if isinstance(request, Decide):
            return self._handle_decision(request, on_page=on_page)
        if isinstance(request, Submit):
            return self._handle_submit(request)
        if request.cancel and request.job is not None:
            self._jobs.cancel(request.job, request.who)
        if request.resume and request.job is not None:
            try:
                self._jobs.resume(request.job)
            except JobProblem as problem:
                return Status(problem=str(problem))
        jobs = self._jobs.status(request.job)
        unknown = request.job is not None and not jobs
        trace = self._jobs.trace(request.job) if request.trace and request.job is not None else None
        asked = self._jobs.last_run.get(request.job or "") if request.reveals else None
        run = self._jobs.runs.get(request.job or "")
        reveals = () if asked is None else summarize_revelations(asked, *basis_of(run, self._settings))
        return Status(
            jobs=jobs,
            trace=trace,
            reveals=reveals,
            problem=f"{self._me} knows no job {request.job}" if unknown else None,
        )

    def _handle_submit(self, request: Submit) -> Status:
        known = request.description.id in self._jobs.last_run
        try:
            status = self._jobs.submit(request.description, request.who)
        except JobProblem as problem:
            return Status(problem=str(problem))
        if not known:
            return Status(jobs=(status,))
        note = f"{status.job} is known already, and nothing new begins; `tercet job submit --again` runs it anew"
        return Status(jobs=(status,), note=note)


def _precedence(job: Job) -> tuple[bool, bytes]:
    """Order two runs of one job that were announced at once; all parties keep the lesser."""
    return job.submitter != job.description.label, job.run
