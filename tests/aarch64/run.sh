#!/bin/sh
# Boots Debian's arm64 kernel under qemu and has a daemon there run a command, a component from a file, and a bundle's native code.
#
#   tests/aarch64/run.sh TWITCHER ARM64-TWITCHER COMPONENTS SCRATCH
#
# COMPONENTS is the directory with hello.wasm and render.wasm; TWITCHER, of this machine, makes the bundle. Software emulation: minutes, by hand
# (`make aarch64-test`). Kernel, busybox and C library are Debian's packages, fetched once into SCRATCH; nothing else is on that machine.
# Ends with 0 and "aarch64: done" when all is as it should be.
set -eu

here=$(realpath "$(dirname "$0")")
native=$(realpath "$1")
emulated=$(realpath "$2")
components=$(realpath "$3")
mkdir -p "$4"
cd "$4"

# Packages of another machine, without telling this one's dpkg of it.
if [ ! -e packages/fetched ]; then
    mkdir -p apt/lists/partial apt/archives/partial packages
    : > apt/status
    options="-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root -o Dir::State=$PWD/apt \
        -o Dir::State::lists=$PWD/apt/lists -o Dir::State::status=$PWD/apt/status -o Dir::Cache=$PWD/apt"
    # shellcheck disable=SC2086
    apt-get $options update -q
    # shellcheck disable=SC2086
    kernel=$(apt-cache $options depends linux-image-arm64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    # shellcheck disable=SC2086
    (cd packages && apt-get $options download -q "$kernel" busybox-static libc6 libgcc-s1)
    touch packages/fetched
fi
rm -rf machine unpacked
mkdir -p machine unpacked
for package in packages/*.deb; do dpkg-deb --extract "$package" unpacked; done
kernel=$(echo unpacked/boot/vmlinuz-*)

# The machine: what Debian has, the program, what it is to do.
for dir in bin dev etc/twitcher/keys lib out proc root run sys tmp tree/app tree/git usr/bin usr/lib var/lib/twitcher watches; do mkdir -p "machine/$dir"; done
cp unpacked/bin/busybox machine/bin
for name in awk cat chmod cut grep id ls mkdir mount poweroff ps sed sh sleep stat uname; do ln -s busybox "machine/bin/$name"; done
cp -L unpacked/lib/aarch64-linux-gnu/*.so.* machine/lib
# All of a process's own, whoever it runs as.
chmod 755 machine machine/*
chmod 1777 machine/tmp
cp "$emulated" machine/usr/bin/twitcher
cp "$components/hello.wasm" machine/root
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\ntwitcher-helper:x:999:999::/nonexistent:/bin/sh\n' > machine/etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\ntwitcher-helper:x:999:\n' > machine/etc/group
chmod 644 machine/root/hello.wasm
chmod 755 machine/root
echo first > machine/tree/git/head
echo 8080 > machine/tree/app/port
echo 'listen = {{ data }}' > machine/root/app.conf
mkdir -m 777 machine/rendered machine/read-only
cp machine/root/app.conf machine/read-only
rm -rf key key.pub dist
"$native" key generate key > /dev/null
"$native" bundle build "$components/render.wasm" --name render --version 1.0.0 --target aarch64-linux --dir /in=ro --dir /out=rw \
    --config-key template --config-key dest --config-key command --key key --out dist > /dev/null
cp dist/render-1.0.0.twb key.pub machine/root
cat > machine/watches/all.twc << 'END'
RegisterWatch("/git/head", name="command", uid="nobody", action=Exec("cat > /rendered/head; id -u >> /rendered/head; uname -m >> /rendered/head"))
RegisterWatch("/git/head", name="file", uid="nobody", action=Wasm("/root/hello.wasm", config={"greeting": "a component saw it"}))
RegisterWatch("/app/port", name="bundle", uid="nobody",
              action=Wasm("render", config={"template": "/in/app.conf", "dest": "/out/app.conf", "command": ""},
                          dirs={"/in": "/root:ro", "/out": "/rendered:rw"}))
RegisterWatch("/app/port", name="confined", uid="nobody", action=Wasm("render", config={"template": "/in/app.conf", "dest": "/in/port.conf", "command": ""},
                                                                   dirs={"/in": "/read-only:ro"}))
END
cp "$here/init.sh" machine/init
chmod 755 machine/init
(cd machine && find . | cpio --quiet --create --format newc | gzip -1) > machine.cpio.gz

qemu-system-aarch64 -machine virt -cpu max -smp 2 -m 1024 -nographic -no-reboot -nic none \
    -kernel "$kernel" -initrd machine.cpio.gz -append "console=ttyAMA0 quiet panic=-1 lsm=landlock,yama" < /dev/null | tee console
grep -q '^aarch64: done' console
