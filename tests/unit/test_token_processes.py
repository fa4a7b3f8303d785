"""Tokens made and revoked by many processes at once: no change is lost."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from transcript_service.tokens import SCOPES, TokenStore

# The pause is where a change of another process would be lost.
CHANGE = """
import sys
import time
from datetime import timedelta
from pathlib import Path
from transcript_service.tokens import SCOPES, TokenStore

write = TokenStore._write
TokenStore._write = lambda self, tokens: (time.sleep(0.005), write(self, tokens))
store = TokenStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()  # so that all begin together
for token_id in sys.argv[3:]:
    store.revoke(token_id)
    store.create(f"{sys.argv[2]}-{token_id}", SCOPES, timedelta(days=1))
"""


def test_no_creation_and_no_revocation_is_lost(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "tokens.json")
    old = [store.create(f"old-{n}", SCOPES, timedelta(days=1))[0].id for n in range(40)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CHANGE, str(tmp_path / "tokens.json"), f"new-{n}", *old[n::4]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for n in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    now = {token.id: token for token in TokenStore(tmp_path / "tokens.json").tokens()}
    assert [token_id for token_id in old if now[token_id].revoked_at is None] == []
    assert len(now) == 80
