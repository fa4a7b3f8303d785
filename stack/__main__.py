"""`python -m stack`: the launcher's command line.

Exit codes: 0 done, 1 could not (the reason is one line on stderr), 2 wrong use, 128 + n ended by
signal n (130 for Ctrl-C).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from stack import signals
from stack.build_queue import BuildQueue
from stack.check import check
from stack.credentials import USER
from stack.errors import Interrupted, StackError, explain
from stack.layout import Layout
from stack.lock import state_lock
from stack.pins import ENGINES_BY_NAME, USUAL
from stack.programs import EXTRAS, PROGRAMS, Options
from stack.progress import Progress
from stack.status import status, table
from stack.supervise import Supervisor, orphans
from stack.up import summary, up


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = _parser().parse_args(argv)
    signals.raise_them()
    try:
        return int(_COMMANDS[arguments.command](Layout.from_env(), arguments))
    except StackError as error:
        return _fail(error)
    except BrokenPipeError:
        # Whoever read our output has had enough; keep Python from saying so at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _fail(explain(error))
    except Interrupted as interrupted:
        print("\nstack: interrupted", file=sys.stderr)
        return 128 + interrupted.signum


def _fail(error: StackError) -> int:
    for line in error.details:
        print(f"  | {line}", file=sys.stderr)
    print(f"stack: {error}", file=sys.stderr)
    return 1


def _up(layout: Layout, arguments: argparse.Namespace) -> int:
    options = Options(
        without=frozenset(arguments.without),
        extras=frozenset(arguments.extras),
        recordings=arguments.recordings,
        page=arguments.page,
        scaled=arguments.scaled,
    )
    started = time.monotonic()
    up(layout, options, wait=arguments.wait)
    state = "up" if arguments.wait else "started"
    print(f"The stack is {state} ({time.monotonic() - started:.0f} s):")
    print(summary(layout, options))
    # The password itself only to a person: what a program keeps of this may be read by others.
    password = layout.engine_password.read_text() if sys.stdout.isatty() else ""
    print(f"Sign in to the last ones as {USER} {password or f'({layout.engine_password})'}")
    return 0


def _down(layout: Layout, arguments: argparse.Namespace) -> int:
    supervisor = Supervisor(layout)
    if supervisor.pid() is None and not orphans(layout):
        print("The stack is not running.")
        return 0
    with state_lock(layout):
        started = time.monotonic()
        supervisor.shutdown()
    print(f"The stack is down ({time.monotonic() - started:.0f} s); its state is kept.")
    return 0


def _status(layout: Layout, arguments: argparse.Namespace) -> int:
    rows = status(layout)
    if not rows:
        print(f"The stack is not running ({layout.state_dir}).")
        return 1
    print(table(rows))
    return 0 if all(row.not_ready is None for row in rows) else 1


def _build(layout: Layout, arguments: argparse.Namespace) -> int:
    layout.log_dir.mkdir(parents=True, exist_ok=True)
    with Progress() as progress:
        builds = BuildQueue(layout, arguments.engine or USUAL, progress)
        try:
            while builds.pending:
                builds.poll()
                time.sleep(0.2)
        except BaseException:
            builds.cancel()
            raise
    print(f"The engines are built ({layout.bin_dir}).")
    return 0


def _check(layout: Layout, arguments: argparse.Namespace) -> int:
    findings = check(layout)
    for finding in findings:
        print(f"{finding.file}: {finding.problem or 'ok'}")
    return 1 if any(finding.problem for finding in findings) else 0


def _logs(layout: Layout, arguments: argparse.Namespace) -> int:
    path = layout.log(arguments.name)
    if not path.exists():
        raise StackError(f"there is no log of {arguments.name} ({path})")
    with path.open(errors="replace") as file:
        for line in file.readlines()[-arguments.lines :]:
            print(line, end="")
        while arguments.follow:
            line = file.readline()
            if line:
                print(line, end="", flush=True)
            else:
                time.sleep(0.2)
    return 0


def _env(layout: Layout, arguments: argparse.Namespace) -> int:
    for name, value in layout.endpoints().items():
        print(f"{name}={value}")
    return 0


_COMMANDS = {
    "up": _up,
    "down": _down,
    "status": _status,
    "build": _build,
    "check": _check,
    "logs": _logs,
    "env": _env,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stack",
        description="Runs the observability stack and the service as ordinary processes.",
        epilog="STACK_DIR: the state folder (.stack). STACK_PORT_OFFSET: added to every port (0). "
        "STACK_BIN_DIR: where built engines are (.stack/bin).",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("up", help="build what is missing and start everything")
    command.add_argument(
        "--without", nargs="+", action="extend", default=[], metavar="NAME", choices=PROGRAMS
    )
    command.add_argument(
        "--with",
        dest="extras",
        action="append",
        default=[],
        choices=EXTRAS,
        help="also run the simulator, or it and a steady load on the service; may be repeated",
    )
    command.add_argument(
        "--recordings", type=lambda text: Path(text).absolute(), help="served by the simulator"
    )
    command.add_argument(
        "--page", action="store_true", help="also build Prometheus' own page, after all else"
    )
    command.add_argument(
        "--scaled",
        action="store_true",
        help="three services, and two of each engine that can be several (docs/scaling.md)",
    )
    command.add_argument("--wait-all", dest="wait", action="store_true", default=True)
    command.add_argument(
        "--no-wait", dest="wait", action="store_false", help="return when everything is started"
    )

    commands.add_parser("down", help="stop everything; the state is kept")
    commands.add_parser("status", help="what runs; exit code 0 when all of it serves")

    command = commands.add_parser("build", help="build engines without starting them")
    command.add_argument("engine", nargs="*", metavar="ENGINE", choices=[*ENGINES_BY_NAME, []])

    commands.add_parser("check", help="let the built engines validate their configuration files")

    command = commands.add_parser("logs", help="the end of a program's log")
    command.add_argument("name", choices=[*PROGRAMS, "supervisord"])
    command.add_argument("-n", "--lines", type=int, default=50)
    command.add_argument("-f", "--follow", action="store_true")

    commands.add_parser("env", help="the addresses of this stack as KEY=VALUE lines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
