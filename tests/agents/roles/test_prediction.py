"""Scores of new rows are those of the released weights on the plaintext, and the label party alone has them.

Each model is trained and applied by the same agents in one folder, as a company would do it.
"""

import asyncio
import atexit
import json
import shutil
import stat
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from tercet.agents.evaluation.metrics import OF_CLASSES, class_probabilities
from tercet.agents.models import model_part
from tercet.agents.models.model_part import MANIFEST, ModelPart
from tercet.agents.reports.build import Result, report_data
from tercet.agents.simulation.simulate import Simulation, bit_exact, simulate_job
from tercet.mpc.arithmetic.fixed import CLIP, Floats, clip_rows, decode, encode_features
from tercet.mpc.arithmetic.ring import total
from tercet.schemas.files.job import EarlyStopping, Evaluation, PredictionJob, TrainingJob
from tercet.schemas.messages.kinds import PartialScores, Pseudonyms, Scores
from tercet.tables.encoding.categorical import CategoricalColumn
from tests import virtual_time
from tests.agents.disclosure import (
    check_amounts,
    check_helpers_view,
    check_keys,
    check_ledger,
    check_masks_once,
    check_roles,
    check_said,
    check_sealed,
    check_uniform,
)
from tests.agents.recording import Heard, Tables, hear, hear_prediction, prediction_of, settings_of
from tests.agents.world import CLASSES, HELPER, LIMIT_SECONDS, OUTCOME, PERSON, Sample, labels, write_table

CHECKS = [
    check_roles,
    check_amounts,
    check_helpers_view,
    check_ledger,
    check_said,
    check_masks_once,
    check_sealed,
    check_keys,
]


def people(sample: Sample, rows: int, seed: int, *, blank: float = 0.08) -> dict[str, dict[str, list[str]]]:
    """Tables with numbers, a category and gaps, all rows of all parties; the label depends on every column."""
    rng, truth = np.random.default_rng(seed), np.random.default_rng(0)  # the same truth behind all tables
    ids, score, tables = [f"{seed}-customer-{n:05d}" for n in rng.permutation(90_000)[:rows]], np.zeros(rows), {}
    for party, columns in zip(sample.parties, sample.columns, strict=True):
        numbers = rng.normal(40, 9, (rows, columns))
        kinds = rng.choice(["owner", "tenant", "lodger"], rows)
        if not columns:  # labels alone
            tables[party] = {PERSON: ids}
            continue
        score += (numbers - 40) / 9 @ truth.normal(0, 0.7, columns) + (kinds == "owner") * truth.normal()
        table = {f"{party}_quantity_{k}": [repr(float(x)) for x in numbers[:, k]] for k in range(columns)}
        table[f"{party}_housing"] = [str(kind) for kind in kinds]
        for values in table.values():
            values[:] = [value if rng.random() > blank else "" for value in values]
        tables[party] = {PERSON: ids, **table}
    tables[sample.parties[sample.label]][OUTCOME] = labels(sample.link, score, rng)
    return tables


def newcomers(sample: Sample, rows: int = 60, seed: int = 7) -> dict[str, dict[str, list[str]]]:
    """Rows to score: each party's in an order of its own, some at one party only; values nobody has seen."""
    rng, tables = np.random.default_rng(seed), {}
    for number, (party, whole) in enumerate(people(sample, rows + 10, seed).items()):
        table = {name: list(values) for name, values in whole.items() if name != OUTCOME}
        if f"{party}_housing" in table:
            table[f"{party}_housing"][number:rows:11] = ["castle"] * len(range(number, rows, 11))
        if f"{sample.parties[0]}_quantity_0" in table:
            table[f"{party}_quantity_0"][20] = "1e9"  # far outside what was trained on: clipped, as it would have been
        order = [row for row in rng.permutation(rows + 10) if row < rows - 3 * number or row == rows + number]
        tables[party] = {name: [values[row] for row in order] for name, values in table.items()}
    return tables


def trained(sample: Sample, folder: Path, **more: Any) -> Heard:
    """A model, whose parts are in the folder; of one sample they are copies of those that were trained once."""
    if not more:
        run, place = _trained(sample)
        shutil.copytree(place, folder, dirs_exist_ok=True)
        return run
    run = hear(sample, folder, tables=people(sample, sample.rows, 1), **more)
    assert bit_exact(run.simulation)
    return run


