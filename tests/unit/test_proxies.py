"""Which proxy a job gets, when it changes, and what is never said about it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.proxies import (
    NoProxyAvailable,
    Proxy,
    ProxyPool,
    RotationReason,
    proxy_pool,
    refuse_direct_connections,
)
from transcript_service.proxies.preflight import Preflight, PreflightOutcome
from transcript_service.proxies.proxy import parse_entry, read_entries
from transcript_service.resilience import Deadline, DeadlineExceeded
from transcript_service.settings import Settings, SettingsError
from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.stages.base import rotation_reason_of

STICKY = "{username}-sessid-{session}"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _no_enforcement_left_behind() -> Iterator[None]:
    yield
    refuse_direct_connections(False)


def entries(count: int) -> list[Proxy]:
    return [
        Proxy(f"http://proxy{number}.example:8080", f"user{number}", "p+w/d@1:x", id=f"p-{number}")
        for number in range(1, count + 1)
    ]


def later(clock: Clock) -> Deadline:
    return Deadline(60, clock)


# Reading the list


@pytest.mark.parametrize(
    ("text", "server", "username", "password"),
    [
        ("http://u:pw@h.example:8080", "http://h.example:8080", "u", "pw"),
        ("https://u:pw@h.example:443/", "https://h.example:443", "u", "pw"),
        ("u:pw@h.example:8080", "http://h.example:8080", "u", "pw"),
        ("H.Example:8080", "http://h.example:8080", None, None),
        ("http://[::1]:3128", "http://[::1]:3128", None, None),
        ("http://u:p+w/d@1:x@h.example:80", "http://h.example:80", "u", "p+w/d@1:x"),
        ("http://u:100%sure@h.example:80", "http://h.example:80", "u", "100%sure"),
        ("http://u:http://x@h.example:80", "http://h.example:80", "u", "http://x"),
        ("http://u:@h.example:80", "http://h.example:80", "u", ""),
    ],
)
def test_an_entry_is_read_with_its_password_as_it_is(
    text: str, server: str, username: str | None, password: str | None
) -> None:
    entry = parse_entry(text, 17)
    assert (entry.server, entry.username, entry.password) == (server, username, password)
    assert entry.id == "p-17"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("http://u:p%2Bw@h.example:80", "the password looks URL-encoded"),
        ("http://u%40x:pw@h.example:80", "the user name looks URL-encoded"),
        ("http://http://h.example:80", "a scheme twice"),
        ("http://http://u:secret@h.example:80", "a scheme twice"),
        ("http://u:secret@http://h.example:80", "a scheme twice"),
        ("socks5://u:secret@h.example:1080", "only http and https"),
        ("http://u:secret@h.example", "does not end in host:port"),
        ("http://u:secret@h.example:80/path", "does not end in host:port"),
        ("http://u:secret@h.example:99999", "the port must be"),
        ("http://u@h.example:80", "credentials must be user:password"),
        ("http://:secret@h.example:80", "credentials must be user:password"),
        ("secret", "does not end in host:port"),
        ("http://u:sécret@h.example:80", "the password has characters beyond ASCII"),
        ("http://u:秘密@h.example:80", "the password has characters beyond ASCII"),
        ("http://usér:secret@h.example:80", "the user name has characters beyond ASCII"),
    ],
)
def test_a_mistaken_entry_is_refused_without_being_quoted(text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint) as refused:
        read_entries(f"ok.example:80 {text}", None)
    assert str(refused.value).startswith("PROXY_LIST entry 2: ")
    for secret in ("secret", "p%2Bw", "h.example"):
        assert secret not in str(refused.value)


def test_a_file_has_one_proxy_a_line_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "proxies"
    file.write_text("# ours\n\n  a:pass word@one.example:80  \nb:pw@two.example:80\n")
    read = read_entries("zero.example:80", file)
    assert [(entry.id, entry.server) for entry in read] == [
        ("p-1", "http://zero.example:80"),
        ("p-2", "http://one.example:80"),
        ("p-3", "http://two.example:80"),
    ]
    assert read[1].password == "pass word"


def test_a_bad_line_of_a_file_is_named_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "proxies"
    file.write_text("# ours\nnonsense\n")
    with pytest.raises(SettingsError, match="PROXY_FILE line 2: "):
        read_entries(None, file)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="PROXY_FILE: cannot be read"):
        read_entries(None, tmp_path / "absent")


def test_the_same_proxy_twice_is_an_error() -> None:
    with pytest.raises(SettingsError, match="entry 2: the same proxy as PROXY_LIST entry 1"):
        read_entries("u:a@h.example:80 u:a@h.example:80", None)


def test_sessions_written_into_the_password_are_proxies_of_their_own() -> None:
    read = read_entries("u:a_session-1@h.example:80 u:a_session-2@h.example:80", None)
    assert [entry.password for entry in read] == ["a_session-1", "a_session-2"]


# One identity in three forms


def test_all_clients_get_the_same_credentials_each_in_its_own_form() -> None:
    identity = entries(1)[0].in_session(STICKY, "abc123")
    assert identity.as_playwright() == {
        "server": "http://proxy1.example:8080",
        "username": "user1-sessid-abc123",
        "password": "p+w/d@1:x",
    }
    url = "http://user1-sessid-abc123:p%2Bw%2Fd%401%3Ax@proxy1.example:8080"
    assert identity.as_url() == url
    assert identity.as_requests() == {"http": url, "https": url}


def test_a_proxy_without_credentials_has_none_anywhere() -> None:
    identity = parse_entry("h.example:80", 1).in_session(STICKY, "abc")
    assert identity.as_url() == "http://h.example:80"
    assert identity.as_playwright() == {"server": "http://h.example:80"}


def test_a_session_can_be_part_of_the_password() -> None:
    one = entries(1)[0].in_session("{username}:{password}_session-{session}", "abc")
    assert (one.username, one.password) == ("user1", "p+w/d@1:x_session-abc")


def test_what_is_known_of_a_proxy_holds_for_its_sessions_and_not_for_other_credentials() -> None:
    one = Proxy("http://h.example:80", "user", "right", id="p-1")
    session = one.in_session(STICKY, "abc").in_session(STICKY, "def")
    assert session.shared_name == one.shared_name
    others = [
        Proxy("http://h.example:80", "user", "wrong", id="p-1"),
        Proxy("http://h.example:80", "another", "right", id="p-1"),
        Proxy("http://h.example:80", id="p-1"),
        Proxy("http://i.example:80", "user", "right", id="p-1"),
    ]
    assert len({one.shared_name, *(other.shared_name for other in others)}) == 5
    assert re.fullmatch("p-1:[0-9a-f]{16}", one.shared_name)


def test_what_an_operator_wrote_is_never_read_as_a_template() -> None:
    odd = Proxy("http://h.example:80", "{session}", "{password}{0}")
    one = odd.in_session("{username}:{password}-{session}", "abc")
    assert (one.username, one.password) == ("{session}", "{password}{0}-abc")


def test_nothing_that_prints_shows_more_than_the_masked_id(
    clock: Clock, telemetry: InMemoryTelemetry
) -> None:
    pool = ProxyPool(entries(3), session_template=STICKY, clock=clock)
    job = pool.for_job("job", later(clock))
    identity = job.identity
    assert identity is not None
    job.rotate("http_429", later(clock))
    pool.quarantine("p-1", "preflight_timeout")
    clock.now += 601
    pool.healthy()
    said = " ".join([repr(job), repr(identity), str(identity), repr(entries(3)[0])])
    said += telemetry.log_text() + str(telemetry.metrics(zeros=True))
    for secret in ("example", "user1", "user2", "user3", "p+w"):
        assert secret not in said
    assert str(identity) in {"p-1", "p-2", "p-3"}


# Choosing


def test_without_proxies_a_job_goes_out_directly(clock: Clock) -> None:
    job = ProxyPool([], clock=clock).for_job("job", later(clock))
    assert (job.identity, job.used, job.direct_allowed) == (None, False, True)
    assert not job.rotate("http_429", later(clock))


def test_the_same_job_gets_the_same_way_out_and_jobs_spread_over_all(clock: Clock) -> None:
    pool = ProxyPool(entries(4), session_template=STICKY, clock=clock)
    first = pool.for_job("job 1", later(clock)).identity
    assert first == pool.for_job("job 1", later(clock)).identity
    chosen = [pool.for_job(f"job {number}", later(clock)).identity for number in range(100)]
    assert {identity.id for identity in chosen if identity} == {"p-1", "p-2", "p-3", "p-4"}
    assert len({identity.username for identity in chosen if identity}) == 100


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "http_401"),
        (403, "http_403"),
        (407, "http_407"),
        (429, "http_429"),
        (200, None),
        (404, None),
        (500, None),
        (503, None),
    ],
)
def test_which_statuses_call_for_another_proxy(status: int, reason: str | None) -> None:
    assert rotation_reason_of(TranscriptError("http_4xx", "Refused.", status=status)) == reason


@pytest.mark.parametrize(
    "reason", ["http_401", "http_403", "http_407", "http_429", "bot_check", "proxy_error"]
)
def test_a_job_changes_its_proxy_exactly_once(
    clock: Clock, telemetry: InMemoryTelemetry, reason: RotationReason
) -> None:
    pool = ProxyPool(entries(3), clock=clock)
    job = pool.for_job("job", later(clock))
    before = job.identity
    assert job.rotate(reason, later(clock))
    after = job.identity
    assert after != before
    assert not job.rotate(reason, later(clock))
    assert job.identity == after
    assert telemetry.metric("proxy.rotations", reason=reason) == 1
    assert [line["proxy"] for line in telemetry.events("proxy.rotated")] == [str(after)]


def test_of_eight_threads_of_a_job_one_rotates(clock: Clock, telemetry: InMemoryTelemetry) -> None:
    job = ProxyPool(entries(9), clock=clock).for_job("job", later(clock))
    start = threading.Barrier(8)
    rotated: list[bool] = []

    def rotate() -> None:
        start.wait()
        rotated.append(job.rotate("bot_check", later(clock)))

    threads = [threading.Thread(target=rotate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(rotated) == [False] * 7 + [True]
    assert telemetry.metric("proxy.rotations", reason="bot_check") == 1


@pytest.mark.parametrize(
    ("template", "reason", "quarantined"),
    [
        ("{username}", "http_429", True),
        ("{username}", "http_407", True),
        (STICKY, "http_429", False),  # that session's exit is blocked, not the provider
        (STICKY, "bot_check", False),
        (STICKY, "http_407", True),
        (STICKY, "proxy_error", True),
    ],
)
def test_a_proxy_goes_into_quarantine_when_the_fault_is_its_own(
    clock: Clock, template: str, reason: RotationReason, quarantined: bool
) -> None:
    pool = ProxyPool(entries(2), session_template=template, clock=clock)
    job = pool.for_job("job", later(clock))
    failed = str(job.identity)
    assert job.rotate(reason, later(clock))
    assert (failed not in {entry.id for entry in pool.healthy()}) == quarantined


def test_a_single_proxy_with_sessions_rotates_to_another_session(clock: Clock) -> None:
    pool = ProxyPool(entries(1), session_template=STICKY, clock=clock)
    job = pool.for_job("job", later(clock))
    first = job.identity
    assert job.rotate("http_403", later(clock))
    assert first is not None
    assert job.identity is not None
    assert job.identity.id == first.id
    assert job.identity.username != first.username


def test_a_single_proxy_without_sessions_cannot_rotate(clock: Clock) -> None:
    pool = ProxyPool(entries(1), clock=clock)
    job = pool.for_job("job", later(clock))
    assert not job.rotate("http_403", later(clock))
    assert str(job.identity) == "p-1"


def test_a_quarantine_ends_by_itself(clock: Clock, telemetry: InMemoryTelemetry) -> None:
    pool = ProxyPool(entries(2), quarantine_s=600, clock=clock)
    pool.quarantine("p-1", "http_407")
    assert telemetry.metric("proxy.pool.proxies", state="quarantined") == 1
    jobs = [pool.for_job(f"job {number}", later(clock)) for number in range(20)]
    assert {str(job.identity) for job in jobs} == {"p-2"}
    clock.now += 600
    jobs = [pool.for_job(f"job {number}", later(clock)) for number in range(20)]
    assert {str(job.identity) for job in jobs} == {"p-1", "p-2"}
    assert telemetry.metric("proxy.pool.proxies", state="healthy") == 2
    assert [line["proxy"] for line in telemetry.events("proxy.restored")] == ["p-1"]


def test_the_gauge_tells_the_end_of_a_quarantine_though_no_job_comes(
    clock: Clock, telemetry: InMemoryTelemetry
) -> None:
    pool = ProxyPool(entries(2), quarantine_s=600, clock=clock)
    pool.quarantine("p-1", "http_407")
    assert telemetry.metric("proxy.pool.proxies", state="quarantined") == 1
    clock.now += 600
    assert telemetry.metric("proxy.pool.proxies", state="quarantined") == 0
    assert telemetry.metric("proxy.pool.proxies", state="healthy") == 2


def test_with_all_in_quarantine_a_job_goes_out_directly_unless_that_is_forbidden(
    clock: Clock,
) -> None:
    for enforce in (False, True):
        pool = ProxyPool(entries(2), enforce=enforce, quarantine_s=600, clock=clock)
        pool.quarantine("p-1", "http_407")
        clock.now += 100
        pool.quarantine("p-2", "http_407")
        if not enforce:
            assert pool.for_job("job", later(clock)).identity is None
            continue
        with pytest.raises(NoProxyAvailable) as refused:
            pool.for_job("job", later(clock))
        assert refused.value.retry_after_s == 500


# Preflight


class Probe:
    """Answers as told and counts."""

    def __init__(self, clock: Clock, **outcomes: PreflightOutcome) -> None:
        self.clock = clock
        self.outcomes = {name.replace("_", "-"): value for name, value in outcomes.items()}
        self.asked: list[str] = []

    def __call__(self, proxy: Proxy, timeout_s: float) -> PreflightOutcome:
        self.asked.append(proxy.id)
        self.clock.now += 0.5
        return self.outcomes.get(proxy.id, "success")

    def preflight(self, per_minute: int = 10) -> Preflight:
        return Preflight(Settings(proxy_preflight_per_minute=per_minute), self, clock=self.clock)


def test_a_good_probe_is_believed_for_a_while(clock: Clock) -> None:
    probe = Probe(clock)
    pool = ProxyPool(entries(1), preflight=probe.preflight(), clock=clock)
    for _ in range(5):
        pool.for_job("job", later(clock))
    assert probe.asked == ["p-1"]
    clock.now += 331  # 300 s and at most 10 % more
    pool.for_job("job", later(clock))
    assert probe.asked == ["p-1", "p-1"]


@pytest.mark.parametrize("outcome", ["auth_failed", "blocked", "timeout", "error"])
def test_a_job_does_not_get_a_proxy_that_fails_its_probe(
    clock: Clock, telemetry: InMemoryTelemetry, outcome: PreflightOutcome
) -> None:
    probe = Probe(clock, p_1=outcome, p_2=outcome)
    pool = ProxyPool(entries(3), preflight=probe.preflight(), clock=clock)
    jobs = [pool.for_job(f"job {number}", later(clock)) for number in range(10)]
    assert {str(job.identity) for job in jobs} == {"p-3"}
    assert telemetry.metric("proxy.preflight.duration", proxy="p-1", outcome=outcome) == 1
    assert telemetry.histogram_sum("proxy.preflight.duration", proxy="p-1", outcome=outcome) == 0.5
    assert {(line["proxy"], line["reason"]) for line in telemetry.events("proxy.quarantined")} == {
        ("p-1", f"preflight_{outcome}"),
        ("p-2", f"preflight_{outcome}"),
    }


def test_a_proxy_out_of_quarantine_is_probed_before_it_is_used(clock: Clock) -> None:
    probe = Probe(clock, p_1="timeout")
    pool = ProxyPool(entries(1), preflight=probe.preflight(), clock=clock)
    assert pool.for_job("job", later(clock)).identity is None
    probe.outcomes.clear()
    clock.now += 600
    assert str(pool.for_job("job", later(clock)).identity) == "p-1"
    assert probe.asked == ["p-1", "p-1"]


def test_probes_are_rationed_and_unknown_is_not_bad(clock: Clock) -> None:
    probe = Probe(clock)
    pool = ProxyPool(entries(20), preflight=probe.preflight(per_minute=3), clock=clock)
    jobs = [pool.for_job(f"job {number}", later(clock)) for number in range(40)]
    assert len(probe.asked) == 3
    assert all(job.used for job in jobs)
    clock.now += 60
    for number in range(40):
        pool.for_job(f"job {number}", later(clock))
    assert len(probe.asked) == 6


def test_eight_jobs_at_once_share_one_probe(clock: Clock) -> None:
    began, go_on = threading.Event(), threading.Event()
    probes: list[str] = []

    def slow(proxy: Proxy, timeout_s: float) -> PreflightOutcome:
        probes.append(proxy.id)
        began.set()
        go_on.wait(timeout=30)
        return "success"

    preflight = Preflight(Settings(proxy_preflight_timeout_s=30), slow)
    identity = entries(1)[0]
    outcomes: list[PreflightOutcome | None] = []

    def ask() -> None:
        outcomes.append(preflight.check(identity, Deadline(30)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert began.wait(timeout=30)
    go_on.set()
    for thread in threads:
        thread.join()
    assert outcomes == ["success"] * 8
    assert probes == ["p-1"]


def test_a_job_without_time_for_a_probe_does_not_condemn_the_proxy(clock: Clock) -> None:
    def too_slow(proxy: Proxy, timeout_s: float) -> PreflightOutcome:
        clock.now += timeout_s
        return "timeout"

    preflight = Preflight(Settings(), too_slow, clock=clock)
    pool = ProxyPool(entries(2), preflight=preflight, clock=clock)
    with suppress(DeadlineExceeded):
        pool.for_job("job", Deadline(0.3, clock))
    assert len(pool.healthy()) == 2


def test_a_probe_that_raises_leaves_no_one_waiting(clock: Clock) -> None:
    def broken(proxy: Proxy, timeout_s: float) -> PreflightOutcome:
        raise RuntimeError("no such thing")

    preflight = Preflight(Settings(), broken, clock=clock)
    identity = entries(1)[0]
    for _ in range(2):
        with pytest.raises(RuntimeError):
            preflight.check(identity, later(clock))


def test_looking_for_a_proxy_ends_with_the_deadline(clock: Clock) -> None:
    probe = Probe(clock)
    probe.outcomes = {f"p-{number}": "timeout" for number in range(1, 11)}
    pool = ProxyPool(entries(10), preflight=probe.preflight(per_minute=100), clock=clock)
    with pytest.raises(DeadlineExceeded):
        pool.for_job("job", Deadline(2, clock))
    assert len(probe.asked) == 4


# From the settings


def settings(**values: object) -> Settings:
    base = Settings(proxy_list=None, proxy_file=None, enforce_proxy_all=False)
    return base.model_copy(update=values)


def test_the_list_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, telemetry: InMemoryTelemetry
) -> None:
    monkeypatch.setenv("PROXY_LIST", "u:hidden-password@one.example:80 two.example:80")
    read = Settings()
    assert "hidden-password" not in repr(read)
    assert [entry.id for entry in proxy_pool(read).healthy()] == ["p-1", "p-2"]
    assert telemetry.metric("proxy.pool.proxies", state="healthy") == 2


def test_enforcement_without_a_proxy_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match="ENFORCE_PROXY_ALL"):
        proxy_pool(settings(enforce_proxy_all=True))


@pytest.mark.parametrize(
    "template",
    [
        "",
        "fixed",
        "{session}",
        "{username}-{sess}",
        "{username}{username}",
        "{username",
        "{username}:x",
    ],
)
def test_a_template_that_cannot_work_is_refused_at_the_start(template: str) -> None:
    with pytest.raises(SettingsError, match="PROXY_SESSION_TEMPLATE"):
        proxy_pool(settings(proxy_session_template=template))
