"""Finding Chromium on this machine, and the switches it is started with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ..proxies import YOUTUBE_DOMAINS, configured_proxies
from ..settings import Settings
from .errors import BrowserUnavailable

# Debian and Fedora, Ubuntu, Google's packages.
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
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

# Of several `--disable-features` Chromium takes the last alone, so here are also those that
# Playwright switches off (chromiumSwitches.ts; a test compares).
_PLAYWRIGHTS_FEATURES_OFF: Final = (
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades"),
    *("HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding"),
    *("ThirdPartyStoragePartitioning", "AvoidCorsURLLoaderRestartOnRedirect"),
    *("TcpPortRandomizationWin", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled"),
    *("PreconnectToSearch", "msForceBrowserSignIn", "msEdgeUpdateLaunchServicesPreferredVersion"),
)
_FEATURES_OFF: Final = ("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", *_PLAYWRIGHTS_FEATURES_OFF)

# Every switch with its reason. Playwright adds its own automation defaults (no first run,
# no background networking, no extensions, headless); these are the pool's. Switches that
# are often copied and do nothing in current Chromium are left out: --memory-pressure-off
# and --max_old_space_size are not switches of the browser.
SWITCHES: Final = {
    "--disable-quic": (
        "HTTP/3 does not pass through an HTTP proxy: without it a context could go direct."
    ),
    "--webrtc-ip-handling-policy=disable_non_proxied_udp": (
        "A page must not learn the machine's own address while its context uses a proxy."
    ),
    "--autoplay-policy=user-gesture-required": (
        "A watch page would otherwise play the video: bandwidth, CPU and memory for nothing."
    ),
    "--no-proxy-server": (
        "A context without a proxy goes out directly, whatever https_proxy or a desktop says."
    ),
    "--disable-notifications": (
        "No page here has a person to ask; the prompt and its service stay away."
    ),
    "--disable-speech-api": "An unused service process less.",
    f"--disable-features={','.join(_FEATURES_OFF)}": (
        "Each context is a window, for whose address bar Chromium would load two pages of "
        "suggestions that nobody sees: more CPU than a small page takes, and a process."
    ),
    "--js-flags=--max-old-space-size=512": (
        "One page's script heap (MB) ends in a page crash before it takes the whole budget."
    ),
}

# Names and literal addresses of this machine and of private networks, as Chromium writes
# them (RFC 1122, 1918, 3927, 6598, 6761; `0x7f.1` and the like are 127.0.0.1 by then). No
# page has business with an IPv6 literal.
PRIVATE_HOSTS: Final = (
    *("localhost", "*.localhost", "*.local", "*.internal", "[*"),
    *("0.*", "10.*", "127.*", "169.254.*", "192.168.*"),
    *(f"172.{number}.*" for number in range(16, 32)),
    *(f"100.{number}.*" for number in range(64, 128)),
)
# Root's Chromium runs as this user: one of those that Debian reserves and gives to nobody
# (Debian Policy, section 9.2.2), so that it shares no file with any other service.
BROWSER_UID: Final = 65530
_AS_USER: Final = Path(__file__).with_name("as_user.sh")


class Way(NamedTuple):
    """One way to start Chromium."""

    sandbox: bool
    other_user: bool
    """Not as root, which this process is."""


def ways(sandbox: bool | None) -> list[Way]:
    """How Chromium may be started here, the best first; BROWSER_SANDBOX says which will do."""
    sandboxes = (True, False) if sandbox is None else (sandbox,)
    users = (True, False) if os.geteuid() == 0 else (False,)
    found = [Way(sandboxed, other) for other in users for sandboxed in sandboxes]
    # Root's own browser refuses to have one.
    return [way for way in found if way.other_user or not way.sandbox or os.geteuid() != 0]


def resolver_rules(settings: Settings) -> list[str]:
    """Chromium's `--host-resolver-rules`: of those that match a host, the first counts.

    They also hold for literal addresses and for a proxy's own, not for what is asked of
    a proxy. Names that turn out to be private addresses are no matter of theirs; from a
    page of a public site Chromium refuses those itself (Local Network Access).
    """
    rules = []
    if address := settings.youtube_resolve_to:
        for name in YOUTUBE_DOMAINS:
            rules += [f"MAP {name} {address}", f"MAP *.{name} {address}"]
    proxies = (urlsplit(proxy.server).netloc for proxy in configured_proxies(settings))
    rules += [f"MAP {host} {host}" for host in (*settings.browser_private_hosts, *proxies)]
    rules += [f"MAP {host} ~NOTFOUND" for host in PRIVATE_HOSTS]
    if settings.youtube_resolve_to:
        rules.append("MAP * ~NOTFOUND")
    return rules


def launch_options(settings: Settings, executable: str, way: Way) -> dict[str, Any]:
    """Keyword arguments for Playwright's `chromium.launch`."""
    environment = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    }
    if way.other_user:
        environment |= {"BROWSER_UID": str(BROWSER_UID), "BROWSER_PROGRAM": executable}
    return {
        "executable_path": str(_AS_USER) if way.other_user else executable,
        "args": [*SWITCHES, f"--host-resolver-rules={', '.join(resolver_rules(settings))}"],
        "env": environment,
        "chromium_sandbox": way.sandbox,
        "timeout": settings.browser_launch_timeout_s * 1000,
        # The worker decides when to stop: a signal to the process group must not
        # take the browser away from requests that are still being answered.
        "handle_sigint": False,
        "handle_sigterm": False,
        "handle_sighup": False,
    }


def find_chromium(configured: str | None = None, playwrights_own: str | None = None) -> str:
    """The executable to start.

    Looked for in this order: `configured` (BROWSER_EXECUTABLE), the build Playwright
    installed for itself, Chromium or Chrome on PATH, usual places off PATH.

    Raises:
        BrowserUnavailable: nothing found, or `configured` cannot be executed.
    """
    candidates = [configured] if configured else [playwrights_own or "", *_NAMES, *_PLACES]
    for found in filter(None, map(shutil.which, candidates)):
        return found
    if configured:
        raise BrowserUnavailable(
            "not_installed", f"BROWSER_EXECUTABLE={configured} is not an executable file."
        )
    raise BrowserUnavailable("not_installed", HOW_TO_INSTALL)
