"""Agents' processes, forked from one that has imported what they import: two processor seconds less for each.

Each is a process as any other, with its own signals, files and end.
"""

import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PREPARED = ("tercet.agents.daemon.agent", "tercet.mpc.arithmetic.kernels", "tests.fixed_agent", "pandas")  # by pyarrow
NETWORK = 0x40000000  # CLONE_NEWNET
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, *PREPARED])


def _run(
    module: str, arguments: Sequence[str], log: str, folder: str, environment: dict[str, str], namespace: str | None
) -> None:
    """Do as `python -m MODULE ARGUMENTS` does, with the log in the place of both outputs."""
    if namespace is not None:
        with Path("/var/run/netns", namespace).open() as network:
            assert ctypes.CDLL(None).setns(network.fileno(), NETWORK) == 0
    with Path(log).open("ab") as file:
        for output in (1, 2):
            os.dup2(file.fileno(), output)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class Forked:
    """What tests need of `subprocess.Popen`, for `python -m MODULE ARGUMENTS` that logs to a file.

    With a network `namespace` it has that network and no other.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        log: Path,
        folder: Path = CHECKOUT,
        namespace: str | None = None,
    ) -> None:
        log.touch()
        options = (module, [*arguments], str(log), str(folder), dict(os.environ), namespace)
        self._process = CONTEXT.Process(target=_run, args=options)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, less than none after a signal, or None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0.0)
        return self.returncode
