"""The simulator's own certificate authority, made anew at each start."""

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
    """A TLS context for :data:`NAMES`; writes the authority's PEM to ``ca_file`` in one step.

    Raises OSError where the file cannot be written.
    """
    authority = trustme.CA(organization_name="YouTube simulator")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES).configure_cert(context)
    _write_at_once(ca_file, authority.cert_pem.bytes())
    return context


def _write_at_once(path: Path, data: bytes) -> None:
    # A reader that waits for the file must never see half of it.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
