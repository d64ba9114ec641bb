"""What README and quickstart have readers write runs as it stands there, over tables such as a reader has."""

import io
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console

from tercet.agents.cli.demo import JOINT, SHOWN, comparison
from tercet.agents.evaluation.baselines import POOLED
from tercet.agents.simulation.simulate import Simulation, bit_exact, simulate_job
from tercet.schemas.files.job import Evaluation, PredictionJob, Training, TrainingJob, read_job
from tercet.schemas.files.settings import Partner, Settings
from tests import virtual_time

ROOT = Path(__file__).parents[3]
CUSTOMERS = 3000
RNG = np.random.default_rng(11)


def blocks(document: str, language: str) -> list[str]:
    """What a document has in this language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def written(beginning: str) -> str:
    """The TOML in the quickstart that begins so."""
    (found,) = [block for block in blocks("docs/quickstart.md", "toml") if block.startswith(beginning)]
    return found


def tables(folder: Path, claims: dict[str, Any]) -> None:
    """The shop's orders, and the insurer's claims with these columns."""
    ids, spent = np.arange(CUSTOMERS), RNG.gamma(2.0, 60.0, CUSTOMERS)
    delays = RNG.poisson(1.5, CUSTOMERS)
    orders = {
        "customer": ids,
        "spent": spent,
        "late": delays,
        "region": RNG.choice(["north", "south", "east"], CUSTOMERS),
        "returned": (0.01 * spent + 0.5 * delays + RNG.normal(size=CUSTOMERS) > 2.0).astype(np.int64),
    }
    parquet.write_table(pa.table(orders), folder / "orders.parquet")
    parquet.write_table(pa.table({"customer": ids[::-1], **claims}), folder / "claims.parquet")


def run(folder: Path, **changes: Any) -> Simulation:
    """The quickstart's job, by all parties in one process."""
    (folder / "returns.toml").write_text(written("name ="))
    description = read_job(folder / "returns.toml")
    assert isinstance(description, TrainingJob)
    content = tomllib.loads(written("party ="))
    shop = {name: content[name] for name in ("party", "identity", "state")} | {"tables": content["tables"]}
    shop["tables"]["orders"]["path"] = folder / shop["tables"]["orders"]["path"]
    shop["tables"]["orders"]["categorical"] = tuple(shop["tables"]["orders"]["categorical"])
    insurer: dict[str, Any] = {"tables": {"claims": {"path": folder / "claims.parquet", "id": "customer"}}}
    insurer["partners"] = {"shop": Partner(key="", may_hold_model=True)}
    common = {"identity": folder / "unused", "state": folder / "unused"}
    settings = {
        "shop": Settings.model_validate(shop | common),
        "insurer": Settings.model_validate({"party": "insurer"} | insurer | common),
        "notary": Settings.model_validate({"party": "notary", "role": "helper"} | common),
    }
    draws = {party: lambda number=number: bytes([number]) * 32 for number, party in enumerate(("shop", "insurer"), 1)}
    return virtual_time.run(simulate_job(description.model_copy(update=changes), settings, folder, contribute=draws))


def numbers() -> dict[str, Any]:
    """Eight columns of an insurer, five of them numeric."""
    return {
        "age": RNG.integers(18, 90, CUSTOMERS),
        "premium": RNG.gamma(3.0, 100.0, CUSTOMERS),
        "claims": RNG.poisson(0.4, CUSTOMERS),
        "paid": np.where(RNG.random(CUSTOMERS) < 0.3, RNG.gamma(1.0, 500.0, CUSTOMERS), 0.0),
        "years": RNG.integers(0, 30, CUSTOMERS),
        "kind": RNG.choice(["car", "home", "life"], CUSTOMERS),
        "agent": RNG.choice(["none", "broker", "bank"], CUSTOMERS),
        "paperless": RNG.choice(["yes", "no"], CUSTOMERS),
    }


def test_the_quickstarts_job_runs_over_tables_like_its_readers(tmp_path: Path) -> None:
    """Eight raw columns at the partner, nothing accepted on purpose, and no refusal."""
    tables(tmp_path, numbers())
    simulation = run(tmp_path)
    assert simulation.done, simulation.label_run.failure
    assert bit_exact(simulation)
    history = simulation.label_run.context.history
    assert len(history.held_out_losses) > 1
    assert history.held_out_losses[-1] < history.held_out_losses[0]
    assert history.last_metrics is not None
    assert history.last_metrics["auc"] > 0.75


