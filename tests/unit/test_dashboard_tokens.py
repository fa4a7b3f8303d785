"""Tokens: shown once, stored hashed, refused for the right reason, managed from the shell."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from transcript_service.cli import main
from transcript_service.settings import get_settings
from transcript_service.tokens import (
    SCOPES,
    Refused,
    TokenError,
    TokenStore,
    TokensUnreadable,
)
from transcript_service.web.auth import PerMinute, is_loopback

DAY = timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / "tokens.json")


def reason(store: TokenStore, text: str, **options: datetime) -> str:
    with pytest.raises(Refused) as refused:
        store.check(text, **options)
    return refused.value.reason


def test_a_created_token_opens_its_scopes(store: TokenStore) -> None:
    _, text = store.create("grafana", ["metrics:read", "proxy:read"], DAY)
    assert store.check(text).scopes == ("metrics:read", "proxy:read")


def test_the_secret_is_not_in_the_file_and_only_its_owner_reads_it(
    store: TokenStore, tmp_path: Path
) -> None:
    _, text = store.create("grafana", SCOPES, DAY)
    file = tmp_path / "tokens.json"
    secret = text.split("_")[2]
    assert secret not in file.read_text()
    assert secret[:64] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"tokens.json", "tokens.lock"}


def test_every_kind_of_wrong_token_is_refused_for_its_reason(store: TokenStore) -> None:
    token, text = store.create("a", SCOPES, DAY)
    _, other = TokenStore(Path("/nonexistent/never")), text
    assert reason(store, "") == "malformed"
    assert reason(store, "tdash_x") == "malformed"
    assert reason(store, other[:-1] + ("0" if other[-1] != "0" else "1")) == "malformed"
    assert reason(store, text, now=datetime.now(UTC) + 2 * DAY) == "expired"
    store.revoke(token.id)
    assert reason(store, text) == "revoked"


def test_a_well_formed_token_of_another_store_is_unknown(store: TokenStore, tmp_path: Path) -> None:
    store.create("a", SCOPES, DAY)
    _, foreign = TokenStore(tmp_path / "other.json").create("a", SCOPES, DAY)
    assert reason(store, foreign) == "unknown"


def test_a_client_rotates_with_two_tokens_and_no_third(store: TokenStore) -> None:
    first, _ = store.create("a", SCOPES, DAY)
    _, second = store.create("a", SCOPES, DAY)
    with pytest.raises(TokenError, match="two active"):
        store.create("a", SCOPES, DAY)
    store.create("b", SCOPES, DAY)  # another client is not affected
    store.revoke(first.id)
    store.create("a", SCOPES, DAY)
    assert store.check(second).client == "a"


def test_another_process_sees_a_new_token_and_a_revocation_at_once(
    store: TokenStore, tmp_path: Path
) -> None:
    elsewhere = TokenStore(tmp_path / "tokens.json")
    assert elsewhere.tokens() == []
    token, text = store.create("a", SCOPES, DAY)
    assert elsewhere.check(text).id == token.id
    store.revoke(token.id)
    assert reason(elsewhere, text) == "revoked"


def test_the_day_of_the_last_use_is_kept_for_every_process(
    store: TokenStore, tmp_path: Path
) -> None:
    token, text = store.create("a", SCOPES, 3 * DAY)
    unused, _ = store.create("b", SCOPES, DAY)
    now = datetime.now(UTC)
    assert store.last_used(token.id) is None
    store.check(text, now=now)
    elsewhere = TokenStore(tmp_path / "tokens.json")
    assert elsewhere.last_used(token.id) == now.date()
    assert elsewhere.last_used(unused.id) is None
    elsewhere.check(text, now=now + DAY)
    assert store.last_used(token.id) == (now + DAY).date()


def test_a_use_is_written_once_a_day_and_never_into_the_token_file(
    store: TokenStore, tmp_path: Path
) -> None:
    token, text = store.create("a", SCOPES, 3 * DAY)
    now, before = datetime.now(UTC), (tmp_path / "tokens.json").read_bytes()
    kept = tmp_path / "tokens-used" / token.id
    store.check(text, now=now)
    kept.unlink()
    for _ in range(100):
        store.check(text, now=now)
    assert not kept.exists()
    store.check(text, now=now + DAY)
    assert kept.exists()
    assert (tmp_path / "tokens.json").read_bytes() == before


def test_a_refused_token_was_not_used(store: TokenStore) -> None:
    token, text = store.create("a", SCOPES, DAY)
    assert reason(store, text, now=datetime.now(UTC) + 2 * DAY) == "expired"
    store.revoke(token.id)
    assert reason(store, text) == "revoked"
    assert store.last_used(token.id) is None


@pytest.mark.parametrize("content", ["", "yesterday", "2026-13-01"])
def test_a_damaged_note_of_use_keeps_nobody_out(
    store: TokenStore, tmp_path: Path, content: str
) -> None:
    token, text = store.create("a", SCOPES, DAY)
    (tmp_path / "tokens-used").mkdir()
    (tmp_path / "tokens-used" / token.id).write_text(content)
    assert store.last_used(token.id) is None
    assert store.check(text) == token


def test_where_no_use_can_be_noted_the_token_still_opens(store: TokenStore, tmp_path: Path) -> None:
    token, text = store.create("a", SCOPES, DAY)
    (tmp_path / "tokens-used").write_text("in the way")
    assert store.check(text) == token
    assert store.last_used(token.id) is None


@pytest.mark.parametrize(
    "content",
    ["", "{", "null", "[1]", '[{"id": "x"}]', "[[]]", '"text"', '{"a": 1}'],
)
def test_a_damaged_file_lets_nobody_in(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokens.json").write_text(content)
    with pytest.raises(TokensUnreadable):
        TokenStore(tmp_path / "tokens.json").tokens()


def test_a_token_whose_expiry_cannot_be_read_does_not_live_forever(
    store: TokenStore, tmp_path: Path
) -> None:
    store.create("a", SCOPES, DAY)
    file = tmp_path / "tokens.json"
    file.write_text(file.read_text().replace('"expires_at": "2', '"expires_at": "x'))
    with pytest.raises(TokensUnreadable):
        TokenStore(file).tokens()


@pytest.mark.parametrize("client", ["", "a b", "x" * 65, "a\n"])
def test_a_client_without_a_proper_name_gets_no_token(store: TokenStore, client: str) -> None:
    with pytest.raises(TokenError):
        store.create(client, SCOPES, DAY)
    assert store.tokens() == []


@pytest.mark.parametrize("nonsense", [["--scope", "admin"], ["--days", "0"]])
def test_a_token_for_nothing_or_for_no_time_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nonsense: list[str]
) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    get_settings.cache_clear()
    try:
        assert CliRunner().invoke(main, ["token", "create", "a", *nonsense]).exit_code == 2
    finally:
        get_settings.cache_clear()
    assert list(tmp_path.iterdir()) == []


def test_failures_are_throttled_per_peer_and_forgiven_after_a_minute() -> None:
    now = [0.0]
    throttle = PerMinute(limit=3, clock=lambda: now[0])
    assert [throttle.record("a") for _ in range(3)] == [None, None, None]
    assert throttle.record("a") == 61
    assert throttle.record("b") is None
    now[0] = 60.0
    assert throttle.record("a") is None


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("::ffff:10.0.0.1", False),
        ("", False),
        (None, False),
        ("localhost", False),
    ],
)
def test_only_loopback_addresses_are_this_machine(address: str | None, inside: bool) -> None:
    assert is_loopback(address) is inside


def test_the_commands_create_list_and_revoke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    get_settings.cache_clear()
    run = CliRunner()
    try:
        made = run.invoke(main, ["token", "create", "ci", "--scope", "export:read", "--days", "3"])
        assert made.exit_code == 0, made.output
        text = made.stdout.strip()
        store = TokenStore(tmp_path / "tokens.json")
        token = store.check(text)
        assert token.scopes == ("export:read",)
        shown = run.invoke(main, ["token", "list"], env={"COLUMNS": "200"})
        assert token.id in shown.stdout
        assert datetime.now(UTC).date().isoformat() in shown.stdout.split("last used")[1]
        assert text not in shown.stdout
        assert run.invoke(main, ["token", "revoke", token.id]).exit_code == 0
        assert reason(store, text) == "revoked"
        missing = run.invoke(main, ["token", "revoke", "nope"])
        assert (missing.exit_code, "there is no token" in missing.output) == (1, True)
    finally:
        get_settings.cache_clear()


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, "checkout/.stack/service/tokens.json"),
        ({"STATE_DIR": "{0}/state"}, "state/tokens.json"),
        ({"DASHBOARD_TOKENS_FILE": "{0}/mine.json"}, "mine.json"),
    ],
)
def test_in_a_checkout_the_commands_speak_of_its_stack_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: str
) -> None:
    (tmp_path / "checkout/.stack/service").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "checkout")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    for name in ("STATE_DIR", "DASHBOARD_TOKENS_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    get_settings.cache_clear()
    file = tmp_path / wanted
    run = CliRunner()
    try:
        empty = run.invoke(main, ["token", "list"])
        assert str(file) in empty.stdout
        made = run.invoke(main, ["token", "create", "ci"])
        assert (made.exit_code, str(file) in made.stderr) == (0, True), made.output
        (token,) = TokenStore(file).tokens()
        assert str(file) in run.invoke(main, ["token", "revoke", token.id]).stdout
        assert token.id in run.invoke(main, ["token", "list", "--json"]).stdout
    finally:
        get_settings.cache_clear()


def test_outside_a_checkout_the_platforms_folder_holds_the_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STATE_DIR", raising=False)
    get_settings.cache_clear()
    try:
        assert CliRunner().invoke(main, ["token", "create", "ci"]).exit_code == 0
    finally:
        get_settings.cache_clear()
    assert (tmp_path / "home/transcript-service/tokens.json").exists()
