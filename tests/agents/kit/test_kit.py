"""Kits are what the product itself reads; each has its own party's login and nobody's key."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import example, given
from hypothesis import strategies as st

from tercet.agents.access.broker import read_credentials
from tercet.agents.kit import folders
from tercet.agents.kit.contents import BROKER, STEPS, kit_contents
from tercet.agents.kit.folders import write_kits
from tercet.agents.kit.toml_text import toml_value
from tercet.schemas.core.visible import escape_invisible
from tercet.schemas.files.consortium import Consortium
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import TrainingJob, read_job
from tercet.schemas.files.settings import read_settings
from tests.agents.daemon.test_systemd import UNIT
from tests.certificates import write_certificate

PARTIES = {"shop": "label", "insurer": "data", "carrier": "data", "notary": "helper", "deputy": "helper"}
TABLE = {"path": "orders.csv", "id": "customer", "label": "returned", "clip": 8, "categorical": ("region", "size")}
LOCAL = {"url": "amqp://localhost:5672/tercet"}


def consortium(broker: Any = None, tables: Any = None) -> Consortium:
    """Five parties; only the shop says what tables it has."""
    members: dict[str, Any] = {party: {"role": role} for party, role in PARTIES.items()}
    members["shop"]["tables"] = {"orders": TABLE} if tables is None else tables
    return Consortium.model_validate({"name": "returns", "broker": broker or LOCAL, "parties": members})


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """An authority's certificate, with its private key in the same file."""
    _, key = write_certificate(tmp_path, "authority", None)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "authority.pem").write_bytes(pem + (tmp_path / "authority.pem").read_bytes() + pem)
    return tmp_path / "authority.pem"


@pytest.fixture(params=["clear", "tls", "certificate", "no table"])
def kits(request: pytest.FixtureRequest, tmp_path: Path, authority: Path) -> Path:
    """Kits of every kind."""
    tls: dict[str, Any] = {"url": "amqps://broker.example.com/tercet", "authority": authority}
    broker = {"tls": tls, "certificate": tls | {"login": "certificate"}}.get(request.param, LOCAL)
    write_kits(consortium(broker, {} if request.param == "no table" else None), tmp_path / "kits")
    return tmp_path / "kits"


def files(folder: Path) -> list[Path]:
    """All files of all kits."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def test_the_product_reads_all_settings(kits: Path) -> None:
    """By hand and as a service, as the page's own command makes it."""
    for party, role in PARTIES.items():
        settings = read_settings(kits / party / "settings.toml")
        assert (settings.party, settings.role) == (party, "helper" if role == "helper" else "data")
        assert settings.partners.keys() == PARTIES.keys() - {party}
        assert {name for name, one in settings.partners.items() if one.may_submit} == {"shop"} - {party}
        helpers = {name for name, one in settings.partners.items() if one.may_help}
        assert helpers == {"notary", "deputy"} - {party}
        own = [settings.identity, settings.state, settings.broker.credentials, settings.broker.ca, settings.broker.key]
        assert all(path is None or path.parent == kits / party for path in own)
        _check_service(kits / party, party)


def _check_service(folder: Path, party: str) -> None:
    """The line of `sed` in NEXT-STEPS.md makes the settings that the unit expects."""
    (command,) = re.findall(r"^sed .*(?= \|$)", (folder / STEPS).read_text(), flags=re.MULTILINE)
    made = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, check=True).stdout
    (folder / "service.toml").write_bytes(made)
    settings, before = read_settings(folder / "service.toml"), read_settings(folder / "settings.toml")
    lent = Path(f"/run/credentials/tercet@{party}.service")
    assert settings.state == Path(f"/var/lib/tercet/{party}")
    assert (settings.console.socket, settings.console.group) == (
        Path(f"/run/tercet/{party}/agent.sock"), f"tercet-{party}"
    )  # fmt: skip
    secret = settings.broker.key or settings.broker.credentials
    assert secret == lent / ("tls" if before.broker.key else "broker")
    same = {"party", "role", "tables", "partners", "policy"}
    assert settings.model_dump(include=same) == before.model_dump(include=same)
    (folder / "service.toml").unlink()


def test_the_settings_have_the_tables_that_were_written(kits: Path) -> None:
    """Or, where none was, lines that need their signs of a comment taken away."""
    settings = kits / "shop" / "settings.toml"
    if not read_settings(settings).tables:
        text = settings.read_text()
        lines = re.search(r"^# \[tables.*?\n\n", text, flags=re.MULTILINE | re.DOTALL)
        assert lines is not None
        settings.write_text(text.replace(lines[0], re.sub("^# ", "", lines[0], flags=re.MULTILINE)))
        assert {"records"} == read_settings(settings).tables.keys()
        assert read_settings(settings).tables["records"].label is not None
    else:
        (table,) = read_settings(settings).tables.values()
        assert table.model_dump(exclude_unset=True, exclude_none=True) == TABLE | {"path": kits / "shop" / "orders.csv"}


def test_the_first_job_is_one_over_the_tables_of_the_settings(kits: Path) -> None:
    """At the label party alone."""
    assert [path.parent.name for path in files(kits) if path.name == "job.toml"] == ["shop"]
    job = read_job(kits / "shop" / "job.toml")
    assert isinstance(job, TrainingJob)
    assert job.data_parties == ("shop", "insurer", "carrier")
    assert job.helpers == ("notary", "deputy")
    for party in job.data_parties:
        settings = kits / party / "settings.toml"
        assert f"[tables.{job.table_of(party)}]" in settings.read_text()


