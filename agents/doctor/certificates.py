"""Judges certificates for `tercet doctor` by their last day."""

import datetime as dt
from pathlib import Path
from typing import Final

from cryptography import x509

from tercet.agents.doctor.finding import Finding, fail, ok, warn

SOON: Final = dt.timedelta(days=30)


def read_certificate(path: Path) -> x509.Certificate | None:
    """Read the first certificate of a file; None if it cannot be read."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError):
        return None  # it was good enough for ssl


def validity(check: str, what: str, certificate: x509.Certificate | None, now: dt.datetime, hint: str) -> Finding:
    """Tell how long a certificate is valid; `hint` says how to have another one."""
    if certificate is None:
        return ok(check, f"{what} cannot be looked into")
    end = certificate.not_valid_after_utc
    if end < now:
        return fail(check, f"{what} has been invalid since {end:%Y-%m-%d}", hint)
    if end < now + SOON:
        return warn(check, f"{what} is valid until {end:%Y-%m-%d} only", hint)
    return ok(check, f"{what} is valid until {end:%Y-%m-%d}")
