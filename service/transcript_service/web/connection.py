"""A client's connection that holds up no thread: read ahead, written behind.

The worker's loop reads a request until it is whole and only then gives it to a thread; the
thread leaves to the loop what the client does not take at once. So a client may be as slow as
it likes and costs memory, which is bounded, instead of a thread.
"""

from __future__ import annotations

import errno
import re
import socket
from collections import deque
from typing import Any, Final

# A head that is longer is refused. Long enough for gunicorn to say itself what is too long.
MAX_HEAD_BYTES: Final = 128 * 1024
# The webhook takes 1 MiB and says so itself to somebody who sends a little more.
MAX_BODY_BYTES: Final = 2 * 1024 * 1024
_READ_BYTES: Final = 64 * 1024
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.IGNORECASE)


class Refused(Exception):
    """A request that is not read to its end. `status` is what to answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Connection(socket.socket):
    """The service's end. Threads call `recv` and `sendall`, the loop everything else."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._received = bytearray()
        self._request = bytearray()
        self._pending: deque[memoryview] = deque()
        self.is_answered = False
        """Whether no more will be sent: only the client's end is waited for."""
        self.is_given_up = False
        """Whether the loop has closed it and counts it no more; a thread may close it before."""

    @classmethod
    def over(cls, plain: socket.socket) -> Connection:
        """Take over the connection of `plain`, which is of no use afterwards."""
        made = cls(plain.family, plain.type, plain.proto, fileno=plain.detach())
        made.setblocking(False)
        return made

    @property
    def held_bytes(self) -> int:
        """What waits here for the client or for the rest of its request."""
        return len(self._received) + sum(map(len, self._pending))

    @property
    def has_begun(self) -> bool:
        """Whether some of a request is here that is not whole yet."""
        return bool(self._received)

    @property
    def has_pending(self) -> bool:
        """Whether some of the answer is still to be taken."""
        return bool(self._pending)

    # --- the loop's side ---------------------------------------------------------------------

    def read_ahead(self) -> bool:
        """Take what has arrived, after the answer to throw it away; `False` at its end."""
        try:
            data = super().recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        if not self.is_answered:
            self._received += data
        return bool(data)

    def take_request(self) -> bytes | None:
        """The head of the next request once the whole request is here, else `None`.

        Raises:
            Refused: it is too large, or does not say how long it is (RFC 9112, 6.3).
        """
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > MAX_HEAD_BYTES:
                raise Refused(431 if b"\r\n" in self._received else 414)
            return None
        head = bytes(self._received[: end + 4])
        if _CHUNKED.search(head):
            raise Refused(411)
        # What is no proper length here is none for gunicorn either, which refuses it.
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        if length > MAX_BODY_BYTES:
            raise Refused(413)
        if len(self._received) < len(head) + length:
            return None
        self._request = self._received[: len(head) + length]
        del self._received[: len(head) + length]
        return head

    def write_more(self) -> bool:
        """Send what the client takes now; `False` when it is gone."""
        try:
            while self._pending:
                part = self._pending.popleft()
                sent = super().send(part, socket.MSG_DONTWAIT)
                if sent < len(part):
                    self._pending.appendleft(part[sent:])
        except (BlockingIOError, InterruptedError):
            self._pending.appendleft(part)
        except OSError:
            return False
        return True

    def hang_up(self) -> bool:
        """Say that no more will be sent; `False` when the client is gone."""
        try:
            self.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        self.is_answered = True
        return True

    # --- a thread's side ---------------------------------------------------------------------

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """The request that was read ahead.

        After its end `ConnectionResetError`: a parser that asks for more has read it otherwise
        than `take_request`, and the rest must not pass for a next request.
        """
        data = bytes(self._request[:size])
        del self._request[:size]
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "the request ended here")
        return data

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send what the client takes now and keep the rest for the loop, without a copy."""
        self._pending.append(memoryview(data))
        if len(self._pending) == 1 and not self.write_more():
            self._pending.clear()
            raise BrokenPipeError(errno.EPIPE, "the client is gone")
