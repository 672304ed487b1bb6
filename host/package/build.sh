#!/bin/sh
# Makes the Debian package of a program that is already built.
#
#   host/package/build.sh PROGRAM OUTPUT [ARGUMENT OF cargo-deb ...]
#
# For another machine, TARGET is Rust's name of it and STRIP its strip. cargo-deb takes what it packs from the directory `release` of a target directory: see stage.sh. What is packed where:
# [package.metadata.deb] of host/twitcher/Cargo.toml.
set -eu

here=$(realpath "$(dirname "$0")")
output=$(realpath -m "$2")
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
"$here/stage.sh" "$1" "$stage"
shift 2
mkdir -p "$output"
cd "$here/../.."

SOURCE_DATE_EPOCH=$(cat "$stage/date")
export SOURCE_DATE_EPOCH
maintainer=${MAINTAINER:-$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' host/twitcher/Cargo.toml)}
{
    echo "twitcher ($(cat "$stage/version")-1) stable; urgency=medium"
    echo
    echo "  * What changed is told in /usr/share/doc/twitcher/changelog.gz."
    echo
    echo " -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n > "$stage/release/doc/changelog.Debian.gz"

if [ -n "${TARGET:-}" ]; then
    # There cargo-deb looks for what is of another machine, and strips nothing of it.
    mkdir "$stage/$TARGET"
    ln -s ../release "$stage/$TARGET/release"
    "$STRIP" -o "$stage/stripped" "$stage/release/twitcher"
    mv "$stage/stripped" "$stage/release/twitcher"
    set -- --target "$TARGET" --no-strip "$@"
fi
CARGO_TARGET_DIR=$stage "${CARGO_DEB:-cargo-deb}" --quiet --no-build --manifest-path host/twitcher/Cargo.toml --output "$output" \
    --maintainer "$maintainer" "$@"
