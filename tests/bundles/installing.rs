//! The store by its commands, also when it cannot do what they say.

use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use twitcher_bundle::{FORMAT, FileFacts, Manifest, NativeFacts, Requests, Store, World, Writer};
use twitcher_model::Digest;

use super::{Bench, flip};
use crate::support::guests::guest;

#[test]
fn versions_come_go_and_come_back() {
    let bench = Bench::new();
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        bench.portable(version, "");
    }
    let install = |version: &str| bench.install(&bench.path(&format!("hello-{version}.twb")));
    assert!(install("1.0.0").starts_with("hello 1.0.0 is installed\n"));
    assert!(install("1.1.0").starts_with("hello 1.1.0 is the current version now; before, it was 1.0.0\n"));
    assert!(install("1.2.0").contains("1.2.0"));
    let why = bench.fails("bundle install hello-1.1.0.twb --store store --keys keys");
    assert!(
        why.contains("it is hello 1.1.0, and the current version here is the newer 1.2.0")
            && why.contains("--allow-downgrade"),
        "{why}"
    );
    assert!(
        bench
            .install_any(&bench.path("hello-1.1.0.twb"))
            .contains("a DOWNGRADE from 1.2.0")
    );
    assert!(
        bench
            .ok("bundle use hello@1.0.0 --store store --keys keys")
            .contains("a DOWNGRADE from 1.1.0")
    );
    assert!(
        bench
            .ok("bundle use hello@1.2 --store store --keys keys")
            .contains("before, it was 1.0.0")
    );
    let listed = bench.ok("bundle list --store store --keys keys");
    let current: Vec<&str> = listed.lines().filter(|line| line.contains("current")).collect();
    assert!(
        listed.lines().count() == 3 && current.len() == 1 && current[0].contains("1.2.0"),
        "{listed}"
    );
    assert!(
        bench
            .ok("bundle inspect hello@1.0 --store store --keys keys")
            .starts_with("hello 1.0.0\n")
    );
    assert!(
        bench
            .fails("bundle inspect hello@3 --store store")
            .contains("no bundle hello@3 is installed")
    );
    assert!(
        bench
            .fails("bundle remove hello@1.2.0 --store store")
            .contains("is the current version")
    );
    let held = bench.resolve("hello@1.0.0").hold().unwrap();
    assert!(
        bench
            .fails("bundle remove hello@1.0.0 --store store")
            .contains("is in use")
    );
    assert!(bench.ok("bundle list --store store --keys keys").contains("in use"));
    assert_eq!(bench.ok("bundle gc --keep 1 --store store"), "removed hello 1.1.0\n");
    drop(held);
    assert_eq!(bench.ok("bundle gc --keep 1 --store store"), "removed hello 1.0.0\n");
    assert_eq!(bench.ok("bundle gc --store store"), "nothing to remove\n");
    assert_eq!(bench.ok("bundle remove hello --store store"), "removed hello 1.2.0\n");
    assert!(
        bench
            .ok("bundle list --store store --keys keys")
            .contains("no bundle is installed")
    );
    assert_eq!(bench.run("bundle use Hello --store store").status.code(), Some(2));
}

#[test]
fn a_later_build_of_a_version_is_no_downgrade() {
    let bench = Bench::new();
    for build in ["1.0.0+b2", "1.0.0+b10"] {
        bench.portable(build, "");
    }
    bench.install(&bench.path("hello-1.0.0+b2.twb"));
    let said = bench.install(&bench.path("hello-1.0.0+b10.twb"));
    assert!(
        said.starts_with("hello 1.0.0+b10 is the current version now; before, it was 1.0.0+b2\n"),
        "{said}"
    );
}

#[test]
fn a_component_where_a_bundle_is_expected_is_called_one() {
    let bench = Bench::new();
    fs::copy(guest("logs"), bench.path("logs.wasm")).unwrap();
    // Also one that is shorter than the header of a bundle.
    fs::write(bench.path("small.wasm"), b"\0asm\x01\0\0\0").unwrap();
    for file in ["logs.wasm", "./small.wasm"] {
        for line in [
            format!("bundle install {file} --store store --keys keys"),
            format!("bundle verify {file} --keys keys"),
            format!("bundle inspect {file} --keys keys"),
            format!("bundle sign {file} --key none"),
            format!("bundle push {file} oci://127.0.0.1:9/hello:1"),
        ] {
            let why = bench.fails(&line);
            assert!(
                why.contains(file) && why.contains("it is WebAssembly, not a bundle of it: `twitcher bundle build"),
                "{line}: {why}"
            );
        }
    }
}

