"""How the engines are asked: one user, one password, in the forms that each of them reads.

Any page in the browser of whoever sits at the machine can send requests to 127.0.0.1, under a
name of its own too (DNS rebinding). A password that is asked for before anything else, with
nothing allowed across origins, keeps such pages out; docs/security.md has the whole picture.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import bcrypt

USER = "stack"

# The least there is: guessing 256 random bits is no easier for a cheap hash, and it is checked
# on every request.
_ROUNDS = 4


def files(password: str) -> Mapping[str, str]:
    """File name and content of every form of the password but itself."""
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(_ROUNDS)).decode()
    return {
        # `Authorization: Basic ...`, for the Collector
        "engine_authorization": authorization(password).removeprefix("Basic "),
        "engine_htpasswd": f"{USER}:{hashed}\n",  # Jaeger
        # --web.config.file of Prometheus and Alertmanager
        "engine_web": f"basic_auth_users:\n  {USER}: {hashed}\n",
    }


def authorization(password: str) -> str:
    """The header's value."""
    return f"Basic {base64.b64encode(f'{USER}:{password}'.encode()).decode()}"
