"""Runs the notebook of the example, and writes it with what it shows: `make notebook`.

It runs in a process of its own, by Jupyter. What needs a live notebook is not stored.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "credit" / "credit.ipynb"
FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")  # else in the user's home
CELL_SECONDS = 300  # a busy machine compiles first


def read(path: Path = NOTEBOOK) -> Any:
    """The notebook as it stands."""
    return nbformat.read(path, as_version=4)


def execute(notebook: Any) -> Any:
    """Run all cells in order, in the notebook's own folder; their outputs replace those that were there.

    Raises:
        CellExecutionError: a cell has failed.
    """
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": NOTEBOOK.parent}}
    )
    with tempfile.TemporaryDirectory() as folder:
        own = dict.fromkeys(FOLDERS, folder)
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        client.execute(env=os.environ | own | {"PYTHONPATH": paths})
    return notebook


def strip(notebook: Any) -> Any:
    """Take out what is for no reader: times of cells, versions, and pages in frames."""
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "<iframe" in data.get("text/html", ""):
                del data["text/html"]
    return notebook


def main() -> None:
    """Write it anew."""
    nbformat.write(strip(execute(read())), NOTEBOOK)


if __name__ == "__main__":
    main()
