"""The jobs of a soak: what each asks for, who submits it, and how it has to end.

Ten kinds take turns, so that a run of any length has a like part of each; nothing here runs anything.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.schemas.files.job import AnyJob, Evaluation, Network
from tests.agents.scenes import job, make_table, prediction
from tests.deployment import UNBOUNDED

TABLES = {
    "bank": f'[tables.customers]\npath = "bank.csv"\nid = "id"\nlabel = "default"\n{UNBOUNDED}',
    "card": f'[tables.customers]\npath = "card.csv"\nid = "id"\n{UNBOUNDED}'
    f'[tables.strangers]\npath = "strangers.csv"\nid = "id"\n{UNBOUNDED}',
}
ENDLESS = 2_000  # epochs of a job that is to be cancelled


@dataclass(frozen=True)
class Planned:
    """One job.

    Attributes:
        ends: the state in which it has to end at every party, and the code of its failure, if it fails.
        cancel: whether somebody cancels it as soon as it trains.
    """

    description: AnyJob
    submitter: str
    expected: tuple[str, str | None] = ("done", None)
    cancel: bool = False


def write_tables(folder: Path) -> None:
    """Two tables of the same customers, and one of others."""
    make_table(folder / "bank.csv", seed=1, rows=192, label=True)  # 32 of each label value for a loss
    make_table(folder / "card.csv", seed=2, rows=192)
    make_table(folder / "strangers.csv", seed=3, ids=[f"stranger {number}" for number in range(96)])


def first() -> Planned:
    """A training whose model the predictions use."""
    return Planned(job("first", accept_narrow=True), "bank")


def planned(number: int, of: str) -> Planned:
    """The job of this number; `of` is a training job that is done."""
    name, submitter = f"soak-{number}", ("bank", "card")[number // 10 % 2]
    trained = Evaluation(holdout=0.25, metrics="epoch", loss=True)
    kinds: list[tuple[dict[str, Any], tuple[str, str | None]]] = [
        ({}, ("done", None)),
        ({"evaluation": trained}, ("done", None)),
        ({"model": "mlp", "network": Network(hidden=(4,))}, ("done", None)),
        ({"release": "shared"}, ("done", None)),
        ({"model": "linear", "rate": 0.05}, ("done", None)),
        ({"alignment": "ecdh"}, ("done", None)),
        ({"tables": (("bank", "customers"), ("card", "unheard-of"))}, ("failed", "policy.table")),
        ({"tables": (("bank", "customers"), ("card", "strangers"))}, ("failed", "alignment.few")),
        ({"epochs": ENDLESS}, ("cancelled", None)),
    ]
    kind = number % 10
    if kind == len(kinds):
        return Planned(prediction(of, name=name), submitter)
    changes, expected = kinds[kind]
    return Planned(job(name, accept_narrow=True, **changes), submitter, expected, cancel=expected[0] == "cancelled")
