"""Reads a party's own table once, and holds its part of every row's score.

A row is found by a keyed hash of its id. Nothing of it leaves here: `partial_scores` adds noise and hides shares. It
takes 24 bytes a row beside the ids, and 8 for each output.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tercet.agents.access.table import read_snapshot
from tercet.agents.core.problems import JobProblem
from tercet.agents.models.manifest import Arrays, ModelPart
from tercet.agents.models.model_part import ModelPartProblem, load, partial_scores
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.scoring.scores import encode_scores
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Settings
from tercet.tables.core.problem import TableProblem, UnusableError
from tercet.tables.encoding.entropy import record_bits, sample_rows
from tercet.tables.encoding.unseen import count_unseen
from tercet.tables.matching.pseudonyms import HASH, Hashes, pseudonyms
from tercet.tables.snapshot.snapshot import Snapshot

ID_SLICE = 2**16  # ids that are Python texts at a time
MISSING = -1  # in the place of a row


class ServedTable:
    """Holds a table's ids and this party's part of their scores.

    Attributes:
        ids: by the rule of `tables.matching.ids`.
        words: this party's part of each row's score, (rows, outputs), SCORE_BITS fractional bits, without noise.
        record_bits: what a record holds, which bounds what scores may tell.
        notes: what its owner should know of the table.
    """

    def __init__(
        self, ids: pa.LargeStringArray, words: Words, key: bytes, bits: float, notes: tuple[str, ...] = ()
    ) -> None:
        """Index the rows by hashes of their ids under `key`."""
        self.ids, self.words, self.record_bits, self.notes = ids, words, bits, notes
        hashes = np.empty(len(ids), HASH)
        for start in range(0, len(ids), ID_SLICE):
            hashes[start : start + ID_SLICE] = pseudonyms(key, ids[start : start + ID_SLICE])
        self._order = np.argsort(hashes)
        self._hashes = hashes[self._order]

    def find(self, hashes: Hashes) -> NDArray[np.int64]:
        """Find the row of each hash, or MISSING."""
        if not len(self._hashes):
            return np.full(len(hashes), MISSING)
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return np.where(self._hashes[places] == hashes, self._order[places], MISSING)


def read_part(settings: Settings, model: str) -> tuple[ModelPart, Arrays]:
    """Read this party's part of a model.

    Raises:
        JobProblem: there is no usable one.
    """
    try:
        return load(settings.state / "models" / model)
    except ModelPartProblem as problem:
        reason = f"{settings.party} has no usable part of the model {model}"
        raise JobProblem("model.missing", settings.party, reason, str(problem)) from None


def read_table(settings: Settings, name: str, part: ModelPart, arrays: Arrays, key: bytes) -> ServedTable:
    """Read a table by the encoding of a model, and score its rows.

    It takes as long as a job's reading does.

    Raises:
        JobProblem: the table cannot be used, or the disk cannot be written.
    """
    me, work = settings.party, settings.state / "work"
    try:
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="serving-", dir=work) as folder, _snapshot(settings, name, part, folder) as own:
            return _scored(own, part, arrays, key)
    except (TableProblem, UnusableError) as problem:
        reason = f"at {me} the table whose rows are served cannot be used"
        raise JobProblem("table.unusable", me, reason, f"table {name!r}: {problem}") from None
    except (Invalid, KeyProblem) as problem:
        reason = f"at {me} the login to a database cannot be read"
        raise JobProblem("table.unusable", me, reason, str(problem)) from None
    except OSError as error:
        reason = f"{me} cannot write a working copy of its table to its disk"
        raise JobProblem("disk.write", me, reason, f"{error.filename}: {error.strerror}") from None


def _snapshot(settings: Settings, name: str, part: ModelPart, folder: str) -> Snapshot:
    table, kinds = settings.tables[name], part.encoding.kinds
    return read_snapshot(name, table, Path(folder), with_label=False, expected=kinds)


def _scored(own: Snapshot, part: ModelPart, arrays: Arrays, key: bytes) -> ServedTable:
    unseen = count_unseen(part.encoding, own.batches())
    words = np.empty((own.rows, part.outputs), np.uint64)
    start = 0
    for batch in own.batches():
        words[start : start + batch.rows] = encode_scores(partial_scores(part, arrays, batch))
        start += batch.rows
    measured = own.rows > 0 and bool(part.columns)
    bits = record_bits(part.encoding, sample_rows(own.batches(), own.rows)).record if measured else 0.0
    return ServedTable(own.ids, words, key, bits, (*own.notes, *map(str, unseen)))
