"""Draws the rooms of all packages in the order of their imports, as docs/rooms.svg.

`python -m tests.rooms_picture` writes it. It reads the tables of `tests/test_rooms.py` and nothing else.
"""

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from typing import NamedTuple

from tests.test_rooms import PACKAGES, ROOMS, ROOT

FILE = ROOT / "docs" / "rooms.svg"
WIDTH = 960  # of the picture
CHIP, GAP, HEAD, PAD = 24, 8, 34, 12  # height of a room, distance, height of a title, margin
LOOK = (
    'role="img" aria-labelledby="t d" font-family="Helvetica, Arial, sans-serif" font-size="13" '
    'text-anchor="middle" fill="#1f2933"'
)
HEAD_OF_ARROW = (
    '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 L10 5 L0 10 z" fill="#57606a"/></marker></defs>'
)
LEGEND = (
    "A room may import rooms below it in its own box, never one above or beside it.",
    "A package may import the packages that its arrows lead to.",
)


class Box(NamedTuple):
    """Where a package stands."""

    x: int
    y: int
    width: int


PLACES = {
    "agents": Box(24, 24, 266),
    "mpc": Box(336, 24, 210),
    "tables": Box(574, 24, 170),
    "broker": Box(764, 24, 172),
    "schemas": Box(574, 320, 362),
}


def layers(rooms: Mapping[str, set[str]]) -> list[list[str]]:
    """Order rooms from the top: each above all that it may import, and as low as possible."""
    level: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        level[room] = 1 + max((level[below] for below in rooms[room]), default=-1)
    return [[room for room in rooms if level[room] == each] for each in sorted({*level.values()}, reverse=True)]


def height_of(package: str) -> int:
    """Compute the height of a package's box."""
    return HEAD + len(layers(ROOMS[package])) * (CHIP + GAP) - GAP + PAD


def package_box(package: str) -> Iterator[str]:
    """Draw a package's frame, its name and its rooms."""
    x, y, width = PLACES[package]
    height = height_of(package)
    yield f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="#eaf3fe" stroke="#4a86c8"/>'
    yield f'<text x="{x + width // 2}" y="{y + 22}" font-size="15" font-weight="bold">{package}/</text>'
    for row, rooms in enumerate(layers(ROOMS[package])):
        wide, top = (width - 2 * PAD - (len(rooms) - 1) * GAP) // len(rooms), y + HEAD + row * (CHIP + GAP)
        for place, room in enumerate(rooms):
            left = x + PAD + place * (wide + GAP)
            yield f'<rect x="{left}" y="{top}" width="{wide}" height="{CHIP}" rx="4" fill="#ffffff" stroke="#9db8d6"/>'
            yield f'<text x="{left + wide // 2}" y="{top + 17}">{room}</text>'


def arrow(points: list[tuple[int, int]]) -> str:
    """Draw a line with a head at its last point."""
    way = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{way}" fill="none" stroke="#57606a" stroke-width="1.5" marker-end="url(#head)"/>'


def arrows() -> Iterator[str]:
    """Draw one for each pair of packages of which the first may import the second."""
    beside, under = PLACES["agents"].x + PLACES["agents"].width, PLACES["schemas"].y + 40
    lane = PLACES["mpc"].y + height_of("mpc") + 20  # free of boxes
    for package, others in PACKAGES.items():
        for other in sorted(others):
            box = PLACES[other]
            bottom, middle = box.y + height_of(other), box.x + box.width // 2
            if package != "agents":
                middle = PLACES[package].x + PLACES[package].width // 2
                yield arrow([(middle, PLACES[package].y + height_of(package)), (middle, box.y)])
            elif other == "mpc":
                yield arrow([(beside, box.y + 60), (box.x, box.y + 60)])
            elif other == "schemas":
                yield arrow([(beside, under), (box.x, under)])
            else:
                yield arrow([(beside, lane), (middle - 30, lane), (middle - 30, bottom)])


def svg() -> str:
    """Make the picture's text."""
    height = 24 + height_of("agents") + 24
    legend = [
        f'<text x="336" y="{height - 44 + 20 * row}" text-anchor="start">{line}</text>'
        for row, line in enumerate(LEGEND)
    ]
    order = "; ".join(f"{package}: {', '.join(ROOMS[package])}" for package in PLACES)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {LOOK}>',
            '<title id="t">The rooms of each package, in the order of their imports</title>',
            f'<desc id="d">From the top. {order}.</desc>',
            HEAD_OF_ARROW,
            f'<rect x="1" y="1" width="{WIDTH - 2}" height="{height - 2}" rx="10" fill="#ffffff" stroke="#c4ccd4"/>',
            *(line for package in PLACES for line in package_box(package)),
            *arrows(),
            *legend,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    FILE.write_text(svg(), encoding="utf-8")
