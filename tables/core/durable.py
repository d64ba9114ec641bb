"""Puts a file of this user's own in its place in one step.

A crash leaves the old one or the new one.

It knows nothing of what it writes.
"""

import errno
import os
from pathlib import Path


def write_durably(path: Path, content: bytes, unfinished: str | None = None) -> None:
    """Put a file of this user's own in its place in one step.

    When this returns, it is on the disk under its name.

    Until then it is called `unfinished`, by default after itself; what a dead process has left under that name goes.

    Raises:
        OSError: the disk does not take it; what was there is there.
    """
    beside = path.with_name(unfinished or f".{path.name}.unfinished")
    beside.unlink(missing_ok=True)  # of a write that the machine did not survive
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    flush(path.parent)


def append_durably(path: Path, content: bytes) -> None:
    """Append to a file of this user's own, which is made if need be.

    It is on the disk when this returns.

    Raises:
        OSError: the disk does not take it; what was there is there.
    """
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        append_whole(descriptor, content)
    finally:
        os.close(descriptor)
    if is_new:
        flush(path.parent)


def append_whole(descriptor: int, content: bytes) -> None:
    """Append to an open file; all of it is on the disk when this returns.

    Raises:
        OSError: the disk does not take it; the file has not changed.
    """
    before = os.fstat(descriptor).st_size
    try:
        _write_whole(descriptor, content)
    except OSError:
        os.ftruncate(descriptor, before)  # a half-written line would have to be mended after a restart
        raise


def _write_whole(descriptor: int, content: bytes) -> None:
    if os.write(descriptor, content) < len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


def flush(path: Path) -> None:
    """Write the file's content, or the names in the folder, to the disk before returning.

    Raises:
        OSError: the disk does not take them.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
