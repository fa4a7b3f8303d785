"""The closed catalogue of log events: what can be written, and which fields it has.

A name is `thing.what_happened`, past tense. A line may carry fewer fields than listed and
those of the surrounding `log_context`. An unknown name is still written (losing a log line
is worse than a badly named one), with one warning and a count.
"""

from __future__ import annotations

import re
from typing import Final

# `name: meaning [fields]`; a longer entry goes on in an indented line.
_CATALOGUE: Final = """
# requests
http.request.refused: A request was answered before it reached the application.
    [status error_type]
http.request.failed: A request ended in an unexpected exception. [error_type]

# transcripts
transcript.request.finished: A transcript request was answered.
    [video_id outcome source error_type cached duration_s attempts]
transcript.stage.finished: One stage delivered or gave up.
    [video_id stage attempt outcome error_type duration_s profile proxy_used]
transcript.stage.retried: One try failed and another follows.
    [video_id stage attempt outcome error_type duration_s delay_s]
transcript.stage.failed: A stage raised something it should not; a defect.
    [video_id stage error_type]
transcript.panel.captured: The browser stage found a transcript panel, in which layout.
    [video_id stage profile layout]
transcript.stage.skipped: A stage was not tried. [video_id stage reason]
transcript.cookies.line_skipped: A line of the cookie file is no cookie; the others are used.
    [line reason]
transcript.cache.failed: The transcript cache could not be read or written. [operation error_type]
transcript.cache.set_aside: The cache's file was damaged; it was renamed and a new one begun. [file]
transcript.cache.stale_served: An old transcript stood in because fetching failed.
    [age_s error_type]

# breakers
circuit_breaker.state_changed: A breaker changed state.
    [breaker from_state to_state reason failure_rate slow_call_rate recovery_s]
circuit_breaker.call_refused: A breaker let no call through. [breaker state]
circuit_breaker.store_chosen: Breaker states live in Redis (shared) or in this process.
    [shared]
circuit_breaker.record_discarded: What Redis held for a breaker could not be read; it starts closed.
    [breaker error_type]

# what workers share
shared_state.lost: Redis failed; this process goes on with what it knew. [kind error_type]
shared_state.refused: Redis answers but refuses a command; this process goes on without.
    [kind error_type]
shared_state.restored: Redis answers again. [kind]

# browsers
browser.launched: A browser process is ready. [duration_s browser_version baseline_bytes]
browser.unsandboxed: Chromium runs without its sandbox: a hostile page has one wall less to break.
    [reason other_user]
browser.crashed: The browser process died or stopped answering; another one is started.
    [reason lived_s contexts_lost]
browser.replaced: A browser takes no more contexts and ends when it is empty. [reason used_bytes]
browser.unavailable: No browser can be had. [reason problem retry_after_s]
browser.memory.high: The browser takes more memory than it may; contexts are retired.
    [reason used_bytes baseline_bytes]
browser.janitor.failed: Background work of the pool ended in an error.
browser.context.created: A browser context was made. [profile context_key duration_s]
browser.context.leased: A caller got a context. [profile context_key reused wait_s uses]
browser.context.returned: A caller gave its context back. [profile context_key held_s uses]
browser.context.retired: A browser context was closed.
    [profile context_key reason age_s uses detail]
browser.context.crashed: A page of a context crashed; the context is closed after its lease.
    [profile context_key uses]
browser.context.lease_expired: A lease passed its deadline and its context was closed by force.
    [profile context_key held_s]
browser.context.lease_failed: A caller got no context. [profile reason error_type wait_s]
browser.cookie.refused: Chromium takes one of the given cookies not; the context has the others.
    [profile cookie_name cookie_domain]
browser.console: A page wrote to its console. [profile console_level text]

# proxies
proxy.preflight.finished: A proxy was probed. [proxy outcome duration_s]
proxy.rotated: A job changed its proxy. [reason proxy]
proxy.quarantined: A proxy was taken out of use for a while. [proxy reason cooldown_s]
proxy.restored: A proxy is in use again. [proxy]

# speech recognition
asr.tool_output: A line written by a program the stage runs. [tool text]

# requests that are answered later
job.finished: A job ended. [job_id video_id state error_type]
job.lost: A job's worker died; it is run again or given up. [job_id run]
job.storage_failed: Queue or records cannot be reached. [error_type]

# dashboard and alerts
dashboard.query.failed: A named query to Prometheus failed. [query outcome error_type duration_s]
dashboard.auth.refused: A dashboard request was refused. [reason]
alert.received: Alertmanager delivered an alert.
    [alertname severity status notification fingerprint alert_stage alert_labels summary]
alert.rejected: An alert notification could not be used. [reason]
alert.history.unreadable: The alert history could not be read. [error_type]

# performance
performance.measured: A block measured with `log_performance` ended.
    [operation outcome error_type duration_s]
performance.metric: A measurement given to `emit_performance_metric`.
    [metric_type value unit p50 p95]

# process
service.started: A worker is ready. [workers threads bind]
service.stopping: A worker was told to stop. [reason]
worker.exception: An exception nobody caught ended a thread. [thread error_type]

# telemetry about telemetry
telemetry.environment.invalid: An `OTEL_*` variable has a value that cannot be used.
    [variable reason]
telemetry.export.failing: Records cannot be delivered; they are kept and retried.
    [signal error_type reason]
telemetry.export.recovered: Delivery works again. [signal outage_s dropped]
telemetry.shutdown.finished: Providers were flushed and closed. [duration_s lost_spans lost_logs]
telemetry.event.unknown: A log event is missing in the catalogue. [unknown_event]
telemetry.metric.unknown: A metric or label is missing in the registry. [metric_type label]
telemetry.sdk: A message of the OpenTelemetry SDK. [message logger]
log.record: A line of the standard library's logging; its text is `message`. [message logger]
"""

# Every event with the fields it has.
CATALOGUE: Final[dict[str, tuple[str, ...]]] = {
    name: tuple(fields.split())
    for name, fields in re.findall(
        r"^([a-z_]+(?:\.[a-z_]+)+): [^\[\n]+\.(?:\s+\[([a-z0-9_\s]+)\])?$", _CATALOGUE, re.MULTILINE
    )
}
