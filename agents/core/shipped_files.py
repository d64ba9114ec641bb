"""Finds the documents and the credit example that come with Tercet."""

from importlib.resources import files
from pathlib import Path
from typing import Final

IN_CHECKOUT: Final = {"docs": "docs", "credit": "examples/credit"}


def shipped(name: str) -> Path:
    """Find a folder of `IN_CHECKOUT`: inside the package in a wheel, beside it in a checkout."""
    package = Path(str(files("agents")))  # a wheel is unpacked when it is installed, so its data are files too
    installed = package / name
    return installed if installed.is_dir() else package.parent / IN_CHECKOUT[name]