#[test]
fn an_unsigned_copy_of_what_is_installed_takes_nothing_away() {
    let bench = Bench::new();
    bench.key("k");
    let file = bench.portable("1.0.0", "");
    fs::copy(&file, bench.path("unsigned.twb")).unwrap();
    bench.ok("bundle sign hello-1.0.0.twb --key k");
    bench.ok("key trust k.pub --keys keys");
    bench.install(&file);
    let said = bench.install(&bench.path("unsigned.twb"));
    assert!(
        said.contains("signature  by the key") && said.contains("which may sign components\n"),
        "{said}"
    );
    assert!(
        said.contains("unsigned.twb is not signed; the signature is the one that is installed already"),
        "{said}"
    );
    assert!(!said.contains("not verified"), "{said}");
    fs::remove_file(bench.path("keys/k.pub")).unwrap();
    let why = bench.fails("bundle install unsigned.twb --store store --keys keys");
    assert!(
        why.contains("it is not signed") && why.contains("not trusted here"),
        "{why}"
    );
}

#[test]
fn what_is_damaged_is_not_installed_and_says_what() {
    let bench = Bench::new();
    let good = bench.portable("1.0.0", "");
    bench.install(&good);
    let bad = bench.portable("1.1.0", "");
    let length = fs::metadata(&bad).unwrap().len();
    flip(&bad, usize::try_from(length).unwrap() / 2);
    assert!(
        bench
            .fails("bundle install hello-1.1.0.twb --store store --keys keys")
            .contains("component.wasm is damaged")
    );
    File::options()
        .write(true)
        .open(&bad)
        .unwrap()
        .set_len(length - 512)
        .unwrap();
    let said = bench.fails("bundle install hello-1.1.0.twb --store store --keys keys");
    assert!(said.contains("hello-1.1.0.twb: "), "{said}");
    fs::create_dir(bench.path("dir")).unwrap();
    assert!(
        bench
            .fails("bundle install dir --store store")
            .contains("not a regular file")
    );
    assert!(
        bench
            .fails("bundle install none.twb --store store")
            .contains("none.twb")
    );
    assert_eq!(bench.resolve("hello").version.to_string(), "1.0.0");
}

