#!/bin/sh
# Makes the tarball of a program that is already built, for machines that have neither dpkg nor rpm.
#
#   host/package/build-tarball.sh PROGRAM OUTPUT
#
# Its one directory is twitcher-VERSION-MACHINE; INSTALL in it says where each file goes. STRIP is the strip of the program's machine.
set -eu

here=$(realpath "$(dirname "$0")")
output=$(realpath -m "$2")
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
"$here/stage.sh" "$1" "$stage"
mkdir -p "$output"
cd "$here/../.."

machine=${MACHINE:-$(uname -m)}
name=twitcher-$(cat "$stage/version")-linux-$machine
root=$stage/$name
share=$root/share
mkdir -p "$root/bin" "$share/man/man1" "$share/man/man7" "$share/bash-completion/completions" "$share/zsh/site-functions" \
    "$share/fish/vendor_completions.d" "$share/doc/twitcher/examples" "$root/lib/systemd/system" "$root/lib/sysusers.d" "$root/etc/twitcher"
"${STRIP:-strip}" -o "$root/bin/twitcher" "$stage/release/twitcher"
cp "$stage"/release/man/*.1.gz "$share/man/man1"
cp "$stage"/release/man/*.7.gz "$share/man/man7"
cp "$stage/release/completions/bash" "$share/bash-completion/completions/twitcher"
cp "$stage/release/completions/zsh" "$share/zsh/site-functions/_twitcher"
cp "$stage/release/completions/fish" "$share/fish/vendor_completions.d/twitcher.fish"
cp "$stage/release/doc/third-party.gz" "$stage/release/doc/manual.html" README.md CHANGELOG.md LICENSE "$share/doc/twitcher"
cp host/package/drop-ins/*.conf host/package/alerts.yml host/package/dashboard.json host/package/compose.yaml "$share/doc/twitcher/examples"
sed 's,^ExecStart=/usr/bin/,ExecStart=/usr/local/bin/,' host/package/twitcher.service > "$root/lib/systemd/system/twitcher.service"
cp host/package/sysusers.conf "$root/lib/sysusers.d/twitcher.conf"
install -D -m 644 host/package/default "$root/etc/default/twitcher"
cp host/package/example.twc "$root/etc/twitcher"
cp host/package/INSTALL "$root"
find "$root" -type d -exec chmod 755 {} +
find "$root" -type f -exec chmod 644 {} +
chmod 755 "$root/bin/twitcher"

tar -C "$stage" --sort=name --mtime="@$(cat "$stage/date")" --owner=0 --group=0 --numeric-owner -cf - "$name" \
    | gzip -"${LEVEL:-9}"n > "$output/$name.tar.gz"
