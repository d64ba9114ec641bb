"""Masks and the order: AES-CTR at addresses that never meet, and secrets kept apart by labels."""

import hashlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import erfc, sqrt
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from tercet.mpc.plan.plan import Request
from tercet.mpc.plan.planner import make_plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import Keystream, PairMasks, derive_key
from tercet.mpc.randomness.secret_order import (
    Order,
    alignment_key,
    choose_held_out,
    confirmation,
    confirms,
    derive_subkey,
    order_key,
)

STEP = Step(7, 2, 3, 0, 100, 0.5, 1.0, 1.0)
u32 = st.integers(0, 2**32 - 1)


def pair(**change) -> PairMasks:
    supplied: dict[str, Any] = {
        "transcript": b"t",
        "job": b"j",
        "attempt": 1,
        "sender": "a",
        "receiver": "b",
        "purpose": "training",
    }
    return PairMasks(b"s" * 32, **(supplied | change))


def p_value(words) -> float:
    """Chi-square of the bytes against the uniform distribution, by the normal approximation of 255 degrees."""
    counts = np.bincount(words.view(np.uint8).ravel(), minlength=256)
    expected = counts.sum() / 256
    chi = float(((counts - expected) ** 2).sum() / expected)
    deviation = ((chi / 255) ** (1 / 3) - (1 - 2 / (9 * 255))) / sqrt(2 / (9 * 255))
    return erfc(abs(deviation) / sqrt(2))


