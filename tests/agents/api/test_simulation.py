"""A simulation over frames is the agents' own: its model is the oracle's, and it leaves no trace."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import tercet
from tercet.agents.api.joint_model import joint_model
from tercet.agents.api.simulation import Simulated, arrange, run_simulation
from tercet.agents.models.full_model import FullModel, read
from tercet.agents.simulation.exactness import Simulation, bit_exact
from tercet.schemas.files.settings import Limits
from tests.agents.api.made_up import ROWS, customers
from tests.agents.reports.test_report import Page

FAST: dict[str, Any] = {"id": "customer", "label": "bank.default", "epochs": 3, "accept_narrow": True, "holdout": 0.4}
HOSTILE = "</td><script>alert(1)</script><img src=x onerror='alert(2)'>\u202e"
SETTINGS = {
    "owners": {},
    "shared": {"release": "shared"},
    "label": {"release": "label"},
    "network": {"model": "mlp", "hidden": [3]},
    "shared network": {"model": "mlp", "hidden": [3, 2], "release": "shared"},
    "the other mode": {"helper_sees": "scores", "l2": 0.01},
}
pytestmark = pytest.mark.filterwarnings("ignore::tercet.agents.api.errors.WorthlessModel")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the system has its temporary folders."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_simulation_with_folds_gives_means_and_deviations() -> None:
    """Without a word about held-out rows, which simulations have by default."""
    fields = {name: value for name, value in FAST.items() if name != "holdout"}
    result = tercet.simulate(customers(), folds=3, **fields)
    assert len(result.folds) == 3
    aucs = [fold["auc"] for fold in result.folds]
    assert result.metrics["auc"] == pytest.approx(np.mean(aucs))
    assert result.deviations["auc"] == pytest.approx(np.std(aucs, ddof=1))
    assert result.intervals == {}
    assert (result.status.rows, result.status.held_out, result.status.fold) == (ROWS, 0, 0)
    assert result.report is not None
    assert "standard deviation" in result.report.html


def test_a_simulation_gives_all_that_a_job_gives_and_leaves_nothing(nowhere: Path) -> None:
    frames, seen = customers(), list[tercet.JobStatus]()
    fields = FAST | {"loss": True, "metrics": "epoch", "held_out_scores": True}
    result = tercet.simulate(frames, watch=seen.append, **fields)
    assert result.status.state == seen[-1].state == "done"
    assert result.metrics.keys() >= {"auc", "ks", "log_loss"}
    assert result.metrics["auc"] > 0.8
    low, high = result.intervals["auc"]
    assert low < result.metrics["auc"] < high
    assert result.scores is not None
    assert result.scores.num_rows == result.status.held_out
    assert {*result.scores["id"].to_pylist()} < {str(one) for one in frames["bank"]["customer"].to_pylist()}
    assert [entry["epoch"] for entry in result.history] == [1, 2, 3]
    last = result.history[-1]
    assert {name: last[name] for name in result.metrics} == result.metrics
    assert last["seconds"] > 0
    assert last["loss"] < result.history[0]["loss"]
    assert {party: [*names] for party, names in result.weights.items()} == {
        "bank": [f"debt_{k}" for k in range(4)],
        "card": [f"delay_{k}" for k in range(4)],
    }
    points = result.scorecard(pdo=40)
    assert {row["party"] for row in points} == {*result.weights}
    strongest = max(result.weights["card"], key=lambda name: abs(result.weights["card"][name]))
    assert strongest == "delay_0"
    together = {**{name: frames["bank"][name] for name in frames["bank"].column_names}}
    order = np.argsort(frames["card"]["customer"].to_numpy())
    together |= {f"delay_{k}": frames["card"][f"delay_{k}"].take(pa.array(order)) for k in range(4)}
    assert result.scorer is not None
    assert result.scorer.score(together, together["default"].to_numpy()) > 0.75
    assert result.report is not None
    assert "delay_0" not in result.report.html, "the label party's page has its own columns' weights alone"
    assert "debt_0" in result.report.html
    assert [*nowhere.iterdir()] == []
    assert frames["bank"].equals(customers()["bank"])


def setup_of(**fields: Any) -> Simulated:
    """A simulation as the public function arranges it."""
    fields = {"epochs": 2, "accept_narrow": True} | fields
    more: dict[str, Any] = {"label": ("bank", "default"), "id": "customer", "options": {}}
    return arrange(customers(), fields=fields, limits=Limits(), **more)


def collected(simulation: Simulation) -> tuple[bool | None, FullModel, FullModel | None]:
    """Whether the model is the oracle's, what we make of the parts, and what the label party has, if it has all."""
    part = simulation.label_run.model_part
    assert part is not None
    whole = setup_of().job.label == "bank" and simulation.description.release == "label"  # type: ignore[union-attr]
    return bit_exact(simulation), joint_model(simulation), read(part) if whole else None


