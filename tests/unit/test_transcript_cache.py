"""The cache asks once, bounds itself, prefers old to nothing, and never fails a request."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.resilience import Deadline, DeadlineExceeded
from transcript_service.settings import Settings
from transcript_service.transcripts import cache as cache_module
from transcript_service.transcripts.cache import Claims, Entry, TranscriptCache, transcript_cache
from transcript_service.transcripts.cache_file import CacheFile
from transcript_service.transcripts.model import Segment, Transcript, TranscriptError

VIDEO = "dQw4w9WgXcQ"
KEY = f"{VIDEO} en - "
TTL, STALE = 1000.0, 500.0
# What a test waits for comes; on a machine that is busy with something else, late.
PATIENCE_S = 300.0


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Blocked(Exception):
    pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "transcripts.sqlite3"


def said(text: str) -> Transcript:
    return Transcript(VIDEO, "timedtext", "en", "manual", (Segment(0, 1, text),))


def kept(text: str) -> Transcript:
    """The same as it comes out of the cache."""
    return replace(said(text), cached=True)


def make(path: Path, clock: Clock, max_bytes: int = 1_000_000) -> TranscriptCache:
    return TranscriptCache(CacheFile(path, max_bytes), ttl_s=TTL, stale_s=STALE, clock=clock)


def soon() -> Deadline:
    return Deadline(PATIENCE_S)


def blocked() -> Transcript:
    raise Blocked


def never() -> Transcript:
    pytest.fail("it was fetched although it need not be")


# Keys and time


def test_what_was_put_is_found_again_also_by_the_next_process(path: Path, clock: Clock) -> None:
    make(path, clock).put(KEY, said("é"))
    clock.now += 10
    assert make(path, clock).get(KEY) == Entry(kept("é"), 10, stale=False)


@pytest.mark.parametrize(
    "other",
    [
        KEY.replace(VIDEO, "aaaaaaaaaaa"),
        KEY.replace("en", "fr"),
        KEY.replace("-", "de"),
    ],
)
def test_another_video_language_or_kind_is_another_entry(
    path: Path, clock: Clock, other: str
) -> None:
    cache = make(path, clock)
    cache.put(KEY, said("english"))
    assert cache.get(other) is None
    cache.put(other, said("other"))
    entry = cache.get(KEY)
    assert entry is not None
    assert entry.transcript == kept("english")


@pytest.mark.parametrize(
    ("age_s", "state"),
    [(0, "fresh"), (999, "fresh"), (1000, "stale"), (1499, "stale"), (1500, None), (9999, None)],
)
def test_an_entry_is_fresh_then_stale_then_gone(
    path: Path, clock: Clock, age_s: float, state: str | None
) -> None:
    cache = make(path, clock)
    cache.put(KEY, said("v"))
    clock.now += age_s
    entry = cache.get(KEY)
    assert (entry and ("stale" if entry.stale else "fresh")) == state


def test_a_clock_that_was_set_back_makes_nothing_younger_than_new(path: Path, clock: Clock) -> None:
    cache = make(path, clock)
    cache.put(KEY, said("v"))
    clock.now -= 3600
    assert cache.get(KEY) == Entry(kept("v"), 0, stale=False)


# Fetching


def test_the_first_fetch_loads_and_the_second_does_not(path: Path, clock: Clock) -> None:
    cache = make(path, clock)
    assert cache.fetch(KEY, lambda: said("v"), soon()) == said("v")
    clock.now += 5
    assert cache.fetch(KEY, never, soon()) == kept("v")


def test_a_stale_entry_is_fetched_anew(path: Path, clock: Clock) -> None:
    cache = make(path, clock)
    cache.put(KEY, said("old"))
    clock.now += TTL
    assert cache.fetch(KEY, lambda: said("new"), soon()).segments == said("new").segments
    assert cache.fetch(KEY, never, soon()).segments == said("new").segments


def test_a_stale_entry_stands_in_for_an_error_and_says_so(
    path: Path, clock: Clock, telemetry: InMemoryTelemetry
) -> None:
    cache = make(path, clock)
    cache.put(KEY, said("old"))
    clock.now += TTL + 1
    assert cache.fetch(KEY, blocked, soon()) == kept("old")
    (line,) = telemetry.events("transcript.cache.stale_served")
    assert (line["age_s"], line["error_type"]) == (TTL + 1, "Blocked")


def test_an_answer_is_not_hidden_behind_a_stale_entry(path: Path, clock: Clock) -> None:
    def gone() -> Transcript:
        raise TranscriptError("video_unavailable", "as told")

    cache = make(path, clock)
    cache.put(KEY, said("old"))
    clock.now += TTL
    with pytest.raises(TranscriptError):
        cache.fetch(KEY, gone, soon())


def test_without_an_entry_an_error_comes_out_and_nothing_is_kept(path: Path, clock: Clock) -> None:
    cache = make(path, clock)
    with pytest.raises(Blocked):
        cache.fetch(KEY, blocked, soon())
    assert cache.get(KEY) is None
    assert cache.fetch(KEY, lambda: said("v"), soon()).segments == said("v").segments


# Many at once


class SlowLoad:
    """A fetch that goes on only when told."""

    def __init__(self, result: Transcript | Exception | None = None) -> None:
        self.result = result or said("v")
        self.calls = 0
        self.began, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> Transcript:
        self.calls += 1
        self.began.set()
        assert self.go_on.wait(timeout=PATIENCE_S)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize("result", [said("v"), Blocked("once")])
def test_eight_threads_share_one_fetch_and_its_result(
    path: Path, clock: Clock, result: Transcript | Exception
) -> None:
    cache, load = make(path, clock), SlowLoad(result)
    got: list[Transcript | Exception] = []

    def ask() -> None:
        try:
            got.append(replace(cache.fetch(KEY, load, soon()), cached=False))
        except Blocked as error:
            got.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert load.began.wait(timeout=PATIENCE_S)
    load.go_on.set()
    for thread in threads:
        thread.join()
    # An error is not kept: a thread that came too late to share it asks itself.
    assert got == [result] * 8
    assert load.calls == 1 or isinstance(result, Exception)


def test_different_keys_are_fetched_side_by_side(path: Path, clock: Clock) -> None:
    cache, together = make(path, clock), threading.Barrier(4)

    def load() -> Transcript:
        together.wait(timeout=PATIENCE_S)
        return said("v")

    def ask(number: int) -> None:
        cache.fetch(KEY.replace(VIDEO, f"video{number:06}"), load, soon())

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken


def test_what_another_version_kept_is_no_entry(path: Path, clock: Clock) -> None:
    cache = make(path, clock)
    CacheFile(path, 1_000_000).write(KEY, b'{"v": 2}', clock.now, 0, 5.0)
    assert cache.get(KEY) is None
    assert cache.fetch(KEY, lambda: said("v"), soon()) == said("v")
    assert cache.fetch(KEY, never, soon()) == kept("v")


def test_nobody_waits_for_another_ones_fetch_beyond_the_own_deadline(
    path: Path, clock: Clock
) -> None:
    cache, load = make(path, clock), SlowLoad()
    leader = threading.Thread(target=lambda: cache.fetch(KEY, load, soon()))
    leader.start()
    assert load.began.wait(timeout=PATIENCE_S)
    with pytest.raises(DeadlineExceeded):
        cache.fetch(KEY, never, Deadline(0.01))
    load.go_on.set()
    leader.join()


def test_who_has_time_left_goes_on_when_the_first_one_ran_out_of_it(
    path: Path, clock: Clock
) -> None:
    cache, first = make(path, clock), SlowLoad(DeadlineExceeded())
    got: list[Transcript] = []

    def lead() -> None:
        with pytest.raises(DeadlineExceeded):
            cache.fetch(KEY, first, soon())

    leader = threading.Thread(target=lead)
    leader.start()
    assert first.began.wait(timeout=PATIENCE_S)
    follower = threading.Thread(
        target=lambda: got.append(cache.fetch(KEY, lambda: said("mine"), soon()))
    )
    follower.start()
    first.go_on.set()
    leader.join()
    follower.join()
    assert got == [said("mine")]


def claims_beside(path: Path) -> Claims:
    """The claims as another process has them."""
    return Claims(path.with_name(f"{path.name}-claims"))


def test_another_process_is_waited_for_and_its_result_taken(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make(path, clock), claims_beside(path)
    assert there.take(KEY)
    waits: list[float] = []

    def other_process_finishes(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            CacheFile(path, 1_000_000).write(KEY, said("theirs").as_json(), clock.now, 0, 5.0)
            there.give_up(KEY)

    monkeypatch.setattr(cache_module, "time", SimpleNamespace(sleep=other_process_finishes))
    assert here.fetch(KEY, never, soon()).segments == said("theirs").segments
    assert len(waits) == 3


_KEYANT = """
import sys
from pathlib import Path
from transcript_service.transcripts.cache import Claims
claims = Claims(Path(sys.argv[1]))
print(claims.take(sys.argv[2]), flush=True)
sys.stdin.read()
"""


def test_the_claim_of_a_process_that_died_is_over(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make(path, clock)
    command = [sys.executable, "-c", _KEYANT, f"{path}-claims", KEY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        waits: list[float] = []

        def dies(seconds: float) -> None:
            waits.append(seconds)
            process.kill()
            process.wait()

        monkeypatch.setattr(cache_module, "time", SimpleNamespace(sleep=dies))
        assert here.fetch(KEY, lambda: said("mine"), soon()).segments == said("mine").segments
        assert len(waits) == 1


def test_a_key_is_claimed_while_its_fetch_runs_and_no_other(path: Path, clock: Clock) -> None:
    cache, load, other = make(path, clock), SlowLoad(), claims_beside(path)
    thread = threading.Thread(target=lambda: cache.fetch(KEY, load, Deadline(900)))
    thread.start()
    try:
        assert load.began.wait(timeout=PATIENCE_S)
        assert not other.take(KEY)
        assert other.take("another key")
    finally:
        load.go_on.set()
        thread.join()
    assert other.take(KEY)


def test_a_claim_is_given_up_after_an_error(path: Path, clock: Clock) -> None:
    with pytest.raises(Blocked):
        make(path, clock).fetch(KEY, blocked, soon())
    assert claims_beside(path).take(KEY)


def test_where_nothing_can_be_claimed_everybody_may_fetch(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    claims = Claims(tmp_path / "file" / "claims")
    assert claims.take(KEY)
    claims.give_up(KEY)


# Size


def video(number: int) -> str:
    return KEY.replace(VIDEO, f"video{number:06}")


def test_the_least_recently_used_go_when_the_size_is_reached(path: Path, clock: Clock) -> None:
    one = said("v")
    cache = make(path, clock, max_bytes=10 * len(one.as_json()))
    for number in range(10):
        cache.put(video(number), one)
        clock.now += 1
    clock.now += 100
    cache.get(video(0))  # used again
    clock.now += 1
    cache.put(video(10), one)
    kept = [number for number in range(11) if cache.get(video(number))]
    assert kept == [0, 3, 4, 5, 6, 7, 8, 9, 10]


def test_whatever_is_put_the_values_stay_within_the_bound(path: Path, clock: Clock) -> None:
    cache = make(path, clock, max_bytes=10_000)
    for number in range(300):
        cache.put(video(number), said("v" * 37 * (number % 90)))
        clock.now += 1
    with sqlite3.connect(path) as connection:
        (size, count) = connection.execute("SELECT SUM(size), COUNT(*) FROM entries").fetchone()
    assert 0 < size <= 10_000
    assert count > 1
    assert path.stat().st_size < 200_000


def test_a_value_beyond_the_bound_is_not_kept_and_evicts_nothing(path: Path, clock: Clock) -> None:
    cache = make(path, clock, max_bytes=1000)
    cache.put(KEY, said("v"))
    assert cache.fetch(video(1), lambda: said("v" * 1001), soon()) == said("v" * 1001)
    assert cache.get(video(1)) is None
    assert cache.get(KEY) is not None


def test_entries_too_old_even_to_stand_in_are_deleted(path: Path, clock: Clock) -> None:
    cache = make(path, clock)
    cache.put(KEY, said("v"))
    clock.now += TTL + STALE + 1
    cache.put(video(1), said("w"))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM entries").fetchone() == (1,)


# Damage


@pytest.mark.parametrize("damage", ["nonsense", "emptied", "cut", "overwritten", "wrong_schema"])
def test_a_damaged_file_costs_its_contents_and_nothing_else(
    path: Path, clock: Clock, telemetry: InMemoryTelemetry, damage: str
) -> None:
    cache = make(path, clock)
    for number in range(50):
        cache.put(video(number), said(os.urandom(1500).hex()))
    cache._file._close()
    whole = path.read_bytes()
    if damage == "wrong_schema":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(
            {
                "nonsense": b"this is not a database at all" * 100,
                "emptied": b"",
                "cut": whole[: len(whole) // 2],
                "overwritten": whole[:100] + bytes(len(whole) - 100),
            }[damage]
        )
    cache = make(path, clock)
    for number in range(50):
        key = video(number)
        assert cache.fetch(key, lambda: said("new"), soon()).segments
    assert cache.fetch(KEY, lambda: said("v"), soon()) == said("v")
    assert cache.fetch(KEY, never, soon()) == kept("v")
    aside = list(path.parent.glob("*.corrupt"))
    assert bool(aside) == (damage in ("nonsense", "cut", "overwritten"))
    assert len(telemetry.events("transcript.cache.set_aside")) == len(aside)


def test_a_value_whose_bytes_changed_is_not_served(
    path: Path, clock: Clock, telemetry: InMemoryTelemetry
) -> None:
    cache = make(path, clock)
    cache.put(KEY, said("the words that were said"))
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE entries SET value = ?", (said("the words that were sold").as_json(),)
        )
    assert cache.get(KEY) is None
    assert telemetry.events("transcript.cache.failed")[0]["error_type"] == "checksum"
    assert cache.fetch(KEY, lambda: said("again"), soon()).segments == said("again").segments


def test_a_file_damaged_while_in_use_is_replaced_for_all_who_use_it(
    path: Path, clock: Clock, telemetry: InMemoryTelemetry
) -> None:
    first, second = make(path, clock), make(path, clock)
    first.put(KEY, said("v"))
    assert second.get(KEY) is not None
    for suffix in ("", "-wal"):
        file = Path(f"{path}{suffix}")
        file.write_bytes(b"\xff" * file.stat().st_size)
    for number, cache in enumerate([first, second] * 3):
        # SQLite may serve pages it has in memory; what counts is that nobody fails.
        assert (
            cache.fetch(video(number), lambda: said("new"), soon()).segments == said("new").segments
        )
    assert telemetry.events("transcript.cache.set_aside")
    for cache in (first, second, make(path, clock)):
        assert cache.fetch(video(5), never, soon()).segments == said("new").segments


def test_only_the_last_damaged_file_is_kept(path: Path, clock: Clock) -> None:
    for turn in range(5):
        cache = make(path, clock)
        cache.put(KEY, said("v"))
        cache._file._close()
        path.write_bytes(b"nonsense %d" % turn * 1000)
    make(path, clock).put(KEY, said("v"))
    assert path.with_name(f"{path.name}.corrupt").read_bytes() == b"nonsense 4" * 1000


def test_a_place_that_cannot_be_written_means_no_cache_and_no_error(
    tmp_path: Path, clock: Clock, telemetry: InMemoryTelemetry
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = make(tmp_path / "file" / "transcripts.sqlite3", clock)
    assert cache.fetch(KEY, lambda: said("v"), soon()) == said("v")
    assert cache.get(KEY) is None
    assert {line["operation"] for line in telemetry.events("transcript.cache.failed")} >= {
        "read",
        "write",
    }


def test_a_file_that_somebody_removes_is_begun_anew(path: Path, clock: Clock) -> None:
    cache = make(path, clock)
    cache.put(KEY, said("v"))
    for file in path.parent.iterdir():
        file.unlink()
    assert cache.get(KEY) is None
    cache.put(KEY, said("w"))
    assert make(path, clock).get(KEY) == Entry(kept("w"), 0, stale=False)


def test_the_file_is_for_its_owner_only(path: Path, clock: Clock) -> None:
    make(path, clock).put(KEY, said("v"))
    assert path.stat().st_mode & 0o077 == 0


# Processes

_WRITER = """
import sys
from pathlib import Path
from transcript_service.transcripts.cache_file import CacheFile
file = CacheFile(Path(sys.argv[1]), 1_000_000)
for number in range(100):
    file.write(f"video{number:06} en {sys.argv[2]}", b"v" * 500, 1e6, 0, 5.0)
"""


def test_processes_that_write_at_the_same_time_lose_nothing(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), kind])
        for kind in ("manual", "asr", "speech")
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM entries").fetchone() == (300,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_settings_say_where_and_how_long(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, transcript_cache_file=None)
    cache = transcript_cache(settings)
    assert cache is transcript_cache(settings)
    cache.put(KEY, said("v"))
    assert (tmp_path / "transcripts.sqlite3").exists()


def test_a_hit_is_a_hit_while_another_process_writes(path: Path, clock: Clock) -> None:
    cache = make(path, clock)
    cache.put(KEY, said("text"))
    clock.now += 600  # its time of use is worth writing down again
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        found = cache.get(KEY)
        other.execute("ROLLBACK")
    assert found is not None
    assert found.transcript == kept("text")
