"""How a server that tests need gets onto this machine: Debian's package where we may install, else words of advice.

It starts no server, and leaves no service running that was not there.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Never

import pytest

POLICY = Path("/usr/sbin/policy-rc.d")


class ServerMissingError(RuntimeError):
    """A server is not installed; the text says how to install it on this system."""


Run = Callable[[Sequence[str], Mapping[str, str]], None]  # runs a command, raises when it fails


@dataclass(frozen=True)
class Server:
    """A server, as package managers call it.

    Attributes:
        package: Debian's, and its service.
        page: where to read how to install it.
        variable: of the environment; names a running one that tests may use.
        elsewhere: by tool, the packages that are called otherwise.
    """

    package: str
    page: str
    variable: str
    elsewhere: Mapping[str, str] = field(default_factory=dict)


INSTALL = {  # in this order, since some systems have brew beside their own
    "apt-get": "sudo apt-get install",
    "dnf": "sudo dnf install",
    "zypper": "sudo zypper install",
    "pacman": "sudo pacman -S",
    "apk": "sudo apk add",
    "brew": "brew install",
}


def installed(folders: Sequence[str], *programs: str) -> Iterator[Path]:
    """Find the folders that have all the programs, pattern by pattern, each pattern's highest version first."""
    for pattern in folders:
        root = Path(pattern).anchor
        found = Path(root).glob(pattern.removeprefix(root))
        fit = [folder for folder in found if all((folder / program).exists() for program in programs)]
        yield from sorted(fit, key=_version, reverse=True)


def newest(folders: Sequence[str], *programs: str) -> Path | None:
    """The folder that has all the programs: of the first pattern that has any, the one with the highest version."""
    return next(installed(folders, *programs), None)


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(path)))


def how_to_install(server: Server, system: str | None = None, which: Callable[[str], str | None] = shutil.which) -> str:
    """The command that installs the server on this system."""
    mac = (system or platform.system()) == "Darwin"
    for tool, command in INSTALL.items():
        if tool == "brew" if mac else which(tool):
            return f"{command} {server.elsewhere.get(tool, server.package)}"
    return f"see {server.page}"


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    subprocess.run(command, check=True, env={**os.environ, **environment}, stdout=sys.stderr.fileno())


def install_package(package: str, run: Run = _run, *, root: bool | None = None, policy: Path = POLICY) -> None:
    """Install Debian's package without leaving a system service running that was not there.

    A policy-rc.d that forbids starting services stands while apt works, unless the system has one of its own; in
    that case the service of the package's name is stopped afterwards.
    """
    sudo = [] if (os.geteuid() == 0 if root is None else root) else ["sudo", "-n"]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    ours = not policy.exists()
    try:
        if ours:
            run([*sudo, "sh", "-c", f"printf '#!/bin/sh\\nexit 101\\n' > {policy} && chmod 755 {policy}"], quiet)
        run([*sudo, "apt-get", "update", "-q"], quiet)
        run([*sudo, "apt-get", "install", "-q", "-y", "--no-install-recommends", package], quiet)
    finally:
        if ours:
            run([*sudo, "rm", "-f", str(policy)], quiet)
    if not ours:
        run([*sudo, "sh", "-c", f"invoke-rc.d {package} stop || true"], quiet)


@contextmanager
def _alone() -> Iterator[None]:
    """The tests run in several processes, and apt in one at a time."""
    with (Path(tempfile.gettempdir()) / f"tercet-tests-apt-{os.geteuid()}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure_server(
    server: Server,
    find: Callable[[], Path | None],
    install: Callable[[str], None] = install_package,
    environment: Mapping[str, str] = os.environ,
) -> Path:
    """What `find` finds; installs Debian's package first when it finds nothing and we are root or in CI.

    Raises:
        ServerMissingError: there is none and it may not or cannot be installed from here.
    """
    found = find()
    allowed = os.geteuid() == 0 or bool(environment.get("CI"))
    if found is None and allowed and shutil.which("apt-get"):
        try:
            with _alone():
                found = find()  # another process of the tests may have installed it meanwhile
                if found is None:
                    install(server.package)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ServerMissingError(f"installing {server.package} failed ({error}); {_advice(server)}") from error
        found = found or find()
    if found is None:
        raise ServerMissingError(f"no {server.package} is installed here; {_advice(server)}")
    return found


def missing(error: ServerMissingError, environment: Mapping[str, str] = os.environ) -> Never:
    """End a test whose server is missing: on a laptop it is skipped with the advice, in CI it fails."""
    if environment.get("CI"):
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


def _advice(server: Server) -> str:
    return f"run `{how_to_install(server)}`, or set {server.variable} to one that tests may use"
