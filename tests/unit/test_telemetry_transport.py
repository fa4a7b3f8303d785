"""The `OTEL_*` variables about the way to the Collector: whatever they say, over HTTP and gRPC."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.otlp_sink import Certificate, OtlpSink
from tests.unit.test_telemetry_providers import run, run_alone

# Long and the same all over, so that compression shows.
_WORK = """
with telemetry.span("work", long="x" * 30_000):
    log.info("service.started", text="y" * 30_000)
    telemetry.instruments.JOB_DURATION.record(0.5, outcome="success")
running.shutdown()
print(json.dumps([queue.ledger().lost for queue in running.queues]))
"""
SIGNALS = ("TRACES", "METRICS", "LOGS")
HTTP, GRPC = "http/protobuf", "grpc"


class Files:
    """An authority, what the sink shows and what a client must show."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        served, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client")
        self.sink = Certificate(
            authority.cert_pem.bytes(),
            b"".join(blob.bytes() for blob in served.cert_chain_pems),
            served.private_key_pem.bytes(),
        )
        self._paths = {
            "CERTIFICATE": self.sink.authority,
            "CLIENT_CERTIFICATE": b"".join(blob.bytes() for blob in client.cert_chain_pems),
            "CLIENT_KEY": client.private_key_pem.bytes(),
        }
        for name, content in self._paths.items():
            (folder / name).write_bytes(content)
        self._folder = folder

    def variables(self, signal: str = "") -> dict[str, str]:
        """For all signals, or for one (`TRACES_`)."""
        return {
            f"OTEL_EXPORTER_OTLP_{signal}{name}": f"{self._folder / name}" for name in self._paths
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@contextmanager
def door(sink: OtlpSink, protocol: str) -> Iterator[str]:
    """The sink's address for a protocol."""
    if protocol == GRPC:
        with sink.over_grpc() as address:
            yield address
    else:
        yield sink.url


class Tunnel:
    """A proxy that knows CONNECT, and how much went up through it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.bytes = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        host, _, port = head.split()[1].decode().rpartition(":")
        upstream = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        threading.Thread(target=self._pump, args=(upstream, client), daemon=True).start()
        self._pump(client, upstream, count=True)

    def _pump(self, source: socket.socket, target: socket.socket, *, count: bool = False) -> None:
        with suppress(OSError):  # the other end is gone
            while data := source.recv(65536):
                self.bytes += len(data) if count else 0
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def _arrived(sink: OtlpSink) -> tuple[int, bool, float]:
    started = "service.started" in {line.event_name for line in sink.logs}
    return len(sink.spans), started, sink.counter("job.duration")


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_certificates_proxy_headers_and_compression(
    files: Files, protocol: str, compression: str
) -> None:
    sink, tunnel = OtlpSink(tls=files.sink), Tunnel()
    with sink, door(sink, protocol) as address, closing(tunnel):
        run(
            _WORK,
            address,
            HTTPS_PROXY=tunnel.url,
            https_proxy=tunnel.url,  # gRPC reads this spelling
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=a",
            OTEL_EXPORTER_OTLP_COMPRESSION=compression,
            **files.variables(),
        )
        assert _arrived(sink) == (1, True, 1)
    headers = sink.metadata if protocol == GRPC else sink.headers
    assert {header.get("x-tenant") for header in headers} == {"a"}
    assert tunnel.bytes > 0
    assert (tunnel.bytes < 30_000) is (compression == "gzip")


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_without_a_client_certificate_this_sink_takes_nothing(files: Files, protocol: str) -> None:
    """So what arrives in the tests around shows that the files were used."""
    authority = {name: path for name, path in files.variables().items() if "CLIENT" not in name}
    with OtlpSink(tls=files.sink) as sink, door(sink, protocol) as address:
        stdout, _ = run(_WORK, address, OTEL_EXPORTER_OTLP_PROTOCOL=protocol, **authority)
        assert _arrived(sink) == (0, False, 0)
    assert min(json.loads(stdout.splitlines()[-1])) >= 1


@pytest.mark.parametrize(
    "protocols", [(GRPC, HTTP, HTTP), (HTTP, GRPC, GRPC)], ids=["traces by gRPC", "traces by HTTP"]
)
def test_each_signal_has_its_own_way(files: Files, protocols: tuple[str, ...]) -> None:
    compressions = (
        ("gzip", "deflate", "none") if protocols[1] == HTTP else ("deflate", "gzip", "none")
    )
    environ: dict[str, str] = {"OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=all"}
    sinks = [OtlpSink(tls=files.sink) for _ in SIGNALS]
    with ExitStack() as stack:
        for signal, protocol, compression, sink in zip(
            SIGNALS, protocols, compressions, sinks, strict=True
        ):
            address = stack.enter_context(door(stack.enter_context(sink), protocol))
            path = "" if protocol == GRPC else f"/v1/{signal.lower()}"
            environ |= files.variables(f"{signal}_") | {
                f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT": address + path,
                f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL": protocol,
                f"OTEL_EXPORTER_OTLP_{signal}_HEADERS": f"x-tenant={signal}",
                f"OTEL_EXPORTER_OTLP_{signal}_COMPRESSION": compression,
            }
        run(_WORK, "http://127.0.0.1:1", **environ)
        traces, metrics, logs = map(_arrived, sinks)
    assert traces == (1, False, 0)
    assert metrics == (0, False, 1)
    assert logs == (0, True, 0)
    for signal, protocol, compression, sink in zip(
        SIGNALS, protocols, compressions, sinks, strict=True
    ):
        headers = sink.metadata if protocol == GRPC else sink.headers
        assert {header["x-tenant"] for header in headers} == {signal}
        if protocol == HTTP:
            used = {header.get("Content-Encoding", "none") for header in headers}
            assert used == {compression}


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_each_signal_has_its_own_patience(protocol: str) -> None:
    with OtlpSink(status=0) as hanging, door(hanging, protocol) as address:
        stdout, _ = run(
            """
with telemetry.span("work"):
    log.info("service.started")
traces, logs = running.queues
while not traces._failing:
    time.sleep(0.05)
print(json.dumps([logs._failing, logs.ledger().delivered]), flush=True)
os._exit(0)
""",
            address,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="3000",
            OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="0.3",
        )
    assert json.loads(stdout.splitlines()[-1]) == [False, 0]


@pytest.mark.parametrize("signal", ["", "LOGS_"])
def test_an_address_without_a_scheme_needs_the_word_insecure(signal: str) -> None:
    with OtlpSink() as sink, sink.over_grpc() as address:
        environ = {
            f"OTEL_EXPORTER_OTLP_{signal}{name}": value
            for name, value in {
                "PROTOCOL": GRPC,
                "ENDPOINT": address.removeprefix("http://"),
                "INSECURE": "true",
            }.items()
        }
        run(_WORK, **{"endpoint": sink.url} | environ)
        assert _arrived(sink) == (1, True, 1)
        assert bool(sink.headers) == bool(signal)  # the other signals stay with HTTP


def _invalid(lines: list[dict[str, Any]]) -> dict[str, str]:
    return {
        line["variable"]: line["reason"]
        for line in lines
        if line["event"] == "telemetry.environment.invalid"
    }


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "deflate"}, "gRPC knows no `deflate`"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "extra `grpc`"),
    ],
)
def test_what_grpc_cannot_do_is_refused_by_name(environ: dict[str, str], reason: str) -> None:
    missing = "PROTOCOL" in str(environ)
    before = "import sys; sys.modules['grpc'] = None\n" if missing else ""
    with OtlpSink() as sink, sink.over_grpc() as address:
        _, lines = run_alone(
            _WORK,
            sink.url if missing else address,
            before=before,
            **{"OTEL_EXPORTER_OTLP_PROTOCOL": GRPC} | environ,
        )
        assert _arrived(sink) == (1, True, 1)
    ((variable, said),) = _invalid(lines).items()
    assert [variable] == list(environ)
    assert reason in said
