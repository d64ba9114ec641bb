"""The helper's attacks on |z|: each recovers records under the first version's noise, and none under what there is."""

import numpy as np
import pytest

from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.linear.helper import activation
from tests.attacks import density, differences, ideal, judge, tables
from tests.attacks.__main__ import judged
from tests.attacks.registry import ATTACKS, HELPER, Attack
from tests.attacks.tables import OPEN, PROTECTED, View
from tests.mpc.world import Job, World

OF_THE_HELPER = [attack for attack in ATTACKS if attack.who == HELPER]


@pytest.mark.parametrize("attack", OF_THE_HELPER, ids=lambda attack: attack.name)
def test_a_curious_helper_recovers_records_without_the_noise_and_none_with_it(attack):
    """Each proves itself first."""
    columns, fine = judged(attack)
    assert fine, columns


def test_difference_peaks_break_down_before_the_noise_that_there_is():
    """At +-2^-13 of a score little is left, and at +-2^-10 nothing: eight bits to spare."""
    table = tables.categorical(3, 10, 4096, 0)
    model = tables.trained(table)
    for bits in (10, 5, PROTECTED):
        view, rows = model.batch(bits)
        truth = table.part(rows)
        assert judge.best_right(differences.attack(view), truth) < truth.guess + 0.02, bits


def test_an_attack_that_says_nothing_is_judged_a_guess():
    """Rows that are not told apart count as the most frequent record."""
    table = tables.categorical(2, 3, 300, 0)
    none = np.zeros((300, 1), np.int64)
    found = differences.Found(none, np.zeros(300, bool), np.empty(0))
    assert judge.best_right([found], table) == table.guess


def test_records_under_other_names_are_right_and_shuffled_ones_are_not():
    """The judge grants names of levels, and nothing else."""
    table = tables.yes_no(4, 600, 0)
    coordinates = (1 - table.levels)[:, ::-1]
    known = np.ones(600, bool)
    assert judge.best_right([differences.Found(coordinates, known, np.ones(4))], table) == 1.0
    shuffled = np.random.default_rng(0).permutation(coordinates)
    assert judge.best_right([differences.Found(shuffled, known, np.ones(4))], table) < 0.2


def test_the_view_is_what_the_helper_of_a_job_computes_on():
    """Word for word but for the noise, which is as wide as these attacks take it to be."""
    table = tables.categorical(2, 3, 256, 0)
    model = tables.trained(table, batch=64, epochs=2, stop=4)
    seen = {}

    def answer(plan, step, z):
        seen[step.index] = decode(z, plan.fz)[:, 0]
        return activation(plan, step, z)

    x = [decode(words, model.plan.fx) for words in model.xs]
    y = model.plan.link.centre(table.y, 1)
    World(Job(model.plan, 0, x, model.xs, y, model.order), answer=answer).run(stop=5)
    rows = model.order.rows(model.step)
    signs = model.order.signs(model.step, odd=True)[:, 0].astype(np.int64)
    off = np.abs(seen[4] - signs * model.float_scores([words[rows] for words in model.xs])).max()
    # Weights differ by what the noise of earlier steps has done.
    assert 0.7 * 2.0**-PROTECTED < off < 1.1 * 2.0**-PROTECTED


def test_no_attack_on_one_view_can_name_many_records_of_nine_bits():
    """All weights known: two cells of the noise in the range of |z| for each of 512 records."""
    table = tables.yes_no(9, 8192, 9)
    model = tables.trained(table)
    chances = np.bincount(table.records) / len(table.records)
    scores = model.float_scores(model.xs)[np.unique(table.records, return_index=True)[1]][:, None]
    rng = np.random.default_rng(0)
    assert ideal.rows_named(scores, chances, 2.0**-OPEN, rng) > 0.95
    assert ideal.rows_named(scores, chances, 2.0**-PROTECTED, rng) < 0.05


def test_matching_rows_across_passes_gains_nothing_under_secret_order():
    """Were the links known, eight views would name three times as many; by rank they name no more than one."""
    table = tables.yes_no(8, 4096, 8)
    models = [tables.trained(table, stop=8 * epoch - 1) for epoch in range(1, 9)]
    z = np.column_stack([model.float_scores(model.xs) for model in models])
    scores, chances = z[np.unique(table.records, return_index=True)[1]], np.bincount(table.records) / len(z)
    rng, half = np.random.default_rng(0), 2.0**-PROTECTED
    views = np.abs(z + rng.uniform(-half, half, z.shape))
    one = ideal.rows_named(scores[:, -1:], chances, half, rng)
    assert ideal.rows_named_linked(scores, chances, half, rng) > 2.0 * one
    assert ideal.rows_linked_by_rank(views, scores, table.records, chances, half) < one + 0.02


def test_a_table_of_few_records_is_not_saved_by_the_noise():
    """The density of a pass tells the levels of z of four yes/no columns: that is what refusals are for."""
    model = tables.trained(tables.yes_no(4, 8192, 4))
    z = np.abs(model.float_scores(model.xs))
    rng, truth = np.random.default_rng(0), np.unique(z)
    found = density.levels(View(np.abs(z + rng.uniform(-0.25, 0.25, len(z))), 0.25))
    by_chance = density.matched(rng.uniform(0.0, truth.max(), len(found)), truth, 0.02)[0]
    assert density.matched(found, truth, 0.02)[0] > max(0.9, by_chance + 0.3)


def test_the_runner_says_which_attack_proves_nothing_and_which_gets_through():
    """Both are failures."""
    one = Attack("a", "b", "c", "d", "e", lambda protected: 0.5, lambda: 0.1, 0.4, 0.1)
    assert judged(one)[0][-1] == "GETS THROUGH"
    two = Attack("a", "b", "c", "d", "e", lambda protected: 0.1, lambda: 0.1, 0.4, 0.1)
    assert judged(two)[0][-1] == "PROVES NOTHING"
