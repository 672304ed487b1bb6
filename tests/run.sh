#!/bin/sh
# Runs the tests, all of them also if one fails, and ends with one line that counts. Arguments go to `cargo test`.
set -u

said=$(mktemp)
trap 'rm -f "$said" "$said.status"' EXIT
{
    cargo test --locked --no-fail-fast "$@" 2>&1
    echo $? > "$said.status"
} | tee "$said"
# What failed is told once more at the end, where whoever reads it looks first.
awk '/^failures:$/ { inside = 1 }
    /^test result: / { inside = 0 }
    inside' "$said"
awk '/^test result: / { passed += $4; failed += $6; ignored += $8 }
    END { printf "\n%d passed, %d failed, %d skipped\n", passed, failed, ignored }' "$said"
exit "$(cat "$said.status")"
