#!/bin/sh
# Everything a machine needs before `python -m stack` and the tests can run: a Python
# environment from the hash-pinned lock and a few Debian packages. Run by make; does
# nothing when all is there.
#
#   stack/bootstrap.sh [DEBIAN_PACKAGE=PROGRAM ...]
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
fail() { say "bootstrap: $*"; exit 1; }

find_python() {
    for name in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$name"
            return
        fi
    done
    fail "no Python 3.11 or newer on PATH; set PYTHON to one"
}

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    say "bootstrap: installing $* from Debian"
    log=.stack/bootstrap.log
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"; } \
        >"$log" 2>&1 || { tail -n 5 "$log" >&2; fail "apt-get could not install $*; whole log: $log"; }
}

mkdir -p .stack 2>/dev/null || fail "cannot create .stack here"

# One at a time: `make -j` or two shells must not build one environment together. The
# kernel drops the lock when the process ends, however it ends.
if command -v flock >/dev/null; then
    exec 9>.stack/bootstrap.lock
    flock 9
fi

# A hash, not a time stamp: a fresh clone of an old commit must not look newer.
wanted=$(cat requirements-dev.lock pyproject.toml | sha256sum)
if [ "$(cat .venv/.made-from 2>/dev/null)" != "$wanted" ]; then
    # An environment that works is brought up to date in place: what runs from it runs on.
    if ! .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(find_python)
        say "bootstrap: making .venv with $("$python" --version)"
        rm -rf .venv
        if ! "$python" -m venv .venv >.stack/bootstrap.log 2>&1; then
            rm -rf .venv
            can_install || { tail -n 5 .stack/bootstrap.log >&2; fail "python -m venv failed; on Debian: apt-get install python3-venv"; }
            apt_install python3-venv
            "$python" -m venv .venv
        fi
    fi
    say "bootstrap: installing the locked requirements (about a minute)"
    # The lock is complete, and Python compiles what is used at its first use.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile \
        --require-hashes -r requirements-dev.lock \
        && .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . \
        || fail "pip could not install the locked requirements (see above)"
    printf '%s\n' "$wanted" >.venv/.made-from
fi

missing=
PATH="$PATH:/usr/sbin" # where Debian has servers; not on everybody's
for pair in "$@"; do
    command -v "${pair#*=}" >/dev/null || missing="$missing ${pair%%=*}"
done
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # a list of package names
    if can_install; then apt_install $missing; else
        say "bootstrap: not installed here:$missing (needs root and apt-get); what uses them says so"
    fi
fi
