"""The schedule and the planner: every row once an epoch, every job fitted or refused with what to change."""

import itertools
import math
from collections import defaultdict
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.functions.labels import LabelProblem
from tercet.mpc.functions.links import LINKS
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.blind import Blind, choose_series
from tercet.mpc.plan.defaults import auto_batch, auto_rate
from tercet.mpc.plan.exposure import joint_bits, score_less_often
from tercet.mpc.plan.forward import noise_half_width
from tercet.mpc.plan.plan import PlanRefused, Request
from tercet.mpc.plan.planner import make_plan, public_norm
from tercet.mpc.plan.schedule import LEAST_ROWS, batch_sizes, rates, snap_scale
from tests.mpc.world import SHOWN

CREDIT = Request("logistic", rows=24_000, columns=(40, 40), batch=1024, epochs=5, rate=0.2)
SIGMOID = Blind(32, 16)


@given(st.integers(1, 5000), st.integers(1, 600))
def test_an_epoch_uses_every_row_once_in_batches_of_the_asked_size(rows, batch):
    """But for the last, which is smaller, or larger by a rest of fewer than 32."""
    sizes = batch_sizes(rows, batch)
    assert sum(sizes) == rows
    assert all(size == batch for size in sizes[:-1])
    assert sizes[-1] == rows or min(batch, LEAST_ROWS) <= sizes[-1] < batch + LEAST_ROWS


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 100), st.integers(1, 4), st.sampled_from([0.0, 0.05]))
def test_steps_walk_through_every_epoch_without_a_gap(rows, batch, epochs, l2):
    """Indices count over the job, positions over the epoch; alpha of one step is what the last one left."""
    plan = make_plan(Request("logistic", rows, (10, 10), batch, epochs, 0.1, "inverse-time", 0.01, l2))
    steps = list(plan.steps())
    assert [step.index for step in steps] == list(range(plan.steps_total))
    for epoch, group in itertools.groupby(steps, key=lambda step: step.epoch):
        part = list(group)
        assert [step.position for step in part] == list(range(plan.steps_per_epoch))
        assert (part[0].start, part[-1].stop) == (0, rows), epoch
        assert all(a.stop == b.start for a, b in itertools.pairwise(part))
    assert steps[0].alpha == 1.0
    assert all(a.after == b.alpha for a, b in itertools.pairwise(steps))
    assert steps[-1].after == plan.last_alpha


@settings(deadline=None)
@given(st.integers(1, 4000), st.integers(20, 2000), st.floats(1e-3, 0.2), st.sampled_from([0.0, 1e-3, 0.02]))
def test_scales_are_snapped_and_keep_eleven_bits(rows, batch, rate, l2):
    """A label of one half is encoded without rounding; rates are as asked to a few parts in ten thousand.

    A smaller batch has as much less, so that no row counts more than another.
    """
    plan = make_plan(Request("logistic", rows, (10, 10), batch, 2, rate, l2=l2))
    for step in plan.steps():
        assert (step.scale * 2.0 ** (plan.f - 1)).is_integer()
        assert step.scale * step.rows * step.after == pytest.approx(
            rate * min(1.0, step.rows / min(batch, rows)), rel=2.0**-12
        )
    assert plan.f >= 26
    assert plan.fx in range(8, 14)
    assert plan.fz == plan.fx + plan.fw == 2 * plan.fx + plan.f


def test_rates_are_made_of_plain_arithmetic():
    """Every machine finds the same ones."""
    assert list(itertools.islice(rates("constant", 0.1, 9.0), 3)) == [0.1] * 3
    assert list(itertools.islice(rates("inverse-time", 0.1, 0.5), 3)) == [0.1, 0.1 / 1.5, 0.1 / 2.0]
    assert list(itertools.islice(rates("exponential", 0.1, 0.9), 3)) == [0.1, 0.1 * 0.9, 0.1 * 0.9 * 0.9]
    falling = rates("linear", 0.5, 0.0, final=0.25, steps=4)
    assert list(itertools.islice(falling, 5)) == [0.5, 0.375, 0.25, 0.125, 0.125]
    assert snap_scale(0.1, 5) == 2 / 16


