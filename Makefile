# make demo      see it work                                   make test      everything CI checks
# make bench     the table of the README                       make help      this
# make package   .deb, .rpm and tarball in target/packages     make deny      licenses and duplicates of the dependencies
# make chaos     what survives faults (MINUTES=30 SEED=random), chaos-fleet what of a fleet does
# make soak      whether anything grows (MINUTES=60)           make demo-fleet     twenty daemons and a change in waves
# make systemd-test, aarch64-test, package-aarch64             on a machine of its own; what is shipped for aarch64
#
# Objects live outside the clone, so that a fresh clone need not compile the dependencies again.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/twitcher/target

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
BENCH_VENV := $(CARGO_TARGET_DIR)/bench-venv
SCHEMATHESIS_VENV := $(CARGO_TARGET_DIR)/schemathesis-venv
AARCH64 := aarch64-unknown-linux-gnu
AARCH64_ENV := CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
  CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++ \
  AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar
GUESTS := $(CARGO_TARGET_DIR)/guests
CARGO_DEB := $(CARGO_TARGET_DIR)/tools/bin/cargo-deb
CARGO_GENERATE_RPM := $(CARGO_TARGET_DIR)/tools/bin/cargo-generate-rpm
CARGO_DENY := $(CARGO_TARGET_DIR)/tools/bin/cargo-deny
# Looked for when it is needed: what installs it comes before.
KERBEROS = $(shell pkg-config --exists krb5-gssapi 2>/dev/null && ls /usr/lib/llvm-*/lib/libclang.so* /usr/lib*/libclang.so* 2>/dev/null | grep -q . && echo --features twitcher-host/kerberos)
SYSTEMD_ROOT := $(CARGO_TARGET_DIR)/systemd-root
PLUGINS := --package git-pull --package hello --package render --package webhook

.PHONY: aarch64-test package-aarch64 aarch64-tools help demo demo-fleet test bench package picture deny cargo-deny chaos chaos-fleet soak zookeeper wrk clock kerberos inotify-tools minisign docker-registry promtool schemathesis chromium cargo-deb cargo-generate-rpm lintian systemd-root systemd-test kazoo wasm-target preview1-target plugins python-plugin js-plugin go-plugin c-plugin

help:
	@sed -n '1,6s/^# //p' Makefile

# A first build takes a quarter of an hour on two cores: cargo shows how far it is.
demo: wasm-target
	cargo build --locked --release --package hello --target wasm32-wasip2
	cargo build --locked --package twitcher-host
	@$(CARGO_TARGET_DIR)/debug/twitcher demo --component $(CARGO_TARGET_DIR)/wasm32-wasip2/release/hello.wasm

# Twenty daemons on a ZooKeeper of their own: a change that goes out in waves, a bad one that halts, and the way back.
demo-fleet: zookeeper
	cargo build --locked --package twitcher-host
	tests/demo-fleet.sh $(CARGO_TARGET_DIR)/debug/twitcher

test: zookeeper minisign kerberos docker-registry promtool schemathesis chromium cargo-deb cargo-generate-rpm lintian systemd-root preview1-target plugins python-plugin js-plugin go-plugin c-plugin
	cargo fmt --all --check
	cargo clippy --workspace $(KERBEROS) --all-targets --locked -- -D warnings
	cargo clippy --package twitcher-sdk $(PLUGINS) --target wasm32-wasip2 --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace $(KERBEROS) --no-deps --locked --quiet
	tests/run.sh --workspace $(KERBEROS)

# Bundles carry native code for aarch64, and there are packages for it: here both are executed, on Debian's kernel under qemu. By hand.
aarch64-test: aarch64-tools wasm-target plugins
	cargo build --locked --package twitcher-host
	$(AARCH64_ENV) cargo build --locked --release --target $(AARCH64) --package twitcher-host
	tests/aarch64/run.sh $(CARGO_TARGET_DIR)/debug/twitcher $(CARGO_TARGET_DIR)/$(AARCH64)/release/twitcher \
	  $(CARGO_TARGET_DIR)/wasm32-wasip2/release $(CARGO_TARGET_DIR)/aarch64-machine

# As `make package`, for aarch64.
package-aarch64: aarch64-tools cargo-deb cargo-generate-rpm
	cargo build --locked --package twitcher-host
	$(AARCH64_ENV) cargo build --locked --profile dist --target $(AARCH64) --package twitcher-host
	host/package/build-aarch64.sh $(CARGO_TARGET_DIR)/debug/twitcher $(CARGO_TARGET_DIR)/$(AARCH64)/dist/twitcher target/packages
	@ls -l target/packages

# Some of `make test`, which leaves them out where no machine can be booted: here that is a failure.
systemd-test: zookeeper cargo-deb systemd-root
	TWITCHER_SYSTEMD_TEST=required cargo test --locked --workspace --test e2e -- systemd::

