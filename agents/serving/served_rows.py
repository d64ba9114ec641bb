"""Remembers which rows were asked for, which were answered for, and by which answers.

It holds keyed hashes. `scored_ids` writes them to the disk before an answer leaves.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tercet.agents.alignment.scored_ids import SERVED, ScoredIds, read_served
from tercet.schemas.files.policy import DAY_SECONDS
from tercet.tables.core.durable import flush

Answers = NDArray[np.void]  # of dtype SERVED
ASKED: Final = 0  # in an answer's place: the record is of a hash that was asked for, not of a row's id


class ServedRows:
    """Holds questions and answers of one model at one party.

    Attributes:
        count: hashes that were asked for, and each row's answers beside the first.
        most_answers: for one row.
    """

    def __init__(self, scored: ScoredIds, clock: Callable[[], float] = time.time) -> None:
        """Read the earlier answers; remove a last one that a crash has torn.

        Raises:
            OSError: the file cannot be read or mended.
        """
        self._scored, self._clock = scored, clock
        self._answers: dict[int, tuple[int, ...]] = {}
        self._day, self._of_day = 0, 0
        self.count = 0
        self.most_answers = 0
        found = read_served(scored.served_path)
        _cut(scored.served_path, found.nbytes)
        self._add(found)

    def make(self, ids: NDArray[np.uint64], answers: NDArray[np.uint64]) -> Answers:
        """Make records of today's."""
        found = np.empty(len(ids), SERVED)
        found["id"], found["answer"], found["day"] = ids, answers, self._today
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

    @property
    def of_today(self) -> int:
        """The part of `count` that is of today."""
        return self._of_day if self._day == self._today else 0

    def note(self, answers: Answers, *, repeat: bool) -> NDArray[np.bool_]:
        """Write new answers to the disk; tell of which no other job has scored the row.

        Raises:
            UnusableMarks, OSError: they cannot be written.
        """
        fresh = self._scored.note_served(answers, repeat=repeat)
        self._add(answers[fresh])
        return fresh

    def _of(self, answer: np.void) -> tuple[int, ...]:
        return self._answers.get(int(answer["id"]), ())

    @property
    def _today(self) -> int:
        return int(self._clock() // DAY_SECONDS)

    def _add(self, answers: Answers) -> None:
        for one in answers:
            known, day = self._of(one), int(one["day"])
            if day != self._day:
                self._day, self._of_day = day, 0
            self._answers[int(one["id"])] = (*known, int(one["answer"]))
            if known or one["answer"] == ASKED:
                self._of_day += 1
                self.count += 1
            if one["answer"] != ASKED:
                self.most_answers = max(self.most_answers, len(known) + 1)


def _cut(path: Path, size: int) -> None:
    if path.exists() and path.stat().st_size > size:
        with path.open("r+b") as file:
            file.truncate(size)
        flush(path)
