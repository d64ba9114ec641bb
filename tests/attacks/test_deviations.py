"""Parties that lie read columns without the protections, and nothing with them."""

import pytest

from tests.attacks.__main__ import judged
from tests.attacks.registry import ATTACKS, HELPER, LABEL, PARTNER

OF_LIARS = [attack for attack in ATTACKS if attack.who not in {HELPER, LABEL, PARTNER}]


@pytest.mark.parametrize("attack", OF_LIARS, ids=lambda attack: attack.name)
def test_a_lying_party_reads_columns_without_the_protection_and_none_with_it(attack):
    """Each proves itself first."""
    columns, fine = judged(attack)
    assert fine, columns
