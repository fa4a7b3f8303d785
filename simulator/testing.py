"""The simulator for tests: in this process, on a thread of its own, on free ports."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from simulator.faults import Fault
from simulator.serving import Addresses, serving
from simulator.state import State

START_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """A simulator under test, driven over its control API like any other client would."""

    port: int
    proxy_port: int
    ca_file: Path
    state: State
    """For assertions; its owner is the simulator's thread."""

    @property
    def resolve_to(self) -> str:
        """The value of YOUTUBE_RESOLVE_TO."""
        return f"127.0.0.1:{self.port}"

    def session(self, *, timeout_s: float = 10.0) -> requests.Session:
        """A session whose https requests, to whatever host, go to this simulator.

        Every request has a timeout, also those of libraries that give none.
        """
        return _SimulatorSession(self.port, self.ca_file, timeout_s)

    def set_fault(self, video: str, *faults: str | dict[str, Any]) -> None:
        """Give a video these faults and no others, e.g. ``"http_429@timedtext"``."""
        self._control("PUT", f"videos/{video}/fault", list(faults))

    def set_faults(self, *faults: str | dict[str, Any], seed: int = 0) -> None:
        """Switch on these faults for every video."""
        self._control("PUT", "faults", {"seed": seed, "faults": list(faults)})

    def set_proxy_users(self, users: dict[str, dict[str, Any]]) -> None:
        """Who the proxy lets in; see the control API's PUT /_sim/proxy."""
        self._control("PUT", "proxy", {"users": users})

    def requests(self, **wanted: str) -> list[dict[str, Any]]:
        """The request log, oldest first; filter with ``video``, ``endpoint``, ``host``."""
        query = "&".join(f"{name}={value}" for name, value in {"last": "5000", **wanted}.items())
        found: list[dict[str, Any]] = self._control("GET", f"requests?{query}")["requests"]
        return found

    def connects(self) -> list[dict[str, Any]]:
        """The proxy's log: target, user and status of every CONNECT."""
        found: list[dict[str, Any]] = self._control("GET", "proxy")["connects"]
        return found

    def reset(self) -> None:
        """Switch everything off and forget the logs."""
        self._control("DELETE", "")

    def _control(self, method: str, path: str, body: object = None) -> Any:
        answer = requests.request(
            method,
            f"https://127.0.0.1:{self.port}/_sim/{path}",
            json=body,
            verify=str(self.ca_file),
            timeout=10,
        )
        if not answer.ok:
            raise ValueError(f"{method} /_sim/{path}: {answer.status_code} {answer.text.strip()}")
        return answer.json() if answer.content else None


class _SimulatorAdapter(HTTPAdapter):
    """Connects to a port of this machine, with the name and certificate of the asked-for host."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        name = host["host"]
        return (
            {**host, "host": "127.0.0.1", "port": self._port},
            {**pool, "server_hostname": name, "assert_hostname": name},
        )

    def add_headers(self, request: requests.PreparedRequest, **kwargs: Any) -> None:
        # urllib3 would name the host it connects to.
        request.headers["Host"] = urlsplit(request.url or "").hostname or ""


class _SimulatorSession(requests.Session):
    def __init__(self, port: int, ca_file: Path, timeout_s: float) -> None:
        super().__init__()
        self.mount("https://", _SimulatorAdapter(port))
        # A CA bundle or proxy named in the environment would win over the session's own.
        self.trust_env = False
        self.verify = str(ca_file)
        self._timeout_s = timeout_s

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self._timeout_s
        return super().send(request, **kwargs)


@contextmanager
def running_simulator(
    folder: Path,
    *,
    recordings_folder: Path | None = None,
    faults: tuple[str, ...] = (),
    seed: int = 0,
    port: int = 0,
) -> Iterator[RunningSimulator]:
    """Run a simulator while the context is open; its CA file is ``folder/simulator-ca.pem``.

    Raises StartError or RecordingsError.
    """
    state = State()
    state.plan.seed = seed
    state.plan.everywhere = [Fault.parse(spec) for spec in faults]
    if recordings_folder is not None:
        state.serve(recordings_folder)
    ca_file = folder / "simulator-ca.pem"
    ready = threading.Event()
    addresses: list[Addresses] = []
    failures: list[BaseException] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with serving(state, port=port, proxy_port=0, ca_file=ca_file) as bound:
            addresses.append(bound)
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, name="simulator", daemon=True)
    thread.start()
    if not ready.wait(START_TIMEOUT_S):
        raise TimeoutError("the simulator did not start")
    if failures:
        raise failures[0]
    try:
        yield RunningSimulator(addresses[0].port, addresses[0].proxy_port, ca_file, state)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_TIMEOUT_S)
