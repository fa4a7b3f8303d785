"""The simulator's own certificate authority.

It lasts over restarts: a client that read its certificate once goes on trusting it.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path

import trustme

NAMES = (
    "www.youtube.com",
    "m.youtube.com",
    "youtube.com",
    "consent.youtube.com",
    "*.googlevideo.com",
    "video.google.com",
    "www.google.com",
    "localhost",
    "127.0.0.1",
)


def serving_context(ca_file: Path) -> ssl.SSLContext:
    """A TLS context for :data:`NAMES`, signed by the authority whose PEM is in ``ca_file``.

    Where there is none, or its key is missing beside it (same name, ``.key``), both are made,
    each file in one step. Raises OSError where they cannot be written.
    """
    authority = _kept(ca_file) or _made(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES).configure_cert(context)
    return context


def _kept(ca_file: Path) -> trustme.CA | None:
    try:
        key = ca_file.with_suffix(".key").read_bytes()
        return trustme.CA.from_pem(ca_file.read_bytes(), key)
    except (FileNotFoundError, ValueError):  # ValueError: not a certificate, not a key
        return None


def _made(ca_file: Path) -> trustme.CA:
    authority = trustme.CA(organization_name="YouTube simulator")
    # The certificate last: whoever sees it may connect.
    _write_at_once(ca_file.with_suffix(".key"), authority.private_key_pem.bytes(), 0o600)
    _write_at_once(ca_file, authority.cert_pem.bytes(), 0o644)
    return authority


def _write_at_once(path: Path, data: bytes, mode: int) -> None:
    # A reader that waits for the file must never see half of it.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
