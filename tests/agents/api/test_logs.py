"""What a program that uses Tercet sees of errors: the traceback, and no value of a variable."""

import subprocess
import sys

PROGRAM = """
import structlog
from tercet.agents.api.logs import quieten_logs
quieten_logs()
def fail():
    row = {"customer": " ".join(["Erika", "Mustermann"])}  # as the line itself is shown
    1 / 0
try:
    fail()
except ZeroDivisionError:
    structlog.get_logger().exception("an error of our own")
"""


def test_a_traceback_shows_no_local_variable() -> None:
    """Also where `rich` is installed, which shows them."""
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert "ZeroDivisionError" in found.stderr
    assert "Erika Mustermann" not in found.stderr + found.stdout
