"""A launcher with stand-ins for Go and for the engines: the real `python -m stack`, in seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stack.layout import CHECKOUT, Layout
from stack.supervise import orphans
from tests.ports import claimed_offset

# Answers as `go` does; FAKE_GO says how it fails. Every build leaves a line in $FAKE_GO_LOG.
FAKE_GO = """\
import os, pathlib, shutil, sys, time

command, mode = sys.argv[1], os.environ.get("FAKE_GO", "")
if command == "version":
    print("go version", os.environ.get("FAKE_GO_VERSION", "go1.99.1"), "linux/amd64")
elif command == "env":
    print(os.environ["FAKE_GO_CACHE"] + "\\n" + os.environ["FAKE_GO_CACHE"])
elif command == "list":
    print("go: downloading example.org/thing v1.2.3", file=sys.stderr)
    if mode == "offline":
        sys.exit("go: example.org/thing@v1.2.3: dial tcp: lookup example.org: no such host")
    print("example.org/thing")
elif "-o" not in sys.argv:
    print("example.org/thing", flush=True)
else:
    with open(os.environ["FAKE_GO_LOG"], "a") as log:
        log.write(pathlib.Path.cwd().name + "\\n")
    if mode == "full":
        sys.exit("link: write out.o: no space left on device")
    if mode == "broken":
        sys.exit("main.go:1:1: expected 'package'")
    time.sleep(float(os.environ.get("FAKE_GO_SECONDS", "0")))
    output = sys.argv[sys.argv.index("-o") + 1]
    packages = sys.argv[sys.argv.index("-o") + 2 :]
    names = [pathlib.Path(p).name for p in packages] if output.endswith("/") else [""]
    for name in names:
        target = output + name
        shutil.copy(os.environ["FAKE_ENGINE"], target)
"""

# Serves 200 at every address it is told to listen on; FAKE_JAEGER=exit and the like make it fail.
# Without `http.server`, whose import takes longer than all else of it: it is started very often.
FAKE_ENGINE = """\
import os, re, socket, sys, threading

name = os.path.basename(sys.argv[0])
mode = os.environ.get("FAKE_" + name.upper().replace("-", "_"), "")
if mode == "exit":
    print("\\n".join(f"line {number}" for number in range(1, 31)), "last words", sep="\\n")
    sys.exit(3)
status = b"503 Service Unavailable" if mode == "deaf" else b"200 OK"

def answer(connection):
    with connection:
        request = b""
        while b"\\r\\n\\r\\n" not in request:
            received = connection.recv(65536)
            if not received:
                return
            request += received
        connection.sendall(
            b"HTTP/1.1 " + status + b"\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n"
        )

def serve(server):
    while True:
        connection, _ = server.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()

told = [a for a in sys.argv if a.startswith(("--web.listen-address=", "-httpListenAddr="))]
prefix = {"otelcol": "OTELCOL_", "jaeger": "JAEGER_"}.get(name, "nothing")
told += [value for key, value in os.environ.items() if key.startswith(prefix)]
ports = [int(p) for value in told for p in re.findall(r"127\\.0\\.0\\.1:(\\d+)", value)]
for port in ports:
    server = socket.create_server(("127.0.0.1", port), backlog=50)
    threading.Thread(target=serve, args=(server,)).start()
print(name, "serves", ports, flush=True)
"""


@dataclass(frozen=True)
class FakeStack:
    """Runs launcher commands against the stand-ins."""

    layout: Layout
    env: dict[str, str]
    go_log: Path
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    def popen(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """A command as a script starts it before an `&`: with SIGINT ignored."""
        process = subprocess.Popen(
            ["/usr/bin/env", "--ignore-signal=INT", sys.executable, "-m", "stack", *arguments],
            cwd=CHECKOUT,
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def stop(self) -> None:
        """End what a failed test left, launchers that still wait included."""
        for process in self._started:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=180)
        self.run("down")
        assert orphans(self.layout) == []

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        process = self.popen(*arguments, **env)
        out, err = process.communicate(timeout=180)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def up(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """`up` without the service, which is no stand-in."""
        return self.run("up", "--without", "service", *arguments, **env)

    def builds(self) -> list[str]:
        """The engines that were compiled, in order, as often as they were."""
        return self.go_log.read_text().split() if self.go_log.exists() else []


@contextmanager
def fake_stack(folder: Path) -> Iterator[FakeStack]:
    """A stack of stand-ins in `folder`, on ports that are free; stopped at the end."""
    tools = folder / "tools"
    tools.mkdir()
    shebang = f"#!{sys.executable}\n"
    for name, source in (("go", FAKE_GO), ("engine", FAKE_ENGINE)):
        (tools / name).write_text(shebang + source)
        (tools / name).chmod(0o755)
    with claimed_offset() as offset:
        layout = Layout(folder / "state", offset=offset, bin_dir=folder / "bin")
        stack = FakeStack(layout, _environ(layout, folder, tools), folder / "builds")
        try:
            yield stack
        finally:
            stack.stop()


def _environ(layout: Layout, folder: Path, tools: Path) -> dict[str, str]:
    return dict(os.environ) | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "STACK_DIR": str(layout.state_dir),
        "STACK_BIN_DIR": str(layout.bin_dir),
        "STACK_PORT_OFFSET": str(layout.offset),
        "STACK_MIN_FREE_GB": "0",
        "FAKE_ENGINE": str(tools / "engine"),
        "FAKE_GO_CACHE": str(folder),
        "FAKE_GO_LOG": str(folder / "builds"),
    }
