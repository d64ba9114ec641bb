"""From settings to a connection: secrets come from files that nobody else may read, and are quoted nowhere."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tercet.agents.access.broker import PASSWORD, USERNAME, own_credentials, read_credentials, tls_context
from tercet.agents.access.identity import IDENTITY, own_identity
from tercet.broker.sealing.identity import Identity, load_identity, save_identity
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import BrokerSettings, Settings

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


def test_a_login_from_the_environment_takes_the_files_place_and_leaves_the_environment(tmp_path: Path) -> None:
    """Once read, no child process inherits it; half of one is a mistake."""
    broker = BrokerSettings(credentials=tmp_path / "missing.toml")
    environment = {USERNAME: "bank", PASSWORD: "hush", "HOME": "/"}
    found = own_credentials(broker, environment)
    assert found is not None
    assert (found.username, found.password) == ("bank", "hush")
    assert environment == {"HOME": "/"}
    with pytest.raises(Invalid, match="go together") as caught:
        own_credentials(broker, {PASSWORD: "hush"})
    assert "hush" not in str(caught.value)
    assert own_credentials(BrokerSettings(), {}) is None


def test_a_key_from_the_environment_is_a_text_or_a_path(tmp_path: Path) -> None:
    """It takes the place of the settings' file, and leaves the environment."""
    path, identity = tmp_path / "bank.key", Identity.generate()
    save_identity(identity, path)
    settings = Settings(party="bank", identity=tmp_path / "missing.key", state=tmp_path)
    for given in (path.read_text(), str(path)):
        environment = {IDENTITY: given}
        assert str(own_identity(settings, environment).public) == str(identity.public)
        assert environment == {}
    path.chmod(0o640)
    with pytest.raises(KeyProblem, match="others may read"):
        own_identity(settings, {IDENTITY: str(path)})
    with pytest.raises(KeyProblem, match=f"{IDENTITY} is no private key") as caught:
        own_identity(settings, {IDENTITY: "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"})
    assert "secret" not in str(caught.value)
    with pytest.raises(KeyProblem, match=r"missing\.key"):
        own_identity(settings, {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what systemd makes")
def test_a_key_that_the_service_manager_lends_may_have_an_access_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mask reads as the group's right; anywhere else, or wider, that is refused."""
    folder = tmp_path / "credentials"
    folder.mkdir(mode=0o500)
    path = folder / "identity"
    save_identity(Identity.generate(), path)
    path.chmod(0o440)
    with pytest.raises(KeyProblem, match="others may read"):
        load_identity(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    load_identity(path)
    path.chmod(0o444)
    with pytest.raises(KeyProblem, match="others may read"):
        load_identity(path)
    path.chmod(0o440)
    folder.chmod(0o755)
    with pytest.raises(KeyProblem, match="others may read"):
        load_identity(path)
    folder.chmod(0o500)
    elsewhere = tmp_path / "identity"
    save_identity(Identity.generate(), elsewhere)
    elsewhere.chmod(0o440)
    with pytest.raises(KeyProblem, match="others may read"):
        load_identity(elsewhere)


def test_an_agents_children_inherit_none_of_its_secrets(tmp_path: Path) -> None:
    """A process that it starts after reading them sees an environment without."""
    path = tmp_path / "bank.key"
    save_identity(Identity.generate(), path)
    program = (
        "import os, subprocess\nfrom pathlib import Path\n"
        "from tercet.agents.access.broker import own_credentials\n"
        "from tercet.agents.access.identity import own_identity\n"
        "from tercet.schemas.files.settings import Settings\n"
        "settings = Settings(party='bank', identity=Path('missing'), state=Path('missing'))\n"
        "own_identity(settings), own_credentials(settings.broker)\n"
        "print(subprocess.run(['env'], capture_output=True, text=True).stdout)"
    )
    secrets = {IDENTITY: path.read_text(), USERNAME: "bank", PASSWORD: "hush, hush"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | secrets, capture_output=True, text=True, check=True
    )
    assert "PATH=" in done.stdout
    assert not [word for word in ("TERCET_", "PRIVATE KEY", "hush") if word in done.stdout]
