"""Reads and writes the whole model of a job with release = "label".

It is the label party's to keep, since it has the weights and encodings of all parties' columns. It holds no share, no
key and no row, and nothing in it can run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from tercet.agents.core.private_file import replace
from tercet.agents.models import model_part
from tercet.agents.models.model_part import BIAS, INTERCEPT, UPPER, WEIGHTS, ModelPart, ModelPartProblem
from tercet.mpc.arithmetic.fixed import Floats, decode, encode, encode_features
from tercet.mpc.functions.hidden import HIDDEN
from tercet.schemas.core.strict import Name, Strict
from tercet.schemas.files.job import ModelKind, Network, OmitUnset, Scorecard, link_of
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.label import Classes, LabelScaling
from tercet.tables.encoding.offset import Offset

FORMAT: Final = 1
MANIFEST = "tercet"  # under which the file's metadata have the manifest


class Columns(Strict):
    """Describes one party's columns: their encoding, and the norm at which rows are clipped."""

    party: Name
    encoding: Encoding
    norm: float = Field(ge=0)  # 0 where there are no columns


class ModelDescription(OmitUnset):
    """Describes a model beside its weights.

    Attributes:
        columns: of each data party, in the job's order.
        fx: fractional bits to which features and hidden activations are rounded, as they were in training.
        scorecard: how scores become points, where the job says so.
        offset: the column of the label party that scores begin with, if there is one.
    """

    added = frozenset({"scorecard", "offset"})

    format: Literal[1] = FORMAT
    job: str
    model: ModelKind
    network: Network | None = None
    label_party: Name
    columns: tuple[Columns, ...] = Field(min_length=2)
    fx: int = Field(ge=1, le=32)
    label_scaling: LabelScaling | None = None
    classes: Classes | None = None
    scorecard: Scorecard | None = None
    offset: Offset | None = None
    created: AwareDatetime
    tercet: str

    @property
    def link(self) -> str:
        """Link between score and label."""
        return link_of(self.model, self.network)

    @property
    def outputs(self) -> int:
        """Scores of a row."""
        return 1 if self.classes is None else len(self.classes.names)

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each layer, the scores last."""
        return (*(() if self.network is None else self.network.hidden), self.outputs)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FullModel:
    """Holds every weight of a model as float64.

    Attributes:
        blocks: of each party's encoded columns, (columns, units of the first layer).
        upper: above each hidden layer, (units below, units above).
        biases: of each layer, (1, units); of a model without hidden layers the intercept alone.
    """

    description: ModelDescription
    blocks: tuple[Floats, ...]
    upper: tuple[Floats, ...]
    biases: tuple[Floats, ...]

    def __repr__(self) -> str:
        parties = " and ".join(columns.party for columns in self.description.columns)
        return f"FullModel({self.description.job!r}: {self.description.model}, columns of {parties})"

    @classmethod
    def from_arrays(cls, about: ModelDescription, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Make a model from arrays named as in a model part; ignore others.

        Raises:
            ModelPartProblem: one lacks, or has another shape or kind than `about` says.
        """
        below, layers = about.widths[:-1], range(len(about.widths))
        blocks = {
            f"{WEIGHTS}{columns.party}": (len(columns.encoding.names), about.widths[0]) for columns in about.columns
        }
        upper = {f"{UPPER}{k}": (width, about.widths[k + 1]) for k, width in enumerate(below)}
        names = [f"{BIAS}{k}" for k in layers] if about.network else [INTERCEPT]
        biases = {name: (1, width) for name, width in zip(names, about.widths, strict=True)}
        parts = [tuple(_find_array(arrays, name, shape) for name, shape in shapes.items())
                 for shapes in (blocks, upper, biases)]  # fmt: skip
        return cls(about, *parts)

    @property
    def arrays(self) -> dict[str, Floats]:
        """Arrays that `from_arrays` takes."""
        blocks = zip((f"{WEIGHTS}{columns.party}" for columns in self.description.columns), self.blocks, strict=True)
        names = [f"{BIAS}{k}" for k in range(len(self.biases))] if self.description.network else [INTERCEPT]
        upper = {f"{UPPER}{k}": layer for k, layer in enumerate(self.upper)}
        return dict(blocks) | upper | dict(zip(names, self.biases, strict=True))

    def scores(self, encoded: Floats) -> Floats:
        """Score all parties' encoded columns (rows, columns), in job order: (rows, outputs).

        Features and hidden activations are rounded as in training, so that these are Tercet's own scores but for
        their rounding to 16 fractional bits. Of a label that was scaled they are in its own terms. A row's offset is
        to be added, where the model has one.

        Raises:
            RangeProblem: a number is not finite.
        """
        about, z = self.description, self.biases[0]
        counts = np.cumsum([len(block) for block in self.blocks])[:-1]
        for columns, block, part in zip(about.columns, self.blocks, np.hsplit(encoded, counts), strict=True):
            z = z + decode(encode_features(part, columns.norm, about.fx), about.fx) @ block
        if about.network is not None:
            link = HIDDEN[about.network.activation]
            for layer, bias in zip(self.upper, self.biases[1:], strict=True):
                z = decode(encode(link.phi(z) + link.centre, about.fx), about.fx) @ layer + bias
        return z if about.label_scaling is None else about.label_scaling.restore(z)


