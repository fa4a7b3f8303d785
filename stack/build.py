"""Builds one engine, once: behind a lock, in a folder that is put in place when it is whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import IO

from stack import signals, toolchain
from stack.errors import StackError
from stack.job import Job
from stack.layout import CHECKOUT, Layout
from stack.pins import BUILD_FLAGS, Engine
from stack.toolchain import Go

BUILD_SCRIPT = CHECKOUT / "stack" / "build_engine.sh"

# With empty Go caches, one after the other in the order of ENGINES (the first ones pay for what
# they share), in bytes: what stays (the engine, and what Go keeps of it to be quick the next
# time), and what is needed besides while it is built (sources, the linker's files).
DISK = {
    "otel-collector": (520_000_000, 500_000_000),
    "prometheus": (860_000_000, 1_300_000_000),
    "alertmanager": (240_000_000, 500_000_000),
    "victorialogs": (60_000_000, 400_000_000),
    "jaeger": (1_170_000_000, 1_250_000_000),
    "otel-gateway": (760_000_000, 900_000_000),
    "kustomize": (150_000_000, 300_000_000),
    "prometheus-page": (3_000_000, 800_000_000),
    "thanos": (900_000_000, 1_500_000_000),
}


def disk_use(engines: Collection[Engine]) -> str:
    """What building `engines` takes, in a line for people."""
    stays, most = sum(DISK[engine.name][0] for engine in engines), needed_bytes(engines)
    return (
        f"building what is missing ({len(engines)}) takes up to {most / 1e9:.1f} GB "
        f"of disk, of which {stays / 1e9:.1f} GB stay (in .stack/bin and Go's build cache)"
    )


def needed_bytes(engines: Collection[Engine]) -> float:
    """The most that is taken at any time."""
    stays = sum(DISK[engine.name][0] for engine in engines)
    return stays + max(DISK[engine.name][1] for engine in engines)


def is_built(engine: Engine, layout: Layout, go_version: str) -> bool:
    """Whether this very build of the engine is there; a folder in place is always whole."""
    return engine.folder(layout, go_version).is_dir()


def check_space(engines: Collection[Engine], layout: Layout, caches: Iterable[Path]) -> None:
    """Raises StackError when a cold build of `engines` would fill a disk.

    STACK_MIN_FREE_GB replaces the estimate; 0 tries in any case (a warm cache needs little).
    """
    needed = needed_bytes(engines)
    asked = os.environ.get("STACK_MIN_FREE_GB")
    if asked is not None:
        try:
            needed = float(asked) * 1e9
        except ValueError:
            raise StackError(f"STACK_MIN_FREE_GB must be a number, not {asked!r}") from None
    for folder in (layout.bin_dir, *caches):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if free < needed:
            raise StackError(
                f"not enough disk space to build: {free / 1e9:.1f} GB free at {existing}, "
                f"{needed / 1e9:.1f} GB needed with empty Go caches "
                "(STACK_MIN_FREE_GB=0 tries in any case)"
            )


class Build:
    """One engine being built; `poll` moves it on and never blocks for long."""

    def __init__(self, engine: Engine, layout: Layout, go: Go) -> None:
        self.engine = engine
        self.started = time.monotonic()
        self._layout = layout
        self._go = go
        self._target = engine.folder(layout, go.version)
        self._staging = layout.bin_dir / f".build-{engine.name}"
        self._rest = layout.bin_dir / f".rest-{engine.name}"
        self._lock: IO[str] | None = None
        self._job: Job | None = None

    @property
    def took_s(self) -> float:
        """Since its beginning, in seconds."""
        return time.monotonic() - self.started

    @property
    def doing(self) -> str:
        """What is going on, in a few words."""
        if self._job is None:
            return "waiting for another launcher that builds it"
        line = self._job.last_line
        if not line:
            return "looking up what is compiled already"
        if self.engine.script:
            return line
        if line.startswith("go: downloading "):
            return "downloading " + line.removeprefix("go: downloading ")
        # The main package comes last and is small; what takes its time then is the linker.
        if line in (*self.engine.packages, f"engines/{self.engine.name}"):
            return f"linking {line.rpartition('/')[2]}"
        return f"compiling {line}"

    def poll(self) -> bool:
        """Whether the engine is built now. Raises StackError when it cannot be."""
        if self._job is None:
            if not self._take_lock():
                return False
            if self._target.is_dir():  # somebody else was first
                self._link()
                self._release()
                return True
            with signals.put_off():
                self._job = self._start()
        code = self._job.poll()
        if code is None:
            return False
        if code != 0:
            job = self._job
            self.cancel()
            known = toolchain.known_failure(job)
            raise StackError(
                f"{self.engine.name} cannot be built: "
                f"{known or f'its build ended with {code}'} (log: {job.log})",
                () if known else tuple(job.tail)[-20:],
            )
        (self._staging / "tmp").replace(self._rest)
        self._staging.replace(self._target)
        self._link()
        # A gigabyte of small files: what waits for this engine need not wait for that.
        threading.Thread(target=shutil.rmtree, args=(self._rest, True)).start()
        self._release()
        return True

    def cancel(self) -> None:
        """Stops the build and leaves nothing of it behind."""
        if self._job is not None:
            self._job.stop()
        if self._lock is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
        self._release()

    def _start(self) -> Job:
        # Holding the lock, whatever lies there is from a launcher that was killed.
        shutil.rmtree(self._staging, ignore_errors=True)
        shutil.rmtree(self._rest, ignore_errors=True)
        temporary = self._staging / "tmp"
        temporary.mkdir(parents=True)
        env = toolchain.environment(self._go)
        env["GOTMPDIR"] = str(temporary)  # the linker's files: on the disk that was checked
        env["GO"] = str(self._go.path)
        if toolchain.keeps_no_modules(self._go):
            # Removed with the folder; with a cache of Go's own they would stay for good.
            env["GOMODCACHE"] = str(temporary / "modules")
            env["GOFLAGS"] = "-modcacherw"
        log = self._layout.log(f"build-{self.engine.name}")
        if self.engine.script:
            command = [str(self.engine.module_dir / self.engine.script), str(self._staging)]
            env["PYTHON"] = sys.executable
            return Job(command, env=env, cwd=self.engine.module_dir, log=log)
        # With "." the program takes its name from the file, else from the folder of the package.
        name = self.engine.binaries[0] if self.engine.packages == (".",) else ""
        env |= {"PACKAGES": " ".join(self.engine.packages), "OUTPUT": f"{self._staging}/{name}"}
        command = [str(BUILD_SCRIPT), *BUILD_FLAGS, "-tags", self.engine.tags]
        return Job(command, env=env, cwd=self.engine.module_dir, log=log)

    def _link(self) -> None:
        for name in self.engine.binaries:
            link = self._layout.binary(name)
            staged = link.with_name(f".link-{name}-{os.getpid()}")
            with contextlib.suppress(FileNotFoundError):
                staged.unlink()
            staged.symlink_to(Path(self._target.name) / name)
            staged.replace(link)

    def _take_lock(self) -> bool:
        self._layout.bin_dir.mkdir(parents=True, exist_ok=True)
        lock = (self._layout.bin_dir / f".lock-{self.engine.name}").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None
