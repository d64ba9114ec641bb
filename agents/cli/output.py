"""Writes standard output and error without loss: whatever is written arrives, or fails.

Python's own streams cut a text where the reader is slow and PYTHONUNBUFFERED is set. It decides nothing about formats.
"""

import io
import os
import select
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class WholeStream(io.RawIOBase):
    """Writes to a file descriptor to the last byte; waits for a full pipe, blocking or not."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write all of it.

        Raises:
            OSError: it cannot be written: the reader has gone, or the disk is full.
        """
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
        return size

    def writable(self) -> bool:
        """Tell that it can be written; it does nothing else."""
        return True

    def fileno(self) -> int:
        """Give the descriptor, by which others tell a terminal."""
        return self._descriptor

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return os.isatty(self._descriptor)


def use_whole_streams() -> None:
    """Make standard output and error lossless; print what an encoding lacks as escapes."""
    sys.stdout, sys.stderr = _whole(sys.stdout), _whole(sys.stderr)


def _whole(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):  # closed, or somebody's own
        return stream
    stream.flush()
    raw: Any = WholeStream(stream.fileno())
    return io.TextIOWrapper(raw, stream.encoding, "backslashreplace", write_through=True)
