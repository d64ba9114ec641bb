"""Tercet's public face: what users and their notebooks import.

Nothing is loaded before it is asked for, so that every command starts fast. All else below this package may change.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tercet.agents.models.scorer import Classifier, Regressor, UnseenCategories, load

__all__ = ["Classifier", "Regressor", "UnseenCategories", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tercet.agents.models import scorer  # noqa: PLC0415  # takes a second

    return getattr(scorer, name)
