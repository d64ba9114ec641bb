"""Holds a job's request and the agreed numbers that its steps are made of.

`planner` finds these, if there are such.

It sees the job's public numbers only. Every party walks through the schedule with the same IEEE operations, to the last
bit, and the parties compare digests of `Plan.canonical()`.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, ceil_log2, decode
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.functions.hidden import HIDDEN
from tercet.mpc.functions.labels import refuse_labels
from tercet.mpc.functions.links import LINKS, Link, find_link
from tercet.mpc.functions.row_labels import FACTOR_BITS
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.blind import Blind, narrow_bits
from tercet.mpc.plan.check_sizes import Sizes
from tercet.mpc.plan.schedule import RateKind, Step, batch_sizes, decay_alpha, rates, snap_scale

GUARD_BIT = 62  # raw z beyond 2^62 has left the safe half of the words; one step cannot have jumped the other half
MOST_OFFSET = 2.0 / 3.0  # of the series' interval, both ways
MOST_SCORE_BITS = 20  # fractional bits of a score in the loss
MOST_BLIND_SCORE_BITS, MOST_BLIND_LABEL_BITS = 28, 12  # where a score is a sum of rounded terms: more, and fewer


class PlanRefused(ValueError):
    """Refuses a job that must not start: the submitter's input.

    `reason` says why, `remedy` what to change.

    `others` are what it would be refused for beside, so that all of it is told at once.
    """

    def __init__(self, reason: str, remedy: str, *others: "PlanRefused") -> None:
        super().__init__("; also: ".join([f"{reason}; {remedy}", *map(str, others)]))
        self.reason, self.remedy, self.others = reason, remedy, others


def refuse_all(refusals: Sequence[PlanRefused]) -> None:
    """Raise them as one, if there are any."""
    if refusals:
        first, *others = refusals
        raise PlanRefused(first.reason, first.remedy, *others)


@dataclass(frozen=True, slots=True)
class Begin:
    """Says what a plan has to know of the model that a training begins at."""

    alpha: float  # what its words are multiplied by
    fw: int  # fractional bits that weights have at least, so that no share is rounded; 0 where owners may round


@dataclass(frozen=True, slots=True)
class Request:
    """Holds a job's request, as far as the planner minds."""

    model: str
    rows: int
    columns: tuple[int, ...]  # encoded columns of each data party, in party order
    batch: int
    epochs: int
    rate: float
    schedule: RateKind = "constant"
    decay: float = 0.0
    l2: float = 0.0
    accept_narrow: bool = False
    held_out: int = 0  # rows that are scored and not trained on
    scorings: int = 0  # how often
    label: int = 0  # the label party's index, which learns the scores
    outputs: int = 1  # the number of classes, where the link has an output for each
    whole: bool = False  # whether the label party will hold the whole model, and so know what its scores are made of
    network: Network | None = None  # None for a model without hidden layers
    blind: Blind | None = None  # how activations are evaluated without the helper; None where it computes them
    checks: int = 0  # projections by which data parties check what the helper deals; see `checks`
    weighted: bool = False  # whether rows' errors are multiplied by weights that the label party alone has
    checked: float = 0.0  # part of what the helper deals that is opened and compared, where it sees no score
    bits: tuple[float, ...] = ()  # collision entropy of each data party's rows; unknown, each column counts as one
    record_bits: tuple[float, ...] = ()  # what there is to learn of a row of each; likewise
    final: float = 0.1  # of a linear schedule: what is left of the rate at the last step
    begin: Begin | None = None  # the model that a training begins at, if at any
    names: tuple[str, ...] = ()  # of the data parties, for reasons to refuse; no plan depends on them

    @property
    def steps(self) -> int:
        """Steps of the whole job."""
        return len(batch_sizes(self.rows, self.batch)) * self.epochs

    def rates(self) -> Iterator[float]:
        """Yield the learning rate of each step, without end.

        That of a smaller batch is as much smaller: no row counts more than another.
        """
        sizes = batch_sizes(self.rows, self.batch)
        learning = rates(self.schedule, self.rate, self.decay, final=self.final, steps=self.steps)
        for size, rate in zip(itertools.cycle(sizes), learning, strict=False):
            yield rate * min(1.0, size / sizes[0])

    @property
    def alpha(self) -> float:
        """The number that weights are multiplied by before the first step."""
        return 1.0 if self.begin is None else self.begin.alpha

    @property
    def least_fw(self) -> int:
        """Fractional bits that weights have at least."""
        return 0 if self.begin is None else self.begin.fw

    @property
    def shrinks(self) -> bool:
        """Tell whether weights are anything but the sum of their shares."""
        return self.l2 != 0.0 or self.alpha != 1.0

    @property
    def entropies(self) -> tuple[float, ...]:
        """The collision entropy of each data party's rows, in bits."""
        return self.bits or tuple(map(float, self.columns))

    @property
    def factors(self) -> int:
        """Numbers of each row that functions of its score are multiplied by.

        The label party alone has them: a row's weight, and of a Tweedie model its label.
        """
        return int(self.weighted) + int(LINKS[self.model].slope is not None)

    @property
    def partners(self) -> list[int]:
        """The data parties but the label party."""
        return [party for party in range(len(self.columns)) if party != self.label]

    def name(self, party: int) -> str:
        """Return a data party's name, if names are known."""
        return self.names[party] if self.names else f"data party {party + 1}"


