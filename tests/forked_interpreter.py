"""An interpreter that has the libraries already: forked from one that has imported them.

That is most of what a new interpreter costs. What reads the environment while it is imported,
such as OpenTelemetry, is not among them. Imports nothing heavy itself: each child imports it.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_LIBRARIES = (
    *("flask", "google.protobuf.message", "orjson", "requests", "structlog", "structlog.dev"),
    "transcript_service.settings",
)
_CONTEXT.set_forkserver_preload([*_LIBRARIES])


def run_forked(code: str, environ: Mapping[str, str], timeout_s: float) -> tuple[str, str]:
    """(stdout, stderr) of a process that runs `code` with this environment and no other.

    Raises:
        AssertionError: it took longer, or ended with something else than 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        process = _CONTEXT.Process(target=_run, args=(code, dict(environ), stdout, stderr))
        process.start()
        process.join(timeout_s)
        if process.is_alive():
            process.kill()
            process.join()
        said = stderr.read_text() if stderr.exists() else ""
        assert process.exitcode == 0, (process.exitcode, said[-10_000:])
        return stdout.read_text(), said


def _run(code: str, environ: Mapping[str, str], stdout: Path, stderr: Path) -> None:
    for path, number in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:0] = environ.get("PYTHONPATH", "").split(":")
    failed = False
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
    except BaseException:
        sys.excepthook(*sys.exc_info())
        failed = True
    # As every interpreter ends; multiprocessing leaves the second out.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if failed:
        sys.exit(1)