@given(st.binary(min_size=32, max_size=32), u32, u32, u32, st.integers(1, 40))
def test_a_keystream_is_aes_in_counter_mode(key, attempt, epoch, step, size):
    """Counter block (attempt, epoch, step, block), each 32 bits, encrypted one by one; words are little-endian."""
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    blocks = [
        ecb.update(b"".join(part.to_bytes(4, "big") for part in (attempt, epoch, step, block)))
        for block in range(-(-size // 2))
    ]
    expected = np.frombuffer(b"".join(blocks), "<u8")[:size]
    assert np.array_equal(Keystream(key).words(attempt, epoch, step, (size,)), expected)


def test_long_masks_are_one_stream():
    """Longer than the buffer that is encrypted again and again, and of any shape."""
    stream = Keystream(b"k" * 32)
    long = stream.words(1, 2, 3, (30_001, 1))
    assert np.array_equal(stream.words(1, 2, 3, (100, 3)).ravel(), long.ravel()[:300])
    whole = Cipher(algorithms.AES(b"k" * 32), modes.CTR((1 << 96 | 2 << 64 | 3 << 32).to_bytes(16, "big"))).encryptor()
    assert long.tobytes() == whole.update(bytes(30_001 * 8))
    assert long.dtype == np.uint64


def test_threads_may_share_a_keystream():
    """Each address has its words whoever asks when; a cipher that another thread is using is left alone."""
    stream, fresh = Keystream(b"k" * 32), [Keystream(b"k" * 32).words(1, 2, step, (5_000,)) for step in range(50)]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda step: stream.words(1, 2, step, (5_000,)), [*range(50)] * 4)
        assert all(np.array_equal(words, fresh[number % 50]) for number, words in enumerate(found))


def test_more_blocks_than_a_counter_holds_are_refused():
    """Before any memory is asked for; so is an address beyond 32 bits."""
    stream = Keystream(b"k" * 32)
    with pytest.raises(OverflowError, match="2\\^32 blocks"):
        stream.words(0, 0, 0, (2**32, 3))
    for address in [(2**32, 0, 0), (0, 2**32, 0), (0, 0, 2**32), (-1, 0, 0)]:
        with pytest.raises(OverflowError, match="32 bits"):
            stream.words(*address, (1, 1))


def test_words_look_uniform():
    """Chi-square on a million words, over addresses and over one stream."""
    masks = pair()
    assert p_value(masks("U", 0, 0, STEP, (1_000_000, 1))) > 1e-6
    many = [masks("M", 0, 1, replace(STEP, epoch=epoch), (1000, 1)) for epoch in range(200)]
    assert p_value(np.concatenate(many)) > 1e-6
    assert p_value(np.arange(10_000, dtype=np.uint64)) < 1e-6


def test_every_part_of_an_address_changes_the_words():
    """Purposes, attempts, names, indices, epochs and steps never share a keystream."""
    contexts = [
        pair(), pair(purpose="loss"), pair(attempt=2), pair(job=b"k"), pair(transcript=b"u"), pair(sender="c"),
        pair(receiver="c"), pair(sender="b", receiver="a"), PairMasks(b"r" * 32, transcript=b"t", job=b"j", attempt=1,
        sender="a", receiver="b", purpose="training"),
    ]  # fmt: skip
    steps = [replace(STEP, epoch=epoch, position=position) for epoch in (0, 1) for position in (0, 1)]
    names = itertools.product(["U", "V", "M", "R", "m_y", "zero"], [0, 1], [0, 1])
    seen = {
        masks(mask, i, j, step, (2, 1)).tobytes()
        for (mask, i, j), masks, step in itertools.product(names, contexts, steps)
    }
    assert len(seen) == 24 * len(contexts) * len(steps)


def test_both_holders_compute_the_same_words_whatever_else_they_asked_for():
    """A mask follows from its address alone."""
    one, other = pair(), pair()
    one("U", 0, 0, STEP, (50, 2))
    assert np.array_equal(one("V", 1, 0, STEP, (3, 1)), other("V", 1, 0, STEP, (3, 1)))


def test_derived_keys_spell_out_their_context():
    """Neither the split of the parts nor their types can be confused, and a zero secret is refused."""
    keys = {derive_key(b"s", b"", info) for info in (["ab", "c"], ["a", "bc"], ["abc"], [1], ["1"], [b"1"], [1, 1])}
    assert len(keys) == 7
    assert derive_key(b"s", b"x", [1]) != derive_key(b"s", b"y", [1])
    for secret in (bytes(32), b""):
        with pytest.raises(ValueError, match="zero"):
            derive_key(secret, b"", [1])


def test_secrets_do_not_show():
    """Neither masks nor the order say their key when printed."""
    for thing in (pair(), Keystream(b"s" * 32), Order(b"s" * 32, 3)):
        assert "ssss" not in repr(thing)


PLAN = make_plan(Request("logistic", 3000, (10, 10), 512, 4, 0.1))
ORDER = Order(order_key(b"digest", {"bank": b"b" * 32, "card": b"c" * 32}), 3000)


def test_the_order_key_depends_on_all_contributions_and_not_on_their_order():
    """Nor on the attempt; and it is confirmed by name."""
    bank, card = b"b" * 32, b"c" * 32
    key = order_key(b"digest", {"bank": bank, "card": card})
    assert key == order_key(b"digest", {"card": card, "bank": bank})
    others = [
        order_key(b"digest", {"bank": card, "card": bank}),
        order_key(b"other", {"bank": bank, "card": card}),
        order_key(b"digest", {"bank": bank, "card": b"d" * 32}),
        order_key(b"digest", {"bank": bank}),
    ]
    assert len({key, confirmation(key, "bank"), confirmation(key, "card"), *others}) == 7
    assert confirms(key, "bank", confirmation(key, "bank"))
    assert not confirms(others[0], "bank", confirmation(key, "bank"))
    assert confirms(key, "bank", confirmation(key, "bank", b"rows"), b"rows")
    assert not confirms(key, "bank", confirmation(key, "bank", b"rows"), b"others")
    with pytest.raises(ValueError, match="contribution of card"):
        order_key(b"digest", {"bank": bank, "card": b"short"})


def test_the_alignment_key_is_another_key_from_the_same_contributions():
    """Its own domain: neither key follows from the other, whatever digest they were made with."""
    supplied = {"bank": b"b" * 32, "card": b"c" * 32}
    key = alignment_key(b"digest", supplied)
    assert key == alignment_key(b"digest", dict(reversed(supplied.items())))
    uses = [derive_subkey(key, label) for label in ("pseudonyms", "rows", "split", "order digest")]
    order = order_key(b"digest", supplied)
    more = [
        order,
        derive_subkey(order, "rows"),
        alignment_key(b"other", supplied),
        alignment_key(b"digest", {"bank": b"b" * 32}),
    ]
    assert len({key, *uses, *more}) == 9
    assert {len(use) for use in uses} == {32}
    with pytest.raises(ValueError, match="contribution of bank"):
        alignment_key(b"digest", {"bank": b""})


@given(st.lists(st.binary(max_size=12), unique=True), st.floats(0, 0.99), st.randoms())
def test_whether_a_row_is_held_out_depends_on_its_id_alone(ids, holdout, random):
    """Not on its place or on the others; and more are held out only beside those that were."""
    key = b"k" * 32
    chosen = dict(zip(ids, choose_held_out(key, ids, holdout), strict=True))
    shuffled = random.sample(ids, len(ids) // 2)
    assert dict(zip(shuffled, choose_held_out(key, shuffled, holdout), strict=True)) == {
        one: chosen[one] for one in shuffled
    }
    assert all(chosen[one] <= more for one, more in zip(ids, choose_held_out(key, ids, (1 + holdout) / 2), strict=True))


def test_a_split_holds_out_the_part_that_was_asked_for():
    """Within chance; another for every key, and nothing at 0."""
    ids = [str(number).encode() for number in range(20_000)]
    for holdout in (0.01, 0.2, 0.9):
        chosen = choose_held_out(b"k" * 32, ids, holdout)
        assert chosen.dtype == np.bool_
        assert abs(chosen.mean() - holdout) < 6 * (holdout * (1 - holdout) / len(ids)) ** 0.5
    one, other = (choose_held_out(key * 32, ids, 0.5) for key in (b"k", b"l"))
    assert abs((one == other).mean() - 0.5) < 6 / (4 * len(ids)) ** 0.5
    assert not choose_held_out(b"k" * 32, ids, 0.0).any()
    assert choose_held_out(b"k" * 32, iter(()), 0.5).shape == (0,)
    for bad in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="held out"):
            choose_held_out(b"k" * 32, ids, bad)


def test_every_epoch_has_its_own_permutation():
    """Each is a permutation, repeated when asked again, after others too."""
    first = ORDER.permutation(0).copy()
    assert first.dtype == np.int64
    for epoch in range(4):
        assert np.array_equal(np.sort(ORDER.permutation(epoch)), np.arange(3000))
    assert np.array_equal(ORDER.permutation(0), first)
    assert (ORDER.permutation(1) == first).mean() < 0.01
    assert np.array_equal(ORDER.rows(next(iter(PLAN.steps()))), first[:512])


def test_looking_ahead_into_the_next_epoch_keeps_the_current_one():
    """The permutation of ten million rows takes seconds, so two are kept."""
    order = Order(b"k" * 32, 100)
    current, following = order.permutation(0), order.permutation(1)
    assert order.permutation(0) is current
    assert order.permutation(1) is following
    order.permutation(2)
    assert order.permutation(1) is following


def test_signs_are_balanced_and_fresh_at_every_step():
    """One bit of the key each; all one where the activation is not odd."""
    signs = [ORDER.signs(step, odd=True) for step in PLAN.steps()]
    assert signs[0].shape == (512, 1)
    values = np.concatenate(signs).view(np.int64)
    assert set(values.ravel()) == {-1, 1}
    assert abs(values.sum()) < 6 * len(values) ** 0.5
    assert len({sign.tobytes() for sign in signs}) == len(signs)
    for step in PLAN.steps():
        assert (ORDER.signs(step, odd=False) == 1).all()


def test_noise_fills_its_range_and_no_more():
    """Uniform within a quarter of a score."""
    width = PLAN.fz - 2
    noise = np.concatenate([ORDER.noise(step, width) for step in PLAN.steps()]).view(np.int64)
    bound = 2**width
    assert noise.min() >= -bound
    assert noise.max() < bound
    assert noise.min() < -0.99 * bound
    assert noise.max() > 0.99 * bound
    assert abs(noise.mean()) < 6 * bound / len(noise) ** 0.5
    assert len(np.unique(noise)) == len(noise)


def test_permutation_signs_and_noise_come_from_separate_streams():
    """The same address under three labels, for training and for scoring: knowing one says nothing of the others."""
    orders = [ORDER, Order(order_key(b"digest", {"bank": b"b" * 32, "card": b"c" * 32}), 3000, "scoring")]
    streams = [stream for order in orders for stream in (order._permutations, order._signs, order._noise)]
    assert len({stream.words(0, 0, 0, (4,)).tobytes() for stream in streams}) == 6


def test_the_order_of_training_is_what_it_always_was():
    """A model kept from an earlier version of the project is found again from the same contributions."""
    step = next(PLAN.steps())
    parts = [ORDER.rows(step).astype("<i8"), ORDER.signs(step, odd=True), ORDER.noise(step, PLAN.fz - 2)]
    found = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
    assert found == "9b2000795d022150cdf2d44b38fed75b112c3f9764238fd46a392a13faae52eb"
