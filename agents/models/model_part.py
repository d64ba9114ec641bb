"""Reads and writes one party's model part: safetensors beside a JSON manifest.

A part is self-contained: with its manifest it scores a table without the job, the settings or another party. It holds
no key and no row, of another party's columns nothing but where all parties agreed to that, and nothing in it can run.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors

from tercet.agents.models.array_checks import check
from tercet.agents.models.manifest import (
    BIAS,
    FORMAT,
    INTERCEPT,
    SHARE,
    UPPER,
    WEIGHTS,
    Arrays,
    ModelPart,
    ModelPartProblem,
)
from tercet.mpc.arithmetic.fixed import CLIP, clip_rows
from tercet.tables.core.durable import write_durably
from tercet.tables.core.problem import join_names
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding

__all__ = [
    "BIAS",
    "FORMAT",
    "INTERCEPT",
    "MANIFEST",
    "SHARE",
    "UPPER",
    "WEIGHTS",
    "Arrays",
    "ModelPart",
    "ModelPartProblem",
    "load",
    "manifest",
    "partial_scores",
    "save",
]

MANIFEST = "manifest.json"


def save(folder: Path, part: ModelPart, arrays: Arrays) -> ModelPart:
    """Write a part; its folder is made if need be, readable for its owner only.

    The manifest comes last and in one step: whenever the machine stops, the folder holds the part that was there
    before or the new one, whole. Weights that no manifest names any more are removed.

    Returns:
        The part with its hash.

    Raises:
        ModelPartProblem: the arrays are not those of the part.
        OSError: the disk does not take it.
    """
    check(part, arrays)
    content = to_safetensors({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    part = part.model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    _write(folder / part.weights_file, content)
    _write(folder / MANIFEST, part.model_dump_json(indent=2).encode() + b"\n")
    for other in folder.glob("weights-*.safetensors"):
        if other.name != part.weights_file:
            other.unlink()
    return part


def load(folder: Path) -> tuple[ModelPart, dict[str, NDArray[Any]]]:
    """Read a part and check that it is whole.

    Raises:
        ModelPartProblem: there is none, it is of another format, or it was damaged or altered.
    """
    part = manifest(folder)
    path = folder / part.weights_file
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != part.weights_sha256:
        raise ModelPartProblem(f"{path}: not the weights that {MANIFEST} names; restore the folder from a copy")
    try:
        arrays = from_safetensors(content)
    except (SafetensorError, KeyError):  # a kind of numbers that numpy has not
        raise ModelPartProblem(f"{path}: not a safetensors file; restore the folder from a copy") from None
    check(part, arrays)
    return part, arrays


def partial_scores(part: ModelPart, arrays: Arrays, table: Table) -> NDArray[np.float64]:
    """Compute this party's part of each row's score: float64 (rows, outputs).

    The intercept is included by its holder.

    Raises:
        ModelPartProblem: the weights stayed shared, so that no party can score by itself.
        TableProblem: the table's columns are not those of the training.
    """
    if part.release != "owners" or part.network is not None:
        raise ModelPartProblem(
            f"the weights of {part.job} stayed shared; predict with all its parties, or train with release = owners"
        )
    encoded = clip_rows(np.clip(part.encoding.apply(table), -CLIP, CLIP), part.norm)  # as in training
    # Output by output: the same for a row whatever the batch.
    scores = np.column_stack([np.einsum("bd,d->b", encoded, column) for column in arrays["weights"].T])
    return scores + arrays["intercept"] if part.party == part.intercept_holder else scores


def manifest(folder: Path) -> ModelPart:
    """Read what a part says of itself, and not its weights.

    Raises:
        ModelPartProblem: there is no part, or its manifest is of another format or damaged.
    """
    path = folder / MANIFEST
    content = _read(path)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):  # UnicodeDecodeError included
        raise ModelPartProblem(f"{path}: not JSON; restore the folder from a copy") from None
    version = found.get("format") if isinstance(found, dict) else None
    if isinstance(version, int) and 0 < version < FORMAT:
        raise ModelPartProblem(
            f"{path}: format {version} of an earlier tercet, which lacks what predictions are kept safe by; train "
            f"again, or use the tercet that wrote it"
        )
    if version != FORMAT:
        raise ModelPartProblem(
            f"{path}: format {version!r}, and this version reads {FORMAT}; use the tercet that wrote it, or a newer one"
        )
    try:
        part = ModelPart.model_validate_json(content)
        check_spelling(path, part.tercet, [part.encoding, *part.encodings.values()])
    except ValidationError as error:
        fields = {".".join(map(str, item["loc"])) for item in error.errors(include_input=False)}
        raise ModelPartProblem(
            f"{path}: wrong or missing: {', '.join(sorted(fields))}; restore the folder from a copy"
        ) from None
    return part


def check_spelling(path: Path, version: str, encodings: Iterable[Encoding]) -> None:
    """Check that no two categories are one by `tables.core.spelling`.

    Raises:
        ModelPartProblem: they do: they are older than that rule.
    """
    clashing = [name for encoding in encodings for name in encoding.changed_categories]
    if clashing:
        raise ModelPartProblem(
            f"{path}: column {join_names(clashing)} has categories that are one as they are read now, such as 1 and "
            f"1.0; tercet {version} wrote it before that; train again, or use the tercet that wrote it"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelPartProblem(
            f"{path}: {error.strerror}; give the folder that a finished job named for this party"
        ) from None


def _write(path: Path, content: bytes) -> None:
    write_durably(path, content, ".unfinished")  # one name for all: weights are called after their content
