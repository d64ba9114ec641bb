"""`python -m tests.fixed_agent SETTINGS.toml`: a daemon whose contribution to the order key follows from its name.

For tests that compare two runs; in life the contributions come from the system's randomness and nowhere else.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from tercet.agents.cli.app import serve
from tercet.agents.cli.runner import run
from tercet.agents.core import logs
from tercet.schemas.files.settings import read_settings


def fixed_contribution(party: str) -> Callable[[], bytes]:
    """The same 32 bytes at every call."""
    return lambda: hashlib.sha256(f"fixed for tests: {party}".encode()).digest()


def main() -> None:
    """Run the daemon to SIGTERM."""
    logs.configure("info")
    settings = read_settings(Path(sys.argv[1]))
    run(serve(settings, fixed_contribution(settings.party)))


if __name__ == "__main__":
    main()
