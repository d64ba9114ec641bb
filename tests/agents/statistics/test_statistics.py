"""What a statistics job tells is what plaintext says, exactly for counts and to 1e-6 for what is computed from them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from tercet.agents.session.statistics import Statistics
from tercet.agents.simulation.simulate import bit_exact, summary
from tercet.agents.statistics.data_party import Counting
from tercet.agents.statistics.own_columns import OwnColumns
from tercet.agents.statistics.result import OwnColumn, PartnerColumn, StatisticsResult
from tercet.agents.statistics.tables import bin_rows, column_rows, correlation_rows
from tercet.mpc.arithmetic.fixed import Floats
from tercet.schemas.files.evaluation import Evaluation
from tercet.schemas.files.settings import Limits
from tercet.schemas.files.statistics import Measures
from tercet.schemas.messages.kinds import BinCounts, Cells, MaskedBins, Message
from tercet.tables.binning.bins import NumericBins
from tests.agents.statistics.world import CONSENTS, LEAST, Finished, finish_job, people, settings_of, statistics_job
from tests.agents.world import OUTCOME, PERSON

ALL = Measures(woe=True, correlations="label")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Three parties, and all that a job may tell."""
    return finish_job(statistics_job(3, statistics=ALL), tmp_path_factory.mktemp("three"), people(3))


def common_rows(finished: Finished) -> dict[str, dict[str, list[str]]]:
    """The rows that all parties have, in one order."""
    ids = sorted(set.intersection(*(set(table[PERSON]) for table in finished.tables.values())))
    found = {}
    for party, table in finished.tables.items():
        place = {name: row for row, name in enumerate(table[PERSON])}
        found[party] = {name: [values[place[one]] for one in ids] for name, values in table.items()}
    return found


def bins_of(column: OwnColumn, texts: list[str]) -> list[int]:
    """The bin of each row, by cuts and levels alone."""
    bins = column.bins
    if isinstance(bins, NumericBins):
        assert bins.missing is not None or "" not in texts
        return [(bins.missing or 0) if text == "" else sum(float(text) >= cut for cut in bins.cuts) for text in texts]
    return [next(place for place, levels in enumerate(bins.levels) if text in levels) for text in texts]


def cells_of(column: OwnColumn, texts: list[str], y: Floats) -> list[tuple[int, float]]:
    """Rows and positives of each bin."""
    found = np.array(bins_of(column, texts))
    return [(int((found == each).sum()), float(y[found == each].sum())) for each in range(column.bins.count)]


def each_column(finished: Finished) -> Iterator[tuple[str, OwnColumn, list[str]]]:
    """Each column of each party, as its owner has it, and its values in the common rows."""
    rows = common_rows(finished)
    for party in finished.job.data_parties:
        for column in finished.result(party).own:
            yield party, column, rows[party][column.name]


def outcome(finished: Finished) -> Floats:
    """The label of the common rows."""
    return np.array(common_rows(finished)[finished.job.label][OUTCOME], np.float64)


def test_the_job_is_done_and_equals_the_oracle(finished: Finished) -> None:
    assert finished.simulation.done, finished.simulation.label_run.failure
    assert bit_exact(finished.simulation)
    found = summary(finished.simulation)
    assert (found["kind"], found["bit_exact"], found["rows"]) == ("statistics", True, len(outcome(finished)))
    assert found["statistics"].keys() == set(finished.job.data_parties)


def test_counts_are_those_of_the_tables(finished: Finished) -> None:
    """By bin and by level, missing values in a bin of their own, small bins merged."""
    y, kinds = outcome(finished), set()
    for party, column, texts in each_column(finished):
        assert column.sums is not None, (party, column.name)
        cells = cells_of(column, texts, y)
        assert cells == [(rows, cell[0]) for rows, cell in zip(column.rows, column.sums, strict=True)]
        assert min(min(rows - events, events) for rows, events in cells) >= LEAST
        kinds |= {"missing" in label for label in column.bins.labels} | {
            " or " in label for label in column.bins.labels
        }
        assert sum(column.rows) == len(y)
    assert kinds == {True, False}


