"""Frames of made-up customers of a bank and a card processor, for what is tried through the public face."""

from typing import Any

import numpy as np
import pyarrow as pa

ROWS = 160


def customers(rows: int = ROWS, seed: int = 0) -> dict[str, pa.Table]:
    """Both parties' frames, rows of the second in another order; who is late and owes more defaults more often."""
    rng = np.random.default_rng(seed)
    numbers, debt, delay = np.arange(rows) + 1000, rng.normal(size=(rows, 4)), rng.normal(size=(rows, 4))
    default = (1.5 * debt[:, 0] + 2 * delay[:, 0] + rng.normal(size=rows) > 0).astype(np.int64)
    order = rng.permutation(rows)
    bank: dict[str, Any] = {"customer": numbers} | {f"debt_{k}": debt[:, k] for k in range(4)} | {"default": default}
    card = {"customer": numbers[order]} | {f"delay_{k}": delay[order, k] for k in range(4)}
    return {"bank": pa.table(bank), "card": pa.table(card)}
