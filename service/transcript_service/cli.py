"""`transcript-service`: serve, fetch a transcript, follow a trace, see how it is going.

Bad input is one line on stderr and exit code 2; a job that failed is one line and 1. `status`
ends with 1 when the service is unhealthy and with 3 when it cannot tell.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

import click

from . import __version__
from .plain_text import visible
from .settings import Settings, SettingsError, get_settings

_T = TypeVar("_T")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_hours = click.option(
    "--hours", default="1", show_default=True, help="How far back to look, up to 168."
)


def _settings() -> Settings:
    try:
        return get_settings()
    except SettingsError as error:
        _fail(str(error), code=2)


def _fail(message: str, *, code: int = 1) -> NoReturn:
    click.echo(f"transcript-service: {visible(message)}", err=True)
    sys.exit(code)


class _Commands(click.Group):
    """The commands below and `token`, whose room is only entered when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "token"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "token":
            from .web.token_cli import token_group

            return token_group
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands)
@click.version_option(__version__, "-V", "--version", message="transcript-service %(version)s")
def main() -> None:
    """Transcripts of YouTube videos, and what the service that fetches them is doing."""
    os.umask(0o077)  # caches, tokens and logs are nobody else's


@main.command()
def serve() -> None:
    """Serve HTTP with gunicorn, configured by the environment (docs/configuration.md)."""
    _settings()  # a bad value is told here, not by every worker in turn
    config = f"python:{__package__}.gunicorn_conf"
    arguments = ["gunicorn", "-c", config, f"{__package__}.web:create_app()"]
    os.execv(sys.executable, [sys.executable, "-m", *arguments])  # noqa: S606 - becomes the server


# Video ids may begin with `-`: what is no option is the video.
@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("video")
@click.option("--lang", default="", help="Wanted languages, most wanted first: en,de.")
@click.option("--translate", help="Language to have the captions translated into: de.")
@click.option("--track", help="Name of the captions, where a language has several: Dialogue.")
@click.option(
    "--format",
    "fmt",
    type=click.Choice(["json", "srt", "vtt", "text"]),
    default="text",
    show_default=True,
)
def fetch(video: str, lang: str, translate: str | None, track: str | None, fmt: str) -> None:
    """Fetch the transcript of VIDEO (an id or a URL) without a server, and print it."""
    settings = _settings()
    from .telemetry import configure_logging, current_trace_id, span, start
    from .transcripts import create_pipeline
    from .transcripts.formats import FORMATS
    from .transcripts.model import TranscriptError
    from .transcripts.wanted import parse_wanted

    try:
        wanted = parse_wanted(video, lang or None, translate, track)
    except TranscriptError as error:
        _fail(error.detail, code=2)
    quiet = settings.model_copy(update={"log_level": "WARNING"})
    # Telemetry leaves a command only where an endpoint was named for it.
    telemetry = start(quiet) if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ else None
    if telemetry is None:
        configure_logging(quiet)
    try:
        with span("transcript.command"), _progress(wanted.video_id) as tell:
            trace_id = current_trace_id()
            transcript = create_pipeline(settings).fetch(wanted, on_stage=tell)
    except SettingsError as error:
        _fail(str(error), code=2)
    except TranscriptError as error:
        tried = ", ".join(f"{a.stage}: {a.error_type}" for a in error.attempts)
        _fail(f"{error.error_type}: {error.detail}" + (f" (tried {tried})" if tried else ""))
    finally:
        if telemetry is not None:
            telemetry.shutdown()
    _, write = FORMATS[fmt]
    sys.stdout.buffer.write(visible(write(transcript, trace_id).decode()).encode())


@contextmanager
def _progress(video_id: str) -> Iterator[Callable[[str], None] | None]:
    """What to call with each stage that begins; `None` where nobody watches."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with console.status(Text(video_id)) as shown:
        yield lambda stage: shown.update(Text(f"{video_id}  {stage}"))


@main.command()
@click.argument("trace_id")
@_as_json
def trace(trace_id: str, as_json: bool) -> None:
    """Show the spans of TRACE_ID as a waterfall, with the log lines of each beneath it."""
    from .dashboard.trace_view import print_trace

    _run(lambda settings: print_trace(settings, trace_id, as_json=as_json))


@main.command()
@_hours
@_as_json
def status(hours: str, as_json: bool) -> None:
    """The dashboard's summary in the terminal. Exit code 1: unhealthy, 3: it cannot be told."""
    from .dashboard.status import print_status

    verdict = _run(lambda settings: print_status(settings, hours, as_json=as_json), failed=3)
    sys.exit({"unhealthy": 1, "unknown": 3}.get(verdict, 0))


_STAGE = click.option("--stage", help="Only what concerns this stage.")
_VIDEO = click.option("--video", help="Only this video, by its id.")


@main.command()
@_hours
@_VIDEO
@_STAGE
@click.option("--outcome", help="success, no_captions, blocked, timeout, error or skipped.")
@click.option("--error-type", help="Such as ip_blocked.")
@click.option("--source", help="The stage that delivered, or cache.")
@click.option("--min", "min_s", help="At least this long: 5s, 300ms.")
@click.option("--max", "max_s", help="At most this long.")
@click.option("--limit", help="At most so many, up to 200.")
@_as_json
def traces(as_json: bool, **asked: str | None) -> None:
    """Search traced requests, the newest first."""
    from .dashboard.search_view import in_seconds, print_traces

    def action(settings: Settings) -> None:
        given = {name: value for name, value in asked.items() if value is not None}
        for name in {"min_s", "max_s"} & given.keys():
            given[name] = in_seconds(given[name])
        print_traces(settings, given, as_json=as_json)

    _run(action)


@main.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with the lines that come.")
@click.option("--level", help="This and above: debug, info, warning or error.")
@_VIDEO
@_STAGE
@click.option("--limit", help="At most so many at first, up to 500.")
@_as_json
def logs(follow: bool, as_json: bool, **asked: str | None) -> None:
    """Show the newest log lines, one object a line with --json."""
    from .dashboard.search_view import print_logs

    given = {name: value for name, value in asked.items() if value is not None}
    _run(lambda settings: print_logs(settings, given, follow=follow, as_json=as_json))


def _run(action: Callable[[Settings], _T], *, failed: int = 1) -> _T:
    settings = _settings()
    from .problem import Problem
    from .telemetry import configure_logging

    configure_logging(settings.model_copy(update={"log_level": "ERROR"}))
    try:
        return action(settings)
    except SettingsError as error:
        _fail(str(error), code=2)
    except Problem as problem:
        _fail(problem.detail, code=2 if problem.status == 400 else failed)


if __name__ == "__main__":
    main()
