"""A released whole model scores by itself what Tercet's own prediction says of the same rows, from any of its files.

Each model is trained and applied by the same agents in one folder; then the label party scores alone.
"""

import json
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.metrics import get_scorer
from typer.testing import CliRunner

import tercet.mpc.plan.planner
from tercet.agents.cli.app import app
from tercet.agents.cli.runner import UNUSABLE_FILE
from tercet.agents.evaluation.metrics import OF_CLASSES
from tercet.agents.models import model_part
from tercet.agents.models.export import export_model
from tercet.agents.models.model_part import ModelPartProblem
from tercet.agents.models.onnx_model import onnx_model
from tercet.agents.models.scorer import Classifier, Regressor, UnseenCategories, load
from tercet.agents.simulation.simulate import bit_exact
from tercet.mpc.arithmetic.fixed import Floats
from tercet.mpc.functions.hidden import HIDDEN
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import EarlyStopping, Evaluation, Network
from tercet.tables.core.problem import TableProblem
from tests.agents.recording import Tables, hear, hear_prediction
from tests.agents.roles.test_prediction import newcomers, people, scores_of
from tests.agents.world import CLASSES, OUTCOME, PERSON, Sample

pytestmark = pytest.mark.filterwarnings("ignore::tercet.agents.models.scorer.UnseenCategories")  # newcomers have some


def small(model: str, rate: float = 0.3, **more: Any) -> Sample:
    """A job that releases its model to the label party."""
    fields: dict[str, Any] = {"columns": (4, 3), "rows": 120, "epochs": 1, "rate": rate, "label": 1, "release": "label"}
    return Sample(**(fields | {"model": model} | more))


def network(output: str, activation: str, *hidden: int, rate: float = 0.3, **more: Any) -> Sample:
    """The same for a multilayer perceptron."""
    layers = Network.model_validate({"hidden": hidden, "activation": activation, "output": output})
    return small("mlp", rate, network=layers, **({"epochs": 2} | more))


SAMPLES = {
    "logistic": small("logistic", columns=(3, 2, 3), l2=0.05),
    "linear": small("linear", label=0),
    "softmax": small("softmax", columns=(3, 2, 3), label=2),
    "one-vs-rest": small("one-vs-rest", 0.5),
    "poisson": small("poisson", 0.05, l2=0.02),
    "gamma": small("gamma", 0.05, columns=(0, 4), label=0),
    "network": network("logistic", "relu", 8, 6),
    "network of classes": network("softmax", "gelu", 7, epochs=5),
    "network of counts": network("poisson", "softplus", 5, rate=0.02),
    "network of numbers": network("linear", "tanh", 6, rate=0.1, columns=(4, 0)),
}


class Trained:
    """A model, what Tercet says of new rows, and these rows in one table."""

    def __init__(self, sample: Sample, folder: Path, **more: Any) -> None:
        self.sample = sample
        run = hear(sample, folder, tables=people(sample, sample.rows, 1), **more)
        assert bit_exact(run.simulation)
        self.parts = {party: run.simulation.runs[party].model_part for party in sample.parties}
        tables = newcomers(sample)
        self.scores = scores_of(hear_prediction(sample, folder, tables).simulation)
        self.table = together(tables, self.scores["id"].to_pylist())

    @property
    def part(self) -> Path:
        """The label party's."""
        folder = self.parts[self.sample.parties[self.sample.label]]
        assert folder is not None
        return folder

    @property
    def links(self) -> list[str]:
        """The columns of scores that Tercet's file has, beside the id."""
        return [name for name in self.scores.column_names if name != "id"]


