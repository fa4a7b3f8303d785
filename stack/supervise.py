"""The process supervisor (supervisord) of one stack: configured, started, asked and stopped.

Programs are declared with autostart off and started one by one, each as soon as it is built;
from then on supervisord restarts what dies. It runs detached, the launcher ends.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.errors import StackError
from stack.layout import Layout
from stack.ports import is_alive, process_ids
from stack.programs import PROGRAMS, Options, Program
from stack.render import write

# Every program carries it, so that one whose supervisor was killed is still known as ours.
MARKER = "STACK_STATE"

_START_WITHIN_S = 20.0
_END_WITHIN_S = 15.0
_RPC_TIMEOUT_S = 10.0

# supervisor.xmlrpc.Faults has it too, whose import is a quarter of this program's start.
SPAWN_ERROR = 50

# Consecutive failed starts are 1, 2, 3, ... s apart; 60 of them are half an hour of trying, long
# enough for someone to free a full disk.
_START_RETRIES = 60


@dataclass(frozen=True)
class ProcessInfo:
    """What the supervisor knows of one program. Times are in seconds since the epoch."""

    name: str
    state: str
    pid: int
    started: int
    stopped: int
    now: int
    error: str

    @property
    def running(self) -> bool:
        return self.state in ("STARTING", "RUNNING")

    @property
    def ended(self) -> bool:
        return self.state in ("STOPPED", "EXITED", "FATAL")


class Supervisor:
    """One stack's supervisord, running or not."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def pid(self) -> int | None:
        """Its process id, or None when it does not run.

        A pid file that outlived a reboot is not believed, and one that was deleted is not
        needed: a process is this supervisor when it runs with this stack's configuration.
        """
        try:
            noted = [int(self.layout.supervisor_pid_file.read_text())]
        except (OSError, ValueError):
            noted = []
        return next(filter(self._is_supervisor, (*noted, *process_ids())), None)

    def _is_supervisor(self, pid: int) -> bool:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return (
            b"supervisor.supervisord" in command
            and os.fsencode(self.layout.supervisor_config) in command
        )

    def start(self) -> None:
        """Starts supervisord with the configuration written before. Raises StackError."""
        endpoint = self.layout.supervisor_socket
        endpoint.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for stale in (endpoint, self.layout.supervisor_pid_file):
            stale.unlink(missing_ok=True)
        command = [sys.executable, "-m", "supervisor.supervisord"]
        done = subprocess.run(
            [*command, "-c", str(self.layout.supervisor_config)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_WITHIN_S
        while done.returncode == 0 and time.monotonic() < deadline:
            with contextlib.suppress(StackError):
                self.processes()
                return
            time.sleep(0.05)
        words = (done.stderr or done.stdout).strip().splitlines() or ["it does not answer"]
        raise StackError(
            f"the supervisor cannot be started: {words[-1]} (log: {self.layout.log('supervisord')})"
        )

    def processes(self) -> dict[str, ProcessInfo]:
        """All programs it knows by name. Raises StackError when it does not answer."""
        with self._rpc() as server:
            return {info["name"]: _info(info) for info in _dicts(server.getAllProcessInfo())}

    def apply(self) -> set[str]:
        """Makes it follow the configuration on disk; the programs this stopped for a change."""
        with self._rpc() as server:
            [[added, changed, removed]] = _lists(server.reloadConfig())
        self.stop([*changed, *removed])
        with self._rpc() as server:
            for name in (*changed, *removed):
                server.removeProcessGroup(name)
            for name in (*added, *changed):
                server.addProcessGroup(name)
        return set(changed)

    def launch(self, name: str) -> None:
        """Starts one program and does not wait for it.

        One that has ended by the time supervisord answers counts as started too: its state says
        what became of it, whoever was faster.
        """
        with self._rpc() as server:
            try:
                server.startProcess(name, False)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != SPAWN_ERROR:
                    raise

    def stop(self, names: Iterable[str]) -> None:
        """Stops programs in good order; returns when they have ended.

        Bounded: what does not end within its time is killed by supervisord.
        """
        wanted = [PROGRAMS[name] for name in names if name in PROGRAMS]
        for tier in sorted({program.tier for program in wanted}, reverse=True):
            together = [program for program in wanted if program.tier == tier]
            for program in together:
                with self._rpc() as server, contextlib.suppress(xmlrpc.client.Fault):
                    server.stopProcess(program.name, False)
            bound = max(program.stop_within_s for program in together) + 5.0
            _wait(functools.partial(self._ended, together), bound)

    def shutdown(self) -> None:
        """Ends every program and the supervisor itself, also one that no longer answers."""
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(StackError):
                self.stop(self.processes())
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            _wait(lambda: self.pid() != pid, _END_WITHIN_S)
            if self.pid() == pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                _wait(lambda: self.pid() != pid, _END_WITHIN_S)
        end_orphans(self.layout)
        for left in (self.layout.supervisor_socket, self.layout.supervisor_pid_file):
            left.unlink(missing_ok=True)

    def _ended(self, programs: Iterable[Program]) -> bool:
        known = self.processes()
        return all(known[p.name].ended for p in programs if p.name in known)

    @contextlib.contextmanager
    def _rpc(self) -> Any:
        """Calls on supervisord's `supervisor` namespace; a dead one is a StackError."""
        transport = _UnixTransport(self.layout.supervisor_socket)
        proxy = xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport)
        try:
            yield proxy.supervisor
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise StackError(f"the supervisor does not answer: {error}") from error
        except xmlrpc.client.Fault as fault:
            raise StackError(f"the supervisor refused: {fault.faultString}") from fault
        finally:
            transport.close()


def write_config(
    layout: Layout, options: Options, folders: Mapping[str, Path], names: Iterable[str]
) -> None:
    """Writes supervisord's configuration for the programs `names`.

    `folders` says where the binaries of each engine are (or will be, once built).
    """
    sections = [
        f"""\
; Written by `python -m stack up`; changes are lost at the next one.
[unix_http_server]
file={_text(layout.supervisor_socket)}
chmod=0700

[supervisord]
logfile={_text(layout.log("supervisord"))}
logfile_maxbytes=5MB
logfile_backups=1
pidfile={_text(layout.supervisor_pid_file)}
directory={_text(layout.checkout)}
childlogdir={_text(layout.log_dir)}
umask=077

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    ]
    for name in names:
        program = PROGRAMS[name]
        command = program.command(layout, options, folders.get(program.built_as, layout.bin_dir))
        environment = program.environment(layout, options) | {
            MARKER: str(layout.state_dir),
            # Not read by anyone: a change of the files makes supervisord see a changed program.
            "STACK_CONFIG": _digest(layout, program),
        }
        pairs = ",".join(f'{key}="{_text(value)}"' for key, value in sorted(environment.items()))
        sections.append(
            f"""\
[program:{name}]
command={_text(shlex.join(command))}
directory={_text(program.directory(layout))}
environment={pairs}
priority={program.tier}
autostart=false
autorestart=true
startsecs=1
startretries={_START_RETRIES}
stopsignal=TERM
stopwaitsecs={program.stop_within_s}
; The stop signal is for the program itself, which knows how to end its workers and browsers in
; good order; what is killed is killed with all its children.
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={_text(layout.log(name))}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=2
"""
        )
    # It names no secret, but it is nobody else's business either.
    write(layout.supervisor_config, "\n".join(sections), mode=0o600)


def end_orphans(layout: Layout) -> list[int]:
    """Ends programs of this stack whose supervisor is gone; their process ids."""
    found = orphans(layout)
    for signum in (signal.SIGTERM, signal.SIGKILL):
        for pid in orphans(layout):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signum)
        # Really gone: one that is ending loses its environment before its ports.
        if _wait(lambda: not any(map(is_alive, found)), _END_WITHIN_S):
            break
    return found


def orphans(layout: Layout) -> list[int]:
    """Processes that a supervisor of this stack started, whoever their parent is now."""
    marker = f"{MARKER}={layout.state_dir}".encode()
    found = []
    for pid in process_ids():
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # gone, or another user's
        if marker in environ.split(b"\0") and pid != os.getpid():
            found.append(pid)
    return found


def _wait(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _digest(layout: Layout, program: Program) -> str:
    digest = hashlib.sha256()
    for name in program.config_files:
        path = layout.checkout / name
        for file in sorted(path.glob("*")) if path.is_dir() else [path]:
            with contextlib.suppress(OSError):
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _text(value: object) -> str:
    """For supervisord's ini file, which expands percent signs."""
    return str(value).replace("%", "%%")


def _info(info: Mapping[str, Any]) -> ProcessInfo:
    return ProcessInfo(
        name=str(info["name"]),
        state=str(info["statename"]),
        pid=int(info["pid"]),
        started=int(info["start"]),
        stopped=int(info["stop"]),
        now=int(info["now"]),
        error=str(info["spawnerr"]),
    )


def _dicts(answer: Any) -> list[Mapping[str, Any]]:
    return list(answer)


def _lists(answer: Any) -> list[list[list[str]]]:
    return list(answer)


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket, which the standard library lacks."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _UnixConnection(self._path)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_RPC_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_RPC_TIMEOUT_S)
        self.sock.connect(str(self._path))
