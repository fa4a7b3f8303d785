"""`transcript-service token`: create, list and revoke the dashboard API's tokens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
from rich.console import Console
from rich.table import Table

from ..settings import SettingsError, get_settings
from .tokens import SCOPES, TokenError, TokenStore, TokensUnreadable


def _store() -> TokenStore:
    try:
        return TokenStore(get_settings().tokens_path)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error


@click.group("token")
def token_group() -> None:
    """Who may read the dashboard API: tokens, of which only a hash is kept."""


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
    try:
        token, text = _store().create(client, scopes or SCOPES, timedelta(days=days))
    except (TokenError, TokensUnreadable, OSError) as error:
        raise _failed(error) from error
    click.echo(text)
    click.echo(
        f"Token {token.id} for {client}: {', '.join(token.scopes)}, until {token.expires_at}. "
        "It is shown this once.",
        err=True,
    )


@token_group.command("list")
def list_tokens() -> None:
    """List the tokens; their secrets are not known any more."""
    try:
        store = _store()
        tokens = store.tokens()
    except TokensUnreadable as error:
        raise _failed(error) from error
    if not tokens:
        click.echo("No token. The dashboard API serves this machine only.")
        return
    table = Table("id", "client", "state", "scopes", "created", "expires", "last used")
    now = datetime.now(UTC)
    for token in tokens:
        table.add_row(
            token.id,
            token.client,
            token.state(now),
            " ".join(token.scopes),
            token.created_at,
            token.expires_at,
            used.isoformat() if (used := store.last_used(token.id)) else "–",
        )
    Console().print(table)


@token_group.command("revoke")
@click.argument("token_id")
def revoke(token_id: str) -> None:
    """Close the token TOKEN_ID at once and for good."""
    try:
        token = _store().revoke(token_id)
    except (TokenError, TokensUnreadable, OSError) as error:
        raise _failed(error) from error
    click.echo(f"Token {token.id} of {token.client} is revoked.")


def _failed(error: Exception) -> click.ClickException:
    if isinstance(error, TokensUnreadable):
        return click.ClickException(f"the token file cannot be used ({error}); repair or remove it")
    return click.ClickException(str(error))
