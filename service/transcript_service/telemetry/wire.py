"""OTLP requests written as protobuf by hand, for the records that nearly all are.

The SDK's encoders build a message object for every attribute: 47 µs of CPU per span and 40 per
log line, most of what telemetry costs a request. The same few attributes come again and again,
so here each becomes bytes once, and is looked through for secrets once. What this module does
not know (events, links, nested values) or what needs masking goes through the SDK's encoder:
requests can be joined, because a protobuf message that is appended to another is merged with it.

Field numbers are those of opentelemetry-proto 1 (stable).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from struct import Struct
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan

from .light_tracer import LightSpan
from .redaction import SHORT, Harmless, redact_mapping, redact_text

_fixed64: Final = Struct("<Q").pack
_double: Final = Struct("<d").pack
# Attributes as bytes by type of the value (1 and True are the same key of a dict).
_MOST_PAIRS: Final = 4096
_pairs: Final[dict[type, dict[Any, bytes]]] = {str: {}, int: {}, bool: {}}
# Of spans: names and attributes in which there was nothing to mask.
_harmless: Final = {kind: Harmless() for kind in _pairs}
_heads: dict[str, bytes] = {}
# Of log lines, by severity and event: what stands between the time and the other attributes,
# and the name at the end.
_events: dict[tuple[int, str], tuple[bytes, bytes]] = {}
# By kind, id of the resource and scope (a process has one resource and few scopes): the
# resource, which keeps its id from being used again, and resource and scope as bytes.
_MOST_FRAMES: Final = 64
_frames: dict[Any, tuple[Any, bytes, bytes]] = {}
# Span.flags (field 16, fixed32): is the parent remote? 0x100 says that this is known.
_LOCAL_PARENT: Final = b"\x85\x01\x00\x01\x00\x00"
_REMOTE_PARENT: Final = b"\x85\x01\x00\x03\x00\x00"


class Unfamiliar(ValueError):
    """A value that the SDK's encoder has to write."""


def varint(number: int) -> bytes:
    """An unsigned number, seven bits a byte, least significant first."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def chunk(tag: bytes, content: bytes) -> bytes:
    """A field with a length: text, bytes or a message. `tag` is field number and wire type 2."""
    return tag + varint(len(content)) + content


def attribute(tag: bytes, key: str, value: Any) -> bytes:
    """A `KeyValue` as the repeated field `tag`.

    Raises:
        Unfamiliar: the value is no text, number or truth value.
        UnicodeEncodeError: the text has lone surrogates.
    """
    known = _pairs.get(type(value))
    found = None if known is None else known.get((key, value))
    if found is None:
        found = _key_value(key, value)
        if known is not None and _repeats(value):
            if len(known) >= _MOST_PAIRS:
                known.clear()
            known[key, value] = found
    return tag + found


def _key_value(key: str, value: Any) -> bytes:
    """A `KeyValue`'s length and content."""
    if type(key) is not str:
        raise Unfamiliar(repr(key))
    head = _heads.get(key)
    if head is None:
        head = chunk(b"\x0a", key.encode())
        if len(_heads) < _MOST_PAIRS:
            _heads[key] = head
    content = head + chunk(b"\x12", _any_value(key, value))
    return varint(len(content)) + content


def _any_value(key: str, value: Any) -> bytes:
    kind = type(value)
    if kind is str:
        return chunk(b"\x0a", value.encode())
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int and -(1 << 63) <= value < 1 << 63:
        return b"\x18" + varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    if kind is float:
        return b"\x21" + _double(value)
    raise Unfamiliar(key)


def _repeats(value: Any) -> bool:
    return type(value) is not str or len(value) <= SHORT


def trace_request(
    others: Sequence[ReadableSpan],
    encoded: Sequence[bytes] = (),
    like: LightSpan | None = None,
) -> bytes:
    """An `ExportTraceServiceRequest`.

    Args:
        others: masked spans that only the SDK can write.
        encoded: results of `span`.
        like: any span with the resource and scope of the encoded ones.

    Raises:
        Exception: a span that the SDK cannot encode either.
    """
    parts = [_around(_frame(like.readable()), encoded)] if like is not None else []
    if others:
        parts.append(encode_spans(others).SerializeToString())
    return b"".join(parts)


