"""Run gunicorn with the service's own configuration, and load it."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port

CHECKOUT = Path(__file__).parent.parent


def patience(seconds: float) -> float:
    """`seconds` of this machine alone, as long as they are while others work on it too."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Gunicorn:
    """One running master with its workers."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    def log(self) -> str:
        """Everything on stderr so far."""
        return self._log.read_text()

    def wait_for_log(self, text: str, times: int = 1, timeout_s: float = 180.0) -> None:
        """Wait until stderr holds `text` so often."""
        end = time.monotonic() + timeout_s
        while self.log().count(text) < times:
            assert time.monotonic() < end, f"no {times} × {text!r} in:\n{self.log()[-3000:]}"
            assert self.process.poll() is None, self.log()[-3000:]
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the master."""
        self.process.send_signal(number)

    def workers(self) -> list[int]:
        """The workers' process ids."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def stop(self, timeout_s: float = 120.0) -> float:
        """SIGTERM, wait for the end. Returns the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout_s)
        return time.monotonic() - began

    def get(self, path: str) -> bytes:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def gunicorn(
    tmp_path: Path,
    environ: Mapping[str, str],
    app: str = "tests.telemetry_app:create_app()",
    workers: int = 4,
    config: str = "transcript_service.gunicorn_conf",
) -> Iterator[Gunicorn]:
    """Start it, wait until all workers are ready, end it in any case."""
    port = free_port()
    log = tmp_path / "stderr.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "--config",
                f"python:{config}",
                app,
            ],
            cwd=CHECKOUT,
            stderr=stderr,
            env={
                **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
                "PYTHONPATH": str(CHECKOUT),
                "SERVICE_BIND": f"127.0.0.1:{port}",
                "WEB_CONCURRENCY": str(workers),
                "WEB_THREADS": "4",
                "STATE_DIR": str(tmp_path / "state"),
                **environ,
            },
        )
    running = Gunicorn(process, port, log)
    try:
        running.wait_for_log('"service.started"', workers)
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def load(
    port: int,
    path: Callable[[int], str],
    count: int,
    *,
    clients: int = 8,
    at: Mapping[int, Callable[[], object]] | None = None,
) -> dict[int, bytes]:
    """Answer bodies of `count` requests by number, over kept-alive connections.

    Args:
        port: where the service listens.
        path: of the n-th request.
        count: how many.
        clients: connections at once.
        at: what to do (once) before the n-th request is sent.
    """
    answers: dict[int, bytes] = {}
    numbers = iter(range(count))
    lock = threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            if at and number in at:
                at[number]()
            # A server that closes a kept-alive connection has not read the request; only
            # then may it be sent again.
            for _ in range(50):
                try:
                    connection.request("GET", path(number))
                    response = connection.getresponse()
                    body = response.read()
                except (http.client.RemoteDisconnected, ConnectionError):
                    connection.close()
                    continue
                assert response.status == 200, response.status
                answers[number] = body
                break
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
