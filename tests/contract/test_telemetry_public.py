"""The service uses OpenTelemetry by its public names only, so that an upgrade does not break it."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SERVICE = CHECKOUT / "service" / "transcript_service"
# Public in all but name: OpenTelemetry for Python documents logs under these modules.
LOGS = {"_logs", "_log_exporter"}
# Of the interpreter, and of structlog, whose documentation gives it to subclasses.
ALLOWED = {"sys._getframe", "os._exit", "self._context"}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _own(tree: ast.AST) -> Iterator[str]:
    """The private names that a file itself defines."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                yield name


def foreign(sources: dict[str, str]) -> list[str]:
    """Private names that files use of something that they import from `opentelemetry`.

    An attribute is taken for OpenTelemetry's where no file of these defines its name.
    """
    trees = {name: ast.parse(text) for name, text in sources.items()}
    own = {name for tree in trees.values() for name in _own(tree)}
    found = []
    for file, tree in trees.items():
        if "opentelemetry" not in sources[file]:
            continue
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(attr=name) if _is_private(name) and name not in own | LOGS:
                    if ast.unparse(node) not in ALLOWED:
                        found.append(f"{file}:{node.lineno}: {ast.unparse(node)}")
                case ast.Call(func=ast.Name(id="getattr" | "setattr"), args=[_, name, *_]):
                    if isinstance(name, ast.Constant) and _is_private(str(name.value)):
                        found.append(f"{file}:{node.lineno}: {ast.unparse(node)}")
                case ast.ImportFrom(module=str(module), names=names):
                    if module.split(".")[0] != "opentelemetry":
                        continue
                    parts = [*module.split("."), *(alias.name for alias in names)]
                    if any(_is_private(part) and part not in LOGS for part in parts):
                        found.append(f"{file}:{node.lineno}: {ast.unparse(node)}")
    return found


def test_no_private_name_of_opentelemetry_is_used() -> None:
    files = sorted(SERVICE.rglob("*.py"))
    assert foreign({str(path.relative_to(SERVICE)): path.read_text() for path in files}) == []


def test_nor_is_one_where_the_service_is_tested_and_measured() -> None:
    folders = (SERVICE, *(CHECKOUT / name for name in ("bench", "simulator", "tests")))
    files = sorted(path for folder in folders for path in folder.rglob("*.py"))
    assert foreign({str(path.relative_to(CHECKOUT)): path.read_text() for path in files}) == []


@pytest.mark.parametrize(
    "line",
    [
        "tracers._sampler = None",
        "tracers._active_span_processor._span_processors.clear()",
        "getattr(tracers, '_sampler')",
        "class Mine(TracerProvider):\n    def x(self):\n        return self._disabled",
        "from opentelemetry.sdk._configuration import _init_tracing",
        "from opentelemetry.sdk.trace.sampling import _get_from_env_or_default",
    ],
)
def test_the_look_at_names_finds_one(line: str) -> None:
    ours = "from opentelemetry._logs import Logger\nself._mine = 1\nself._mine.x = sys._getframe()"
    assert foreign({"a.py": ours}) == []
    assert len(foreign({"a.py": f"{ours}\n{line}"})) >= 1


def test_versions_are_ranges() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["grpc"]]
    ranges = [line for line in needed if line.startswith("opentelemetry")]
    assert len(ranges) >= 6
    assert all(">=" in line and "<" in line and "==" not in line for line in ranges)
