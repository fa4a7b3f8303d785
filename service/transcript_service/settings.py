"""Every environment variable the service reads, in one class.

The name of a variable is the upper-case name of its field. `docs/configuration.md`
is generated from this file (`make generate`), so the text below a field is what an
operator reads there. Variables of the OpenTelemetry SDK (`OTEL_*`) keep their own
meaning and are read by the SDK itself.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_state_path
from pydantic import BeforeValidator, Field, HttpUrl, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class SettingsError(ValueError):
    """An environment variable has a value the service cannot use; the text names it."""


def _split(value: object) -> object:
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


# `a, b` in the environment, as people write lists in a shell; a tuple in Python.
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class Settings(BaseSettings):
    """The service's configuration. Durations end in `_s`, sizes in `_mb` or `_bytes`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True
    )

    # Identity and logs
    service_name: str = "tldw-transcript-service"
    """`service.name` of all telemetry."""
    environment: str = "production"
    """`deployment.environment.name` of all telemetry."""
    enable_structured_logging: bool = True
    """JSON lines on stderr; `0` gives coloured text for people."""
    log_level: Annotated[LogLevel, BeforeValidator(str.upper)] = "INFO"
    """Least severe level that is logged."""
    log_rate_limit_per_min: int = Field(600, ge=0)
    """Lines a minute for each (event, video, stage) before the rest is left out and counted; `0`
    for no limit."""

    # Serving
    service_bind: str = "127.0.0.1:5000"
    """Address and port gunicorn listens on."""
    service_hosts: CommaList = ()
    """Host names (without a port) under which it is asked; requests under others get 421, but for
    health and the alert webhook. By default those of loopback where it listens there alone, and
    every name elsewhere. Behind a reverse proxy on the same machine that passes `Host` on, list the
    public name."""
    web_concurrency: int = Field(2, ge=1, le=64)
    """Gunicorn worker processes."""
    web_threads: int = Field(8, ge=1, le=256)
    """Threads per worker for everything but transcripts and health."""
    web_fetches: int = Field(8, ge=1, le=256)
    """Transcripts that a worker fetches at a time."""
    web_fetches_waiting: int = Field(16, ge=0, le=1000)
    """Requests per worker that may wait for one of these; more get 503 at once, unless the cache
    has their transcript."""
    web_fetch_wait_s: float = Field(10.0, gt=0, le=600)
    """Seconds they wait at most before they get 503."""
    web_client_timeout_s: float = Field(30.0, gt=0, le=3600)
    """Seconds a client may take to send a whole request, and to take the whole answer; a slower one
    is cut off."""
    web_max_requests: int = Field(0, ge=0)
    """Requests after which a worker is replaced (10 % jitter); `0` for never."""
    graceful_timeout_s: int = Field(25, ge=1, le=600)
    """Seconds a worker may take to finish its requests on stop."""
    state_dir: Path = Field(default_factory=lambda: user_state_path("transcript-service"))
    """Folder for the service's own files (caches, tokens, alert log); `transcript-service` in the
    platform's state folder (`~/.local/state` on Linux) by default."""

    # Where the answers about ourselves come from
    prometheus_url: HttpUrl = HttpUrl("http://127.0.0.1:9090")
    """Prometheus, asked by the dashboard API."""
    jaeger_url: HttpUrl = HttpUrl("http://127.0.0.1:16686")
    """Jaeger query API, for traces."""
    victorialogs_url: HttpUrl = HttpUrl("http://127.0.0.1:9428")
    """VictoriaLogs, for log lines of a trace."""
    alertmanager_url: HttpUrl = HttpUrl("http://127.0.0.1:9093")
    """Alertmanager."""
    engines_not_built_file: Path | None = None
    """File with the names of engines that the launcher is still building, so that the dashboard can
    say so."""
    engine_password_file: Path | None = None
    """File with the password that these four ask of user `stack`, made by the launcher
    (`.stack/secrets/engine_password`, which is also looked for in the current folder, for engines
    on 127.0.0.1). A password in one of the URLs goes first."""

    # Dashboard API
    dashboard_tokens_file: Path | None = None
    """Hashed tokens of the dashboard API; `tokens.json` in `STATE_DIR` by default.
    `transcript-service token` also looks for `.stack/service` in the current folder, where neither
    this nor `STATE_DIR` is set."""
    dashboard_open_on_loopback: bool = False
    """Serve the dashboard API without a token to programs on this machine that ask for it directly.
    `make up` sets it for its own instance. Over once a token was made."""
    transcripts_require_token: bool = False
    """Ask for a token with the scope `transcripts:read` at `/api/transcripts` and `/api/jobs` too.
    """
    transcripts_per_minute: int = Field(0, ge=0, le=1_000_000)
    """Requests there that one client (a token, else an address) may make in a minute of each
    worker; `0` for no limit."""
    dashboard_auth_failures_per_minute: int = Field(10, ge=1, le=1_000_000)
    """Wrong tokens one address may present in a minute before it gets 429."""
    dashboard_cors_origins: CommaList = ()
    """Origins whose pages may read the API, each as `https://host[:port]`."""
    dashboard_query_timeout_s: float = Field(2.0, gt=0, le=30)
    """Seconds one query to Prometheus may take."""
    dashboard_deadline_s: float = Field(4.5, gt=0, le=60)
    """Seconds all queries of one dashboard answer may take together."""
    dashboard_parallel_queries: int = Field(4, ge=1, le=64)
    """Most queries to Prometheus at once, over all workers (at least one each)."""
    dashboard_max_answer_bytes: int = Field(8 * 1024 * 1024, ge=1024)
    """Largest answer of an engine that is read, in bytes."""
    dashboard_cache_ttl_s: float = Field(30.0, ge=0, le=3600)
    """Seconds a dashboard answer is served without asking again."""
    dashboard_stale_s: float = Field(300.0, ge=0, le=86400)
    """Seconds beyond that for which it stands in, marked stale, while asking fails."""

    # Alerts
    alert_webhook_token_file: Path | None = None
    """File with the bearer token that Alertmanager sends to `/api/alerts/webhook`. Without it every
    notification is refused."""
    alert_cooldown_s: float = Field(900.0, gt=0, le=86400)
    """Seconds between two notifications of one alert, as set by `group_interval` in
    `prometheus/alertmanager.yml`; for showing when the next one may come."""
    alert_history_limit: int = Field(2000, ge=1, le=100_000)
    """Alerts the history keeps; the oldest go first."""
    runbooks_dir: Path | None = None
    """Folder of the runbooks served at `/runbooks`, instead of our own."""

    # Getting transcripts
    job_deadline_s: float = Field(60.0, gt=0, le=900)
    """Seconds one request may take over all stages together."""
    connect_timeout_s: float = Field(5.0, gt=0, le=60)
    """Seconds to open one connection to YouTube."""
    read_timeout_s: float = Field(15.0, gt=0, le=120)
    """Seconds to wait for bytes of one answer."""
    default_languages: CommaList = ("en",)
    """Languages wanted where a request names none; then any will do."""
    fallback_languages: CommaList = ()
    """Languages taken where a video has none of those a request names."""
    enable_youtube_api: bool = True
    """Use the `youtube_api` stage."""
    enable_timedtext: bool = True
    """Use the `timedtext` stage."""
    enable_youtubei: bool = True
    """Use the `youtubei` stage (a browser)."""
    enable_asr: bool = True
    """Use the `asr` stage (speech recognition)."""

    # Speech recognition
    asr_endpoint: HttpUrl | None = None
    """Base URL of an OpenAI-compatible speech endpoint."""
    asr_api_key_file: Path | None = None
    """File with that endpoint's API key."""
    asr_model: str = "whisper-1"
    """Model name sent to that endpoint."""
    asr_model_dir: Path | None = None
    """Folder of a faster-whisper (CTranslate2) model on this machine."""
    asr_audio_sources: tuple[Literal["player", "yt_dlp"], ...] = ("player", "yt_dlp")
    """How to get a video's sound, as a JSON list."""
    asr_max_video_minutes: int = Field(20, ge=1, le=720)
    """Longest video that is listened to."""
    asr_max_audio_mb: int = Field(100, ge=1, le=2000)
    """Largest sound file that is fetched (MB)."""
    asr_max_concurrent: int = Field(1, ge=1, le=32)
    """Videos listened to at a time, per worker."""
    youtube_resolve_to: str | None = Field(None, pattern=r"^[^:/\s]+:\d{1,5}$")
    """`host:port` to connect to instead of YouTube, like `curl --connect-to`. Not for connections
    through a proxy, which looks names up itself."""
    youtube_ca_file: Path | None = None
    """CA bundle (PEM) to check YouTube's certificate with, instead of the system's."""

    cookies_file: Path | None = None
    """Netscape cookie file of a YouTube login, for all profiles."""
    cookies_file_desktop: Path | None = None
    """The same for the desktop profile and the HTTP stages alone."""
    cookies_file_mobile: Path | None = None
    """The same for the mobile profile alone."""

    # Requests that are answered later (`Prefer: respond-async`)
    job_workers: int = Field(1, ge=0, le=32)
    """Threads per worker that run them; `0` leaves it to others."""
    job_queue_max: int = Field(100, ge=1, le=100_000)
    """Most that may wait."""
    job_async_deadline_s: float = Field(900.0, gt=0, le=7200)
    """Seconds one of them may take over all stages."""
    job_result_ttl_s: float = Field(3600.0, gt=0, le=604_800)
    """Seconds for which a result can be fetched."""
    job_results_max_mb: int = Field(100, ge=1, le=100_000)
    """Most space for results, compressed; old ones go first."""

    # Transcript cache
    enable_transcript_cache: bool = True
    """Keep transcripts and serve them again."""
    transcript_cache_file: Path | None = None
    """SQLite file of the cache; `transcripts.sqlite3` in `STATE_DIR` by default."""
    transcript_cache_ttl_s: float = Field(604_800.0, ge=0)
    """Seconds a transcript is served without asking YouTube again (7 days)."""
    transcript_cache_stale_s: float = Field(604_800.0, ge=0)
    """Seconds beyond that for which it stands in while YouTube cannot be asked."""
    transcript_cache_max_mb: int = Field(256, ge=1, le=100_000)
    """Most megabytes of transcripts; the least used go first."""

    # Proxies
    proxy_list: SecretStr | None = None
    """Proxies to YouTube, separated by white space, each `http://user:password@host:port` with the
    password as it is (never URL-encoded)."""
    proxy_file: Path | None = None
    """File with more of them, one a line; `#` starts a comment line."""
    enforce_proxy_all: bool = False
    """Let nothing reach YouTube directly; needs at least one proxy."""
    proxy_session_template: str = "{username}"
    """How a provider's sticky session is written into the user name, such as
    `{username}-sessid-{session}`, or into the password, such as
    `{username}:{password}_session-{session}`. Without `{session}` each proxy is one session."""
    proxy_quarantine_s: float = Field(600.0, gt=0, le=86400)
    """Seconds a proxy that failed is left alone."""
    proxy_preflight: bool = True
    """Probe a proxy with YouTube's `generate_204` before a job gets it."""
    proxy_preflight_ttl_s: float = Field(300.0, gt=0, le=86400)
    """Seconds a good probe is believed (±10 %)."""
    proxy_preflight_timeout_s: float = Field(5.0, gt=0, le=60)
    """Seconds one probe may take."""
    proxy_preflight_per_minute: int = Field(10, ge=1, le=600)
    """Most probes in a minute, all proxies of a worker together."""

    # Circuit breakers (resilience4j's vocabulary)
    redis_url: SecretStr | None = None
    """Redis through which all workers and machines share breaker states, jobs, kept transcripts and
    what they know of proxies, such as `redis://:password@127.0.0.1:6379/0`. Without it every worker
    has its own breakers."""
    redis_password_file: Path | None = None
    """File with the password of that Redis, where the URL has none."""
    circuit_breaker_window_type: Literal["count", "time"] = "count"
    """What a breaker's rates are computed over: last calls or last seconds."""
    circuit_breaker_window_size: int = Field(20, ge=1, le=3600)
    """Calls (`count`) or seconds (`time`) in that window."""
    circuit_breaker_minimum_calls: int = Field(5, ge=1, le=3600)
    """Calls in the window before a breaker may open."""
    circuit_breaker_failure_rate: float = Field(0.5, gt=0, le=1)
    """Share of failed calls that opens a breaker."""
    circuit_breaker_slow_call_rate: float = Field(0.8, gt=0, le=1)
    """Share of slow calls that opens a breaker."""
    circuit_breaker_slow_call_s: CommaList = (
        "youtube_api=10",
        "timedtext=10",
        "youtubei=30",
        "asr=300",
    )
    """Seconds after which a call of a stage is slow, as `stage=seconds`."""
    circuit_breaker_open_s: float = Field(60.0, gt=0, le=86400)
    """Seconds an open breaker waits before it lets a probe by."""
    circuit_breaker_half_open_calls: int = Field(2, ge=1, le=100)
    """Probes whose results decide whether a breaker closes again."""
    circuit_breaker_permit_expiry_s: float = Field(120.0, gt=0, le=3600)
    """Seconds after which the place of a probe that never reported is given away."""
    circuit_breaker_forced: CommaList = ()
    """Breakers held in a state, as `stage=state`; the states are `disabled` (all calls, nothing
    recorded), `metrics_only` (all calls, recorded), `forced_open`."""

    @property
    def tokens_path(self) -> Path:
        """Where the dashboard's tokens are."""
        return self.dashboard_tokens_file or self.state_dir / "tokens.json"

    # The browser
    browser_executable: str | None = None
    """Chromium or Chrome to use (path or name on PATH); found by itself if unset."""
    browser_max_contexts: int = Field(4, ge=1, le=64)
    """Most browser contexts in use at once, per worker."""
    browser_queue_limit: int = Field(16, ge=0, le=1000)
    """Most callers waiting for a context; more are refused."""
    browser_acquire_timeout_s: float = Field(15.0, gt=0, le=600)
    """Seconds a caller waits for a browser context."""
    browser_lease_timeout_s: float = Field(120.0, gt=0, le=3600)
    """Seconds a browser context may be held before it is closed by force."""
    browser_launch_timeout_s: float = Field(30.0, gt=0, le=300)
    """Seconds Chromium may take to start."""
    browser_context_max_age_minutes: float = Field(30.0, gt=0, le=1440)
    """Age at which a browser context is replaced, give or take 10 %."""
    browser_context_max_uses: int = Field(50, ge=1, le=100_000)
    """Leases after which a browser context is replaced."""
    browser_memory_threshold_mb: int = Field(512, ge=64, le=65_536)
    """MiB that the browser's processes may take (PSS) above the idle browser."""
    browser_sandbox: bool | None = None
    """Chromium's own sandbox, which needs user namespaces. Unset: on where it works, and a warning
    (`browser.unsandboxed`) where it does not. Root's browser is started as another user first;
    where that does not work (no `setpriv`, Chromium in `/root`), it runs as root without a sandbox,
    and the warning says so. `1` makes a start without a sandbox fail, `0` never tries one."""
    browser_private_hosts: CommaList = ()
    """Addresses (`host:port`, comma separated) on this machine or in private networks that pages
    may reach; none else can be. The proxies above are known."""


@cache
def get_settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        SettingsError: one line that names every variable with a bad value (never the
            value itself: it may be a secret).
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError(problems) from None
