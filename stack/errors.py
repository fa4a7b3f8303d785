"""What the launcher says when it cannot go on."""

from __future__ import annotations

import errno


class StackError(Exception):
    """A condition the user can act on; its text is one line, `details` may add a log's end."""

    def __init__(self, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.details = details


class Interrupted(BaseException):
    """A signal asked the launcher to end; not an Exception, so that nothing swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def explain(error: OSError) -> StackError:
    """The one line for an operating-system error on the state, build or cache folders."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StackError(f"the disk is full{where}: free some space and try again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StackError(f"no permission to write{where}")
    return StackError(f"{error.strerror or error}{where}")
