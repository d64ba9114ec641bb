"""Words a report: names, formats of numbers, and values to compare with.

It knows no jobs and no parties, and sees only the values that it formats.
"""

import math

from tercet.agents.evaluation.metrics import OF_CLASSES, Curves
from tercet.schemas.files.job import Network

SPACE, MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"

NAMES = {
    "auc": "AUC",
    "ks": "KS",
    "average_precision": "Average precision",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "log_loss": "Log-loss",
    "calibration_error": "Calibration error",
    "r2": f"R{chr(0xB2)}",
    "d2": f"D{chr(0xB2)}",
    "deviance": "Mean deviance",
    "rmse": "RMSE",
    "mae": "MAE",
}
MEASURES = {  # of a column in a statistics job
    "iv": "IV",
    "ks": "KS",
    "gini": "Gini",
    "explained": "explained",
    "vif": "VIF",
}
LABELS = {  # by the label's model in a statistics job
    "logistic": "two classes",
    "softmax": "classes",
    "one-vs-rest": "classes",
    "linear": "numbers",
    "poisson": "counts",
    "gamma": "amounts above 0",
    "tweedie": "amounts, some of them 0",
}
SCORE = {  # by link: what a score stands for
    "logistic": "the score (log-odds)",
    "linear": "the score, which is the expected label in standard deviations from its mean",
    "softmax": "the score of a class; only how these differ among the classes counts",
    "one-vs-rest": "the score of a class (log-odds of it against all others)",
    "poisson": "the score, which is the logarithm of the expected count",
    "gamma": "the score, which is the logarithm of the expected label",
    "tweedie": "the score, which is the logarithm of the expected label",
}
SEEN = {  # by link: what the helper sees of scores, in secret order
    "logistic": "the sizes of the scores without sign",
    "linear": "the sizes of the scores without sign",
    "softmax": "whole rows of scores, whose classes stand in a secret order too, hence which rows share a likely class",
    "poisson": "the scores with their signs",
    "gamma": "the scores with their signs",
}
SEEN_IN_TRAINING = SEEN | {"gamma": "the scores less the logarithms of their labels"}
WRITTEN = {"relu": "ReLU", "leaky-relu": "leaky ReLU", "gelu": "GELU", "silu": "SiLU"}
NORMS = "the first hidden layer: the length of the column's weights to all its units"


def number(value: float) -> str:
    """Format a number as people write it: 0.759, 12.3, 1,234."""
    if abs(value) >= 1000:
        text = f"{value:,.0f}"
    elif abs(value) >= 10:
        text = f"{value:.1f}"
    elif abs(value) >= 0.01 or value == 0:
        text = f"{value:.3f}"
    else:
        text = f"{value:.2g}"
    return text.replace("-", MINUS)


def weight(value: float) -> str:
    """Format a weight with its sign: +0.1234."""
    return (f"{value:+.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:+.1e}").replace("-", MINUS)


def signed(value: float) -> str:
    """Format a difference: +0.057."""
    return ("+" if value > 0 else "") + number(value)


def percent(share: float) -> str:
    """Format a share in per cent: 22.1 %."""
    return f"{100 * share:.1f}{SPACE}%"


def seconds(value: float) -> str:
    """Format a time: 420 ms, 3.2 s, 2 min 5 s, 1 h 2 min."""
    if value < 0.9995:
        return f"{1000 * value:.{1 if value < 0.00995 else 0}f}{SPACE}ms"
    if value < 59.95:
        return f"{value:.1f}{SPACE}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min {rest}{SPACE}s"
    return f"{minutes // 60:,}{SPACE}h {minutes % 60}{SPACE}min"


def size(count: int) -> str:
    """Format a size by powers of 1000: 512 B, 1.2 kB, 148 MB."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.{1 if value < 9.95 and units[0] != 'B' else 0}f}{SPACE}{units[0]}"


def listed(names: list[str]) -> str:
    """Join names: one; one and two; or one, two and three."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def sort_of(model: str, network: Network | None) -> str:
    """Describe a model in words."""
    if network is None:
        return f"{model} regression"
    layers = listed([str(width) for width in network.hidden])
    activation = WRITTEN.get(network.activation, network.activation)
    return f"neural network of {layers} hidden {activation} units with a {network.output} output"


def seen(link: str, network: Network | None, *, training: bool) -> str:
    """Describe the scores of a batch that the helper sees; some hold labels too."""
    scores = (SEEN_IN_TRAINING if training else SEEN).get(link, "the scores")
    hidden = "the sizes without sign of all units of each hidden layer, mixed"
    return scores if network is None else f"{hidden}, and {scores}"


def meaning(name: str, link: str, curves: Curves | None) -> str:
    """Explain a metric's value beside one to compare it with."""
    compared: dict[str, str] = {}
    shares = _shares(curves)
    if curves is not None and len(shares) > 1:
        chance = 1 / len(shares if curves.confusion is None else curves.confusion)
        entropy = -sum(share * math.log(share) for share in shares)
        compared = {
            "average_precision": f"by chance {number(shares[-1])}",
            "accuracy": f"the most frequent class alone: {number(max(shares))}",
            "balanced_accuracy": f"mean share of a class that is found; by chance {number(chance)}",
            "log_loss": f"the shares of the classes alone: {number(entropy)}",
        }
    if name in compared:
        return compared[name]
    return {
        "auc": f"{'mean of each class against the rest; ' * (link in OF_CLASSES)}by chance 0.5, at best 1",
        "ks": "positives found less false alarms, at their widest",
        "calibration_error": "predicted and observed share of a decile, mean distance",
        "r2": "share of the variance that is explained",
        "d2": "share of the deviance that is explained, beyond one mean for all (with exposure: one rate)",
        "deviance": f"mean unit deviance of a {link} distribution",
        "rmse": "root mean squared error, in the label's units",
        "mae": "mean absolute error, in the label's units",
    }.get(name, "")


def _shares(curves: Curves | None) -> list[float]:
    """Compute each class's share of the rows; of two classes the positive one is last."""
    if curves is None:
        return []
    if curves.confusion is not None:
        rows = curves.confusion.sum(axis=1)
        return [float(share) for share in rows[rows > 0] / rows.sum()]
    share = curves.prevalence
    return [1 - share, share] if share is not None and 0 < share < 1 else []