def test_a_linear_schedule_ends_at_its_part_of_the_rate():
    """Whatever the last, smaller batch of an epoch does to the number of steps."""
    request = Request("logistic", 1010, (10, 10), 100, 3, 0.4, schedule="linear", final=0.1, bits=(9, 9))
    plan = make_plan(request)
    found = list(itertools.islice(plan.request.rates(), plan.steps_total))
    assert (len(found), found[0]) == (30, 0.4)
    assert found[-1] == pytest.approx(0.04)
    assert all(a > b for a, b in itertools.pairwise(found))
    with pytest.raises(PlanRefused, match="final"):
        make_plan(replace(request, final=0.0))


@pytest.mark.parametrize(
    ("model", "spreads", "crowding", "hidden", "rate"),
    [
        ("logistic", (1.0, 1.0), 0.0, False, 2.0),
        ("logistic", (1.0, 1.0, 1.0), 0.0, False, 3 / 2),
        ("one-vs-rest", (1.0, 1.0), 0.0, False, 2.0),
        ("softmax", (1.0, 1.0), 0.0, False, 1.0),
        ("linear", (1.0, 1.0), 0.0, False, 1 / 6),
        ("poisson", (1.0, 1.0), 0.0, False, 1 / 6),
        ("gamma", (1.0, 1.0), 0.0, False, 1 / 6),
        ("tweedie", (1.0, 1.0), 0.0, False, 1 / 24),  # a quarter of that, as its labels are weights
        ("logistic", (1.0, 1.0), 3.0, False, 1.0),  # three times as many columns as rows of a batch
        ("logistic", (1.0, 8.0), 0.0, False, 3 / 5),  # the second party does not whiten its eight columns
        ("logistic", (7.0, 8.0), 3.0, True, 2 / 3),
    ],
)
def test_an_automatic_rate_is_a_part_of_what_the_curvature_allows(model, spreads, crowding, hidden, rate):
    """3/4 of 2 / (c (P + 1 + k / B)) where errors are bounded, else a quarter; P parties whiten."""
    assert auto_rate(model, spreads, columns_per_row=crowding, hidden=hidden) == pytest.approx(rate)


def test_curvatures_are_the_slopes_that_links_have():
    """Of a bounded link everywhere, of the others at a score of 0 and a label of 1, to which labels are scaled."""
    step = 1e-4
    for name, link in LINKS.items():
        z = np.zeros((1, 1)) if name != "softmax" else np.array([[0.0, 0.0, -40.0]])
        there, back = z.copy(), z.copy()
        there[0, 0], back[0, 0] = step, -step
        one = np.ones_like(z)
        slope = (link.error(there, one) - link.error(back, one))[0, 0] / (2 * step)
        most = link.curvature / 2 if name == "softmax" else link.curvature  # its matrix has twice the diagonal
        assert slope == pytest.approx(most, rel=1e-6), name


