"""Draws a report's charts as SVG with text, in the page's own colours and fonts.

A chart shows numbers and our own words only. Names that a person has chosen would need escaping, and letters that the
font may lack; so the page itself draws the bars that have such names.
"""

import io
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from tercet.agents.evaluation.metrics import Curves, Floats, Histogram

ACCENT, INK, MUTED, RULE = "#010101", "#020202", "#030303", "#040404"  # stand for the page's colours while drawing
COLOURS = {
    ACCENT: "var(--accent)",
    INK: "currentColor",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
}
Point = tuple[float, float]

SIZE = (4.6, 3.1)  # inches: letters of 10 units are readable on a telephone
UNITS = 72  # of an inch in SVG
MOST_EPOCHS = 400  # that a line shows; nobody could see more
MOST_CUTS = 5  # whose numbers stand side by side
FEW = 24  # a line with so many points or fewer marks each of them

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # part of matplotlib, so that texts have the same size on every machine
    "font.size": 10,
    "text.color": INK,
    "axes.titlesize": 10,
    "axes.titlecolor": MUTED,
    "axes.titlelocation": "left",
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.linewidth": 1,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "figure.facecolor": "none",
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "lines.solid_capstyle": "round",
}
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}

_RENDERING = threading.Lock()  # matplotlib's settings belong to the process, and each job draws in its own thread


@dataclass(frozen=True, slots=True)
class Chart:
    """Holds a picture, its name, and its finding in one sentence."""

    name: str
    finding: str
    svg: Markup


def losses_by_epoch(
    losses: Sequence[float], held_out: Mapping[int, float], best: int | None, *, worthless: bool = False
) -> Chart:
    """Draw the mean training and held-out loss of two epochs or more; the axis starts at 0.

    `worthless` says that the model is no better than a constant, even if losses fell.
    """
    known = {"training": dict(enumerate(losses)), "held out": dict(held_out)}
    lines = {name: line for name, line in known.items() if len(line) > 1}
    (name, values), *_ = lines.items()
    first, *_, last = values.values()
    verb = "fell" if last < first else "rose" if last > first else "stayed"
    what = "training loss" if name == "training" else "loss of the held-out rows"
    finding = f"The {what} {verb} from {first:.3f} to {last:.3f} in {len(values)} epochs."
    finding += " The model is no better than a constant." * worthless
    return Chart("Loss by epoch", finding, _by_epoch("loss-by-epoch", "mean loss of a row", lines, best))


def metrics_by_epoch(series: Mapping[str, Mapping[int, float]], best: int | None) -> Chart:
    """Draw metrics of held-out rows by epoch, of two epochs or more, the most important first."""
    name, values = next(iter(series.items()))
    first, *_, last = values.values()
    moved = "rose" if last > first else "fell" if last < first else "stayed"
    finding = f"{name} of the held-out rows {moved} from {first:.3f} to {last:.3f}."
    return Chart("Metrics by epoch", finding, _by_epoch("metrics-by-epoch", "held-out rows", series, best))


def quality(curves: Curves, metrics: Mapping[str, float]) -> list[Chart]:
    """Draw all charts of the held-out rows."""
    charts = []
    if curves.roc is not None:
        charts.append(_roc(curves.roc, metrics))
    if curves.precision_recall is not None:
        charts.append(_precision_recall(curves.precision_recall, curves.prevalence or 0.0))
    if curves.calibration is not None:
        charts.append(_calibration(curves.calibration, metrics))
    if curves.gain is not None and curves.lift is not None:
        charts.append(_gain(curves.gain, curves.lift))
    if curves.actual is not None:
        charts.append(_actual(curves.actual))
    if curves.residuals is not None:
        charts.append(_residuals(curves.residuals))
    return charts


