"""A model part comes back as it was saved, scores as it should, and is refused once anything in it has changed."""

import json
import os
import stat
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.agents.models import model_part
from tercet.agents.models.model_part import MANIFEST, ModelPart, ModelPartProblem, load, partial_scores, save
from tercet.mpc.arithmetic.fixed import clip_rows
from tercet.schemas.files.job import Network
from tercet.tables.core.problem import TableProblem
from tercet.tables.core.table import Table
from tercet.tables.encoding.encoding import Encoding
from tercet.tables.encoding.label import Classes, LabelScaling

TABLE = Table(
    name="customers",
    rows=3,
    columns=("age", "sex"),
    numeric={"age": np.array([20.0, 40.0, 60.0])},
    categorical={"sex": np.array(["f", "m", "f"], dtype=np.object_)},
)
ENCODING = Encoding.fit(lambda: [TABLE], clip=16.0, rare=0, whiten=False)
PLAN = {"fx": 13, "f": 26, "norms": [27.712812921102035, 32.0], "request": {"l2": 0.1, "outputs": 1}}
OF_THREE = PLAN | {"request": {"outputs": 3}}
CLASSES = Classes(names=("setosa", "versicolor", "virginica"))


def part(**changes) -> ModelPart:
    """The bank's manifest."""
    fields = {
        "job": "credit-default-0123abcd",
        "run": "1",
        "model": "logistic",
        "party": "bank",
        "label_party": "bank",
        "parties": ("bank", "card"),
        "release": "owners",
        "encoding": ENCODING,
        "columns": tuple(ENCODING.names),
        "plan": PLAN,
        "steps": 376,
        "alpha": 0.75,
        "score_exponent": 4,
        "intercept_holder": "bank",
        "created": datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
        "tercet": "0.1.0",
    }
    return ModelPart.model_validate(fields | changes)


def owned(weights=(0.5, -1.0, 2.0)):
    """Arrays of a released part."""
    column = np.array(weights)[:, None]
    words = column.view(np.uint64)  # any words will do
    return {
        "weights": column,
        "weight_words": words,
        "intercept": np.full((1, 1), 0.25),
        "intercept_words": np.full((1, 1), 2**64 - 1, dtype=np.uint64),
    }


SHARED = {
    "release": "shared",
    "seeds": ("0" * 64, "1" * 64),
    "plan": PLAN | {"request": {"l2": 0.1, "outputs": 1, "columns": [3, 2]}},
}


def shared():
    """Arrays of a part whose weights stayed shared."""
    return {
        "weight_mask_seed": np.array([[1, 2, 3, 4]], dtype=np.uint64),
        "opened/card": np.array([[7], [8], [9]], dtype=np.uint64),
        "shares/bank": np.array([[1], [2**64 - 1], [3]], dtype=np.uint64),
        "shares/card": np.array([[4], [5]], dtype=np.uint64),
        "shares/intercept": np.array([[6]], dtype=np.uint64),
    }