@cache
def _trained(sample: Sample) -> tuple[Heard, Path]:
    place = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, place)
    return trained(sample, place, reading={}), place


def plain_scores(folder: Path, sample: Sample, tables: Tables) -> dict[str, Floats]:
    """By id of the label party's table: what all parts together say, (outputs,), worked out from the files alone."""
    parts = {party: model_part.load(folder / party / "models" / sample.description().id) for party in sample.parties}
    everywhere = set.intersection(*(set(table[PERSON]) for table in tables.values()))
    sums: dict[str, Any] = dict.fromkeys(everywhere, 0.0)
    for party, (part, arrays) in parts.items():
        plain = encoded(part, tables[party])
        weights = arrays.get("weights", weight(parts, f"shares/{party}"))
        for one, score in zip(tables[party][PERSON], as_scored(part, plain) @ weights, strict=True):
            if one in sums:
                sums[one] = sums[one] + score
    part, arrays = parts[sample.parties[sample.label]]
    intercept = arrays["intercept"] if part.release == "owners" else weight(parts, "shares/intercept") / part.alpha
    scaling = part.label_scaling
    shifted = {one: score + intercept[0] for one, score in sums.items()}
    if scaling is None:
        return shifted
    if scaling.log:
        return {one: np.log(scaling.scale) + score for one, score in shifted.items()}
    return {one: scaling.mean + scaling.scale * score for one, score in shifted.items()}


def encoded(part: ModelPart, texts: Mapping[str, list[str]]) -> Floats:
    """A table as the manifest says, column by column: numbers standardised, a 1 for a category or a gap."""
    columns = []
    for column in part.encoding.columns:
        cells, gap = texts[column.name], np.array([not text for text in texts[column.name]], float)
        if isinstance(column, CategoricalColumn):
            columns += [np.array([cell == category for cell in cells], float) for category in column.categories]
            columns += [gap] if column.missing else []
        else:
            number = (np.array([float(cell or column.mean) for cell in cells]) - column.mean) / column.scale
            columns += [np.clip(number, -CLIP, CLIP), *([gap] if column.missing else [])]
    whitening = part.encoding.whitening
    plain: Floats = np.column_stack(columns) if columns else np.empty((len(texts[PERSON]), 0))
    return plain if whitening is None else whitening.apply(plain, CLIP)


def as_scored(part: ModelPart, encoded: Floats) -> Floats:
    """Rows clipped as in training; where weights stay shared, with the fractional bits that the plan has for them."""
    if part.release == "owners":
        return clip_rows(np.clip(encoded, -CLIP, CLIP), part.norm)
    bits = int(str(part.plan["fx"]))
    return decode(encode_features(encoded, part.norm, bits), bits)


def weight(parts: Mapping[str, Any], name: str) -> Floats:
    """What shares of one block add up to, as numbers; nothing where there are none."""
    shares = [arrays[name] for _, arrays in parts.values() if name in arrays]
    if not shares:
        return np.empty((0, 1))
    part = next(iter(parts.values()))[0]
    numbers: Floats = part.alpha * decode(total(shares), part.plan["fx"] + part.plan["f"])
    return numbers


def scores_of(run: Simulation) -> pa.Table:
    """The file at the label party."""
    path = run.label_run.scores
    assert path is not None
    return csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)


def check_scores(run: Heard, folder: Path, tables: Tables) -> None:
    """All rows that every party has, in the order of the label party's table, with the plaintext's scores."""
    check_reported(run, tables, plain_scores(folder, run.sample, tables))


def check_reported(run: Heard, tables: Tables, expected: Mapping[str, Floats]) -> None:
    """The same against scores by id, (outputs,)."""
    sample, found = run.sample, scores_of(run.simulation)
    mine = [one for one in tables[sample.parties[sample.label]][PERSON] if one in expected]
    assert found["id"].to_pylist() == mine
    scores = np.array([expected[one] for one in mine])
    # A hidden activation between two words of 13 bits may round to either, as its noise has it.
    within = 1e-4 if sample.network is None else 1e-3
    if sample.link in OF_CLASSES:
        check_classes(found, class_probabilities(sample.link, scores), within)
        return
    unit = float(np.std(scores)) if sample.link == "linear" else 1.0
    assert np.allclose(found["score"].to_numpy(), scores[:, 0], rtol=0, atol=within * max(1, unit))
    assert found.column_names == {
        "linear": ["id", "score"],
        "logistic": ["id", "score", "probability"],
    }.get(sample.link, ["id", "score", "mean"])
    if sample.link == "logistic":
        chances = 1 / (1 + np.exp(-found["score"].to_numpy()))
        assert np.allclose(found["probability"].to_numpy(), chances, rtol=0, atol=1e-12)
    elif sample.link != "linear":
        assert np.allclose(found["mean"].to_numpy(), np.exp(found["score"].to_numpy()), rtol=1e-12)
    assert np.std(found["score"].to_numpy()) > 0.1


