"""`python -m benchmarks.ring`: how fast words modulo 2^64 are multiplied, and masks made.

Beside the ring's own products, in one run: numpy's `@` on the same words, the same shape in float64 through BLAS, which
is what training without secrecy would do, and the exact product put together from float64 ones of limbs. Each figure
is the best of many repeats, after one that does not count; results are new arrays, as in training.

Each number of threads has a process of its own, without what the environment tells OpenBLAS about the processor.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.report import report
from tercet.mpc.arithmetic import ring
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.randomness.masks import Keystream

Floats = np.ndarray

SECONDS = 0.5  # spent on a figure, at least
MASKS = {"8 KiB": 2**10, "64 KiB": 2**13, "1 MiB": 2**17}  # in words
MANTISSA = 53

PRODUCT, TRANSPOSED, BACK = ring.product, ring.transposed_product, ring.product_transposed
SHAPES = [  # operation, shapes of its operands: a digits network's, then regressions' with 1, 3 and 10 outputs
    (PRODUCT, (128, 33), (33, 64)),
    (PRODUCT, (128, 64), (64, 10)),
    (TRANSPOSED, (128, 64), (128, 10)),
    (BACK, (128, 10), (64, 10)),
    (TRANSPOSED, (128, 33), (128, 64)),
    (PRODUCT, (1024, 50), (50, 1)),
    (TRANSPOSED, (1024, 50), (1024, 1)),
    (PRODUCT, (1024, 50), (50, 3)),
    (TRANSPOSED, (1024, 50), (1024, 3)),
    (PRODUCT, (1024, 50), (50, 10)),
    (TRANSPOSED, (1024, 50), (1024, 10)),
    (PRODUCT, (1024, 100), (100, 64)),
    (PRODUCT, (8192, 100), (100, 64)),
    (TRANSPOSED, (8192, 100), (8192, 64)),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ring", description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--measure", type=int, metavar="THREADS", help="in this very process, as it is")
    arguments = parser.parse_args()
    if arguments.measure:
        json.dump(measure(arguments.measure), sys.stdout, indent=2)
        return
    unit = "1e9 multiply-adds a second; of masks 1e9 bytes a second"
    report({"unit": unit, "threads": {str(threads): apart(threads) for threads in arguments.threads}})


def apart(threads: int) -> dict[str, Any]:
    """`measure` in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    command = [sys.executable, "-m", "benchmarks.ring", "--measure", str(threads)]
    around = clean | {"OPENBLAS_NUM_THREADS": str(threads)}
    printed = subprocess.run(command, env=around, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(printed)
    return result


def measure(threads: int) -> dict[str, Any]:
    """All figures; masks are made on one thread."""
    ring.warm_up()
    ring.use_threads(threads)
    products = {
        f"{operation.__name__} {shape_a[0]}x{shape_a[1]} {shape_b[0]}x{shape_b[1]}": beside(operation, shape_a, shape_b)
        for operation, shape_a, shape_b in SHAPES
    }
    stream = Keystream(os.urandom(32))
    masks = {
        name: round(8 * size / fastest(partial(stream.words, 1, 2, 3, (size, 1))) / 1e9, 2)
        for name, size in MASKS.items()
    }
    return {"products": products, "masks": masks}


def beside(
    operation: Callable[[Words, Words], Words], shape_a: tuple[int, int], shape_b: tuple[int, int]
) -> dict[str, float]:
    """One product in four ways."""
    generator = np.random.default_rng(0)
    a, b = (generator.integers(0, 2**64, shape, dtype=np.uint64) for shape in (shape_a, shape_b))
    left, right = {PRODUCT: (a, b), TRANSPOSED: (a.T, b), BACK: (a, b.T)}[operation]
    real_left, real_right = left.astype(np.float64, order="K"), right.astype(np.float64, order="K")
    ways: dict[str, Callable[[], Any]] = {
        "ring": lambda: operation(a, b),
        "numpy_uint64": lambda: left @ right,
        "limbs": lambda: by_limbs(left, right),
        "float64_blas": lambda: real_left @ real_right,
    }
    wanted = operation(a, b)
    if not (np.array_equal(wanted, left @ right) and np.array_equal(wanted, by_limbs(left, right))):
        sys.exit(f"{operation.__name__} of {shape_a} and {shape_b} is wrong")
    work = left.shape[0] * left.shape[1] * right.shape[1]
    return {name: round(work / fastest(way) / 1e9, 2) for name, way in ways.items()}


def by_limbs(a: Words, b: Words) -> Words:
    """A b modulo 2^64 by float64 products of parts of the words, each sum small enough to be exact."""
    terms, count = a.shape[1], 3
    while (MANTISSA - (terms * count).bit_length()) // 2 * count < 64:
        count += 1
    bits = -(-64 // count)
    parts_a, parts_b = limbs(a, bits, count), limbs(b, bits, count)
    result = np.zeros((a.shape[0], b.shape[1]), np.uint64)
    for weight in range(count):
        some = sum(parts_a[one] @ parts_b[weight - one] for one in range(weight + 1))
        result += np.asarray(some).astype(np.uint64) << np.uint64(bits * weight)
    return result


def limbs(words: Words, bits: int, count: int) -> list[Floats]:
    """The words' parts of so many bits, the lowest first."""
    mask = np.uint64(2**bits - 1)
    return [(words >> np.uint64(bits * part) & mask).astype(np.float64) for part in range(count)]


def fastest(work: Callable[[], Any]) -> float:
    """Seconds of the best of many calls."""
    work()
    best, until = float("inf"), time.perf_counter() + SECONDS
    while (start := time.perf_counter()) < until:
        work()
        best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
