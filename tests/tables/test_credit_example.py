"""The shipped credit tables are what their README says, and the example's files fit together.

It reads them as any program would and uses none of the rooms but `schemas` and the plaintext SGD to compare with.
"""

import hashlib
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tercet.agents.evaluation.baselines import auc, sgd
from tercet.agents.selection.selection_file import read_selection
from tercet.agents.session.training_defaults import resolve_defaults
from tercet.schemas.files.job import PredictionJob, StatisticsJob, TrainingJob, read_job
from tercet.schemas.files.settings import read_settings

CREDIT = Path(__file__).parents[2] / "examples" / "credit"
IDS = {"bank.csv.gz": "customer", "bank_new.csv": "customer", "new_outcomes.csv": "customer"}
IDS |= {"card.parquet": "client_id", "card_new.parquet": "client_id"}
CLIP = 16.0


def read(name: str) -> pa.Table:
    """One file, whichever its format."""
    return parquet.read_table(CREDIT / name) if name.endswith(".parquet") else csv.read_csv(CREDIT / name)


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    """All five, by their files' names."""
    return {name: read(name) for name in IDS}


@pytest.fixture(scope="module")
def ids(tables) -> dict[str, list[str]]:
    """Their ids as text, in the order of the rows."""
    return {name: table[IDS[name]].cast(pa.string()).to_pylist() for name, table in tables.items()}


def test_the_files_are_those_that_the_readme_lists():
    """By their hashes, all of them, and small enough for a package."""
    listed = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", (CREDIT / "README.md").read_text(), re.MULTILINE))
    assert {name: sha256 for sha256, name in listed.items()} == {
        name: hashlib.sha256((CREDIT / name).read_bytes()).hexdigest() for name in IDS
    }
    assert {path.name for path in CREDIT.iterdir() if re.search(r"\.(csv|gz|parquet)$", path.name)} == set(IDS)
    assert sum((CREDIT / name).stat().st_size for name in IDS) < 1.3e6


def test_source_and_licence_are_given():
    """CC BY 4.0 asks for it, and for what was changed."""
    text = " ".join((CREDIT / "README.md").read_text().split())
    for part in ("I-Cheng Yeh", "10.24432/C55S3H", "CC BY 4.0", "Changed from it"):
        assert part in text


