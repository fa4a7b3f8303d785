"""Which device a context pretends to be.

The user agent names the version of the browser that really runs: one that disagrees with
the client hints Chromium sends along is what bot checks look for first. Versions are
written in the reduced form (`156.0.0.0`, and `Android 10; K` on phones) that Chrome has
sent since 110.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..telemetry.vocabulary import Profile


@dataclass(frozen=True)
class Device:
    """The part of a context's options that a profile decides."""

    user_agent: str  # with {major} for the browser's major version
    viewport: tuple[int, int]
    device_scale_factor: float = 1
    is_mobile: bool = False
    has_touch: bool = False

    def options(self, browser_version: str) -> dict[str, Any]:
        """Keyword arguments for Playwright's `new_context`."""
        width, height = self.viewport
        return {
            "user_agent": self.user_agent.format(major=browser_version.split(".", 1)[0]),
            "viewport": {"width": width, "height": height},
            "device_scale_factor": self.device_scale_factor,
            "is_mobile": self.is_mobile,
            "has_touch": self.has_touch,
            "locale": "en-US",
        }


DEVICES: Final[Mapping[Profile, Device]] = {
    "desktop": Device(
        user_agent=(
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/{major}.0.0.0 Safari/537.36"
        ),
        # Wide enough for the two-column watch page, whose right column holds the transcript.
        viewport=(1366, 768),
    ),
    "mobile": Device(
        user_agent=(
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/{major}.0.0.0 Mobile Safari/537.36"
        ),
        viewport=(390, 844),
        # Real phones have 3; every step squares the memory of the painted page.
        device_scale_factor=2,
        is_mobile=True,
        has_touch=True,
    ),
}
