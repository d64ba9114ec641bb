"""Notes which rows each model has scored, so that it scores none twice.

It keeps keyed hashes of ids on the party's own disk, with a key of the party's own, and sends none of them.

Each model has a folder, with a file for each run that scored rows under the model. A file holds hashes in ascending
order: ten million ids take 80 MB, and bisection finds one. Rows that are served one by one have a file of another
kind, which grows at its end.
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
from tercet.tables.core.durable import append_durably, write_durably
from tercet.tables.matching.pseudonyms import pseudonyms

FOLDER: Final = "scored"  # in the state folder
KEY, KEY_BYTES = "key", 32
SUFFIX: Final = ".ids"
SERVED_SUFFIX: Final = ".served"
SLICE: Final = 2**16  # ids that are Python texts at a time
WORD: Final = np.dtype("<u8")
SERVED: Final = np.dtype([("id", WORD), ("answer", WORD), ("day", WORD)])  # of an answer; days since 1970

IdMarks = NDArray[np.uint64]  # keyed hashes of ids, ascending

_lock = Lock()  # of all jobs of a process, since a check and the note after it are one step


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
        """The model's folder."""
        return self._root / self._name

    def mark_ids(self, ids: pa.Array, rows: NDArray[np.int64]) -> IdMarks:
        """Hash the ids of these rows, in a microsecond each.

        Raises:
            UnusableMarks: the key is missing or damaged, and marks made with it exist.
            OSError: a new key cannot be written.
        """
        key, found = self.own_key(), np.empty(len(rows), WORD)
        for start in range(0, len(rows), SLICE):
            some = rows[start : start + SLICE]
            # of 16 bytes the first 8
            found[start : start + len(some)] = pseudonyms(key, ids.take(pa.array(some))).view(WORD)[::2]
        found.sort()
        return found

    def own_key(self) -> bytes:
        """Derive this party's own key of the model, 32 bytes, by which its ids are hashed.

        Raises:
            UnusableMarks, OSError: as `mark_ids`.
        """
        return hashlib.blake2b(self._name.encode(), key=self._key(), digest_size=KEY_BYTES).digest()

    def repeated(self, marks: IdMarks) -> int:
        """Count the marks of rows that another run has scored.

        Raises:
            UnusableMarks: a file of marks is damaged.
            OSError: a file of marks cannot be read.
        """
        return int(self.scored_by_others(marks).sum())

    def scored_by_others(self, marks: IdMarks) -> NDArray[np.bool_]:
        """Tell of each mark, in any order, whether another run has scored its row.

        Raises:
            UnusableMarks, OSError: as `repeated`.
        """
        again = np.zeros(len(marks), np.bool_)
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path.stem != self._run:
                again |= _is_known(marks, _read(path))
        for path in sorted(self.folder.glob(f"*{SERVED_SUFFIX}")):
            if path.stem != self._run:
                again |= np.isin(marks, read_served(path)["id"])
        return again

    @property
    def served_path(self) -> Path:
        """The file of the rows that this run serves one by one."""
        return self.folder / f"{self._run}{SERVED_SUFFIX}"

    def note_served(self, answers: NDArray[np.void], *, repeat: bool) -> NDArray[np.bool_]:
        """Append answers, of dtype `SERVED`; tell which of them are noted.

        Rows that another run has scored are not, unless rows may be scored again.

        Raises:
            UnusableMarks, OSError: as `note`.
        """
        with _lock:
            fresh = np.ones(len(answers), np.bool_) if repeat else ~self.scored_by_others(answers["id"])
            if fresh.any():
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                append_durably(self.served_path, answers[fresh].tobytes())
            return fresh

    def note(self, marks: IdMarks, *, repeat: bool) -> int:
        """Store marks as scored by this run, or count those that may not be scored again.

        Args:
            marks: of the rows that are about to be scored.
            repeat: whether rows of another run may be scored again.

        Raises:
            UnusableMarks: a file of marks is damaged.
            OSError: the disk cannot be read or written.
        """
        with _lock:
            again = 0 if repeat else self.repeated(marks)
            if not again:
                self._write(marks)
            return again

    def discard(self) -> None:
        """Remove the marks of a model that its training did not make."""
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
                if any(file for suffix in (SUFFIX, SERVED_SUFFIX) for file in self._root.glob(f"*/*{suffix}")):
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
    """Remove the marks of a simulated run, whose scores nobody uses."""
    for path in (state / FOLDER).glob(f"*/{run.hex()}{SUFFIX}"):
        path.unlink()


def _is_known(marks: IdMarks, known: IdMarks) -> NDArray[np.bool_]:
    """Tell of each mark whether it is among the known ones; both ascend."""
    if not len(known):
        return np.zeros(len(marks), np.bool_)
    places = np.searchsorted(known, marks)
    places[places == len(known)] = 0
    found: NDArray[np.bool_] = known[places] == marks
    return found


def read_served(path: Path) -> NDArray[np.void]:
    """Read the answers in a file of served rows; none where there is no file.

    A last one that a crash has torn is left out.

    Raises:
        OSError: it cannot be read.
    """
    content = path.read_bytes() if path.exists() else b""
    return np.frombuffer(content, SERVED, len(content) // SERVED.itemsize)


def _read(path: Path) -> IdMarks:
    """Map a file of marks, so that only the pages that a search touches come into memory."""
    if path.stat().st_size % WORD.itemsize:
        raise UnusableMarks(f"{path} is damaged: restore it from a copy")
    return np.empty(0, WORD) if not path.stat().st_size else np.memmap(path, WORD, "r")