def assert_same(found, expected):
    """The same arrays to the last bit."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@given(
    weights=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
    l2=st.floats(allow_nan=False, allow_infinity=False),
    scaling=st.none()
    | st.builds(LabelScaling, mean=st.floats(-9, 9), scale=st.floats(1e-9, 9))
    | st.builds(LabelScaling, mean=st.just(0.0), scale=st.floats(1e-9, 9), clip=st.none(), log=st.just(True)),
)
def test_a_part_comes_back_as_it_was_saved(tmp_path_factory, weights, l2, scaling):
    """Every number of the manifest and every bit of the weights."""
    folder = tmp_path_factory.mktemp("part")
    changes = {"plan": PLAN | {"l2": l2}, "label_scaling": scaling}
    saved = save(folder, part(**changes), owned(weights))
    found, arrays = load(folder)
    assert found == saved
    assert found.model_copy(update={"weights_sha256": ""}) == part(**changes)
    assert_same(arrays, owned(weights))


def test_a_part_that_stayed_shared_comes_back_too_and_does_not_score(tmp_path):
    """One share alone says nothing."""
    saved = save(tmp_path, part(**SHARED), shared())
    found, arrays = load(tmp_path)
    assert found == saved
    assert_same(arrays, shared())
    with pytest.raises(ModelPartProblem, match="stayed shared"):
        partial_scores(found, arrays, TABLE)


def test_weights_in_any_memory_layout_are_saved_as_they_read(tmp_path):
    """safetensors writes the memory of an array, whatever its strides say."""
    wide = np.arange(12.0).reshape(3, 4)
    arrays = owned() | {"weights": wide[:, 1:2]}
    save(tmp_path, part(), arrays)
    assert load(tmp_path)[1]["weights"].tolist() == [[1], [5], [9]]


def test_partial_scores_are_encoded_columns_times_weights_and_the_holders_intercept():
    """Summed over the parties they are the pre-activation."""
    expected = ENCODING.apply(TABLE) @ np.array([0.5, -1.0, 2.0])
    assert partial_scores(part(), owned(), TABLE)[:, 0].tolist() == (expected + 0.25).tolist()
    elsewhere = part(intercept_holder="card", label_party="card")
    assert partial_scores(elsewhere, owned(), TABLE)[:, 0].tolist() == expected.tolist()
    short = part(intercept_holder="card", plan=PLAN | {"norms": [1.0, 32.0]})  # rows are as long as in training at most
    clipped = clip_rows(ENCODING.apply(TABLE), 1.0) @ np.array([0.5, -1.0, 2.0])
    assert partial_scores(short, owned(), TABLE)[:, 0] == pytest.approx(clipped)
    other = Table(name="t", rows=1, columns=("age",), numeric={"age": np.ones(1)}, categorical={})
    with pytest.raises(TableProblem, match="column 'sex' is not there"):
        partial_scores(part(), owned(), other)


def test_a_part_of_several_classes_has_a_column_for_each(tmp_path):
    """And scores for each; the label party's knows what they are called, as many as there are outputs."""
    rng = np.random.default_rng(1)
    weights, intercept = rng.normal(size=(3, 3)), rng.normal(size=(1, 3))
    arrays = {"weights": weights, "weight_words": weights.view(np.uint64)}
    arrays |= {"intercept": intercept, "intercept_words": intercept.view(np.uint64)}
    whole = part(model="softmax", plan=OF_THREE, classes=CLASSES)
    save(tmp_path, whole, arrays)
    found, read = load(tmp_path)
    assert (found.classes, found.outputs, found.link) == (CLASSES, 3, "softmax")
    np.testing.assert_allclose(partial_scores(found, read, TABLE), ENCODING.apply(TABLE) @ weights + intercept)
    with pytest.raises(ModelPartProblem, match="classes are not as many"):
        save(tmp_path / "other", part(model="softmax", classes=CLASSES), owned())
    with pytest.raises(ModelPartProblem, match="'weights' is not float64"):
        save(tmp_path / "other", whole, owned())


def test_a_networks_part_goes_by_its_output():
    """Labels and scores do, whatever comes before them."""
    network = Network(hidden=(8,), output="poisson")
    assert part(model="mlp", network=network).link == "poisson"


def test_files_are_for_their_owner_only(tmp_path):
    """Whatever the umask and the folder were before."""
    folder = tmp_path / "models" / "bank"
    folder.mkdir(parents=True, mode=0o755)
    before = os.umask(0)
    try:
        save(folder, part(), owned())
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 2


def test_a_new_part_replaces_the_old_one_and_leaves_nothing_of_it(tmp_path):
    """Two files, the new ones."""
    save(tmp_path, part(), owned())
    saved = save(tmp_path, part(run="2"), owned((7.0, 8.0, 9.0)))
    assert {path.name for path in tmp_path.iterdir()} == {MANIFEST, saved.weights_file}
    found, arrays = load(tmp_path)
    assert found.run == "2"
    assert_same(arrays, owned((7.0, 8.0, 9.0)))


@pytest.mark.parametrize("survives", range(5))
def test_a_save_that_is_cut_off_leaves_the_old_part_whole(tmp_path, monkeypatch, survives):
    """At whichever write to the disk the machine stops; and the next save goes through."""
    save(tmp_path, part(), owned())
    calls = iter(range(10))
    real = os.fsync

    def fsync(file):
        if next(calls) == survives:
            raise OSError("the plug was pulled")
        real(file)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        if survives < 4:
            with pytest.raises(OSError, match="plug"):
                save(tmp_path, part(run="2"), owned((7.0, 8.0, 9.0)))
        else:
            save(tmp_path, part(run="2"), owned((7.0, 8.0, 9.0)))
    found, arrays = load(tmp_path)
    expected = owned() if found.run == "1" else owned((7.0, 8.0, 9.0))
    assert found.run == ("1" if survives < 3 else "2")
    assert_same(arrays, expected)
    save(tmp_path, part(run="3"), owned())
    assert load(tmp_path)[0].run == "3"
    assert len(list(tmp_path.iterdir())) == 2


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_one_flipped_bit_of_the_weights_is_noticed(tmp_path_factory, place, bit):
    """Anywhere in the file."""
    folder = tmp_path_factory.mktemp("part")
    path = folder / save(folder, part(), owned()).weights_file
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(ModelPartProblem, match="not the weights that"):
        load(folder)