def check_classes(found: pa.Table, expected: Floats, within: float) -> None:
    """The most probable class by its name, and a column with the probability of each."""
    names = sorted(CLASSES)
    assert found.column_names == ["id", "class", *(f"probability_{name}" for name in names)]
    chances = np.array([found[f"probability_{name}"].to_numpy() for name in names]).T
    assert np.allclose(chances, expected, rtol=0, atol=within)
    assert found["class"].to_pylist() == [names[place] for place in chances.argmax(axis=1)]
    assert len(set(found["class"].to_pylist())) > 1


# --- scores


SAMPLES = [
    Sample((4, 3), rows=120, epochs=1, rate=0.3, label=0, release="shared", alignment="ecdh"),
    Sample((3, 2, 3), rows=120, epochs=1, rate=0.3, label=2, model="linear", l2=0.1),
    Sample((3, 2, 3), rows=120, epochs=1, rate=0.3, label=1, release="shared", l2=0.1),
    Sample((3, 2, 3), rows=120, epochs=1, rate=0.3, label=1, model="softmax", release="shared", l2=0.1),
    Sample((0, 4), rows=120, epochs=1, rate=0.3, release="shared", l2=0.1),
    Sample((4, 3), rows=120, epochs=1, rate=0.3, label=1, model="one-vs-rest"),
    Sample((3, 2, 3), rows=120, epochs=1, rate=0.15, label=1, model="poisson"),
    Sample((4, 0), rows=120, epochs=1, rate=0.15, label=1, model="gamma"),  # of the label party ids alone
]


@pytest.mark.sealed
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda one: f"{len(one.columns)} {one.model} {one.release}")
def test_scores_are_those_of_the_plaintext_and_nobody_sees_more_than_promised(sample, tmp_path):
    """Other orders, rows that one party lacks, unseen categories, gaps; what anybody received is in the ledger.

    The label party alone has scores, and only its user may read them.
    """
    format_ = "parquet" if sample.model == "logistic" else "csv"
    trained(sample, tmp_path)
    tables = newcomers(sample)
    run = hear_prediction(sample, tmp_path, tables, format_=format_)
    check_scores(run, tmp_path, tables)
    for check in CHECKS:
        check(run)
    kind, label = PartialScores if sample.release == "owners" else Scores, sample.parties[sample.label]
    assert {address.receiver for address, message in run.ear.said if isinstance(message, kind)} == {label}
    path = run.simulation.runs[label].scores
    assert path is not None
    assert path == tmp_path / label / "predictions" / run.job.id / f"scores.{format_}"
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    assert list(tmp_path.rglob("scores.*")) == [path]
    assert not any((tmp_path / party / "predictions").exists() for party in run.simulation.runs if party != label)
    assert all(one.scores is None for party, one in run.simulation.runs.items() if party != label)
    assert not any(list((tmp_path / party / "work").glob("*")) for party in run.simulation.runs)


@pytest.mark.parametrize("sample", [SAMPLES[1], SAMPLES[3]], ids=lambda one: f"{one.model} {one.release}")
def test_words_of_a_prediction_are_uniform(sample, tmp_path):
    """Partial scores under the zero share, and everything of a forward pass, with enough rows to count."""
    trained(sample, tmp_path)
    run = hear_prediction(sample, tmp_path, newcomers(sample, 260))
    check_uniform(run)
    check_masks_once(run)
    reported = {type(message) for address, message in run.ear.said if address.receiver == HELPER}
    if sample.release == "owners":
        assert {kind for kind in reported if kind.round not in {"control", "handshake"}} == {Pseudonyms}


