#!/bin/sh
# Boots a root directory as a machine of its own by systemd-nspawn. The directory stays as it is: what the machine writes is thrown away.
#
#   unshare --mount --propagation private tests/systemd/machine.sh ROOT NAME
#
# Writes the id of the machine's first process to standard output, ends the machine when standard input is closed, and leaves nothing. It
# has the network of this machine, so that it reaches servers on the loopback interface.
set -eu

fail() {
    echo "$*" >&2
    exit 1
}
command -v systemd-nspawn > /dev/null || fail "there is no systemd-nspawn"
root=$(realpath "$1")
name=$2
scratch=$(mktemp -d)
# Two machines in one cgroup would take each other's. A process without its own processors cannot be put into a cpuset.
cgroups=$(findmnt --noheadings --raw --types cgroup,cgroup2 --output TARGET | grep -v cpuset | sed "s|\$|/$name|")
machine='' first=''

end() {
    # All others of a machine end with its first.
    kill -9 $first $machine 2> /dev/null || true
    wait
    for cgroup in $cgroups; do
        # Whoever has just been killed is still in it for a moment.
        tries=0
        until find "$cgroup" -depth -type d -exec rmdir {} + 2> /dev/null || [ $tries -gt 600 ]; do
            tries=$((tries + 1))
            sleep 0.05
        done
    done
    umount --lazy "$scratch" 2> /dev/null || true
    rmdir "$scratch"
}
trap end EXIT
# As when the tests are interrupted at a terminal.
trap 'exit 1' HUP INT TERM

mount -t tmpfs tmpfs "$scratch"
cd "$scratch"
mkdir upper work root
mount -t overlay overlay -o lowerdir="$root",upperdir=upper,workdir=work root
for cgroup in $cgroups; do
    mkdir "$cgroup"
done
exec 3<&0
(
    exec 3<&-
    for cgroup in $cgroups; do
        sh -c 'echo $PPID > "$1/cgroup.procs"' sh "$cgroup"
    done
    exec systemd-nspawn --quiet --directory=root --machine="$name" --register=no --keep-unit --resolv-conf=off --timezone=off --boot \
        < /dev/null >&2
) &
machine=$!
until first=$(cat "/proc/$machine/task/$machine/children" 2> /dev/null) && [ -n "$first" ] && [ -d "/proc/${first% }/root/run/systemd/system" ]; do
    kill -0 "$machine" 2> /dev/null || fail "systemd-nspawn ended"
    sleep 0.05
done
first=${first% }
echo "$first"
exec >&-
read -r _ <&3 || true
