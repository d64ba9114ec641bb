"""Asks partners for their parts of single rows' scores, and adds them up at the label party.

It believes no partner's numbers beyond what they can be, and waits for none longer than the settings say.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from tercet.agents.core.problems import JobProblem
from tercet.agents.messaging.control import control_envelope, publish_patiently
from tercet.agents.models.manifest import ModelPart
from tercet.agents.serving.answering import EXPIRES, pseudonym_purpose
from tercet.agents.serving.consent import check_servable
from tercet.agents.serving.readings import Readings
from tercet.agents.serving.served_table import MISSING, ServedTable, read_part, read_table
from tercet.broker.interface import topology
from tercet.broker.interface.base import Broker, BrokerError
from tercet.broker.interface.clock import loop_time
from tercet.broker.sealing.identity import Identity, parse_public
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.scoring.scores import decode_scores
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.address import Address, Round
from tercet.schemas.messages.kinds import ScoreAnswer, ScoreQuery, ScoreRefusal, ScoreReply, ScoreRequest
from tercet.tables.matching.ids import normalise
from tercet.tables.matching.pseudonyms import pseudonyms

MOST_AT_ONCE: Final = 64  # queries that wait for partners
AWAY_SECONDS: Final = 1.0  # after a partner's silence nobody waits for it: one request a second would fill no queue

Answer = ScoreAnswer | ScoreRefusal


class OwnModel(NamedTuple):
    """Holds the label party's part of a model, and its table."""

    part: ModelPart
    digest: bytes
    table: ServedTable
    key: bytes  # by which the table is looked up; no other party has it


@dataclass(slots=True)
class _Waiting:
    """Collects the partners' answers to one query."""

    answers: dict[str, "asyncio.Future[Answer]"]
    sent: set[str] = field(default_factory=set)  # to whom the question has gone