def test_a_lone_partner_of_a_label_party_without_columns_ranks_as_the_model_does(tmp_path):
    """By release = "owners" it has all weights but the intercept; every party is warned of it."""
    sample = Sample((0, 4), rows=120, epochs=1, rate=0.3)
    run = trained(sample, tmp_path)
    tables = newcomers(sample)
    scores = plain_scores(tmp_path, sample, tables)
    part, arrays = model_part.load(tmp_path / "card" / "models" / sample.description().id)
    alone = as_scored(part, encoded(part, tables["card"])) @ arrays["weights"]
    apart = [scores[one] - score for one, score in zip(tables["card"][PERSON], alone, strict=True) if one in scores]
    assert len(apart) > 30
    assert np.ptp(apart) < 1e-9
    for one in run.simulation.runs.values():
        assert any("customers can be ranked without bank" in text for text in one.status().warnings)


def test_partial_scores_without_the_zero_share_are_noticed(tmp_path, monkeypatch):
    """Each party's part would be an equation for its columns; the scores come out right all the same."""
    sample = SAMPLES[1]
    trained(sample, tmp_path)
    monkeypatch.setattr(
        "tercet.agents.roles.prediction.zero_share", lambda me, masks, step, shape: np.zeros(shape, np.uint64)
    )
    run = hear_prediction(sample, tmp_path, newcomers(sample, 200))
    check_scores(run, tmp_path, run.tables)
    for check in (check_ledger, check_uniform):
        with pytest.raises(AssertionError):
            check(run)


STOPPING = {
    "evaluation": Evaluation(holdout=0.3, metrics="epoch", loss=True),
    "early_stopping": EarlyStopping(on="loss", patience=1, least_gain=0.05),
}


@pytest.mark.parametrize("release", ["owners", "shared"])
def test_a_prediction_uses_the_model_that_early_stopping_kept(release, tmp_path):
    """Not the one of the last step; with a penalty, whose alpha is that of the kept step."""
    sample = Sample((4, 3), rows=160, epochs=9, rate=0.3, release=release, l2=0.1, **STOPPING)  # type: ignore[arg-type]
    run = trained(sample, tmp_path)
    part, _ = model_part.load(tmp_path / "card" / "models" / sample.description().id)
    steps = run.label.context.statistics.step
    assert part.steps == steps - run.plan.steps_per_epoch < run.plan.steps_total
    assert part.alpha == run.plan.alpha_after(part.steps) != run.plan.last_alpha
    tables = newcomers(sample)
    check_scores(hear_prediction(sample, tmp_path, tables), tmp_path, tables)


@pytest.mark.parametrize("release", ["owners", "shared"])
def test_scores_of_a_whitened_model(release, tmp_path):
    """As each is where nobody says otherwise, and no party learns of another's columns.

    The whitening goes with the part, whatever the settings say when rows are scored.
    """
    sample = Sample((4, 3), rows=120, epochs=1, rate=0.3, label=1, release=release)
    trained(sample, tmp_path, reading={"whiten": None})
    tables = newcomers(sample)
    run = hear_prediction(sample, tmp_path, tables)
    assert all(scored.part.encoding.whitening for scored in run.parts)
    check_scores(run, tmp_path, tables)


def test_held_out_rows_scored_anew_have_the_scores_of_the_evaluation(tmp_path):
    """Of a shared model, whose words are the same: a row's two scores differ by the noise words and a rounding."""
    sample = Sample((4, 3), rows=120, epochs=1, rate=0.3, release="shared", evaluation=Evaluation(holdout=0.4))
    run = trained(sample, tmp_path)
    again = scores_of(hear_prediction(sample, tmp_path, run.tables, reading={"rescoring": True}).simulation)
    scores = dict(zip(again["id"].to_pylist(), again["score"].to_pylist(), strict=True))
    role = run.label
    ids = [run.tables["bank"][PERSON][row] for row in role.own.rows[role.held_out]]
    assert role.context.history.scores is not None
    assert np.allclose([scores[one] for one in ids], role.context.history.scores, rtol=0, atol=3 * 2.0**-16)


def test_a_prediction_may_be_simulated_again_in_the_same_folder(tmp_path):
    """The rows that the one before has scored were nobody's."""
    sample = Sample((4, 3), rows=80)
    trained(sample, tmp_path)
    tables = newcomers(sample)
    first, second = (scores_of(hear_prediction(sample, tmp_path, tables).simulation) for _ in range(2))
    assert first == second


