"""Files that nobody but this machine's user may read.

It knows nothing of what is in them.
"""

import os
from pathlib import Path


def replace(path: Path, content: bytes, owner: tuple[int, int] | None = None) -> None:
    """Put content into a new file of this user's own; what was there before makes way.

    With `owner`, a user's and a group's number, root makes it theirs; no link can lead to another file.

    Raises:
        OSError: the disk does not take it.
    """
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        if owner is not None:
            os.fchown(file.fileno(), *owner)
