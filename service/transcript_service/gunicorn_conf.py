"""Gunicorn's settings and the life of a worker's telemetry.

    gunicorn -c python:transcript_service.gunicorn_conf "transcript_service.web:create_app()"

which is what `transcript-service serve` runs.

Providers start after the fork and stop before the worker ends. Nothing is preloaded: a
counter or an export thread that exists before the fork is copied into every worker, where
it counts twice or hangs.
"""

from __future__ import annotations

import gc
import os
import resource
from pathlib import Path
from typing import Any

from . import telemetry
from .browser import get_browser_pool
from .settings import get_settings

# What workers write (caches, tokens' uses, the alert log, browser profiles) is nobody else's.
os.umask(0o077)
_settings = get_settings()
telemetry.configure_logging(_settings)

# Seconds a worker may take to send what it has measured, after its last request.
_FLUSH_S = 8.0

bind = _settings.service_bind
workers = _settings.web_concurrency
worker_class = "transcript_service.web.worker.Worker"  # gthread that waits for no client
# The most that gunicorn takes: a longer URL is refused, but a long one reaches our own answer.
limit_request_line = 8190
threads = _settings.web_threads
# A client that is slow costs a descriptor: as many as we may have, half for everything else.
_, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
_files = min(_hard, 8192) if _hard != resource.RLIM_INFINITY else 8192
resource.setrlimit(resource.RLIMIT_NOFILE, (_files, _hard))
worker_connections = _files // 2
# No header says under which path or scheme we are: it would steer links and redirects.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
# sendfile would write to the client past the worker's loop.
sendfile = False
preload_app = False
# The master waits for the requests and for the flush; a worker is told in `post_fork` to
# keep the last seconds for the flush.
graceful_timeout = _settings.graceful_timeout_s + int(_FLUSH_S) + 2
# No heartbeat for this long means that the worker's main thread hangs.
timeout = max(60, graceful_timeout + 10)
keepalive = 5
max_requests = _settings.web_max_requests
max_requests_jitter = _settings.web_max_requests // 10

# The heartbeat file: on a disk, a slow write can look like a hung worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - memory, not a shared name
control_socket_disable = True

logger_class = "transcript_service.web.worker.RootLogger"  # on the service's log path
loglevel = _settings.log_level.lower()
# The request span and our own line say more, with the trace id.
accesslog = None


def post_fork(server: Any, worker: Any) -> None:
    """In a new worker, before it loads the application."""
    # The worker's own copy of the settings: how long it waits for its requests.
    worker.cfg.set("graceful_timeout", _settings.graceful_timeout_s)
    worker.telemetry = telemetry.start(_settings)
    telemetry.get_logger("transcript_service.worker").info(
        "service.started", workers=workers, threads=threads, bind=bind
    )


def post_worker_init(worker: Any) -> None:
    """In a new worker, once it has loaded the application."""
    runner = worker.wsgi.extensions.get("job_runner")
    if runner is not None:
        runner.start()
    # What is loaded by now stays. Looked through at every full collection, it would hold up
    # all requests for some 70 ms (docs/decisions/garbage-collection.md).
    gc.collect()
    gc.freeze()


def worker_exit(server: Any, worker: Any) -> None:
    """In a worker that ends (stop, reload, max_requests), after its last request."""
    try:
        runner = getattr(getattr(worker, "wsgi", None), "extensions", {}).get("job_runner")
        if runner is not None:
            runner.stop()
        get_browser_pool().close(grace_s=2.0)
    finally:
        # Last, and whatever happened before: what was measured is sent.
        running: telemetry.Telemetry | None = getattr(worker, "telemetry", None)
        if running is not None:
            telemetry.get_logger("transcript_service.worker").info("service.stopping")
            running.shutdown(_FLUSH_S)
