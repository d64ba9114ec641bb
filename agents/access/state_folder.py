"""Makes the state folder at an agent's start, or refuses one that cannot be used.

It writes nothing that stays.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tercet.schemas.files.invalid import Invalid


@contextmanager
def report_unusable(folder: Path) -> Iterator[None]:
    """Raise Invalid where the system refuses access to the state folder in the block."""
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else folder
        raise Invalid(
            f"{where} cannot be used: {error.strerror or type(error).__name__}; let `state` be a folder that the "
            f"agent's user may write to, or mend what is in it"
        ) from None


def make_state_folder(folder: Path) -> None:
    """Make the folder, or find that it can be written. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"tercet")
