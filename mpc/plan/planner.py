"""Plans fractional bits, and refuses a job that does not fit into 64 of them.

It sees the job's public numbers only, and computes with IEEE operations that every party repeats to the last bit: the
parties compare digests of `Plan.canonical()`.

No share is ever truncated, so a pre-activation carries f_z = 2 f_x + F fractional bits and has 63 - f_z left for its
whole part. The helper stops the job when |z| reaches half of that; so no step may move a score by more than the whole,
or it could jump over the guard. Bounds hold for u and z = X u, where w = alpha u. What they are for a network, and what
they are worth, is said in `network_limits`.
"""

import itertools
import math
from typing import NamedTuple, get_args

from tercet.mpc.arithmetic.fixed import CLIP, ceil_log2
from tercet.mpc.functions.links import FAR_SCORE, LINKS
from tercet.mpc.functions.row_labels import FACTOR_BITS
from tercet.mpc.functions.series import Series
from tercet.mpc.plan.blind import (
    ALPHA_BITS,
    GOOD_BITS,
    LEAST_BITS,
    LEAST_WEIGHTED_BITS,
    SPARE_TURNS,
    Blind,
    most_score_bits,
    narrow_bits,
    significant_bits,
)
from tercet.mpc.plan.exposure import (
    CAUTION_BITS,
    disclosed_bits,
    joint_bits,
    most_scorings,
    needed_bits,
    score_less_often,
)
from tercet.mpc.plan.network_limits import Check, architecture, nominal_leap
from tercet.mpc.plan.plan import GUARD_BIT, Plan, PlanRefused, Request, refuse_all
from tercet.mpc.plan.schedule import LEAST_ROWS, RateKind, batch_sizes, decay_alpha

LEAST_F, MOST_FX, GOOD_FX, LEAST_FX = 26, 13, 10, 8
FEW_BATCHES = 8  # below, |z| can be matched across epochs
MOST_STEPS = 10_000_000  # all parties walk through the schedule before they agree to it
LEAST_ALPHA = 2.0**-6  # below, alpha rounded to f_x bits changes the intercept's rate by more than a hundredth


def public_norm(columns: int) -> float:
    """Compute R_i, the longest row allowed of so many standardised columns.

    CLIP allows no longer one anyway.
    """
    return min(CLIP * math.sqrt(columns), 4.0 * math.sqrt(columns) + 16.0)


