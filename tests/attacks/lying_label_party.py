"""The attack of a label party that opens its weights falsely, so that a partner's scores have more of one column.

It works on words as the party itself could: it adds constants to what it opens, and knows which ones.
"""

from dataclasses import dataclass, field

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats, encode_features, encode_number
from tercet.mpc.arithmetic.ring import Words, product
from tercet.mpc.interface.script import HELPER
from tercet.mpc.plan.plan import Request
from tercet.mpc.scoring.linear import scoring_steps
from tercet.mpc.scoring.openings import ModelMasks, PassMasks, WeightMasks, guard_exponent
from tests.mpc.passes import Pass
from tests.mpc.world import MaskSource, World, keyed, make_job

LABEL, PARTNER = 0, 1
NEAR = 0.05  # deviations: a value that is found so closely is read
REQUEST = Request("logistic", rows=600, columns=(5, 6), batch=100, epochs=3, rate=0.3, accept_narrow=True)
ALPHA = 1.0  # without a penalty


@dataclass
class Scene:
    """A trained model, and people whom it scores again and again; the attack may use no value of `xs[PARTNER]`."""

    people: int = 800
    column: int = 2
    world: World = field(init=False)

    def __post_init__(self) -> None:
        self.world = World(make_job(REQUEST, LABEL)).run()
        job, rng = self.world.job, np.random.default_rng(5)
        raw = [rng.normal(size=(self.people, columns)) for columns in job.plan.columns]
        self.xs = [encode_features(x, norm, job.plan.fx) for x, norm in zip(raw, job.plan.norms, strict=True)]
        self.truth = self.xs[PARTNER][:, self.column].view(np.int64) / 2.0**job.plan.fx
        self.shares = [party.shares() for party in self.world.parties]

    def lie(self, size: float) -> Words:
        """A constant that stands in the place of the partner's column, in words of weights."""
        plan = self.world.job.plan
        words = np.zeros((plan.columns[PARTNER], 1), np.uint64)
        words[self.column] = encode_number(size, plan.fw)
        return words

    def masks(self, *, once: bool, run: int) -> tuple[MaskSource, dict[int, WeightMasks]]:
        """Of a prediction: fresh, and those of weights the model's, if they are opened `once`, or fresh too."""
        source = keyed(run, "prediction")
        if once:
            return source, {i: ModelMasks(bytes([7 + i]) * 32, ("label", "partner")) for i in (LABEL, PARTNER)}
        first = next(scoring_steps(self.people, 64, 0, ALPHA))
        return source, {i: PassMasks(source(i, HELPER), first) for i in (LABEL, PARTNER)}

    def predict(self, run: int, *, once: bool, lie: float = 0.0, limit: float = np.inf) -> Floats:
        """The scores of everybody, where the label party opens its weights and the constant with them."""
        masks, weights = self.masks(once=once, run=run)
        scored = Pass(self.world.job, self.shares, self.xs, masks=masks, weights=weights, limit=limit)
        scored.open()
        scored.add_to_weights(LABEL, PARTNER, self.lie(lie))
        return scored.run()[:, 0]

    @property
    def limit(self) -> float:
        """That the training's helper has told."""
        return 2.0 ** guard_exponent(self.world.helper.largest)

    def predict_by_another_seed(self, run: int, shift: float, *, limit: float = np.inf) -> Floats:
        """The scores where the label party gives the helper other masks than those it has opened its weights under.

        The helper adds U (v + shift) instead of U v. Since X = E + U and the label party knows E, it adds E times the
        shift to its own share, and has added X times the shift to the scores. With one or two columns of the partner a
        seed can be searched for that gives a small shift; here it is as if that had been done.
        """
        masks, weights = self.masks(once=True, run=run)
        reported = {**weights, LABEL: _Shifted(weights[LABEL], self.lie(shift))}
        scored = _ByTwoSeeds(self.world.job, self.shares, self.xs, masks=masks, weights=weights, limit=limit)
        scored.shift, scored.helper._weight_masks = self.lie(shift), reported
        return scored.run()[:, 0]

    def read(self, found: Floats) -> float:
        """The part of the values that were read."""
        return float((np.abs(found - self.truth) < NEAR).mean())

    def guessed(self) -> float:
        """The part that one finds who says the most frequent value of everybody."""
        guesses = np.linspace(-2, 2, 81)
        return max(self.read(np.full(self.people, guess)) for guess in guesses)


class _Shifted:
    """Masks of weights, and a constant on those of the partner's block."""

    def __init__(self, masks: WeightMasks, shift: Words) -> None:
        self._masks, self._shift = masks, shift

    def __call__(self, mask: str, i: int, j: int, shape: tuple[int, int]) -> Words:
        return self._masks(mask, i, j, shape) + self._shift


class _ByTwoSeeds(Pass):
    """A pass in which the label party adds E times the shift to its share of z."""

    shift: Words

    def post(self, kind: str, turn: int, index: int, way: tuple[int, int], words: Words) -> None:
        """Take a tensor from one role to another, the share changed."""
        if (kind, way) == ("output share", (LABEL, HELPER)):
            seen = next(s for s in self.sent if (s.what, s.step, s.sender) == ("masked inputs", index, PARTNER))
            words = words + product(seen.words, self.shift)
        super().post(kind, turn, index, way, words)
