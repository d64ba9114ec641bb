"""Computes this party's share of single rows' scores, which is the same for a row each time.

Noise and masks are functions of a key, the model, the row's id and its part of the score: to ask again tells nothing.
It counts each new question in the budget, of rows that it has or not, and notes it before an answer leaves.
"""

import asyncio
import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tercet.agents.core.problems import JobProblem
from tercet.agents.models.manifest import ModelPart
from tercet.agents.serving.served_rows import ASKED, Answers, ServedRows
from tercet.agents.serving.served_table import MISSING, ServedTable
from tercet.agents.serving.serving_audit import ServingAudit
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.plan.forward import SCORE_BITS
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import KEY_BYTES, Keystream
from tercet.mpc.randomness.score_noise import ScoreNoise
from tercet.schemas.files.settings import Settings
from tercet.tables.matching.pseudonyms import Hashes

ROW = Step(0, 0, 0, 0, 1, 1.0, 1.0, 1.0)  # where the noise of a row is found under the key of its own


class PartialScores:
    """Scores rows of one table by this party's part of one model, for its label party.

    Args:
        settings: of this party.
        part: of the model; each party owns its weights.
        table: read by it.
        key: this party's own, of the model.
        zero_keys: shared with each other partner, by its name; the label party has none of them.
        rows: what was answered before.
        audit: of what is told.
    """

    def __init__(
        self,
        settings: Settings,
        part: ModelPart,
        table: ServedTable,
        *,
        key: bytes,
        zero_keys: Mapping[str, bytes],
        rows: ServedRows,
        audit: ServingAudit,
    ) -> None:
        self._settings, self._part, self._table, self._key = settings, part, table, key
        self.digest = part.digest
        self._zero_keys, self._rows, self._audit = zero_keys, rows, audit

    async def share(self, hashes: Hashes, *, rescoring: bool, most_rows: int) -> Words:
        """Make this party's share of the scores, and of whether there are any: (rows, outputs + 1).

        A row that is not there, or may not be scored again, has uniform words, the same each time.

        Raises:
            JobProblem: more would be told than the settings allow, or the disk cannot be written.
        """
        places = self._table.find(hashes)
        absent = [self._absent(one.tobytes()) for one in hashes[:, None]]
        share = np.array(absent, np.uint64).reshape(len(hashes), self._part.outputs + 1)
        there = np.flatnonzero(places != MISSING)
        ids = [self._table.ids[int(place)].as_py().encode() for place in places[there]]
        words = self._table.words[places[there]]
        answers = self._rows.make(*self._marks(ids, words))
        async with self._rows.day.lock:
            asked = self._count_asked(hashes, most_rows)
            allowed = await self._allow(asked, answers, rescoring=rescoring, most_rows=most_rows)
        for at, one, part in zip(there[allowed], np.array(ids, object)[allowed], words[allowed], strict=True):
            share[at] = self._answer(one, part)
        return share

    def _marks(self, ids: list[bytes], words: Words) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Hash each id as `scored_ids` does, and each answer, which part and noise make."""
        marks = [_digest(self._key, one, 16)[:8] for one in ids]
        key = self._purpose(b"answer")
        answers = [_digest(key, one + part.tobytes(), 8) for one, part in zip(ids, words, strict=True)]
        return _words(marks), _words(answers)

    def _purpose(self, purpose: bytes) -> bytes:
        """Derive a key for one use of this model, these parties' masks and this noise."""
        noise = float(self._settings.policy.score_noise).hex().encode()
        return _digest(self._key, purpose + b" " + noise, KEY_BYTES)

    def _answer(self, one: bytes, part: Words) -> Words:
        """Add noise to a row's part, and hide it from whoever does not add up all shares."""
        private = _digest(self._purpose(b"noise"), one + part.tobytes(), KEY_BYTES)
        noise = ScoreNoise(private, self._settings.policy.score_noise, "serving")
        scored = part + noise.words(ROW, self._part.outputs, 1.0, SCORE_BITS)[0]
        share = np.append(scored, np.uint64(0))
        for partner, key in self._zero_keys.items():
            mask = _stream(_digest(key, one, KEY_BYTES), len(share))
            share = share + mask if self._part.party < partner else share - mask
        return share

    def _absent(self, hashed: bytes) -> Words:
        return _stream(_digest(self._purpose(b"absent"), hashed, KEY_BYTES), self._part.outputs + 1)

    def _count_asked(self, hashes: Hashes, most_rows: int) -> Answers:
        """Count hashes that were not asked for before, of rows that are there or not."""
        asked = self._asked(hashes)
        asked = np.unique(asked[~self._rows.has(asked)])
        if len(asked):
            self._spend(len(asked), max(1, self._rows.most_answers), most_rows)
        return asked

    def _asked(self, hashes: Hashes) -> Answers:
        marks = [_digest(self._key, b"asked " + one.tobytes(), 8) for one in hashes[:, None]]
        return self._rows.make(_words(marks), np.full(len(marks), ASKED, np.uint64))

    def _spend(self, new: int, most_answers: int, most_rows: int) -> None:
        me, rows = self._settings.party, self._rows
        if rows.day.count + new > most_rows:
            raise JobProblem(
                "policy.exposure",
                me,
                f"{self._part.label_party} has asked for {rows.day.count} rows one by one today, and {me} allows "
                f"{most_rows} in a day: wait, or ask {me} whether it raises served_rows_a_day under its [tables]",
            )
        self._audit.spend(rows.count, new, most_answers, self._table.record_bits)

    async def _allow(self, asked: Answers, answers: Answers, *, rescoring: bool, most_rows: int) -> NDArray[np.bool_]:
        """Tell which answers may leave, and note the new ones and what was asked."""
        allowed = self._rows.has(answers)
        new = ~allowed & ~self._rows.answered(answers)
        changed = ~allowed & ~new
        if rescoring and self._affords(len(asked), np.unique(answers[changed]), most_rows):
            new |= changed
        fresh, places = np.unique(answers[new], return_inverse=True)  # a row may be there more than once
        if len(asked) + len(fresh):
            written = await self._note(np.concatenate([asked, fresh]), rescoring=rescoring)
            allowed[new] = written[len(asked) :][places]
        return allowed

    def _affords(self, asked: int, changed: Answers, most_rows: int) -> bool:
        """Count other answers for rows that changed; a refusal would tell that they did."""
        if not len(changed):
            return False
        try:
            self._spend(asked + len(changed), self._rows.most_after(changed), most_rows)
        except JobProblem as problem:
            if problem.code != "policy.exposure":
                raise
            return False
        return True

    async def _note(self, answers: Answers, *, rescoring: bool) -> NDArray[np.bool_]:
        try:
            return await asyncio.to_thread(self._rows.note, answers, repeat=rescoring)
        except (ValueError, OSError) as error:
            me = self._settings.party
            reason = f"{me} cannot note which rows a model has scored, and lets none be scored without that note"
            raise JobProblem("disk.write", me, reason, str(error)) from None


def _digest(key: bytes, content: bytes, size: int) -> bytes:
    return hashlib.blake2b(content, key=key, digest_size=size).digest()


def _words(digests: list[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def _stream(key: bytes, count: int) -> Words:
    return Keystream(key).words(0, 0, 0, (1, count)).reshape(-1)
