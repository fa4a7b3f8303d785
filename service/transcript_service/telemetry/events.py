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
http.request.refused: A request was answered before the application got it. [status error_type]
http.request.failed: A request ended in an unexpected exception. [error_type]

transcript.request.finished: A transcript request was answered.
    [video_id outcome source error_type cached duration_s attempts]
transcript.stage.finished: One stage delivered or gave up.
    [video_id stage attempt outcome error_type duration_s profile proxy_used]
transcript.stage.retried: One try failed and another follows.
    [video_id stage attempt outcome error_type duration_s delay_s]
transcript.stage.failed: A stage raised what it should not; a defect. [video_id stage error_type]
transcript.panel.captured: The browser found a transcript panel. [video_id stage profile layout]
transcript.stage.skipped: A stage was not tried. [video_id stage reason]
transcript.cookies.line_skipped: A line of the cookie file is no cookie. [line reason]
transcript.cache.failed: The transcript cache could not be read or written. [operation error_type]
transcript.cache.set_aside: The cache's file was damaged; it was renamed and a new one begun. [file]
transcript.cache.stale_served: An old transcript stood in for a failed fetch. [age_s error_type]

circuit_breaker.state_changed: A breaker changed state.
    [breaker from_state to_state reason failure_rate slow_call_rate recovery_s]
circuit_breaker.call_refused: A breaker let no call through. [breaker state]
circuit_breaker.store_chosen: States live in Redis (shared) or in this process. [shared]
circuit_breaker.record_discarded: Redis held nonsense; it starts closed. [breaker error_type]

shared_state.lost: Redis failed; this process goes on with what it knew. [kind error_type]
shared_state.refused: Redis answers but refuses a command; it is done without. [kind error_type]
shared_state.restored: Redis answers again. [kind]

browser.launched: A browser process is ready. [duration_s browser_version baseline_bytes]
browser.unsandboxed: Chromium runs without its sandbox, one wall less. [reason other_user]
browser.crashed: A browser died or hung; another is started. [reason lived_s contexts_lost]
browser.replaced: A browser takes no more contexts and ends when it is empty. [reason used_bytes]
browser.unavailable: No browser can be had. [reason problem retry_after_s]
browser.memory.high: More than may be used; contexts retire. [reason used_bytes baseline_bytes]
browser.janitor.failed: Background work of the pool ended in an error.
browser.context.created: A browser context was made. [profile context_key duration_s]
browser.context.leased: A caller got a context. [profile context_key reused wait_s uses]
browser.context.returned: A caller gave its context back. [profile context_key held_s uses]
browser.context.retired: A browser context was closed.
    [profile context_key reason age_s uses detail]
browser.context.crashed: A page crashed; the lease is the last. [profile context_key uses]
browser.context.lease_expired: A lease passed its deadline. [profile context_key held_s]
browser.context.lease_failed: A caller got no context. [profile reason error_type wait_s]
browser.cookie.refused: Chromium takes a cookie not. [profile cookie_name cookie_domain]
browser.console: A page wrote to its console. [profile console_level text]

proxy.preflight.finished: A proxy was probed. [proxy outcome duration_s]
proxy.rotated: A job changed its proxy. [reason proxy]
proxy.quarantined: A proxy was taken out of use for a while. [proxy reason cooldown_s]
proxy.restored: A proxy is in use again. [proxy]

asr.tool_output: A line written by a program the stage runs. [tool text]

job.finished: A job ended. [job_id video_id state error_type]
job.lost: A job's worker died; it is run again or given up. [job_id run]
job.storage_failed: Queue or records cannot be reached. [error_type]

dashboard.query.failed: A named query to Prometheus failed. [query outcome error_type duration_s]
dashboard.auth.refused: A dashboard request was refused. [reason]
alert.received: Alertmanager delivered an alert.
    [alertname severity status notification fingerprint alert_stage alert_labels summary]
alert.rejected: An alert notification could not be used. [reason]
alert.history.unreadable: The alert history could not be read. [error_type]

performance.measured: A measured block ended. [operation outcome error_type duration_s]
performance.metric: A measurement made elsewhere. [metric_type value unit p50 p95]

service.started: A worker is ready. [workers threads bind]
service.stopping: A worker was told to stop. [reason]
worker.exception: An exception nobody caught ended a thread. [thread error_type]

telemetry.environment.invalid: An `OTEL_*` variable's value is of no use. [variable reason]
telemetry.export.failing: Records cannot be delivered and are kept. [signal error_type reason]
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
