"""Charts of the same numbers are drawn once for all pages: a page with all of them takes a second."""

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import numpy as np
import pytest

from tercet.agents.reports import charts


def once(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Draw what has not been drawn yet."""
    charts: dict[str, Any] = {}

    @wraps(draw)
    def look_up(*args: Any, **more: Any) -> Any:
        with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
            key = repr((args, more))
        if key not in charts:
            charts[key] = draw(*args, **more)
        return charts[key]

    return look_up


@pytest.fixture(scope="session")
def drawers() -> dict[str, Callable[..., Any]]:
    """What draws, by its name."""
    names = ("losses_by_epoch", "metrics_by_epoch", "quality", "predictions")
    return {name: once(getattr(charts, name)) for name in names}


@pytest.fixture(autouse=True)
def charts_once(request: pytest.FixtureRequest, drawers: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Leave out what would be drawn again, but in tests that are marked as drawing all."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.node.get_closest_marker("draws_all"):
            for name, draw in drawers.items():
                patch.setattr(charts, name, draw)
        yield