def test_all_that_the_demo_reads_is_in_the_package():
    """A wheel holds tables, jobs and settings, and not the two scripts."""
    setup = tomllib.loads((CREDIT.parents[1] / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = [name.removeprefix("credit/") for name in setup["package-data"]["tercet"]]
    left_out = {p.name for p in CREDIT.iterdir() if p.is_file() and not any(fnmatch(p.name, each) for each in patterns)}
    assert left_out == {"split.py", "deploy.sh", "credit.ipynb"}


def test_nine_in_ten_of_each_partys_customers_are_the_others_too(ids):
    """Written as the same text, though one file is CSV and the other holds whole numbers."""
    bank, card = set(ids["bank.csv.gz"]), set(ids["card.parquet"])
    assert len(bank) == len(card) == 26_000 == len(ids["bank.csv.gz"]) == len(ids["card.parquet"])
    assert len(bank & card) == 23_400
    assert bank | card < {str(number) for number in range(1, 30_001)}


def test_the_card_processors_ids_have_another_name_and_type(tables):
    """Text has to be compared with int64."""
    for name in ("card.parquet", "card_new.parquet"):
        assert tables[name].schema.field("client_id").type == pa.int64()
        assert "customer" not in tables[name].column_names


def test_new_customers_were_not_trained_on(ids):
    """1,000 of them are known to both, a few to one party alone, and all are different from the others."""
    bank, card = set(ids["bank_new.csv"]), set(ids["card_new.parquet"])
    assert (len(bank), len(card), len(bank & card)) == (1_060, 1_040, 1_000)
    assert (len(ids["bank_new.csv"]), len(ids["card_new.parquet"])) == (1_060, 1_040)
    assert (bank | card).isdisjoint({*ids["bank.csv.gz"], *ids["card.parquet"]})
    assert sorted(ids["new_outcomes.csv"]) == sorted(bank & card)


@pytest.mark.parametrize("name", IDS)
def test_a_files_order_says_nothing_of_the_ids(name, ids):
    """The row and the customer's number are not correlated."""
    numbers = np.array(ids[name], dtype=np.int64)
    assert abs(np.corrcoef(np.arange(len(numbers)), numbers)[0, 1]) < 3 / np.sqrt(len(numbers))


@pytest.mark.parametrize(("one", "other"), [("bank.csv.gz", "card.parquet"), ("bank_new.csv", "card_new.parquet")])
def test_the_parties_rows_are_in_unrelated_orders(one, other, ids):
    """Where a customer stands at one party says nothing of where at the other."""
    here, there = rows(ids[one], ids[other])
    assert abs(np.corrcoef(here, there)[0, 1]) < 3 / np.sqrt(len(here))


def rows(one: list[str], other: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Where the customers in common stand in each, by the first one's order."""
    place = {text: row for row, text in enumerate(other)}
    common = [(row, place[text]) for row, text in enumerate(one) if text in place]
    return tuple(np.array(common).T)


def test_new_customers_default_as_often_as_the_others(tables):
    """22.1 % of 30,000 do."""
    assert set(tables["bank.csv.gz"]["defaulted"].to_pylist()) == {0, 1}
    assert np.mean(tables["new_outcomes.csv"]["defaulted"]) == 0.221
    assert np.isclose(np.mean(tables["bank.csv.gz"]["defaulted"]), 0.2212, rtol=0, atol=0.002)


def test_no_column_is_at_both_parties_and_the_label_is_in_no_table_to_score(tables):
    """23 features, 11 here and 12 there; the new tables have the same."""
    columns = {name: set(table.column_names) - {IDS[name]} for name, table in tables.items()}
    bank, card = columns["bank_new.csv"], columns["card_new.parquet"]
    assert (len(bank), len(card), bank & card) == (11, 12, set())
    assert columns["bank.csv.gz"] == bank | {"defaulted"}
    assert columns["card.parquet"] == card
    assert columns["new_outcomes.csv"] == {"defaulted"}


def test_the_settings_name_one_another():
    """Each agent knows the two others, and no more."""
    job = read_job(CREDIT / "job.toml")
    for party in job.parties:
        settings = read_settings(CREDIT / f"{party}.toml")
        assert settings.party == party
        assert settings.partners.keys() == set(job.parties) - {party}
        assert (settings.role == "helper") == (party == job.helper) == (not settings.tables)


def test_the_prediction_is_of_this_training():
    """Same parties, same label party, same helper, and the id that job.toml has as it stands."""
    job, predict = read_job(CREDIT / "job.toml"), read_job(CREDIT / "predict.toml")
    assert isinstance(job, TrainingJob)
    assert isinstance(predict, PredictionJob)
    assert predict.of == job.id
    assert (predict.parties, predict.label) == (job.parties, job.label)
    assert job.scorings == 1


def test_scorecard_and_selection_are_of_these_statistics():
    """They name the id that statistics.toml has as it stands, over the same tables and held-out rows."""
    counted, woe = read_job(CREDIT / "statistics.toml"), read_job(CREDIT / "woe.toml")
    selected = read_selection(CREDIT / "select.toml")
    assert isinstance(counted, StatisticsJob)
    assert isinstance(woe, TrainingJob)
    assert selected.filter is not None
    assert {woe.encoding.woe, selected.job.encoding.woe, selected.filter.statistics} == {counted.id}
    assert woe.scorecard is not None
    assert woe.scorecard == selected.job.scorecard
    for job in (woe, selected.job):
        assert (job.tables, job.label, job.helper) == (counted.tables, counted.label, counted.helper)
        assert (job.evaluation.holdout, job.evaluation.split) == (counted.evaluation.holdout, counted.evaluation.split)


def test_the_selection_has_all_columns_as_candidates(tables):
    """A table with another column would leave it out unseen."""
    candidates = read_selection(CREDIT / "select.toml").columns
    for party, file in {"bank": "bank.csv.gz", "card": "card.parquet"}.items():
        assert {*candidates[party]} == {*tables[file].column_names} - {IDS[file], "defaulted"}


@pytest.mark.parametrize("name", ["job.toml", "predict.toml", "statistics.toml", "woe.toml"])
def test_the_settings_fit_the_files(name, tables):
    """Each table of each job has a file with the id, the label and the categories that the settings name."""
    job = read_job(CREDIT / name)
    for party in job.data_parties:
        table = read_settings(CREDIT / f"{party}.toml").tables[job.table_of(party)]
        assert table.path is not None
        columns = tables[table.path.name].column_names
        assert table.id == IDS[table.path.name]
        assert {table.id, *table.categorical} <= set(columns)
        assert table.label == ("defaulted" if "defaulted" in columns else None)
        assert (table.label is not None) == (party == job.label and not isinstance(job, PredictionJob))


def test_together_they_know_more_than_either(tables, ids):
    """The figures that the README gives, for one draw of who is held out, within three of its deviations."""
    job = read_job(CREDIT / "job.toml")
    assert isinstance(job, TrainingJob)
    held_out, features, label = common_customers(tables, ids, job.evaluation.holdout)
    training = resolve_defaults(job, int((~held_out).sum()), [1.0, 1.0], [])
    scores = {
        name: auc(label[held_out], sgd(x[~held_out], label[~held_out], training).scores(x[held_out]))
        for name, x in features.items()
    }
    stated = re.findall(
        r"^\| (\S+).*? \| \d+(?: to \d+)? \| (0\.\d+) ± (0\.\d+)", (CREDIT / "README.md").read_text(), re.MULTILINE
    )
    assert [name for name, *_ in stated] == ["bank's", "card", "both"]
    for name, (_, mean, deviation) in zip(features, stated, strict=True):
        assert abs(scores[name] - float(mean)) < 3 * float(deviation), scores
    assert scores["both"] > scores["card"] + 0.005
    assert scores["both"] > scores["bank"] + 0.1


def common_customers(tables, ids, holdout: float):
    """Who is held out, encoded features by party and together, and the label."""
    here, there = rows(ids["bank.csv.gz"], ids["card.parquet"])
    bank, card = tables["bank.csv.gz"].take(here), tables["card.parquet"].take(there)
    held_out = np.random.default_rng(0).random(len(here)) < holdout
    features = {
        party: encoded(table, read_settings(CREDIT / f"{party}.toml").tables[name], ~held_out)
        for party, name, table in (("bank", "customers", bank), ("card", "delays", card))
    }
    label = bank["defaulted"].to_numpy().astype(float)
    return held_out, features | {"both": np.hstack(list(features.values()))}, label


def encoded(table, settings, train: np.ndarray) -> np.ndarray:
    """Numbers standardised and categories one-hot, by scikit-learn, fitted on the training rows."""
    numeric = [c for c in table.column_names if c not in {settings.id, settings.label, *settings.categorical}]
    numbers = np.column_stack([table[column].to_numpy().astype(float) for column in numeric])
    categories = np.column_stack([table[column].to_numpy() for column in settings.categorical])
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(categories[train])
    scaled = StandardScaler().fit(numbers[train]).transform(numbers)
    return np.hstack([np.clip(scaled, -CLIP, CLIP), one_hot.transform(categories)])
