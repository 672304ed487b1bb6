#!/bin/sh
# Makes the packages of a program for aarch64 that was cross-built on Debian.
#
#   host/package/build-aarch64.sh TWITCHER ARM64-TWITCHER OUTPUT
#
# TWITCHER is of the same source, and can be executed here: it writes the manual pages and completions.
set -eu

here=$(realpath "$(dirname "$0")")
GENERATOR=$(realpath "$1")
program=$2
output=$3
MACHINE=aarch64
STRIP=aarch64-linux-gnu-strip
TARGET=aarch64-unknown-linux-gnu
export GENERATOR MACHINE STRIP TARGET

# The libraries of the cross compiler stand for those of the machine: what they are called there is what the package depends on.
"$here/build.sh" "$program" "$output"
"$here/build-rpm.sh" "$program" "$output" --arch aarch64 --auto-req find-requires
"$here/build-tarball.sh" "$program" "$output"