def test_the_label_party_knows_partners_columns_by_their_cells(finished: Finished) -> None:
    label = finished.result(finished.job.label)
    assert {one.party for one in label.partners} == {*finished.job.data_parties} - {finished.job.label}
    for one in label.partners:
        owner = finished.result(one.party).own[one.number - 1]
        assert owner.sums is not None
        assert sorted(zip(one.rows, one.sums, strict=True)) == sorted(zip(owner.rows, owner.sums, strict=True))
        assert one.name == owner.name
    assert any(one.rows != finished.result(one.party).own[one.number - 1].rows for one in label.partners), (
        "no secret order"
    )


def test_measures_are_those_of_other_libraries(finished: Finished) -> None:
    y, label = outcome(finished), finished.result(finished.job.label)
    known = {(one.party, one.number): one.power for one in label.partners}
    for party, column, texts in each_column(finished):
        found = np.array(bins_of(column, texts))
        events = np.array([y[found == each].mean() for each in range(column.bins.count)])
        positives = np.array([cell[0] for cell in column.sums or ()])
        negatives = np.array(column.rows) - positives
        woe = np.log((positives / positives.sum()) / (negatives / negatives.sum()))
        iv = ((positives / positives.sum() - negatives / negatives.sum()) * woe).sum()
        ks = ks_2samp(events[found][y == 1], events[found][y == 0], method="asymp").statistic
        assert column.woe == pytest.approx(woe, abs=1e-6)
        place = finished.result(party).own.index(column) + 1
        for power in (column.power, known.get((party, place), column.power)):
            assert power is not None
            expected = (iv, ks, 2 * roc_auc_score(y, events[found]) - 1)
            assert (power.iv, power.ks, power.gini) == pytest.approx(expected, abs=1e-6)


def numbers_of(finished: Finished, result: StatisticsResult) -> Floats:
    """The numeric columns of a map, gaps at the mean, (rows, columns)."""
    rows, found = common_rows(finished), []
    assert result.correlations is not None
    for axis in result.correlations.columns:
        texts = rows[axis.party][axis.name or finished.result(axis.party).own[axis.number - 1].name]
        values = np.array([np.nan if text == "" else float(text) for text in texts])
        found.append(np.where(np.isnan(values), np.nanmean(values), values))
    return np.column_stack(found)


def test_correlations_and_inflation_are_those_of_numpy(finished: Finished) -> None:
    label = finished.result(finished.job.label)
    assert label.correlations is not None
    expected = np.corrcoef(numbers_of(finished, label).T)
    assert np.abs(np.array(label.correlations.matrix) - expected).max() < 1e-6
    inflation = np.linalg.inv(expected).diagonal()
    columns: dict[tuple[str, int], OwnColumn | PartnerColumn] = {(one.party, one.number): one for one in label.partners}
    columns |= {(finished.job.label, place): one for place, one in enumerate(label.own, start=1)}
    for axis, factor in zip(label.correlations.columns, inflation, strict=True):
        own = finished.result(axis.party).own[axis.number - 1]
        assert own.vif == columns[axis.party, axis.number].vif == pytest.approx(factor, abs=1e-6)


def test_a_partner_knows_how_its_own_columns_correlate_and_no_more(finished: Finished) -> None:
    partner = finished.result("card")
    assert partner.correlations is not None
    assert {axis.party for axis in partner.correlations.columns} == {"card"}
    assert partner.partners == ()


def test_rows_for_people_and_data_frames(finished: Finished) -> None:
    label = finished.result(finished.job.label)
    columns = column_rows(label)
    assert [row["iv"] for row in columns] == sorted((row["iv"] for row in columns), reverse=True)
    assert {row["party"] for row in columns} == set(finished.job.data_parties)
    bins = bin_rows(label, label.own[0])
    assert sum(row["rows"] for row in bins) == label.rows
    assert {*bins[0]} == {"column", "bin", "rows", "events", "rate", "woe"}
    assert len(list(correlation_rows(label))) == 9 * 8 // 2


