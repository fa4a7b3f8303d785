"""OTLP requests written as protobuf by hand, for the records that nearly all are.

The SDK's encoders build a message object for every attribute: 47 µs of CPU per span and 40 per
log line, most of what telemetry costs a request. The same few attributes come again and again,
so here each becomes bytes once. What this module does not know (events, links, nested values)
goes through the SDK's encoder: requests can be joined, because a protobuf message that is
appended to another is merged with it.

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

from .spans import attributes_of

_fixed64: Final = Struct("<Q").pack
_double: Final = Struct("<d").pack
# Text attributes remembered as bytes; longer ones are rarely seen twice.
_SHORT: Final = 64
_MOST_PAIRS: Final = 4096
_pairs: dict[tuple[str, str], bytes] = {}
_heads: dict[str, bytes] = {}
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
    kind = type(value)
    if type(key) is not str:
        raise Unfamiliar(repr(key))
    if kind is str:
        found = _pairs.get((key, value))
        if found is None:
            text = value.encode()
            found = _key_value(key, chunk(b"\x0a", text))
            if len(value) <= _SHORT:
                if len(_pairs) >= _MOST_PAIRS:
                    _pairs.clear()
                _pairs[key, value] = found
        return tag + found
    if kind is bool:
        return tag + _key_value(key, b"\x10\x01" if value else b"\x10\x00")
    if kind is int:
        if not -(1 << 63) <= value < 1 << 63:
            raise Unfamiliar(key)
        return tag + _key_value(key, b"\x18" + varint(value & 0xFFFF_FFFF_FFFF_FFFF))
    if kind is float:
        return tag + _key_value(key, b"\x21" + _double(value))
    raise Unfamiliar(key)


def _key_value(key: str, any_value: bytes) -> bytes:
    """A `KeyValue`'s length and content."""
    head = _heads.get(key)
    if head is None:
        head = chunk(b"\x0a", key.encode())
        if len(_heads) < _MOST_PAIRS:
            _heads[key] = head
    content = head + chunk(b"\x12", any_value)
    return varint(len(content)) + content


def attributes(tag: bytes, pairs: Mapping[str, Any]) -> bytes:
    """All of them, one after the other. Raises as `attribute`."""
    return b"".join([attribute(tag, key, value) for key, value in pairs.items()])


def trace_request(spans: Sequence[ReadableSpan]) -> bytes:
    """An `ExportTraceServiceRequest`.

    Raises:
        Exception: a span that the SDK cannot encode either.
    """
    groups: dict[Any, tuple[ReadableSpan, list[bytes]]] = {}
    others: list[ReadableSpan] = []
    for span in spans:
        try:
            encoded = _span(span)
        except ValueError:  # UnicodeEncodeError is one
            others.append(span)
            continue
        key = (id(span.resource), span.instrumentation_scope)
        groups.setdefault(key, (span, []))[1].append(encoded)
    parts = [_around(_frame(first), encoded_spans) for first, encoded_spans in groups.values()]
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


def _span(span: ReadableSpan) -> bytes:
    context, parent, status = span.context, span.parent, span.status
    if (
        context is None
        or context.trace_state
        or span.start_time is None
        or span.end_time is None
        or span.dropped_attributes
        or span.dropped_events
        or span.dropped_links
        or span.events
        or span.links
    ):
        raise Unfamiliar(span.name)
    parts = [
        b"\x0a\x10", context.trace_id.to_bytes(16, "big"),
        b"\x12\x08", context.span_id.to_bytes(8, "big"),
        b"\x22\x08" + parent.span_id.to_bytes(8, "big") if parent else b"",
        chunk(b"\x2a", span.name.encode()),
        b"\x30", varint(span.kind.value + 1),
        b"\x39", _fixed64(span.start_time),
        b"\x41", _fixed64(span.end_time),
        attributes(b"\x4a", attributes_of(span)),
    ]  # fmt: skip
    state = varint(status.status_code.value)
    described = chunk(b"\x12", status.description.encode()) if status.description else b""
    parts.append(chunk(b"\x7a", described + (b"\x18" + state if state != b"\x00" else b"")))
    parts.append(_REMOTE_PARENT if parent and parent.is_remote else _LOCAL_PARENT)
    return b"".join(parts)


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
    name = event.encode()
    moment = _fixed64(time_ns)
    return b"".join(
        (
            b"\x09", moment,
            b"\x10", varint(severity),
            chunk(b"\x1a", severity_text.encode()),
            chunk(b"\x2a", chunk(b"\x0a", name)),
            attribute(b"\x32", "event", event),
            *[attribute(b"\x32", key, value) for key, value in fields.items() if value is not None],
            b"\x45" + flags.to_bytes(4, "little") if flags else b"",
            b"\x4a\x10" + trace_id.to_bytes(16, "big") if trace_id else b"",
            b"\x52\x08" + span_id.to_bytes(8, "big") if span_id else b"",
            b"\x59", moment,
            chunk(b"\x62", name),
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
