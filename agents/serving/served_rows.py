"""Remembers which rows were asked for, which were answered for, and by which answers.

It holds keyed hashes. `scored_ids` writes them to the disk before an answer leaves.
"""

import asyncio
import time
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tercet.agents.alignment.scored_ids import SERVED, ScoredIds, read_served
from tercet.schemas.files.policy import DAY_SECONDS
from tercet.tables.core.durable import flush

Answers = NDArray[np.void]  # of dtype SERVED
ASKED: Final = 0  # in an answer's place: the record is of a hash that was asked for, not of a row's id
MOST_RECENT: Final = 2**14  # rows that take ten times as much memory, until they are sorted in


class DayCount:
    """Counts what one label party asks for in a day, by all models.

    Attributes:
        lock: who counts, and then notes, holds it.
        clock: seconds since 1970.
    """

    def __init__(self) -> None:
        self.lock, self.clock = asyncio.Lock(), time.time
        self._day, self._count = 0, 0

    @property
    def today(self) -> int:
        """Days since 1970."""
        return int(self.clock() // DAY_SECONDS)

    @property
    def count(self) -> int:
        """Ids that were asked for today."""
        return self._count if self._day == self.today else 0

    def add(self, more: int) -> None:
        """Count more of today."""
        self._day, self._count = self.today, self.count + more


class ServedRows:
    """Holds questions and answers of one model at one party.

    It takes 16 bytes for each.

    Attributes:
        day: of the label party.
        count: hashes that were asked for, and each row's answers beside the first.
        most_answers: for one row.
        of_today: the part of `count` that was of today when the file was read.
    """

    def __init__(self, scored: ScoredIds, day: DayCount) -> None:
        """Read the earlier answers; remove a last one that a crash has torn.

        Raises:
            OSError: the file cannot be read or mended.
        """
        self._scored, self.day = scored, day
        found = read_served(scored.served_path)
        _cut(scored.served_path, found.nbytes)
        asked = found["answer"] == ASKED
        answers = found[~asked]
        _, first, counts = np.unique(answers["id"], return_index=True, return_counts=True)
        counted = np.append(found["day"][asked], np.delete(answers["day"], first))
        self.count, self.of_today = len(counted), int((counted == day.today).sum())
        self.most_answers = int(counts.max(initial=0))
        self._ids, self._answers = _sorted(found["id"], found["answer"])
        self._recent: dict[int, tuple[int, ...]] = {}  # those that are not among the sorted ones yet

    def make(self, ids: NDArray[np.uint64], answers: NDArray[np.uint64]) -> Answers:
        """Make records of today's."""
        found = np.empty(len(ids), SERVED)
        found["id"], found["answer"], found["day"] = ids, answers, self.day.today
        return found

    def has(self, answers: Answers) -> NDArray[np.bool_]:
        """Tell of each whether it was given before."""
        return np.array([int(one["answer"]) in self._of(one) for one in answers], np.bool_)

    def answered(self, answers: Answers) -> NDArray[np.bool_]:
        """Tell of each whether its row was answered for before, whatever the answer was."""
        return np.array([bool(self._of(one)) for one in answers], np.bool_)

    def most_after(self, answers: Answers) -> int:
        """Count the answers for one row at most, once these are given too."""
        return max([self.most_answers, *(len(self._of(one)) + 1 for one in answers)])

    def note(self, answers: Answers, *, repeat: bool) -> NDArray[np.bool_]:
        """Write new answers to the disk; tell of which no other job has scored the row.

        Raises:
            UnusableMarks, OSError: they cannot be written.
        """
        fresh = self._scored.note_served(answers, repeat=repeat)
        self._add(answers[fresh])
        return fresh

    def _of(self, answer: np.void) -> tuple[int, ...]:
        one = answer["id"]
        start, end = np.searchsorted(self._ids, one), np.searchsorted(self._ids, one, "right")
        return (*self._answers[start:end].tolist(), *self._recent.get(int(one), ()))

    def _add(self, answers: Answers) -> None:
        before = self.count
        for one in answers:
            known, name = len(self._of(one)), int(one["id"])
            self._recent[name] = (*self._recent.get(name, ()), int(one["answer"]))
            if known or one["answer"] == ASKED:
                self.count += 1
            if one["answer"] != ASKED:
                self.most_answers = max(self.most_answers, known + 1)
        self.day.add(self.count - before)
        if len(self._recent) > MOST_RECENT:
            pairs = [(one, answer) for one, found in self._recent.items() for answer in found]
            more = np.array(pairs, np.uint64)
            self._ids, self._answers = _sorted(np.append(self._ids, more[:, 0]), np.append(self._answers, more[:, 1]))
            self._recent = {}


def _sorted(ids: NDArray[np.uint64], answers: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    order = np.argsort(ids, kind="stable")
    return ids[order], answers[order]


def _cut(path: Path, size: int) -> None:
    if path.exists() and path.stat().st_size > size:
        with path.open("r+b") as file:
            file.truncate(size)
        flush(path)