def test_the_quickstarts_prediction_is_one(tmp_path: Path) -> None:
    """As far as a file can tell."""
    (tmp_path / "june.toml").write_text(written('kind = "prediction"'))
    description = read_job(tmp_path / "june.toml")
    assert isinstance(description, PredictionJob)
    assert description.data_parties == ("shop", "insurer")


def _run(held_out: int, cells: list[tuple[str, str]]) -> dict[str, Any]:
    """What the demo knows of a training, by two lines of its table."""
    auc = {name: float(auc) for name, (_, auc) in zip((JOINT, POOLED), cells, strict=True)}
    return {"held_out": held_out, "columns": {"all": int(cells[0][0])}, "held_out_auc": auc}


def test_the_readmes_table_is_as_the_demo_prints_it() -> None:
    """With the figures of the run that it shows."""
    (shown,) = [block for block in blocks("README.md", "") if "AUC" in block]
    held_out = int(re.findall(r"([\d,]+) customers", shown)[0].replace(",", ""))
    cells = re.findall(r"│ (\d+) +│ ([\d.]+) +│", shown)
    runs = [_run(held_out, cells[first : first + 2]) for first in (2, 4)]
    for party, (count, auc) in zip(("bank", "card"), cells, strict=False):
        runs[0]["columns"][party], runs[0]["held_out_auc"][party] = int(count), float(auc)
    runs[0]["columns"].pop("all")
    result = runs[0] | {SHOWN: runs[1]}
    description = read_job(ROOT / "examples/credit/job.toml")
    assert isinstance(description, TrainingJob)
    console = Console(width=80, file=io.StringIO())
    with console.capture() as captured:
        console.print(comparison(description, result))
    printed = [line.rstrip() for line in captured.get().splitlines()]
    assert shown.splitlines() == printed


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a whole model of the columns that it names, in the folder that it names."""
    delays = RNG.gamma(1.5, 1.0, CUSTOMERS)
    orders: dict[str, Any] = {"customer": np.arange(CUSTOMERS), "age": RNG.uniform(18, 90, CUSTOMERS)}
    orders["returned"] = (delays + RNG.normal(size=CUSTOMERS) > 2.0).astype(np.int64)
    orders["region"] = np.full(CUSTOMERS, "north")
    parquet.write_table(pa.table(orders), tmp_path / "orders.parquet")
    parquet.write_table(pa.table({"customer": np.arange(CUSTOMERS), "delays": delays}), tmp_path / "claims.parquet")
    changes: dict[str, Any] = {"release": "label", "evaluation": Evaluation(), "early_stopping": None}
    changes |= {"training": Training(epochs=2), "columns": (("shop", ("age",)),)}
    simulation = run(tmp_path, **changes)
    assert simulation.done, simulation.label_run.failure
    part = simulation.label_run.model_part
    assert part is not None
    shutil.copytree(part, tmp_path / "state/models/returns-1a2b3c4d")
    monkeypatch.chdir(tmp_path)
    snippets = blocks("README.md", "python")
    assert snippets
    for snippet in snippets:
        *before, last = snippet.strip().splitlines()
        names: dict[str, Any] = {}
        exec("\n".join(before), names)
        assert len(eval(last.split("  #")[0], names)) == 2


@pytest.mark.parametrize(
    ("columns", "code", "words"),
    [
        (("kind", "agent", "paperless"), "policy.exposure", "max_score_bits"),
        (("paid",), "policy.exposure", "max_score_bits"),
        (("premium", "age"), "job.plan", "held-out rows are scored once"),
    ],
)
def test_what_would_be_refused_is_refused_before_anybody_is_asked(
    columns: tuple[str, ...], code: str, words: str, tmp_path: Path
) -> None:
    """No id has left when a table turns out to be too narrow."""
    tables(tmp_path, {name: numbers()[name] for name in columns})
    simulation = run(tmp_path)
    failure = simulation.label_run.failure
    assert failure is not None
    assert (failure.code, failure.stage) == (code, "received")
    assert words in failure.reason
    assert not any("pseudonyms" in run.context.mailbox.sent for run in simulation.runs.values())
