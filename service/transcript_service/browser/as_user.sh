#!/bin/sh
# Starts Chromium as BROWSER_UID instead of root: root's browser cannot have a sandbox.
# The program replaces this shell, so its pid and its pipes are those Playwright knows.
set -e
for argument; do
    case $argument in
    --user-data-dir=*)
        HOME=${argument#*=}
        export HOME
        chown -R "$BROWSER_UID:$BROWSER_UID" "$HOME"
        ;;
    esac
done
exec setpriv --reuid="$BROWSER_UID" --regid="$BROWSER_UID" --clear-groups \
    --inh-caps=-all --bounding-set=-all --no-new-privs -- "$BROWSER_PROGRAM" "$@"
