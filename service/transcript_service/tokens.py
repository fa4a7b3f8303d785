"""Opaque bearer tokens of the API, kept as hashes in one file.

A token is `tdash_<id>_<secret><checksum>`: the prefix lets secret scanners find it, the id
finds its record, the secret has 256 bits, the checksum tells a typing error from a guess.
Only SHA-256 of the secret is stored; a slow hash would add nothing to a random secret of
that length but load. Every process reads the file again when it has changed.

Changes are made under a lock on a file beside it, because two commands that read, change and
write at once would lose one of the changes. That file stays: it says that tokens are in use
here, also when the token file is emptied or deleted.

The day of a token's last use stands in a file of its own beside it: were it in the token
file, a worker that notes a use could undo a revocation that happened in between.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, TypeAdapter

from .private_files import make_file, make_folder

SCOPES: Final = ("metrics:read", "alerts:read", "proxy:read", "export:read", "transcripts:read")
# Two, so that a client can take up the new one before the old one is revoked.
MAX_ACTIVE_PER_CLIENT: Final = 2
_TOKEN: Final = re.compile(r"tdash_([0-9a-f]{12})_([0-9a-f]{64})([0-9a-f]{8})", re.ASCII)
_CLIENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


class TokenError(Exception):
    """A token cannot be created or revoked; the text says why."""


class TokensUnreadable(TokenError):
    """The token file exists but cannot be used: nobody gets in until it is repaired."""


class Refused(Exception):
    """A token that opens nothing. `reason` is a value of `dashboard.auth.failures`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Token:
    """What is stored about a token: everything but its secret."""

    id: str
    client: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    scopes: tuple[str, ...]
    created_at: AwareDatetime
    expires_at: AwareDatetime
    revoked_at: AwareDatetime | None = None

    def state(self, now: datetime) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if now >= self.expires_at else "active"


_TOKENS: Final = TypeAdapter(list[Token])


class TokenStore:
    """The token file: JSON, created with the first token, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._tokens: dict[str, Token] = {}
        self._lock_file = path.with_name(f"{path.stem}.lock")
        self._uses = path.with_name(f"{path.stem}-used")
        self._noted: dict[str, date] = {}

    def tokens(self) -> list[Token]:
        """Every token, oldest first.

        Raises:
            TokensUnreadable: the file is damaged or may not be read.
        """
        return list(self._read().values())

    def in_use(self) -> bool:
        """Whether a token was ever made here, even if the token file is gone since."""
        return os.path.lexists(self.path) or os.path.lexists(self._lock_file)

    def check(self, presented: str, *, now: datetime | None = None) -> Token:
        """The record of a presented token.

        Raises:
            Refused: it is malformed, unknown, expired or revoked.
            TokensUnreadable: the file is damaged or may not be read.
        """
        match = _TOKEN.fullmatch(presented)
        if match is None or _checksum(match[1], match[2]) != match[3]:
            raise Refused("malformed")
        token = self._read().get(match[1])
        # The same work for an unknown id as for a wrong secret.
        expected = token.sha256 if token is not None else "0" * 64
        if not hmac.compare_digest(_digest(match[2]), expected) or token is None:
            raise Refused("unknown")
        now = now or datetime.now(UTC)
        state = token.state(now)
        if state != "active":
            raise Refused(state)
        self._note_use(token.id, now.date())
        return token

    def last_used(self, token_id: str) -> date | None:
        """The day (UTC) on which a token last opened something; `None` where none is known."""
        try:
            return date.fromisoformat((self._uses / token_id).read_text())
        except (OSError, ValueError):
            return None

    def create(self, client: str, scopes: Iterable[str], lifetime: timedelta) -> tuple[Token, str]:
        """A new token, and its text, which cannot be had again.

        Raises:
            TokenError: bad name, or the client has two active ones.
        """
        if not _CLIENT.fullmatch(client):
            raise TokenError("a client's name has up to 64 letters, digits, dots, dashes")
        now = datetime.now(UTC).replace(microsecond=0)
        with self._changing() as tokens:
            active = [t for t in tokens.values() if t.client == client and t.state(now) == "active"]
            if len(active) >= MAX_ACTIVE_PER_CLIENT:
                ids = ", ".join(token.id for token in active)
                raise TokenError(f"{client} has two active tokens ({ids}); revoke one first")
            token_id, secret = secrets.token_hex(6), secrets.token_hex(32)
            token = Token(token_id, client, _digest(secret), tuple(scopes), now, now + lifetime)
            self._write({**tokens, token_id: token})
        return token, f"tdash_{token_id}_{secret}{_checksum(token_id, secret)}"

    def revoke(self, token_id: str) -> Token:
        """Close a token for good; revoking it again changes nothing.

        Raises:
            TokenError: there is no such token.
        """
        with self._changing() as tokens:
            token = tokens.get(token_id)
            if token is None:
                raise TokenError(f"there is no token {token_id}")
            if token.revoked_at is None:
                token = replace(token, revoked_at=datetime.now(UTC))
                self._write({**tokens, token_id: token})
        return token

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Token]]:
        """The tokens as the file has them now, while no other thread or process changes it."""
        make_folder(self.path.parent)
        with self._lock:
            lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._stamp = None  # whatever was read before, the file is read again
                yield self._read()
            finally:
                os.close(lock)  # lets go of it

    def _note_use(self, token_id: str, day: date) -> None:
        """Once a day in each process, so that requests cost no write."""
        if self._noted.get(token_id) == day:
            return
        self._noted[token_id] = day  # also where it cannot be written: it is only for information
        with suppress(OSError):
            make_folder(self._uses)
            (self._uses / token_id).write_text(day.isoformat())

    def _read(self) -> dict[str, Token]:
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                found = _TOKENS.validate_json(self.path.read_bytes())
                self._tokens, self._stamp = {token.id: token for token in found}, stamp
        except FileNotFoundError:
            self._stamp, self._tokens = None, {}
        except (OSError, ValueError) as error:
            text = f"the token file cannot be used ({type(error).__name__}); repair or remove it"
            raise TokensUnreadable(text) from error
        return self._tokens

    def _write(self, tokens: dict[str, Token]) -> None:
        # Whole or absent by the rename; nobody else writes it, because the lock is held.
        staged = make_file(self.path.with_name(f".{self.path.name}"))
        with staged.open("wb") as file:
            file.write(_TOKENS.dump_json([*tokens.values()], indent=2))
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self.path)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(token_id: str, secret: str) -> str:
    return f"{zlib.crc32(f'{token_id}_{secret}'.encode()):08x}"
