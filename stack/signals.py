"""Ctrl-C and its relatives: taken as an exception, put off, or no longer listened to."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from stack.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def raise_them() -> None:
    """From now on a signal raises Interrupted; a hang-up that the caller ignores (nohup) stays so.

    SIGINT does not: a shell without job control starts what stands before `&` with it ignored,
    and who sends it all the same wants an end.
    """
    for signum in _SIGNALS:
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _raise)


def ignore_them() -> None:
    """For cleaning up: a second Ctrl-C does not cut it short."""
    for signum in _SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


@contextmanager
def put_off() -> Iterator[None]:
    """A signal takes effect at the end of the block.

    For the moment between starting a process and knowing it: interrupted there, nobody would
    stop it. Child processes do not inherit this.
    """
    came: list[int] = []
    before = {signum: signal.getsignal(signum) for signum in _SIGNALS}
    for signum in _SIGNALS:
        if before[signum] != signal.SIG_IGN:
            signal.signal(signum, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if came:
        raise Interrupted(came[0])


def _raise(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)
