"""How benchmarks say what they have measured."""

import json
import os
import platform
import sys
from collections.abc import Mapping
from typing import Any


def report(result: Mapping[str, Any]) -> None:
    """Print it, below the machine that it was measured on."""
    machine = f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}"
    json.dump({"machine": machine, **result}, sys.stdout, indent=2)
    sys.stdout.write("\n")