def test_what_is_not_asked_for_is_not_told_and_held_out_rows_are_not_counted(tmp_path: Path) -> None:
    """IV to the label party alone; columns without names where the settings keep them."""
    job = statistics_job(2, evaluation=Evaluation(holdout=0.25))
    finished = finish_job(
        job, tmp_path, people(2), settings_of(job, tmp_path, policy=CONSENTS.model_copy(update={"column_names": False}))
    )
    assert bit_exact(finished.simulation)
    bank, card = finished.result("bank"), finished.result("card")
    assert bank.held_out > 0
    assert bank.rows + bank.held_out == len(outcome(finished))
    assert all(sum(column.rows) == bank.rows for column in card.own)
    side = finished.simulation.runs["bank"].reached
    assert isinstance(side, Counting)
    own = side.columns.own
    counted = {*own.table.ids.take(pa.array(own.rows[~side.columns.held_out])).to_pylist()}
    marks = np.array([one in counted for one in common_rows(finished)["bank"][PERSON]])
    for party, column, texts in each_column(finished):
        if party == "bank":
            cells = cells_of(column, [*np.array(texts)[marks]], outcome(finished)[marks])
            assert cells == [(rows, cell[0]) for rows, cell in zip(column.rows, column.sums or (), strict=True)]
    assert [column.sums for column in card.own] == [None] * 4
    assert [column.power for column in card.own] == [None] * 4
    assert (card.correlations, bank.correlations, card.classes) == (None, None, ())
    assert [one.name for one in bank.partners] == [None] * 4
    assert all(one.power is not None for one in bank.partners)


OTHER_LABELS: dict[str, Any] = {
    "poisson": Measures(woe=True, correlations="pairs"),
    "linear": Measures(woe=True, bins=4),
}


@pytest.mark.parametrize("model", OTHER_LABELS)
def test_counts_and_amounts_have_moments_by_bin(tmp_path: Path, model: str) -> None:
    job = statistics_job(2, model=model, statistics=OTHER_LABELS[model])
    finished = finish_job(job, tmp_path, people(2, rows=800, model=model))
    assert bit_exact(finished.simulation)
    y = outcome(finished)
    for _, column, texts in each_column(finished):
        found, sums = np.array(bins_of(column, texts)), np.array(column.sums)
        means = np.array([y[found == each].mean() for each in range(column.bins.count)])
        assert sums[:, 0] / column.rows == pytest.approx(means, rel=1e-6)
        explained = np.var(means[found]) / np.var(y)
        assert column.power is not None
        assert column.power.explained == pytest.approx(explained, abs=1e-6)
        assert column.woe is None
    bank, card = finished.result("bank"), finished.result("card")
    if model == "poisson":
        assert bank.correlations is not None
        assert [axis.party for axis in bank.correlations.columns] == ["bank"] * 3 + ["card"] * 3
        known = np.array(bank.correlations.matrix, np.float64)
        expected = np.atleast_2d(np.corrcoef(numbers_of(finished, bank).T))
        assert np.abs(known[:3] - expected[:3]).max() < 1e-6
        assert np.isnan(known[3:, 3:][~np.eye(3, dtype=bool)]).all(), "how card's columns go together is card's"
        assert card.correlations is not None


def test_several_classes(tmp_path: Path) -> None:
    job = statistics_job(2, model="softmax", statistics=Measures(bins=4))
    finished = finish_job(job, tmp_path, people(2, rows=1200, model="softmax"))
    assert bit_exact(finished.simulation)
    bank, texts = finished.result("bank"), common_rows(finished)["bank"]
    column, y = bank.own[0], np.array(texts[OUTCOME])
    found = np.array(bins_of(column, texts[column.name]))
    for place, row in enumerate(bin_rows(bank, column)):
        assert {name: row[name] for name in bank.classes} == {
            name: int((y[found == place] == name).sum()) for name in bank.classes
        }
    assert len(bank.classes) == 4
    assert all(one.power is not None and one.power.iv is not None for one in bank.partners)


def test_an_opening_that_cannot_be_ends_the_job(tmp_path: Path) -> None:
    """Nobody is blamed, since the helper's words or a party's may be wrong, and no result is left."""

    def alter(message: Message) -> Message:
        return Cells(words=message.words + np.uint64(1)) if isinstance(message, Cells) else message

    finished = finish_job(statistics_job(2), tmp_path, people(2), alter=alter)
    failures = {party: run.status().failure for party, run in finished.simulation.runs.items()}
    assert {(one.code, one.culprit) for one in failures.values() if one} == {("statistics.opened", "undecided")}
    assert [*tmp_path.rglob("statistics.json")] == []


