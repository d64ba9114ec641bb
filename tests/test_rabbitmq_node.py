"""Finding RabbitMQ for tests, without a RabbitMQ."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.debian import ServerMissingError
from tests.rabbitmq_node import chosen_server, find_server, free_ports


def script(folder: Path, *, real: bool = True) -> Path:
    """A stand-in for the server's start script; a real one has its helper beside it."""
    folder.mkdir(parents=True)
    path = folder / "rabbitmq-server"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    if real:
        (folder / "rabbitmq-env").write_text("")
    return path


def test_path_is_followed_to_the_real_script_and_a_wrapper_is_not_taken(tmp_path: Path):
    """Homebrew's link leads to the script; Debian's wrapper would change the user."""
    real = script(tmp_path / "cellar")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "rabbitmq-server").symlink_to(real)
    assert find_server([], path=str(tmp_path / "bin")) == real
    script(tmp_path / "wrapper", real=False)
    assert find_server([], path=str(tmp_path / "wrapper")) is None


def test_the_choice_among_installed_servers_is_a_version_or_a_folder(tmp_path: Path):
    """A version begins as the choice does, number by number; without a choice it is the newest."""
    for version in ("3.9.13", "3.10.8", "4.0.5", "4.1.2"):
        script(tmp_path / f"rabbitmq_server-{version}" / "sbin")
    folders = [f"{tmp_path}/rabbitmq_server-*/sbin"]
    elsewhere = script(tmp_path / "elsewhere" / "sbin")
    wanted = {None: "4.1.2", "": "4.1.2", "4": "4.1.2", "4.0": "4.0.5", "3.10.8": "3.10.8"}
    for choice, version in wanted.items():
        assert chosen_server(choice, folders) == tmp_path / f"rabbitmq_server-{version}" / "sbin" / "rabbitmq-server"
    for folder in (elsewhere.parent, elsewhere.parent.parent):
        assert chosen_server(str(folder), folders) == elsewhere


@pytest.mark.parametrize("choice", ["3.1", "3", "/nowhere"])
def test_a_choice_that_is_not_installed_is_never_another_server(tmp_path: Path, choice: str):
    """Nor is one installed for it: the error names what is there."""
    script(tmp_path / "rabbitmq_server-4.0.5" / "sbin")
    with pytest.raises(ServerMissingError, match=r"TERCET_TEST_RABBITMQ is .*rabbitmq_server-4\.0\.5"):
        chosen_server(choice, [f"{tmp_path}/rabbitmq_server-*/sbin"])


def test_ports_differ():
    """Many at once."""
    assert len(set(free_ports(50))) == 50


def test_what_the_tests_start_hears_an_interrupt():
    """Also where a shell has started them in the background, with SIGINT ignored: conftest.py sees to it."""
    program = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    )
