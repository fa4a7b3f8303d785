"""The command line: ``python -m simulator serve|load|tour|faults``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import NoReturn

from simulator import load, recordings, tour
from simulator.faults import KINDS, Fault, FaultError
from simulator.serving import HOST, StartError, serving
from simulator.state import State
from simulator.voices import speaker_for

EXIT_USAGE = 2


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 after one line on stderr that says why."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "serve":
            return asyncio.run(_serve(options))
        if options.command == "load":
            return asyncio.run(load.run(load.Plan.from_options(options)))
    except (StartError, FaultError, recordings.RecordingsError, load.LoadError) as error:
        print(f"simulator: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 0
    if options.command == "tour":
        tour.show()
    else:
        _print_faults()
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, without the usage around it."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"simulator: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m simulator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="answer as YouTube does, on this machine only")
    serve.add_argument("--host", default=HOST, help="only 127.0.0.1 is accepted")
    serve.add_argument("--port", type=_port, default=8443, help="HTTPS port, 0 for a free one")
    serve.add_argument("--proxy-port", type=_port, default=8444, help="CONNECT proxy port")
    serve.add_argument("--ca-file", type=Path, required=True, help="where to write the CA's PEM")
    serve.add_argument("--recordings", type=Path, help="folder of recorded answers to serve too")
    serve.add_argument("--seed", type=int, default=0, help="seed of random faults")
    serve.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME[@ENDPOINT][:SECONDS][=RATIO]",
        help="a fault for every video; may be repeated; `faults` lists them",
    )
    load.add_options(
        commands.add_parser("load", help="ask a service on this machine for transcripts")
    )
    commands.add_parser("tour", help="print the programme of the demo")
    commands.add_parser("faults", help="print the table of faults")
    return parser


def _port(text: str) -> int:
    number = int(text) if text.isdigit() else -1
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number")
    return number


async def _serve(options: argparse.Namespace) -> int:
    if options.host != HOST:
        raise StartError(f"the simulator listens on {HOST} only, not on {options.host}")
    state = State()
    state.plan.seed = options.seed
    state.plan.everywhere = [Fault.parse(spec) for spec in options.fault]
    if options.recordings is not None:
        state.serve(options.recordings)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(
        state, port=options.port, proxy_port=options.proxy_port, ca_file=options.ca_file
    ) as bound:
        speaker = speaker_for("en")
        sound = speaker.program if speaker else "tones (neither flite nor espeak-ng is installed)"
        print(
            f"simulator: https://{HOST}:{bound.port} (CA in {options.ca_file}), "
            f"proxy http://{HOST}:{bound.proxy_port}, {len(state.videos())} videos, "
            f"{len(state.recordings.bodies)} recordings, {len(state.cases)} cases, sound: {sound}",
            flush=True,
        )
        await stop.wait()
    return 0


def _print_faults() -> None:
    for kind in KINDS.values():
        print(f"{kind.name:18} {kind.summary}  [{', '.join(sorted(kind.endpoints))}]")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
