"""Gunicorn's threaded worker, whose threads never wait for a client.

In gunicorn a thread reads the request and writes the answer, and waits for the client while it
does; closing a connection makes the loop itself wait. As many slow clients as there are
threads would stop the worker, and behind a burst of transcripts nobody would hear from
`/health/live`. Here the loop reads ahead and writes behind (`connection.py`), and three groups
of threads serve: one for health, one for transcripts, one for everything else. A queue that is
too long is refused at the door.

Gunicorn's own refusals (a request line that is too long, a header that is no header) are
small HTML pages. Callers are promised one error form with a trace id, so the page is replaced
by it; which status it is stays gunicorn's decision.
"""

from __future__ import annotations

import re
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

from gunicorn import util
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn, ThreadWorker

from ..problem import MEDIA_TYPE, Problem, condition
from ..settings import get_settings
from ..telemetry import current_trace_id, get_logger, instruments, refused
from .connection import Connection, Refused

log = get_logger(__name__)

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 (\d{3})")
# Requests of a group that may wait for a thread. Refusing costs a thread 2 ms, so that the last
# of them is answered in half a second.
_MOST_WAITING: Final = 200
_LINGER_S: Final = 2.0
_SWEEP_S: Final = 0.25
# Of a worker, for requests that are not whole and answers that are not taken.
_MOST_HELD_BYTES: Final = 64 * 1024 * 1024
_RETRY_AFTER_S: Final = 5


