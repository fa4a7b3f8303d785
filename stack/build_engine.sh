#!/bin/sh
# Builds an engine with little disk, in the folder of its go.mod:
#
#   build_engine.sh FLAGS...     with GO, PACKAGES, OUTPUT and GOTMPDIR set
#
# A tenth of the downloaded modules is compiled: the rest goes first where they are this build's
# own. And what Go compiles it keeps twice until a `go build` ends: so not all in one.
# shellcheck disable=SC2046,SC2086 # one word for each package
set -eu
work=$(cd "$GOTMPDIR" && pwd) # as Go writes it: without "/../"

"$GO" list -deps -f '{{if not .Standard}}{{$in := .Dir}}{{range .GoFiles}}{{$in}}/{{.}}
{{end}}{{range .SFiles}}{{$in}}/{{.}}
{{end}}{{range .HFiles}}{{$in}}/{{.}}
{{end}}{{range .SysoFiles}}{{$in}}/{{.}}
{{end}}{{range .EmbedFiles}}{{$in}}/{{.}}
{{end}}{{end}}' "$@" $PACKAGES >"$work/needed"
if [ -d "$work/modules" ]; then
    find "$work/modules" -path "$work/modules/cache" -prune -o -type f ! -name go.mod -print \
        | LC_ALL=C sort >"$work/there"
    LC_ALL=C sort "$work/needed" | LC_ALL=C comm -23 "$work/there" - \
        | tr '\n' '\0' | xargs -0 rm -f
    find "$work/modules/cache" -name '*.zip' -exec rm -f {} +
fi

"$GO" list -deps -f '{{if not (or .Standard (eq .Name "main"))}}{{.ImportPath}}{{end}}' \
    "$@" $PACKAGES >"$work/packages"
split -l 700 "$work/packages" "$work/batch."
for batch in "$work"/batch.*; do
    "$GO" build -v "$@" $(cat "$batch")
done
"$GO" build -v "$@" -o "$OUTPUT" $PACKAGES