def test_automatic_batches_hide_rows_wherever_there_are_enough():
    """Below 8 batches an epoch values can be matched across epochs, and below 32 rows an order hides little."""
    for rows in (1, 31, 32, 255, 256, 500, 1000, 8192, 10**6):
        batch = auto_batch(rows)
        assert 32 <= batch <= (512 if rows < 2**17 else rows // 256)
        assert len(batch_sizes(rows, batch)) >= (8 if rows >= 256 else 1)
    assert auto_batch(10**8) == 2**14  # a batch has to fit into a message


def test_all_that_the_planner_refuses_is_told_at_once():
    """What makes no sense, each with what to change; else what is exposed, together with what does not fit."""
    with pytest.raises(PlanRefused, match="model is unknown") as nonsense:
        make_plan(replace(CREDIT, model="probit", rate=-1.0, epochs=0))
    assert len(nonsense.value.others) == 2
    assert "also: the learning rate is not a positive number; use one such as 0.1" in str(nonsense.value)
    narrow = replace(CREDIT, rate=2.0**20, bits=(1.0, 1.0), record_bits=(1.0, 1.0), held_out=100, scorings=5)
    with pytest.raises(PlanRefused, match="collision entropy") as refused:
        make_plan(narrow)
    held_out, bits = refused.value.others
    assert "held-out rows are scored 5 times" in held_out.reason
    assert 'metrics = "none"' in held_out.remedy
    assert "64 bits" in bits.reason


@pytest.mark.parametrize(
    ("epochs", "most", "words"), [(30, 4, "every = 8, "), (4, 4, 'use metrics = "end"'), (5, 0, "none")]
)
def test_the_advice_to_score_less_is_such_that_it_is_taken(epochs, most, words):
    """It led in a circle: "end" where early stopping wanted "epoch", which was scored too often."""
    assert words in score_less_often(epochs, most)
    if "every" in words:
        assert -(-epochs // 8) <= most
    assert "held_out_loss" in score_less_often(epochs, most)


def test_an_ordinary_job_gets_the_bits_of_the_formula():
    """13 and 26 serve rate / batch down to 2^-14; the step bound lowers f_x where the rate is large, and says so."""
    plan = make_plan(replace(CREDIT, rate=0.08))
    assert (plan.fx, plan.f, plan.warnings) == (13, 26, ())
    assert plan.norms == (public_norm(40),) * 2 == (4 * 40**0.5 + 16,) * 2
    assert plan.score_limit == 2.0 ** (62 - plan.fz)
    lowered = make_plan(replace(CREDIT, rate=2.0))
    assert 10 <= lowered.fx < 13
    assert "13 would be too many" in lowered.notes[0]
    assert make_plan(replace(CREDIT, rate=1024 * 2.0**-14)).f == 26
    assert make_plan(replace(CREDIT, rate=1023 * 2.0**-14)).f == 27


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 100), st.integers(1, 4), st.sampled_from([0.0, 0.05]))
def test_alpha_after_any_step_is_that_of_the_next(rows, batch, epochs, l2):
    """So that a model kept from an earlier step can be told what its shares mean."""
    plan = make_plan(Request("logistic", rows, (10, 10), batch, epochs, 0.1, "inverse-time", 0.01, l2))
    assert [plan.alpha_after(step.index) for step in plan.steps()] == [step.alpha for step in plan.steps()]
    assert plan.alpha_after(plan.steps_total) == plan.last_alpha
    words = np.array([[3], [2**64 - 5]], np.uint64)
    middle = plan.steps_total // 2
    assert np.array_equal(plan.weights(words), plan.last_alpha * decode(words, plan.fw))
    assert np.array_equal(plan.weights(words, middle), plan.alpha_after(middle) * decode(words, plan.fw))
    assert np.array_equal(plan.intercept(words), decode(words, plan.fw))


def test_no_step_can_jump_the_guard():
    """Rate e_max (sum R_i^2 + 1) stays below 2^(63 - f_z), for every kind of job that is accepted."""
    accepted: dict[str, int] = defaultdict(int)
    for model, rate, columns in itertools.product(SHOWN, [0.01, 0.1, 1.0], [(6, 6), (50, 50), (200, 200)]):
        outputs = 3 if model == "softmax" else 1
        try:
            plan = make_plan(replace(CREDIT, model=model, rate=rate, columns=columns, outputs=outputs))
        except PlanRefused:
            continue
        accepted[model] += 1
        limit = plan.score_limit
        largest = math.exp(min(limit, 50.0))
        most_error = {"linear": limit + 16, "poisson": largest, "gamma": largest - 1}.get(model, 1.0)
        # What a gamma regression's labels add to a score may hide a part of where it is before a step, and after it.
        headroom = 2.0 ** (63 - plan.fz) - 2 * plan.link.most_offset
        assert rate * most_error * (sum(norm**2 for norm in plan.norms) + 1) <= headroom
        assert rate * plan.steps_total * 16 * most_error < 2.0 ** (62 - plan.fw)
        assert plan.link.least_score <= limit <= 2.0 ** (62 - plan.fz)
        assert plan.most_label <= max(1.0, most_error)
    assert min(accepted[model] for model in SHOWN) >= 2


@pytest.mark.parametrize("model", ["poisson", "gamma"])
@pytest.mark.parametrize("columns", [20, 50, 100])
@pytest.mark.parametrize("batch", [256, 1024])
@pytest.mark.parametrize("rate", [0.01, 0.03, 0.1])
def test_ordinary_jobs_with_an_exponential_are_accepted(model, columns, batch, rate):
    """They reach means and counts of 148, or 54 where the features would have fewer than ten bits otherwise."""
    plan = make_plan(Request(model, 50_000, (columns, columns), batch, 10, rate))
    assert plan.score_limit >= (5 if plan.fx > 10 else 4)
    assert plan.most_label >= (148 if plan.fx > 10 else 54) / (1 if model == "poisson" else 2)
    assert plan.fx >= 10
    assert plan.loss_bits.score >= (10 if model == "poisson" else 20)  # multiples of a mean have fractions


