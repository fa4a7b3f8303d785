"""The catalogue of log events is closed, documented and used as declared."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import transcript_service
from transcript_service.telemetry import events
from transcript_service.telemetry.events import CATALOGUE

PACKAGE = Path(str(transcript_service.__file__)).parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def calls() -> Iterator[tuple[str, str, int]]:
    """(event, file, line) of every log call in the service with a literal event."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
                # `self.log` is gunicorn's own, in its worker classes.
                and re.search(r"^(log|self\._log)\b", ast.unparse(node.func.value))
            ):
                yield node.args[0].value, str(path.relative_to(PACKAGE)), node.lineno


def test_every_event_the_code_writes_is_in_the_catalogue() -> None:
    unknown = [f"{file}:{line} {event}" for event, file, line in calls() if event not in CATALOGUE]
    assert unknown == []


def test_every_entry_is_read_and_names_no_field_twice() -> None:
    written = re.findall(r"^([^\s#:]+):", events._CATALOGUE, re.MULTILINE)
    assert list(CATALOGUE) == written  # an entry without a name, meaning or end is not read
    for fields in CATALOGUE.values():
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in fields)
        assert len(set(fields)) == len(fields)
