"""`transcript-service token`: create, list and revoke the dashboard API's tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click
from rich.table import Table

from ..dashboard.terminal import create_console, print_json
from ..plain_text import visible
from ..settings import SettingsError, get_settings
from .tokens import SCOPES, TokenError, TokenStore, TokensUnreadable

# Where the launcher of a checkout keeps its service's files, for a terminal there.
_LAUNCHERS: Final = Path(".stack/service")


@contextmanager
def _store() -> Iterator[TokenStore]:
    """The tokens; what goes wrong with them is told as the command's error."""
    try:
        settings = get_settings()
        path = settings.tokens_path
        told = {"state_dir", "dashboard_tokens_file"} & settings.model_fields_set
        if not told and _LAUNCHERS.is_dir():
            path = _LAUNCHERS.absolute() / path.name
    except (SettingsError, OSError) as error:
        raise click.UsageError(str(error)) from error
    try:
        yield TokenStore(path)
    except TokensUnreadable as error:
        text = f"the token file cannot be used ({error}); repair or remove it"
        raise click.ClickException(text) from error
    except (TokenError, OSError) as error:
        raise click.ClickException(str(error)) from error


@click.group("token")
def token_group() -> None:
    """Who may read the dashboard API: tokens, of which only a hash is kept.

    They are for the service with the same STATE_DIR. Where that is not set, they are for the
    stack of `make up` in the current folder, if there is one.
    """


@token_group.command("create")
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
    with _store() as store:
        token, text = store.create(client, scopes or SCOPES, timedelta(days=days))
    click.echo(text)
    click.echo(
        f"Token {token.id} for {client}: {', '.join(token.scopes)}, until {token.expires_at}. "
        f"It is shown this once; its hash is in {store.path}.",
        err=True,
    )


@token_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def list_tokens(as_json: bool) -> None:
    """List the tokens; their secrets are not known any more."""
    with _store() as store:
        tokens = store.tokens()
    now = datetime.now(UTC)
    rows = [
        {
            "id": token.id,
            "client": token.client,
            "state": token.state(now),
            "scopes": list(token.scopes),
            "created": token.created_at,
            "expires": token.expires_at,
            "last_used": used.isoformat() if (used := store.last_used(token.id)) else None,
        }
        for token in tokens
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


@token_group.command("revoke")
@click.argument("token_id")
def revoke(token_id: str) -> None:
    """Close the token TOKEN_ID at once and for good."""
    with _store() as store:
        token = store.revoke(token_id)
    click.echo(f"Token {token.id} of {token.client} is revoked in {store.path}.")