def together(tables: Tables, ids: list[str]) -> dict[str, list[str]]:
    """All parties' columns of these rows."""
    whole: dict[str, list[str]] = {}
    for table in tables.values():
        place = {one: row for row, one in enumerate(table[PERSON])}
        whole |= {name: [values[place[one]] for one in ids] for name, values in table.items() if name != PERSON}
    return whole


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """A network's scores have noise of its hidden layers, which would hide how close a scorer comes to them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tercet.mpc.plan.planner, "noise_bits_of", lambda _: 24)
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Callable[[str], Trained]:
    """Trains each of them once."""
    return cache(lambda name: Trained(SAMPLES[name], tmp_path_factory.mktemp("scorer")))


@pytest.fixture(scope="module", params=SAMPLES)
def trained(request, models: Callable[[str], Trained]) -> Trained:
    """One model of each link, and networks."""
    return models(request.param)


@pytest.fixture(scope="module")
def classes(models: Callable[[str], Trained]) -> Trained:
    """One of several classes, for what does not depend on the link."""
    return models("softmax")


def check_as_predicted(trained: Trained, scorer: Any, table: Any) -> None:
    """Within 1e-4 of Tercet's file, in units of the label's deviation where it has some.

    A network's within 1e-3: a hidden activation between two words of 13 bits may round to either.
    """
    within = 1e-4 if trained.sample.network is None else 1e-3
    found = {name: trained.scores[name].to_numpy(zero_copy_only=False) for name in trained.links}
    scores = scorer.scores(table)
    assert scores.shape == (len(trained.scores), len(CLASSES) if "class" in found else 1)
    if "class" in found:
        chances = np.column_stack([found[f"probability_{name}"] for name in scorer.classes_])
        assert np.allclose(scorer.predict_proba(table), chances, rtol=0, atol=within)
        assert scorer.predict(table).tolist() == found["class"].tolist()
        return
    unit = max(1.0, float(np.std(found["score"]))) if trained.links == ["score"] else 1.0
    assert np.allclose(scores[:, 0], found["score"], rtol=0, atol=within * unit)
    assert np.std(scores) > 0.02
    if "probability" in found:
        assert np.allclose(scorer.predict_proba(table)[:, 1], found["probability"], rtol=0, atol=within)
    else:
        assert np.allclose(scorer.predict(table), found[trained.links[-1]], rtol=2 * within)


def test_scores_are_those_of_tercets_own_prediction(trained):
    """Categories, gaps, values beyond all that was trained on, categories that nobody has seen."""
    check_as_predicted(trained, load(trained.part), trained.table)


def test_one_file_says_the_same_without_the_part(trained, tmp_path):
    """To the last bit, and for its owner's eyes only."""
    out = tmp_path / "model.safetensors"
    out.write_bytes(b"of an earlier export")
    export_model(trained.part, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    whole, alone = load(trained.part), load(out)
    assert whole.model.description == alone.model.description
    assert np.array_equal(whole.scores(trained.table), alone.scores(trained.table))


def onnx_outputs(path: Path, encoded: Floats) -> tuple[Any, NDArray[Any], NDArray[Any]]:
    """What another program makes of the file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    scores, predictions = session.run(["scores", "predictions"], {"columns": encoded})
    return session.get_modelmeta().custom_metadata_map, scores, predictions


def check_onnx(scorer: Any, path: Path, encoded: Floats) -> None:
    """Scores, and probabilities or means."""
    reported, scores, predictions = onnx_outputs(path, encoded)
    assert np.allclose(scores, scorer.scores(encoded), rtol=1e-9, atol=1e-9)
    said = scorer.predict_proba(encoded) if is_classifier(scorer) else scorer.predict(encoded)[:, np.newaxis]
    assert np.allclose(predictions, said, rtol=1e-9, atol=1e-9)
    assert reported["link"] == scorer.model.description.link


def test_so_does_an_onnx_file_from_encoded_columns_on(trained, tmp_path):
    """In float64, rounded as in training; long rows are clipped there, too."""
    out, scorer = tmp_path / "model.onnx", load(trained.part)
    export_model(trained.part, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    encoded = scorer.encode(trained.table)
    check_onnx(scorer, out, encoded)
    check_onnx(scorer, out, 20 * encoded)


@pytest.mark.parametrize("activation", HIDDEN)
def test_every_hidden_activation_has_its_onnx_nodes(activation, models, tmp_path):
    """The same weights with another activation are other scores, and the file's are those."""
    trained, out = models("network"), tmp_path / "model.onnx"
    scorer = load(trained.part)
    about = scorer.model.description
    assert about.network is not None
    layers = about.network.model_copy(update={"activation": activation})
    scorer.model = replace(scorer.model, description=about.model_copy(update={"network": layers}))
    out.write_bytes(onnx_model(scorer.model))
    check_onnx(scorer, out, 3 * scorer.encode(trained.table))


def test_whitened_columns_and_an_early_stop_change_nothing_of_it(tmp_path):
    """The directions travel with the encoding, and the model is that of the step that was kept."""
    sample = small("logistic", epochs=9, evaluation=Evaluation(loss=True), early_stopping=EarlyStopping(
        on="loss", patience=1, least_gain=0.02))  # fmt: skip
    trained = Trained(sample, tmp_path, reading={"whiten": True, "rare": 30, "clip": 3.0})
    assert model_part.load(trained.part)[0].steps < 9 * 3
    scorer = load(trained.part)
    assert all(one.encoding.whitening is not None for one in scorer.model.description.columns)
    check_as_predicted(trained, scorer, trained.table)
    check_whitened_onnx(trained, scorer, tmp_path / "model.onnx")


def check_whitened_onnx(trained: Trained, scorer: Any, path: Path) -> None:
    """Give the file columns that somebody can make who has never heard of whitening: the scores are the same."""
    export_model(trained.part, path)
    plain = load(trained.part)
    columns = tuple(
        one.model_copy(update={"encoding": one.encoding.model_copy(update={"whitening": None})})
        for one in plain.model.description.columns
    )
    plain.model = replace(plain.model, description=plain.model.description.model_copy(update={"columns": columns}))
    encoded = plain.encode(trained.table)
    reported, scores, _ = onnx_outputs(path, encoded)
    assert json.loads(reported["columns"]) == [f"{c.party}/{n}" for c in columns for n in c.encoding.column_names]
    word = 2.0**-scorer.model.description.fx  # a product that another library adds up may be rounded to the next one
    near = word * max(float(np.abs(block).sum()) for block in scorer.model.blocks)
    found, expected = scores, scorer.scores(trained.table)
    assert np.allclose(found, expected, rtol=1e-9, atol=near)
    assert np.mean(np.isclose(found, expected, rtol=1e-9, atol=1e-9)) > 0.99


# --- as scikit-learn's estimators are


def test_tables_may_be_mappings_arrow_or_anything_that_becomes_arrow_and_arrays_are_encoded(classes):
    """With values as texts, or as numbers; columns in any order, and others among them."""
    scorer = load(classes.part)
    expected = scorer.scores(classes.table)
    table = pa.table({"unused": [0.0] * len(expected)} | dict(reversed(classes.table.items())))

    class Frame:
        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return table.__arrow_c_stream__(requested_schema)

    numbers = {
        name: np.array([float(text or "nan") for text in texts]) if "quantity" in name else texts
        for name, texts in classes.table.items()
    }
    full = {f"{name.partition('_')[0]}/{name}": values for name, values in classes.table.items()}
    for other in (table, table.combine_chunks(), Frame(), numbers, full, scorer.encode(table)):
        assert np.array_equal(scorer.scores(other), expected)
    assert np.array_equal(scorer.scores(scorer.encode(table).tolist()), expected)
    assert scorer.scores(table.slice(0, 0)).shape == (0, len(CLASSES))


def test_a_scorer_is_an_estimator(trained):
    """Of its kind, named, cloned, and measured by scikit-learn's own scorers."""
    scorer = load(trained.part)
    of_classes = trained.sample.link in {"logistic", *OF_CLASSES}
    assert (is_classifier(scorer), is_regressor(scorer)) == (of_classes, not of_classes)
    assert isinstance(scorer, Classifier if of_classes else Regressor)
    assert scorer.fit() is scorer
    assert clone(scorer) is scorer
    assert len(scorer.feature_names_in_) == scorer.n_features_in_ == scorer.encode(trained.table).shape[1]
    assert set(scorer.columns_in_) == {f"{name.partition('_')[0]}/{name}" for name in trained.table}
    assert "FullModel" in repr(scorer)
    assert "[" not in repr(scorer)  # no weight
    people_ = people(trained.sample, 150, 3)
    table = together(people_, people_["bank"][PERSON])
    labels = table.pop(OUTCOME)
    truth = np.array(labels if trained.sample.link in OF_CLASSES else [float(label) for label in labels])
    named = {"logistic": "roc_auc", "linear": "r2"} | dict.fromkeys(OF_CLASSES, "roc_auc_ovr")
    metric = named.get(trained.sample.link)
    if metric is not None:
        assert get_scorer(metric)(scorer, table, truth) > (0.6 if of_classes else 0.2)
    if of_classes:
        assert scorer.score(table, truth) > 1 / len(scorer.classes_)
        decided = scorer.decision_function(table)
        shape = (150,) if trained.sample.link == "logistic" else (150, len(CLASSES))
        assert decided.shape == shape
        assert np.allclose(scorer.predict_proba(table).sum(axis=1), 1)


def test_what_a_table_lacks_or_has_twice_is_named(classes):
    """And so is what cannot be read."""
    scorer, table = load(classes.part), dict[str, Any](classes.table)
    rows = len(next(iter(table.values())))
    lacking = {name: values for name, values in table.items() if name != "card_quantity_1"}
    with pytest.raises(TableProblem, match="lacks 'card/card_quantity_1'"):
        scorer.predict(lacking)
    twice = pa.table([*table.values(), table["bank_housing"]], names=[*table, "bank_housing"])
    with pytest.raises(TableProblem, match="'bank_housing' stands there more than once"):
        scorer.predict(twice)
    cells: list[tuple[Any, str]] = [
        (["many"] * rows, f"has {rows} values other than numbers"),
        ([float("inf")] * rows, f"has {rows} values that are not finite"),
        ([[1]] * rows, "cannot be read as numbers"),
    ]
    for wrong, what in cells:
        with pytest.raises(TableProblem, match=f"'bank_quantity_0' of bank's columns .*{what}"):
            scorer.predict(table | {"bank_quantity_0": wrong})
    columns: list[list[Any]] = [[1.0], [1.0, "x"] * (rows // 2)]
    for column in columns:
        with pytest.raises(TableProblem, match="no table"):
            scorer.predict(table | {"bank_quantity_0": column})
    with pytest.raises(TableProblem, match="no table of raw columns"):
        scorer.encode([[1.0]])
    with pytest.raises(ValueError, match="encoded columns are due"):
        scorer.predict([[1.0]])
    with pytest.raises(ValueError, match="not a finite number"):
        scorer.predict(np.full((1, scorer.n_features_in_), np.nan))


# --- files


def test_unseen_categories_are_warned_of_and_a_column_of_nothing_else_is_refused(classes):
    """But for a few rows: a single customer may come from a new town."""
    party, column = classes.sample.parties[0], f"{classes.sample.parties[0]}_housing"
    scorer, rows = load(classes.part), len(classes.table[column])
    some = ["castle" if row % 4 == 0 else " owner " for row in range(rows)]
    with pytest.warns(UnseenCategories, match=rf"{party}'s column '{column}': \d+ of {rows} values were not there"):
        scorer.predict(classes.table | {column: some})
    with pytest.raises(TableProblem, match=f"no value of column '{column}' was there in training"):
        scorer.predict(classes.table | {column: ["castle"] * rows})
    one = {name: values[:1] for name, values in classes.table.items()} | {column: ["castle"]}
    with pytest.warns(UnseenCategories, match="1 of 1 values"):
        scorer.predict(one)


def test_only_the_label_partys_part_is_a_whole_model(classes, tmp_path):
    """The others' say where it is."""
    other = classes.parts["bank"]
    with pytest.raises(ModelPartProblem, match=r"bank's part .* is not the whole model: it is in telco's part"):
        load(other)
    with pytest.raises(Invalid, match="it is in telco's part"):
        export_model(other, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_release_says_what_the_job_would_have_to_say(tmp_path):
    """Even the label party's."""
    sample = small("logistic", release="shared")
    run = hear(sample, tmp_path, tables=people(sample, sample.rows, 1)).simulation
    assert run.label_run.model_part is not None
    with pytest.raises(ModelPartProblem, match='its job says release = "shared"; train with release = "label"'):
        load(run.label_run.model_part)


def test_files_that_are_no_model_are_refused(classes, tmp_path):
    """Missing, other files, cut ones, other arrays, other names."""
    path = tmp_path / "model.safetensors"
    with pytest.raises(ModelPartProblem, match="exported file"):
        load(path)
    export_model(classes.part, path)
    content = path.read_bytes()
    part, arrays = model_part.load(classes.part)
    for other in (b"", b"text", content[:-8], content.replace(b"weights/bank", b"weights/rank")):
        path.write_bytes(other)
        with pytest.raises(ModelPartProblem, match=r"export (it|the model) again"):
            load(path)
    for name, change in (("name.txt", "name the file"), ("nowhere/name.onnx", "No such file")):
        with pytest.raises(Invalid, match=change):
            export_model(classes.part, tmp_path / name)
    assert part.whole
    assert "weights/bank" in arrays


def test_without_its_library_there_is_no_onnx_file_and_a_word_on_how_to_get_it(classes, tmp_path, monkeypatch):
    """It is not among what everybody installs."""
    monkeypatch.setitem(sys.modules, "tercet.agents.models.onnx_model", None)
    with pytest.raises(Invalid, match=r"pip install 'tercet\[onnx\]'"):
        export_model(classes.part, tmp_path / "model.onnx")


def test_the_command_writes_the_file_and_says_whose_it_is(classes, tmp_path):
    """Or what is wrong, with the exit code of files."""
    out = tmp_path / "model.safetensors"
    reported = CliRunner().invoke(app, ["export", str(classes.part), "--out", str(out)])
    assert reported.exit_code == 0, reported.output
    assert "it stays with you" in reported.output
    assert load(out).model.description.job == classes.part.name
    reported = CliRunner().invoke(app, ["export", str(classes.parts["bank"]), "--out", str(out)])
    assert reported.exit_code == UNUSABLE_FILE
    assert "not the whole model" in " ".join(reported.output.split())