# BASE=path/to/an/older/twitcher is measured in turns with this one.
bench: zookeeper kazoo wrk inotify-tools wasm-target
	cargo build --quiet --locked --release --package hello --target wasm32-wasip2
	PYTHON=$(BENCH_VENV)/bin/python TWITCHER_BENCH_BASE=$(if $(BASE),$(abspath $(BASE))) TWITCHER_BENCH_COMPONENT=$(CARGO_TARGET_DIR)/wasm32-wasip2/release/hello.wasm \
	  cargo bench --locked --package twitcher-host --bench compare

# Installs with `apt install ./target/packages/twitcher_*.deb`, `dnf install ./target/packages/twitcher-*.rpm`, or as INSTALL in the tarball
# says. The symbols for debuggers are in the .ddeb.
package: cargo-deb cargo-generate-rpm
	cargo build --locked --profile dist --package twitcher-host $(KERBEROS)
	CARGO_DEB=$(CARGO_DEB) host/package/build.sh $(CARGO_TARGET_DIR)/dist/twitcher target/packages --dbgsym
	CARGO_GENERATE_RPM=$(CARGO_GENERATE_RPM) host/package/build-rpm.sh $(CARGO_TARGET_DIR)/dist/twitcher target/packages
	host/package/build-tarball.sh $(CARGO_TARGET_DIR)/dist/twitcher target/packages
	@ls -l target/packages

# What README shows of the status page.
picture: chromium
	cargo build --quiet --locked --package twitcher-host
	tests/page/picture.sh $(CARGO_TARGET_DIR)/debug/twitcher .github

deny: cargo-deny
	$(CARGO_DENY) --locked --all-features check licenses bans sources

# Prints the seed, and what violated what is promised; the plan of a seed is always the same. A long run wants its pound of each fault.
chaos: MINUTES ?= 30
chaos: SEED ?= random
chaos: AT_LEAST ?= $(if $(filter 30,$(MINUTES)),20,0)
chaos: zookeeper clock wasm-target
	cargo test --locked --package twitcher-host --test chaos -- --minutes $(MINUTES) --seed $(SEED) --at-least $(AT_LEAST)

# The same for a fleet: a dozen daemons, some of them in networks of their own, and a rollout.
chaos-fleet: MINUTES ?= 30
chaos-fleet: SEED ?= random
chaos-fleet: zookeeper wasm-target
	cargo test --locked --package twitcher-host --test chaos -- --fleet $(MINUTES) --seed $(SEED)

# Leaves soak.csv and soak.svg in OUTPUT.
soak: MINUTES ?= 60
soak: OUTPUT ?= $(CARGO_TARGET_DIR)/soak
soak: zookeeper wasm-target
	cargo test --locked --package twitcher-host --test chaos -- --soak $(MINUTES) --output $(OUTPUT)

# The tests start their own servers from these; the service itself is neither needed nor started.
zookeeper:
	@test -e /usr/share/java/zookeeper.jar && command -v java openssl >/dev/null || \
	  { $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends zookeeper default-jre-headless openssl procps; }

# A clock that can be stepped without stepping the machine's; without it the chaos suite says that it leaves that out.
clock:
	@ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || $(SUDO) apt-get install -qy --no-install-recommends libfaketime || true

# What --zk-kerberos is built and tested with: without it the program, the packages and the tests leave it out.
kerberos:
	@{ pkg-config --exists krb5-gssapi && command -v krb5kdc kadmin.local && ls /usr/lib/llvm-*/lib/libclang.so*; } >/dev/null 2>&1 || \
	  { $(SUDO) apt-get update -q && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -qy --no-install-recommends \
	      krb5-kdc krb5-admin-server libkrb5-dev libclang-dev pkg-config && \
	    { $(SUDO) systemctl disable --quiet --now krb5-kdc krb5-admin-server 2>/dev/null || true; }; } || \
	  echo "Kerberos is left out: it cannot be installed"

# A compiler for aarch64, and a machine.
aarch64-tools:
	@{ command -v aarch64-linux-gnu-g++ && command -v qemu-system-aarch64 && command -v cpio; } >/dev/null || \
	  { $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends \
	      gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-system-arm cpio; }
	@rustup target list --installed | grep -qx $(AARCH64) || rustup target add $(AARCH64)

# The peer of --tree in `make bench`, which leaves it out without.
inotify-tools:
	@command -v inotifywait >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends inotify-tools; } || true

# What signs and verifies bundles beside twitcher.
minisign:
	@command -v minisign >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends minisign; }

# Where the tests push bundles to. They start their own; the service, which Debian starts, is not needed.
docker-registry:
	@command -v docker-registry >/dev/null || \
	  { $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends docker-registry && \
	    { $(SUDO) systemctl disable --quiet --now docker-registry 2>/dev/null || true; }; }

# What says whether metrics and alert rules are as Prometheus wants them. The server comes with it; Debian starts it, and it is not needed.
promtool:
	@command -v promtool >/dev/null || \
	  { $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends prometheus && \
	    { $(SUDO) systemctl disable --quiet --now prometheus 2>/dev/null || true; }; }

