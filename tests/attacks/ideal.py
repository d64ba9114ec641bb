"""The helper that knows too much: it has the model's weights and how frequent each record is, and lacks only the order.

No attack on one view under fresh noise can name more records than this one: it takes the most likely record of each
value. So it bounds from above what noise of a width leaves, and tells which tables are too small for it. It never
sees which row a value is of.

With one output a value v may be of each record r with |v -+ z_r| <= half. Of D equally likely records whose |z| fill a
range R it names about (R + 2 half) / (2 half D) of the rows; with K outputs under separate noise the product of K such
factors. Hence a table has to have many more records than a view has cells.
"""

import numpy as np

from tercet.mpc.arithmetic.fixed import Floats


def rows_named(scores: Floats, chances: Floats, half: float, rng: np.random.Generator, rows: int = 1000) -> float:
    """The part of rows whose record the best guess names; scores are those of the records, (records, outputs).

    With one output the sign is secret; with several the order of classes is granted.
    """
    outputs = scores.shape[1]
    draws = rng.choice(len(scores), rows, p=chances)
    values = scores[draws] + rng.uniform(-half, half, (rows, outputs))
    named = 0.0
    for value in values:
        weight = chances * (np.abs(scores - value) <= half).all(axis=1)
        if outputs == 1:
            weight = weight + chances * (np.abs(scores + value) <= half).all(axis=1)
        named += weight.max() / weight.sum()
    return float(named / rows)


def rows_named_linked(
    scores: Floats, chances: Floats, half: float, rng: np.random.Generator, rows: int = 1000
) -> float:
    """The same where several views of each row are known to be of one row; scores are (records, views).

    Secret order hides that from the helper: this bounds what matching rows across epochs could give it.
    """
    draws = rng.choice(len(scores), rows, p=chances)
    values = np.abs(scores[draws] + rng.uniform(-half, half, (rows, scores.shape[1])))
    named = 0.0
    for value in values:
        seen = (np.abs(scores - value) <= half).astype(float) + (np.abs(scores + value) <= half)
        weight = chances * seen.prod(axis=1)
        named += weight.max() / weight.sum()
    return float(named / rows)


def rows_linked_by_rank(
    views: Floats, record_scores: Floats, records: np.ndarray, chances: Floats, half: float
) -> float:
    """What a helper that knows all weights gains by matching rows across passes in the order of their values.

    The match is the best there is on a line: the k-th largest value of one pass with the k-th of the next.

    Args:
        views: |z| under noise, (rows, passes), each pass in an order of its own.
        record_scores: of each record in each pass, (records, passes).
        records: the record of each row, in the order of the last pass.
        chances: of each record.
        half: of the noise.
    """
    order = np.argsort(views[:, -1])
    linked = np.sort(views, axis=0)
    named = np.zeros(len(views), bool)
    for row, value in zip(order, linked, strict=True):
        gaps = np.minimum(np.abs(record_scores - value), np.abs(record_scores + value))
        inside = (gaps <= half).sum(axis=1)
        best = inside == inside.max()  # a wrong link rules the true record out: so count instead
        named[row] = int(np.argmax(np.where(best, chances, 0.0))) == records[row]
    return float(named.mean())