def formula_fx(f: int) -> int:
    """Compute f_x from F, where the helper computes activations."""
    return min(MOST_FX, (53 - f) // 2)


def make_plan(request: Request) -> Plan:
    """Return the plan of a job.

    Raises:
        PlanRefused: when the job asks for nonsense, exposes narrow data unasked, or does not fit into the words.
    """
    refuse_all(nonsense_refusals(request))
    refusals = exposure_refusals(request)
    try:
        plan = _fit_plan(request)
    except PlanRefused as refused:
        refusals.append(refused)
    refuse_all(refusals)
    return plan


def _fit_plan(request: Request) -> Plan:
    """Make a plan that fits into the words, whatever it exposes."""
    norms = tuple(public_norm(columns) for columns in request.columns)
    sizes = batch_sizes(request.rows, request.batch)
    course = _walk_schedule(request, sizes, norms)
    if request.blind is not None:
        return _fit_blind_plan(request, request.blind, course, sizes, norms)
    f = max(LEAST_F, 12 + ceil_log2(min(max(sizes) / course.least_rate, 2.0**64)))
    while f < 53 - 2 * LEAST_FX and formula_fx(f) + f < request.least_fw:
        f += 1
    fx, score_limit, notes = _features_bits(request, course, f)
    warnings = _warnings(request, course, sizes, fx)
    return Plan(request, fx, f, norms, score_limit, noise_bits_of(request), course.alpha, len(sizes), warnings, notes)


def _fit_blind_plan(
    request: Request, blind: Blind, course: "_ScheduleBounds", sizes: list[int], norms: tuple[float, ...]
) -> Plan:
    """Choose the bits of a job in which nothing is truncated.

    They are all that the period of the series leaves.

    Features have as many as errors can spare.
    """
    series, hidden = _series_of(request, blind)
    period = max(series.period, hidden.period if hidden else 0)
    most = 64 - (period.bit_length() - 1) - (ALPHA_BITS if request.shrinks else SPARE_TURNS)
    fzs = {fx: min(most, most_score_bits(fx) if hidden else most) for fx in range(MOST_FX, LEAST_FX - 1, -1)}
    least = course.least_rate / max(sizes)
    factor, least_bits = (FACTOR_BITS, LEAST_WEIGHTED_BITS) if request.factors else (0, LEAST_BITS)
    bits = {fx: significant_bits(least, fz - 2 * fx - factor) for fx, fz in fzs.items()}
    good = (fx for fx in bits if bits[fx] >= GOOD_BITS and fzs[fx] - fx >= request.least_fw)
    fx = next(good, LEAST_FX)
    if bits[fx] < least_bits:
        raise PlanRefused(
            f"the smallest learning rate, {course.least_rate:.3g}, is so small for the batch that errors would have "
            f"only {bits[fx]} bits",
            'use smaller batches or a larger rate, or helper_sees = "scores"',
        )
    fz = fzs[fx]
    note = f"features have {fx} fractional bits, the activation {fz - 2 * fx}: a series of {blind.terms} terms"
    notes: tuple[str, ...] = (f"{note} for scores up to {blind.reach}, off by {series.phi.error:.1g} at most",)
    if hidden:
        bits_of_hidden = fz - narrow_bits(fx, fz - 2 * fx)
        note = f"hidden activations have {bits_of_hidden} fractional bits: a series of {blind.hidden_terms} terms"
        notes += (f"{note} for pre-activations up to {blind.hidden_reach}, off by {hidden.phi.error:.1g} at most",)
    warnings = _warnings(request, course, sizes, fx)
    return Plan(
        request,
        fx,
        fz - 2 * fx,
        norms,
        min(-series.low, series.high),
        noise_bits_of(request),
        course.alpha,
        len(sizes),
        warnings,
        notes,
        least,
    )


def _series_of(request: Request, blind: Blind) -> tuple[Series, Series | None]:
    """Return the series of the output's activation, and of hidden layers' if there are any."""
    network = request.network
    try:
        return blind.series(request.model), None if network is None else blind.hidden_series(network.activation)
    except ValueError as problem:
        raise PlanRefused(str(problem), 'set reach and terms to these, or helper_sees = "scores"') from None


class _ScheduleBounds(NamedTuple):
    """Holds what a walk through the schedule finds.

    It is for errors |phi - y| of at most 1; both bounds grow in proportion.
    """

    least_rate: float  # of a full batch
    alpha: float  # at the end
    leap: float  # how far one step can move a raw pre-activation
    reach: float  # how far all steps together can move one raw weight


def _walk_schedule(request: Request, batches: list[int], norms: tuple[float, ...]) -> _ScheduleBounds:
    squares, inputs = sum(norm * norm for norm in norms) + 1.0, CLIP  # and the intercept's column of ones
    if request.network is not None:
        squares, inputs = nominal_leap(request.network, sum(request.columns), request.outputs), 1.0
    alpha, reach, leap, least, walked = request.alpha, 0.0, 0.0, math.inf, 0.0
    for size, rate in zip(itertools.cycle(batches), itertools.islice(request.rates(), request.steps), strict=False):
        after = decay_alpha(rate, request.l2, alpha)
        if not (rate > 0.0 and after > 0.0):
            raise PlanRefused("the learning rate or the weights' scale falls to zero within the job",
                              "use a slower decay, fewer epochs, or a smaller rate or l2")  # fmt: skip
        # The intercept itself does not shrink: in raw units it grows as alpha falls.
        leap = max(leap, rate / after * squares + walked * (1.0 / after - 1.0 / alpha))
        reach, walked = reach + rate / after * inputs, walked + rate
        alpha, least = after, min(least, rate * max(1.0, batches[0] / size))
    return _ScheduleBounds(least, alpha, leap, reach)


def noise_bits_of(request: Request) -> int:
    """Choose the noise under which the helper sees scores, of hidden layers too.

    +-2^-bits or more.
    """
    return LINKS[request.model].noise_bits


def _features_bits(request: Request, course: _ScheduleBounds, f: int) -> tuple[int, float, tuple[str, ...]]:
    """Choose f_x, the score limit and the warnings.

    f_x is the formula's, or one below it down to 10 that fits.
    """
    formula = formula_fx(f)
    if formula < LEAST_FX:
        raise PlanRefused(
            f"the smallest learning rate, {course.least_rate:.3g}, is so small for the batch "
            f"that features would have only {formula} fractional bits",
            "use smaller batches, a larger rate or a slower decay",
        )
    chosen = f"features have {{}} fractional bits, the activation {f}"
    link, tried = LINKS[request.model], range(formula, min(formula, GOOD_FX) - 1, -1)
    limits = {fx: _score_limit(request, course, fx, f) for fx in tried}
    for wanted, fx in itertools.product((link.good_score, link.least_score), tried):
        limit = limits[fx]
        if limit >= wanted:
            lowered = f" ({formula} would be too many for one step at this rate)" if fx < formula else ""
            return fx, limit, (chosen.format(fx) + lowered,)
    raise _refusal(request, course, min(formula, GOOD_FX), f)


def _score_limit(request: Request, course: _ScheduleBounds, fx: int, f: int) -> float:
    """Return the largest score that the helper may let pass with these bits.

    0 where the job does not fit at all.
    """
    link, raw = LINKS[request.model], math.ldexp(1.0, GUARD_BIT - 2 * fx - f)
    most_error = min(_step_limit(request, course, raw) / course.leap, math.ldexp(1.0, 62 - fx - f) / course.reach)
    limit = min(link.reach(most_error), raw)
    return limit if limit >= link.least_score and course.alpha * raw >= FAR_SCORE else 0.0


def _step_limit(request: Request, course: _ScheduleBounds, raw: float) -> float:
    """Compute how far one step may move a raw pre-activation.

    It may pass the guard, and offsets may pull it back and push it on.
    """
    return 2.0 * raw - 2.0 * LINKS[request.model].most_offset / course.alpha


def _refusal(request: Request, course: _ScheduleBounds, fx: int, f: int) -> PlanRefused:
    """Say why not even these bits will do, and what would."""
    raw, error = math.ldexp(1.0, GUARD_BIT - 2 * fx - f), LINKS[request.model].least_error
    if course.alpha * raw < FAR_SCORE:
        return PlanRefused(f"l2 shrinks the weights' scale to {course.alpha:.2g} by the end of the job",
                           "use a smaller l2, a smaller rate or fewer epochs")  # fmt: skip
    if course.leap * error >= _step_limit(request, course, raw):
        part = 0.95 * _step_limit(request, course, raw) / (course.leap * error)
        # Below this rate bits are added to the activation as fast as the rate falls.
        helps = request.batch / (part * course.least_rate) <= math.ldexp(1.0, LEAST_F - 12)
        fewer = "fewer columns" if request.network is None else "fewer columns or hidden layers"
        rate = f"use a learning rate of about {part * request.rate:.2g} or less, a smaller l2, or {fewer}"
        return PlanRefused(
            "one step could move a score past what 64 bits can hold",
            rate if helps else f"use smaller batches or {fewer}",
        )
    return PlanRefused("all steps together could move a weight past what 64 bits can hold",
                       "use fewer epochs, larger batches or a smaller rate")  # fmt: skip


def _warnings(request: Request, course: _ScheduleBounds, sizes: list[int], fx: int) -> tuple[str, ...]:
    found = (
        *(() if request.blind is not None else _view_warnings(request, sizes)),
        (fx < GOOD_FX, f"features have only {fx} fractional bits; smaller batches or a larger rate give more"),
        (course.alpha < LEAST_ALPHA, f"l2 scales weights by {course.alpha:.2g}; the intercept's rate is rounded"),
    )
    return tuple(text for holds, text in found if holds)


def _view_warnings(request: Request, sizes: list[int]) -> tuple[tuple[bool, str], ...]:
    """List what may tell the helper more than it should, where it sees scores."""
    few = f"{len(sizes)} batches an epoch: below {FEW_BATCHES} the helper"
    joint, needed = joint_bits(request.entropies), _needed_bits(request)
    return (
        (joint < needed + CAUTION_BITS,
         f"records of all parties have {joint:g} bits of entropy: below {needed:g} the helper could tell them apart"),
        (LINKS[request.model].offset is not None,
         "the helper sees scores less logarithms of labels: in the first batches nearly the labels, in secret order"),
        (len(sizes) < FEW_BATCHES, f"{few} may match rows across epochs; use smaller batches"),
        (min(sizes) < LEAST_ROWS, f"batches of {min(sizes)} rows: below {LEAST_ROWS} their order hides little"),
        (0 < request.held_out < LEAST_ROWS, f"held-out rows scored fewer than {LEAST_ROWS}: their order hides little"),
    )  # fmt: skip


def nonsense_refusals(request: Request) -> list[PlanRefused]:
    """Say what makes no sense in a job."""
    bare = [request.name(party) for party in request.partners if request.columns[party] < 1]
    steps = request.epochs * -(-request.rows // max(1, request.batch))
    decay_ok = 0.0 < request.decay <= 1.0 if request.schedule == "exponential" else 0.0 <= request.decay < math.inf
    checks: tuple[Check, ...] = (
        (request.model in LINKS, "the model is unknown", f"choose one of {', '.join(LINKS)}"),
        (request.model != "tweedie" or request.blind is None or 1.0 < request.blind.power < 2.0,
         "the power is not between 1 and 2", 'use 1.5, say, or model = "poisson" or "gamma"'),
        *_outputs_checks(request),
        *_network_checks(request),
        (request.schedule in get_args(RateKind), "the schedule is unknown",
         f"choose one of {', '.join(get_args(RateKind))}"),
        (len(request.columns) >= 2, "there is only one data party", "name two or more"),
        (not bare, f"{' and '.join(bare)}: no columns, and only the label party may have none",
         "give each at least one"),
        (min(request.rows, request.batch, request.epochs) >= 1, "rows, batch or epochs is below 1",
         "make each at least 1"),
        (0.0 < request.rate < math.inf, "the learning rate is not a positive number", "use one such as 0.1"),
        (decay_ok, "the decay is out of range", "use 0 or more for inverse-time, above 0 up to 1 for exponential"),
        (0.0 < request.final <= 1.0, "final is not in (0, 1]", "use 0.1, say"),
        (request.l2 >= 0.0 and request.rate * request.l2 < 1.0, "rate times l2 is not in [0, 1)",
         "use a smaller l2, not below 0"),
        (0.0 < request.alpha <= 1.0, "the weights to begin with have no scale in (0, 1]", "begin at another model"),
        (steps <= MOST_STEPS, f"the job has more than {MOST_STEPS} steps", "use fewer epochs or larger batches"),
    )  # fmt: skip
    return [PlanRefused(reason, remedy) for holds, reason, remedy in checks if not holds]


def exposure_refusals(request: Request) -> list[PlanRefused]:
    """Refuse a job that would tell too much of a record, unless it accepts that."""
    refusals: list[PlanRefused] = []
    if request.accept_narrow:
        return refusals
    joint, needed = joint_bits(request.entropies), _needed_bits(request)
    if joint < needed and request.blind is None:
        refusals.append(
            PlanRefused(
                f"records of all parties have only {joint:g} bits of collision entropy, so that the helper could tell "
                f"them apart (at least {needed:g} are needed)",
                "use columns with more different values, or set accept_narrow if all parties accept that",
            )
        )
    record_bits, blind = request.record_bits or request.entropies, request.blind is not None
    disclosed = disclosed_bits(1, request.outputs, blind=blind)
    for party in sorted(request.partners, key=lambda party: record_bits[party]):
        bits, name = record_bits[party], request.name(party)
        most = most_scorings(bits, request.outputs, weights_known=request.whole, blind=blind)
        if request.scorings > most:
            times = "once" if request.scorings == 1 else f"{request.scorings} times"
            refusals.append(
                PlanRefused(
                    f"held-out rows are scored {times}, each time {disclosed:g} bits of a record of "
                    f"{name}'s, which has {bits:g} bits and allows {most or 'none'}",
                    f"{score_less_often(request.epochs, most)}; or set accept_narrow if all parties accept that",
                )
            )
    return refusals


def _needed_bits(request: Request) -> float:
    """Compute the collision entropy that whole records need.

    One set of weights sees all held-out rows.
    """
    view = max(*batch_sizes(request.rows, request.batch), request.held_out)
    return needed_bits(request.model, request.outputs, view, request.network)


def _outputs_checks(request: Request) -> tuple[Check, ...]:
    """List the conditions on outputs: one for each class, of three or more, or one.

    Another one is on who applies the link.
    """
    link, outputs = LINKS.get(request.model), request.outputs
    classes = link is not None and link.classes
    instead = "softmax" if classes else "gamma"
    return (
        (not classes or outputs != 2, "the label has two classes", 'use model = "logistic"'),
        (not classes or outputs > 1, f"the number of classes is {outputs}",
         "one-vs-rest and softmax need a label of three classes or more"),
        (classes or outputs == 1, f"there are {outputs} outputs",
         "only one-vs-rest and softmax have more than one; use these, or one label column"),
        (link is None or link.helper_applies or request.blind is not None,
         f"the helper computes no {request.model} activation", f'use model = "{instead}", or helper_sees = "nothing"'),
    )  # fmt: skip


def _network_checks(request: Request) -> tuple[Check, ...]:
    """List the conditions of a network: it can be trained, and its link has no offset.

    Another one is that data parties weigh what they evaluate.
    """
    if request.network is None:
        return ((request.blind is not None or not request.weighted, "the helper weighs no errors",
                 'leave weights out, or use helper_sees = "nothing"'),)  # fmt: skip
    link = LINKS.get(request.model)
    return (
        (not request.weighted, "a network's errors are not weighed", "leave weights out"),
        (link is None or (link.offset is None and link.slope is None), f'a network has no output "{request.model}"',
         'use output = "poisson" or "linear"'),
        *architecture(request.network, request.batch),
    )  # fmt: skip
