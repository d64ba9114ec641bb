"""The shipped credit tables are what their README says, and the example's files fit together."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from agents.baselines import compare
from schemas.job import read_job
from schemas.settings import read_settings
from tables.encoding import Encoding
from tables.source import read_table

CREDIT = Path(__file__).parents[2] / "examples" / "credit"
ROWS = {"train": 24_000, "heldout": 6_000}


@pytest.fixture(scope="module")
def tables():
    """All four tables, by party and part, read with the settings of the example."""
    job = read_job(CREDIT / "job.toml")

    def read(party, part):
        name = job.table_of(party)
        settings = read_settings(CREDIT / f"{party}.toml").tables[name]
        settings = settings.model_copy(update={"path": CREDIT / f"{party}_{part}.csv.gz"})
        return read_table(name, settings, with_label=party == job.label)

    return {(party, part): read(party, part) for party in job.data_parties for part in ROWS}


def test_the_files_are_those_that_the_readme_lists():
    """By their hashes, all of them."""
    listed = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", (CREDIT / "README.md").read_text(), re.MULTILINE))
    found = {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in CREDIT.glob("*.csv.gz")}
    assert found == listed


def test_source_and_licence_are_given():
    """CC BY 4.0 asks for it, and for what was changed."""
    text = (CREDIT / "README.md").read_text()
    for part in ("I-Cheng Yeh", "10.24432/C55S3H", "CC BY 4.0", "Changed from it"):
        assert part in text


def test_the_parties_rows_are_the_same_customers_in_the_same_order(tables):
    """In both parts, which have nobody in common and everybody together."""
    for part, rows in ROWS.items():
        assert tables["bank", part].ids == tables["card", part].ids
        assert tables["bank", part].rows == rows
    train, held_out = (set(tables["bank", part].ids) for part in ROWS)
    assert train | held_out == {str(customer) for customer in range(1, 30_001)}


def test_the_held_out_rows_default_as_often_as_the_others(tables):
    """6,636 of 30,000, dealt out evenly."""
    assert [int(tables["bank", part].label.sum()) for part in ROWS] == [5309, 1327]
    assert all(tables["card", part].label is None for part in ROWS)


def test_no_column_is_at_both_parties(tables):
    """23 features, 11 here and 12 there."""
    bank, card = (tables[party, "train"].columns for party in ("bank", "card"))
    assert (len(bank), len(card), set(bank) & set(card)) == (11, 12, set())
    assert all(tables[party, part].columns == tables[party, "train"].columns for party, part in tables)


def test_the_settings_name_one_another():
    """Each agent knows the two others, and no more."""
    job = read_job(CREDIT / "job.toml")
    for party in job.parties:
        settings = read_settings(CREDIT / f"{party}.toml")
        assert settings.party == party
        assert settings.partners.keys() == set(job.parties) - {party}
        assert (settings.role == "helper") == (party == job.helper) == (not settings.tables)


def test_together_they_know_more_than_either(tables):
    """The held-out figures that the README gives, and the reason for the example."""
    job = read_job(CREDIT / "job.toml")
    fitted = {party: Encoding.fit(tables[party, "train"]) for party in job.data_parties}
    encoded = {part: {party: fitted[party].apply(tables[party, part]) for party in fitted} for part in ROWS}
    labels = {part: tables["bank", part].label for part in ROWS}
    found = compare(encoded["train"], encoded["heldout"], labels["train"], labels["heldout"], job.training)
    assert {party: x.shape[1] for party, x in encoded["train"].items()} == {"bank": 21, "card": 70}
    assert not [warning for encoding in fitted.values() for warning in encoding.warnings]
    stated = {"bank": 0.622, "card": 0.746, "pooled": 0.759}
    assert all(np.isclose(found[name], stated[name], rtol=0, atol=0.001) for name in stated), found
    assert found["pooled"] > found["bank"] + 0.06
    assert found["pooled"] > found["card"] + 0.01
