#!/bin/sh
# Makes the RPM of a program that is already built.
#
#   host/package/build-rpm.sh PROGRAM OUTPUT [ARGUMENT OF cargo-generate-rpm ...]
#
# What is packed where: [package.metadata.generate-rpm] of host/twitcher/Cargo.toml. STRIP is the strip of the program's machine.
set -eu

here=$(realpath "$(dirname "$0")")
output=$(realpath -m "$2")
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
"$here/stage.sh" "$1" "$stage"
shift 2
mkdir -p "$output"
cd "$here/../.."

# Into a file of its own: the staged one may be a link to what was built.
"${STRIP:-strip}" -o "$stage/stripped" "$stage/release/twitcher"
mv "$stage/stripped" "$stage/release/twitcher"
"${CARGO_GENERATE_RPM:-cargo-generate-rpm}" --package host/twitcher --target-dir "$stage" --source-date "$(cat "$stage/date")" \
    --output "$output" "$@"
