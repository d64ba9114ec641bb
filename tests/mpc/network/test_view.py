"""What the helper sees of a network is the multiset of a layer's elements, and differences of logits; no more.

Every check is run on planted mistakes too, and notices them.
"""

import itertools
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from tercet.mpc.arithmetic.fixed import decode, encode_number
from tercet.mpc.arithmetic.ring import Words, product, total
from tercet.mpc.interface.script import HELPER
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.forward import noise_width
from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.reference import network as network_reference
from tests.mpc.linear.test_disclosure import OpenClasses, RowNoise, differences_of
from tests.mpc.network_world import NetworkJob, NetworkWorld, make_network_job
from tests.mpc.world import MaskSource, quiet

MEDIUM = Request("softmax", 192, (10, 10, 9), 64, 2, 0.1, outputs=4, network=Network((12, 8), "tanh"))


def shares_for_helper(world: NetworkWorld, what: str, step: int) -> list[Words]:
    """What each data party sent it."""
    return [sent.words for sent in world.sent if (sent.what, sent.step) == (what, step)]


def test_the_helper_sees_only_the_sum_of_the_shares_of_a_layer():
    """Given the sums, all shares but one are uniform: the rank in the zero shares' masks is that of all but one."""
    request = Request("logistic", 2, (1, 2, 1), 2, 2, 0.1, accept_narrow=True, network=Network((2, 1, 2), "tanh"))
    job = make_network_job(request)
    kinds = ("hidden share 0", "hidden share 1", "hidden share 2", "output share 0")

    def view(masks: MaskSource) -> Words:
        world = NetworkWorld(job, masks).run(1)
        return np.concatenate(
            [words.ravel() for kind in kinds for t in (0, 1) for words in shares_for_helper(world, kind, t)]
        )

    found = differences_of(lambda a, b: HELPER in (a, b), view)
    sizes = {"zero/0": 4, "zero/1": 2, "zero/2": 4, "zero": 2}  # of a step
    sums = 2 * sum(sizes.values())
    assert found.words == 3 * sums
    assert found.deficiency() == sums
    assert all(found.deficiency({omitted}) == sums + 2 * 2 * size for omitted, size in sizes.items())


def layers(job: NetworkJob, world: NetworkWorld, step: Step) -> tuple[list[Words], Words]:
    """Plain pre-activations of the hidden layers in place and of the output, classes in their own order, no noise."""
    weights = network_reference.train(world.oracle(), stop=step.index)
    setting = network_reference.PassSetting(job.plan, job.order, job.elements)
    batch, column = [x[job.order.rows(step)] for x in job.xs], encode_number(1.0 / step.alpha, job.plan.fx)
    seen = network_reference._forward(batch, weights, step, setting)
    z = [total(map(product, batch, weights.blocks)) + column * weights.biases[0]]
    for layer, above, bias in zip(seen.hidden, weights.upper, weights.biases[1:], strict=True):
        z.append(product(layer.activation, above) + column * bias)
    return z[:-1], z[-1]


def check_independent(a, b, cells: int = 8) -> None:
    """Two numberings of the same things, each 0 to n - 1, have nothing in common: six deviations of a chi-square."""
    table, _, _ = np.histogram2d(a, b, bins=cells)
    due = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    statistic, freedom = float(((table - due) ** 2 / due).sum()), (cells - 1) ** 2
    assert abs(statistic - freedom) < 6 * (2 * freedom) ** 0.5, "position tells something"


def check_hidden_view(job: NetworkJob, world: NetworkWorld) -> None:
    """The helper's sum is the layer's elements in secret order, signed and noised, and position says nothing."""
    fz, signs, places = job.plan.fz, [], defaultdict(list)
    for step in job.plan.steps():
        plain, _ = layers(job, world, step)
        for k, z in enumerate(plain):
            seen = total(shares_for_helper(world, f"hidden share {k}", step.index))[0]
            # Values are matched by size, since that is all that the helper could do.
            mine, its = (np.argsort(np.abs(decode(words.ravel(), fz))) for words in (z, seen))
            off = decode(seen[its], fz) - np.sign(decode(seen[its], fz)) * np.abs(decode(z.ravel()[mine], fz))
            assert np.abs(off).max() < 2.0**-18
            assert np.unique(off).size > 0.9 * off.size, "no noise"
            signs.append(np.sign(decode(seen[its], fz)) * np.sign(decode(z.ravel()[mine], fz)))
            rows, units = np.unravel_index(mine, z.shape)
            places[k].append(its)
            for where in (rows, units, mine):
                check_independent(where, its)
    agreement = np.concatenate(signs)
    assert abs(float(agreement.mean())) < 6 / agreement.size**0.5, "signs"
    for before, after in itertools.combinations(places[0][:3] + places[1][:1], 2):
        size = min(len(before), len(after))
        check_independent(before[:size], after[:size])


