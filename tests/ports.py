"""Ports for tests, such that test runs and their workers on one machine never meet.

All lie below 32768, where the kernel begins to take ports for outgoing connections: from there
on one could be gone between choosing and listening. Whole stacks have the lower part, single
servers the upper.
"""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.layout import BASE_PORTS
from stack.ports import is_free, listeners

_SINGLE = range(28000, 32768)
_OFFSETS = range(1003, _SINGLE.start - max(BASE_PORTS.values()), 17)
_CLAIMS = Path(tempfile.gettempdir()) / f"stack-offsets-{os.getuid()}"

# Not the tests' own: they seed the global one, and two workers would choose alike.
_dice = random.SystemRandom()


def free_port() -> int:
    """A port that nobody listens on."""
    while not is_free(port := _dice.choice(_SINGLE)):
        pass
    return port


def _ports(offset: int) -> set[int]:
    return {port + offset for port in BASE_PORTS.values()}


@contextmanager
def claimed_offset() -> Iterator[int]:
    """A port offset at which a whole stack finds its ports free, this one's until the block ends.

    A claim is a locked file named after its offset, so that one whose test run was killed counts
    for nothing.

    Raises:
        LookupError: there is none.
    """
    _CLAIMS.mkdir(exist_ok=True)
    with (_CLAIMS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        taken = {port for _, port, _ in listeners()}
        for path in _CLAIMS.glob("[0-9]*"):
            with path.open() as other:
                try:
                    fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    path.unlink()
                except BlockingIOError:
                    taken |= _ports(int(path.name))
        for offset in _dice.sample(_OFFSETS, len(_OFFSETS)):
            if taken.isdisjoint(_ports(offset)) and all(map(is_free, _ports(offset))):
                break
        else:
            raise LookupError("no offset at which every port is free")
        claim = (_CLAIMS / str(offset)).open("w")
        fcntl.flock(claim, fcntl.LOCK_EX)
    with claim:
        yield offset
