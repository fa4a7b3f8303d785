"""What containers need before anything of the project is installed: secrets, and a way to wait."""

from __future__ import annotations

import importlib.util
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from stack import create_secrets

# A script that lies beside the package, not in it.
_spec = importlib.util.spec_from_file_location(
    "wait_for", Path(__file__).parents[2] / "service/wait_for.py"
)
assert _spec is not None
assert _spec.loader is not None
wait_for = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(wait_for)


def test_secrets_are_made_once_and_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    created = create_secrets.create(folder)
    before = {file.name: file.read_text() for file in created}
    assert set(create_secrets.NAMES) <= set(before)
    assert create_secrets.create(folder) == []
    assert {file.name: file.read_text() for file in folder.iterdir()} == before


def test_secrets_are_long_and_all_different(tmp_path: Path) -> None:
    values = [file.read_text() for file in create_secrets.create(tmp_path / "secrets")]
    assert len(set(values)) == len(values)
    assert min(map(len, values)) >= 32


def test_a_closed_folder_protects_files_that_containers_can_read(tmp_path: Path) -> None:
    files = create_secrets.create(tmp_path / "secrets")
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o444}


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """Answers 503 to the first two requests and 200 from then on."""

    class Handler(BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self) -> None:
            Handler.asked += 1
            self.send_response(503 if Handler.asked <= 2 else 200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Keep the test's output quiet."""

    running = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def test_waiting_ends_when_the_last_one_answers(server: HTTPServer) -> None:
    url = f"http://127.0.0.1:{server.server_port}/ready"
    assert wait_for.main([url, "--timeout", "20"]) == 0


def test_asking_once_tells_the_truth_about_now(
    server: HTTPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{server.server_port}/ready"
    assert wait_for.main([url, "--timeout", "0"]) == 1
    assert f"{url}: HTTP Error 503" in capsys.readouterr().err


def test_nobody_there_and_nonsense_are_answers_no(capsys: pytest.CaptureFixture[str]) -> None:
    assert wait_for.main(["http://127.0.0.1:9/", "nonsense", "--timeout", "0"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
