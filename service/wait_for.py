"""Wait until every given URL answers 200: `wait_for.py [OPTION...] URL...`.

For containers, where images without a shell cannot be asked from within; uses nothing but the
standard library. With `--timeout 0` each URL is asked once, which makes it a health check.
"""

from __future__ import annotations

import argparse
import base64
import sys
import time
import urllib.request
from pathlib import Path

# Long enough to notice a server that accepts and says nothing, short enough for a health check.
_ANSWER_WITHIN_S = 4
_PAUSE_S = 0.5


def problem_with(url: str, authorization: str | None = None) -> str | None:
    """Why `url` does not answer 200 right now, or None."""
    headers = {"Authorization": authorization} if authorization else {}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=_ANSWER_WITHIN_S) as answer:  # noqa: S310
            return None if answer.status == 200 else f"HTTP {answer.status}"
    except (OSError, ValueError) as error:  # URLError and timeouts are OSErrors
        return str(error) or type(error).__name__


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when all answered in time, 1 otherwise (one line per URL that did not)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for all together")
    parser.add_argument("--password-file", type=Path, help="the engines', for all URLs")
    options = parser.parse_args(arguments)
    authorization = None
    if options.password_file:
        words = f"stack:{options.password_file.read_text().strip()}"
        authorization = f"Basic {base64.b64encode(words.encode()).decode()}"
    deadline = time.monotonic() + options.timeout
    waiting = {url: problem_with(url, authorization) for url in options.urls}
    while (waiting := {url: why for url, why in waiting.items() if why}) and (
        time.monotonic() < deadline
    ):
        time.sleep(_PAUSE_S)
        waiting = {url: problem_with(url, authorization) for url in waiting}
    for url, why in waiting.items():
        print(f"{url}: {why}", file=sys.stderr)
    return 1 if waiting else 0


if __name__ == "__main__":
    sys.exit(main())