def test_labels_are_checked_against_the_plan():
    """Those that its bits cannot hold, by number and not by value, and classes that were not announced."""
    poisson, gamma = (make_plan(replace(CREDIT, model=model, rate=0.05)) for model in ("poisson", "gamma"))
    poisson.check_labels(np.array([0.0, 3.0, poisson.most_label]))
    for plan, labels in [(poisson, [0.0, poisson.most_label + 1, 1e9]), (gamma, [1.0, gamma.most_label * 1.01, 1e9])]:
        with pytest.raises(LabelProblem, match="2 of 3 labels are larger than fits at this rate; cap them") as no:
            plan.check_labels(np.array(labels))
        assert not any(str(int(label)) in str(no.value) for label in labels[1:])
    gamma.check_labels(np.array([1e-6, 1.0, gamma.most_label]))
    with pytest.raises(LabelProblem, match=r"1 of 2 labels are larger than 1024 times their mean; cap them$"):
        make_plan(replace(CREDIT, model="tweedie", blind=Blind(5, 16, power=1.5))).check_labels(np.array([0.0, 1025.0]))
    softmax = make_plan(replace(CREDIT, model="softmax", outputs=3))
    softmax.check_labels(np.array([0.0, 1.0, 1.0]))
    with pytest.raises(LabelProblem, match="1 of 3 labels are of a class beyond the 3 that were announced"):
        softmax.check_labels(np.array([0.0, 1.0, 3.0]))
    with pytest.raises(LabelProblem, match="neither 0 nor 1"):
        make_plan(CREDIT).check_labels(np.array([0.0, 2.0]))


def test_records_of_little_entropy_are_refused_however_many_columns_hold_them():
    """One yes/no column at each party, and ten that are empty, constant or repeated, are four kinds of record."""
    wide = replace(CREDIT, columns=(11, 1))
    make_plan(replace(wide, bits=(6.0, 6.0)))
    with pytest.raises(PlanRefused, match=r"only 1.5 bits .* \(at least 9 are needed\)"):
        make_plan(replace(wide, bits=(1.0, 1.0)))
    make_plan(replace(wide, bits=(1.0, 1.0), accept_narrow=True))


def test_each_class_asks_for_more_entropy():
    """K logits are K views of a record; up to where hardly any two records of a batch share all but one column."""
    softmax, view = replace(CREDIT, model="softmax", columns=(40, 40)), 2 * math.log2(1024) - 3
    for outputs, least in [(3, 14.0), (4, 17.0), (10, view)]:
        make_plan(replace(softmax, outputs=outputs, bits=(least, 0.0)))
        with pytest.raises(PlanRefused, match=f"at least {least:g} are needed"):
            make_plan(replace(softmax, outputs=outputs, bits=(least - 0.25, 0.0)))
        make_plan(replace(softmax, outputs=outputs, bits=(10.0, 0.0), network=Network((8,))))
    # Held-out rows are all seen by one set of weights.
    many = replace(softmax, outputs=10, bits=(view, 0.0), held_out=4000, scorings=1, record_bits=(500.0, 500.0))
    with pytest.raises(PlanRefused, match=r"at least 20.9"):
        make_plan(many)
    make_plan(replace(softmax, model="poisson", rate=0.02, bits=(10.0, 0.0)))
    with pytest.raises(PlanRefused, match="at least 10 are needed"):  # signs are seen
        make_plan(replace(softmax, model="poisson", rate=0.02, bits=(9.0, 0.0)))


@given(st.lists(st.floats(0, 31), min_size=1, max_size=5))
def test_joint_entropy_is_between_the_largest_and_the_sum(bits):
    """Columns of two parties about the same people are not independent, nor all the same."""
    assert max(bits) <= joint_bits(bits) <= sum(bits) + 1e-9


def test_plans_are_repeated_to_the_last_bit_and_can_be_hashed():
    """Equal requests give equal canonical forms, of plain values only; every field counts."""
    one = msgpack.packb(make_plan(CREDIT).canonical())
    assert one == msgpack.packb(make_plan(replace(CREDIT)).canonical())
    for change in ({"rows": 24_001}, {"l2": 1e-3}, {"epochs": 6}, {"accept_narrow": True}, {"columns": (41, 39)},
                   {"held_out": 99}):  # fmt: skip
        assert one != msgpack.packb(make_plan(replace(CREDIT, **change)).canonical())


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"bits": (11.75, 0.0)}, "11.75 bits of entropy"),
        ({"columns": (5, 6), "accept_narrow": True}, "8.5 bits of entropy"),
        ({"batch": 4000}, "6 batches an epoch"),
        ({"batch": 16}, "batches of 16 rows"),
        ({"held_out": 31}, "held-out rows scored fewer than 32"),
        ({"rate": 2e-4}, "only 9 fractional bits"),
        ({"l2": 0.5, "epochs": 2, "batch": 512, "rate": 0.1}, "l2 scales weights"),
    ],
)
def test_what_is_doubtful_is_said(change, warning):
    """A warning, and the job goes on."""
    plan = make_plan(replace(CREDIT, **change))
    assert any(warning in text for text in plan.warnings)


