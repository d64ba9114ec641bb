"""The label party's attacks on scores: what it solves for without the protections, and what is left with them."""

import numpy as np
import pytest

from tests.attacks import credit, scorings
from tests.attacks.__main__ import judged
from tests.attacks.registry import ATTACKS, LABEL

OF_THE_LABEL_PARTY = [attack for attack in ATTACKS if attack.who == LABEL]


@pytest.mark.parametrize("attack", OF_THE_LABEL_PARTY, ids=lambda attack: f"{attack.name}: {attack.recovers}")
def test_a_curious_label_party_solves_for_records_without_the_protection_and_not_with_it(attack):
    """What a score says of a record by itself is granted: that is the margin."""
    columns, fine = judged(attack)
    assert fine, columns


def solved(scene, reported, half, known):
    """The part of the others' records of delays that are right."""
    out = scorings.solve(reported, known, scene.delays[known], scene.bills[known], scene.domain, scene.chances, half)
    return float((out.delays == scene.delays[~known]).all(axis=1).mean())


def test_a_hundred_known_customers_are_enough():
    """More unknown weights than that there are not."""
    scene = credit.scorings()
    known = np.arange(len(scene.parts)) < 100
    assert solved(scene, scene.reported(None), 2.0**-17, known) > 0.9


def test_both_the_noise_and_the_number_of_scorings_count():
    """Eight noised scorings tell more than one, and less than eight without noise."""
    scene = credit.scorings()
    known = np.arange(len(scene.parts)) < 300
    noised = scene.reported(5)
    eight, one = (solved(scene, reported, 2.0**-5, known) for reported in (noised, noised[:, -1:]))
    assert one < eight - 0.05
    assert eight < 0.65


def test_one_score_of_a_partner_with_categories_alone_is_nearly_its_record():
    """And the noise leaves more of it than guessing: such a partner has to accept that."""
    scene = credit.scorings(bills=False)
    known = np.arange(len(scene.parts)) < 300
    assert solved(scene, scene.reported(None)[:, -1:], 2.0**-17, known) > 0.9
    assert solved(scene, scene.reported(5)[:, -1:], 2.0**-5, known) > scene.guess + 0.2
