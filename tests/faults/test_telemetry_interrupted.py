"""Log lines and measurements made in the middle of telemetry's own work hang nobody.

A finaliser, a signal handler, `sys.unraisablehook` and a logging handler run where the interpreter
likes, so also on a thread that holds a lock of the queue, the rate limit or an instrument. Here one
runs before each single line of the telemetry room and the SDK that a piece of work comes through.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.otlp_sink import OtlpSink
from tests.unit.test_telemetry_providers import run_alone

# Far more than it takes: one that hangs does so for ever. On a machine that is busy with something
# else a collection, an answer or a whole flush takes a hundred times as long.
PATIENCE_S = 500

_INTERRUPTED = """
import faulthandler, itertools, signal, threading
faulthandler.dump_traceback_later(PATIENCE_S, exit=True)

def interrupt():
    log.warning("service.stopping")
    logging.getLogger("some.library").warning("gone")
    telemetry.instruments.JOB_DURATION.record(0.5, outcome="success")
    telemetry.instruments.TRANSCRIPT_REQUESTS.add(1, outcome="success", source="asr")
    with telemetry.span("interrupting"):
        pass

class LogsAtItsEnd:
    def __del__(self):
        interrupt()

class RaisesAtItsEnd:
    def __del__(self):
        raise RuntimeError("nobody can catch this")

class Handler(logging.Handler):
    def emit(self, record):
        if record.name == "interrupting":
            interrupt()

root = logging.getLogger()
root.addHandler(Handler())
signal.signal(signal.SIGUSR1, lambda *_: interrupt())
sys.unraisablehook = lambda _: interrupt()
cause = {
    "finaliser": lambda: LogsAtItsEnd() and None,
    "signal handler": lambda: signal.raise_signal(signal.SIGUSR1),
    "unraisable hook": lambda: RaisesAtItsEnd() and None,
    "logging handler": lambda: logging.getLogger("interrupting").warning("now"),
}[KIND]
# Of each thread, so many lines: those that send would else always have more to send.
left, number = {threading.main_thread(): 3000}, itertools.count()

def before_each_line(frame, event, _):
    path = frame.f_code.co_filename
    if "transcript_service/telemetry" not in path and "opentelemetry/sdk" not in path:
        return None
    thread = threading.current_thread()
    if event == "line" and (KIND != "signal handler" or thread is threading.main_thread()):
        lines = left.setdefault(thread, 300)
        if lines:
            left[thread] = lines - 1
            cause()  # is not traced itself
            next(number)
    return before_each_line

threading.settrace(before_each_line)
sys.settrace(before_each_line)
for _ in range(3):
    with telemetry.span("work"):
        log.info("service.started")
        telemetry.instruments.JOB_DURATION.record(0.5, outcome="success")
        telemetry.instruments.TRANSCRIPT_REQUESTS.add(1, outcome="success", source="asr")
    assert flush(PATIENCE_S)
left = dict.fromkeys(threading.enumerate(), 0)
sys.settrace(None)
threading.settrace(None)
assert running.shutdown(PATIENCE_S)
print(json.dumps(next(number)))
"""


@pytest.mark.parametrize(
    ("kind", "interval_s"),
    [
        ("finaliser", PATIENCE_S),
        ("finaliser", 0.2),  # the reader's own collections are interrupted too
        ("signal handler", PATIENCE_S),
        ("unraisable hook", PATIENCE_S),
        ("logging handler", PATIENCE_S),
    ],
)
def test_what_is_written_and_measured_before_any_line_arrives(kind: str, interval_s: float) -> None:
    with OtlpSink() as sink:
        stdout, _ = run_alone(
            f"import sys\nKIND, PATIENCE_S = {kind!r}, {PATIENCE_S}\n{_INTERRUPTED}",
            sink.url,
            LOG_RATE_LIMIT_PER_MIN="1000000",  # all, but by way of the limit
            OTEL_BSP_MAX_QUEUE_SIZE="1000000",
            OTEL_BLRP_MAX_QUEUE_SIZE="1000000",
            # An answer that comes too late would have its batch sent, and counted, twice.
            OTEL_EXPORTER_OTLP_TIMEOUT=str(PATIENCE_S),
            OTEL_METRIC_EXPORT_INTERVAL=str(int(interval_s * 1000)),
            OTEL_METRIC_EXPORT_TIMEOUT=str(PATIENCE_S * 1000),
        )
        interrupted = json.loads(stdout.splitlines()[-1])
        assert interrupted > 300
        spans = Counter(span.name for span in sink.spans)
        assert spans == {"work": 3, "interrupting": interrupted}
        events = Counter(line.event_name for line in sink.logs)
        assert (events["service.started"], events["service.stopping"]) == (3, interrupted)
        assert events["log.record"] >= interrupted
        counted = {
            sink.counter("transcript.requests", source="asr"),
            sink.counter("job.duration", outcome="success"),
        }
        if interval_s == PATIENCE_S:
            assert counted == {interrupted + 3}
        else:  # the SDK gives its last collection one interval, which may be too short
            assert 3 < min(counted) <= max(counted) <= interrupted + 3
