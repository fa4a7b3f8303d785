"""Breaks a module in small ways, one at a time, and tells which of them its tests notice.

    python -m tests.mutations service/transcript_service/resilience/breaker_state.py \
        tests/unit/test_circuit_breaker.py --count 14

Every change is made in a copy of the service, which the tests then run against. What they do not
notice is printed: an assertion is missing, or the change means the same.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parent.parent

_TURNED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.And: ast.Or,
    ast.Or: ast.And,
}  # fmt: skip
_NO_LOCK = ast.parse("__import__('contextlib').nullcontext()", mode="eval").body


def changes(tree: ast.Module) -> Iterator[tuple[ast.AST, str, Any]]:
    """(node, field, another value for it) of every change there is."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(ops=[operator]) | ast.BoolOp(op=operator) | ast.BinOp(op=operator):
                if type(operator) in _TURNED:
                    other = _TURNED[type(operator)]()
                    yield (
                        (node, "ops", [other])
                        if isinstance(node, ast.Compare)
                        else (node, "op", other)
                    )
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                yield node, "test", ast.UnaryOp(ast.Not(), test)
            case ast.Constant(value=bool(value)):
                yield node, "value", not value
            case ast.Constant(value=int(value) | float(value)):
                yield node, "value", value + 1
            case ast.With(items=[ast.withitem(optional_vars=None)]):
                yield node, "items", [ast.withitem(_NO_LOCK)]
            case ast.Call(keywords=[_, *rest]):  # a label that is dropped
                yield node, "keywords", rest
            case ast.Return(value=ast.expr()):
                yield node, "value", ast.Constant(None)


def broken(source: str, number: int) -> tuple[str, str]:
    """The source with its `number`-th change, and what that is."""
    tree = ast.parse(source)
    node, field, value = list(changes(tree))[number]
    before = ast.unparse(node).partition("\n")[0]
    setattr(node, field, value)
    after = ast.unparse(ast.fix_missing_locations(node)).partition("\n")[0]
    return ast.unparse(tree), f"{getattr(node, 'lineno', 0)}: {before}  ->  {after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--count", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkout", type=Path, default=CHECKOUT, help="whose tests run")
    given = parser.parse_args()
    source = given.module.read_text()
    numbers = range(len(list(changes(ast.parse(source)))))
    chosen = sorted(random.Random(given.seed).sample(numbers, min(given.count, len(numbers))))
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "service")
        shutil.copytree(given.checkout / "service", copy)
        module = copy / given.module.absolute().relative_to(given.checkout / "service")
        for number in chosen:
            text, what = broken(source, number)
            module.write_text(text)
            if not _noticed(given.tests, given.checkout, copy):
                missed += 1
                print(f"not noticed: {given.module}:{what}", flush=True)
    print(f"{given.module.name}: {len(chosen) - missed} of {len(chosen)} noticed")
    return 0


def _noticed(tests: list[str], checkout: Path, service: Path) -> bool:
    """Whether a test fails, or none comes to an end."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command,
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(service), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            timeout=600,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
