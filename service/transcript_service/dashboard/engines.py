"""The engines behind the dashboard, as one service is configured to reach them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from pydantic import HttpUrl

from ..resilience.deadline import Deadline
from ..settings import Settings, SettingsError
from ..telemetry import service_identity
from .prometheus import Prometheus
from .upstream import Upstream


class Engines:
    """Clients of Prometheus, Alertmanager, Jaeger and VictoriaLogs.

    Attributes:
        queries: the threads that ask Prometheus, as many as queries may be under way.
        others: the threads that ask the other engines.

    Raises:
        SettingsError: the file with the engines' password cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.service, self.job = service_identity(settings)
        # The limit is the whole service's; every worker process gets its share of it.
        share = max(1, settings.dashboard_parallel_queries // settings.web_concurrency)
        # Threads start with the first query, after gunicorn has forked.
        self.queries = ThreadPoolExecutor(share, thread_name_prefix="dashboard-query")
        self.others = ThreadPoolExecutor(4, thread_name_prefix="dashboard-upstream")
        self.prometheus = Prometheus(
            self._upstream(settings.prometheus_url), timeout_s=settings.dashboard_query_timeout_s
        )
        self.alertmanager = self._upstream(settings.alertmanager_url)
        self.jaeger = self._upstream(settings.jaeger_url)
        self.victorialogs = self._upstream(settings.victorialogs_url)

    def deadline(self) -> Deadline:
        """Of one answer, beginning now."""
        return Deadline(self.settings.dashboard_deadline_s)

    def not_built(self) -> tuple[str, ...]:
        """The engines that the launcher is still building; they have never been up."""
        file = self.settings.engines_not_built_file
        try:
            return tuple(file.read_text().split()) if file else ()
        except OSError:
            return ()

    def _upstream(self, url: HttpUrl) -> Upstream:
        return Upstream(
            _with_password(url, self.settings.engine_password_file),
            timeout_s=self.settings.dashboard_query_timeout_s,
            max_bytes=self.settings.dashboard_max_answer_bytes,
        )


# Where the launcher of a checkout keeps it, for `transcript-service trace` in a terminal there.
_LAUNCHERS: Final = Path(".stack/secrets/engine_password")


def _with_password(url: HttpUrl, file: Path | None) -> str:
    if url.password or (file is None and url.host != "127.0.0.1"):
        return str(url)
    try:
        password = (file or _LAUNCHERS).read_text()
    except (OSError, UnicodeDecodeError):
        if file is not None:
            raise SettingsError("ENGINE_PASSWORD_FILE: cannot be read") from None
        return str(url)  # no stack was started here, or somebody else's
    return str(url).replace("://", f"://stack:{password.strip()}@", 1)
