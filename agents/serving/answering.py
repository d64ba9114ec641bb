"""Answers partners that ask for this party's part of single rows' scores.

It trusts the seal, this party's settings and its own files. A request says nothing that this party has to keep.
"""

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

import structlog

from tercet.agents.alignment.scored_ids import ScoredIds, UnusableMarks
from tercet.agents.core.problems import JobProblem
from tercet.agents.messaging.control import control_envelope, publish_patiently
from tercet.agents.models.manifest import ModelPart
from tercet.agents.policy.audit_log import AuditLog
from tercet.agents.policy.budget import Budget
from tercet.agents.policy.signature import TOLERANCE_SECONDS
from tercet.agents.serving.consent import check_part, served_table
from tercet.agents.serving.partial_scores import PartialScores
from tercet.agents.serving.readings import Readings
from tercet.agents.serving.served_rows import DayCount, ServedRows
from tercet.agents.serving.served_table import read_part, read_table
from tercet.agents.serving.serving_audit import ServingAudit, serving_run
from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, BrokerError
from tercet.broker.interface.dead_letters import BURST, EVERY_SECONDS
from tercet.broker.interface.rate_limiter import RateLimiter
from tercet.broker.sealing.identity import Identity, parse_public
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import ScoreAnswer, ScoreRefusal, ScoreRequest
from tercet.tables.matching.pseudonyms import as_hashes

MOST_AT_ONCE: Final = 64  # requests that are being answered
MOST_A_SECOND: Final = 200  # of one partner, and as many at once; others are dropped, and told to the log
EXPIRES: Final = 10.0  # seconds after which nobody waits for an answer


def pseudonym_purpose(part: ModelPart) -> str:
    """Name the key by which a label party names rows of a model to a partner."""
    return f"serving ids of {part.digest.hex()}"


def zero_purpose(part: ModelPart) -> str:
    """Name the key by which two partners hide their parts from the label party."""
    return f"serving zero shares of {part.digest.hex()}"


@dataclass(frozen=True, slots=True)
class AnsweringServices:
    """Bundles what an agent lends to its answers."""

    identity: Identity
    broker: Broker
    budget: Budget
    log: AuditLog