class _Threads:
    """A group of threads, and how many requests they have."""

    def __init__(self, name: str, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._most = size + _MOST_WAITING
        self.busy = 0

    def submit(self, work: Callable[[], Any], done: Callable[[Future[Any]], None]) -> bool:
        """Have it done; `False` where too many wait. Called by the loop alone."""
        if self.busy >= self._most:
            return False
        self.busy += 1
        self._pool.submit(work).add_done_callback(done)
        return True


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    def init_process(self) -> None:
        settings = get_settings()
        self._client_s = settings.web_client_timeout_s
        self._next_sweep = 0.0
        # Connections that the loop waits for, oldest first, and until when.
        self._watched: dict[TConn, float] = {}
        # Those who wait for a fetch hold a thread too; the few more refuse and serve the cache.
        fetching = settings.web_fetches + settings.web_fetches_waiting + 4
        self._groups = {
            b"health": _Threads("health", 1),
            b"transcripts": _Threads("transcripts", fetching),
            b"others": _Threads("others", settings.web_threads),
        }
        super().init_process()

    # --- from the listener to a thread -------------------------------------------------------

    def accept(self, listener: Any) -> None:
        """Take a new connection, if need be in the place of one that is slow."""
        try:
            plain, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another worker has it, or the client is gone
        if self.nr_conns >= self.worker_connections - 1 and self._watched:
            oldest = next(iter(self._watched))
            self._close(next((c for c in self._watched if c.sock.is_answered), oldest))
        self.nr_conns += 1
        conn = TConn(self.cfg, Connection.over(plain), address, listener.getsockname())
        conn.data_ready = True
        # Most requests are there at once.
        self._read(conn, self._client_s)

    def _read(self, conn: TConn, wait_s: float) -> None:
        if conn.sock.read_ahead():
            self._dispatch(conn, wait_s)
        else:
            self._close(conn)

    def _dispatch(self, conn: TConn, wait_s: float) -> None:
        """Give a whole request to its threads, or wait for the rest of it."""
        try:
            head = conn.sock.take_request()
        except Refused as refused:
            self._refuse(conn, refused.status)
            return
        if head is None:
            self._watch(conn, selectors.EVENT_READ, wait_s, self._readable)
            return
        self._unwatch(conn)
        name = _group(head)
        group = self._groups[name]

        def done(served: Future[Any]) -> None:
            self.method_queue.defer(self._served, conn, served, group)

        if not group.submit(partial(self.handle, conn), done):
            instruments.REQUESTS_REJECTED.add(1, reason="queue")
            if name == b"transcripts":
                instruments.TRANSCRIPT_REQUESTS.add(1, outcome="error", error_type="overloaded")
            self._refuse(conn, 503)

    def _readable(self, conn: TConn) -> None:
        # A kept connection has its idle time until its next request begins.
        begun = conn.sock.has_begun
        wait_s = self._watched[conn] - time.monotonic() if begun else self._client_s
        self._read(conn, wait_s)

    # --- from a thread to the client ---------------------------------------------------------

    def _served(self, conn: TConn, served: Future[Any], group: _Threads) -> None:
        group.busy -= 1
        keep = not served.cancelled() and served.exception() is None and bool(served.result())
        self._write(conn, keep)

    def _write(self, conn: TConn, keep: bool) -> None:
        if not conn.sock.write_more():
            self._close(conn)
        elif conn.sock.has_pending:
            if conn not in self._watched:
                write = partial(self._write, keep=keep)
                self._watch(conn, selectors.EVENT_WRITE, self._client_s, write)
        elif keep:
            self._unwatch(conn)
            # What was sent behind the last request makes the socket readable no more.
            self._dispatch(conn, self._client_s if conn.sock.has_begun else self.cfg.keepalive)
        else:
            self._hang_up(conn)

    def _hang_up(self, conn: TConn) -> None:
        """Close once the client has: closed at once, what it still sends would cut the answer."""
        self._unwatch(conn)
        if conn.sock.hang_up():
            self._watch(conn, selectors.EVENT_READ, _LINGER_S, self._lingering)
        else:
            self._close(conn)

    def _lingering(self, conn: TConn) -> None:
        if not conn.sock.read_ahead():
            self._close(conn)

    def _refuse(self, conn: TConn, status: int) -> None:
        with refused(status):
            self.log.debug("Refused with %s", status)
            with suppress(OSError):  # gone before its answer: hanging up will tell
                conn.sock.sendall(_problem(status))
        self._unwatch(conn)
        self._write(conn, False)

    def handle_error(self, req: Any, client: Connection, addr: Any, exc: BaseException) -> None:
        """Answer a request that gunicorn cannot read; runs in a thread."""
        page = _Page()
        super().handle_error(req, page, addr, exc)
        found = _STATUS_LINE.match(page.sent)
        if found is None:
            return  # gunicorn had nothing to say, such as to a client that is gone
        status = int(found[1])
        with refused(status):
            log.info("http.request.refused", status=status, error_type=type(exc).__name__)
            with suppress(OSError):  # it left before its error
                client.sendall(_problem(status))

    # --- what the loop waits for -------------------------------------------------------------

    def _watch(
        self, conn: TConn, events: int, wait_s: float, ready: Callable[[TConn], None]
    ) -> None:
        if conn in self._watched:
            self._watched[conn] = time.monotonic() + wait_s
            return
        self._watched[conn] = time.monotonic() + wait_s

        def woken(_: Any) -> None:
            # An event earlier in the same batch may have closed it, such as a new connection.
            if conn in self._watched:
                ready(conn)

        self.poller.register(conn.sock, events, woken)

    def _unwatch(self, conn: TConn) -> None:
        if self._watched.pop(conn, None) is not None:
            self.poller.unregister(conn.sock)

    def _close(self, conn: TConn) -> None:
        if conn.sock.is_given_up:
            return
        conn.sock.is_given_up = True
        self._unwatch(conn)
        self.nr_conns -= 1
        util.close(conn.sock)

    def murder_pending(self) -> None:
        """Close what took too long, and the oldest where they hold too much; called by the loop."""
        now = time.monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + _SWEEP_S
        for conn in [conn for conn, until in self._watched.items() if until <= now]:
            self._close(conn)
        held = sum(conn.sock.held_bytes for conn in self._watched)
        for conn in list(self._watched):
            if held <= _MOST_HELD_BYTES:
                break
            held -= conn.sock.held_bytes
            self._close(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        """At the end of the worker: close what is still open."""
        for conn in list(self._watched) if force else ():
            self._close(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        """The worker stops: nobody is waited for longer than that."""
        for conn, until in self._watched.items():
            if not conn.sock.has_begun and not conn.sock.has_pending:
                self._watched[conn] = min(until, deadline)


class RootLogger(Logger):  # type: ignore[misc] # gunicorn has no types
    """Sends gunicorn's messages to the root logger, which writes them like any other record.

    Gunicorn would format lines itself and, given a dictConfig, disable loggers that exist.
    """

    def setup(self, cfg: Any) -> None:
        """Called at start and at every reload of the configuration."""
        self.cfg = cfg
        self._access_log_enabled = self._compute_access_log_enabled()
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), self.LOG_LEVELS["info"])
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True
            log.setLevel(self.loglevel)

    def warning(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """As ever, but what a client sent instead of a request is not repeated.

        Gunicorn quotes pieces of it, and masking does not know half of a line. The event
        `http.request.refused` says what was wrong.
        """
        if not str(msg).startswith("Invalid request from ip="):
            super().warning(msg, *args, **kwargs)


def _group(head: bytes) -> bytes:
    """Which threads serve a request. Only how fast it is answered hangs on it, no right."""
    # An empty line may come first: RFC 9112, 2.2.
    line = head.lstrip(b"\r\n").partition(b"\r\n")[0]
    target = line.partition(b" ")[2].partition(b" ")[0].decode("latin-1")
    try:
        # As gunicorn makes PATH_INFO: what is quoted in a host must not pass for a path.
        path = util.unquote_to_wsgi_str(util.split_request_uri(target).path) + "/"
    except ValueError:
        return b"others"  # gunicorn refuses it
    if path.startswith("/health/"):
        return b"health"
    return b"transcripts" if path.startswith("/api/transcripts/") else b"others"


class _Page:
    """Stands in for the client's socket and keeps the page that gunicorn writes."""

    def __init__(self) -> None:
        self.sent = b""

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        self.sent += data


def _problem(status: int) -> bytes:
    phrase, code = condition(status)
    problem = Problem(status, code, "The request could not be read.")
    if status == 503:
        detail = "Too many requests are waiting already."
        problem = Problem(status, "overloaded", detail, retry_after_s=_RETRY_AFTER_S)
    trace_id = current_trace_id()
    body = problem.document(trace_id=trace_id)
    headers = {
        "Connection": "close",
        "Content-Type": MEDIA_TYPE,
        "X-Correlation-ID": trace_id,
        "Content-Length": str(len(body)),
        **problem.headers,
    }
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
