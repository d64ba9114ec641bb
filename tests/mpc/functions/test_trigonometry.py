"""Cosines and sines of words: near numpy's, the same to the last bit wherever a word lies."""

from hashlib import sha256

import numpy as np
import pytest

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.functions.trigonometry import cos_sin, rotations

QUARTER = np.uint64(1 << 62)
WHOLE, ODD = range(1, 33), range(1, 97, 2)
FROZEN = "a05853e1139cd70f"  # of what `same_words` and ODD give; another one is another model


def words(count: int = 4000) -> Words:
    """Words anywhere, and on both sides of each eighth of a turn."""
    anywhere = np.random.default_rng(3).integers(0, 2**64, count, dtype=np.uint64)
    eighths = np.arange(8, dtype=np.uint64) << np.uint64(61)
    return np.concatenate([anywhere, eighths, eighths + np.uint64(1), eighths - np.uint64(1)])


def same_words(count: int = 500) -> Words:
    """Words that no random generator has a say in."""
    return np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def radians(angles: Words):
    """The angle in -pi to pi, as numpy takes it."""
    return angles.view(np.int64) * (2 * np.pi / 2**64)


def test_cosine_and_sine_are_numpys():
    """To 1e-15, half of which is what radians are off."""
    cos, sin = cos_sin(words())
    assert np.abs(cos - np.cos(radians(words()))).max() < 1e-15
    assert np.abs(sin - np.sin(radians(words()))).max() < 1e-15
    assert np.abs(cos * cos + sin * sin - 1).max() < 1e-15


def test_whole_quarters_are_exact():
    cos, sin = cos_sin(np.arange(4, dtype=np.uint64) * QUARTER)
    assert cos.tolist() == [1, 0, -1, 0]
    assert sin.tolist() == [0, 1, 0, -1]


def test_a_quarter_turn_further_the_two_change_places_to_the_last_bit():
    (cos, sin), (cos_on, sin_on) = cos_sin(words()), cos_sin(words() + QUARTER)
    assert np.array_equal(cos_on, -sin)
    assert np.array_equal(sin_on, cos)


@pytest.mark.parametrize("multiples", [WHOLE, ODD, range(5, 40, 7), [3], [1, 2]])
def test_rotations_are_cosines_and_sines_of_multiples(multiples):
    """Within 4e-14: an error of the first angle counts as often as the multiple says."""
    angles = words().reshape(-1, 2)
    cos, sin = rotations(angles, multiples)
    direct = cos_sin(np.multiply.outer(np.array(multiples, dtype=np.uint64), angles))
    assert cos.shape == sin.shape == (len(multiples), *angles.shape)
    assert np.abs(np.stack([cos, sin]) - direct).max() < 4e-14


def test_a_row_alone_and_in_any_layout_gives_the_same_bits():
    """A party may hold rows in other batches, or columns first."""
    angles = words(400).reshape(-1, 2)
    whole = np.stack(rotations(angles, ODD))
    assert np.array_equal(np.stack(rotations(np.asfortranarray(angles), ODD)), whole)
    assert np.array_equal(np.stack(rotations(angles[::2], ODD)), whole[:, :, ::2])
    for row in (0, 7, len(angles) - 1):
        alone = np.stack(rotations(angles[row : row + 1], ODD))
        assert np.array_equal(alone, whole[:, :, row : row + 1])


def test_every_machine_gets_the_same_bits():
    """IEEE + - * alone: so the result of fixed words is frozen."""
    found = b"".join(part.astype("<f8").tobytes() for part in rotations(same_words(), ODD))
    assert sha256(found).hexdigest()[:16] == FROZEN


def test_multiples_without_equal_steps_are_refused():
    with pytest.raises(ValueError, match="equal steps"):
        rotations(words(), [1, 2, 4])
