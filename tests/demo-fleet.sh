#!/bin/bash
# A fleet of twenty daemons on one ZooKeeper of its own, all on this machine: a change that goes out in waves, a bad one that halts, and the
# way back. Called by `make demo-fleet` with the program. Leaves nothing behind.
set -euo pipefail

twitcher=$1
hosts=20
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$dir"' EXIT

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ twitcher %s\n' "$*"; "$twitcher" "$@" || true; }

port=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport')
mkdir "$dir/zk"
cat > "$dir/zoo.cfg" <<CFG
dataDir=$dir/zk
clientPort=$port
clientPortAddress=127.0.0.1
tickTime=500
maxClientCnxns=0
admin.enableServer=false
CFG
jars=$(printf ':%s' /usr/share/java/*.jar)
java -Dzookeeper.forceSync=no -cp "${jars#:}" org.apache.zookeeper.server.quorum.QuorumPeerMain "$dir/zoo.cfg" > "$dir/zk.log" 2>&1 &

zk=127.0.0.1:$port
say "A ZooKeeper on port $port, and $hosts daemons whose actions take half a second"
until "$twitcher" znode set --zk "$zk" -p /git/head v1 > /dev/null 2>&1; do sleep 0.1; done

cat > "$dir/deploy" <<'ACTION'
#!/bin/sh
read -r version
sleep 0.5
case $version in *broken*) echo "cannot start $version" >&2; exit 1 ;; esac
ACTION
chmod 755 "$dir/deploy"
cat > "$dir/fleet.twc" <<TWC
RegisterWatch(
    znode = "/git/head", name = "repo", timeout = 30, action = Exec(["$dir/deploy"]),
    rollout = Rollout("repo", at_once = 4, max_failures = 1, waves = [
        Wave(labels = {"canary": "yes"}, bake = 1),
        Wave(percent = 50),
        Wave(percent = 100)]))
TWC
sed 's/^/    /' "$dir/fleet.twc"
for number in $(seq -w 1 $hosts); do
    canary=no
    [ "$number" -le 3 ] && canary=yes
    "$twitcher" run --zk "$zk" --fleet /twitcher --fleet-name "web-$number" --label canary=$canary --config "$dir/fleet.twc" \
        --state-dir "$dir/$number" --control "$dir/$number.sock" > "$dir/$number.log" 2>&1 &
done
export TWITCHER_CONTROL=$dir/01.sock
# Until the first daemon answers and all have joined.
until [ "$("$twitcher" fleet hosts --json 2> /dev/null | grep -o '"name"' | wc -l)" = $hosts ]; do sleep 0.2; done
"$twitcher" fleet wait repo --timeout 60 > /dev/null

say "A change: first the three canaries, a second later half of the fleet, then the rest"
run znode set --zk "$zk" /git/head v2
for _ in 1 2 3; do sleep 1; run fleet status repo; done
run fleet wait repo --timeout 60

say "A bad change: two hosts fail, one may, and no other gets it"
run znode set --zk "$zk" /git/head v3-broken
run fleet wait repo --timeout 60
run fleet laggards repo

say "Back to what all had before"
run fleet rollback repo
run fleet wait repo --timeout 60
run fleet laggards repo
