#!/bin/sh
# Builds the JavaScript component: build.sh OUT.wasm. The compiler comes from npm, once, into the target directory. Needs Node 20.
set -eu
out=$(realpath -m "$1")
here=$(cd "$(dirname "$0")" && pwd)
# By the lock file: another lock is another set of tools.
lock=$(cksum <"$here/package-lock.json" | cut -d' ' -f1)
tools=${CARGO_TARGET_DIR:-$here/../../target}/guest-tools/componentize-js-$lock

if ! [ -e "$tools/complete" ]; then
    rm -rf "$tools"
    mkdir -p "$tools"
    cp "$here/package.json" "$here/package-lock.json" "$tools"
    (cd "$tools" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    touch "$tools/complete"
fi
mkdir -p "$(dirname "$out")"
# Imports are looked for beside the script.
cp "$here/build.js" "$tools"
node "$tools/build.js" "$here/hello.js" "$here/../../wit" "$out.new"
mv "$out.new" "$out"
