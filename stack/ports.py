"""Whether a port is free, and who has it."""

from __future__ import annotations

import socket
from pathlib import Path

from stack.layout import HOST

_LISTEN = "0A"  # the state column of /proc/net/tcp


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as sock:
        # As servers do it: connections of a former server that linger are no obstacle.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
            sock.listen(1)
        except OSError:
            return False
    return True


def holder(port: int) -> str | None:
    """`name (process id)` of who listens on `port`; None where the system does not tell."""
    inodes = {inode for _, number, inode in listeners() if number == port}
    for pid in process_ids():
        if inodes & socket_inodes(pid):
            try:
                name = Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                continue
            return f"{name} (process {pid})"
    return None


def listeners() -> list[tuple[str, int, str]]:
    """(hexadecimal address, port, inode) of every listening TCP socket; empty without /proc."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN:
                address, _, port = fields[1].rpartition(":")
                found.append((address, int(port, 16), fields[9]))
    return found


def socket_inodes(pid: int) -> set[str]:
    """The inodes of the sockets that a process holds; empty when it is not ours to look at."""
    inodes = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    except OSError:
        pass  # gone, or another user's
    return inodes


def process_ids() -> list[int]:
    """Every process id there is now; empty without /proc."""
    try:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Whether any thread of a process runs; one that nobody waited for yet has ended.

    The first thread may have ended before the others, and the process has its ports until the
    last one has.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    state, threads = fields[0], int(fields[17])
    return state not in ("Z", "X") or threads > 1