def test_no_secret_of_one_party_is_in_another_kit(kits: Path) -> None:
    """A password is in one file, and as the right hash at the broker; a private key is nowhere."""
    texts = {path.relative_to(kits): path.read_text() for path in files(kits)}
    assert not any("PRIVATE KEY" in text for text in texts.values())
    hashes = {
        user["name"]: user["password_hash"] for user in json.loads(texts[Path(BROKER, "definitions.json")])["users"]
    }
    assert hashes.keys() == PARTIES.keys()
    credentials = [path for path in texts if path.name == "credentials.toml"]
    if not any(hashes.values()):
        assert credentials == []
        return
    passwords = {}
    for path in credentials:
        login = read_credentials(kits / path)
        assert login.username == path.parent.name
        passwords[login.username] = login.password
        salted = base64.b64decode(hashes[login.username])
        assert salted[4:] == hashlib.sha256(salted[:4] + login.password.encode()).digest()
    assert passwords.keys() == PARTIES.keys()
    assert len({*passwords.values()}) == len(PARTIES)
    for party, password in passwords.items():
        assert [path for path, text in texts.items() if password in text] == [Path(party, "credentials.toml")]


def test_only_their_owner_may_read_the_kits(kits: Path) -> None:
    """Whatever the umask."""
    assert {path.stat().st_mode & 0o777 for path in files(kits)} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (kits, *kits.iterdir())} == {0o700}


def test_the_authority_is_copied_without_what_else_is_in_its_file(tmp_path: Path, authority: Path) -> None:
    """Its private key, here."""
    broker = {"url": "amqps://broker.example.com/tercet", "authority": authority}
    write_kits(consortium(broker), tmp_path / "kits")
    copy = (tmp_path / "kits/notary/authority.pem").read_text()
    assert copy.startswith("-----BEGIN CERTIFICATE-----")
    assert copy in authority.read_text()
    for wrong in ("", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        authority.write_text(wrong)
        with pytest.raises(Invalid, match="no certificate"):
            write_kits(consortium(broker), tmp_path / "again")
    authority.unlink()
    with pytest.raises(Invalid, match="No such file"):
        write_kits(consortium(broker), tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["authority.key", "kits"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Neither a folder nor a file nor a link; the first kits stay as they were."""
    out = tmp_path / "kits"
    write_kits(consortium(), out)
    before = {path: path.read_bytes() for path in files(out)}
    with pytest.raises(Invalid, match="not overwritten"):
        write_kits(consortium(), out)
    assert {path: path.read_bytes() for path in files(out)} == before
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Invalid, match="not overwritten"):
        write_kits(consortium(), tmp_path / "link")
    assert not (tmp_path / "nowhere").exists()


def test_half_a_kit_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full, no password stays behind."""
    written = []

    def write(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr(folders, "replace", write)
    with pytest.raises(Invalid, match="No space left"):
        write_kits(consortium(), tmp_path / "kits")
    assert list(tmp_path.iterdir()) == []


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example('a"\nhelper_sees = "scores')
@example("\\")
@example("\x7f\x00\u202e\ufeff")
def test_any_text_of_a_table_stays_a_text(text: str) -> None:
    """Quotes, line ends and what looks like a section are no TOML of their own, and nothing is hidden in the file."""
    written = toml_value((text, "next"))
    assert tomllib.loads(f"a = {written}\nb = 1") == {"a": [text, "next"], "b": 1}
    assert "\n" not in written
    assert escape_invisible(written) == written
    table = {"path": text, "id": text, "label": text, "columns": (text,)}
    page = kit_contents(consortium(tables={"orders": table}), {}, None)["shop/settings.toml"]
    settings = tomllib.loads(page)
    assert settings["tables"]["orders"] == table | {"columns": [text]}
    assert settings.keys() == {"party", "identity", "state", "broker", "partners", "tables"}


def test_the_pages_are_plain_markdown(kits: Path) -> None:
    """No tag of a template is left, no line is too long, and there are never two empty lines."""
    for path in files(kits):
        text = path.read_text()
        assert not re.search(r"\{[{%#]|[}%]\}", text) or path.name == "definitions.json"
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        if path.name != "definitions.json":
            assert "\n\n\n" not in text
            assert all(len(line) <= 120 for line in text.splitlines())


def test_systemd_takes_the_drop_in(kits: Path, tmp_path: Path) -> None:
    """Beside the unit, and with a group that exists here."""
    program = shutil.which("systemd-analyze")
    for party in PARTIES:
        text = (kits / party / "service.conf").read_text()
        assert f"\nGroup=tercet-{party}\n" in text
        secret = "tls.key" if (kits / party / "authority.pem").exists() and "tls" in text else None
        assert ("LoadCredential=tls:/etc/tercet/%i/tls.key" in text) == (secret is not None)
        if program is None:
            continue
        unit = tmp_path / party / f"tercet@{party}.service"
        drop_in = tmp_path / party / f"{unit.name}.d" / "kit.conf"
        drop_in.parent.mkdir(parents=True)
        unit.write_text(UNIT.read_text().replace("/opt/tercet/bin/tercet", shutil.which("true") or "/bin/true"))
        drop_in.write_text(text.replace(f"tercet-{party}", "nogroup").replace("# Supp", "Supp"))
        found = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, check=False)
        assert unit.name not in found.stderr, found.stderr
