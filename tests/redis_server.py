"""A redis-server of a test's own, and clients as the service has them."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import redis
from pydantic import SecretStr

from tests.needed import needed
from tests.ports import free_port
from transcript_service.resilience.shared_redis import connect
from transcript_service.settings import Settings


class Server:
    """On loopback, keeping nothing on disk."""

    def __init__(self, folder: Path, password: str | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.password = password
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [needed("redis-server"), "--port", str(self.port)]
        command += ["--bind", "127.0.0.1", "--save", ""]
        if self.password:
            command += ["--requirepass", self.password]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)
        until(self._answers)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def hang(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def _answers(self) -> bool:
        try:
            return bool(redis.Redis.from_url(self.url, password=self.password).ping())
        except redis.ConnectionError:
            return False


def until(condition: object, limit_s: float = 20.0) -> None:
    """Wait for what soon comes true."""
    assert callable(condition)
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.01)


def client(url: str, timeout_s: float = 0.5) -> redis.Redis:
    """As the service has it."""
    made = connect(Settings(redis_url=SecretStr(url)), timeout_s)
    assert made is not None
    return made
