"""The command line says in one line what is wrong, and stops when it is told to."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.__main__ import main
from simulator.faults import KINDS

COMMAND = [sys.executable, "-m", "simulator"]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve"], "required: --ca-file"),
        (["serve", "--ca-file", "{tmp}/ca", "--port", "70000"], "'70000' is not a port number"),
        (["serve", "--ca-file", "{tmp}/ca", "--port", "{taken}"], "port {taken} is already in use"),
        (
            ["serve", "--ca-file", "{tmp}/ca", "--port", "0", "--proxy-port", "{taken}"],
            "port {taken} is already in use",
        ),
        (["serve", "--ca-file", "{tmp}/ca", "--host", "0.0.0.0"], "listens on 127.0.0.1 only"),
        (["serve", "--ca-file", "{tmp}/no/ca", "--port", "0"], "cannot write the CA file"),
        (["serve", "--ca-file", "{tmp}/ca", "--fault", "flood"], "unknown fault 'flood'"),
        (["serve", "--ca-file", "{tmp}/ca", "--recordings", "{tmp}/no"], "cannot read the rec"),
        (["load", "--target", "http://192.0.2.1:5000"], "target must be"),
        (["load", "--target", "http://127.0.0.1.example.com"], "target must be"),
        (["load", "--target", "ftp://127.0.0.1"], "target must be"),
        (["load", "--control", "https://example.com", "--faults", "1"], "control must be"),
        (["load", "--rate", "0"], "rate must be"),
        (["load", "--concurrency", "0"], "concurrency must be"),
        (["load", "--duration", "soon"], "duration must be"),
        (["load", "--faults", "2"], "need --ca-file"),
        (["dance"], "invalid choice"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    taken_port: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = {"tmp": str(tmp_path), "taken": str(taken_port)}
    try:
        code: object = main([argument.format(**values) for argument in arguments])
    except SystemExit as stopped:  # how the parser ends
        code = stopped.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("simulator: ")
    assert says.format(**values) in err


def test_the_table_of_faults_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(KINDS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serving_says_where_and_ends_cleanly_when_told(
    number: signal.Signals, tmp_path: Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    arguments = ["serve", "--port", "0", "--proxy-port", "0", "--ca-file", str(ca_file)]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("simulator: https://127.0.0.1:")
        assert ca_file.read_text().startswith("-----BEGIN CERTIFICATE-----")
        process.send_signal(number)
        assert process.wait(20) == 0
    assert set(tmp_path.iterdir()) == {ca_file, ca_file.with_suffix(".key")}
