"""Stores one job's checkpoints at one data party, on its own disk.

They hold its shares and its own knowledge of the training. Nothing of them is ever sent, and they hold no key.

A file is a SHA-256 and the content it covers: arrays in safetensors, with JSON metadata that binds them to a run.
A torn or foreign file is logged and skipped, so that the one before it counts.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors

from tercet.schemas.messages.kinds import HeldCheckpoint
from tercet.tables.core.durable import write_durably

FORMAT: Final = "1"
MOST_CHECKPOINTS: Final = 3  # the last two on the way, and the one when all steps are done
SUFFIX: Final = ".checkpoint"
DIGEST_BYTES: Final = 32
MOST_BYTES: Final = 2**34
DAY: Final = 86_400.0


class CheckpointProblem(ValueError):
    """Says why a file is not the checkpoint that it should be."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Holds the state of a training after a step.

    Attributes:
        held: its lineage, and how many steps are done.
        arrays: shares, and at the label party scores of held-out rows, by name.
        facts: the rest, as plain values.
    """

    held: HeldCheckpoint
    arrays: Mapping[str, NDArray[Any]] = field(repr=False)
    facts: Mapping[str, JsonValue]

    def number(self, name: str) -> int | None:
        """Give a fact that is a whole number, if it is one."""
        match self.facts.get(name):
            case int() as number:
                return number
        return None


class CheckpointFolder:
    """Stores checkpoints of one job, bound to one run, order and set of rows.

    Args:
        folder: of this job alone.
        binding: a digest of all that a checkpoint must agree with to be gone on from.
    """

    def __init__(self, folder: Path, binding: bytes) -> None:
        self._folder, self._binding = folder, binding.hex()
        self._log = structlog.get_logger()

    def write(self, checkpoint: Checkpoint) -> None:
        """Write one durably, and remove all but the last few.

        Raises:
            OSError: the disk does not take it; those before are as they were.
        """
        held = checkpoint.held
        facts = {"lineage": held.lineage.hex(), "steps": held.steps, "over": held.over, **checkpoint.facts}
        metadata = {"format": FORMAT, "belongs": self._binding, "facts": json.dumps(facts)}
        content = to_safetensors({name: np.ascontiguousarray(a) for name, a in checkpoint.arrays.items()}, metadata)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._place(held), hashlib.sha256(content).digest() + content)
        for path in sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda one: one.stat().st_mtime_ns)[:-MOST_CHECKPOINTS]:
            path.unlink(missing_ok=True)

    def list_held(self) -> tuple[HeldCheckpoint, ...]:
        """List usable checkpoints, the latest first; log faults of the others."""
        found = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}"), reverse=True):
            try:
                found.append(self._read(path).held)
            except (CheckpointProblem, OSError) as problem:
                why = problem.strerror if isinstance(problem, OSError) else str(problem)
                self._log.error(
                    "a checkpoint cannot be used, the one before it counts", code="checkpoint.unusable", path=str(path),
                    why=why,
                )  # fmt: skip
        return tuple(found[:MOST_CHECKPOINTS])

    def read(self, held: HeldCheckpoint) -> Checkpoint:
        """Read one that `list_held` has listed.

        Raises:
            CheckpointProblem, OSError: it cannot be read any more.
        """
        return self._read(self._place(held))

    def keep_only(self, held: HeldCheckpoint | None) -> None:
        """Remove the others: they are of a history that does not go on."""
        for path in self._folder.glob(f"*{SUFFIX}"):
            if held is None or path != self._place(held):
                path.unlink(missing_ok=True)

    def _place(self, held: HeldCheckpoint) -> Path:
        over = "-over" if held.over else ""
        return self._folder / f"{held.steps:012d}-{held.lineage.hex()[:16]}{over}{SUFFIX}"

    def _read(self, path: Path) -> Checkpoint:
        if path.stat().st_size > MOST_BYTES:
            raise CheckpointProblem("it is too long for a checkpoint")
        stored = path.read_bytes()
        digest, content = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise CheckpointProblem("it is torn or was changed")
        metadata = _metadata(content)
        if (metadata.get("format"), metadata.get("belongs")) != (FORMAT, self._binding):
            raise CheckpointProblem("it is of another run, of other rows or of another version of tercet")
        try:
            facts = json.loads(metadata["facts"])
            held = HeldCheckpoint(lineage=bytes.fromhex(facts["lineage"]), steps=facts["steps"], over=facts["over"])
            checkpoint = Checkpoint(held, from_safetensors(content), facts)
        except (KeyError, ValueError, TypeError, RecursionError, SafetensorError):  # pydantic's are ValueErrors
            raise CheckpointProblem("it does not hold what a checkpoint holds") from None
        if path != self._place(held):
            raise CheckpointProblem("it stands under the name of another one")
        return checkpoint


def _metadata(content: bytes) -> dict[str, str]:
    """Read the metadata of a safetensors file."""
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        metadata = header.get("__metadata__", {})
    except (ValueError, AttributeError, RecursionError):
        raise CheckpointProblem("it does not hold what a checkpoint holds") from None
    return metadata if isinstance(metadata, dict) else {}


def checkpoint_folder(state: Path, job: str, fold: int | None = None) -> Path:
    """Name the folder of a job's checkpoints and fixed randomness, or in it that of a fold."""
    folder = state / "checkpoints" / job
    return folder if fold is None else folder / f"fold-{fold}"


def table_folder(state: Path, job: str) -> Path:
    """Name the folder of the table's snapshot, beside the checkpoints."""
    return checkpoint_folder(state, job) / "table"


def discard_table(state: Path, job: str) -> None:
    """Remove the snapshot, when it is of no use any more."""
    shutil.rmtree(table_folder(state, job), ignore_errors=True)


def discard_checkpoints(state: Path, job: str) -> None:
    """Remove all checkpoints, when the job is over for good."""
    shutil.rmtree(checkpoint_folder(state, job), ignore_errors=True)


def discard_old(state: Path, unfinished: Container[str], days: float) -> None:
    """Remove old files of jobs that nobody has resumed for so long; tables at once."""
    for folder in (state / "checkpoints").glob("*"):
        if folder.name in unfinished:
            continue
        if time.time() - folder.stat().st_mtime > days * DAY:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            discard_table(state, folder.name)
