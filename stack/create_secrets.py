"""Create the secrets that docker-compose.yml mounts, where they do not exist yet.

`make secrets` runs it. It never replaces a secret and never prints one.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from . import credentials

NAMES = ("grafana_admin_password", "alert_webhook_token", "engine_password")


def create(folder: Path) -> list[Path]:
    """Write the missing secrets of NAMES into `folder`; returns the new files."""
    folder.mkdir(mode=0o700, exist_ok=True)
    # Containers run as users of their own and get single files mounted, so the files are
    # readable to all and the folder keeps everybody else on this machine out.
    folder.chmod(0o700)
    created: list[Path] = []

    def make(name: str, text: str) -> None:
        file = folder / name
        if not file.exists():
            file.write_text(text, encoding="ascii")
            file.chmod(0o444)
            created.append(file)

    for name in NAMES:
        make(name, secrets.token_urlsafe(32))
    for name, text in credentials.files((folder / "engine_password").read_text()).items():
        make(name, text)
    return created


if __name__ == "__main__":
    for file in create(Path(__file__).parent.parent / "secrets"):
        print(f"created {file}")
