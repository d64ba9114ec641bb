"""Defines each output link once: function, symmetry, loss, range and labels.

It sees plain numbers only; which of them the helper may see, and in which order, is decided elsewhere.

Everything that shapes a model is made of IEEE operations (`elementary`), so that it is the same to the last bit on
every machine. A link is added by an entry in LINKS.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from tercet.mpc.arithmetic.fixed import CLIP, Floats
from tercet.mpc.functions.elementary import (
    centred_sigmoid,
    exp,
    log,
    log_one_plus,
    log_sum_exp,
    log_two_cosh,
    softmax,
    sorted_sum,
)
from tercet.mpc.functions.labels import (
    centred_binary,
    centred_one_hot,
    check_binary,
    check_classes,
    check_positive,
    check_ratios,
    check_standardised,
    column,
    one_hot,
)

USUAL_POWER = 1.5  # of a Tweedie model that says none
MOST_AMOUNT = 1024.0  # of a Tweedie label over the mean: far out, as amounts are, but no row is all that counts
LIMIT_STEPS = 1024.0  # a limit made by a logarithm is rounded down to a multiple of 1/1024: never above the true one
FAR_SCORE = 32.0  # what a bounded link's scores, and a linear regression's, must be able to reach
FAR_LOG_SCORE, GOOD_LOG_SCORE = 4.0, 5.0  # e^4 is 55, e^5 148: of a count or a mean; below, too few labels fit


@dataclass(frozen=True, slots=True)
class Link:
    """Links scores to labels. Score, centred label and phi have shape (rows, outputs).

    With t the target, which is the label, and r the score: a row's loss is cumulant(r) - sum of t r + label_part(y),
    with phi the slope of cumulant. So the first can be computed of scores under secret signs or in a secret order of
    the classes, the second is one product, and the third is the label party's own. Where a link has an offset, r is
    the score plus offset(y), which the label party adds to its own share in training, and t is zero. Where it has a
    natural parameter, that of r stands in the place of r beside t, and an error is phi(r) - t slope(r).
    """

    name: str
    phi: Callable[[Floats], Floats]  # what the helper applies; any order of the outputs gives the same to the last bit
    odd: bool  # phi(-z) == -phi(z) to the last bit, and the cumulant is even: then secret signs apply
    cumulant: Callable[[Floats], Floats]  # (rows, 1), convex; likewise the same in any order of the outputs
    label_part: Callable[[Floats], Floats]  # (rows, 1), of centred labels
    label_bits: int  # fractional bits that a target needs in the loss, or may have
    check_labels: Callable[[Floats], None]  # raises LabelProblem; of labels, (rows,), as the label party holds them
    centre: Callable[[Floats, int], Floats]  # from such labels and the number of outputs to centred labels
    reach: Callable[[float], float]  # the largest score at which |phi - t| stays within this error; inf: at any
    constant: Callable[[Floats], Floats]  # the score (outputs,) of the best constant, from the mean target (outputs,)
    loss_bias: Callable[[Floats, float], Floats]  # (rows, 1): what noise of half-width h adds to cumulant on average
    most_label: Callable[[float], float]  # no centred label may be larger in size, where scores have this limit
    curvature: float  # slope of an error, at most where it is bounded, else where scores are 0 and labels 1
    least_score: float = FAR_SCORE  # a job whose scores could not reach this would be stopped for nothing
    good_score: float = FAR_SCORE  # features give up bits to reach this
    least_error: float = 1.0  # no |phi - t| is larger at scores within least_score, labels being within the same
    side: int = 0  # of which sign the scores are at which errors grow; 0: of both
    offset: Callable[[Floats], Floats] | None = None  # of centred labels, (rows, outputs)
    most_offset: float = 0.0  # no offset is larger in size
    noise_bits: int = 2  # the helper sees scores under noise of +-2^-noise_bits or more; measured, docs/protocol.md
    natural: Callable[[Floats], Floats] | None = None  # of r; what labels are multiplied by in a loss; None: r itself
    slope: Callable[[Floats], Floats] | None = None  # of natural: what labels are multiplied by in an error; None: 1
    classes: bool = False  # labels are classes, numbered from 0, with an output for each
    helper_applies: bool = True  # or data parties alone do, by a series

    def target(self, y: Floats) -> Floats:
        """Return the term of centred labels that phi is compared with."""
        return np.zeros_like(y) if self.offset else y

    def shifted(self, z: Floats, y: Floats) -> Floats:
        """Return the argument of phi and cumulant, from scores and centred labels."""
        return z + self.offset(y) if self.offset else z

    def parameter(self, r: Floats) -> Floats:
        """Return what targets are multiplied by in a loss."""
        return r if self.natural is None else self.natural(r)

    def error(self, r: Floats, target: Floats) -> Floats:
        """Compute the slope of a loss by the score."""
        found: Floats = self.phi(r) - (target if self.slope is None else target * self.slope(r))
        return found

    def phi_of_noisy(self, scores: Floats, h: float) -> Floats:
        """Apply phi to scores under noise, uniform in +-h.

        Where phi is made of exp, it is right on average.
        """
        return self.phi(scores - self.side * log_mean_exp(h) if self.side else scores)

    def cumulant_of_noisy(self, scores: Floats, h: float) -> Floats:
        """Apply cumulant likewise, less what the noise adds to it on average; (rows, 1)."""
        return self.cumulant(scores) - self.loss_bias(scores, h)

    def exposed(self, scores: Floats) -> Floats:
        """Measure how far each score is out where errors grow; a limit applies to that."""
        return scores * float(self.side) if self.side else np.abs(scores)

    def bounds(self, limit: float, far: float) -> tuple[float, float]:
        """Return the lowest and the highest score with `exposed` within `limit`.

        Neither lies beyond `far` in size.
        """
        return (-far if self.side > 0 else -limit), (far if self.side < 0 else limit)

    def constant_loss(self, y: Floats, of: Floats) -> float:
        """Compute the mean loss of centred labels y under the best constant for `of`.

        `of` are labels, (rows, outputs).
        """
        return self.loss(np.broadcast_to(self.constant(of.mean(axis=0)), y.shape), y) / len(y)

    def losses(self, z: Floats, y: Floats) -> Floats:
        """Compute the loss of each row, (rows, 1), from scores and centred labels."""
        r = self.shifted(z, y)
        products = (self.target(y) * self.parameter(r)).sum(axis=1, keepdims=True)
        losses: Floats = self.cumulant(r) - products + self.label_part(y)
        return losses

    def loss(self, z: Floats, y: Floats) -> float:
        """Sum the loss of scores and centred labels over rows."""
        return float(self.losses(z, y).sum())


# Parts of links


def identity(z: Floats) -> Floats:
    """Return the score itself."""
    return z


def half_square(x: Floats) -> Floats:
    """Compute x^2 / 2, of score or label.

    Half a squared error has both beside -y z.
    """
    return x * x / 2.0


def no_label_part(y: Floats) -> Floats:
    """Return zeros, (rows, 1), for a loss without a part of the label alone."""
    return np.zeros((len(y), 1))


def saturating(r: Floats) -> Floats:
    """Compute 1 - exp(-r).

    r is the score less the logarithm of the label: a gamma regression's 1 - y exp(-z).
    """
    return 1.0 - exp(-r)


def half_gamma_deviance(r: Floats) -> Floats:
    """Compute half the unit deviance, r + exp(-r) - 1.

    r is the score less the logarithm of the label.
    """
    return r + exp(-r) - 1.0


def minus_log(y: Floats) -> Floats:
    """Return -log y of positive labels."""
    return -log(y)


def saturated_poisson(y: Floats) -> Floats:
    """Compute y log y - y, 0 for 0.

    Half the unit deviance has it beside exp(z) - y z.
    """
    return y * log(np.where(y > 0.0, y, 1.0)) - y


def log_odds(mean: Floats) -> Floats:
    """Compute the log odds of a share that is centred: -1/2 is none, 1/2 all.

    A class that no row has gets a score that is as good as never.
    """
    return log_shares(0.5 + mean) - log_shares(0.5 - mean)


def log_shares(mean: Floats) -> Floats:
    """Compute logarithms of shares or means.

    A class that no row has gets a score that is as good as never.
    """
    return np.log(np.maximum(mean, np.finfo(np.float64).tiny))


def log_mean_exp(h: float) -> float:
    """Compute log(sinh(h) / h), the logarithm of the mean of exp over +-h, for h up to 1.

    It uses IEEE + - * / alone.
    """
    square = h * h
    excess = square / 6.0 * (1.0 + square / 20.0 * (1.0 + square / 42.0 * (1.0 + square / 72.0)))
    return float(log_one_plus(np.array([excess]))[0])


def no_curve(z: Floats, h: float) -> Floats:
    """Give the variance of the noise, halved as the square is."""
    return np.full((len(z), 1), h * h / 6.0)


def sigmoid_curve(z: Floats, h: float) -> Floats:
    """Give half the noise's variance times the cumulant's second derivative.

    The rest is of fourth order in h.
    """
    centred = centred_sigmoid(z)
    return h * h / 6.0 * (0.25 - centred * centred)


def log_two_cosh_of_each(z: Floats) -> Floats:
    """Sum the cumulants of a row's outputs, (rows, 1).

    In any order of them it is the same to the last bit.
    """
    return sorted_sum(log_two_cosh(z))


def sigmoid_curve_of_each(z: Floats, h: float) -> Floats:
    """Sum what the noise of its own adds to each output; in any order likewise."""
    return sorted_sum(sigmoid_curve(z, h))


def softmax_curve(z: Floats, h: float) -> Floats:
    """Give the same of several outputs, each with noise of its own.

    In any order of them it is the same to the last bit.
    """
    p = softmax(z)
    return h * h / 6.0 * sorted_sum(p * (1.0 - p))


def poisson_curve(z: Floats, h: float) -> Floats:
    """Give exp of a score under noise, less the exp that is right on average."""
    return exp(z) - exp(z - log_mean_exp(h))


def gamma_curve(r: Floats, h: float) -> Floats:
    """Give the same on the other side."""
    return poisson_curve(-r, h)


def unit_reach(error: float) -> float:
    """Return the reach of a link whose errors are never above 1."""
    return math.inf if error > 1.0 else 0.0


def linear_reach(error: float) -> float:
    """Return the largest score within this error.

    The error is at most the score and a label of CLIP.
    """
    return max(0.0, math.ceil(error - CLIP) - 1.0) if math.isfinite(error) else math.inf


def log_reach(error: float) -> float:
    """Return the score at which exp reaches this error.

    No label above it fits either, so that |exp(z) - y| stays within it.
    """
    return math.floor(_log(error) * LIMIT_STEPS) / LIMIT_STEPS if error > 1.0 else 0.0


def gamma_reach(error: float) -> float:
    """Return the score at which exp(-r) - 1 reaches this error.

    Above r = 0 the error is at most 1.
    """
    return log_reach(error + 1.0) if error > 1.0 else 0.0


def largest_multiple(limit: float) -> float:
    """Return the largest label over the mean: the exponential of the limit, rounded down."""
    return math.floor(_exp(limit) * LIMIT_STEPS) / LIMIT_STEPS


def largest_ratio(limit: float) -> float:
    """Return half of the label at which a score of 0 meets the limit."""
    return _exp(limit) / 2.0


@lru_cache(maxsize=8)
def tweedie(power: float) -> Link:
    """Make the link of a Tweedie model of this power.

    The variance of a label goes with its mean to the power, which is between 1 and 2. The score is the logarithm of
    the mean, and the loss half the unit deviance.
    """
    rise, fall = 2.0 - power, 1.0 - power

    def cumulant(r: Floats) -> Floats:
        return (exp(rise * r) - 1.0) / rise

    def natural(r: Floats) -> Floats:
        return (exp(fall * r) - 1.0) / fall

    def label_part(y: Floats) -> Floats:
        logs = log(np.where(y > 0.0, y, 1.0))
        return y * natural(logs) - np.where(y > 0.0, cumulant(logs), -1.0 / rise)

    return Link(
        name="tweedie",
        phi=lambda r: exp(rise * r),
        odd=False,
        cumulant=cumulant,
        constant=log_shares,
        loss_bias=lambda r, h: h * h / 6.0 * rise * exp(rise * r),
        label_part=label_part,
        label_bits=20,
        check_labels=check_ratios,
        centre=column,
        reach=lambda error: log_reach(error / MOST_AMOUNT),
        most_label=lambda _: MOST_AMOUNT,
        curvature=1.0,
        least_score=FAR_LOG_SCORE,
        good_score=GOOD_LOG_SCORE,
        least_error=math.ceil(MOST_AMOUNT * _exp(FAR_LOG_SCORE)),
        helper_applies=False,
        natural=natural,
        slope=lambda r: exp(fall * r),
    )


def find_link(name: str, power: float = 0.0) -> Link:
    """Return a link by its name; of a Tweedie model with its power."""
    return tweedie(power) if name == "tweedie" else LINKS[name]


def _exp(x: float) -> float:
    return float(exp(np.array([x]))[0])


def _log(x: float) -> float:
    return float(log(np.array([x]))[0])


LOGISTIC = Link(
    name="logistic",
    phi=centred_sigmoid,
    odd=True,
    cumulant=log_two_cosh,
    constant=log_odds,
    loss_bias=sigmoid_curve,
    label_part=no_label_part,
    label_bits=1,
    check_labels=check_binary,
    centre=centred_binary,
    reach=unit_reach,
    most_label=lambda _: 0.5,
    curvature=0.25,
)

LINKS: Mapping[str, Link] = MappingProxyType(
    {
        link.name: link
        for link in (
            LOGISTIC,
            Link(
                name="linear",
                phi=identity,
                odd=True,
                cumulant=half_square,
                constant=identity,
                loss_bias=no_curve,
                label_part=half_square,
                label_bits=20,
                check_labels=check_standardised,
                centre=column,
                reach=linear_reach,
                most_label=lambda _: CLIP,
                curvature=1.0,
                least_error=FAR_SCORE + CLIP,
            ),
            Link(
                name="softmax",
                phi=softmax,
                odd=False,
                cumulant=log_sum_exp,
                constant=log_shares,
                loss_bias=softmax_curve,
                label_part=no_label_part,
                label_bits=0,
                check_labels=check_classes,
                centre=one_hot,
                reach=unit_reach,
                most_label=lambda _: 1.0,
                curvature=0.5,
                noise_bits=1,
                classes=True,
            ),
            replace(
                LOGISTIC,
                name="one-vs-rest",
                cumulant=log_two_cosh_of_each,
                loss_bias=sigmoid_curve_of_each,
                check_labels=check_classes,
                centre=centred_one_hot,
                classes=True,
                helper_applies=False,
            ),
            Link(
                name="poisson",
                phi=exp,
                odd=False,
                cumulant=exp,
                constant=log_shares,
                loss_bias=poisson_curve,
                label_part=saturated_poisson,
                label_bits=20,
                check_labels=check_ratios,
                centre=column,
                reach=log_reach,
                most_label=largest_multiple,
                curvature=1.0,
                least_score=FAR_LOG_SCORE,
                good_score=GOOD_LOG_SCORE,
                least_error=math.ceil(_exp(FAR_LOG_SCORE)),
                side=1,
            ),
            Link(
                name="gamma",
                phi=saturating,
                odd=False,
                cumulant=half_gamma_deviance,
                constant=log_shares,
                loss_bias=gamma_curve,
                label_part=no_label_part,
                label_bits=0,
                check_labels=check_positive,
                centre=column,
                reach=gamma_reach,
                most_label=largest_ratio,
                curvature=1.0,
                least_score=FAR_LOG_SCORE,
                good_score=GOOD_LOG_SCORE,
                least_error=math.ceil(_exp(FAR_LOG_SCORE)),
                side=-1,
                offset=minus_log,
                most_offset=CLIP,
            ),
            tweedie(USUAL_POWER),  # whatever does not depend on the power is the same of any; see `find_link`
        )
    },
)
