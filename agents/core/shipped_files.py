"""Finds the documents and the credit example that come with Tercet."""

from importlib.resources import files
from pathlib import Path


def shipped(name: str) -> Path:
    """Find a folder of the package; in a checkout it is a link to where the folder is."""
    return Path(str(files("tercet"))) / name  # a wheel is unpacked when it is installed, so its data are files too
