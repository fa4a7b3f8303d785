"""What several machines know together, through a real Redis: proxies, transcripts, who may ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from flask import Flask
from pydantic import SecretStr

from tests.redis_server import Server, client, until
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.proxies import Proxy, ProxyPool
from transcript_service.proxies.preflight import Preflight, PreflightOutcome
from transcript_service.resilience import Deadline
from transcript_service.resilience.shared_redis import connect
from transcript_service.settings import Settings, SettingsError
from transcript_service.transcripts.cache import TranscriptCache
from transcript_service.transcripts.cache_file import CacheFile
from transcript_service.transcripts.model import Segment, Transcript
from transcript_service.web.health import create_blueprint

PROXIES = [Proxy(f"http://proxy{n}.example:3128", "user", "pw", id=f"p-{n}") for n in (1, 2, 3)]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def patient(server: Server) -> redis.Redis:
    """One that a busy machine does not take for an absent Redis."""
    return client(server.url, 30)


def ids(pool: ProxyPool) -> list[str]:
    return [proxy.id for proxy in pool.healthy()]


def test_a_proxy_that_one_quarantines_is_rested_by_all(server: Server, clock: Clock) -> None:
    one, other = (ProxyPool(PROXIES, client=patient(server), clock=clock) for _ in range(2))
    assert ids(other) == ["p-1", "p-2", "p-3"]

    one.quarantine("p-2", "http_407")

    assert ids(one) == ["p-1", "p-3"]
    clock.now += 1  # an answer is believed for a second
    assert ids(other) == ["p-1", "p-3"]
    # One that starts only now knows it too.
    assert ids(ProxyPool(PROXIES, client=patient(server))) == ["p-1", "p-3"]
    # The list of another machine, in which another proxy has this place.
    elsewhere = [Proxy("http://elsewhere.example:80", id="p-2")]
    assert ids(ProxyPool(elsewhere, client=patient(server))) == ["p-2"]
    # Its password was corrected.
    corrected = [Proxy(PROXIES[1].server, "user", "another", id="p-2")]
    assert ids(ProxyPool(corrected, client=patient(server))) == ["p-2"]


def test_no_address_and_no_password_of_a_proxy_is_in_redis(server: Server) -> None:
    ProxyPool(PROXIES, client=patient(server)).quarantine("p-2", "http_407")

    (key,) = patient(server).keys("*")
    assert isinstance(key, bytes)
    assert key.startswith(b"transcript-service:proxy-quarantine:p-2:")
    assert b"example" not in key
    assert 0 < patient(server).pttl(key) <= 600_000


def test_a_quarantine_ends_for_those_who_learned_of_it(
    server: Server, clock: Clock, telemetry: InMemoryTelemetry
) -> None:
    one, other = (
        ProxyPool(PROXIES, client=patient(server), clock=clock, quarantine_s=30) for _ in range(2)
    )
    one.quarantine("p-1", "http_407")
    assert ids(other) == ["p-2", "p-3"]

    patient(server).flushall()
    clock.now += 31

    assert ids(other) == ["p-1", "p-2", "p-3"]
    assert [line["proxy"] for line in telemetry.events("proxy.restored")] == ["p-1"]


def test_a_proxy_that_one_probed_is_believed_by_all(server: Server) -> None:
    probed: list[str] = []

    def probe(proxy: Proxy, timeout_s: float) -> PreflightOutcome:
        probed.append(proxy.id)
        return "success"

    for _ in range(3):
        preflight = Preflight(Settings(), probe, client=patient(server))
        assert preflight.check(PROXIES[0], Deadline(30)) == "success"

    assert probed == ["p-1"]


def test_while_redis_is_away_a_pool_goes_on_with_what_it_knew_and_says_so_once(
    server: Server, clock: Clock, telemetry: InMemoryTelemetry
) -> None:
    one = ProxyPool(PROXIES, client=patient(server), clock=clock)
    other = ProxyPool(PROXIES, client=patient(server), clock=clock)
    one.quarantine("p-1", "http_407")
    assert ids(other) == ["p-2", "p-3"]

    server.stop()
    clock.now += 2
    other.quarantine("p-2", "http_407")
    clock.now += 2
    assert ids(other) == ["p-3"]
    assert ids(one) == ["p-2", "p-3"]
    lost = [line["kind"] for line in telemetry.events("shared_state.lost")]
    assert lost == ["proxy-quarantine", "proxy-quarantine"]  # once in each of the two

    server.start()
    clock.now += 5
    assert ids(other) == ["p-3"]
    assert len(telemetry.events("shared_state.restored")) == 1


def test_a_redis_that_hangs_is_asked_once_in_five_seconds(
    server: Server, clock: Clock, telemetry: InMemoryTelemetry
) -> None:
    pool = ProxyPool(PROXIES, client=client(server.url, 0.2), clock=clock)
    server.hang()
    for _ in range(100):  # half a minute if each were waited for
        clock.now += 0.04
        assert len(ids(pool)) == 3
    (lost,) = telemetry.events("shared_state.lost")
    assert lost["error_type"] == "TimeoutError"


def transcript(text: str) -> Transcript:
    return Transcript(
        video_id="dQw4w9WgXcQ",
        source="youtube_api",
        language="en",
        kind="manual",
        segments=(Segment(0.0, 1.0, text),),
    )


def cache_of(server: Server, folder: Path, clock: Clock) -> TranscriptCache:
    file = CacheFile(folder / "transcripts.sqlite3", 1_000_000)
    return TranscriptCache(file, ttl_s=60, stale_s=60, client=patient(server), clock=clock)


def test_what_one_machine_fetched_another_has(server: Server, tmp_path: Path, clock: Clock) -> None:
    here, there = (cache_of(server, tmp_path / name, clock) for name in ("here", "there"))
    fetched: list[str] = []

    def load() -> Transcript:
        fetched.append("once")
        return transcript("hello")

    first = here.fetch("key", load, Deadline(30))
    second = there.fetch("key", load, Deadline(30))

    assert fetched == ["once"]
    assert (first.cached, second.cached) == (False, True)
    assert second.segments == first.segments
    (key,) = patient(server).keys("*")
    assert key == b"transcript-service:transcript:key"
    assert 0 < patient(server).ttl(key) <= 120


def test_while_redis_is_away_a_machine_has_what_it_fetched_itself(
    server: Server, tmp_path: Path, clock: Clock
) -> None:
    here, there = (cache_of(server, tmp_path / name, clock) for name in ("here", "there"))
    here.put("key", transcript("hello"))
    server.stop()

    entry = here.get("key")

    assert entry is not None
    assert entry.transcript.segments[0].text == "hello"
    assert there.get("key") is None


def text_of(cache: TranscriptCache) -> str | None:
    entry = cache.get("key")
    return entry.transcript.segments[0].text if entry else None


def test_where_the_entry_in_redis_cannot_be_read_a_machine_has_its_own(
    server: Server, tmp_path: Path, clock: Clock
) -> None:
    here, there = (cache_of(server, tmp_path / name, clock) for name in ("here", "there"))
    here.put("key", transcript("hello"))
    for value in (b"", b"short", b"12345678not zlib"):
        patient(server).set("transcript-service:transcript:key", value)
        assert (text_of(here), text_of(there)) == ("hello", None)


def test_of_two_entries_the_later_counts(server: Server, tmp_path: Path, clock: Clock) -> None:
    here, there = (cache_of(server, tmp_path / name, clock) for name in ("here", "there"))
    here.put("key", transcript("first"))
    first = patient(server).get("transcript-service:transcript:key")
    assert isinstance(first, bytes)
    clock.now += 1
    there.put("key", transcript("second"))
    assert (text_of(here), text_of(there)) == ("second", "second")
    # As if Redis had been away for the second.
    patient(server).set("transcript-service:transcript:key", first)
    assert (text_of(here), text_of(there)) == ("first", "second")


def test_the_password_of_redis_may_stand_in_a_file(tmp_path: Path) -> None:
    server = Server(tmp_path, password="sesame")
    server.start()
    try:
        file = tmp_path / "password"
        file.write_text("sesame\n")
        settings = Settings(redis_url=SecretStr(server.url), redis_password_file=file)
        made = connect(settings, 30)
        assert made is not None
        assert made.ping()
        file.unlink()
        with pytest.raises(SettingsError, match="REDIS_PASSWORD_FILE"):
            connect(settings)
    finally:
        server.stop()


def test_an_absent_redis_is_named_and_the_machine_stays_ready(
    server: Server, tmp_path: Path
) -> None:
    app = Flask(__name__)
    settings = Settings(redis_url=SecretStr(server.url), state_dir=tmp_path / "state")
    app.register_blueprint(create_blueprint(settings))
    asker = app.test_client()

    def told() -> tuple[int, str]:
        answer = asker.get("/health/ready")
        return answer.status_code, answer.get_json()["checks"]["redis"]

    until(lambda: told() == (200, "ok"))
    server.stop()
    assert told() == (200, "away")
    server.start()
    until(lambda: told() == (200, "ok"))
