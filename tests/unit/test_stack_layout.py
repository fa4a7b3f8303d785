"""The one table of ports and paths."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import pytest

from stack.errors import StackError
from stack.layout import BASE_PORTS, CHECKOUT, MAX_OFFSET, Layout
from stack.programs import PROGRAMS, SCALED, SINGLE, Program
from transcript_service.settings import Settings


def test_without_settings_the_stack_is_the_checkouts_own_on_the_usual_ports() -> None:
    layout = Layout.from_env({})

    assert layout.state_dir == CHECKOUT / ".stack"
    assert layout.bin_dir == CHECKOUT / ".stack" / "bin"
    assert layout.url("prometheus", "/-/ready") == "http://127.0.0.1:9090/-/ready"


def test_a_second_stack_has_other_ports_and_folders_and_the_same_engines() -> None:
    first = Layout.from_env({})
    second = Layout.from_env({"STACK_DIR": "/srv/second", "STACK_PORT_OFFSET": "10000"})

    assert second.port("prometheus") == first.port("prometheus") + 10000
    assert second.bin_dir == first.bin_dir
    assert second.supervisor_socket != first.supervisor_socket


def test_no_two_ports_differ_by_a_round_number() -> None:
    meeting = [
        (one, other)
        for one, other in combinations(BASE_PORTS, 2)
        if (BASE_PORTS[one] - BASE_PORTS[other]) % 1000 == 0
    ]

    assert meeting == []


@pytest.mark.parametrize("form", [SINGLE, SCALED], ids=["single", "scaled"])
def test_a_port_belongs_to_one_program_of_each_form(form: Mapping[str, Program]) -> None:
    of_programs = [port for program in form.values() for port in program.ports]

    assert len(of_programs) == len(set(of_programs))


def test_every_port_is_some_programs() -> None:
    assert {port for program in PROGRAMS.values() for port in program.ports} == set(BASE_PORTS)


def test_what_stands_in_front_of_several_has_the_port_of_the_single_one() -> None:
    single = {port for program in SINGLE.values() for port in program.ports}
    asked = {"service", "otlp-http", "otlp-grpc", "prometheus", "victorialogs"}

    assert asked <= single
    assert asked <= {port for program in SCALED.values() for port in program.ports}


@pytest.mark.parametrize("offset", ["-1", "1.5", "many", str(MAX_OFFSET + 1), "٣"])
def test_an_offset_of_no_use_is_one_line(offset: str) -> None:
    with pytest.raises(StackError, match="STACK_PORT_OFFSET must"):
        Layout.from_env({"STACK_PORT_OFFSET": offset})


@pytest.mark.parametrize("folder", ["/srv/a;b", '/srv/a"b', "/srv/a'b", "/srv/a\nb", "/srv/a#b"])
def test_a_path_that_the_supervisor_cannot_take_is_refused(folder: str) -> None:
    with pytest.raises(StackError, match="has one of the characters"):
        Layout.from_env({"STACK_DIR": folder})


def test_a_relative_state_folder_means_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert Layout.from_env({"STACK_DIR": "state"}).state_dir == tmp_path / "state"


def test_the_socket_path_fits_the_kernels_limit_however_deep_the_folder(tmp_path: Path) -> None:
    deep = Layout(tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8))

    assert len(os.fsencode(deep.supervisor_socket)) <= 90
    assert deep.supervisor_socket != Layout(deep.state_dir / "another").supervisor_socket


def test_the_service_is_pointed_at_the_simulator_only_when_it_runs() -> None:
    layout = Layout(Path("/srv/state"), offset=7)

    assert "YOUTUBE_RESOLVE_TO" not in layout.service_env()
    with_simulator = layout.service_env(simulator=True)
    assert with_simulator["YOUTUBE_RESOLVE_TO"] == "127.0.0.1:8450"
    assert with_simulator["YOUTUBE_CA_FILE"] == "/srv/state/simulator-ca.pem"
    assert with_simulator["SERVICE_BIND"] == "127.0.0.1:5007"
    assert with_simulator["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4325"


def test_the_launcher_opens_its_own_service_alone_to_this_machine() -> None:
    name = "DASHBOARD_OPEN_ON_LOOPBACK"
    assert Layout.from_env({}).service_env()[name] == "1"
    # `python -m stack env` is for shells, where other services are started too.
    assert name not in Layout.from_env({}).endpoints()
    assert Settings().dashboard_open_on_loopback is False