@pytest.mark.parametrize(("party", "said", "instead"), [("bank", 2, 0), ("bank", 2, 3), ("card", 0, 2)])
def test_classes_that_are_not_the_labels_are_refused(tmp_path: Path, party: str, said: int, instead: int) -> None:
    """As an amount a label of classes could choose few rows and learn their bins."""

    counts = OwnColumns.counts

    def announce(columns: OwnColumns, classes: int) -> BinCounts:
        return counts(columns, instead if classes == said else classes)

    with mock.patch.object(OwnColumns, "counts", announce):
        finished = finish_job(statistics_job(2), tmp_path, people(2))
    failures = {name: run.status().failure for name, run in finished.simulation.runs.items()}
    assert {(one.code, one.culprit) for one in failures.values() if one} == {("job.terms", party)}
    assert not any(isinstance(message, MaskedBins) for _, message in finished.ear.said)


@pytest.mark.parametrize("change", [-1.0, 0.0])
def test_labels_that_are_no_amounts_are_refused(tmp_path: Path, change: float) -> None:
    """A training of such a model would refuse them too."""
    tables = people(2, model="gamma")
    tables["bank"][OUTCOME] = [repr(change * float(text)) for text in tables["bank"][OUTCOME]]
    finished = finish_job(statistics_job(2, model="tweedie"), tmp_path, tables)
    failure = finished.simulation.label_run.failure
    assert failure is not None
    assert (failure.code, failure.culprit) == ("table.label", "bank")


@pytest.mark.parametrize("flags", [["1"], ["0"]], ids=["all", "none"])
def test_a_column_must_hold_out_some_rows_and_leave_some(tmp_path: Path, flags: list[str]) -> None:
    """As in a training; there is nothing to count in none."""
    job, tables = statistics_job(2, evaluation=Evaluation(holdout_column="test")), people(2)
    tables["bank"]["test"] = flags * len(tables["bank"][PERSON])
    settings = settings_of(job, tmp_path)
    table = settings["bank"].tables["people"].model_copy(update={"holdouts": ("test",)})
    settings["bank"] = settings["bank"].model_copy(update={"tables": {"people": table}})
    finished = finish_job(job, tmp_path, tables, settings)
    failure = finished.simulation.label_run.failure
    assert failure is not None
    assert (failure.code, failure.culprit) == ("job.holdout", finished.simulation.label_run.job.submitter)


def test_a_job_that_sends_too_much_is_refused(tmp_path: Path) -> None:
    """The refusal names the party that can use fewer bins; then again, a message may be too large for one party."""
    with mock.patch("tercet.agents.statistics.limits.MOST_BITS", 1000):
        failure = finish_job(statistics_job(2), tmp_path, people(2)).simulation.label_run.failure
    assert failure is not None
    assert (failure.code, "card has 35 bins" in failure.reason) == ("job.plan", True)
    job = statistics_job(2, statistics=Measures(bins=100, least=1))
    settings = settings_of(job, tmp_path, limits=Limits(min_rows=1, min_cell=1, message_mib=1))
    failure = finish_job(job, tmp_path, people(2), settings).simulation.label_run.failure
    assert failure is not None
    assert (failure.code, "bins of card" in failure.reason) == ("job.batch", True)


def test_the_pass_alone_is_progress(tmp_path: Path) -> None:
    """The check after it counts cells, from 0 again."""
    with mock.patch.object(Statistics, "note_step", autospec=True) as counted:
        finished = finish_job(statistics_job(2), tmp_path, people(2))
    side = finished.simulation.runs["bank"].reached
    assert isinstance(side, Counting)
    assert counted.call_count == len(finished.job.parties) * sum(1 for _ in side.context.plan.steps())


def test_a_label_party_without_columns_learns_of_its_partners(tmp_path: Path) -> None:
    tables = people(2)
    tables["bank"] = {name: tables["bank"][name] for name in (PERSON, OUTCOME)}
    finished = finish_job(statistics_job(2), tmp_path, tables)
    assert bit_exact(finished.simulation)
    assert (finished.result("bank").own, len(finished.result("bank").partners)) == ((), 4)
