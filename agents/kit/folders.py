"""Writes all parties' start-up kits as one new folder, whole or not at all.

Only its owner may read it. It overwrites nothing.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tercet.agents.core.private_file import replace
from tercet.agents.kit.contents import kit_contents
from tercet.agents.kit.logins import make_passwords
from tercet.schemas.files.consortium import Consortium
from tercet.schemas.files.invalid import Invalid

MOST_BYTES: Final = 2**20  # of a file of authorities; that of a whole system has a fifth of it


def write_kits(consortium: Consortium, out: Path) -> None:
    """Write a folder for each party and one for the broker, with new logins.

    Raises:
        Invalid: `out` exists or cannot be written, or the authority's file has no certificate.
    """
    if out.exists() or out.is_symlink():
        raise Invalid(f"{out} exists, and is not overwritten; remove it, or give another folder as --out")
    broker = consortium.broker
    authority = None if broker.authority is None else _certificates(broker.authority)
    passwords = make_passwords(consortium.parties) if broker.login == "password" else {}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            _write(Path(folder) / "kits", kit_contents(consortium, passwords, authority))
            (Path(folder) / "kits").rename(out)
    except OSError as error:
        raise Invalid(f"{out}: {error.strerror}; give a folder that can be made") from None


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(mode=0o700)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        replace(path, text.encode())


def _certificates(path: Path) -> str:
    """Read the certificates of a file, and nothing else that may be in it, such as a key."""
    from cryptography import x509  # noqa: PLC0415 - few consortia have a file
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            found = x509.load_pem_x509_certificates(file.read(MOST_BYTES))
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}; give the authority's certificate") from None
    except ValueError:
        raise Invalid(f"{path}: no certificate; give the authority's, as PEM") from None
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in found)
