"""Rows that are served one by one: no more is won by asking again than by asking once."""

from pathlib import Path

import numpy as np

from tests.attacks.served_rows import (
    NEAR,
    ROWS,
    WIDTH,
    answers,
    found_by_refusals,
    from_two_widths,
    partner,
    parts,
)


def test_two_widths_of_one_draw_would_give_a_part_away() -> None:
    """So the draw is another for each width."""
    assert from_two_widths(protected=False) > 0.99
    assert from_two_widths(protected=True) < NEAR + 0.1


def test_lasting_noise_is_as_wide_as_it_says_and_another_for_each_partner() -> None:
    """Else it would protect nothing."""
    first, second = (answers(partner()) - parts() for _ in range(2))
    assert 0.9 * WIDTH < np.abs(first).max() <= WIDTH + 2.0**-16
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.3
    assert abs(first.mean()) < 0.2 * WIDTH


def test_refusals_tell_of_no_id_whether_a_partner_has_it(tmp_path: Path) -> None:
    """Were rows counted only where they are, a used up budget would tell of any id, for nothing."""
    assert found_by_refusals(tmp_path / "bare", protected=False) == ROWS
    assert found_by_refusals(tmp_path / "protected", protected=True) == 0
