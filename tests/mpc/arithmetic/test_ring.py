"""Products of words: the same whatever the shape, the layout of the memory, the code that runs and the threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.mpc.arithmetic import ring
from tercet.mpc.arithmetic.ring import Words, product, product_transposed, transposed_product

sizes = st.one_of(st.integers(0, 20), st.sampled_from([31, 32, 33, 64, 100]))


@pytest.fixture(autouse=True)
def every_product_is_split(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The compiled code for all sizes, and every thread that is allowed used for even the smallest of them."""
    monkeypatch.setattr(ring, "WORTH_A_THREAD", 1)
    ring.warm_up()
    yield
    ring.use_threads(1)


def laid_out(words: Words, layout: str) -> Words:
    """The same words, lying in memory in another way."""
    rows, columns = words.shape
    if layout == "by columns":
        return np.asfortranarray(words)
    if layout == "part of more":
        more = np.full((rows + 3, columns + 2), 7, np.uint64)
        more[2 : rows + 2, 1 : columns + 1] = words
        return more[2 : rows + 2, 1 : columns + 1]
    if layout == "with gaps":
        more = np.full((2 * rows, 3 * columns), 7, np.uint64)
        more[::2, ::3] = words
        return more[::2, ::3]
    if layout == "backwards":
        return words[::-1, ::-1].copy()[::-1, ::-1]
    if layout == "of a message":  # read-only, and beginning at any byte
        return np.frombuffer(b"abc" + words.tobytes(), np.uint64, offset=3).reshape(rows, columns)
    return words.copy()


LAYOUTS = ["by rows", "by columns", "part of more", "with gaps", "backwards", "of a message"]
layouts = st.sampled_from(LAYOUTS)


def random_words(seed: int, *shape: int) -> Words:
    """Uniform ones, some of them extreme."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**64, shape, dtype=np.uint64)
    return np.where(rng.random(shape) < 0.1, np.uint64(2**64 - 1), words)


def exact(a: Words, b: Words) -> Words:
    """By Python's own integers."""
    if 0 in (*a.shape, *b.shape):
        return np.zeros((a.shape[0], b.shape[1]), np.uint64)
    found: Words = (a.astype(object) @ b.astype(object) % 2**64).astype(np.uint64)
    return found


@given(st.integers(0, 2**32), sizes, sizes, sizes, layouts, layouts, st.integers(1, 4))
def test_products_are_numpys_in_every_layout_and_on_any_number_of_threads(
    seed, rows, inner, columns, one, other, threads
):
    """All three products; sizes of zero and one are among them, and results are new arrays without gaps."""
    ring.use_threads(threads)
    a, b = random_words(seed, rows, inner), random_words(seed + 1, inner, columns)
    wanted = np.matmul(a, b)
    for found in (
        product(laid_out(a, one), laid_out(b, other)),
        transposed_product(laid_out(a.T, one), laid_out(b, other)),
        product_transposed(laid_out(a, one), laid_out(b.T, other)),
    ):
        assert np.array_equal(found, wanted)
        assert found.dtype == np.uint64
        assert found.shape == (rows, columns)
        assert found.flags.c_contiguous
        assert found.flags.writeable


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 3, 8), (8, 9, 7), (9, 17, 9), (33, 2, 20)])
def test_products_are_those_of_whole_numbers(shape, layout):
    """Not numpy's word for it, but Python's integers modulo 2^64."""
    rows, inner, columns = shape
    a, b = random_words(3, rows, inner), random_words(4, inner, columns)
    wanted = exact(a, b)
    assert np.array_equal(product(laid_out(a, layout), laid_out(b, layout)), wanted)
    assert np.array_equal(transposed_product(laid_out(a.T, layout), laid_out(b, layout)), wanted)
    assert np.array_equal(product_transposed(laid_out(a, layout), laid_out(b.T, layout)), wanted)


def test_arguments_stay_as_they_are():
    """The compiled code writes to its result only, tails that it computes twice included."""
    a, b = random_words(5, 21, 13), random_words(6, 13, 11)
    before = a.tobytes(), b.tobytes()
    product(a, b)
    transposed_product(a.T, b)
    product_transposed(a, b.T)
    assert (a.tobytes(), b.tobytes()) == before


def test_products_that_do_not_fit_are_refused():
    """As numpy does; the compiled code would read past the end."""
    a = random_words(7, 20, 20)
    for multiply, wrong in [
        (product, a[:, 1:]),
        (product, a[:, 1:].copy()),
        (transposed_product, a[1:]),
        (product_transposed, a[:, 1:]),
    ]:
        with pytest.raises(ValueError, match=r"shape|match"):
            multiply(wrong, a[:, :9] if multiply is not product_transposed else a[:9])


def test_a_product_of_other_numbers_is_refused():
    """Signed words would be read as if they were none; numpy alone would answer with float64."""
    a = random_words(8, 20, 20)
    with pytest.raises(TypeError):
        product(a.view(np.int64), a)


def test_threads_may_multiply_at_the_same_time_while_their_number_changes():
    """As several jobs of one agent do; each gets its own result."""
    pairs = [(random_words(seed, 90, 40), random_words(seed + 1, 40, 24)) for seed in range(8)]
    wanted = [np.matmul(a, b) for a, b in pairs]

    def multiply(number: int) -> bool:
        ring.use_threads(1 + number % 4)
        a, b = pairs[number % 8]
        return np.array_equal(product(a, b), wanted[number % 8])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(multiply, range(400)))


def test_few_rows_are_split_by_terms():
    """A gradient of one output has one row only, and thousands of terms."""
    x, e = random_words(9, 5000, 12), random_words(10, 5000, 1)
    ring.use_threads(3)
    assert np.array_equal(transposed_product(x, e), exact(x.T, e))


@pytest.mark.parametrize("count", [0, -1])
def test_no_threads_at_all_are_refused(count):
    """With one the work is done in the caller's; with None on all processors."""
    with pytest.raises(ValueError, match="at least one"):
        ring.use_threads(count)
    ring.use_threads(None)