@pytest.mark.parametrize("fields", SETTINGS.values(), ids=SETTINGS)
def test_the_joint_model_is_the_oracles_whatever_is_released(fields: dict[str, Any]) -> None:
    """And where the label party receives it all, it is what that one has, to the last bit."""
    exact, model, released = run_simulation(setup_of(**fields), collected)
    assert exact
    assert [len(block) for block in model.blocks] == [4, 4]
    if released is not None:
        assert model.arrays.keys() == released.arrays.keys()
        assert all(np.array_equal(array, released.arrays[name]) for name, array in model.arrays.items())


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_frames_of_any_library_are_taken(library: Any) -> None:
    """Without an id, row n of all is the same customer; their own index says nothing."""
    frames = {party: table.sort_by("customer").drop_columns("customer") for party, table in customers().items()}
    made = {
        party: library({name: table[name].to_pylist() for name in table.column_names})
        for party, table in frames.items()
    }
    if library is pd.DataFrame:
        made = {party: frame.set_index(frame.index[::-1]) for party, frame in made.items()}
    result = tercet.simulate(made, **(FAST | {"id": None, "label": "default"}))
    assert result.status.rows + result.status.held_out == ROWS
    assert result.metrics["auc"] > 0.8


@pytest.mark.real_time
async def test_it_runs_where_an_event_loop_runs_already() -> None:
    """As in a notebook; nothing is awaited."""
    assert asyncio.get_running_loop()
    assert tercet.simulate(customers(), **(FAST | {"holdout": 0})).metrics == {}


def test_hostile_names_of_columns_are_text_in_the_page_and_in_the_notebook() -> None:
    frames = customers()
    names = [HOSTILE if name == "debt_0" else name for name in frames["bank"].column_names]
    result = tercet.simulate(frames | {"bank": frames["bank"].rename_columns(names)}, **FAST)
    assert any(HOSTILE in name for name in result.weights["bank"])  # in quotes
    assert result.report is not None
    page = Page(result.report.html)
    assert not {"script", "img", "iframe", "form", "object"} & {*page.tags}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "\u202e" not in result.report.html
    assert Page(result.report._repr_html_()).tags == ["iframe"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "bank.paid"}, "label: the frame of bank has no column 'paid'; its columns are 'customer'"),
        ({"id": "number"}, "id: the frame of bank has no column 'number'"),
        ({"epochs": -1}, "simulate: training.epochs should"),
        ({"helper_sees": "all"}, "simulate: privacy.helper_sees should"),
        ({"options": {"shop": {}}}, "options: 'shop' has no frame"),
        ({"options": {"bank": {"clipp": 3}}}, "options['bank']: unknown field `clipp`"),
        ({"id": None}, "id: bank has 160, card has 159 rows"),
    ],
)
def test_a_wrong_argument_is_named(change: dict[str, Any], said: str) -> None:
    frames = customers()
    if "id" in change and change["id"] is None:
        frames["card"] = frames["card"].slice(1)
    with pytest.raises(tercet.Invalid) as caught:
        tercet.simulate(frames, **(FAST | change))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("frames", "said"), [({}, "two parties or more"), ({"Bank!": 1, "card": 2}, "no party's name"), ([], "two parties")]
)
def test_parties_have_names_and_are_two_at_least(frames: Any, said: str) -> None:
    with pytest.raises(tercet.Invalid, match=said):
        tercet.simulate(frames, label="default")


def test_a_job_that_partners_would_refuse_fails_with_its_code() -> None:
    """And with what mends it, and whom it is about."""
    few = {
        party: table.drop_columns([f"{kind}_{k}" for k in (2, 3)])
        for (party, table), kind in zip(customers().items(), ("debt", "delay"), strict=True)
    }
    with pytest.raises(tercet.JobFailed) as caught:
        tercet.simulate(few, **(FAST | {"accept_narrow": False, "metrics": "end"}))
    error = caught.value
    assert (error.code, error.stage) == ("policy.exposure", "received")
    assert "accept_narrow=True simulates it" in str(error)
    assert error.party in {"bank", "card"}
    assert error.hint
    assert error.reason in str(error)
    assert isinstance(error, tercet.TercetError)


def test_what_is_wrong_with_a_table_is_said_in_full() -> None:
    """All tables are the caller's, so that what a partner would only read in its own log is in the exception."""
    frames = customers()
    frames["card"] = pa.table({"customer": ["twice"] * ROWS, "delay_0": [1.0] * ROWS})
    with pytest.raises(tercet.JobFailed) as caught:
        tercet.simulate(frames, **FAST)
    assert (caught.value.code, caught.value.party) == ("table.unusable", "card")
    assert "twice" not in str(caught.value)
    assert caught.value.detail
    assert caught.value.detail in str(caught.value)


def test_a_model_that_is_no_better_than_a_constant_is_warned_of() -> None:
    frames = customers(seed=3)
    labels = np.random.default_rng(5).permutation(frames["bank"]["default"].to_numpy())
    at = frames["bank"].column_names.index("default")
    frames["bank"] = frames["bank"].set_column(at, "default", pa.array(labels))
    with pytest.warns(tercet.WorthlessModel):
        tercet.simulate(frames, **(FAST | {"rate": 30.0, "epochs": 2}))


def test_a_party_may_be_called_as_the_helper_is() -> None:
    frames = customers()
    result = tercet.simulate({"helper": frames["bank"], "card": frames["card"]}, **(FAST | {"label": "default"}))
    assert result.status.helper not in {"helper", "card"}


