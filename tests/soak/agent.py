"""`python -m tests.soak.agent SETTINGS.toml FIGURES.json`: a daemon that tells at SIGUSR1 what it holds.

It is the agent that `tercet agent` runs, but for a helper that takes its time in an endless job; the figures are the
operating system's and the interpreter's, and none of them is of a job's data.
"""

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
import threading
from pathlib import Path

from tercet.agents.cli.app import serve
from tercet.agents.cli.runner import run
from tercet.agents.core import logs
from tercet.schemas.files.settings import read_settings
from tests.daemons.slow_agent import slow_helper


def figures() -> dict[str, int]:
    """What this process holds when everything that can be given back has been."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory KiB": pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        "objects": len(gc.get_objects()),
        "open files": len(list(Path("/proc/self/fd").iterdir())) - 1,  # without that of the listing itself
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
    }


def tell(path: Path) -> None:
    """Replace the file in one step, so that nobody reads half of it."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(figures()))
    beside.replace(path)


def show_tasks() -> None:
    """Write to the log where every task waits, for whoever looks for one that does not go on."""
    for task in asyncio.all_tasks():
        task.print_stack(limit=3, file=sys.stderr)
    sys.stderr.flush()


async def observed(settings: Path, reported: Path) -> None:
    """The agent's life."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, tell, reported)
    loop.add_signal_handler(signal.SIGUSR2, show_tasks)
    with slow_helper():
        await serve(read_settings(settings))


if __name__ == "__main__":
    logs.configure("info")
    settings = Path(sys.argv[1])
    run(observed(settings, settings.with_suffix(".figures.json")))
