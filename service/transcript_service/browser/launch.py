"""Finding Chromium on this machine, and the switches it is started with."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .errors import BrowserUnavailable

# Debian and Fedora, Ubuntu, Google's packages.
_NAMES: Final = (
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
    "chrome",
)
# Where an installation does not put itself on PATH.
_PLACES: Final = (
    "/opt/google/chrome/chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)

HOW_TO_INSTALL: Final = (
    "No Chromium found. Install one (`apt-get install chromium`, or `playwright install "
    "chromium`) or set BROWSER_EXECUTABLE to the path of a Chromium or Chrome."
)

# Every switch with its reason. Playwright adds its own automation defaults (no first run,
# no background networking, no extensions, headless); these are the pool's. Switches that
# are often copied and do nothing in current Chromium are left out: --memory-pressure-off
# and --max_old_space_size are not switches of the browser.
SWITCHES: Final[tuple[tuple[str, str], ...]] = (
    (
        "--disable-quic",
        "HTTP/3 does not pass through an HTTP proxy: without it a context could go direct.",
    ),
    (
        "--webrtc-ip-handling-policy=disable_non_proxied_udp",
        "A page must not learn the machine's own address while its context uses a proxy.",
    ),
    (
        "--autoplay-policy=user-gesture-required",
        "A watch page would otherwise play the video: bandwidth, CPU and memory for nothing.",
    ),
    (
        "--disable-notifications",
        "No page here has a person to ask; the prompt and its service stay away.",
    ),
    (
        "--disable-speech-api",
        "An unused service process less.",
    ),
    (
        "--js-flags=--max-old-space-size=512",
        "One page's script heap (MB) ends in a page crash before it takes the whole budget.",
    ),
)

# Names that belong to YouTube, and the hosts its pages load from.
YOUTUBE_HOSTS: Final = (
    "youtube.com",
    "*.youtube.com",
    "youtu.be",
    "*.youtube-nocookie.com",
    "*.googlevideo.com",
    "*.ytimg.com",
    "youtubei.googleapis.com",
    "*.ggpht.com",
)


@dataclass(frozen=True)
class LaunchOptions:
    """How to start one browser."""

    executable: str | None = None
    timeout_s: float = 30.0
    sandbox: bool = False
    resolve_to: str | None = None

    def switches(self) -> list[str]:
        """The command line's switches, without their reasons."""
        switches = [switch for switch, _ in SWITCHES]
        if self.resolve_to:
            switches.append(f"--host-resolver-rules={resolver_rules(self.resolve_to)}")
        return switches

    def playwright_options(self, executable: str) -> dict[str, Any]:
        """Keyword arguments for Playwright's `chromium.launch`."""
        return {
            "executable_path": executable,
            "args": self.switches(),
            "chromium_sandbox": self.sandbox,
            "timeout": self.timeout_s * 1000,
            # The worker decides when to stop: a signal to the process group must not
            # take the browser away from requests that are still being answered.
            "handle_sigint": False,
            "handle_sigterm": False,
            "handle_sighup": False,
        }


def resolver_rules(resolve_to: str) -> str:
    """Chromium's `--host-resolver-rules` that leads YouTube's names to `host:port`.

    Loopback stays reachable and every other name does not exist, so that a test can never
    reach the real site or anything else.
    """
    mapped = [f"MAP {host} {resolve_to}" for host in YOUTUBE_HOSTS]
    loopback = [f"EXCLUDE {host}" for host in ("localhost", "127.0.0.1", "[::1]")]
    return ", ".join([*mapped, "MAP * ~NOTFOUND", *loopback])


def find_chromium(configured: str | None = None, playwrights_own: str | None = None) -> str:
    """The executable to start.

    Looked for in this order: `configured` (BROWSER_EXECUTABLE), the build Playwright
    installed for itself, Chromium or Chrome on PATH, usual places off PATH.

    Raises:
        BrowserUnavailable: nothing found, or `configured` cannot be executed.
    """
    if configured:
        found = shutil.which(configured)
        if found is None:
            raise BrowserUnavailable(
                "not_installed", f"BROWSER_EXECUTABLE={configured} is not an executable file."
            )
        return found
    if playwrights_own and os.access(playwrights_own, os.X_OK):
        return playwrights_own
    for candidate in (*_NAMES, *(place for place in _PLACES if Path(place).exists())):
        found = shutil.which(candidate)
        if found is not None:
            return found
    raise BrowserUnavailable("not_installed", HOW_TO_INSTALL)