class LossBits(NamedTuple):
    """Fractional bits of score and label in the loss."""

    score: int
    label: int

    @property
    def total(self) -> int:
        """Fractional bits of the loss."""
        return self.score + self.label


@dataclass(frozen=True, slots=True)
class Plan:
    """Holds the agreed numbers.

    Fractional bits: f_x of features, F of activation and label, f_w of weights, f_z of z.
    """

    request: Request
    fx: int
    f: int
    norms: tuple[float, ...]  # each data party clips its rows to its own
    score_limit: float  # the helper stops the job when a score exceeds this where errors grow, `Link.exposed`
    noise_bits: int  # of the scores: the helper sees them under noise, uniform in at least +-2^-noise_bits
    last_alpha: float  # at the end of the job: the weights are alpha times the sum of their shares
    steps_per_epoch: int
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    least_scale: float = 1.0  # of all steps, where the helper sees no score

    @property
    def fw(self) -> int:
        """Fractional bits of weights."""
        return self.fx + self.f

    @property
    def fz(self) -> int:
        """Fractional bits of pre-activations."""
        return 2 * self.fx + self.f

    @property
    def hidden_bits(self) -> int:
        """Fractional bits of hidden activations and slopes, where the helper sees none."""
        return self.fz - narrow_bits(self.fx, self.f)

    @property
    def finished_bits(self) -> int:
        """Fractional bits of weights above hidden layers once the model is kept."""
        return narrow_bits(self.fx, self.f) if self.is_blind else self.fw

    @property
    def upper_bits(self) -> int:
        """Fractional bits of weights above hidden layers."""
        return self.hidden_bits + self.f if self.is_blind else self.fw

    @property
    def factor_bits(self) -> int:
        """Fractional bits of rows' factors, which errors lack before they are multiplied.

        0 where there are none.
        """
        return FACTOR_BITS if self.factors else 0

    @property
    def factors(self) -> int:
        """Factors of each row, as `Request.factors`."""
        return self.request.factors

    @property
    def loss_columns(self) -> int:
        """Columns of what scores, and cumulants of weighed rows, are multiplied by in a loss."""
        return self.outputs * (2 if self.request.weighted else 1)

    @property
    def columns(self) -> tuple[int, ...]:
        """Encoded columns of each data party, in party order."""
        return self.request.columns

    @property
    def model(self) -> str:
        """The link's name."""
        return self.request.model

    @property
    def blind(self) -> Blind | None:
        """The series by which activations are evaluated; None where the helper computes them."""
        return self.request.blind

    @property
    def is_blind(self) -> bool:
        """Tell whether the helper sees no score."""
        return self.request.blind is not None

    @property
    def outputs(self) -> int:
        """Outputs of the model, K."""
        return self.request.outputs

    @property
    def network(self) -> Network | None:
        """Hidden layers, if the model has any."""
        return self.request.network

    @property
    def checks(self) -> Sizes:
        """Sizes of the words that check gradient shares; no projections without checks."""
        network = self.request.network
        return Sizes(self.columns, self.outputs if network is None else network.hidden[0], self.request.checks)

    @property
    def smooth(self) -> bool:
        """Tell whether hidden slopes have fractional bits.

        All but ReLU's do, and its too where alpha goes into them.
        """
        network = self.request.network
        return network is not None and not (HIDDEN[network.activation].two_valued and not self.request.shrinks)

    @property
    def link(self) -> Link:
        """The function that the helper applies."""
        return find_link(self.request.model, 0.0 if self.blind is None else self.blind.power)

    @property
    def steps_total(self) -> int:
        """Steps of the whole job."""
        return self.steps_per_epoch * self.request.epochs

    @property
    def loss_rows(self) -> int:
        """Rows over which the training loss is the mean."""
        return self.request.rows

    @property
    def loss_bits(self) -> LossBits:
        """Of the training loss, whose rows the helper lets no score exceed the limit of."""
        return self.loss_bits_of(self.request.rows)

    def score_bounds(self) -> tuple[float, float]:
        """Return the lowest score and the highest that a loss counts with."""
        return self.link.bounds(self.score_limit, math.ldexp(1.0, GUARD_BIT - self.fz))

    def loss_bits_of(self, rows: int) -> LossBits:
        """Choose the most bits with which no sum of so many losses can reach 2^62.

        A factor of two is kept to spare.

        The helper stops the job at a score beyond the limit, and labels are bounded: so the loss of a row is, and with
        it the sum. A loss costs no job its place: where rows are many, bits are fewer, and roundings cancel.
        """
        link, (low, high) = self.link, self.score_bounds()
        corners = np.array([[low] * self.outputs, [high] * self.outputs])
        # A cumulant is convex. A row of classes has labels of one size, whichever it is of.
        label = link.centre(np.zeros(1), self.outputs) if link.classes else np.full((1, 1), self.most_label)
        most = float(np.abs(link.cumulant(corners)).max())
        # Near power 2 a label of 0 has the larger part.
        most += float(link.label_part(np.vstack([label, np.zeros_like(label)])).max())
        most += float(np.abs(link.target(label)).sum()) * float(np.abs(link.parameter(np.array([low, high]))).max())
        free_bits = 61 - ceil_log2(rows * most)
        bits = min(link.label_bits, MOST_BLIND_LABEL_BITS if self.is_blind else free_bits // 2)
        bits = MOST_BLIND_LABEL_BITS if self.request.weighted else bits
        return LossBits(min(MOST_BLIND_SCORE_BITS if self.is_blind else MOST_SCORE_BITS, free_bits - bits), bits)

    @property
    def most_label(self) -> float:
        """No centred label is larger in size."""
        return self.link.most_label(self.score_limit)

    def check_labels(self, labels: Floats) -> None:
        """Check that this plan can train on labels, (rows,), as the label party holds them.

        Raises:
            LabelProblem: saying how many are not, and what to change.
        """
        link = self.link
        link.check_labels(labels)
        if link.classes:
            refuse_labels(labels >= self.outputs, f"of a class beyond the {self.outputs} that were announced")
        size = np.abs(link.centre(labels, self.outputs)).max(axis=1)
        at_rate = "larger than fits at this rate; cap them, or use a smaller learning rate"
        of_mean = f"larger than {self.most_label:g} times their mean; cap them"
        refuse_labels(size > self.most_label, at_rate if link.slope is None else of_mean)

    def check_offsets(self, offsets: Floats) -> None:
        """Check that offsets, (rows, 1), are well within what the activation holds for.

        Raises:
            LabelProblem: saying how many are not, and what to change.
        """
        blind = self.request.blind
        assert blind is not None, "only data parties add offsets"
        series = blind.series(self.model)
        far = (offsets < MOST_OFFSET * series.low) | (offsets > MOST_OFFSET * series.high)
        refuse_labels(far, "with an offset further out than fits; cap offsets, or leave these rows out")

    def steps(self, first: int = 0) -> Iterator[Step]:
        """Return every step of the job from this one on, in order, made as it is asked for."""
        return itertools.islice(self._steps(), first, None)

    def _steps(self) -> Iterator[Step]:
        request, alpha, index = self.request, self.request.alpha, itertools.count()
        learning = request.rates()
        sizes = batch_sizes(request.rows, request.batch)
        bounds = [0, *itertools.accumulate(sizes)]
        for epoch in range(request.epochs):
            for position, (start, stop) in enumerate(itertools.pairwise(bounds)):
                rate = next(learning)
                after = decay_alpha(rate, request.l2, alpha)
                scale = snap_scale(rate / (stop - start) / after, self.f)
                yield Step(next(index), epoch, position, start, stop, scale, alpha, after, self.least_scale)
                alpha = after

    def alpha_after(self, steps: int) -> float:
        """Return alpha after so many steps: `last_alpha` after the last."""
        request, alpha = self.request, self.request.alpha
        if request.l2 == 0.0:
            return alpha
        for rate in itertools.islice(request.rates(), steps):
            alpha = decay_alpha(rate, request.l2, alpha)
        return alpha

    def weights(self, block: Words, steps: int | None = None) -> Floats:
        """Decode one party's block of the model, (columns, outputs), from its summed shares.

        The shares are those after so many steps; of the finished job if None.
        """
        alpha = self.last_alpha if steps is None else self.alpha_after(steps)
        return alpha * decode(block, self.fw)

    def upper_weights(self, layer: Words, steps: int | None = None, *, finished: bool = False) -> Floats:
        """Decode weights above a hidden layer, (units below, units above), likewise.

        `finished` ones are narrow.
        """
        alpha = self.last_alpha if steps is None else self.alpha_after(steps)
        return alpha * decode(layer, self.finished_bits if finished else self.upper_bits)

    def intercept(self, words: Words) -> Floats:
        """Decode the intercept, (1, outputs), from its summed shares.

        It has no alpha, and so is the same after any step.
        """
        return decode(words, self.fw)

    def canonical(self) -> dict[str, Any]:
        """Return everything that shapes the model as plain values, for hashing."""
        plain = dataclasses.asdict(self)
        del plain["warnings"], plain["notes"], plain["request"]["names"]
        plain["norms"] = list(self.norms)
        plain["request"] |= {name: list(plain["request"][name]) for name in ("columns", "bits", "record_bits")}
        if self.request.begin is None:  # so that a plan has the digest that it had before a training could go on
            del plain["request"]["begin"]
        if not self.request.weighted:  # so that it has the digest that it had before there were weights
            del plain["request"]["weighted"]
        if not self.is_blind:  # so that the plan has the digest that it had before there was another mode
            del plain["request"]["blind"], plain["request"]["checked"], plain["least_scale"]
        elif not plain["request"]["blind"]["power"]:  # likewise, before there were models with a power
            del plain["request"]["blind"]["power"]
        if self.request.network is not None:
            plain["request"]["network"]["hidden"] = list(self.request.network.hidden)
        return plain