class ScoreAnswerer:
    """Answers one agent's partners."""

    def __init__(
        self, settings: Settings, services: AnsweringServices, spawn: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._settings, self._services, self._spawn = settings, services, spawn
        self._readings: Readings[PartialScores] = Readings(settings.party, spawn)
        self._rows: WeakValueDictionary[bytes, ServedRows] = WeakValueDictionary()  # of models whose reading is held
        self._days: dict[str, DayCount] = {}  # by label party
        self._rates = RateLimiter(MOST_A_SECOND, 1.0 / MOST_A_SECOND)
        self._complaints = RateLimiter(BURST, EVERY_SECONDS)
        self._at_once = 0
        self._log = structlog.get_logger()

    def use_settings(self, settings: Settings) -> None:
        """Decide by other settings, and read tables anew, from now on."""
        self._settings = settings
        self._readings.clear()

    def handle_request(self, address: Address, request: ScoreRequest) -> None:
        """Answer a partner's request, unless it asks faster than anybody may."""
        if self._rates.admit(address.sender) is None or self._at_once >= MOST_AT_ONCE:
            withheld = self._complaints.admit(address.sender)
            if withheld is not None:
                self._log.warning("requests for scores are dropped", partner=address.sender, withheld=withheld)
            return
        self._at_once += 1
        self._spawn(self._answer(address, request))

    async def _answer(self, address: Address, request: ScoreRequest) -> None:
        answer: ScoreAnswer | ScoreRefusal
        try:
            answer = await self._share(address.sender, request)
        except JobProblem as problem:
            self._complain(address.sender, request.model, problem)
            answer = ScoreRefusal(code=problem.code, culprit=problem.culprit, reason=problem.reason[:2000])
        finally:
            self._at_once -= 1
        await self._send(address, answer)

    async def _share(self, label: str, request: ScoreRequest) -> ScoreAnswer:
        settings = self._settings
        self._check_time(request, label)
        name = served_table(settings, label, request)
        made = self._readings.find(
            (request.model, name, label), lambda: self._read(label, request.model, name, settings)
        )
        if made.digest != request.digest:
            reason = f"the parts of {request.model} at {label} and {settings.party} are not of one training"
            raise JobProblem("model.differs", label, reason)
        table = settings.tables[name]
        hashes = as_hashes(request.rows)
        return ScoreAnswer(words=await made.share(hashes, rescoring=table.rescoring, most_rows=table.served_rows_a_day))

    def _check_time(self, request: ScoreRequest, label: str) -> None:
        if abs(time.time() - request.issued) > TOLERANCE_SECONDS:
            reason = f"a request of {label} is old, or the clocks of {label} and {self._settings.party} differ"
            raise JobProblem("job.expired", label, f"{reason}: compare them")

    def _read(self, label: str, model: str, name: str, settings: Settings) -> PartialScores:
        """Read part and table, in a thread."""
        services = self._services
        part, arrays = read_part(settings, model)
        check_part(settings, label, part)
        table = read_table(settings, name, part, arrays, self._shared(settings, label, pseudonym_purpose(part)))
        for note in table.notes:
            self._log.warning("a table that is served", table=name, why=note)
        others = [party for party in part.parties if party not in {settings.party, label}]
        try:
            run, scored = serving_run(part), _scored_ids(settings, part)
            key = scored.own_key()
            if label not in self._days:
                self._days[label] = _count_today(settings, label)
            rows = self._rows.get(run) or ServedRows(scored, self._days[label])
            self._rows[run] = rows
        except (UnusableMarks, OSError) as problem:
            reason = f"{settings.party} cannot note which rows a model has scored, and lets none be scored without"
            raise JobProblem("disk.write", settings.party, reason, str(problem)) from None
        return PartialScores(
            settings,
            part,
            table,
            key=key,
            zero_keys={party: self._shared(settings, party, zero_purpose(part)) for party in others},
            rows=rows,
            audit=ServingAudit(settings, part, name, services.budget, services.log),
        )

    def _shared(self, settings: Settings, partner: str, purpose: str) -> bytes:
        return self._services.identity.shared_key(parse_public(settings.partners[partner].key), purpose)

    def _complain(self, partner: str, model: str, problem: JobProblem) -> None:
        withheld = self._complaints.admit(f"{partner} {problem.code}")
        if withheld is not None:
            why = problem.detail or problem.reason
            self._log.warning(
                "no score is given", partner=partner, model=model, code=problem.code, why=why, withheld=withheld
            )

    async def _send(self, request: Address, answer: ScoreAnswer | ScoreRefusal) -> None:
        settings = self._settings
        if request.sender not in settings.partners:
            return
        envelope = control_envelope(
            answer,
            request._replace(item=answer.item, sender=settings.party, receiver=request.sender),
            self._services.identity,
            parse_public(settings.partners[request.sender].key),
            routing_key=topology.announce_key(request.job, request.sender),
            expires=EXPIRES,
            persistent=False,
        )
        try:
            await publish_patiently(self._services.broker, envelope)
        except BrokerError as error:
            self._log.warning("scores could not be sent", partner=request.sender, why=str(error))


def _scored_ids(settings: Settings, part: ModelPart) -> ScoredIds:
    return ScoredIds(settings.state, (part.job, part.run), serving_run(part))


def _count_today(settings: Settings, label: str) -> DayCount:
    """Count what a label party has asked for today, by the files of all its models."""
    day = DayCount()
    for folder in (settings.state / "models").iterdir():
        try:
            part, _ = read_part(settings, folder.name)
        except JobProblem:
            continue  # without a usable part it has answered for nothing
        if part.label_party == label:
            day.add(ServedRows(_scored_ids(settings, part), day).of_today)
    return day