# What tries the control interface against its own description.
schemathesis:
	@python3 -c 'import ensurepip' 2>/dev/null || $(SUDO) apt-get install -qy --no-install-recommends python3-venv
	@test -x $(SCHEMATHESIS_VENV)/bin/python || python3 -m venv $(SCHEMATHESIS_VENV)
	@test -x $(SCHEMATHESIS_VENV)/bin/schemathesis || $(SCHEMATHESIS_VENV)/bin/pip install --quiet 'schemathesis==4.*'

# What the status page is tested in, and what drives it.
chromium:
	@{ command -v chromium && command -v node; } >/dev/null || \
	  { $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends chromium nodejs; }

# What packs the package; its tests do, too.
cargo-deb: $(CARGO_DEB)
$(CARGO_DEB):
	@command -v dpkg-shlibdeps >/dev/null || $(SUDO) apt-get install -qy --no-install-recommends dpkg-dev
	cargo install --quiet --locked --root $(CARGO_TARGET_DIR)/tools cargo-deb@3.8.0

# What packs the RPM; rpm itself looks it over.
cargo-generate-rpm: $(CARGO_GENERATE_RPM)
$(CARGO_GENERATE_RPM):
	cargo install --quiet --locked --root $(CARGO_TARGET_DIR)/tools cargo-generate-rpm@0.21.1

# What reads deny.toml. Not part of `make test`: it takes longer to build than it finds.
cargo-deny: $(CARGO_DENY)
$(CARGO_DENY):
	cargo install --quiet --locked --root $(CARGO_TARGET_DIR)/tools cargo-deny

# What finds mistakes in the packages.
lintian:
	@{ command -v lintian && command -v mandoc && command -v systemd-analyze && command -v rpm && command -v rpmlint; } >/dev/null || \
	  { $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends lintian mandoc systemd rpm rpmlint; }

# What the tests boot as a machine of its own, with a systemd: as this one, but small. Where it cannot be made they are left out, and say so;
# only root can boot it.
systemd-root:
	@mkdir -p $(CARGO_TARGET_DIR)
	@test -n "$(SUDO)" || test -e $(SYSTEMD_ROOT)/usr/share/doc/libgssapi-krb5-2 || { \
	  { { command -v debootstrap && command -v systemd-nspawn; } >/dev/null || \
	    { apt-get update -q && apt-get install -qy --no-install-recommends debootstrap systemd-container; }; } && \
	  rm -rf --one-file-system $(SYSTEMD_ROOT).part $(SYSTEMD_ROOT) && \
	  debootstrap --variant=minbase --include=adduser,dbus,libgssapi-krb5-2,libpam-systemd,procps,systemd,systemd-sysv \
	    "$$(. /etc/os-release && echo "$$VERSION_CODENAME")" $(SYSTEMD_ROOT).part >$(SYSTEMD_ROOT).log && \
	  mv $(SYSTEMD_ROOT).part $(SYSTEMD_ROOT); } || \
	  echo "no root for a machine with systemd can be made (see $(SYSTEMD_ROOT).log)"

# The peer that `make bench` compares with.
kazoo:
	@test -x $(BENCH_VENV)/bin/python || python3 -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python -c 'import kazoo' 2>/dev/null || $(BENCH_VENV)/bin/pip install --quiet kazoo==2.10.0

# What asks without pause, in the same.
wrk:
	@command -v wrk >/dev/null || $(SUDO) apt-get install -qy --no-install-recommends wrk

wasm-target:
	@rustup target list --installed | grep -qx wasm32-wasip2 || rustup target add wasm32-wasip2

# Some of the tests' guests are programs for WASI's first preview.
preview1-target:
	@rustup target list --installed | grep -qx wasm32-wasip1 || rustup target add wasm32-wasip1

# Components, in the target directory: wasm32-wasip2/release/hello.wasm ..., guests/python-hello.wasm and
# those in JavaScript, Go and C.
plugins: wasm-target
	cargo build --release --target wasm32-wasip2 --locked $(PLUGINS)

python-plugin: $(GUESTS)/python-hello.wasm
js-plugin: $(GUESTS)/js-hello.wasm
go-plugin: $(GUESTS)/go-hello.wasm
c-plugin: $(GUESTS)/c-hello.wasm

$(GUESTS)/python-hello.wasm: $(wildcard plugins/python-hello/*) wit/action.wit
	@python3 -c 'import ensurepip' 2>/dev/null || $(SUDO) apt-get install -qy --no-install-recommends python3-venv
	plugins/python-hello/build.sh $@

$(GUESTS)/js-hello.wasm: $(wildcard plugins/js-hello/*) wit/action.wit
	@{ command -v node && command -v npm; } >/dev/null || $(SUDO) apt-get install -qy --no-install-recommends nodejs npm
	plugins/js-hello/build.sh $@

$(GUESTS)/go-hello.wasm: $(wildcard plugins/go-hello/*)
	@python3 -c 'import ensurepip' 2>/dev/null || $(SUDO) apt-get install -qy --no-install-recommends python3-venv
	plugins/go-hello/build.sh $@

$(GUESTS)/c-hello.wasm: $(wildcard plugins/c-hello/*)
	@python3 -c 'import ensurepip' 2>/dev/null || $(SUDO) apt-get install -qy --no-install-recommends python3-venv
	plugins/c-hello/build.sh $@
