"""stack/build_engine.sh: what is on the disk while it compiles, with a stand-in for Go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from stack.build import BUILD_SCRIPT

PACKAGES = [f"example.org/p{number}" for number in range(1500)]

# Downloads one module, of which one file is compiled; each build notes what there is, and asked.
GO = f"""\
#!{sys.executable}
import os, pathlib, sys

work, modules = pathlib.Path(os.environ["GOTMPDIR"]), pathlib.Path(os.environ["GOMODCACHE"])
if sys.argv[1] == "list" and ".GoFiles" in sys.argv[4]:
    for name in ("m/go.mod", "m/a.go", "m/a_test.go", "m/rest/b.go", "cache/m.mod", "cache/m.zip"):
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        (modules / name).touch()
    print(os.path.normpath(modules / "m/a.go"))
elif sys.argv[1] == "list":
    print("\\n".join({PACKAGES}))
else:
    there = sorted(str(p.relative_to(modules)) for p in modules.rglob("*") if p.is_file())
    with (work / "seen").open("a") as seen:
        print(*there, "|", *sys.argv[2:], file=seen)
"""


def builds(folder: Path, cache: str) -> list[tuple[list[str], list[str]]]:
    """(files of the module cache, arguments) of every `go build`."""
    work = folder / ".." / folder.name  # as somebody may write STACK_BIN_DIR
    (folder / "go").write_text(GO)
    (folder / "go").chmod(0o755)
    env = {"GO": str(folder / "go"), "GOTMPDIR": str(work), "GOMODCACHE": str(work / cache)}
    env |= {"PACKAGES": "example.org/cmd/a example.org/cmd/b", "OUTPUT": "out/"}
    subprocess.run([BUILD_SCRIPT, "-flag"], env=dict(os.environ) | env, cwd=folder, check=True)
    lines = (line.split("|") for line in (folder / "seen").read_text().splitlines())
    return [(there.split(), asked.split()) for there, asked in lines]


def test_packages_are_compiled_in_parts_and_the_programs_last(tmp_path: Path) -> None:
    *parts, last = [asked for _, asked in builds(tmp_path, "modules")]

    assert last == ["-v", "-flag", "-o", "out/", "example.org/cmd/a", "example.org/cmd/b"]
    assert all(asked[:2] == ["-v", "-flag"] for asked in parts)
    assert [package for asked in parts for package in asked[2:]] == PACKAGES
    assert max(map(len, parts)) < 1000


def test_only_what_is_compiled_stays_of_the_builds_own_modules(tmp_path: Path) -> None:
    for there, _ in builds(tmp_path, "modules"):
        assert there == ["cache/m.mod", "m/a.go", "m/go.mod"]


def test_a_module_cache_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    for there, _ in builds(tmp_path, "home"):
        assert len(there) == 6