def test_scores_have_the_ids_of_the_label_partys_own_table(tmp_path):
    """Character for character, though white space and other forms of a sign do not count when ids are matched."""
    sample = Sample((4, 3), rows=80)
    trained(sample, tmp_path)
    tables = newcomers(sample)
    for party, (before, after) in {"bank": (" ", "\u00b2"), "card": ("", "2")}.items():
        tables[party] = tables[party] | {PERSON: [f"{before}{one}{after}" for one in tables[party][PERSON]]}
    both = {one.strip()[:-1] for one in tables["bank"][PERSON]} & {one[:-1] for one in tables["card"][PERSON]}
    found = scores_of(hear_prediction(sample, tmp_path, tables).simulation)["id"].to_pylist()
    assert found == [one for one in tables["bank"][PERSON] if one.strip()[:-1] in both]


# --- refusals


@pytest.fixture(params=[SAMPLES[6], SAMPLES[2]], ids=["owners", "shared"])
def either(request, tmp_path) -> tuple[Sample, Path]:
    """A trained model of three parties, and where it is."""
    trained(request.param, tmp_path / "copy")
    return request.param, tmp_path / "copy"


@pytest.fixture
def place(tmp_path) -> tuple[Sample, Path, Tables]:
    """One that stays shared, for what does not depend on that, and rows to score."""
    trained(SAMPLES[2], tmp_path / "copy")
    return SAMPLES[2], tmp_path / "copy", newcomers(SAMPLES[2])


def predict(sample: Sample, folder: Path, tables: Tables, job: PredictionJob | TrainingJob | None = None) -> Simulation:
    """An attempt to score tables."""
    settings = settings_of(sample, folder, {})
    for party, table in tables.items():
        write_table(folder / f"{party}.csv", table)

    async def attempt() -> Simulation:
        async with asyncio.timeout(LIMIT_SECONDS):
            return await simulate_job(job or prediction_of(sample), settings, folder)

    return virtual_time.run(attempt())


def refused(simulation: Simulation, code: str, culprit: str, *private: str) -> None:
    """The job failed everywhere for this reason; what is private is in the detail of its owner only."""
    failures = {run.failure.model_dump_json() for run in simulation.runs.values() if run.failure}
    assert {run.state for run in simulation.runs.values()} == {"failed"}
    assert len(failures) == 1
    failure = simulation.label_run.failure
    assert failure is not None
    assert (failure.code, failure.culprit) == (code, culprit)
    for party, run in simulation.runs.items():
        detail = run.detail or ""
        for secret in private:
            assert secret not in failure.reason
            assert (secret in detail) == (party == culprit), f"{party}: {detail}"
    assert not any(run.scores for run in simulation.runs.values())


def test_a_table_without_a_column_of_the_training_is_refused(place):
    """And one whose numbers have become text; all of them are named to their owner, none to the others."""
    sample, folder, tables = place
    del tables["telco"]["telco_quantity_0"]
    tables["telco"]["telco_quantity_1"] = ["many"] * len(tables["telco"][PERSON])
    refused(predict(sample, folder, tables), "table.unusable", "telco", "telco_quantity_0")
    tables = newcomers(sample)
    tables["telco"]["telco_quantity_1"] = ["many"] * len(tables["telco"][PERSON])
    refused(predict(sample, folder, tables), "table.unusable", "telco", "telco_quantity_1")


def test_a_column_none_of_whose_categories_is_known_is_refused_and_its_owner_alone_learns_which(place):
    """Another column of the same name, say."""
    sample, folder, tables = place
    tables["telco"]["telco_housing"] = ["castle" for _ in tables["telco"]["telco_housing"]]
    simulation = predict(sample, folder, tables)
    refused(simulation, "table.unusable", "telco", "telco_housing")
    assert "castle" not in str(simulation.runs["telco"].status().detail)


def test_categories_that_are_spelt_otherwise_change_no_score_and_unknown_ones_are_told_their_owner(place):
    """In status, and so at the end of the command, and in the report; the others hear nothing of it."""
    sample, folder, tables = place
    first = predict(sample, folder, tables)
    castles = tables["telco"]["telco_housing"].count("castle")
    for party, table in tables.items():
        table[f"{party}_housing"] = [f" {cell}\N{NO-BREAK SPACE}" for cell in table[f"{party}_housing"]]
    second = predict(sample, folder, tables)
    assert scores_of(first) == scores_of(second)
    for simulation in (first, second):
        reported = [warning for warning in simulation.runs["telco"].status().warnings if "telco" in warning]
        assert len(reported) == 1
        assert reported[0].startswith(f"column 'telco_housing': {castles} of ")
        others = [simulation.runs[party].status() for party in (*sample.parties, HELPER) if party != "telco"]
        assert "telco_housing" not in "".join(status.model_dump_json() for status in others)
        results = {party: run.reached for party, run in simulation.runs.items()}
        pages = {party: report_data(one, None) for party, one in results.items() if isinstance(one, Result)}
        assert {party for party, page in pages.items() if reported[0] in page.preprocessing} == {"telco"}


