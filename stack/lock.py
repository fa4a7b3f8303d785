"""One launcher at a time per state folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from stack.errors import StackError
from stack.layout import Layout


@contextlib.contextmanager
def state_lock(layout: Layout) -> Iterator[None]:
    """Held while `up` or `down` works on a stack; freed by the kernel should it be killed.

    Raises StackError when another launcher holds it.
    """
    layout.run_dir.mkdir(parents=True, exist_ok=True)
    path = layout.run_dir / "launcher.lock"
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            who = lock.read().strip() or "unknown"
            raise StackError(
                f"another launcher (process {who}) is at work on {layout.state_dir}"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
