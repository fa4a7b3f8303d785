"""Starting and stopping the simulator: the site over TLS and the proxy, both on 127.0.0.1 only."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from simulator.certificates import serving_context
from simulator.proxy import Proxy
from simulator.server import create_app
from simulator.state import State

HOST = "127.0.0.1"

T = TypeVar("T")


class StartError(Exception):
    """The simulator cannot start; the text says why in one line."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running simulator listens."""

    port: int
    proxy_port: int


@asynccontextmanager
async def serving(
    state: State, *, port: int, proxy_port: int, ca_file: Path
) -> AsyncIterator[Addresses]:
    """Run the site and the proxy while the context is open; port 0 takes a free one.

    The CA file is there, whole, before the first connection is accepted.
    Raises StartError.
    """
    state.stopping = asyncio.Event()
    try:
        context = serving_context(ca_file)
    except OSError as error:
        raise StartError(f"cannot write the CA file {ca_file}: {error.strerror}") from error
    # A client that gives up ends its handler, so the log shows how long it waited.
    runner = web.AppRunner(
        create_app(state), access_log=None, handler_cancellation=True, shutdown_timeout=1.0
    )
    await runner.setup()
    proxy: Proxy | None = None
    try:
        site = web.TCPSite(runner, HOST, port, ssl_context=context)
        await _listen(site.start(), port)
        actual = runner.addresses[0][1]
        proxy = Proxy(state, actual)
        yield Addresses(actual, await _listen(proxy.start(proxy_port), proxy_port))
    finally:
        state.stopping.set()
        if proxy is not None:
            await proxy.stop()
        await runner.cleanup()


async def _listen(start: Awaitable[T], port: int) -> T:
    try:
        return await start
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"port {port} is already in use") from error
        raise StartError(f"cannot listen on {HOST}:{port}: {error.strerror}") from error
