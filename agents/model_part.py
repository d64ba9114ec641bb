"""One party's part of a trained model on its own disk: weights as safetensors beside a manifest in JSON.

A part is self-contained: with its manifest it scores a table without the job, the settings or another party. It holds
no key and no row, of another party's columns nothing but where all parties agreed to that, and nothing in it can run.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, Field, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors

from mpc.fixed import CLIP, clip_rows
from schemas.job import ModelKind, Network, Release, canonical_digest, link_of
from schemas.messages import MOST_OUTPUTS
from schemas.strict import Name, Strict
from tables.encoding import Encoding
from tables.label import Classes, LabelScaling
from tables.table import Table

FORMAT: Final = 3
MANIFEST = "manifest.json"
SHARE, UPPER, BIAS = "shares/", "upper.", "bias."
WEIGHTS, INTERCEPT = "weights/", "intercept"  # by party, where one part holds all
WORDS = {"weights": "weight_words", "intercept": "intercept_words"}  # the same numbers as the ring's words

Arrays = Mapping[str, NDArray[Any]]
Shapes = dict[str, tuple[int, int]]


class ModelPartProblem(ValueError):
    """A folder that holds no usable model part; the text says what is wrong and how to mend it."""


class ModelPart(Strict):
    """The manifest of one party's part.

    The arrays that belong to it, by release:

    - `owners`: "weights" float64 (d, outputs) and "weight_words" uint64 (d, outputs), the same weights as the ring's
      words; where this party holds the intercept also "intercept" float64 (1, outputs) and "intercept_words" uint64.
    - `shared`: "shares/<block>" uint64 (rows, outputs), this party's share of each data party's block, and
      "shares/intercept"; worthless without all other data parties' shares.
    - a network has shares whatever the release: of each block (rows, units), "shares/upper.<k>" of the weights above
      hidden layer k and "shares/bias.<k>" of each layer's biases; with `owners` also "weights" (d, units) and, at the
      intercept's holder, "upper.<k>" and "bias.<k>" in float64, each with its words beside it.
    - `label`: shares of everything, as with `shared`, by which predictions go on; at the label party also the whole
      model in float64: "weights/<party>" (columns, outputs or units) of each data party, and "intercept" (1, outputs)
      or a network's "upper.<k>" and "bias.<k>".

    Attributes:
        plan: the fixed-point plan as its canonical form has it.
        parties: the data parties in the job's order, which numbers them in the plan.
        steps: how many the model has seen; fewer than the plan's where it was stopped early.
        alpha: what the words of weights are multiplied by.
        intercept_holder: the party whose part adds the intercept to its scores.
        model: as the job has it; `network`: the layers of a multilayer perceptron.
        label_scaling: only in the label party's part, and only where the label was scaled.
        classes: only in the label party's part: what its outputs stand for, where they are more than one.
        encodings: of the other parties' columns, in the label party's part with release `label`.
        weights_sha256: of the weights file; `save` fills it in.
    """

    format: Literal[3] = FORMAT
    job: str
    run: str
    model: ModelKind
    network: Network | None = None
    party: Name
    role: Literal["data"] = "data"
    label_party: Name
    parties: tuple[Name, ...]
    release: Release
    encoding: Encoding
    columns: tuple[str, ...]
    plan: dict[str, JsonValue]
    steps: int = Field(ge=0)
    alpha: float = Field(gt=0, le=1)
    intercept_holder: Name
    label_scaling: LabelScaling | None = None
    classes: Classes | None = None
    encodings: dict[Name, Encoding] = {}
    created: AwareDatetime
    tercet: str
    weights_sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""

    @property
    def norm(self) -> float:
        """The public norm that this party's rows are clipped at."""
        return self.norm_of(self.party)

    def norm_of(self, party: str) -> float:
        """The public norm that a party's rows are clipped at."""
        norms = self.plan.get("norms")
        norm = norms[self.parties.index(party)] if isinstance(norms, list) else None
        if not isinstance(norm, float):
            raise ModelPartProblem("the manifest's plan has no norms; restore it from a copy")
        return norm

    @property
    def whole(self) -> bool:
        """Whether this part alone is the model of all parties' columns."""
        return self.release == "label" and self.party == self.label_party

    @property
    def link(self) -> str:
        """What lies between score and label."""
        return link_of(self.model, self.network)

    @property
    def outputs(self) -> int:
        """Scores of a row."""
        request = self.plan.get("request")
        outputs = request.get("outputs") if isinstance(request, dict) else None
        if not isinstance(outputs, int) or not 1 <= outputs <= MOST_OUTPUTS:
            raise ModelPartProblem("the manifest's plan has no outputs; restore it from a copy")
        return outputs

    @property
    def columns_of(self) -> tuple[int, ...]:
        """Encoded columns of each party, in order."""
        request = self.plan.get("request")
        columns = request.get("columns") if isinstance(request, dict) else None
        if not isinstance(columns, list) or len(columns) != len(self.parties):
            raise ModelPartProblem("the manifest's plan has no columns; restore it from a copy")
        return tuple(count for count in columns if isinstance(count, int))

    @property
    def digest(self) -> bytes:
        """The same for all parts of one model, and for no other."""
        return canonical_digest("tercet model", [self.run, self.release, self.steps, self.plan])

    @property
    def weights_file(self) -> str:
        """The name of the weights file: of its content, so that a manifest never meets another run's weights."""
        return f"weights-{self.weights_sha256[:16]}.safetensors"


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
    _check(part, arrays)
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
    part = _manifest(folder / MANIFEST)
    path = folder / part.weights_file
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != part.weights_sha256:
        raise ModelPartProblem(f"{path}: not the weights that {MANIFEST} names; restore the folder from a copy")
    try:
        arrays = from_safetensors(content)
    except SafetensorError:
        raise ModelPartProblem(f"{path}: not a safetensors file; restore the folder from a copy") from None
    _check(part, arrays)
    return part, arrays


