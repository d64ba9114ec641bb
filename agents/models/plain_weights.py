"""Expresses weights by columns as a person knows them, before whitening.

It reads model parts that this party holds, and tells nobody.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from tercet.agents.models.full_model import FullModel
from tercet.agents.models.manifest import WEIGHTS, Arrays, ModelPart
from tercet.mpc.arithmetic.fixed import Floats
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.label import Classes

ARROW: Final = "\N{RIGHTWARDS ARROW}"

Block = tuple[str, Encoding, Floats]  # a party, its columns' encoding, and their weights


def blocks_of(part: ModelPart, arrays: Arrays) -> list[Block]:
    """List this party's own columns, or all parties' columns if it holds the whole model."""
    if not part.whole:
        return [(part.party, part.encoding, arrays["weights"])]
    encodings = {part.party: part.encoding} | part.encodings
    return [(party, encodings[party], arrays[f"{WEIGHTS}{party}"]) for party in part.parties]


def blocks_of_model(model: FullModel) -> list[Block]:
    """List all parties' columns of a whole model."""
    pairs = zip(model.description.columns, model.blocks, strict=True)
    return [(columns.party, columns.encoding, weights) for columns, weights in pairs]


def plain_weights(encoding: Encoding, weights: Floats) -> tuple[dict[str, Floats], Floats]:
    """Undo the whitening of a party's weights, (columns, width).

    Each category's weight is relative to its column's mean.

    Returns:
        The weights, (width,), of each encoded column before whitening, and what the intercept gains, (width,).
    """
    plain = [encoding.unwhiten(column) for column in weights.T]
    centred, means = encoding.centre(np.column_stack([column for column, _ in plain]))
    return dict(zip(encoding.column_names, centred, strict=True)), means + [more for _, more in plain]


def plain_intercept(blocks: Iterable[Block], intercept: Floats) -> Floats:
    """Give the intercept, (width,), that goes with all these parties' plain weights."""
    return sum((plain_weights(encoding, weights)[1] for _, encoding, weights in blocks), intercept[0])


def class_names(classes: Classes | None, outputs: int) -> tuple[str, ...]:
    """Name a model's outputs; only the label party knows the names."""
    return classes.names if classes is not None else tuple(f"class {place + 1}" for place in range(outputs))


def weights_by_party(blocks: Iterable[Block], outputs: Sequence[str], *, network: bool) -> dict[str, dict[str, float]]:
    """Name the weights of each party's columns; of several outputs `column \N{RIGHTWARDS ARROW} output`.

    Of a network it is the size of a column's weights in the first layer.
    """
    found: dict[str, dict[str, float]] = {}
    for party, encoding, weights in blocks:
        rows = plain_weights(encoding, weights)[0]
        if network:
            found[party] = {name: float(np.sqrt(np.sum(np.square(row)))) for name, row in rows.items()}
        elif len(outputs) == 1:
            found[party] = {name: float(row[0]) for name, row in rows.items()}
        else:
            found[party] = {
                f"{name} {ARROW} {output}": float(row[place])
                for place, output in enumerate(outputs)
                for name, row in rows.items()
            }
    return found
