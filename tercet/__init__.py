"""Tercet's public face: what users and their notebooks import.

Nothing is loaded before it is asked for, so that every command starts fast. All else below this package may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tercet.agents.access.no_agent import NoAgent
    from tercet.agents.api.comparison import Comparison, compare
    from tercet.agents.api.errors import JobFailed, WorthlessModel
    from tercet.agents.api.estimators import JointClassifier, JointRegressor
    from tercet.agents.api.jobs import Job, Prediction, Statistics
    from tercet.agents.api.party import JobHandle, Party
    from tercet.agents.api.rehearsal import Rehearsal
    from tercet.agents.api.report import Report
    from tercet.agents.api.result import Result
    from tercet.agents.api.selection import SelectedColumns, select
    from tercet.agents.api.simulation import simulate, simulate_statistics
    from tercet.agents.models.scorer import Classifier, Regressor, UnseenCategories, load
    from tercet.schemas.core.error import TercetError
    from tercet.schemas.files.invalid import Invalid
    from tercet.schemas.messages.console import JobStatus

_HOMES = {
    "Classifier": "agents.models.scorer",
    "Comparison": "agents.api.comparison",
    "Invalid": "schemas.files.invalid",
    "Job": "agents.api.jobs",
    "JobFailed": "agents.api.errors",
    "JobHandle": "agents.api.party",
    "JobStatus": "schemas.messages.console",
    "JointClassifier": "agents.api.estimators",
    "JointRegressor": "agents.api.estimators",
    "NoAgent": "agents.access.no_agent",
    "Party": "agents.api.party",
    "Prediction": "agents.api.jobs",
    "Regressor": "agents.models.scorer",
    "Rehearsal": "agents.api.rehearsal",
    "Report": "agents.api.report",
    "Result": "agents.api.result",
    "SelectedColumns": "agents.api.selection",
    "Statistics": "agents.api.jobs",
    "TercetError": "schemas.core.error",
    "UnseenCategories": "agents.models.scorer",
    "WorthlessModel": "agents.api.errors",
    "compare": "agents.api.comparison",
    "load": "agents.models.scorer",
    "select": "agents.api.selection",
    "simulate": "agents.api.simulation",
    "simulate_statistics": "agents.api.simulation",
}
"""The module of each public name."""

__all__ = [
    "Classifier",
    "Comparison",
    "Invalid",
    "Job",
    "JobFailed",
    "JobHandle",
    "JobStatus",
    "JointClassifier",
    "JointRegressor",
    "NoAgent",
    "Party",
    "Prediction",
    "Regressor",
    "Rehearsal",
    "Report",
    "Result",
    "SelectedColumns",
    "Statistics",
    "TercetError",
    "UnseenCategories",
    "WorthlessModel",
    "compare",
    "load",
    "select",
    "simulate",
    "simulate_statistics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)  # the next time it is there
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