def partial_scores(part: ModelPart, arrays: Arrays, table: Table) -> NDArray[np.float64]:
    """What this party's columns add to the scores of each row: float64 (rows, outputs).

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


def _check(part: ModelPart, arrays: Arrays) -> None:
    """The arrays are those that the manifest promises."""
    if part.columns != tuple(part.encoding.names):
        raise ModelPartProblem("the manifest's columns are not those of its encoding; restore it from a copy")
    if part.classes is not None and len(part.classes.names) != part.outputs:
        raise ModelPartProblem("the manifest's classes are not as many as the model's outputs; restore it from a copy")
    if part.release == "label":
        _check_for_label(part, arrays)
        return
    if part.network is not None:
        _check_network(part, arrays)
        return
    if part.release == "owners":
        _check_owned(part, arrays)
        return
    for name, array in arrays.items():
        if not name.startswith(SHARE) or array.dtype != np.uint64 or array.ndim != 2:
            raise ModelPartProblem(f"array {name!r} is not a share: expected {SHARE}<block>, uint64 (rows, outputs)")
    _check_names(arrays, {SHARE + part.party, SHARE + part.label_party, SHARE + "intercept"}, others=True)


def _check_owned(part: ModelPart, arrays: Arrays) -> None:
    shapes = {"weights": (len(part.columns), part.outputs)}
    if part.party == part.intercept_holder:
        shapes["intercept"] = (1, part.outputs)
    words = {WORDS[name]: shape for name, shape in shapes.items()}
    _check_names(arrays, shapes.keys() | words.keys())
    _check_arrays(arrays, shapes, np.float64)
    _check_arrays(arrays, words, np.uint64)


def _check_network(part: ModelPart, arrays: Arrays) -> None:
    """Shares of everything whatever the release; with `owners` also what was opened, as numbers and words."""
    blocks, above = _shapes(part)
    words = {SHARE + name: shape for name, shape in (blocks | above).items()}
    opened: Shapes = {}
    if part.release == "owners":
        opened = {"weights": blocks[part.party]} | (above if part.party == part.intercept_holder else {})
        words |= {WORDS.get(name, f"{name}_words"): shape for name, shape in opened.items()}
    _check_names(arrays, opened.keys() | words.keys())
    _check_arrays(arrays, opened, np.float64)
    _check_arrays(arrays, words, np.uint64)


def _check_for_label(part: ModelPart, arrays: Arrays) -> None:
    """Shares of everything; at the label party also all of it as numbers, and everybody's encoding."""
    blocks, above = _shapes(part)
    words = {SHARE + name: shape for name, shape in (blocks | above).items()}
    opened = {WEIGHTS + party: shape for party, shape in blocks.items()} | above if part.whole else {}
    _check_names(arrays, opened.keys() | words.keys())
    _check_arrays(arrays, opened, np.float64)
    _check_arrays(arrays, words, np.uint64)
    encodings = {part.party: part.encoding} | part.encodings
    known = {party: len(encoding.names) for party, encoding in encodings.items()}
    due = {party: rows for party, (rows, _) in blocks.items() if part.whole or party == part.party}
    if known != due:
        raise ModelPartProblem("the manifest's encodings are not those of its parties' columns; restore it from a copy")


def _shapes(part: ModelPart) -> tuple[Shapes, Shapes]:
    """Of each party's block, by party, and of what is above the columns, by name."""
    widths = (part.outputs,) if part.network is None else (*part.network.hidden, part.outputs)
    blocks = {party: (count, widths[0]) for party, count in zip(part.parties, part.columns_of, strict=True)}
    if part.network is None:
        return blocks, {INTERCEPT: (1, part.outputs)}
    above = {f"{UPPER}{k}": shape for k, shape in enumerate(itertools.pairwise(widths))}
    return blocks, above | {f"{BIAS}{k}": (1, width) for k, width in enumerate(widths)}


def _check_arrays(arrays: Arrays, shapes: Shapes, dtype: type[np.generic]) -> None:
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != dtype:
            raise ModelPartProblem(f"array {name!r} is not {np.dtype(dtype).name} {shape}")
        if not np.isfinite(array).all():
            raise ModelPartProblem(f"array {name!r} is not finite")


def _check_names(arrays: Arrays, expected: set[str], *, others: bool = False) -> None:
    missing, extra = expected - arrays.keys(), arrays.keys() - expected
    if missing or (extra and not others):
        raise ModelPartProblem(f"the part has the wrong arrays: missing {sorted(missing)}, extra {sorted(extra)}")


def _manifest(path: Path) -> ModelPart:
    content = _read(path)
    try:
        found = json.loads(content)
    except ValueError:  # UnicodeDecodeError included
        raise ModelPartProblem(f"{path}: not JSON; restore the folder from a copy") from None
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        raise ModelPartProblem(
            f"{path}: format {version!r}, and this version reads {FORMAT}; use the tercet that wrote it, or a newer one"
        )
    try:
        return ModelPart.model_validate_json(content)
    except ValidationError as error:
        fields = {".".join(map(str, item["loc"])) for item in error.errors(include_input=False)}
        raise ModelPartProblem(
            f"{path}: wrong or missing: {', '.join(sorted(fields))}; restore the folder from a copy"
        ) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelPartProblem(
            f"{path}: {error.strerror}; give the folder that a finished job named for this party"
        ) from None


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step; when this returns, it is on the disk under its name."""
    beside = path.with_name(".unfinished")
    beside.unlink(missing_ok=True)  # of a save that the machine did not survive
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
