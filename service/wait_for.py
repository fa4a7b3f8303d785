"""Wait until every given URL answers 200: `wait_for.py [--timeout S] URL...`.

For containers, where images without a shell cannot be asked from within; uses nothing but the
standard library. With `--timeout 0` each URL is asked once, which makes it a health check.
"""

from __future__ import annotations

import argparse
import sys
import time
import urllib.request

# Long enough to notice a server that accepts and says nothing, short enough for a health check.
_ANSWER_WITHIN_S = 4
_PAUSE_S = 0.5


def problem_with(url: str) -> str | None:
    """Why `url` does not answer 200 right now, or None."""
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_WITHIN_S) as answer:  # noqa: S310
            return None if answer.status == 200 else f"HTTP {answer.status}"
    except (OSError, ValueError) as error:  # URLError and timeouts are OSErrors
        return str(error) or type(error).__name__


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when all answered in time, 1 otherwise (one line per URL that did not)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for all together")
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + options.timeout
    waiting = {url: problem_with(url) for url in options.urls}
    while (waiting := {url: why for url, why in waiting.items() if why}) and (
        time.monotonic() < deadline
    ):
        time.sleep(_PAUSE_S)
        waiting = {url: problem_with(url) for url in waiting}
    for url, why in waiting.items():
        print(f"{url}: {why}", file=sys.stderr)
    return 1 if waiting else 0


if __name__ == "__main__":
    sys.exit(main())