/// Kills the installation of a second version at ever later moments, until one is over before: some 50 moments of it.
#[test]
fn an_install_that_is_killed_at_any_moment_leaves_the_old_version_or_the_new() {
    let bench = Bench::new();
    let old = bench.portable("1.0.0", "");
    let new = bench.portable("1.1.0", "");
    let store = Store::at(bench.path("store"));
    let whole = Instant::now();
    bench.install(&new);
    let step = whole.elapsed() / 50;
    let (mut killed, mut old_seen) = (0, 0);
    for round in 0_u32.. {
        assert!(round < 2000, "it is never over");
        // What the last round left must be in nobody's way.
        bench.install_any(&old);
        let mut child = bench
            .command(&format!("bundle install {} --store store --keys keys", new.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let moment = Instant::now() + step * round;
        let mut over = None;
        while Instant::now() < moment && over.is_none() {
            over = child.try_wait().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let current = bench.resolve("hello");
        current.verify().unwrap();
        let listing = store.list().unwrap();
        assert!(listing.broken.is_empty(), "{:?}", listing.broken);
        listing
            .versions
            .iter()
            .for_each(|listed| listed.installed.verify().unwrap());
        old_seen += u32::from(current.version.minor == 0);
        if over.is_some() {
            assert_eq!(current.version.to_string(), "1.1.0");
            break;
        }
        killed += 1;
    }
    assert!(killed > 3 && old_seen > 1, "{killed} {old_seen}");
    bench.install_any(&old);
    let left: Vec<_> = fs::read_dir(bench.path("store"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// A small file system of its own; gone with the test.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(dir: &'a Path, size: &str) -> Option<Self> {
        fs::create_dir(dir).unwrap();
        let options = format!("size={size},mode=0755");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(dir)
            .output()
            .unwrap();
        match mount.status.success() {
            true => Some(Self(dir)),
            false => {
                eprintln!("SKIPPED: cannot mount: {}", String::from_utf8_lossy(&mount.stderr));
                None
            }
        }
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(self.0).status().unwrap().success());
    }
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let bench = Bench::new();
    let good = bench.portable("1.0.0", "");
    let size = fs::metadata(&good).unwrap().len();
    let large = bench.path("large.twb");
    large_bundle(&large, size * 4);
    let place = bench.path("small");
    let Some(_mounted) = Small::mount(&place, &format!("{}k", size * 2 / 1024)) else {
        return;
    };
    bench.ok(&format!(
        "bundle install {} --store small/store --keys keys",
        good.display()
    ));
    let said = bench.fails("bundle install large.twb --store small/store --keys keys");
    assert!(
        said.contains("No space left on device") && said.contains("cannot write"),
        "{said}"
    );
    let names = || fs::read_dir(place.join("store")).unwrap().count();
    assert_eq!(names(), 2, "the lock and hello: no draft takes up the space");
    let store = Store::at(place.join("store"));
    store.resolve(&"hello".parse().unwrap()).unwrap().verify().unwrap();
    // Full to the last byte it can still be cleaned.
    let mut fill = File::create(place.join("fill")).unwrap();
    while fill.write_all(&[0; 4096]).is_ok() {}
    bench.fails(&format!(
        "bundle install {} --store small/store --keys keys",
        large.display()
    ));
    bench.ok("bundle gc --store small/store");
    assert_eq!(
        bench.ok("bundle remove hello --store small/store"),
        "removed hello 1.0.0\n"
    );
}

#[test]
fn a_store_that_may_not_be_written_to_is_an_error_in_words() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root, to be somebody else");
        return;
    }
    let bench = Bench::new();
    let file = bench.portable("1.0.0", "");
    bench.install(&file);
    fs::set_permissions(bench.dir.path(), Permissions::from_mode(0o755)).unwrap();
    // The program itself may be where nobody else can look.
    fs::copy(env!("CARGO_BIN_EXE_twitcher"), bench.path("twitcher")).unwrap();
    let as_nobody = |line: &str| {
        let mut command = Command::new(bench.path("twitcher"));
        let command = command.current_dir(bench.dir.path()).args(line.split_whitespace());
        let output = command.uid(65534).gid(65534).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for line in [
        "bundle install hello-1.0.0.twb --store store --keys keys",
        "bundle install hello-1.0.0.twb --store new/store --keys keys",
        "bundle remove hello --store store",
        "bundle gc --store store",
    ] {
        let (code, errors) = as_nobody(line);
        assert_eq!(code, Some(1), "{line}: {errors}");
        assert!(
            errors.contains("Permission denied") && errors.contains("store"),
            "{line}: {errors}"
        );
    }
    // Everybody may look.
    assert_eq!(as_nobody("bundle list --store store --keys keys").0, Some(0));
    assert_eq!(as_nobody("bundle verify hello-1.0.0.twb --keys keys").0, Some(0));
    // And root uses no store that others can write to.
    fs::set_permissions(bench.path("store"), Permissions::from_mode(0o777)).unwrap();
    assert!(
        bench
            .fails("bundle install hello-1.0.0.twb --store store --keys keys")
            .contains("may write to it")
    );
}

/// A bundle with native code of this size, all zeros, as a sparse file.
fn large_bundle(file: &Path, size: u64) {
    let mut hasher = Sha256::new();
    let zeros = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        let length = left.min(zeros.len() as u64);
        hasher.update(&zeros[..usize::try_from(length).unwrap()]);
        left -= length;
    }
    let wasm = b"component";
    let manifest = Manifest {
        format: FORMAT,
        name: "large".to_owned(),
        version: semver::Version::new(1, 0, 0),
        world: World::Action,
        sdk: None,
        config: vec![],
        requests: Requests::default(),
        component: FileFacts::of(wasm),
        native: vec![NativeFacts {
            target: "x86_64-linux".to_owned(),
            profile: "sandbox".to_owned(),
            wasmtime: "1.0.0".to_owned(),
            settings: "0".to_owned(),
            size,
            sha256: Digest(hasher.finalize().into()),
        }],
    };
    let native = manifest.native[0].path();
    let mut writer = Writer::new(Vec::new(), &manifest.to_bytes().unwrap(), None).unwrap();
    writer
        .file("component.wasm", wasm.len() as u64, &mut &wasm[..])
        .unwrap();
    // Its header is what comes before content that is not there.
    let mut head = writer.finish().unwrap();
    head.truncate(head.len() - 1024);
    let mut to = File::create(file).unwrap();
    to.write_all(&head).unwrap();
    to.write_all(&header_of(&native, size)).unwrap();
    to.seek(SeekFrom::Current(i64::try_from(size.next_multiple_of(512)).unwrap()))
        .unwrap();
    to.write_all(&[0; 1024]).unwrap();
}

/// What a writer begins a file with, before it finds that there is no content.
fn header_of(name: &str, size: u64) -> Vec<u8> {
    let mut all = Vec::new();
    // The manifest's entry is a header too, and an empty one nothing else.
    let mut writer = Writer::new(&mut all, b"", None).unwrap();
    let _ = writer.file(name, size, &mut std::io::empty());
    all.split_off(512)
}

#[test]
fn a_large_bundle_is_read_piece_by_piece() {
    let bench = Bench::new();
    large_bundle(&bench.path("large.twb"), 600 << 20);
    // Less than the bundle, for the program and all that it maps.
    let limit = format!("--as={}", 500 << 20);
    let output = Command::new("prlimit")
        .arg(limit)
        .arg(env!("CARGO_BIN_EXE_twitcher"))
        .args(["bundle", "verify", "large.twb", "--keys", "keys"])
        .current_dir(bench.dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
