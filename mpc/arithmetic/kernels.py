"""Compiles loops over words: matrix products modulo 2^64 in vectors of eight words.

Sums of series are there too, and products with few columns that read rows where they are stored.

What works on floats does IEEE operations one by one, in the order of its formula: every machine gets the same bits.

It starts no thread and chooses nothing: that is `ring`'s business, which imports it on first use, since numba takes a
third of a second to load. The GIL is not held while a kernel runs.

Everything is in this one file because numba renews what it has kept on disk only when this file has changed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Stored = NDArray[np.uint64] | NDArray[np.int32]
Index = NDArray[np.int64]
Floats = NDArray[np.float64]
Kernel = Callable[..., None]

Build = Callable[[Any, Any, Any, Any], Any]  # numba's context, an IR builder, the signature, the arguments

LANES = 8  # words in a vector: one register with AVX-512, two with AVX2, four with Neon
WORD_BYTES = 8
TILE = 8  # rows that are computed at a time: their sums stay in registers

LINE_BYTES = 64  # of the cache
ROWS_AHEAD = 8  # that are asked for before they are read: rows anywhere in memory come one by one else
FEW_LINES = 16  # of a row: the processor sees by itself that a longer one goes on

READ = types.Array(types.uint64, 2, "A", readonly=True, aligned=False)  # any strides; messages may begin anywhere
WRITE = types.Array(types.uint64, 2, "C")
STORED = "stored"  # stands for either of these: rows without gaps, of words or of features
STORED_TYPES = tuple(types.Array(kind, 2, "C", readonly=True) for kind in (types.uint64, types.int32))
CONTIGUOUS = types.Array(types.uint64, 2, "C", readonly=True)
INDEX = types.Array(types.int64, 1, "C", readonly=True)

_VECTOR = ir.VectorType(ir.IntType(64), LANES)


class Vector(types.Type):
    """Eight words, for numba."""

    def __init__(self) -> None:
        super().__init__(name="Vector")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """Eight words, for LLVM."""

    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, _VECTOR)


VECTOR = Vector()


def _address(context: Any, builder: Any, kind: Any, arguments: Any) -> Any:
    """Return the address of element [i, j] of an array whose rows have no gaps."""
    array = context.make_array(kind)(context, builder, arguments[0])
    stride = cgutils.unpack_tuple(builder, array.strides)[0]
    word = ir.Constant(arguments[2].type, WORD_BYTES)
    offset = builder.add(builder.mul(arguments[1], stride), builder.mul(arguments[2], word))
    data = builder.bitcast(array.data, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(data, [offset]), _VECTOR.as_pointer())


@intrinsic
def zeros(_: Any) -> tuple[Any, Build]:
    """Return eight zeros."""
    return VECTOR(), lambda *_: ir.Constant(_VECTOR, [0] * LANES)


@intrinsic
def load(_: Any, array: Any, i: Any, j: Any) -> tuple[Any, Build]:
    """Return array[i, j:j+8]."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], arguments), align=1)

    return VECTOR(array, i, j), build


@intrinsic
def store(_: Any, array: Any, i: Any, j: Any, vector: Any) -> tuple[Any, Build]:
    """Assign array[i, j:j+8] = vector."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[3], _address(context, builder, signature.args[0], arguments), align=1)
        return context.get_dummy_value()

    return types.void(array, i, j, vector), build


@intrinsic
def add_multiple(_: Any, total: Any, word: Any, vector: Any) -> tuple[Any, Build]:
    """Return total + word * vector."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        blank, first = ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        one = builder.insert_element(blank, arguments[1], first)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        factor = builder.shuffle_vector(one, blank, everywhere)
        return builder.add(arguments[0], builder.mul(factor, arguments[2]))

    return VECTOR(total, word, vector), build


