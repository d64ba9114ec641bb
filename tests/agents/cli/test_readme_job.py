"""The README's own settings and job run as they are written, over tables such as its reader has."""

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tercet.agents.simulation.simulate import Simulation, bit_exact, simulate_job
from tercet.schemas.files.job import TrainingJob, read_job
from tercet.schemas.files.settings import Settings
from tests import virtual_time

ROOT = Path(__file__).parents[3]
CUSTOMERS = 3000
RNG = np.random.default_rng(11)


def written(beginning: str) -> str:
    """The TOML in the README that begins so."""
    blocks = re.findall(r"^   ```toml\n(.*?)^   ```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    found = [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in blocks if block.lstrip().startswith(beginning)]
    assert len(found) == 1, beginning
    return found[0]


def tables(folder: Path, claims: dict[str, Any]) -> None:
    """The shop's orders, and the insurer's claims with these columns."""
    ids, spent = np.arange(CUSTOMERS), RNG.gamma(2.0, 60.0, CUSTOMERS)
    late = RNG.poisson(1.5, CUSTOMERS)
    orders = {
        "customer": ids,
        "spent": spent,
        "late": late,
        "region": RNG.choice(["north", "south", "east"], CUSTOMERS),
        "returned": (0.01 * spent + 0.5 * late + RNG.normal(size=CUSTOMERS) > 2.0).astype(np.int64),
    }
    parquet.write_table(pa.table(orders), folder / "orders.parquet")
    parquet.write_table(pa.table({"customer": ids[::-1], **claims}), folder / "claims.parquet")


def run(folder: Path, **changes: Any) -> Simulation:
    """The README's job, by all parties in one process."""
    (folder / "returns.toml").write_text(written("name ="))
    description = read_job(folder / "returns.toml")
    assert isinstance(description, TrainingJob)
    content = tomllib.loads(written("party ="))
    shop = {name: content[name] for name in ("party", "identity", "state")} | {"tables": content["tables"]}
    shop["tables"]["orders"]["path"] = folder / shop["tables"]["orders"]["path"]
    shop["tables"]["orders"]["categorical"] = tuple(shop["tables"]["orders"]["categorical"])
    insurer = {"tables": {"claims": {"path": folder / "claims.parquet", "id": "customer"}}}
    common = {"identity": folder / "unused", "state": folder / "unused"}
    settings = {
        "shop": Settings.model_validate(shop | common),
        "insurer": Settings.model_validate({"party": "insurer"} | insurer | common),
        "notary": Settings.model_validate({"party": "notary", "role": "helper"} | common),
    }
    drawn = {party: lambda number=number: bytes([number]) * 32 for number, party in enumerate(("shop", "insurer"))}
    return virtual_time.run(simulate_job(description.model_copy(update=changes), settings, folder, contribute=drawn))


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


def test_the_readmes_job_runs_over_tables_like_its_readers(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("columns", "code", "words"),
    [
        (("kind", "agent", "paperless"), "policy.exposure", "max_score_bits"),
        (("paid",), "policy.exposure", "max_score_bits"),
        (("premium", "age"), "job.plan", "held-out rows are scored 1 times"),
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
