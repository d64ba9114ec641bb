"""What sizes and losses tell depends on no row, and is not told where nothing needs it."""

import numpy as np
import pytest

from tercet.agents.session.training_defaults import announced_spread
from tests.attacks import told
from tests.attacks.__main__ import judged
from tests.attacks.registry import ATTACKS, PARTNER, SUBMITTER


@pytest.mark.parametrize(
    "attack", [one for one in ATTACKS if one.who in {PARTNER, SUBMITTER}], ids=lambda attack: attack.name
)
def test_a_curious_partner_learns_neither_a_mean_nor_a_record_of_sums_that_are_told(attack):
    """It proves itself first."""
    columns, fine = judged(attack)
    assert fine, columns


def test_the_spread_is_the_same_whatever_the_rows_are():
    """So it tells nothing of any of them: at most log2 of the number of encoded columns, and that of columns."""
    job = told.job_with("auto")
    for columns in range(1, told.MOST_COLUMNS + 1):
        spreads = {announced_spread(job, told.table_of(columns, np.random.default_rng(seed))) for seed in range(8)}
        assert spreads == {float(columns)}
