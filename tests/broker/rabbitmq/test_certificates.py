"""The certificates that docs/broker.md makes satisfy Python 3.13, and older ones are refused with what to do."""

import re
import ssl
import subprocess
from pathlib import Path

import pytest
from yarl import URL

from tercet.broker.rabbitmq.errors import login_refusal
from tests.certificates import write_certificate

DOCUMENT = Path(__file__).parents[3] / "docs" / "broker.md"
NAME = "broker.example.com"


def handshake(folder: Path, party: str | None, name: str, key: str | None = None) -> None:
    """Let both sides agree on TLS, each with a certificate, as strictly as Python 3.13 does by itself."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "authority.pem"))
    asking = ssl.create_default_context(cafile=str(folder / "authority.pem"))
    serving.load_cert_chain(folder / "server.pem", folder / "server.key")
    if party is not None:
        serving.verify_mode = ssl.CERT_REQUIRED
        asking.load_cert_chain(folder / f"{party}.pem", folder / (key or f"{party}.key"))
    for context in (serving, asking):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(down, up, server_hostname=name)
    server = serving.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_the_commands_in_the_document_make_what_a_strict_check_takes(tmp_path: Path):
    """The block is run as it stands; the broker shows its certificate and a party its own."""
    (commands,) = re.findall(r"```sh\n(umask.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    subprocess.run(["sh", "-eu", "-c", commands], cwd=tmp_path, check=True, capture_output=True)
    handshake(tmp_path, "bank", NAME, "bank-tls.key")
    assert not (tmp_path / "bank-tls.key").stat().st_mode & 0o077


@pytest.mark.parametrize("of_the_authority", [True, False])
def test_a_certificate_that_only_a_strict_check_refuses_is_told_with_what_to_do(tmp_path: Path, of_the_authority: bool):
    """What an older authority signed: valid, and refused from Python 3.13 on."""
    authority = write_certificate(tmp_path, "authority", None, strict=not of_the_authority)
    write_certificate(tmp_path, "server", authority, strict=of_the_authority)
    with pytest.raises(
        ssl.SSLCertVerificationError, match="key usage" if of_the_authority else "Key Identifier"
    ) as caught:
        handshake(tmp_path, None, "127.0.0.1")
    said = str(login_refusal(caught.value, URL("amqps://127.0.0.1")))
    assert "Python 3.13 and later refuse" in said
    assert "docs/broker.md" in said


def test_another_fault_of_a_certificate_is_not_laid_to_python(tmp_path: Path):
    """A wrong name is the settings' or the certificate's own."""
    write_certificate(tmp_path, "server", write_certificate(tmp_path, "authority", None))
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(tmp_path, None, "elsewhere.example")
    assert "check the authorities" in str(login_refusal(caught.value, URL("amqps://elsewhere.example")))
