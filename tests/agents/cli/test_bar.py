"""`tercet job watch` shows bar, count and time whole, whatever it says beside them and however narrow the terminal."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from itertools import product
from typing import Any

import pytest
from rich.console import Console

from tercet.agents.cli import rendering
from tercet.agents.core.states import State
from tercet.schemas.messages.kinds import JobStatus

LONGEST = "a-job-with-the-longest-name-that-there-0a1b2c3d"  # of a job's id, and of two parties
PARTIES = ("insurer-with-the-longest-name-of", "another-insurer-of-a-long-name-1")
FIELDS: dict[str, Any] = dict.fromkeys(("job", "state", "kind", "model", "label", "helper", "submitted"), "x")
LINE = re.compile(r"\S+ [━╸╺]{24} +(\d+)/(?:(\d+) (?:-:--:--|\d+:\d\d:\d\d)|\?)")  # without a count to reach, no time
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def status(**fields: Any) -> JobStatus:
    """A job's, with these fields."""
    return JobStatus.model_validate(FIELDS | {"parties": ()} | fields)


def lines_of(width: int, *shown: JobStatus, job: str = LONGEST) -> list[str]:
    """The lines of the bar after these."""
    bar, file = rendering.Bar(job), io.StringIO()
    for one in shown:
        bar.show(one)
    Console(file=file, width=width, force_terminal=True, color_system="standard").print(bar._draw())
    return ANSI.sub("", file.getvalue()).splitlines()


@pytest.mark.parametrize("width", [60, 200])
def test_bar_count_and_time_are_whole_in_every_state(width: int) -> None:
    """For long names, long numbers and whatever is waited for; and there are two lines always."""
    waits = [(), PARTIES[:1], PARTIES, PARTIES * 8]
    for state, waits_for, step, attempt in product(State, waits, (0, 7, 999_999), (1, 120)):
        steps = 1_000_000 if step else 0
        one = status(
            state=state, waits_for=waits_for, step=step, steps=steps, attempt=attempt, epoch=step,
            seconds_per_step=0.001, warnings=("w",) * 20,
        )  # fmt: skip
        first, second = lines_of(width, one)
        assert max(len(first), len(second)) <= width
        found = LINE.fullmatch(first.strip())
        assert found, first
        assert (int(found[1]), found[2]) == (step, str(steps) if steps else None)
        assert second.startswith(state)
        assert second.endswith("…") == (len(rendering._note(one)) > width)


def test_a_short_job_is_named_whole() -> None:
    """With what it waits for before what matters less."""
    first, second = lines_of(
        80, status(state="training", step=7, steps=444, waits_for=("card",)), job="credit-0a1b2c3d"
    )
    assert first.startswith("credit-0a1b2c3d ━")
    assert second == "training, waits for card, epoch 1"


def test_what_a_partner_says_moves_no_cursor() -> None:
    """Nor is it markup."""
    _, second = lines_of(80, status(state="training", waits_for=("[red]\x1b[2J\n",)))
    assert second == r"training, waits for [red]\x1b[2J\n"


SHOW = """
import sys
from tercet.agents.cli import rendering
from tercet.schemas.messages.kinds import JobStatus
with rendering.Bar(sys.argv[1]) as bar:
    for line in sys.stdin:
        bar.show(JobStatus.model_validate_json(line))
        bar._live.refresh()
"""


@pytest.mark.real_time
def test_no_line_is_wrapped_by_a_terminal() -> None:
    """By a real one: what reaches it between two ends of lines fits."""
    (own, terminal), width = pty.openpty(), 60
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    shown = [
        status(state="training", step=step, steps=1_000_000, seconds_per_step=0.5, waits_for=PARTIES[: step % 3])
        for step in range(9)
    ]
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW, LONGEST],
        stdin=subprocess.PIPE, stderr=terminal, stdout=terminal, env=environment | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    process.communicate("\n".join(one.model_dump_json() for one in shown).encode())
    written = b""
    while part := _read(own):
        written += part
    os.close(own)
    assert process.returncode == 0, written
    lines = [line for line in re.split(r"[\r\n]+", ANSI.sub("", written.decode())) if line.strip()]
    assert max(map(len, lines)) <= width
    assert len([line for line in lines if LINE.fullmatch(line.strip())]) >= len(shown)
    assert any(PARTIES[0] in line for line in lines)


@pytest.mark.real_time
def test_a_file_gets_the_end_alone_in_lines_of_its_own() -> None:
    """What is written next begins a line."""
    end = status(state="done", step=444, steps=444).model_dump_json()
    done = subprocess.run([sys.executable, "-c", SHOW, "credit"], input=end, capture_output=True, text=True, check=True)
    first, second = done.stderr.splitlines()
    assert "444/444" in first
    assert second.startswith("done")
    assert done.stderr.endswith("\n")


def _read(own: int) -> bytes:
    try:
        return os.read(own, 65536)
    except OSError:  # the other end is closed
        return b""
