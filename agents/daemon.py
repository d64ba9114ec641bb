"""An agent: takes jobs from partners and from its own console, runs many at once, and answers for them.

It decides which jobs are known and who is told; how one job goes is `run`'s business. It holds no job's data: that is
gone with the run, and only the record stays.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import structlog

from agents import logs
from agents.context import ATTEMPT, system_randomness
from agents.control import control_parcel, open_control
from agents.mailbox import Tap
from agents.problems import JobProblem
from agents.records import Record, Records
from agents.run import JobRun, Services, clear_queues
from agents.states import TERMINAL, State
from broker import topology
from broker.base import Broker, BrokerError, Delivery, Parcel
from broker.identity import Forged, Identity, PublicIdentity, parse_public
from schemas.address import Address, MalformedAddress, Round, parse_address
from schemas.codec import MalformedMessage
from schemas.job import JobDescription
from schemas.messages import Job, JobStatus, Member, Message, Query, Status, Submit
from schemas.settings import Settings

RETRY_SECONDS = 0.25  # between attempts to reach a party that has no standing queue yet


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
    ) -> None:
        """`finished` is handed each run as it ends, before it is forgotten; `tap` sees what is sent. Both are for tests
        and for the simulator, `contribute` for tests alone.
        """
        self.settings, self._identity, self._finished = settings, identity, finished
        self._services = Services(settings, identity, broker, contribute, tap)
        self._broker = broker
        self._records = Records(settings.state / "jobs")
        self._runs: dict[str, JobRun] = {}
        self._known: dict[str, JobStatus] = {}  # the last of each job that is not running
        self._run_ids: dict[str, bytes] = {}  # of each job, to tell a repeated announcement from another run
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

    # --- the daemon's life

    async def serve(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then let running jobs end, or end them, and leave.

        Raises:
            BrokerError: another agent of this party runs, or the broker refuses.
        """
        logs.of_party(self.me)
        async with asyncio.TaskGroup() as self._tasks:
            running = self._recall()
            queue = topology.standing_queue(self.me, self.settings.partners)
            await self._broker.declare(queue)
            consumer = await self._broker.consume(queue.name, self._deliver, topology.lane(Round.CONTROL))
            self._fail(running)  # now that no other agent of this name can be at work on them
            self.ready.set()
            self._log.info("agent is up", role=self.settings.role, key=str(self._identity.public))
            await self._stopped(stop)
            await consumer.cancel()
            await self._drain()
        self._log.info("agent has left")

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
        self._known |= {record.job.id: record.status for record in records}
        self._run_ids |= {record.job.id: record.job.run for record in records}
        return [record for record in records if record.status.state not in TERMINAL]

    def _fail(self, running: list[Record]) -> None:
        problem = JobProblem(
            "agent.restarted", self.me, f"{self.me}'s agent was restarted while the job ran; submit it with --again"
        )
        for record in running:
            self._log.warning("job was running before the restart", job=record.job.id)
            self._begin(record.job, record.status.submitted, problem, State(record.status.state))

    async def _drain(self) -> None:
        self._draining = True
        deadline = self.settings.deadlines.drain
        if self._runs:
            self._log.info("leaving when the running jobs are over", jobs=sorted(self._runs), seconds=deadline)
        try:
            async with asyncio.timeout(deadline):
                while self._runs:
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            for run in self._runs.values():
                run.stop(JobProblem("agent.stopped", self.me, f"{self.me}'s agent was stopped by its operator"))

    # --- jobs

    def submit(self, description: JobDescription) -> JobStatus:
        """Start a job, or tell the state of a known one.

        Raises:
            JobProblem: this party cannot announce the job; nothing was sent.
        """
        if description.id in self._runs or description.id in self._known:
            return self.status(description.id)[0]
        job = self._announcement(description)
        run = self._begin(job, _now())
        for party in description.parties:
            if party != self.me:
                self._spawn(self._announce(job, party))
        return run.status()

    def _announcement(self, description: JobDescription) -> Job:
        keys = {name: partner.key for name, partner in self.settings.partners.items()}
        keys[self.me] = str(self._identity.public)
        self._may_begin()
        if self.me not in description.parties:
            raise JobProblem(
                "job.members", self.me, f"{self.me} has no part in the job; submit it at one of its parties"
            )
        unknown = [party for party in description.parties if party not in keys]
        if unknown:
            raise JobProblem(
                "policy.partner",
                self.me,
                f"{self.me}'s settings name no partner {unknown[0]!r}: add its key, or mend the job",
            )
        members = tuple(
            Member(name=party, role="helper" if party == description.helper else "data", key=keys[party])
            for party in description.parties
        )
        return Job(
            id=description.id, run=secrets.token_bytes(32), description=description, members=members, submitter=self.me
        )

    def _may_begin(self) -> None:
        if self._draining:
            raise JobProblem("agent.stopped", self.me, f"{self.me}'s agent is leaving and takes no more jobs")
        if len(self._runs) >= self.settings.limits.parallel_jobs:
            raise JobProblem(
                "agent.busy", self.me, f"{self.me} runs {len(self._runs)} jobs already ([limits] parallel_jobs)"
            )

    def _begin(
        self, job: Job, submitted: str, problem: JobProblem | None = None, state: State = State.RECEIVED
    ) -> JobRun:
        run = JobRun(job, self._services, submitted, self._write, state)
        self._runs[job.id], self._run_ids[job.id] = run, job.run
        self._write(run)
        self._spawn(self._execute(run, problem))
        return run

    async def _execute(self, run: JobRun, problem: JobProblem | None) -> None:
        if problem is not None:
            await clear_queues(self._services, run.job)  # what is in them is sealed for keys that are gone
        try:
            await run.execute(problem)
        finally:
            self._known[run.job.id] = run.status()
            del self._runs[run.job.id]
            self._write(run)
            self._finished(run)

    def _write(self, run: JobRun) -> None:
        try:
            self._records.write(Record(job=run.job, status=run.status()))
        except OSError as error:
            self._log.error("a job's record cannot be written", job=run.job.id, why=error.strerror)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._tasks is not None
        self._tasks.create_task(work)

    async def _announce(self, job: Job, party: str) -> None:
        """Publish until the party's standing queue has it; who never takes it shows as silent to the label party."""
        deadline = self.settings.deadlines.accept
        parcel = self._letter(job, job, party, topology.announce_key(job.id, party))
        try:
            async with asyncio.timeout(deadline):
                while job.id in self._runs and not await self._published(parcel):
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            self._log.warning("a job could not be announced", job=job.id, partner=party)

    async def _decline(self, job: Job) -> None:
        """Another run under the id of a job that is known here: say so to its parties, and leave ours as it is."""
        self._log.warning("job declined", why="another run of this id is known", job=job.id, submitter=job.submitter)
        failure = JobProblem(
            "job.known",
            job.submitter,
            f"{self.me} knows this job from another submission already; {job.submitter} can submit it with --again",
        ).failure(State.RECEIVED, verdict=False)
        for party in job.description.parties:
            if party in self.settings.partners:
                key = topology.routing_key(job.id, Round.CONTROL, party)
                await self._published(self._letter(job, failure, party, key))

    def _letter(self, job: Job, message: Message, party: str, routing_key: str) -> Parcel:
        address = Address(job.id, ATTEMPT, Round.CONTROL, message.item, 0, 0, self.me, party)
        key = parse_public(self.settings.partners[party].key)
        expires = self.settings.deadlines.accept
        return control_parcel(message, address, self._identity, key, routing_key=routing_key, expires=expires)

    async def _published(self, parcel: Parcel) -> bool:
        try:
            await self._broker.publish(parcel, topology.lane(Round.CONTROL))
        except BrokerError as error:
            if not error.transient:
                raise
            return False
        return True

    def cancel(self, job: str) -> None:
        """End a running job at every party."""
        if job in self._runs:
            self._runs[job].cancel()

    def status(self, job: str | None = None) -> tuple[JobStatus, ...]:
        """One job, or all, the latest first; empty if the job is not known."""
        known = self._known | {name: run.status() for name, run in self._runs.items()}
        if job is not None:
            return (known[job],) if job in known else ()
        return tuple(sorted(known.values(), key=lambda status: status.submitted, reverse=True))

    # --- the standing queue

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            address = parse_address(delivery.parcel.address)
            message = open_control(delivery.parcel, self._identity, self._key_of(address))
        except (MalformedAddress, MalformedMessage, Forged) as error:
            self._log.warning(
                "message refused", why=str(error), sender=delivery.parcel.sender[:32], kind=delivery.parcel.kind[:32]
            )
            await delivery.reject()
            return
        await delivery.ack()
        await self._handle(address, message)

    def _key_of(self, address: Address) -> PublicIdentity:
        if address.receiver != self.me:
            raise Forged("it is addressed to another party")
        if address.sender == self.me:
            return self._identity.public
        if address.sender not in self.settings.partners:
            raise Forged(f"{address.sender} is no partner in these settings")
        return parse_public(self.settings.partners[address.sender].key)

    async def _handle(self, address: Address, message: Message) -> None:
        match message:
            case Job() if address.sender == message.submitter != self.me:
                self._take(message)
            case Submit() | Query() if address.sender == self.me:
                await self._answer(address, self._console(message))
            case _:
                self._log.warning("message refused", why="not for the standing queue", sender=address.sender)

    def _take(self, job: Job) -> None:
        """A partner's job."""
        if job.id != job.description.id or self._run_ids.get(job.id) == job.run:
            self._log.info("job is known already, or has another id than its description", job=job.id[:64])
            return
        if job.id in self._run_ids:
            self._spawn(self._decline(job))
            return
        try:
            self._may_begin()
            problem = None
        except JobProblem as busy:
            problem = busy
        self._log.info("job announced", job=job.id, submitter=job.submitter)
        self._begin(job, _now(), problem)

    def _console(self, request: Submit | Query) -> Status:
        if isinstance(request, Submit):
            try:
                return Status(jobs=(self.submit(request.description),))
            except JobProblem as problem:
                return Status(problem=str(problem))
        if request.cancel and request.job is not None:
            self.cancel(request.job)
        jobs = self.status(request.job)
        unknown = request.job is not None and not jobs
        return Status(jobs=jobs, problem=f"{self.me} knows no job {request.job}" if unknown else None)

    async def _answer(self, request: Address, status: Status) -> None:
        address = request._replace(item=status.item, sender=self.me, receiver=self.me)
        parcel = control_parcel(
            status,
            address,
            self._identity,
            self._identity.public,
            routing_key=topology.console_key(request.job, self.me),
        )
        await self._published(parcel)  # a console that has gone needs no answer


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
