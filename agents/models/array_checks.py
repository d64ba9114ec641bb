"""Checks a model part's arrays against its manifest: names, kinds and shapes.

It looks at no value but for whether it is finite.
"""

import itertools

import numpy as np

from tercet.agents.models.manifest import (
    BIAS,
    INTERCEPT,
    OPENED,
    OPENED_UPPER,
    SEED,
    SHARE,
    UPPER,
    WEIGHTS,
    Arrays,
    ModelPart,
    ModelPartProblem,
)

WORDS = {"weights": "weight_words", "intercept": "intercept_words"}  # the same numbers as the ring's words

Shapes = dict[str, tuple[int, int]]


def check(part: ModelPart, arrays: Arrays) -> None:
    """Check that the arrays are those that the manifest promises."""
    _check_manifest(part)
    if part.helped:
        arrays = _without_opened(part, arrays)
    if part.release == "label":
        _check_for_label(part, arrays)
    elif part.network is not None:
        _check_network(part, arrays)
    elif part.release == "owners":
        _check_owned(part, arrays)
    else:
        _check_shared(part, arrays)


def _check_manifest(part: ModelPart) -> None:
    """Check that the manifest's own fields fit together."""
    if not {part.party, part.label_party, part.intercept_holder} <= set(part.parties):
        raise ModelPartProblem("the manifest names a party that its model does not have; restore it from a copy")
    if part.columns != tuple(part.encoding.names):
        raise ModelPartProblem("the manifest's columns are not those of its encoding; restore it from a copy")
    if part.classes is not None and len(part.classes.names) != part.outputs:
        raise ModelPartProblem("the manifest's classes are not as many as the model's outputs; restore it from a copy")
    if len(part.seeds) != (len(part.parties) if part.helped else 0):
        raise ModelPartProblem("the manifest does not have a seed of every party; restore it from a copy")


def _check_shared(part: ModelPart, arrays: Arrays) -> None:
    for name, array in arrays.items():
        if not name.startswith(SHARE) or array.dtype != np.uint64 or array.ndim != 2:
            raise ModelPartProblem(f"array {name!r} is not a share: expected {SHARE}<block>, uint64 (rows, outputs)")
    _check_names(arrays, {SHARE + part.party, SHARE + part.label_party, SHARE + "intercept"}, others=True)


def _without_opened(part: ModelPart, arrays: Arrays) -> Arrays:
    """Check the arrays that are opened once, and return the others."""
    blocks, above = _shapes(part)
    shapes = {SEED: (1, 4)} | {OPENED + party: blocks[part.party] for party in part.parties if party != part.party}
    if part.network is not None:
        upper = (rows * columns for name, (rows, columns) in above.items() if name.startswith(UPPER))
        shapes[OPENED_UPPER] = (1, sum(upper))
    _check_names(arrays, set(shapes), others=True)
    _check_arrays(arrays, shapes, np.uint64)
    return {name: array for name, array in arrays.items() if name not in shapes}


def _check_owned(part: ModelPart, arrays: Arrays) -> None:
    shapes = {"weights": (len(part.columns), part.outputs)}
    if part.party == part.intercept_holder:
        shapes["intercept"] = (1, part.outputs)
    words = {WORDS[name]: shape for name, shape in shapes.items()}
    _check_names(arrays, shapes.keys() | words.keys())
    _check_arrays(arrays, shapes, np.float64)
    _check_arrays(arrays, words, np.uint64)


def _check_network(part: ModelPart, arrays: Arrays) -> None:
    """Check a network's shares; with `owners` also opened numbers and words."""
    blocks, above = _shapes(part)
    words = {SHARE + name: shape for name, shape in (blocks | above).items()}
    opened: Shapes = {}
    if part.release == "owners":
        opened = {"weights": blocks[part.party]} | (above if part.party == part.intercept_holder else {})
        words |= {WORDS.get(name, f"{name}_words"): shape for name, shape in opened.items()}
    _check_names(arrays, opened.keys() | words.keys())
    _check_arrays(arrays, opened, np.float64)
    _check_arrays(arrays, words, np.uint64)


def _check_for_label(part: ModelPart, arrays: Arrays) -> None:
    """Check all shares; at the label party also all numbers and encodings."""
    blocks, above = _shapes(part)
    words = {SHARE + name: shape for name, shape in (blocks | above).items()}
    opened = {WEIGHTS + party: shape for party, shape in blocks.items()} | above if part.whole else {}
    _check_names(arrays, opened.keys() | words.keys())
    _check_arrays(arrays, opened, np.float64)
    _check_arrays(arrays, words, np.uint64)
    encodings = {part.party: part.encoding} | part.encodings
    known = {party: len(encoding.names) for party, encoding in encodings.items()}
    due = {party: rows for party, (rows, _) in blocks.items() if part.whole or party == part.party}
    if known != due:
        raise ModelPartProblem("the manifest's encodings are not those of its parties' columns; restore it from a copy")


def _shapes(part: ModelPart) -> tuple[Shapes, Shapes]:
    """Give the shapes of each party's block, and by name of the layers above."""
    widths = (part.outputs,) if part.network is None else (*part.network.hidden, part.outputs)
    blocks = {party: (count, widths[0]) for party, count in zip(part.parties, part.columns_of, strict=True)}
    if part.network is None:
        return blocks, {INTERCEPT: (1, part.outputs)}
    above = {f"{UPPER}{k}": shape for k, shape in enumerate(itertools.pairwise(widths))}
    return blocks, above | {f"{BIAS}{k}": (1, width) for k, width in enumerate(widths)}


def _check_arrays(arrays: Arrays, shapes: Shapes, dtype: type[np.generic]) -> None:
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != dtype:
            raise ModelPartProblem(f"array {name!r} is not {np.dtype(dtype).name} {shape}")
        if not np.isfinite(array).all():
            raise ModelPartProblem(f"array {name!r} is not finite")


def _check_names(arrays: Arrays, expected: set[str], *, others: bool = False) -> None:
    missing, extra = expected - arrays.keys(), arrays.keys() - expected
    if missing or (extra and not others):
        raise ModelPartProblem(f"the part has the wrong arrays: missing {sorted(missing)}, extra {sorted(extra)}")
