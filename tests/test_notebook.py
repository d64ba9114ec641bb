"""The example's notebook runs as it stands, and shows what its stored outputs say."""

import re
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tests.notebook import NOTEBOOK, execute, read, strip
from tests.test_documents import LONGEST, MOST_WORDS, sentences

pytestmark = pytest.mark.real_time

MOST_BYTES = 300_000
MOST_LINES = 15  # of a cell
NUMBER = re.compile(r"-?\d[\d,.]*(?:e-?\d+)?")


def shown(notebook: Any) -> list[list[str]]:
    """What each cell of code shows, with a sign in the place of each number, as these vary from run to run."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[" ".join(NUMBER.sub("#", text).split()) for text in texts(cell)] for cell in cells]


def texts(cell: Any) -> Iterator[str]:
    """The texts that a cell shows, to people with and without a browser."""
    for output in cell.outputs:
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        yield output.get("text", "")
        yield from (text for kind, text in sorted(output.get("data", {}).items()) if kind.startswith("text/"))


def test_it_runs_and_shows_what_is_stored() -> None:
    """`make notebook` stores what it shows. A cell that fails is an error: it goes last here, as if planted there."""
    notebook = read()
    notebook.cells.append(nbformat.v4.new_code_cell("import tercet\ntercet.simulate({}, label='')"))
    with pytest.raises(CellExecutionError, match="frames"):
        execute(notebook)
    notebook.cells.pop()
    assert shown(strip(notebook)) == shown(read())


def test_output_that_the_stored_one_does_not_have_is_noticed() -> None:
    changed = read()
    next(cell for cell in changed.cells if cell.get("outputs")).outputs[0].data["text/plain"] = "nothing"
    assert shown(changed) != shown(read())


def test_it_is_stored_with_outputs_and_without_what_varies() -> None:
    """Nor are there pages in frames, which GitHub leaves out."""
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < MOST_BYTES
    assert text == nbformat.writes(strip(read())) + "\n"
    code = [cell for cell in read().cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert not [cell.source for cell in code if len(cell.source.splitlines()) > MOST_LINES]


def test_its_words_are_as_plain_as_the_documents() -> None:
    """Short sentences and lines, and links that lead somewhere."""
    for cell in read().cells:
        assert not [line for line in cell.source.splitlines() if len(line) > LONGEST]
        if cell.cell_type == "markdown":
            assert not [one for one in sentences(cell.source) if len(re.findall(r"\S*\w\S*", one)) > MOST_WORDS]
            for target in re.findall(r"\]\(([^)\s]+)\)", cell.source):
                assert (NOTEBOOK.parent / target).exists(), target
