"""What parties compute alike, send and store is what it was when the vectors were frozen."""

import json
from pathlib import Path

import numpy as np
import pytest

from tercet.agents.models.model_part import load
from tercet.agents.session.checkpoint_store import SUFFIX, CheckpointFolder
from tercet.schemas.files.job import Scorecard
from tercet.schemas.messages.codec import decode, encode
from tercet.schemas.messages.message import MODELS
from tercet.tables.binning.bins import NumericBins
from tests.vectors.cases import CASES, FOLDER, HELD, WORDS, checkpoint_bytes, frozen
from tests.vectors.messages import plain

BODIES = frozen("messages")
ROOMS = ("agents", "broker", "mpc", "schemas", "tables")


@pytest.mark.parametrize("name", CASES)
def test_what_is_computed_is_what_was_frozen(name):
    """A difference is a change of the protocol or of a stored format, and needs a version of its own."""
    assert json.loads(json.dumps(CASES[name]())) == frozen(name)


@pytest.mark.parametrize("vector", BODIES, ids=lambda vector: f"{vector['kind']}/{vector['item']}")
def test_a_frozen_body_is_read_and_written_as_it_was(vector):
    """Both ways, so that two mistakes that cancel are seen too."""
    message = decode(bytes.fromhex(vector["body"]))
    assert (message.kind, message.item) == (vector["kind"], vector["item"])
    assert plain(message) == vector["fields"]
    assert encode(message).hex() == vector["body"]


def test_a_frozen_checkpoint_is_read(tmp_path):
    """As an agent reads it after an update."""
    (vector,) = [content for name, content in frozen("files").items() if name.endswith(SUFFIX)]
    (tmp_path / "000000000007-0000000000000000.checkpoint").write_bytes(checkpoint_bytes(vector))
    found = CheckpointFolder(tmp_path, bytes(32)).read(HELD)
    assert (found.facts["alpha"], found.facts["losses"]) == (0.5, [1.0])
    assert np.array_equal(found.arrays["share"], WORDS)


@pytest.mark.parametrize("folder", ["part", "counted part"])
def test_a_frozen_model_part_is_read(folder, tmp_path):
    """Manifest and weights; one of before has neither scorecard nor counts."""
    for name, content in frozen("files").items():
        if name.startswith(f"{folder}/"):
            whole = bytes.fromhex(content) if isinstance(content, str) else "\n".join(content).encode()
            (tmp_path / name.removeprefix(f"{folder}/")).write_bytes(whole)
    part, arrays = load(tmp_path)
    assert (part.job, part.columns) == ("credit-0123abcd", ("age", "sex=f", "sex=m"))
    assert not part.is_blind  # as it stands in no plan of before
    assert np.array_equal(arrays["weights"], [[-1.0], [0.0], [1.0]])
    if folder == "part":
        assert (part.population, part.scorecard) == (None, None)
        return
    assert part.scorecard == Scorecard(pdo=40.0)
    assert part.population is not None
    assert [one.rows for one in part.population.columns] == [(1, 2, 0), (2, 1, 0)]
    assert part.population.scores is not None
    assert part.population.scores.bins == NumericBins(name="score", cuts=(-1.5, 0.25))


def test_each_kind_of_message_has_a_vector():
    """A new message comes with one: `make vectors`."""
    assert {(vector["kind"], vector["item"]) for vector in BODIES} == set(MODELS)


def test_no_vector_names_a_module():
    """Else files that were written before a module is moved could not be read after it."""
    modules = {f"{room}.{path.stem}" for room in ROOMS for path in Path(FOLDER.parents[1], room).rglob("*.py")}
    for path in FOLDER.glob("*.json"):
        content = path.read_text(encoding="utf-8")
        assert not [name for name in modules if name in content], path
