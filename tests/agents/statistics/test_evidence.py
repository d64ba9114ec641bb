"""A training encodes every party's columns by the weights of evidence that it was told; who was told none refuses."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.agents.models.export import export_model
from tercet.agents.models.scorer import UnseenCategories, load
from tercet.agents.simulation.simulate import bit_exact, data_roles, simulate_job
from tercet.agents.statistics.result import OwnColumn, StatisticsResult, statistics_file
from tercet.schemas.files.job import EncodedColumns, Evaluation, Training, TrainingJob
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.statistics import CountedRows
from tercet.tables.binning.bins import NumericBins
from tercet.tables.binning.fit import Binning, fit_bins
from tercet.tables.encoding.woe import WoeColumn
from tests import virtual_time
from tests.agents.models.test_scorer import check_onnx, together
from tests.agents.recording import Heard, hear, hear_prediction
from tests.agents.roles.test_prediction import newcomers, people, scores_of
from tests.agents.roles.test_release_to_label import CHECKS
from tests.agents.statistics import world
from tests.agents.world import OUTCOME, PERSON, Sample, run
from tests.tables.made_up import table as made_up

COUNTS = "counts-01234567"  # the statistics job
CONSENTS = PolicySettings(statistics="woe", narrow=True)
PARTIES = BANK, CARD = "bank", "card"


@dataclass(frozen=True)
class WoeSample(Sample):
    """A training that encodes by weights of evidence; `named` is what the job says under [columns]."""

    named: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def description(self) -> TrainingJob:
        changes = {"encoding": EncodedColumns(woe=COUNTS), "columns": self.named}
        return super().description().model_copy(update=changes)

    def tables(self) -> dict[str, dict[str, list[str]]]:
        return people(self, self.rows, 1)


LEFT_OUT = Evaluation(holdout=0.2, split="spring")
SAMPLE = WoeSample((3, 2), rows=200, label=1, batch=64, epochs=3, rate=0.3, release="label",
                   evaluation=LEFT_OUT.model_copy(update={"loss": True}))  # fmt: skip
TABLES = SAMPLE.tables()


def counted(
    party: str, label_party: str = CARD, silent: tuple[str, ...] = (), of: dict[str, Any] | None = None
) -> StatisticsResult:
    """What a statistics job has left at a party, counted in plaintext; nothing of `silent` columns.

    `of` changes what it says of its rows, which it counts with those that are held out.
    """
    column = OUTCOME if party == label_party else None
    rows = {"tables": SAMPLE.description().tables, "label_column": column, "evaluation": LEFT_OUT} | (of or {})
    numeric: dict[str, Any] = {}
    categorical: dict[str, Any] = {}
    for name, texts in TABLES[party].items():
        if "quantity" in name:
            numeric[name] = [float(text or "nan") for text in texts]
        elif name not in {PERSON, OUTCOME}:
            categorical[name] = [text or None for text in texts]
    read, labels = made_up(numeric, categorical), np.array(list(map(int, TABLES[CARD][OUTCOME])))
    own = []
    for bins in fit_bins([read], Binning(count=4)):
        places = bins.find_bins(read)
        counts, events = (np.bincount(some, minlength=bins.count) for some in (places, places[labels == 1]))
        woe = np.log((events / events.sum()) / ((counts - events) / (counts - events).sum()))
        known: dict[str, Any] = {"sums": tuple((float(one),) for one in events), "woe": tuple(woe.tolist())}
        own.append(OwnColumn(bins=bins, rows=tuple(counts.tolist()), **({} if bins.name in silent else known)))
    return StatisticsResult(
        job=COUNTS, run="00", party=party, label_party=label_party, rows=len(labels), held_out=0, label="logistic",
        own=tuple(own), counted=CountedRows.model_validate(rows),
    )  # fmt: skip


def leave_statistics(folder: Path, parties: tuple[str, ...] = PARTIES, **how: Any) -> None:
    """Write what the statistics job has left at these parties."""
    for party in parties:
        counted(party, **how).save(statistics_file(folder / party, COUNTS).parent)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("woe")


@pytest.fixture(scope="module")
def heard(folder: Path) -> Heard:
    """One training for all that is asked of it."""
    leave_statistics(folder, silent=("bank_quantity_1",))
    return hear(SAMPLE, folder, tables=TABLES)


def test_the_model_is_the_oracles_of_columns_encoded_by_weight_of_evidence(heard: Heard) -> None:
    """One number each; columns of which nothing was told are left out."""
    assert bit_exact(heard.simulation)
    for role in heard.roles:
        known = [column for column in counted(role.context.me).own if column.name != "bank_quantity_1"]
        assert role.encoding.column_names == [column.name for column in known]
        for column, expected in zip(role.encoding.columns, known, strict=True):
            assert isinstance(column, WoeColumn)
            assert (column.bins, column.woe) == (expected.bins, expected.woe)


@pytest.mark.sealed
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_it_shows_to_everybody_what_is_promised_and_no_more(check: Any, heard: Heard) -> None:
    """All that any other training is held to; bins and weights reach the label party alone, with the whole model."""
    check(heard)


def test_prediction_scorer_and_onnx_say_the_same_of_new_rows(heard: Heard, folder: Path, tmp_path: Path) -> None:
    """Values that are missing, far out or in no bin among them."""
    rows = newcomers(SAMPLE)
    scores = scores_of(hear_prediction(SAMPLE, folder, rows).simulation)
    part = heard.simulation.runs[CARD].model_part
    assert part is not None
    scorer = load(part)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encoded = scorer.encode(together(rows, scores["id"].to_pylist()))
    assert [warning.category for warning in caught] == [UnseenCategories] * 2
    assert "'bank_housing': 6 of 50 values were not there in training" in str(caught[0].message)
    found = scores["score"].to_numpy(zero_copy_only=False)
    assert np.allclose(scorer.scores(encoded)[:, 0], found, rtol=0, atol=1e-4)
    assert np.std(found) > 0.1
    export_model(part, tmp_path / "model.onnx")
    check_onnx(scorer, tmp_path / "model.onnx", encoded)


NAMED = replace(SAMPLE, named=((BANK, ("bank_quantity_1", "bank_housing")),))
UNNAMED = replace(SAMPLE, evaluation=Evaluation(holdout=0.2))  # each run holds out others
OTHER_TABLE = {"tables": ((BANK, "clients"), (CARD, "people"))}
ALL_OF_BANK = ("bank_quantity_0", "bank_quantity_1", "bank_quantity_2", "bank_housing")


@pytest.mark.parametrize(
    ("sample", "culprit", "words", "how"),
    [
        (SAMPLE, BANK, "bank has no weights of evidence from counts-01234567", {"parties": (CARD,)}),
        (SAMPLE, CARD, "card has no weights of evidence", {"label_party": BANK}),
        (SAMPLE, BANK, "bank has no weights of evidence", {"silent": ALL_OF_BANK}),
        (NAMED, CARD, "no weight of evidence of column 'bank_quantity_1'", {"silent": ("bank_quantity_1",)}),
        (SAMPLE, CARD, "counted another table of bank", {"of": OTHER_TABLE}),
        (SAMPLE, CARD, "counted another column of labels of card", {"of": {"label_column": "paid"}}),
        (SAMPLE, CARD, "counted rows that this job holds out", {"of": {"evaluation": Evaluation()}}),
        (UNNAMED, CARD, "write the same holdout and split", {"of": {"evaluation": UNNAMED.evaluation}}),
    ],
)  # fmt: skip
async def test_weights_that_do_not_fit_are_refused_before_a_row_leaves(sample, culprit, words, how, tmp_path) -> None:
    leave_statistics(tmp_path, **how)
    said: list[str] = []

    def tap(_address, message):
        said.append(type(message).__name__)
        return message

    label = (await run(sample, tmp_path, tap=tap)).label_run
    assert label.failure is not None
    assert (label.failure.code, label.failure.culprit) == ("encoding.woe", culprit)
    assert words in label.failure.reason
    assert not {one for one in said if one.startswith(("Masked", "Pseudonyms", "Order"))}


def test_a_training_after_a_statistics_job_encodes_by_what_that_has_left(tmp_path: Path) -> None:
    """The same tables and settings; bins of numbers are monotone where a party's settings say so."""
    counting = {"bins": 8, "woe": True}
    job, tables = world.statistics_job(statistics=counting, evaluation=LEFT_OUT), world.people(2)
    settings = world.settings_of(job, tmp_path, policy=CONSENTS)
    asked = {name: table.model_copy(update={"monotone": True}) for name, table in settings[CARD].tables.items()}
    settings[CARD] = settings[CARD].model_copy(update={"tables": asked})
    counts = world.finish_job(job, tmp_path, tables, settings)
    ways = {party: [_goes_one_way(column) for column in counts.result(party).own] for party in PARTIES}
    assert all(ways[CARD])
    assert not all(ways[BANK])
    training = TrainingJob(
        name="model", model="logistic", label=job.label, helper=job.helper, tables=job.tables,
        training=Training(epochs=1), encoding=EncodedColumns(woe=job.id),
        evaluation=LEFT_OUT.model_copy(update={"metrics": "none"}),
    )  # fmt: skip
    simulation = virtual_time.run(simulate_job(training, settings, tmp_path))
    assert bit_exact(simulation)
    for party, role in data_roles(simulation).items():
        known = [(column.bins, column.woe) for column in counts.result(party).own]
        assert [(one.bins, one.woe) for one in role.encoding.columns if isinstance(one, WoeColumn)] == known


def _goes_one_way(column: OwnColumn) -> bool:
    """Whether weights of evidence rise or fall over all bins of numbers; of categories it does not matter."""
    if not isinstance(column.bins, NumericBins):
        return True
    assert column.woe is not None
    steps = np.diff(column.woe[: len(column.bins.intervals)])
    return bool((steps > 0).all() or (steps < 0).all())