def _frame(record: ReadableSpan | ReadableLogRecord) -> tuple[bytes, bytes]:
    """The resource and the scope of a record as the SDK encodes them, remembered."""
    key = (type(record), id(record.resource), record.instrumentation_scope)
    found = _frames.get(key)
    if found is None:
        around: Any
        if isinstance(record, ReadableSpan):
            around, scopes, records = (
                encode_spans([record]).resource_spans[0],
                "scope_spans",
                "spans",
            )
        else:
            around = encode_logs([record]).resource_logs[0]
            scopes, records = "scope_logs", "log_records"
        within = getattr(around, scopes)[0]
        within.ClearField(records)
        scope = within.SerializeToString()
        around.ClearField(scopes)
        if len(_frames) >= _MOST_FRAMES:
            _frames.clear()
        found = _frames[key] = (record.resource, around.SerializeToString(), scope)
    return found[1:]


def _around(frame: tuple[bytes, bytes], records: Iterable[bytes]) -> bytes:
    """Records inside their resource and scope."""
    resource, scope = frame
    inner = chunk(b"\x12", scope + b"".join([chunk(b"\x12", record) for record in records]))
    return chunk(b"\x0a", resource + inner)


def span(ended: LightSpan) -> bytes:
    """A `Span`, if there is nothing in it to mask.

    Raises:
        Unfamiliar: something to be masked, or that only the SDK can write.
        UnicodeEncodeError: a text with lone surrogates.
    """
    context, parent, status = ended.context, ended.parent, ended.status
    if (
        context.trace_state
        or type(ended.attributes) is not dict
        or type(ended.events) is not tuple
        or type(ended.links) is not tuple
        or status.description
    ):
        raise Unfamiliar(ended.name)
    state = varint(status.status_code.value)
    return b"".join(
        (
            b"\x0a\x10", context.trace_id.to_bytes(16, "big"),
            b"\x12\x08", context.span_id.to_bytes(8, "big"),
            b"\x22\x08" + parent.span_id.to_bytes(8, "big") if parent else b"",
            _harmless_name(ended.name),
            b"\x30", varint(ended.kind.value + 1),
            b"\x39", _fixed64(ended.start_time),
            b"\x41", _fixed64(ended.end_time),
            *[_harmless_pair(key, value) for key, value in ended.attributes.items()],
            b"\x7a\x00" if state == b"\x00" else b"\x7a\x02\x18" + state,
            _REMOTE_PARENT if parent and parent.is_remote else _LOCAL_PARENT,
        )
    )  # fmt: skip


def _harmless_name(name: str) -> bytes:
    found: bytes | None = _harmless[str].get(name)
    if found is None:
        since = Harmless.now()
        if redact_text(name) != name:
            raise Unfamiliar(name)
        found = chunk(b"\x2a", name.encode())
        if len(name) <= SHORT:
            _harmless[str].keep(name, found, since)
    return found


def _harmless_pair(key: str, value: Any) -> bytes:
    known = _harmless.get(type(value))
    found: bytes | None = None if known is None else known.get((key, value))
    if found is None:
        since = Harmless.now()
        pair = {key: value}
        if redact_mapping(pair) is not pair:
            raise Unfamiliar(key)
        found = attribute(b"\x4a", key, value)
        if known is not None and _repeats(value):
            known.keep((key, value), found, since)
    return found


def log_record(
    *,
    time_ns: int,
    severity: int,
    severity_text: str,
    event: str,
    fields: Mapping[str, Any],
    trace_id: int,
    span_id: int,
    flags: int,
) -> bytes:
    """A `LogRecord` whose body and event name are `event`. Raises as `attribute`."""
    around = _events.get((severity, event))
    if around is None:
        name = event.encode()
        around = (
            b"\x10" + varint(severity) + chunk(b"\x1a", severity_text.encode())
            + chunk(b"\x2a", chunk(b"\x0a", name)) + attribute(b"\x32", "event", event),
            chunk(b"\x62", name),
        )  # fmt: skip
        if len(_events) < _MOST_PAIRS:
            _events[severity, event] = around
    before, after = around
    moment = _fixed64(time_ns)
    return b"".join(
        (
            b"\x09", moment,
            before,
            *[attribute(b"\x32", key, value) for key, value in fields.items() if value is not None],
            b"\x45" + flags.to_bytes(4, "little") if flags else b"",
            b"\x4a\x10" + trace_id.to_bytes(16, "big") if trace_id else b"",
            b"\x52\x08" + span_id.to_bytes(8, "big") if span_id else b"",
            b"\x59", moment,
            after,
        )
    )  # fmt: skip


def log_request(
    others: Sequence[ReadableLogRecord], encoded: Sequence[bytes], like: ReadableLogRecord
) -> bytes:
    """An `ExportLogsServiceRequest`.

    Args:
        others: records that only the SDK can write.
        encoded: results of `log_record`.
        like: any record with the resource and scope of the encoded ones.
    """
    parts = [_around(_frame(like), encoded)] if encoded else []
    if others:
        parts.append(encode_logs(others).SerializeToString())
    return b"".join(parts)