def predictions(histogram: Histogram, *, shares: bool) -> Chart:
    """Draw the spread of new rows' predictions; `shares` where they are probabilities."""
    middle = (histogram.edges[:-1] + histogram.edges[1:]) / 2
    mean = float(middle @ histogram.counts / histogram.counts.sum())
    text = f"{100 * mean:.1f} %" if shares else _short(mean)

    def paint(axes: Any) -> None:
        _bars(axes, histogram)
        if shares:
            axes.xaxis.set_major_formatter(_percent())

    svg = _figure("predictions", "predicted probability" if shares else "prediction", "rows", paint)
    return Chart("Predictions", f"On average about {text} is predicted.", svg)


def by_bin(name: str, cuts: Sequence[float], values: Sequence[float], *, number: int, evidence: bool) -> Chart:
    """Draw a value for each bin of a numeric column, between its cuts.

    That of missing values is behind them. `evidence` says that values are weights of evidence, not means.
    `number` tells charts of a page apart.
    """
    marked = cuts[:: -(-len(cuts) // MOST_CUTS) or 1]
    places = [cuts.index(cut) + 0.5 for cut in marked]
    texts = [_short(cut) for cut in marked]
    if len(values) > len(cuts) + 1:
        places, texts = [*places, len(values) - 1], [*texts, "missing"]

    def paint(axes: Any) -> None:
        axes.bar(range(len(values)), values, width=0.88, color=ACCENT)
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.set_xticks(places, texts)
        _plain_values(axes.yaxis)

    first, last = values[0], values[len(cuts)]
    verb = "falls" if last < first else "rises" if last > first else "stays"
    what = "weight of evidence" if evidence else "mean of the label"
    finding = f"The {what} {verb} from {_short(first)} in the lowest bin to {_short(last)} in the highest."
    return Chart(name, finding, _figure(f"bins-{number}", "value, in bins", what, paint))


def _roc(points: Floats, metrics: Mapping[str, float]) -> Chart:
    fpr, tpr = points.T
    widest = int(np.argmax(tpr - fpr))

    def paint(axes: Any) -> None:
        _diagonal(axes, "chance")
        axes.plot(fpr, tpr, color=ACCENT)
        axes.vlines(fpr[widest], fpr[widest], tpr[widest], color=INK, linewidth=1, linestyle=(0, (2, 2)))
        height = 0.3 * fpr[widest] + 0.7 * tpr[widest]
        _label(axes, f"KS {metrics.get('ks', tpr[widest] - fpr[widest]):.3f}", (fpr[widest], height), INK)
        if "auc" in metrics:
            axes.text(0.97, 0.06, f"AUC {metrics['auc']:.3f}", ha="right", color=ACCENT, weight="bold")
        _shares(axes)

    found = float(np.interp(0.2, fpr, tpr))
    finding = f"At the price of a false alarm for 20 % of the negatives, {_whole(found)} of the positives are found."
    return Chart("ROC", finding, _figure("roc", "negatives with a false alarm", "positives found", paint))


def _precision_recall(points: Floats, prevalence: float) -> Chart:
    recall, precision = points.T

    def paint(axes: Any) -> None:
        axes.hlines(prevalence, 0, 1, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        _label(axes, f"chance {100 * prevalence:.1f} %", (0, prevalence), MUTED, (2, 8))
        axes.plot(recall, precision, color=ACCENT)
        _shares(axes)

    half = float(precision[np.argmax(recall >= 0.5)])
    finding = f"Where half of the positives are found, {_whole(half)} of the rows selected are positive."
    svg = _figure("precision-recall", "positives found (recall)", "of those selected, positive (precision)", paint)
    return Chart("Precision and recall", finding, svg)


def _calibration(points: Floats, metrics: Mapping[str, float]) -> Chart:
    predicted, observed, rows = points.T
    spread = 1.96 * np.sqrt(observed * (1 - observed) / rows)
    low, high = np.maximum(observed - spread, 0), np.minimum(observed + spread, 1)
    top = min(1.0, max(0.01, 1.08 * max(predicted.max(), high.max())))

    def paint(axes: Any) -> None:
        _diagonal(axes, "ideal", 0, top)
        axes.vlines(predicted, low, high, color=ACCENT, linewidth=1)
        axes.plot(predicted, observed, "o", color=ACCENT)
        _shares(axes, top)

    error = metrics.get("calibration_error", float(rows @ np.abs(predicted - observed) / rows.sum()))
    finding = f"Predicted and observed share of a decile differ by {100 * error:.1f} points on average."
    svg = _figure("calibration", "mean predicted probability of a decile", "observed share, with its 95 % range", paint)
    return Chart("Calibration", finding, svg)


def _gain(points: Floats, lift: Floats) -> Chart:
    contacted, found = points.T

    def paint(axes: Any) -> None:
        _diagonal(axes, "chance")
        axes.plot(contacted, found, "-o", color=ACCENT)
        for x, y, factor in list(zip(contacted[1:], found[1:], lift, strict=True))[:3]:
            _label(axes, f"\N{MULTIPLICATION SIGN}{factor:.1f}", (x, y), INK, (-4, 8))
        _shares(axes)

    share = float(np.interp(0.2, contacted, found))
    finding = f"The 20 % of rows with the highest scores hold {_whole(share)} of the positives."
    svg = _figure(
        "gain", "share of rows, highest scores first", "positives among them, and the lift of the first deciles", paint
    )
    return Chart("Gain", finding, svg)


def _actual(points: Floats) -> Chart:
    predicted, actual, _ = points.T
    low, high = float(points[:, :2].min()), float(points[:, :2].max())

    def paint(axes: Any) -> None:
        _diagonal(axes, "ideal", low, high)
        axes.plot(predicted, actual, "o", color=ACCENT)
        axes.margins(0.06)
        _plain(axes)

    finding = f"In the lowest tenth {_short(predicted[0])} was predicted and {_short(actual[0])} found on average, "
    finding += f"in the highest {_short(predicted[-1])} and {_short(actual[-1])}."
    svg = _figure("actual", "mean prediction of a decile", "mean of the actual values", paint)
    return Chart("Predicted and actual", finding, svg)


def _residuals(histogram: Histogram) -> Chart:
    counts, edges = histogram.counts, histogram.edges
    below = float(np.interp(0, edges, np.r_[0, np.cumsum(counts)]) / counts.sum())
    svg = _figure("residuals", "actual minus predicted", "rows", lambda axes: _bars(axes, histogram))
    return Chart("Residuals", f"About {_whole(1 - below)} of the rows lie above their prediction.", svg)


def _by_epoch(name: str, what: str, lines: Mapping[str, Mapping[int, float]], best: int | None) -> Markup:
    """Draw lines with their names at their ends, the first line in the accent colour."""

    def paint(axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

        for number, line in enumerate(lines.values()):
            epochs, values = _few(line)
            marker = "o" if len(epochs) <= FEW else ""
            axes.plot(epochs, values, marker=marker, color=MUTED if number else ACCENT, linewidth=1 if number else 1.6)
        axes.margins(x=0.02, y=0.12)
        if best is not None:
            axes.axvline(best + 1, color=INK, linewidth=1, linestyle=(0, (2, 2)))
            _label(axes, f"kept: epoch {best + 1}", (best + 1, axes.get_ylim()[1]), INK, (-5, -7))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        _label_line_ends(axes, lines)

    return _figure(name, "epoch", what, paint)


def _label_line_ends(axes: Any, lines: Mapping[str, Mapping[int, float]]) -> None:
    """Write each line's name beside its last value, and move names apart that would overlap."""
    low, high = axes.get_ylim()
    end = max(max(line) for line in lines.values()) + 1
    free = low
    for name in sorted(lines, key=lambda name: list(lines[name].values())[-1]):
        value = list(lines[name].values())[-1]
        height = max(value, free)
        free = height + 0.075 * (high - low)
        _label(axes, f"{name} {value:.3f}", (end, height), ACCENT if name == next(iter(lines)) else MUTED, (7, 0))


def _few(line: Mapping[int, float]) -> tuple[Floats, Floats]:
    """Give epochs, from 1, and their values; at most MOST_EPOCHS of each."""
    chosen = np.unique(np.linspace(0, len(line) - 1, min(len(line), MOST_EPOCHS)).astype(int))
    return np.array(list(line))[chosen] + 1.0, np.array(list(line.values()))[chosen]


def _bars(axes: Any, histogram: Histogram) -> None:
    axes.bar(histogram.edges[:-1], histogram.counts, width=0.88 * np.diff(histogram.edges), align="edge", color=ACCENT)
    _plain(axes)


def _diagonal(axes: Any, name: str, low: float = 0.0, high: float = 1.0) -> None:
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    place = low + 0.74 * (high - low)
    _label(axes, name, (place, place), MUTED, (8, -9))


def _label(axes: Any, text: str, at: Point, colour: str, offset: Point = (5, 0)) -> None:
    """Write a text beside a point, to its left if the offset is negative."""
    side = "left" if offset[0] >= 0 else "right"
    axes.annotate(text, at, offset, textcoords="offset points", color=colour, ha=side, va="center")


def _shares(axes: Any, top: float = 1.0) -> None:
    """Set both axes from 0 to `top`, in per cent."""
    axes.set_xlim(-0.01 * top, 1.01 * top)
    axes.xaxis.set_major_formatter(_percent())
    axes.set_ylim(0, 1.01 * top)
    axes.yaxis.set_major_formatter(_percent())


def _percent() -> Any:
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415

    return PercentFormatter(1, decimals=0, symbol=" %")


def _plain(axes: Any) -> None:
    """Label both axes with numbers of any size, few enough to stand side by side."""
    for axis in (axes.xaxis, axes.yaxis):
        _plain_values(axis)


def _plain_values(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415

    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    """Format with at most 4 significant digits: 114,400, 0.01234."""
    rounded = float(f"{value:.4g}")
    whole = abs(rounded) >= 1000 and abs(rounded) < 1e7
    return (f"{rounded:,.0f}" if whole else f"{rounded:.4g}").replace("-", "\N{MINUS SIGN}")


def _whole(share: float) -> str:
    return f"{100 * share:.0f} %"


def _figure(name: str, x: str, y: str, paint: Callable[[Any], None]) -> Markup:
    """Draw a figure with one pair of axes. The same numbers give the same text."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second that only the end of a job needs
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415

    content = io.StringIO()
    with _RENDERING, mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | {"svg.hashsalt": name})  # so that charts of a page have different ids
        figure = Figure(figsize=SIZE, dpi=UNITS)
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.set_xlabel(x)
        axes.set_title(y, pad=8)
        paint(axes)
        ConstrainedLayoutEngine().execute(figure)  # a figure with a layout of its own would be drawn twice
        figure.savefig(content, format="svg", metadata=NO_METADATA)
    return Markup(_for_the_page(content.getvalue(), name))  # noqa: S704 - matplotlib escapes, and all texts are ours


def _for_the_page(svg: str, name: str) -> str:
    """Remove from a figure what its page does not need or must not have.

    These are addresses of other sites, sizes, styles that would hold for the whole page, and clipping.
    """
    svg = svg[svg.index(">", svg.index("<svg")) + 1 :]
    svg = re.sub(r"<style.*?</style>|<clipPath.*?</clipPath>", "", svg, flags=re.DOTALL)
    svg = re.sub(r" clip-path=\"[^\"]*\"|<g id=\"patch_1\">.*?</g>", "", svg, flags=re.DOTALL)
    svg = re.sub(r" id=\"(?!m[0-9a-f]{10}\")[^\"]*\"", "", svg).replace("xlink:href", "href")
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r"#[0-9a-f]{6}\b", lambda found: COLOURS[found[0]], svg)
    svg = re.sub(r" d=\"[^\"]*\"", lambda path: re.sub(r"\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}", path[0]), svg)
    width, height = (round(UNITS * inches) for inches in SIZE)
    head = f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{name}">'
    return head + re.sub(r"\s+", " ", svg)
