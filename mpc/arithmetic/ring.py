"""Operates on words modulo 2^64; everything else is made of these few operations.

It knows neither what a word means nor how many fractional bits it has.

Arrays of uint64 wrap exactly under + - * @. Mixing them with int64 silently gives float64, and scalars warn when
they wrap: keep to arrays, and pass through `from_signed` and `to_signed`.

Products are exact, so it does not matter for any word which code computes them and on how many threads. numpy's `@` on
integers is a plain loop; the compiled one is many times as fast, but takes a third of a second to load. So it is loaded
by `warm_up`, or by the first product that is worth it, and used for nearly everything from then on.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import pairwise
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]  # 2-D wherever the protocol speaks of it
Signed = NDArray[np.int64]
Kernel = Callable[[Words, Words, Words], None]  # out = a b

WORTH_LOADING = 2**22  # multiply-adds that numpy takes some milliseconds for
WORTH_A_THREAD = 2**22  # a tenth of a millisecond of compiled code or more; to wake a thread takes a third of that
FEWEST_ROWS = 16  # of one thread: whole tiles of the compiled code
FEW_OUTPUTS = 2  # of X^T e, for which e^T X is faster


class ShapeProblem(ValueError):
    """Words that are not what was announced.

    The fault of whoever sent them, named in the text.
    """


def from_signed(values: Signed) -> Words:
    """Return the same bits, read modulo 2^64."""
    return values.view(np.uint64)


def to_signed(words: Words) -> Signed:
    """Return the same bits, read as two's complement."""
    return words.view(np.int64)


def total(parts: Iterable[Words]) -> Words:
    """Sum of one or more arrays of one shape; a new array unless there is only one."""
    return reduce(np.add, parts)


def sum_along(words: Words, axis: int | None = None) -> Words:
    """Add up all words, (1, 1), or those along one axis, which stays with length 1."""
    added: Words = words.sum(axis=axis, keepdims=True, dtype=np.uint64)
    return added


def column(words: Words) -> Words:
    """Return a vector as an array of one column."""
    return words[:, np.newaxis]


def product(x: Words, w: Words) -> Words:
    """Compute X w for X (rows, columns) and w (columns, outputs)."""
    if w.shape[1] == 1:  # no vectors to be made of it
        return column(np.einsum("bd,d->b", x, w[:, 0]))
    return _multiply(x, w)


def transposed_product(x: Words, e: Words) -> Words:
    """Compute X^T e for X (rows, columns) and e (rows, outputs)."""
    if e.shape[1] <= FEW_OUTPUTS < x.shape[1]:
        return np.ascontiguousarray(_multiply(e.T, x).T)
    return _multiply(x.T, e)


def product_transposed(e: Words, w: Words) -> Words:
    """Compute E w^T for e (rows, outputs) and w (columns, outputs)."""
    return _multiply(e, w.T)


def expect(words: Words, shape: tuple[int, int], what: str) -> Words:
    """Return the same words if they have this shape.

    Else ShapeProblem, since numpy would broadcast a wrong one.
    """
    if words.dtype != np.uint64 or words.shape != shape:
        raise ShapeProblem(f"{what}: expected {shape} words, got {words.dtype} {words.shape}")
    return words


class _Machine:
    """Loads the compiled product and limits the threads that it takes.

    Any thread may use it.
    """

    def __init__(self) -> None:
        self._kernel: Kernel | None = None
        self._threads: tuple[int, ThreadPoolExecutor | None] = 1, None  # replaced as one, by whoever changes it

    def load(self) -> Kernel:
        """Return the compiled product.

        The import system lets one thread compile while others wait.
        """
        if self._kernel is None:
            from tercet.mpc.arithmetic.kernels import multiply  # noqa: PLC0415 - numba is not for every command to wait for

            self._kernel = multiply
        return self._kernel

    def kernel(self, work: int) -> Kernel | None:
        """Return the compiled product if it is loaded, or if the work is worth loading it."""
        return self.load() if work >= WORTH_LOADING else self._kernel

    def use(self, threads: int) -> None:
        """Set the number of threads.

        A product that is under way keeps its threads; they end with it.
        """
        if threads != self._threads[0]:
            pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="ring") if threads > 1 else None
            self._threads = threads, pool

    def run(self, kernel: Kernel, parts: list[tuple[Words, Words, Words]]) -> None:
        """Run one part here and the others on threads.

        Those threads run kernels alone, so nobody waits in a circle.
        """
        pool = self._threads[1]
        others = [pool.submit(kernel, *part) for part in parts[1:]] if pool else []
        for part in parts if pool is None else parts[:1]:
            kernel(*part)
        for other in others:
            other.result()

    def parts(self, work: int) -> int:
        """Decide over how many threads to spread so many multiply-adds."""
        return max(1, min(self._threads[0], work // WORTH_A_THREAD))


_MACHINE = _Machine()


def use_threads(count: int | None) -> None:
    """Let a large product take so many threads at most, all jobs together.

    By default one, with None all processors.

    For the whole process: whoever says it last has said it.

    Raises:
        ValueError: for less than one.
    """
    if count is not None and count < 1:
        raise ValueError("a product takes at least one thread")
    _MACHINE.use(count or os.cpu_count() or 1)


def warm_up() -> None:
    """Load the compiled code, or compile it.

    A third of a second, or a few seconds on a machine's first start.
    """
    _MACHINE.load()
    series_kernels()


def kernels() -> ModuleType:
    """Load the compiled loops, on first use."""
    from tercet.mpc.arithmetic import kernels as loops  # noqa: PLC0415 - as in `_Machine`

    return loops


def series_kernels() -> ModuleType:
    """Load the compiled loops over angles, on first use."""
    from tercet.mpc.arithmetic import series_kernels as loops  # noqa: PLC0415 - as in `_Machine`

    return loops


def _multiply(a: Words, b: Words) -> Words:
    """Compute a b for a (rows, inner) and b (inner, columns)."""
    rows, inner, columns = *a.shape, b.shape[1]
    if b.shape[0] != inner:
        raise ValueError(f"shapes do not fit: {a.shape} and {b.shape}")
    work = rows * inner * columns
    kernel = _MACHINE.kernel(work)
    if kernel is None:
        slow: Words = np.matmul(a, b)
        return slow
    parts = _MACHINE.parts(work)
    by_terms = parts > 1 and rows < parts * FEWEST_ROWS  # then each thread has its part of every sum
    outs = np.empty((parts if by_terms else 1, rows, columns), np.uint64)
    if parts == 1:
        kernel(a, b, outs[0])
    elif by_terms:
        ranges = _ranges(inner, parts)
        _MACHINE.run(kernel, [(a[:, some], b[some], out) for some, out in zip(ranges, outs, strict=True)])
    else:
        _MACHINE.run(kernel, [(a[some], b, outs[0, some]) for some in _ranges(rows, parts)])
    return total(outs)


def _ranges(size: int, parts: int) -> list[slice]:
    edges = [size * part // parts for part in range(parts + 1)]
    return [slice(*edge) for edge in pairwise(edges)]
