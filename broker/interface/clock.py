"""Tells the time by which deadlines and silences are measured: the event loop's."""

import asyncio
import time


def loop_time() -> float:
    """Return seconds by the running loop's clock.

    Outside of loops by the clock that loops have.
    """
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()