@pytest.mark.parametrize("change", [{"bits": (11.75, 0.0)}, {"batch": 4000}, {"batch": 16}, {"held_out": 31},
                                    {"model": "gamma"}])  # fmt: skip
def test_nobody_is_warned_of_what_a_helper_sees_that_sees_nothing(change):
    """Such warnings are for jobs in which it computes the activation."""
    shown = replace(CREDIT, rate=0.02, **change)
    blind = replace(shown, blind=choose_series(shown.model, None, None))
    assert make_plan(shown).warnings
    assert not [text for text in make_plan(blind).warnings if "helper" in text or "hides" in text or "entropy" in text]


def test_a_label_party_needs_no_columns():
    """Records are then its partners' alone: they need as many bits, and are scored no more often."""
    alone = replace(CREDIT, columns=(0, 50), bits=(0.0, 11.0), record_bits=(0.0, 20.0), scorings=1)
    assert make_plan(alone).norms[0] == 0.0
    for exposed in ({"bits": (0.0, 8.75)}, {"record_bits": (0.0, 13.75)}, {"scorings": 2}):
        with pytest.raises(PlanRefused, match="accept_narrow"):
            make_plan(replace(alone, **exposed))


@pytest.mark.parametrize(
    ("change", "reason", "remedy"),
    [
        ({"columns": (5, 6)}, "only 8.5 bits", "accept_narrow"),
        ({"columns": (50,)}, "only one data party", "two or more"),
        ({"columns": (50, 0), "names": ("bank", "card")}, "card: no columns, and only the label party", "at least one"),
        ({"columns": (0, 50), "label": 1}, "data party 1: no columns", "at least one"),
        ({"columns": (0, 5)}, "only 5 bits", "accept_narrow"),
        ({"model": "probit"}, "model is unknown", "logistic, linear, softmax, one-vs-rest, poisson, gamma"),
        ({"model": "softmax"}, "number of classes is 1", "three classes"),
        ({"model": "softmax", "outputs": 2}, "two classes", 'model = "logistic"'),
        ({"model": "poisson", "outputs": 3}, "there are 3 outputs", "only one-vs-rest and softmax"),
        ({"model": "one-vs-rest", "outputs": 3}, "helper computes no one-vs-rest", 'use model = "softmax", or'),
        ({"model": "one-vs-rest", "outputs": 2, "blind": SIGMOID}, "two classes", 'model = "logistic"'),
        ({"model": "one-vs-rest", "blind": SIGMOID}, "number of classes is 1", "three classes"),
        ({"schedule": "cosine"}, "schedule is unknown", "inverse-time"),
        ({"rows": 0}, "below 1", "at least 1"),
        ({"rate": 0.0}, "not a positive number", "0.1"),
        ({"rate": float("nan")}, "not a positive number", "0.1"),
        ({"schedule": "inverse-time", "decay": -0.1}, "decay is out of range", "0 or more"),
        ({"schedule": "exponential", "decay": 1.5}, "decay is out of range", "up to 1"),
        ({"l2": -1.0}, "rate times l2", "smaller l2"),
        ({"l2": 10.0}, "rate times l2", "smaller l2"),
        ({"epochs": 10**9}, "more than 10000000 steps", "fewer epochs"),
        ({"rate": 1e-5}, "only 7 fractional bits", "smaller batches"),
        ({"schedule": "exponential", "decay": 0.5}, "fractional bits", "slower decay"),
        ({"schedule": "exponential", "decay": 1e-300}, "falls to zero", "slower decay"),
        ({"rate": 1e-320}, "fractional bits", "larger rate"),
        ({"rate": 50.0}, "one step could move", "learning rate of about"),
        ({"model": "poisson", "rate": 1.0}, "one step could move", "learning rate of about"),
        ({"model": "gamma", "rate": 1.0}, "one step could move", "learning rate of about"),
        (
            {"model": "poisson", "rate": 0.05, "batch": 8192, "columns": (200, 200)},
            "one step could move",
            "smaller batches",
        ),
        ({"model": "softmax", "outputs": 10, "bits": (16.0, 1.0)}, "only 16.5 bits", "accept_narrow"),
        ({"model": "linear", "rate": 5.0}, "one step could move", "learning rate of about"),
        ({"l2": 0.9, "epochs": 9}, "shrinks the weights", "smaller l2"),
        ({"model": "linear", "batch": 4, "epochs": 100, "rate": 0.3}, "all steps together", "fewer epochs"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_change(change, reason, remedy):
    """One reason and one remedy each."""
    with pytest.raises(PlanRefused) as caught:
        make_plan(replace(CREDIT, **change))
    assert reason in caught.value.reason
    assert remedy in caught.value.remedy


def test_following_the_advice_on_the_rate_helps():
    """The rate that the refusal names is accepted."""
    for model in SHOWN:
        wild = replace(CREDIT, model=model, rate=60.0, outputs=3 if model == "softmax" else 1)
        with pytest.raises(PlanRefused) as caught:
            make_plan(wild)
        advised = float(caught.value.remedy.split("about ")[1].split(" ")[0])
        make_plan(replace(wild, rate=advised))


SCORED = Request(
    "logistic", rows=600, columns=(3, 24), batch=64, epochs=9, rate=0.1, held_out=100, scorings=1,
    bits=(14.0, 14.0), record_bits=(9.0, 42.0),
)  # fmt: skip


def test_scores_tell_at_most_half_of_a_partners_record() -> None:
    """7 bits each; the label party's own columns do not count: it knows them."""
    make_plan(replace(SCORED, scorings=3))
    for refused in (replace(SCORED, scorings=4), replace(SCORED, label=1), replace(SCORED, record_bits=(9.0, 13.75))):
        often = "once, each .* allows none" if refused.scorings == 1 else f"{refused.scorings} times, each time 7 bits"
        with pytest.raises(PlanRefused, match=f"scored {often}"):
            make_plan(refused)
        make_plan(replace(refused, accept_narrow=True))
    make_plan(replace(SCORED, scorings=0, record_bits=(0.0, 0.0)))


def test_scores_that_no_helper_stops_tell_nearly_twice_as_much() -> None:
    """A label party that opens its weights falsely fills the words of a score."""
    blind = replace(SCORED, blind=Blind(32, 16), scorings=1, record_bits=(50.0, 26.0))
    make_plan(blind)
    with pytest.raises(PlanRefused, match="scored once, each time 13 bits"):
        make_plan(replace(blind, record_bits=(50.0, 25.75)))


def test_scores_with_known_weights_tell_at_most_a_third() -> None:
    """Under release = "label" each score is an equation with known weights."""
    make_plan(replace(SCORED, whole=True, scorings=2))
    with pytest.raises(PlanRefused, match="allows 2"):
        make_plan(replace(SCORED, whole=True, scorings=3))


def test_each_score_of_a_class_counts() -> None:
    """A row of K logits tells K times as much."""
    softmax = replace(SCORED, model="softmax", outputs=3)
    make_plan(softmax)
    with pytest.raises(PlanRefused, match="each time 21 bits"):
        make_plan(replace(softmax, scorings=2))
    with pytest.raises(PlanRefused, match="each time 39 bits"):  # where nobody but the label party sees a score
        make_plan(replace(softmax, model="one-vs-rest", blind=SIGMOID))


def test_every_link_has_noise_of_a_quarter_or_more() -> None:
    """Measured: docs/protocol.md has what it costs and what it keeps."""
    assert {name: link.noise_bits for name, link in LINKS.items()} == {
        "logistic": 2, "linear": 2, "softmax": 1, "one-vs-rest": 2, "poisson": 2, "gamma": 2,
        "tweedie": 2,
    }  # fmt: skip


@given(st.floats(2.0**-6, 1.0), st.sampled_from([1, 2]))
def test_noise_on_scores_keeps_its_width_as_weights_are_scaled(alpha: float, bits: int) -> None:
    """From 2^-noise_bits to twice that, whatever alpha is."""
    plan = replace(make_plan(CREDIT), noise_bits=bits)
    assert 2.0**-bits <= noise_half_width(plan, alpha) < 2.0 ** (1 - bits)
    assert noise_half_width(plan, 1.0) == 2.0**-bits
