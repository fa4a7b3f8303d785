"""Builds the engines that are missing, one after the other, in the order of ENGINES."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stack import signals, toolchain
from stack.build import Build, check_space, disk_use, is_built
from stack.errors import StackError
from stack.job import Job
from stack.layout import Layout
from stack.pins import ENGINES_BY_NAME, PAGE, Engine
from stack.progress import Progress

_GO = "go"  # its name in the progress display


class BuildQueue:
    """What is still to be built; `poll` moves it on and never blocks for long.

    One at a time: `go build` uses every core by itself, and the first engines are wanted first.
    """

    def __init__(self, layout: Layout, names: Iterable[str], progress: Progress) -> None:
        """Raises StackError when the disk has no room for what is missing."""
        wanted = set(names)
        self._layout = layout
        self._progress = progress
        self._go = toolchain.find(layout)
        engines = [engine for engine in ENGINES_BY_NAME.values() if engine.name in wanted]
        self.folders: dict[str, Path] = {
            engine.name: engine.folder(layout, self._go.version) for engine in engines
        }
        self._waiting: list[Engine] = [
            engine for engine in engines if not is_built(engine, layout, self._go.version)
        ]
        self._count = len(self._waiting)
        self._installation: Job | None = None
        self._build: Build | None = None
        # How much slower than the pins say this machine has been so far.
        self._slowness = 1.0
        if self._waiting:
            caches = toolchain.cache_dirs(self._go) if self._go.installed else ()
            check_space(self._waiting, layout, caches)
            progress.say(disk_use(self._waiting))

    @property
    def pending(self) -> frozenset[str]:
        """The engines that are not built yet."""
        current = [self._build.engine] if self._build else []
        return frozenset(engine.name for engine in (*current, *self._waiting))

    def poll(self) -> None:
        """Moves on. Raises StackError when something cannot be built."""
        if self._build is None and not self._waiting:
            return
        if not self._go.installed and not self._install_go():
            return
        if self._build is None:
            self._build = Build(self._waiting.pop(0), self._layout, self._go)
        engine = self._build.engine
        try:
            built = self._build.poll()
        except StackError as error:
            if engine is not PAGE:
                raise
            self._build = None
            self._progress.done(engine.name, f"missing, the stack works without it: {error}")
            return
        if built:
            # What was compiled before says nothing about this machine.
            took = self._build.took_s
            if took > engine.cold_s / 4:
                self._slowness = took / engine.cold_s
            self._build = None
            self._progress.done(engine.name, "built")
        else:
            self._progress.doing(engine.name, f"{self._build.doing} ({self._outlook()})")

    def _outlook(self) -> str:
        """`2 of 6, about 3 minutes left`."""
        assert self._build is not None  # noqa: S101 - its caller is building
        left = max(0.0, self._build.engine.cold_s * self._slowness - self._build.took_s)
        left += sum(engine.cold_s for engine in self._waiting) * self._slowness
        minutes = max(1, round(left / 60))
        about = f"about {minutes} minute{'s' if minutes > 1 else ''} left"
        return f"{self._count - len(self._waiting)} of {self._count}, {about}"

    def cancel(self) -> None:
        """Stops what is being built and leaves nothing of it behind."""
        if self._installation is not None:
            self._installation.stop()
        if self._build is not None:
            self._build.cancel()

    def _install_go(self) -> bool:
        if self._installation is None:
            with signals.put_off():
                self._installation = toolchain.installation(self._layout)
        code = self._installation.poll()
        if code is None:
            self._progress.doing(_GO, f"installing the Go toolchain ({self._go.version})")
            return False
        planned = self._go.version
        self._go = toolchain.finish_installation(self._layout, self._installation, code)
        if self._go.version != planned:
            raise StackError(f"the Go toolchain says {self._go.version}, expected {planned}")
        self._progress.done(_GO, f"{self._go.version} installed")
        return True
