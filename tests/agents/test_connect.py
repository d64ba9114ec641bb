"""From settings to a connection: secrets come from files that nobody else may read, and are quoted nowhere."""

import os
import ssl
from pathlib import Path

import pytest

from agents.connect import read_credentials, tls_context
from broker.identity import KeyProblem
from schemas.job import Invalid
from schemas.settings import BrokerSettings

LOGIN = 'username = "bank"\npassword = "hush, hush"\n'


def secret(path: Path, content: str = LOGIN, mode: int = 0o600) -> Path:
    """A file of that content and mode."""
    path.touch()
    path.chmod(mode)
    path.write_text(content, encoding="utf-8")
    return path


def test_credentials_are_read_from_a_private_file(tmp_path: Path) -> None:
    """As the operator has written them."""
    found = read_credentials(secret(tmp_path / "credentials.toml"))
    assert (found.username, found.password) == ("bank", "hush, hush")


def test_credentials_that_others_may_read_are_refused(tmp_path: Path) -> None:
    """With the command that mends it; a missing file with what belongs into it."""
    path = secret(tmp_path / "credentials.toml", mode=0o644)
    with pytest.raises(KeyProblem, match=f"chmod 600 {path}"):
        read_credentials(path)
    with pytest.raises(KeyProblem, match="write username and password into it"):
        read_credentials(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    "content",
    [
        "hush, hush",
        'password = hush, hush"',
        'password = "hush, hush"\npassword = "hush, hush"',
        'username = "bank"',
        LOGIN + 'pasword = "hush, hush"',
    ],
)
def test_credentials_that_are_none_are_refused_and_not_quoted(tmp_path: Path, content: str) -> None:
    """A slip of the pen must not put the password on a screen."""
    path = secret(tmp_path / "credentials.toml", content)
    with pytest.raises(Invalid) as caught:
        read_credentials(path)
    assert str(path) in str(caught.value)
    assert "hush" not in str(caught.value)


def test_the_file_of_credentials_that_is_checked_is_the_one_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that takes its place meanwhile."""
    path, other = secret(tmp_path / "credentials.toml"), secret(tmp_path / "other.toml", LOGIN.replace("bank", "else"))
    swapped: list[Path] = []
    for module, name in ((os, "fstat"), (Path, "stat")):
        real = getattr(module, name)

        def swap(*arguments, real=real, **options):
            found = real(*arguments, **options)
            if not swapped:
                swapped.append(other.rename(path))
            return found

        monkeypatch.setattr(module, name, swap)
    assert read_credentials(path).username == "bank"
    assert read_credentials(path).username == "else"


def test_a_tls_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """Before it is used."""
    key = secret(tmp_path / "bank.key", mode=0o640)
    broker = BrokerSettings(url="amqps://localhost/", certificate=tmp_path / "bank.crt", key=key)
    with pytest.raises(KeyProblem, match=f"chmod 600 {key}"):
        tls_context(broker)
    key.chmod(0o600)
    with pytest.raises(Invalid, match="cannot be used"):
        tls_context(broker)


def test_tls_is_for_amqps_alone_and_checks_the_broker() -> None:
    """With the system's authorities, if no others are named."""
    assert tls_context(BrokerSettings(url="amqp://localhost/")) is None
    context = tls_context(BrokerSettings(url="amqps://localhost/"))
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