TAMPERED = {
    "newer format": (lambda m: m.update(format=5), "format 5, and this version reads 4"),
    "older format": (lambda m: m.update(format=3), "format 3 of an earlier tercet.*train again"),
    "no outputs": (lambda m: m["plan"]["request"].pop("outputs"), "no outputs; restore"),
    "no number of outputs": (lambda m: m["plan"]["request"].update(outputs="all"), "no outputs; restore"),
    "other outputs": (lambda m: m["plan"]["request"].update(outputs=3), "'weights' is not float64 .3, 3."),
    "another model": (lambda m: m.update(model="forest"), "wrong or missing: model"),
    "no format": (lambda m: m.pop("format"), "format None"),
    "missing field": (lambda m: m.pop("steps"), "wrong or missing: steps"),
    "unknown field": (lambda m: m.update(note="x"), "wrong or missing: note"),
    "wrong type": (lambda m: m.update(steps="many"), "wrong or missing: steps"),
    "other columns": (lambda m: m["columns"].pop(), "columns are not those of its encoding"),
    "another holder": (lambda m: m.update(intercept_holder="card"), "extra .'intercept', 'intercept_words'"),
    "another release": (lambda m: m.update(release="shared"), "seed of every party"),
    "path for a hash": (lambda m: m.update(weights_sha256="../../secret"), "wrong or missing: weights_sha256"),
    "another hash": (lambda m: m.update(weights_sha256="0" * 64), "weights-0000000000000000.safetensors: No such"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_manifest_that_was_altered_is_refused_by_what_is_wrong(tmp_path, case):
    """With the field, and without its content."""
    change, text = TAMPERED[case]
    save(tmp_path, part(), owned())
    content = json.loads((tmp_path / MANIFEST).read_text())
    change(content)
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ModelPartProblem, match=text):
        load(tmp_path)


def test_what_is_no_part_is_refused(tmp_path):
    """No folder, no JSON, JSON of another kind."""
    with pytest.raises(ModelPartProblem, match="give the folder that a finished job named"):
        load(tmp_path / "nowhere")
    for content in (b"", b"\xff", b"[]", b"null"):
        (tmp_path / MANIFEST).write_bytes(content)
        with pytest.raises(ModelPartProblem, match=MANIFEST):
            load(tmp_path)


def test_weights_that_are_no_safetensors_are_refused(tmp_path, monkeypatch):
    """Even where the hash is theirs; above all a pickle."""
    monkeypatch.setattr(model_part, "to_safetensors", lambda _: b"\x80\x04N.")
    save(tmp_path, part(), owned())
    with pytest.raises(ModelPartProblem, match="not a safetensors file"):
        load(tmp_path)


WRONG_ARRAYS = {
    "missing": ({"weight_words": None}, "missing .'weight_words'"),
    "extra": ({"rows": np.ones((1, 1))}, "extra .'rows'"),
    "flat": ({"weights": np.ones(3)}, "'weights' is not float64"),
    "too few": ({"weights": np.ones((2, 1))}, "'weights' is not float64"),
    "single precision": ({"weights": np.ones((3, 1), dtype=np.float32)}, "'weights' is not float64"),
    "signed words": ({"weight_words": np.ones((3, 1), dtype=np.int64)}, "'weight_words' is not uint64"),
    "nan": ({"weights": np.array([[1.0], [np.nan], [0.0]])}, "'weights' is not finite"),
}


@pytest.mark.parametrize("case", WRONG_ARRAYS)
def test_arrays_that_are_not_the_parts_are_not_saved(tmp_path, case):
    """And the disk is left alone."""
    change, text = WRONG_ARRAYS[case]
    arrays = {name: array for name, array in (owned() | change).items() if array is not None}
    with pytest.raises(ModelPartProblem, match=text):
        save(tmp_path / "part", part(), arrays)
    assert not (tmp_path / "part").exists()


def test_shares_must_be_words_of_named_blocks(tmp_path):
    """Those of the party itself, the label party and the intercept at least."""
    for arrays in (shared() | owned(), {"shares/bank": shared()["shares/bank"]}):
        with pytest.raises(ModelPartProblem):
            save(tmp_path, part(**SHARED), arrays)


def test_what_a_dead_process_left_behind_is_in_nobodys_way(tmp_path):
    """Nor does a new file inherit its mode."""
    left = tmp_path / ".unfinished"
    left.write_bytes(b"half")
    left.chmod(0o644)
    saved = save(tmp_path, part(), owned())
    assert {path.name for path in tmp_path.iterdir()} == {MANIFEST, saved.weights_file}
    assert stat.S_IMODE((tmp_path / saved.weights_file).stat().st_mode) == 0o600


def test_a_part_of_before_the_rule_of_spelling_loads_unless_two_categories_are_one_by_it(tmp_path):
    """It says which version wrote it, and what to do."""
    older = ENCODING.model_dump_json().replace('"f"', '" F"')
    loads, clashes = (Encoding.model_validate_json(text) for text in (older, older.replace('"m"', '"F"')))
    stored = save(tmp_path / "loads", part(encoding=loads, columns=tuple(loads.names)), owned())
    assert load(tmp_path / "loads")[0] == stored
    save(tmp_path / "clashes", part(encoding=clashes, columns=tuple(clashes.names)), owned())
    with pytest.raises(ModelPartProblem, match=r"column 'sex' has categories that are one .* tercet 0\.1\.0 wrote it"):
        load(tmp_path / "clashes")
