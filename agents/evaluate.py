"""How good a model is, from labels and scores; through scikit-learn.

It sees labels and scores only, so whoever calls it must be allowed both.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, r2_score, roc_auc_score, root_mean_squared_error

Floats = NDArray[np.float64]


def metrics(model: str, labels: Floats, scores: Floats) -> dict[str, float]:
    """AUC and log-loss of a classifier (centred labels, log-odds), R2 and RMSE of a regression; both (rows,)."""
    if model == "linear":
        return {"r2": float(r2_score(labels, scores)), "rmse": float(root_mean_squared_error(labels, scores))}
    classes = (labels > 0).astype(int)
    probabilities = 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
    return {
        "auc": float(roc_auc_score(classes, scores)),
        "log_loss": float(log_loss(classes, probabilities)),
    }