def test_simulations_that_name_a_split_hold_out_the_same_rows() -> None:
    """So they can be compared: in steps over all rows little else differs than the noise of scores."""
    fields = FAST | {"rate": 0.5, "batch": ROWS}
    results = [tercet.simulate(customers(), split=name, **fields) for name in ("one", "one", "two", "three")]
    held_out = [result.status.held_out for result in results]
    loss = [result.metrics["log_loss"] for result in results]
    assert held_out[0] == held_out[1]
    assert loss[0] == pytest.approx(loss[1], abs=0.006)
    assert any(held_out[0] != held_out[k] or abs(loss[0] - loss[k]) > 0.006 for k in (2, 3))


def test_rows_are_held_out_by_a_column() -> None:
    frames = customers()
    days = pa.array(["2026-06-01" if number % 4 == 0 else "2026-01-01" for number in range(ROWS)])
    frames["bank"] = frames["bank"].append_column("day", days)
    fields = {name: value for name, value in FAST.items() if name != "holdout"} | {"loss": False}
    result = tercet.simulate(frames, holdout_column="day", holdout_from="2026-03-01", **fields)
    assert (result.status.rows, result.status.held_out) == (ROWS * 3 // 4, ROWS // 4)


def test_a_job_may_use_the_columns_that_it_names_beside_features() -> None:
    """The frame is the caller's own, so nobody has to list them once more."""
    frames = customers()
    years, counts = 0.5 + np.arange(ROWS) % 3, np.arange(ROWS) % 2 + 1.0
    for name, column in (("years", years), ("counts", counts)):
        frames["bank"] = frames["bank"].append_column(name, pa.array(column))
    fields = {**FAST, "model": "tweedie", "exposure": "years", "weights": "counts", "epochs": 1}
    result = tercet.simulate(frames, **fields)
    assert not {"years", "counts"} & result.weights["bank"].keys()
    with pytest.raises(tercet.TercetError, match=r"exposure: the frame of bank has no column 'yaers'.*mean 'years'"):
        tercet.simulate(frames, **fields | {"exposure": "yaers"})


@pytest.fixture(scope="module")
def look() -> tercet.Result:
    """Statistics of as many customers as bins need, a fifth of them held out."""
    asked: dict[str, Any] = {"id": "customer", "label": "default", "holdout": 0.2, "split": "look", "least": 10}
    return tercet.simulate_statistics(customers(600), bins=4, woe=True, correlations="label", **asked)


def test_simulated_statistics_are_those_of_the_frames(look: tercet.Result, nowhere: Path) -> None:
    """The label party's, and all parties' own bins."""
    assert {(row["party"], row["column"]) for row in look.columns} == {
        (party, f"{name}_{k}") for party, name in (("bank", "debt"), ("card", "delay")) for k in range(4)
    }
    assert look.columns[0]["column"] == "delay_0"
    assert {(row["party"], row["column"]) for row in look.bins} == {
        (row["party"], row["column"]) for row in look.columns
    }
    rows, held_out = look.status.rows, look.status.held_out
    assert rows + held_out == 600
    of_one = pd.DataFrame(look.bins).groupby(["party", "column"])
    assert (of_one["rows"].sum() == rows).all()
    assert len({*of_one["events"].sum()}) == 1
    frames = {party: table.to_pandas().set_index("customer") for party, table in customers(600).items()}
    both = frames["bank"].join(frames["card"])
    found = next(one for one in look.correlations if (one["first"], one["second"]) == ("bank/debt_0", "card/delay_0"))
    assert found["correlation"] == pytest.approx(both["debt_0"].corr(both["delay_0"]), abs=0.1)  # of four fifths
    assert look.report is not None
    assert "delay_0" in look.report.html
    assert (look.weights, look.scorer, look.scores) == ({}, None, None)
    with pytest.raises(tercet.Invalid, match="no scorecard"):
        look.scorecard()


def test_a_simulation_encodes_by_weights_of_evidence_and_holds_out_what_they_have_not_counted(
    look: tercet.Result,
) -> None:
    """Without another word about rows; a scorecard has a line for each bin."""
    fields: dict[str, Any] = {"id": "customer", "label": "default", "epochs": 3, "accept_narrow": True}
    result = tercet.simulate(customers(600), woe=look, **fields)
    assert (result.status.rows, result.status.held_out) == (look.status.rows, look.status.held_out)
    assert result.metrics["auc"] > 0.8
    bins = [(row["party"], row["column"], row["value"]) for row in result.scorecard() if row["kind"] == "bin"]
    assert bins == [(row["party"], row["column"], row["bin"]) for row in look.bins]


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"woe": "look-01234567"}, "simulate_statistics"), ({"holdout": 0.3, "split": "another"}, "holds out")],
)
def test_weights_of_evidence_that_do_not_fit_a_simulation_are_refused(
    look: tercet.Result, fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(tercet.TercetError, match=why):
        tercet.simulate(customers(600), **{"woe": look, "label": "default", "id": "customer", "epochs": 1, **fields})
