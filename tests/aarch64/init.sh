#!/bin/sh
# What tests/aarch64/run.sh boots into. Ends with "aarch64: done", or with the first thing that is not as it should be, and switches the machine off.
export PATH=/bin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup

finish() {
    echo "aarch64: $*"
    poweroff -f
    sleep 1000
}
fail() {
    cat /tmp/log
    finish "FAILED: $*"
}
# Waits until a command succeeds: everything takes long in an emulator.
until_done() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || fail "never: $*"
        kill -0 $daemon || fail "the daemon has gone before: $*"
        sleep 0.2
    done
}

echo "machine: $(uname -m) $(uname -r), $(twitcher --version)"
: > /tmp/log
twitcher key trust /root/key.pub --native || fail "key trust"
twitcher bundle install /root/render-1.0.0.twb --require-signed || fail "bundle install"
twitcher check /watches || fail "check"
# Not --require-landlock: that asks for ports too, and this kernel's Landlock limits files alone. Nor --require-signed: a file is not.
twitcher run --tree /tree --config /watches -v 2> /tmp/log &
daemon=$!

until_done grep -qs aarch64 /rendered/head
until_done grep -q 'a component saw it' /tmp/log
until_done grep -qs 'listen = 8080' /rendered/app.conf
echo "started: the command, the component from a file and the bundle's native code have run"
echo 8081 > /tree/app/port
until_done grep -q 'listen = 8081' /rendered/app.conf
[ "$(sed -n 2p /rendered/head)" = 65534 ] || fail "the command ran as $(sed -n 2p /rendered/head)"
[ "$(stat -c %u /rendered/app.conf)" = 65534 ] || fail "the component ran as $(stat -c %u /rendered/app.conf)"
# What comes from a file was compiled here; the bundle was not.
[ "$(grep -c 'component compiled' /tmp/log)" = 1 ] || fail "compiled: $(grep 'component compiled' /tmp/log)"
grep 'component compiled' /tmp/log | grep -q hello.wasm || fail "not the file was compiled"
# Its directory is granted read only, and its user may write there.
until_done grep -q 'run ended watch="confined".*outcome=.*failed' /tmp/log
[ ! -e /read-only/port.conf ] || fail "a component wrote where it may only read"
until_done grep -q 'run ended watch="bundle".*outcome=success' /tmp/log
twitcher status || fail "status"
kill $daemon
wait $daemon || fail "the daemon ended with $?"
grep -i 'landlock\|seccomp' /tmp/log
finish done
