"""Draws losses and metrics by epoch as small SVG charts, in the colours of the style sheet.

They hold numbers and our own words; no attribute is a style, which the page's policy would forbid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from markupsafe import Markup

WIDTH, HEIGHT = 440, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 30
MOST_POINTS: Final = 300
LINES: Final = 3  # between the axis and the top

Points = Sequence[tuple[int, float]]  # epochs from 1, and values


@dataclass(slots=True)
class Curves:
    """Holds what a party has learned of a training, by epoch."""

    losses: list[float] = field(default_factory=list)
    held_out_losses: list[float] = field(default_factory=list)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)

    def charts(self) -> list[tuple[str, list[tuple[str, float]], Markup]]:
        """Draw each chart that has a line: title, each line's name and last value, and picture."""
        losses = {"training": list(enumerate(self.losses, 1)), "held out": list(enumerate(self.held_out_losses, 1))}
        names = dict.fromkeys(name for found in self.metrics.values() for name in found if name in SHOWN)
        metrics = {
            SHOWN[name]: [(epoch + 1, found[name]) for epoch, found in self.metrics.items() if name in found]
            for name in names
        }
        pictures = (("Loss by epoch", losses), ("Held-out rows by epoch", metrics))
        known = [(title, {name: line for name, line in lines.items() if len(line) > 1}) for title, lines in pictures]
        return [
            (title, [(name, line[-1][1]) for name, line in lines.items()], draw(title, lines))
            for title, lines in known
            if lines
        ]


SHOWN: Final = {"auc": "AUC", "ks": "KS", "accuracy": "accuracy", "r2": "R²", "d2": "D²"}


def draw(title: str, lines: Mapping[str, Points]) -> Markup:
    """Draw lines of two points or more; the first is the thickest."""
    values = [value for line in lines.values() for _, value in line]
    epochs = [epoch for line in lines.values() for epoch, _ in line]
    low, high, first, last = min(values), max(values), min(epochs), max(epochs)
    margin = (high - low or abs(high) or 1.0) * 0.06
    low, high = low - margin, high + margin

    def across(epoch: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - first) / max(1, last - first)

    def down(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, title)]
    for number in range(LINES + 1):
        value = low + (high - low) * number / LINES
        at = f"{down(value):.1f}"
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, at, at))
        label = Markup('<text class="label end" x="{}" y="{}" dy="4">{:.3f}</text>')
        parts.append(label.format(LEFT - 8, at, value))
    for epoch, where in ((first, "start"), (last, "end")):
        label = Markup('<text class="label {}" x="{:.1f}" y="{}">epoch {}</text>')
        parts.append(label.format(where, across(epoch), HEIGHT - 8, epoch))
    for number, line in enumerate(lines.values()):
        path = " ".join(f"{across(epoch):.1f},{down(value):.1f}" for epoch, value in _few(line))
        parts.append(Markup('<polyline class="line line-{}" points="{}"/>').format(number, path))
    return Markup("").join([*parts, Markup("</svg>")])


def _few(line: Points) -> Points:
    step = -(-len(line) // MOST_POINTS)
    return [*line[::step], line[-1]]
