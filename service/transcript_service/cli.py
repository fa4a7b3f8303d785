"""`transcript-service`: serve, fetch a transcript, follow a trace, see how it is going.

Bad input is one line on stderr and exit code 2; a job that failed is one line and 1. `status`
ends with 1 when the service is unhealthy and with 3 when it cannot tell.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from . import __version__
from .plain_text import visible
from .problem import Problem
from .settings import Settings, SettingsError, get_settings
from .tokens import SCOPES, TokenError, TokenStore

# Where the launcher of a checkout keeps its service's files, for a terminal there.
_LAUNCHERS: Final = Path(".stack/service")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_hours = click.option(
    "--hours", default="1", show_default=True, help="How far back to look, up to 168."
)


def _fail(message: str, *, code: int = 1) -> NoReturn:
    click.echo(f"transcript-service: {visible(message)}", err=True)
    sys.exit(code)


class _Commands(click.Group):
    """The commands below; what goes wrong in one of them is told in a line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            _fail(str(error), code=2)
        except Problem as problem:
            failed = 3 if ctx.invoked_subcommand == "status" else 1
            _fail(problem.detail, code=2 if problem.status == 400 else failed)
        except TokenError as error:
            _fail(str(error))
        except OSError as error:
            if error.errno == errno.EPIPE:  # nobody reads on
                raise
            _fail(str(error))


def _quiet_settings() -> Settings:
    """The settings, for a command whose log lines would only disturb its output."""
    from .telemetry import configure_logging

    settings = get_settings()
    configure_logging(settings.model_copy(update={"log_level": "ERROR"}))
    return settings


@click.group(cls=_Commands)
@click.version_option(__version__, "-V", "--version", message="transcript-service %(version)s")
def main() -> None:
    """Transcripts of YouTube videos, and what the service that fetches them is doing."""
    os.umask(0o077)  # caches, tokens and logs are nobody else's


@main.command()
def serve() -> None:
    """Serve HTTP with gunicorn, configured by the environment (docs/configuration.md)."""
    get_settings()  # a bad value is told here, not by every worker in turn
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
    from .telemetry import configure_logging, current_trace_id, span, start
    from .transcripts import create_pipeline
    from .transcripts.formats import FORMATS
    from .transcripts.model import TranscriptError
    from .transcripts.wanted import parse_wanted

    try:
        wanted = parse_wanted(video, lang or None, translate, track)
    except TranscriptError as error:
        _fail(error.detail, code=2)
    settings = get_settings()
    quiet = settings.model_copy(update={"log_level": "WARNING"})
    # Telemetry leaves a command only where an endpoint was named for it.
    telemetry = start(quiet) if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ else None
    if telemetry is None:
        configure_logging(quiet)
    try:
        with span("transcript.command"), _progress(wanted.video_id) as tell:
            trace_id = current_trace_id()
            transcript = create_pipeline(settings).fetch(wanted, on_stage=tell)
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
    from .dashboard.search_view import print_trace

    print_trace(_quiet_settings(), trace_id, as_json=as_json)


@main.command()
@_hours
@_as_json
def status(hours: str, as_json: bool) -> None:
    """The dashboard's summary in the terminal. Exit code 1: unhealthy, 3: it cannot be told."""
    from .dashboard.status import print_status

    verdict = print_status(_quiet_settings(), hours, as_json=as_json)
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

    given = {name: value for name, value in asked.items() if value is not None}
    for name in {"min_s", "max_s"} & given.keys():
        given[name] = in_seconds(given[name])
    print_traces(_quiet_settings(), given, as_json=as_json)


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
    print_logs(_quiet_settings(), given, follow=follow, as_json=as_json)


@main.group("token")
def token() -> None:
    """Who may read the dashboard API: tokens, of which only a hash is kept.

    They are for the service with the same STATE_DIR. Where that is not set, they are for the
    stack of `make up` in the current folder, if there is one.
    """


@token.command("create")
@click.argument("client")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="What it opens; repeat it for several. All when left out.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=90,
    show_default=True,
    help="Days until it expires.",
)
def create(client: str, scopes: tuple[str, ...], days: int) -> None:
    """Create a token for CLIENT and print it, once, on stdout.

    To rotate: create a second one, hand it out, revoke the first.
    """
    store = _tokens()
    made, text = store.create(client, scopes or SCOPES, timedelta(days=days))
    click.echo(text)
    until = made.expires_at.isoformat()
    click.echo(
        f"Token {made.id} for {client}: {', '.join(made.scopes)}, until {until}. "
        f"It is shown this once; its hash is in {store.path}.",
        err=True,
    )


@token.command("list")
@_as_json
def list_tokens(as_json: bool) -> None:
    """List the tokens; their secrets are not known any more."""
    from rich.table import Table

    from .dashboard.terminal import create_console, print_json

    store, now = _tokens(), datetime.now(UTC)
    rows = [
        {
            "id": kept.id,
            "client": kept.client,
            "state": kept.state(now),
            "scopes": list(kept.scopes),
            "created": kept.created_at.isoformat(),
            "expires": kept.expires_at.isoformat(),
            "last_used": used.isoformat() if (used := store.last_used(kept.id)) else None,
        }
        for kept in store.tokens()
    ]
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo(f"No token in {store.path}.")
    else:
        table = Table(*(name.replace("_", " ") for name in rows[0]))
        for row in rows:
            cells = (" ".join(cell) if isinstance(cell, list) else cell for cell in row.values())
            table.add_row(*(visible(cell or "–") for cell in cells))
        create_console().print(table)


@token.command("revoke")
@click.argument("token_id")
def revoke(token_id: str) -> None:
    """Close the token TOKEN_ID at once and for good."""
    store = _tokens()
    gone = store.revoke(token_id)
    click.echo(f"Token {gone.id} of {gone.client} is revoked in {store.path}.")


def _tokens() -> TokenStore:
    settings = get_settings()
    path = settings.tokens_path
    told = {"state_dir", "dashboard_tokens_file"} & settings.model_fields_set
    if not told and _LAUNCHERS.is_dir():
        path = _LAUNCHERS.absolute() / path.name
    return TokenStore(path)


if __name__ == "__main__":
    main()