def _find_array(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, int]) -> Floats:
    array = arrays.get(name)
    if array is None or array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
        raise ModelPartProblem(f"array {name!r} is not float64 {shape} and finite; export the model again")
    return array


# --- from and to the disk


def read(path: Path) -> FullModel:
    """Read the whole model from a label party's part, or from a file that `write` made.

    Raises:
        ModelPartProblem: there is none, or it is damaged; what a part of another release lacks is said.
    """
    if path.is_dir():
        return of_part(*model_part.load(path))
    about, arrays = _unpack(path)
    return FullModel.from_arrays(about, arrays)


def of_part(part: ModelPart, arrays: Mapping[str, NDArray[Any]]) -> FullModel:
    """Make the whole model from a part.

    Raises:
        ModelPartProblem: the part is not the whole.
    """
    if not part.whole:
        where = f"it is in {part.label_party}'s part"
        if part.release != "label":
            where = f'its job says release = "{part.release}"; train with release = "label", which all have to allow'
        raise ModelPartProblem(f"{part.party}'s part of {part.job} is not the whole model: {where}")
    return FullModel.from_arrays(describe(part, {part.party: part.encoding} | part.encodings), arrays)


def describe(part: ModelPart, encodings: Mapping[str, Encoding]) -> ModelDescription:
    """Describe the whole model by the label party's part and all parties' encodings.

    Raises:
        ModelPartProblem: the part's plan lacks something.
    """
    columns = (Columns(party=one, encoding=encodings[one], norm=part.norm_of(one)) for one in part.parties)
    same = {name: getattr(part, name) for name in ModelDescription.model_fields.keys() - {"format", "columns", "fx"}}
    return ModelDescription(columns=tuple(columns), fx=_fx(part), **same)


def _fx(part: ModelPart) -> int:
    fx = part.plan.get("fx")
    if not isinstance(fx, int):
        raise ModelPartProblem("the manifest's plan has no fractional bits; restore it from a copy")
    return fx


def write(model: FullModel, path: Path) -> None:
    """Write all of it into one new safetensors file, readable for this user only.

    Raises:
        OSError: the disk does not take it.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in model.arrays.items()}
    replace(path, to_safetensors(arrays, metadata={MANIFEST: model.description.model_dump_json()}))


def _unpack(path: Path) -> tuple[ModelDescription, dict[str, NDArray[Any]]]:
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(MANIFEST, "")
            about = ModelDescription.model_validate_json(text)
            model_part.check_spelling(path, about.tercet, (one.encoding for one in about.columns))
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        what = error.strerror or "cannot be read"
        raise ModelPartProblem(f"{path}: {what}; give a model part's folder or an exported file") from None
    except (SafetensorError, ValidationError, TypeError, AttributeError):  # the last two: numbers that numpy has not
        raise ModelPartProblem(f"{path}: no model that this version of tercet has exported; export it again") from None