def test_the_helper_sees_the_multiset_of_a_hidden_layers_elements():
    """Under secret signs and noise, in an order that tells neither rows nor units, at every step."""
    noisy = make_network_job(MEDIUM, label=1)
    check_hidden_view(quiet(noisy), NetworkWorld(quiet(noisy)).run(2))  # noise that matters would hide the match
    job, world = noisy, NetworkWorld(noisy).run(2)
    for step in job.plan.steps():  # and bit for bit
        for k, z in enumerate(layers(job, world, step)[0]):
            order, signs = job.elements.permutation(step, k, z.size), job.elements.signs(step, k, z.size)
            due = signs * z.ravel()[order] + job.elements.noise(step, k, z.size, noise_width(job.plan, step.alpha))
            assert np.array_equal(total(shares_for_helper(world, f"hidden share {k}", step.index))[0], due)


class InPlace(Elements):
    """A planted mistake: elements as they are."""

    def permutation(self, step, layer, count):
        return np.arange(count)


class ByRows(Elements):
    """A planted mistake: rows in secret order, units together."""

    def permutation(self, step, layer, count):
        rows = super().permutation(step, layer, step.rows)
        return np.arange(count).reshape(step.rows, -1)[rows].ravel()


class Unsigned(Elements):
    """A planted mistake: no signs."""

    def signs(self, step, layer, count):
        return np.ones(count, np.uint64)


class Noiseless(Elements):
    """A planted mistake: the same noise for all."""

    def noise(self, step, layer, count, fz):
        return np.zeros(count, np.uint64)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [(InPlace, "position tells"), (ByRows, "position tells"), (Unsigned, "signs"), (Noiseless, "no noise")],
)
def test_what_is_missing_in_the_helpers_view_is_noticed(elements, reason):
    """Although the model comes out right."""
    job = quiet(make_network_job(MEDIUM, label=1))._replace(elements=elements(b"k" * 32))
    with pytest.raises(AssertionError, match=reason):
        check_hidden_view(job, NetworkWorld(job).run(2))


def check_output_view(job: NetworkJob, world: NetworkWorld) -> None:
    """Of logits, their differences in secret order with noise of their own, and no level."""
    orders, tops = set(), []
    for step in job.plan.steps():
        seen, (_, z) = total(shares_for_helper(world, "output share 0", step.index)), layers(job, world, step)
        classes = job.order.classes(step, job.plan.outputs)
        orders.add(tuple(classes.tolist()))
        due = z[:, classes] + job.order.noise(step, noise_width(job.plan, step.alpha), job.plan.outputs)
        differences = seen - seen[:, :1]
        assert np.array_equal(differences, due - due[:, :1])
        plain = z[:, classes]
        plain = plain - plain[:, :1]
        noise = decode(differences - plain, job.plan.fz)[:, 1:]
        assert np.unique(noise).size > 0.9 * noise.size, "noise cancels in the differences"
        tops.append(np.abs(decode(seen[:, 0], 63)))
    assert len(orders) > 1, "classes stay in place"
    level = np.concatenate(tops)  # of a uniform word, uniform in [0, 1)
    assert abs(level.mean() - 0.5) < 5 / (12 * level.size) ** 0.5, "the level shows"


class NoLevel(Elements):
    """A planted mistake: logits as they are."""

    def level(self, step, rows):
        return np.zeros((rows, 1), np.uint64)


def test_the_helper_sees_differences_of_logits_in_a_secret_order():
    """Bit for bit, and neither the level of a row nor the same order twice."""
    job = make_network_job(MEDIUM, label=1)
    check_output_view(job, NetworkWorld(job).run(2))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"elements": NoLevel(b"k" * 32)}, "the level shows"),
        ({"order": OpenClasses(b"k" * 32, MEDIUM.rows)}, "classes stay in place"),
        ({"order": RowNoise(b"k" * 32, MEDIUM.rows)}, "noise cancels"),
    ],
)
def test_what_is_missing_in_the_helpers_view_of_logits_is_noticed(change, reason):
    """Each planted mistake by the check that is for it."""
    job = make_network_job(MEDIUM, label=1)._replace(**change)
    with pytest.raises(AssertionError, match=reason):
        check_output_view(job, NetworkWorld(job).run(2))


def test_rows_are_signed_where_the_link_is_odd():
    """A logistic output is seen as in a logistic regression."""
    job = make_network_job(replace(MEDIUM, model="logistic", outputs=1), label=1)
    world = NetworkWorld(job).run(2)
    for step in job.plan.steps():
        _, z = layers(job, world, step)
        due = job.order.signs(step, odd=True) * z + job.order.noise(step, noise_width(job.plan, step.alpha))
        assert np.array_equal(total(shares_for_helper(world, "output share 0", step.index)), due)
        assert len(np.unique(job.order.signs(step, odd=True))) == 2
