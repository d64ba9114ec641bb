"""A network's steps that another attempt repeats: what the helper sees of both tells no more than each alone.

Roundings are dealt anew, so its values differ in their last bits. Under one noise their differences would show those
bits as they are: columns times small whole numbers, of which narrow ones can be solved for.
"""

import numpy as np
import pytest

from tercet.mpc.arithmetic.ring import Signed, to_signed, total
from tercet.mpc.plan.architecture import Network
from tercet.mpc.plan.forward import noise_width
from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.secret_order import Order
from tests.mpc.network.test_view import layers, shares_for_helper
from tests.mpc.network_world import KEY, NetworkJob, NetworkWorld, make_network_job
from tests.mpc.world import keyed

REQUEST = Request("softmax", 192, (10, 10, 9), 64, 2, 0.3, outputs=4, network=Network((6, 5), "relu"))


def attempt(job: NetworkJob, number: int, noise: int) -> NetworkWorld:
    """A training from the beginning, with the keys of one attempt and the noise of one."""
    order, elements = Order(KEY, job.plan.request.rows, attempt=noise), Elements(KEY, attempt=noise)
    return NetworkWorld(job._replace(order=order, elements=elements), keyed(number)).run(1)


def noises(world: NetworkWorld, step: Step) -> list[Signed]:
    """All that is not the values, in what the helper sees of each hidden layer, and of the logits."""
    job = world.job
    plain, output = layers(job, world, step)
    found = []
    for k, z in enumerate(plain):
        order, signs = job.elements.permutation(step, k, z.size), job.elements.signs(step, k, z.size)
        seen = total(shares_for_helper(world, f"hidden share {k}", step.index))[0]
        found.append(to_signed(seen - signs * z.ravel()[order]))
    logits = output[:, job.order.classes(step, job.plan.outputs)]
    seen = total(shares_for_helper(world, "output share 0", step.index))
    return [*found, to_signed(seen - logits).ravel()]


def check_two_attempts(job: NetworkJob, one: NetworkWorld, other: NetworkWorld) -> None:
    """Order and signs are the same; the noise has nothing in common, and is as wide as ever."""
    for step in job.plan.steps():
        for first, second in zip(noises(one, step), noises(other, step), strict=True):
            assert not (first == second).any()
            assert abs(np.corrcoef(first.astype(float), second.astype(float))[0, 1]) < 6 / first.size**0.5
        for hidden in noises(other, step)[:-1]:
            width = noise_width(job.plan, step.alpha)
            assert 2.0 ** (width - 1) < np.abs(hidden).max() <= 2.0**width


def test_two_attempts_have_nothing_in_common_but_the_values():
    """Neither in hidden layers nor in logits, of which the helper knows the differences only."""
    job = make_network_job(REQUEST)
    check_two_attempts(job, attempt(job, 1, 1), attempt(job, 2, 2))


def test_the_noise_of_the_first_attempt_in_the_second_is_noticed():
    """Then the difference of both is columns times whole numbers, and nothing else."""
    job = make_network_job(REQUEST)
    with pytest.raises(AssertionError):
        check_two_attempts(job, attempt(job, 1, 1), attempt(job, 2, 1))


def test_an_attempt_changes_no_order_and_no_sign():
    """So that no later attempt tells the helper anything new of either."""
    (step, *_), rows = make_network_job(REQUEST).plan.steps(), 192
    orders, elements = [Order(KEY, rows, attempt=n) for n in (1, 2)], [Elements(KEY, attempt=n) for n in (1, 2)]
    for what in (lambda o: o.rows(step), lambda o: o.classes(step, 4), lambda o: o.signs(step, odd=True)):
        assert np.array_equal(*map(what, orders))
    for also in (lambda e: e.permutation(step, 0, 64), lambda e: e.signs(step, 1, 64)):
        assert np.array_equal(*map(also, elements))
