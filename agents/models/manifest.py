"""Defines the manifest of a model part: names and meaning of its arrays.

It holds no weight, and of another party's columns nothing but where all parties agreed to that. Counts of rows by bin
are of the party's own columns alone.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from numpy.typing import NDArray
from pydantic import AwareDatetime, Field, JsonValue

from tercet.agents.models.population import Population
from tercet.schemas.core.error import TercetError
from tercet.schemas.core.strict import Name
from tercet.schemas.files.job import ModelKind, Network, OmitUnset, Release, Scorecard, canonical_digest, link_of
from tercet.schemas.messages.kinds import MOST_EXPONENT, MOST_OUTPUTS
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.label import Classes, LabelScaling
from tercet.tables.encoding.offset import Offset

FORMAT: Final = 4
SHARE, UPPER, BIAS = "shares/", "upper.", "bias."
WEIGHTS, INTERCEPT = "weights/", "intercept"  # by party, where one part holds all
SEED, OPENED, OPENED_UPPER = "weight_mask_seed", "opened/", "opened.upper"

Arrays = Mapping[str, NDArray[Any]]


class ModelPartProblem(TercetError, ValueError):
    """Says why a folder holds no usable model part, and how to mend it."""


class LabelTerms(NamedTuple):
    """Gathers what the label party's part says of its label: see `ModelPart`."""

    scaling: LabelScaling | None = None
    classes: Classes | None = None
    offset: Offset | None = None


class ModelPart(OmitUnset):
    """Describes one party's part of a model.

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

    Wherever there are shares, there are also, for predictions: "weight_mask_seed" uint64 (1, 4), which is secret;
    "opened/<party>" uint64 (own columns, outputs or units), the masked weights that each other party has opened to this
    one; and for a network "opened.upper" uint64 (1, all), those above hidden layers, of all parties together.

    Attributes:
        plan: the fixed-point plan as its canonical form has it.
        parties: the data parties in the job's order, which numbers them in the plan.
        steps: how many the model has seen; fewer than the plan's where it was stopped early.
        alpha: what the words of weights are multiplied by.
        score_exponent: no score of a row may be beyond two to this.
        seeds: a commitment to the seed of each data party, in their order, as hexadecimal digits; empty without shares.
        intercept_holder: the party whose part adds the intercept to its scores.
        model: as the job has it; `network`: the layers of a multilayer perceptron.
        label_scaling: only in the label party's part, and only where the label was scaled.
        classes: only in the label party's part: what its outputs stand for, where they are more than one.
        offset: only in the label party's part: the column of its table that scores begin with, if there is one.
        encodings: of the other parties' columns, in the label party's part with release `label`.
        scorecard: how scores become points, where the job says so.
        population: counts of the rows that the model was made of, by bin; None in parts of before.
        weights_sha256: of the weights file; `save` fills it in.
    """

    added = frozenset({"scorecard", "offset", "population"})

    format: Literal[4] = FORMAT
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
    score_exponent: int = Field(ge=0, le=MOST_EXPONENT)
    seeds: tuple[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], ...] = ()
    intercept_holder: Name
    label_scaling: LabelScaling | None = None
    classes: Classes | None = None
    offset: Offset | None = None
    encodings: dict[Name, Encoding] = {}
    scorecard: Scorecard | None = None
    population: Population | None = None
    created: AwareDatetime
    tercet: str
    weights_sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""

    @property
    def norm(self) -> float:
        """The public norm that this party's rows are clipped at."""
        return self.norm_of(self.party)

    def norm_of(self, party: str) -> float:
        """Give the public norm at which a party's rows are clipped."""
        norms = self.plan.get("norms")
        fits = isinstance(norms, list) and len(norms) == len(self.parties)
        norm = norms[self.parties.index(party)] if isinstance(norms, list) and fits else None
        if not isinstance(norm, float):
            raise ModelPartProblem("the manifest's plan has no norms; restore it from a copy")
        return norm

    @property
    def whole(self) -> bool:
        """Tell whether this part alone is the model of all parties' columns."""
        return self.release == "label" and self.party == self.label_party

    @property
    def helped(self) -> bool:
        """Tell whether predictions need the helper, since weights stay shared."""
        return self.release != "owners" or self.network is not None

    @property
    def columns_beside(self) -> tuple[str, ...]:
        """Columns of this party that are read for a score, and are no features."""
        return () if self.offset is None else (self.offset.column,)

    @property
    def link(self) -> str:
        """Link between score and label."""
        return link_of(self.model, self.network)

    @property
    def is_blind(self) -> bool:
        """Tell whether a helper sees no score of this model's."""
        request = self.plan.get("request")
        return isinstance(request, dict) and request.get("blind") is not None

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
        counts = tuple(count for count in columns if isinstance(count, int))
        if len(counts) != len(columns):
            raise ModelPartProblem("the manifest's plan has columns that are no counts; restore it from a copy")
        return counts

    @property
    def digest(self) -> bytes:
        """The same for all parts of one model, and for no other."""
        try:
            return canonical_digest("tercet model", [self.run, self.release, self.steps, self.plan])
        except OverflowError:  # an integer of more than 64 bits
            raise ModelPartProblem("the manifest's plan has too large a number; restore it from a copy") from None

    @property
    def weights_file(self) -> str:
        """Name of the weights file, from its content: no manifest meets another run's weights."""
        return f"weights-{self.weights_sha256[:16]}.safetensors"
