#!/bin/sh
# Takes the picture of README: picture.sh PROGRAM DIRECTORY. The page is shown what a daemon of this version says of states.
set -eu

program=$1
output=$2
dir=$(mktemp -d)
trap 'kill "$daemon" 2>/dev/null || true; rm -rf "$dir"' EXIT
mkdir "$dir/tree" "$dir/conf"
"$program" run --tree "$dir/tree" --config "$dir/conf" --state-dir "$dir/state" --control "$dir/socket" 2> "$dir/log" &
daemon=$!
until curl -sf --unix-socket "$dir/socket" http://localhost/v1/states > "$dir/states.json"; do
    kill -0 "$daemon" || { cat "$dir/log" >&2; exit 1; }
    sleep 0.1
done
node "$(dirname "$0")/check.mjs" --picture --states "$dir/states.json" --shots "$output"
