"""Notes which rows each model has scored, so that it scores none twice.

It keeps keyed hashes of ids on the party's own disk, with a key of the party's own; nothing of them is ever sent.

For each model there is a folder, in it a file for each run of a job that scored rows under it: hashes in ascending
order, so that ten million ids take 80 MB and are compared by bisection.
"""

import hashlib
import secrets
import shutil
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.schemas.messages.kinds import Job
from tercet.tables.core.durable import write_durably
from tercet.tables.matching.pseudonyms import pseudonyms

FOLDER: Final = "scored"  # in the state folder
KEY, KEY_BYTES = "key", 32
SUFFIX: Final = ".ids"
SLICE: Final = 2**16  # ids that are Python texts at a time
WORD: Final = np.dtype("<u8")

IdMarks = NDArray[np.uint64]  # keyed hashes of ids, ascending

_lock = Lock()  # of all jobs of a process: a check and what is noted after it are one step


class UnusableMarks(ValueError):
    """Says why the notes on scored rows cannot be read."""


class ScoredIds:
    """Keeps the marks of ids that one model has scored at one party.

    Args:
        state: the party's state folder.
        model: the training job, and its run in hexadecimal: two runs of one job make two models.
        run: of the job that scores, which may score the same rows again in a later attempt.
    """

    def __init__(self, state: Path, model: tuple[str, str], run: bytes) -> None:
        job, trained = model
        self._root, self._run = state / FOLDER, run.hex()
        self._name = f"{job}.{hashlib.sha256(trained.encode()).hexdigest()[:16]}"

    @property
    def folder(self) -> Path:
        """Of the model."""
        return self._root / self._name

    def mark_ids(self, ids: pa.Array, rows: NDArray[np.int64]) -> IdMarks:
        """Hash the ids of these rows, in a microsecond each.

        Raises:
            Unusable: the key is gone or damaged, and hashes by it are there.
            OSError: the disk does not take a new key.
        """
        key = hashlib.blake2b(self._name.encode(), key=self._key(), digest_size=KEY_BYTES).digest()
        found = np.empty(len(rows), WORD)
        for start in range(0, len(rows), SLICE):
            some = rows[start : start + SLICE]
            found[start : start + len(some)] = pseudonyms(key, ids.take(pa.array(some))).view(WORD)[::2]
        found.sort()
        return found

    def repeated(self, marks: IdMarks) -> int:
        """Count the marks that another run has had scored.

        Raises:
            Unusable: what is kept cannot be read.
            OSError: neither.
        """
        again = np.zeros(len(marks), np.bool_)
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path.stem != self._run:
                again |= _is_known(marks, _read(path))
        return int(again.sum())

    def note(self, marks: IdMarks, *, repeat: bool) -> int:
        """Note marks as scored by this run, on the disk; if some may not be, count those instead.

        Args:
            marks: of the rows that are about to be scored.
            repeat: whether those of another run may be scored again.

        Raises:
            Unusable: what is kept cannot be read.
            OSError: the disk does not take it.
        """
        with _lock:
            again = 0 if repeat else self.repeated(marks)
            if not again:
                self._write(marks)
            return again

    def discard(self) -> None:
        """Remove the marks of a model that does not exist after all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, marks: IdMarks) -> None:
        path = self.folder / f"{self._run}{SUFFIX}"
        if path.exists():
            earlier = _read(path)
            if _is_known(marks, earlier).all():
                return
            marks = np.union1d(marks, earlier)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, marks.astype(WORD).tobytes())

    def _key(self) -> bytes:
        path = self._root / KEY
        with _lock:
            if not path.exists():
                if any(self._root.glob(f"*/*{SUFFIX}")):
                    raise UnusableMarks(f"{path} is gone: restore it from a copy")
                self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_durably(path, secrets.token_bytes(KEY_BYTES))
            key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise UnusableMarks(f"{path} is damaged: restore it from a copy")
        return key


def model_of(state: Path, job: Job) -> ScoredIds:
    """Open the marks of the model that a training job makes."""
    return ScoredIds(state, (job.id, job.run.hex()), job.run)


def forget_run(state: Path, run: bytes) -> None:
    """Remove the marks of a simulated run, which scored nobody who exists."""
    for path in (state / FOLDER).glob(f"*/{run.hex()}{SUFFIX}"):
        path.unlink()


def _is_known(marks: IdMarks, known: IdMarks) -> NDArray[np.bool_]:
    """Mark those that are among others; both ascend."""
    if not len(known):
        return np.zeros(len(marks), np.bool_)
    places = np.searchsorted(known, marks)
    places[places == len(known)] = 0
    found: NDArray[np.bool_] = known[places] == marks
    return found


def _read(path: Path) -> IdMarks:
    """Mapped, not read: only pages that are looked at come into memory."""
    if path.stat().st_size % WORD.itemsize:
        raise UnusableMarks(f"{path} is damaged: restore it from a copy")
    return np.empty(0, WORD) if not path.stat().st_size else np.memmap(path, WORD, "r")
