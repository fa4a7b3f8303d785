"""`up`: builds what is missing, starts each program as soon as it can, waits until all serve."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection

from stack import signals
from stack.build_queue import BuildQueue
from stack.errors import StackError, explain
from stack.layout import Layout
from stack.lock import state_lock
from stack.pins import PAGE
from stack.ports import holder, is_free
from stack.programs import PAGES, PROGRAMS, SCALED_PAGES, Options, Program
from stack.progress import Progress
from stack.ready import Probe
from stack.render import not_built, render
from stack.supervise import ProcessInfo, Supervisor, end_orphans, write_config

_LOG_LINES = 20
_POLL_EVERY_S = 0.1
# Three starts that ended by themselves are a reason to give up; one may be bad luck.
_FAILED_STARTS = 3
# Below this the databases' first files do not fit, and they fail in ways that are hard to read.
_STATE_BYTES = 200_000_000


def up(layout: Layout, options: Options, *, wait: bool = True) -> None:
    """Brings up exactly the programs that `options` names; idempotent.

    Raises StackError (and leaves nothing running that this call started) when one cannot be
    built or does not become ready, Interrupted likewise on a signal.
    """
    unknown = options.without - PROGRAMS.keys()
    if unknown:
        raise StackError(f"no such program: {', '.join(sorted(unknown))}")
    try:
        layout.run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(
            f"the state folder {layout.state_dir} cannot be used: {explain(error)}"
        ) from error
    with state_lock(layout):
        render(layout, options)
        free = shutil.disk_usage(layout.state_dir).free
        if free < _STATE_BYTES:
            raise StackError(
                f"the disk is full: {free / 1e6:.0f} MB free at {layout.state_dir}, "
                f"{_STATE_BYTES / 1e6:.0f} MB needed"
            )
        with Progress() as progress:
            _Up(layout, options, progress, wait=wait).run()


class _Up:
    def __init__(self, layout: Layout, options: Options, progress: Progress, *, wait: bool) -> None:
        self._layout = layout
        self._options = options
        self._progress = progress
        self._wait = wait
        self._names = options.names()
        self._supervisor = Supervisor(layout)
        self._fresh = self._supervisor.pid() is None
        self._to_start: list[str] = []
        self._starting: dict[str, _Start] = {}
        self._started: list[str] = []
        self._serving: set[str] = set()
        self._builds: BuildQueue | None = None

    def run(self) -> None:
        try:
            self._run()
        except BaseException:
            self._undo()
            raise

    def _run(self) -> None:
        if self._fresh and end_orphans(self._layout):
            self._progress.say("ended what a supervisor that was killed had left running")
        self._check_ports(self._not_running(), self._given_up())
        wanted = [PROGRAMS[name].built_as for name in self._names]
        wanted += [PAGE.name] if self._options.page else []
        self._builds = BuildQueue(self._layout, wanted, self._progress)
        if self._fresh:
            self._configure()
            not_built(self._layout, self._options, self._builds.pending - {PAGE.name})
            with signals.put_off():
                self._supervisor.start()
            self._to_start = list(self._names)
        else:
            # A running stack goes on running until everything for the new one is there.
            while self._builds.pending - {PAGE.name}:
                self._builds.poll()
                time.sleep(_POLL_EVERY_S)
            self._configure()
            self._supervisor.apply()
            self._to_start = self._not_running()
            self._supervisor.stop(
                self._to_start
            )  # one that fails again and again is between starts
            for name in set(self._names) - set(self._to_start):
                self._starting[name] = _Start(PROGRAMS[name], self._layout)
        while self._to_start or (self._wait and self._starting):
            self._builds.poll()
            self._start_what_can_be()
            self._look_at_starting()
            time.sleep(_POLL_EVERY_S)
        while self._wait and self._builds.pending:  # the page
            self._builds.poll()
            time.sleep(_POLL_EVERY_S)

    def _configure(self) -> None:
        assert self._builds is not None  # noqa: S101 - set just before
        write_config(self._layout, self._options, self._builds.folders, self._names)

    def _not_running(self) -> list[str]:
        known = {} if self._fresh else self._supervisor.processes()
        return [name for name in self._names if name not in known or not known[name].running]

    def _given_up(self) -> set[str]:
        """The ports of programs that run and are not wanted any more."""
        known = {} if self._fresh else self._supervisor.processes()
        going = [name for name in known if name not in self._names and name in PROGRAMS]
        return {port for name in going for port in PROGRAMS[name].ports}

    def _check_ports(self, names: list[str], given_up: Collection[str] = ()) -> None:
        for name in names:
            for port_name in PROGRAMS[name].ports:
                port = self._layout.port(port_name)
                if port_name not in given_up and not is_free(port):
                    who = holder(port) or "another program"
                    raise StackError(
                        f"port {port}, which {name} needs ({port_name}), is taken by {who}; "
                        "stop that, or set STACK_PORT_OFFSET to move every port"
                    )

    def _start_what_can_be(self) -> None:
        assert self._builds is not None  # noqa: S101 - set before the loop
        missing = self._builds.pending
        for name in list(self._to_start):
            program = PROGRAMS[name]
            before = [first for first in program.after if first in self._names]
            if program.built_as in missing or not self._serving.issuperset(before):
                continue
            self._check_ports([name])  # again: a build may have taken minutes
            self._to_start.remove(name)
            self._started.append(name)
            self._supervisor.launch(name)
            if self._fresh:
                not_built(self._layout, self._options, missing - {PAGE.name})
            self._starting[name] = _Start(program, self._layout)
            self._progress.doing(name, "starting")

    def _look_at_starting(self) -> None:
        if not self._starting:
            return
        known = self._supervisor.processes()
        for name, start in list(self._starting.items()):
            why_not = start.look(known[name])
            if why_not is None:
                del self._starting[name]
                self._serving.add(name)
                if name in self._started:
                    url = start.program.url(self._layout)
                    self._progress.done(name, f"ready at {url}" if url else "runs")
            else:
                self._progress.doing(name, f"waiting until it is ready: {why_not}")

    def _undo(self) -> None:
        """Stops what this call started."""
        signals.ignore_them()
        if self._builds is not None:
            self._builds.cancel()
        if self._fresh:
            self._supervisor.shutdown()
        elif self._started:
            self._supervisor.stop(self._started)
        if self._started:
            self._progress.say(f"stopped again: {', '.join(self._started)}")


class _Start:
    """One program between its start and its readiness."""

    def __init__(self, program: Program, layout: Layout) -> None:
        self.program = program
        self._log = layout.log(program.name)
        self._log_from = self._log.stat().st_size if self._log.exists() else 0
        self._probe: Probe = program.probe(layout)
        self._deadline = time.monotonic() + program.ready_within_s
        self._ends: set[int] = set()

    def look(self, info: ProcessInfo) -> str | None:
        """None when it serves, else why it does not yet. Raises StackError when it never will."""
        if info.state in ("BACKOFF", "EXITED", "FATAL"):
            self._ends.add(info.stopped)
        if info.state == "FATAL" or len(self._ends) >= _FAILED_STARTS:
            # Only a program that could not even be executed has an error worth more than the log.
            ended = info.error.startswith(("Exited too quickly", "Bad exit code"))
            raise self._failure((not ended and info.error) or "ends as soon as it is started")
        if not info.running:
            why_not: str | None = "it ended and is started again"
        elif info.state == "STARTING" and not self.program.ports:
            why_not = "it was started just now"  # nothing to ask it: see whether it stays
        else:
            why_not = self._probe()
        if why_not is not None and time.monotonic() > self._deadline:
            within = f"{self.program.ready_within_s:.0f} s"
            raise self._failure(f"is not ready after {within} ({why_not})")
        return why_not

    def _failure(self, what: str) -> StackError:
        lines: list[str] = []
        if self._log.exists():
            with self._log.open(errors="replace") as file:
                # Of this start only; a rotated log is shorter than where we began.
                if self._log.stat().st_size >= self._log_from:
                    file.seek(self._log_from)
                lines = file.read().splitlines()[-_LOG_LINES:]
        return StackError(f"{self.program.name} {what} (log: {self._log})", tuple(lines))


def summary(layout: Layout, options: Options) -> str:
    """The pages for people, the dashboard first."""
    found = []
    served = {port for name in options.names() for port in PROGRAMS[name].ports}
    for title, port, path in SCALED_PAGES if options.scaled else PAGES:
        if port not in served:
            continue
        if port == "prometheus" and not options.scaled and not layout.binary(PAGE.name).exists():
            continue  # it serves, but has no page
        found.append(f"  {title:<16}{layout.url(port, path)}")
    return "\n".join(found)
