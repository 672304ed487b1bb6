#!/bin/sh
# Installs the RPM, runs the program, upgrades and erases, with the scriptlets run for real; then the same from the tarball, by the very lines
# of its INSTALL. All of it in a copy of this machine's file system that is thrown away.
#
#   unshare --mount --propagation private tests/package/lifecycle-rpm.sh FIRST.rpm SECOND.rpm TARBALL EMPTY-DIRECTORY
#
# SECOND is a later release. Ends with 0 and "done" when all is as it should be.
set -eu

fail() {
    echo "lifecycle-rpm: $*" >&2
    exit 1
}

if [ "${1:-}" != inside ]; then
    mount -t tmpfs tmpfs "$4"
    cp "$1" "$4/first.rpm"
    cp "$2" "$4/second.rpm"
    cp "$3" "$4/tarball.tar.gz"
    cp "$0" "$4/lifecycle.sh"
    cd "$4"
    mkdir upper work root
    mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
    mount --rbind /proc root/proc
    mount --rbind /dev root/dev
    mount -t tmpfs tmpfs root/tmp
    mount -t tmpfs tmpfs root/run
    mv first.rpm second.rpm tarball.tar.gz lifecycle.sh root/tmp
    chroot root /bin/sh /tmp/lifecycle.sh inside
    echo "done"
    exit
fi

export LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /
# This machine's packages are none that rpm knows of, and what the package requires is here all the same. Debian's rpm wants to be told so.
any="--nodeps"
[ ! -e /etc/debian_version ] || any="--nodeps --force-debian"

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
users_are_there() {
    getent group twitcher > /dev/null || fail "no group"
    getent passwd twitcher-helper > /dev/null || fail "no user for the helpers"
}

if getent group twitcher > /dev/null; then
    fail "this machine has the package or its group"
fi
# A daemon that was tried out on this machine may have left some.
rm -rf /var/lib/twitcher

rpm $any --install /tmp/first.rpm
rpm --verify --nodeps twitcher || fail "what was installed is not what was packed"
users_are_there
[ ! -e /etc/systemd/system/multi-user.target.wants/twitcher.service ] || fail "enabled without being asked"
[ -d /etc/twitcher/keys ] || fail "no directory for keys"
twitcher --version
[ "$(twitcher check | wc -l)" = 1 ] || fail "the example is in force"
for file in man/man1/twitcher-run.1.gz man/man7/twitcher-fleet.7.gz zsh/site-functions/_twitcher doc/twitcher/third-party.gz; do
    [ -s "/usr/share/$file" ] || fail "no $file"
done
echo 'RegisterWatch("/a", Exec("cat > /srv/out"))' > /etc/twitcher/admin.twc
react first
echo 'TWITCHER_ZK="zk.example:2181"' >> /etc/default/twitcher

rpm $any --upgrade /tmp/second.rpm
[ "$(rpm --query twitcher)" = "$(rpm --query --package /tmp/second.rpm)" ] || fail "not upgraded: $(rpm --query twitcher)"
grep -q zk.example /etc/default/twitcher || fail "an edit is lost"
[ -s /var/lib/twitcher/state.db ] || fail "the state is lost"
react second

rpm $any --erase twitcher
[ ! -e /usr/bin/twitcher ] || fail "the program is still there"
[ ! -e /usr/lib/systemd/system/twitcher.service.d/notify-reload.conf ] || fail "the drop-in is still there"
grep -q zk.example /etc/default/twitcher.rpmsave || fail "removal lost an edit"
[ -s /etc/twitcher/admin.twc ] || fail "removal lost the administrator's file"
[ -s /var/lib/twitcher/state.db ] || fail "removal lost the state"

userdel twitcher-helper
getent group twitcher-helper > /dev/null && groupdel twitcher-helper
groupdel twitcher
rm -r /etc/twitcher /var/lib/twitcher /etc/default/twitcher*
mkdir /tmp/unpacked
tar -C /tmp/unpacked -xzf /tmp/tarball.tar.gz
cd /tmp/unpacked/twitcher-*
# The lines that are indented up to where it says what to write into the configuration, but for the one that speaks to systemd.
sed -n '/^Then say/q; s/^    //p' INSTALL | grep -v '^systemctl' > /tmp/install.sh
sh -eux /tmp/install.sh
cd /
hash -r
users_are_there
[ "$(command -v twitcher)" = /usr/local/bin/twitcher ] || fail "not in the path: $(command -v twitcher)"
echo 'RegisterWatch("/a", Exec("cat > /srv/out"))' > /etc/twitcher/admin.twc
react third
[ -e /usr/local/share/man/man7/twitcher-systemd.7.gz ] || fail "no page of a topic"
program=$(sed -n 's/^ExecStart=\([^ ]*\) .*/\1/p' /etc/systemd/system/twitcher.service)
[ -x "$program" ] || fail "the unit starts $program"