@intrinsic
def prefetch(_: Any, array: Any, i: Any, offset: Any) -> tuple[Any, Build]:
    """Ask for the bytes at this offset in row i, to be read soon."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        stride = cgutils.unpack_tuple(builder, array.strides)[0]
        place, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        start = builder.add(builder.mul(arguments[1], stride), arguments[2])
        what = ir.FunctionType(ir.VoidType(), [place, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [place], what)
        address = builder.gep(builder.bitcast(array.data, place), [start])
        builder.call(function, [address, number(0), number(3), number(1)])  # to read data, into all caches
        return context.get_dummy_value()

    return types.void(array, i, offset), build


def compiled(*signature: Any) -> Callable[[Kernel], Kernel]:
    """Compile now, for these types, unless this machine has it on disk already.

    With STORED it is compiled for each type of stored words. Numba keeps it beside this file, else in the user's cache;
    where neither can be written, every start compiles.
    """
    kinds = STORED_TYPES if STORED in signature else (None,)
    signatures = [types.void(*(kind if part is STORED else part for part in signature)) for kind in kinds]

    def compile_now(function: Kernel) -> Kernel:
        try:
            kernel: Kernel = njit(signatures, nogil=True, cache=True)(function)
        except (RuntimeError, OSError):  # no folder, or a full disk; what else may be wrong shows again below
            kernel = njit(signatures, nogil=True)(function)
        return kernel

    return compile_now


@njit
def _tile(a: Words, b: Words, out: Words, i: int, j: int) -> None:
    """Compute eight rows from i and eight columns from j of a b."""
    s0, s1, s2, s3, s4, s5, s6, s7 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
    for k in range(b.shape[0]):
        row = load(b, k, j)
        s0 = add_multiple(s0, a[i, k], row)
        s1 = add_multiple(s1, a[i + 1, k], row)
        s2 = add_multiple(s2, a[i + 2, k], row)
        s3 = add_multiple(s3, a[i + 3, k], row)
        s4 = add_multiple(s4, a[i + 4, k], row)
        s5 = add_multiple(s5, a[i + 5, k], row)
        s6 = add_multiple(s6, a[i + 6, k], row)
        s7 = add_multiple(s7, a[i + 7, k], row)
    store(out, i, j, s0)
    store(out, i + 1, j, s1)
    store(out, i + 2, j, s2)
    store(out, i + 3, j, s3)
    store(out, i + 4, j, s4)
    store(out, i + 5, j, s5)
    store(out, i + 6, j, s6)
    store(out, i + 7, j, s7)


@njit
def _strip(a: Words, b: Words, out: Words, i: int, j: int) -> None:
    """Compute one row and eight columns of a b."""
    total = zeros()
    for k in range(b.shape[0]):
        total = add_multiple(total, a[i, k], load(b, k, j))
    store(out, i, j, total)


@compiled(READ, READ, WRITE)
def _multiply_vectors(a: Words, b: Words, out: Words) -> None:
    """Multiply by a b of at least eight columns, its rows without gaps.

    Where eight does not divide a size the last tile reaches back, and computes again what is there already.
    """
    rows, columns = out.shape
    if rows < TILE:
        for i in range(rows):
            for column in range(0, columns, LANES):
                _strip(a, b, out, i, min(column, columns - LANES))
    else:
        for row in range(0, rows, TILE):
            for column in range(0, columns, LANES):
                _tile(a, b, out, min(row, rows - TILE), min(column, columns - LANES))


@njit
def _put(source: Words, target: Words, columns: int) -> None:
    """Copy the first columns of each row."""
    for i in range(source.shape[0]):
        for j in range(columns):
            target[i, j] = source[i, j]


@compiled(READ, READ, WRITE)
def multiply(a: Words, b: Words, out: Words) -> None:
    """Compute out = a b.

    The shapes are a (rows, inner), b (inner, columns) and out (rows, columns). `out` overlaps
    neither of the others.
    """
    rows, columns = out.shape
    if columns >= LANES and b.strides[1] == WORD_BYTES:
        _multiply_vectors(a, b, out)
    elif columns >= LANES:
        packed = np.empty(b.shape, np.uint64)
        _put(b, packed, columns)
        _multiply_vectors(a, packed, out)
    else:
        padded, wide = np.zeros((b.shape[0], LANES), np.uint64), np.empty((rows, LANES), np.uint64)
        _put(b, padded, columns)
        _multiply_vectors(a, padded, wide)
        _put(wide, out, columns)


@njit
def _ask_for(stored: Stored, index: Index, i: int) -> None:
    """Ask for the row that the index has at place i, if it has one."""
    if i < len(index):
        size = stored.shape[1] * stored.itemsize
        for line in range(min(FEW_LINES, -(-size // LINE_BYTES) + 1)):
            prefetch(stored, index[i], min(line * LINE_BYTES, size - 1))


@compiled(STORED, INDEX, CONTIGUOUS, WRITE)
def multiply_rows(stored: Stored, index: Index, w: Words, out: Words) -> None:
    """Compute out = X w^T for the rows X of what is stored that `index` lists.

    `w` is (outputs, columns) and `out` (rows, outputs). Rows may be longer than `w`; the rest of them is left out.
    """
    for i in range(len(index)):
        row = index[i]
        _ask_for(stored, index, i + ROWS_AHEAD)
        for k in range(w.shape[0]):
            total = np.uint64(0)
            for j in range(w.shape[1]):
                total += np.uint64(stored[row, j]) * w[k, j]
            out[i, k] = total


@compiled(STORED, INDEX, CONTIGUOUS, WRITE)
def add_rows(stored: Stored, index: Index, factors: Words, out: Words) -> None:
    """Add the rows X that `index` lists times their factors to out += factors^T X.

    `factors` is (rows, outputs) and `out` (outputs, columns).
    """
    for i in range(len(index)):
        row = index[i]
        _ask_for(stored, index, i + ROWS_AHEAD)
        for k in range(out.shape[0]):
            factor = factors[i, k]
            for j in range(out.shape[1]):
                out[k, j] += np.uint64(stored[row, j]) * factor


@compiled(STORED, INDEX, CONTIGUOUS, WRITE, CONTIGUOUS, WRITE)
def multiply_and_add_rows(  # noqa: PLR0917
    stored: Stored, index: Index, w: Words, out: Words, factors: Words, sums: Words
) -> None:
    """Do both, reading each row once; `w` is not longer than a row, and `sums` as long."""
    for i in range(len(index)):
        row = index[i]
        _ask_for(stored, index, i + ROWS_AHEAD)
        for k in range(w.shape[0]):
            total, factor = np.uint64(0), factors[i, k]
            for j in range(w.shape[1]):
                word = np.uint64(stored[row, j])
                total += word * w[k, j]
                sums[k, j] += word * factor
            for j in range(w.shape[1], sums.shape[1]):
                sums[k, j] += np.uint64(stored[row, j]) * factor
            out[i, k] = total
