#!/bin/sh
# Builds the Python component: build.sh OUT.wasm. The compiler comes from PyPI, once, into the target directory.
set -eu
out=$(realpath -m "$1")
here=$(cd "$(dirname "$0")" && pwd)
version=0.25.0
tools=${CARGO_TARGET_DIR:-$here/../../target}/guest-tools/componentize-py-$version

if ! [ -e "$tools/complete" ]; then
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet "componentize-py==$version"
    touch "$tools/complete"
fi
mkdir -p "$(dirname "$out")"
"$tools/bin/componentize-py" -d "$here/../../wit" -w action componentize -p "$here" app -o "$out.new"
mv "$out.new" "$out"
