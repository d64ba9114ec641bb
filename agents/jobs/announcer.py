"""Tells partners of jobs that have no queues yet: announces, declines, asks for outcomes.

It seals and publishes; whether a job is taken is the daemon's decision.
"""

import secrets
import time
from collections.abc import Callable

import structlog

from tercet.agents.core.problems import JobProblem
from tercet.agents.core.states import UNKNOWN, State
from tercet.agents.messaging.control import control_envelope, publish_patiently, publish_within
from tercet.agents.policy.signature import sign
from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, BrokerError, Envelope
from tercet.broker.sealing.identity import Identity, parse_public
from tercet.schemas.files.job import AnyJob
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.kinds import Inquiry, Job, JobStatus, Member, Message, Outcome, Resumption


class Announcer:
    """Sends one agent's messages to the standing queues of its partners."""

    def __init__(self, settings: Settings, identity: Identity, broker: Broker) -> None:
        self._settings, self._identity, self._broker = settings, identity, broker
        self._me = settings.party
        self._log = structlog.get_logger()

    def use_settings(self, settings: Settings) -> None:
        """Speak to these settings' partners from now on."""
        self._settings = settings

    def make_announcement(self, description: AnyJob) -> Job:
        """Make and sign a new run of a job, with the keys that this party has pinned.

        Raises:
            JobProblem: this party has no part in the job, or does not know a party of it.
        """
        me, keys = self._me, {name: partner.key for name, partner in self._settings.partners.items()}
        keys[me] = str(self._identity.public)
        if me not in description.parties:
            raise JobProblem("job.members", me, f"{me} has no part in the job; submit it at one of its parties")
        unknown = [party for party in description.everybody if party not in keys]
        if unknown:
            reason = f"{me}'s settings name no partner {unknown[0]!r}: add its key, or mend the job"
            raise JobProblem("policy.partner", me, reason)
        members = tuple(
            Member(name=party, role="helper" if party in description.helpers else "data", key=keys[party])
            for party in description.everybody
        )
        run = secrets.token_bytes(32)
        job = Job(id=description.id, run=run, description=description, members=members, submitter=me)
        return sign(job, self._identity, time.time())

    async def announce(self, job: Job, party: str, wanted: Callable[[], bool]) -> None:
        """Publish until the party's queue has it; later, silence shows who never took it."""
        if not self._may_reach(job, party):
            return
        envelope = self._make_envelope(job, job, party, topology.announce_key(job.id, party))
        try:
            await publish_within(self._broker, envelope, self._settings.deadlines.accept, wanted)
        except (TimeoutError, BrokerError) as error:
            self._log.warning("a job could not be announced", job=job.id, partner=party, why=str(error))

    async def decline(self, job: Job, problem: JobProblem | None = None) -> None:
        """Tell a submitter that its run does not start here; by default as its id is taken."""
        if problem is None:
            self._log.warning("job declined", why="another run of this id is known", job=job.id, by=job.submitter)
        problem = problem or JobProblem(
            "job.known",
            job.submitter,
            f"{self._me} knows this job from another submission already; {job.submitter} can submit it with --again",
        )
        await self._insist(job, job.submitter, problem.failure(State.RECEIVED, verdict=False))

    async def decline_resumption(self, job: Job, party: str, problem: JobProblem) -> None:
        """Tell whoever wants a failed run to be taken up again that it is not."""
        failure = problem.failure(State.FAILED, verdict=False)
        await self._insist(job, party, Outcome(state=State.FAILED, failure=failure))

    async def _insist(self, job: Job, party: str, message: Message) -> None:
        """Tell a party that has a run; its own queues may be about to be opened."""
        if not self._may_reach(job, party):
            return
        key = topology.routing_key(job.id, Round.CONTROL, party)
        envelope = self._make_envelope(job, message, party, key, run=job.run, place=int(time.time()))
        try:
            await publish_within(self._broker, envelope, self._settings.deadlines.accept)
        except (TimeoutError, BrokerError) as error:
            self._log.warning("a job could not be declined", job=job.id, why=str(error))

    async def inquire(self, job: Job, party: str) -> None:
        """Ask how a run has ended at a party; whoever is still at work on it does not answer."""
        await self._mention(job, party, Inquiry(id=job.id, run=job.run), topology.announce_key(job.id, party))

    async def resume(self, job: Job, party: str) -> None:
        """Ask a party to take up a failed run again."""
        message = Resumption(id=job.id, run=job.run, issued=int(time.time()))
        await self._mention(job, party, message, topology.announce_key(job.id, party))

    async def send_outcome(self, job: Job, party: str, status: JobStatus) -> None:
        """Tell a party that was away how a run has ended here."""
        by = status.cancelled_by or None
        outcome = Outcome(state=status.state, failure=status.failure, attempt=status.attempt, cancelled_by=by)
        await self._answer(job, party, outcome)

    async def send_unknown(self, about: Inquiry, party: str) -> None:
        """Tell a party that this run is not known here, and may be announced again."""
        await self._answer(about, party, Outcome(state=UNKNOWN))

    async def _answer(self, about: Job | Inquiry, party: str, outcome: Outcome) -> None:
        key = topology.routing_key(about.id, Round.CONTROL, party)
        await self._mention(about, party, outcome, key, run=about.run)

    async def _mention(self, job: Job | Inquiry, party: str, message: Message, key: str, run: bytes = b"") -> None:
        if not self._may_reach(job, party):
            return
        try:
            await publish_patiently(
                self._broker, self._make_envelope(job, message, party, key, run=run, place=int(time.time()))
            )
        except BrokerError as error:
            self._log.info("a partner could not be told", kind=message.kind, job=job.id, partner=party, why=str(error))

    def _may_reach(self, job: Job | Inquiry, party: str) -> bool:
        """Tell whether the settings have its key; a passed-on job may name a stranger."""
        known = party in self._settings.partners
        if not known:
            self._log.warning("a party of a job is no partner here, and is told nothing", job=job.id, partner=party)
        return known

    def _make_envelope(
        self, job: Job | Inquiry, message: Message, party: str, routing_key: str, *, run: bytes = b"", place: int = 0
    ) -> Envelope:
        return control_envelope(
            message,
            Address(job.id, 1, Round.CONTROL, message.item, place, 0, self._me, party),
            self._identity,
            parse_public(self._settings.partners[party].key),
            routing_key=routing_key,
            run=run,
            # A job must not begin once the others have given up. What asks or tells of one does no harm
            # when it is late, and RabbitMQ would make a dead letter of each that expires.
            expires=self._settings.deadlines.accept if isinstance(message, Job) else None,
        )
