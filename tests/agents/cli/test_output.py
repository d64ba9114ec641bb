"""What the command line prints arrives to the last byte, or its exit code says that it did not."""

import os
import subprocess
import sys
import time

import pytest

LARGE = "tercet.agents.cli.rendering.print_json(['x' * 1000] * 1000)"
PIPES = {True: {"PYTHONUNBUFFERED": "1"}, False: {}}


def run(what: str, target: int, *, unbuffered: bool) -> "subprocess.Popen[str]":
    """A process that does this in the place of a command."""
    imports = "import tercet.agents.cli.rendering\nimport tercet.agents.cli.app as cli"
    code = f"{imports}\ncli.app = lambda: {what}\ncli.main()"
    environment = {**os.environ, **PIPES[unbuffered]}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=target, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize("unbuffered", [True, False])
def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_every_byte(unbuffered: bool) -> None:
    """As in the image, which sets PYTHONUNBUFFERED: a pipe holds 65,536 bytes."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with run(LARGE, writing, unbuffered=unbuffered) as process:
        os.close(writing)
        read = 0
        while got := os.read(reading, 2**16):
            read += len(got)
            time.sleep(0.01)
        os.close(reading)
        assert process.wait() == 0, process.stderr and process.stderr.read()
    assert read == len("[\n]\n") + 1000 * len('  "",\n') + 1_000_000 - 1


def test_a_reader_that_has_gone_and_a_full_disk_are_no_success() -> None:
    """Nothing is taken as printed that was not."""
    reading, writing = os.pipe()
    os.close(reading)
    with run(LARGE, writing, unbuffered=False) as process:
        os.close(writing)
        assert process.wait() != 0
    full = os.open("/dev/full", os.O_WRONLY)
    with run(LARGE, full, unbuffered=False) as process:
        os.close(full)
        assert process.wait() != 0
