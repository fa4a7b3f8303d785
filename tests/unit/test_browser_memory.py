"""Reading a process tree's memory and a container's limit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.browser_settings import alive
from transcript_service.browser import memory

GIB = 2**30


def container(tmp_path: Path, *, used: int, limit: str, cache: int = 0) -> tuple[Path, Path]:
    """A cgroup v2 tree in which the limit stands one level above the process."""
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    pod = root / "pod"
    (pod / "service").mkdir(parents=True)
    proc.mkdir()
    (proc / "cgroup").write_text("0::/pod/service\n")
    (pod / "memory.max").write_text(f"{limit}\n")
    (pod / "memory.current").write_text(f"{used}\n")
    (pod / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    (pod / "service" / "memory.max").write_text("max\n")
    (pod / "service" / "memory.current").write_text(f"{used}\n")
    return root, proc


@pytest.mark.parametrize(
    ("used", "cache", "limit", "pressure"),
    [
        (GIB * 80 // 100, 0, str(GIB), False),
        (GIB * 95 // 100, 0, str(GIB), True),
        # File cache is given back when needed.
        (GIB * 95 // 100, GIB // 2, str(GIB), False),
        (GIB * 95 // 100, 0, "max", False),
    ],
)
def test_a_container_near_its_limit_is_under_pressure(
    tmp_path: Path, used: int, cache: int, limit: str, pressure: bool
) -> None:
    root, proc = container(tmp_path, used=used, limit=limit, cache=cache)
    assert memory.cgroup_pressure(root, proc) is pressure


def test_cgroup_v1_is_understood(tmp_path: Path) -> None:
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    folder = root / "memory" / "docker"
    folder.mkdir(parents=True)
    proc.mkdir()
    (proc / "cgroup").write_text("5:cpu:/docker\n4:memory:/docker\n")
    (folder / "memory.limit_in_bytes").write_text(f"{GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{GIB - 1}\n")
    (folder / "memory.stat").write_text("total_inactive_file 0\n")
    assert memory.cgroup_pressure(root, proc)
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # v1's "no limit"
    assert not memory.cgroup_pressure(root, proc)


def test_a_machine_without_cgroups_has_no_pressure(tmp_path: Path) -> None:
    assert not memory.cgroup_pressure(tmp_path, tmp_path)


@pytest.fixture
def family() -> subprocess.Popen[str]:
    """A process with a child of its own, both waiting."""
    code = (
        "import subprocess, sys; "
        "p = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE); "
        "print(p.pid, flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_the_tree_is_measured_from_the_driver_down(family: subprocess.Popen[str]) -> None:
    [child] = psutil.Process(family.pid).children()
    # As with Chromium: our child is the driver, its child the browser whose pid we know.
    tree = memory.process_tree(child.pid)
    assert [process.pid for process in tree] == [family.pid, child.pid]
    used = memory.usage_bytes(child.pid)
    assert used is not None
    assert 2**20 < used < GIB
    memory.kill_tree(tree)
    assert not any(alive(process) for process in tree)


def test_a_process_that_is_gone_has_no_memory() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert memory.usage_bytes(gone.pid) is None
