#!/bin/sh
# Builds the C program: build.sh OUT.wasm. The compiler is the one of WASI_CC, such as wasi-sdk's clang, or comes from PyPI, once, into the
# target directory.
set -eu
out=$(realpath -m "$1")
here=$(cd "$(dirname "$0")" && pwd)
version=0.15.2
tools=${CARGO_TARGET_DIR:-$here/../../target}/guest-tools/ziglang-$version

if [ -z "${WASI_CC:-}" ]; then
    if ! [ -e "$tools/complete" ]; then
        rm -rf "$tools"
        python3 -m venv "$tools"
        "$tools/bin/pip" install --quiet "ziglang==$version"
        touch "$tools/complete"
    fi
    export ZIG_GLOBAL_CACHE_DIR="$tools/cache" ZIG_LOCAL_CACHE_DIR="$tools/cache"
    WASI_CC="$tools/bin/python -m ziglang cc --target=wasm32-wasi"
fi
mkdir -p "$(dirname "$out")"
# shellcheck disable=SC2086  # a command and its arguments
$WASI_CC -std=c11 -Wall -Wextra -Werror -Os -s -o "$out.new" "$here/hello.c"
mv "$out.new" "$out"