class ScoreAsker:
    """Asks for one agent, which has the label."""

    def __init__(
        self, settings: Settings, identity: Identity, broker: Broker, spawn: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._settings, self._identity, self._broker, self._spawn = settings, identity, broker, spawn
        self._readings: Readings[OwnModel] = Readings(settings.party, spawn)
        self._waiting: dict[str, _Waiting] = {}
        self._away: dict[str, tuple[float, float]] = {}  # by silent partner: since when, and until when nobody asks

    def use_settings(self, settings: Settings) -> None:
        """Ask these settings' partners, and read tables anew, from now on."""
        self._settings = settings
        self._readings.clear()

    def handle_answer(self, address: Address, answer: Answer) -> None:
        """Take a partner's answer; one that nobody waits for, such as a repeated one, is nothing."""
        waiting = self._waiting.get(address.job)
        future = None if waiting is None else waiting.answers.get(address.sender)
        if future is not None and not future.done():
            self._away.pop(address.sender, None)
            future.set_result(answer)

    async def score(self, query: ScoreQuery) -> ScoreReply:
        """Score rows of this party's table, or say why there are no scores.

        Raises:
            JobProblem: with the party whose fault it is.
        """
        settings, me = self._settings, self._settings.party
        if len(self._waiting) >= MOST_AT_ONCE:
            reason = f"{me} waits for {MOST_AT_ONCE} scores already: ask again, or less often"
            raise JobProblem("serving.busy", me, reason)
        if query.table not in settings.tables:
            reason = f"{me}'s settings list no table {query.table!r}: give `tercet serve` another --table"
            raise JobProblem("policy.table", me, reason)
        name = query.model, query.table
        own = self._readings.find(name, lambda: self._read(settings, query.model, query.table))
        ids = normalise(pa.array(query.ids, pa.large_string())).values.fill_null("")
        rows = own.table.find(pseudonyms(own.key, ids))
        there = np.flatnonzero(rows != MISSING)
        known, scores = np.zeros(len(ids), np.bool_), np.zeros((len(ids), own.part.outputs))
        if len(there) or not len(ids):  # nobody is asked for what this party has not
            shares = await self._ask(own, query.purpose, ids.take(pa.array(there)))
            known[there], scores[there] = self._sum(own, own.table.words[rows[there]], shares)
        return ScoreReply(
            link=own.part.link,
            classes=() if own.part.classes is None else own.part.classes.names,
            outputs=own.part.outputs,
            known=known.astype(np.uint8).tobytes(),
            scores=scores.tobytes(),
        )

    def _read(self, settings: Settings, model: str, table: str) -> OwnModel:
        """Read part and table, in a thread."""
        part, arrays = read_part(settings, model)
        me, key = settings.party, secrets.token_bytes(32)
        check_servable(me, part)
        if part.label_party != me:
            reason = f"{model} has its label at {part.label_party}, where alone its rows can be scored"
            raise JobProblem("model.parties", me, reason)
        if unknown := [party for party in part.parties if party not in {me, *settings.partners}]:
            reason = f"{me} does not know {unknown[0]}, which has a part of {model}: add [partners.{unknown[0]}]"
            raise JobProblem("policy.partner", me, reason)
        return OwnModel(part, part.digest, read_table(settings, table, part, arrays, key), key)

    async def _ask(self, own: OwnModel, purpose: str, ids: pa.Array) -> Mapping[str, Words]:
        """Ask every partner at once; return their shares, of the right shape."""
        loop, token = asyncio.get_running_loop(), f"serve-{secrets.token_hex(8)}"
        partners = [party for party in own.part.parties if party != self._settings.party]
        self._check_away(partners)
        waiting = self._waiting[token] = _Waiting({party: loop.create_future() for party in partners})
        try:
            for party in partners:
                self._spawn(self._send(token, waiting, party, self._request(own, party, purpose, ids)))
            answers = await self._wait(waiting)
        finally:
            del self._waiting[token]
        return {party: self._words(party, answer, len(ids), own) for party, answer in answers.items()}

    def _request(self, own: OwnModel, partner: str, purpose: str, ids: pa.Array) -> ScoreRequest:
        key = self._identity.shared_key(self._key_of(partner), pseudonym_purpose(own.part))
        rows = pseudonyms(key, ids).tobytes()
        return ScoreRequest(model=own.part.job, digest=own.digest, purpose=purpose, issued=time.time(), rows=rows)

    def _key_of(self, partner: str) -> Any:
        return parse_public(self._settings.partners[partner].key)

    def _check_away(self, partners: Sequence[str]) -> None:
        """Fail at once where a partner has just been silent.

        Else its queue would fill with what nobody waits for.
        """
        now = loop_time()
        away = [party for party in partners if party in self._away and now < self._away[party][1]]
        if away:
            raise self._silence(away)

    async def _wait(self, waiting: _Waiting) -> Mapping[str, Answer]:
        futures = waiting.answers
        await asyncio.wait(futures.values(), timeout=self._settings.deadlines.serve)
        silent = [party for party, future in futures.items() if not future.done()]
        if silent and not waiting.sent:
            reason = f"{self._settings.party} cannot ask {' and '.join(silent)}: the broker takes nothing at the moment"
            raise JobProblem("serving.unreachable", self._settings.party, reason)
        if silent:
            now = loop_time()
            for party in silent:
                since = self._away[party][0] if party in self._away else now - self._settings.deadlines.serve
                self._away[party] = since, now + AWAY_SECONDS
            raise self._silence(silent)
        return {party: future.result() for party, future in futures.items()}

    def _silence(self, silent: Sequence[str]) -> JobProblem:
        me, party = self._settings.party, silent[0]
        seconds = loop_time() - self._away[party][0]
        return JobProblem(
            "serving.deadline",
            party,
            f"{' and '.join(silent)} has not answered {me} for {seconds:.0f} s ([deadlines] serve at {me} is "
            f"{self._settings.deadlines.serve:g} s): look whether its agent and the broker run",
        )

    async def _send(self, token: str, waiting: _Waiting, partner: str, request: ScoreRequest) -> None:
        address = Address(token, 0, Round.CONTROL, request.item, 0, 0, self._settings.party, partner)
        envelope = control_envelope(
            request,
            address,
            self._identity,
            self._key_of(partner),
            routing_key=topology.announce_key(token, partner),
            expires=EXPIRES,
            persistent=False,
        )
        try:
            reached = await publish_patiently(self._broker, envelope)
            why = f"{partner}'s agent has no queue at the broker, or the broker takes nothing"
        except BrokerError as error:
            reached, why = False, str(error)
        if reached:
            waiting.sent.add(partner)
        elif not waiting.answers[partner].done():
            waiting.answers[partner].set_result(_unreachable(partner, why))

    def _words(self, party: str, found: Answer, rows: int, own: OwnModel) -> Words:
        if isinstance(found, ScoreRefusal):
            culprit = found.culprit if found.culprit == self._settings.party else party  # it speaks of no others
            raise JobProblem(found.code, culprit, found.reason)
        shape = rows, own.part.outputs + 1
        if found.words.shape != shape:
            reason = f"{party} answers with a tensor of {found.words.shape} where {shape} was due"
            raise JobProblem("serving.answer", party, reason)
        return found.words

    def _sum(self, own: OwnModel, words: Words, shares: Mapping[str, Words]) -> tuple[Any, Floats]:
        """Add up the parts of rows, (rows, outputs), in the label's terms.

        Tell also of which rows there is a score.

        Raises:
            JobProblem: a score is further away than any of the training's could be.
        """
        whole = np.zeros((len(words), own.part.outputs + 1), np.uint64)
        for share in shares.values():
            whole = whole + share
        known = whole[:, -1] == 0
        scores = np.where(known[:, None], decode_scores(words + whole[:, :-1]), 0.0)
        limit = 2.0**own.part.score_exponent
        if (np.abs(scores) > limit).any():
            others = " and ".join(shares)
            raise JobProblem(
                "serving.answer",
                next(iter(shares)) if len(shares) == 1 else "undecided",
                f"a score is beyond {limit:g}, which none of the training came near: the part of {others} is wrong, "
                f"or a row is far from all that were trained on",
            )
        scaling = own.part.label_scaling
        return known, scores if scaling is None else scaling.restore(scores)


def _unreachable(partner: str, why: str) -> ScoreRefusal:
    return ScoreRefusal(code="serving.unreachable", culprit=partner, reason=f"{partner} cannot be asked: {why}"[:2000])