def test_an_id_that_stands_twice_is_refused(place):
    """Which of its rows should be scored?"""
    sample, folder, tables = place
    tables["bank"][PERSON][3] = tables["bank"][PERSON][5]
    simulation = predict(sample, folder, tables)
    refused(simulation, "table.unusable", "bank", PERSON)
    assert tables["bank"][PERSON][5] not in (simulation.runs["bank"].detail or "")


def test_nobody_in_common_is_refused(place):
    """There is nothing to score."""
    sample, folder, tables = place
    tables["card"][PERSON] = [f"another {number}" for number in range(len(tables["card"][PERSON]))]
    simulation = predict(sample, folder, tables)
    failure = simulation.label_run.failure
    assert failure is not None
    assert failure.code == "alignment.few"


def test_a_part_that_is_missing_or_damaged_is_its_partys_fault(place):
    """Where it should be is for that party alone to read."""
    sample, folder, tables = place
    party = "card"
    models = folder / party / "models" / sample.description().id
    weights = next(models.glob("weights-*"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(predict(sample, folder, tables), "model.missing", party, str(models))
    (models / MANIFEST).unlink()
    refused(predict(sample, folder, tables), "model.missing", party, str(models))
    shutil.rmtree(models)
    refused(predict(sample, folder, tables), "model.missing", party, str(models))


def test_a_part_of_another_run_is_refused(either, tmp_path):
    """Shares of two runs add up to nothing, and owned blocks of two models to no model."""
    sample, folder = either
    (tmp_path / "other").mkdir()
    hear(sample, tmp_path / "other", seed=5, tables=people(sample, sample.rows, 1))
    models = Path("telco") / "models" / sample.description().id
    shutil.rmtree(folder / models)
    shutil.copytree(tmp_path / "other" / models, folder / models)
    refused(predict(sample, folder, newcomers(sample)), "model.differs", "telco")


@pytest.mark.parametrize("changes", [{"label": "bank"}, {"tables": (("bank", "people"), ("card", "people"))}])
def test_a_job_with_other_parties_than_the_model_is_refused(place, changes):
    """Whoever wrote the job can mend it; a party that is left out would leave its columns out."""
    sample, folder, tables = place
    job = prediction_of(sample, **changes)
    refused(predict(sample, folder, tables, job), "model.parties", job.label)


def test_parts_that_differ_in_their_outputs_are_refused(either):
    """A part that was tampered with: its own digest, which covers them, is another."""
    sample, folder = either
    path = folder / "telco" / "models" / sample.description().id / MANIFEST
    content = json.loads(path.read_text())
    content["plan"]["request"]["outputs"] = 3
    name = "weights" if sample.release == "owners" else "opened/"
    refused(predict_with(content, path, either), "model.missing", "telco", f"'{name}")  # whose arrays do not fit
    content["plan"]["request"] |= {"outputs": 1, "rate": 0.7}
    refused(predict_with(content, path, either), "model.differs", "telco")


def predict_with(content: dict[str, Any], path: Path, place: tuple[Sample, Path]) -> Simulation:
    """An attempt with another manifest."""
    path.write_text(json.dumps(content))
    return predict(*place, newcomers(place[0]))


def test_a_job_may_name_the_parties_in_another_order(either):
    """Each part says how they were numbered when it was trained."""
    sample, folder = either
    tables = newcomers(sample)
    turned = tuple((party, "people") for party in reversed(sample.parties))
    simulation = predict(sample, folder, tables, prediction_of(sample, tables=turned))
    assert simulation.done, simulation.label_run.failure
    found, expected = scores_of(simulation), plain_scores(folder, sample, tables)
    scores = dict(zip(found["id"].to_pylist(), found["score"].to_pylist(), strict=True))
    assert scores.keys() == expected.keys()
    assert all(abs(scores[one] - expected[one][0]) < 1e-4 for one in expected)
