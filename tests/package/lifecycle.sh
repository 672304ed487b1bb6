#!/bin/sh
# Installs the package, runs the program, upgrades, removes and purges, with the maintainer scripts run for real: in a copy of this
# machine's file system that is thrown away.
#
#   unshare --mount --propagation private tests/package/lifecycle.sh FIRST.deb SECOND.deb EMPTY-DIRECTORY
#
# SECOND is a later version, with other contents of both configuration files. Ends with 0 and "done" when all is as it should be.
set -eu

fail() {
    echo "lifecycle: $*" >&2
    exit 1
}
# What the layer above this machine's file system holds that differs from below: only what was written inside is there, whatever else
# changes on the machine meanwhile. Left out is what dpkg itself and the caches of others keep.
changed() {
    (cd upper && find . -mindepth 1 \( -path ./var/lib/dpkg -o -path ./var/cache -o -path ./var/log -o -path ./var/tmp \) -prune -o -print) \
        | sed 's/^\.//' | grep -v '^/etc/\(group\|gshadow\|passwd\|shadow\|subuid\|subgid\)-$' | LC_ALL=C sort | while read -r path; do
        # A directory is copied up as soon as something in it changes.
        if [ -d "upper$path" ] && [ -d "$path" ]; then continue; fi
        # A character device stands for what was removed.
        if [ -c "upper$path" ]; then echo "removed $path"; continue; fi
        if cmp -s "upper$path" "$path"; then continue; fi
        if [ -e "$path" ]; then echo "altered $path"; else echo "made $path"; fi
    done
}

if [ "${1:-}" != inside ]; then
    mount -t tmpfs tmpfs "$3"
    cp "$1" "$3/first.deb"
    cp "$2" "$3/second.deb"
    cp "$0" "$3/lifecycle.sh"
    cd "$3"
    mkdir upper work root
    mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
    mount --rbind /proc root/proc
    mount --rbind /dev root/dev
    mount -t tmpfs tmpfs root/tmp
    mount -t tmpfs tmpfs root/run
    mv first.deb second.deb lifecycle.sh root/tmp
    chroot root /bin/sh /tmp/lifecycle.sh inside
    # The administrator's own, and what this test wrote.
    cat > expected << 'END'
made /etc/twitcher
made /etc/twitcher/admin.twc
made /etc/twitcher/keys
made /etc/twitcher/keys/ours.pub
made /srv/log
made /srv/out
made /srv/tree
made /srv/tree/a
END
    # Of a daemon that was tried out on this machine.
    changed | grep -v '^removed /var/lib/twitcher' | diff expected - || fail "< is missing, > should not be"
    echo "done"
    exit
fi

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /

# Waits until a command succeeds.
until_done() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "not within 30 s: $*; $(cat /srv/log)"
        sleep 0.1
    done
}
# Runs the installed program until the action of /etc/twitcher/admin.twc has run for this data, then stops it in order.
react() {
    mkdir -p /srv/tree
    echo "$1" > /srv/tree/a
    rm -f /srv/out
    twitcher run --tree /srv/tree 2> /srv/log &
    daemon=$!
    until_done grep -qsx "$1" /srv/out
    kill "$daemon"
    wait "$daemon" || fail "the daemon ended with $?: $(cat /srv/log)"
}

if dpkg -s twitcher > /dev/null 2>&1 || getent group twitcher > /dev/null; then
    fail "this machine has the package or its group"
fi
# A daemon that was tried out on this machine may have left some.
rm -rf /var/lib/twitcher

dpkg --install /tmp/first.deb
getent group twitcher > /dev/null || fail "no group"
[ ! -e /etc/systemd/system/multi-user.target.wants/twitcher.service ] || fail "enabled without being asked"
twitcher --version
[ "$(twitcher check | wc -l)" = 1 ] || fail "the example is in force"
# Without its comment signs the example is a configuration.
grep -E '^#( {4}|[^ #])' /etc/twitcher/example.twc | sed 's/^#//' > /tmp/example.twc
[ "$(twitcher check /tmp/example.twc | wc -l)" = 3 ] || fail "the example does not have two watches"
man --path twitcher > /dev/null 2>&1 || [ -e /usr/share/man/man1/twitcher.1.gz ] || fail "no manual page"
[ -e /usr/share/man/man7/twitcher-systemd.7.gz ] || fail "no page of a topic"
bash -n /usr/share/bash-completion/completions/twitcher

echo 'RegisterWatch("/a", Exec("cat > /srv/out"))' > /etc/twitcher/admin.twc
react first
[ -s /var/lib/twitcher/state.db ] || fail "no state"
echo 'TWITCHER_ZK="zk.example:2181"' >> /etc/default/twitcher
mkdir -p /etc/twitcher/keys
echo "a key" > /etc/twitcher/keys/ours.pub

# Where the administrator changed nothing the new version counts; the rest stays, and the state with it.
dpkg --force-confold --install /tmp/second.deb
grep -q zk.example /etc/default/twitcher || fail "an edit is lost"
grep -q 'the second version' /etc/twitcher/example.twc || fail "a file that was not edited is the old one"
[ -s /var/lib/twitcher/state.db ] || fail "the state is lost"
react second

dpkg --remove twitcher
[ ! -e /usr/bin/twitcher ] || fail "the program is still there"
grep -q zk.example /etc/default/twitcher || fail "removal lost an edit"
[ -s /var/lib/twitcher/state.db ] || fail "removal lost the state"

dpkg --purge twitcher
if getent group twitcher > /dev/null; then
    fail "the group is still there"
fi
