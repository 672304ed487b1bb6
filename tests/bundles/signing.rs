//! Keys and signatures, with minisign beside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::{Bench, flip};

#[test]
fn a_bundle_is_verified_with_the_key_that_signed_it() {
    let bench = Bench::new();
    bench.key("k");
    bench.key("other");
    assert_eq!(
        fs::metadata(bench.path("k")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let file = bench.portable("1.0.0", "--key ./k");
    assert!(
        bench
            .ok("bundle verify hello-1.0.0.twb --key ./k.pub")
            .contains("hello 1.0.0 is whole, signed with the key")
    );
    let said = bench.fails("bundle verify hello-1.0.0.twb --key ./other.pub");
    assert!(said.contains("not trusted here"), "{said}");
    // Without a key, by the directory.
    assert!(
        bench
            .ok("bundle verify hello-1.0.0.twb --keys keys")
            .contains("which nobody here has judged")
    );
    bench.ok("key trust other.pub --keys keys");
    assert!(
        bench
            .fails("bundle verify hello-1.0.0.twb --keys keys")
            .contains("not trusted here")
    );
    bench.ok("key trust k.pub --keys keys");
    bench.ok("bundle verify hello-1.0.0.twb --keys keys --require-signed");
    let length = fs::read(&file).unwrap().len();
    for at in [0, 600, length / 2, length - 1] {
        flip(&file, at);
        bench.fails("bundle verify hello-1.0.0.twb --key ./k.pub");
        flip(&file, at);
    }
    bench.ok("bundle verify hello-1.0.0.twb --key ./k.pub");
    bench.portable("1.1.0", "");
    assert!(
        bench
            .ok("bundle verify hello-1.1.0.twb --keys keys")
            .contains("not signed")
    );
    assert!(
        bench
            .fails("bundle verify hello-1.1.0.twb --key k.pub")
            .contains("it is not signed")
    );
    assert!(
        bench
            .fails("bundle verify hello-1.1.0.twb --keys keys --require-signed")
            .contains("it is not signed")
    );
}

#[test]
fn minisign_signs_a_bundle_and_verifies_one() {
    let bench = Bench::new();
    let minisign = |arguments: &[&str]| {
        let mut command = Command::new("minisign");
        let output = command.current_dir(bench.dir.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    let manifest_of = |file: &str| {
        let tar = Command::new("tar")
            .current_dir(bench.dir.path())
            .args(["-xf", file])
            .status()
            .unwrap();
        assert!(tar.success());
    };
    // By minisign.
    minisign(&["-G", "-W", "-p", "m.pub", "-s", "m"]);
    bench.portable("1.0.0", "");
    manifest_of("hello-1.0.0.twb");
    minisign(&["-S", "-W", "-s", "m", "-m", "manifest.json"]);
    bench.ok("bundle sign hello-1.0.0.twb --signature manifest.json.minisig");
    bench.ok("bundle verify hello-1.0.0.twb --key m.pub");
    // With minisign's key, by twitcher.
    bench.ok("bundle sign hello-1.0.0.twb --key m");
    bench.ok("bundle verify hello-1.0.0.twb --key m.pub");
    // For minisign.
    bench.key("k");
    bench.ok("bundle sign hello-1.0.0.twb --key k");
    manifest_of("hello-1.0.0.twb");
    minisign(&["-V", "-p", "k.pub", "-m", "manifest.json"]);
    assert!(
        bench
            .fails("bundle verify hello-1.0.0.twb --key m.pub")
            .contains("not trusted")
    );
    // The signature of another bundle.
    bench.portable("2.0.0", "");
    bench.ok("bundle sign hello-2.0.0.twb --signature manifest.json.minisig");
    let said = bench.fails("bundle verify hello-2.0.0.twb --key k.pub");
    assert!(
        said.contains("its comment says \"twitcher bundle hello 1.0.0\""),
        "{said}"
    );
}

#[test]
fn a_password_guards_a_key() {
    let bench = Bench::new();
    let with = |password: &str, line: &str| {
        let mut command = bench.command(line);
        command.env("TWITCHER_KEY_PASSWORD", password).stdin(Stdio::null());
        command.output().unwrap().status.success()
    };
    assert!(with("right", "key generate k --password"));
    bench.portable("1.0.0", "");
    assert!(!with("wrong", "bundle sign hello-1.0.0.twb --key k"));
    assert!(
        bench
            .ok("bundle verify hello-1.0.0.twb --keys keys")
            .contains("not signed")
    );
    assert!(with("right", "bundle sign hello-1.0.0.twb --key k"));
    bench.ok("bundle verify hello-1.0.0.twb --key k.pub");
}

#[test]
fn keys_are_listed_with_what_they_may_sign() {
    let bench = Bench::new();
    bench.key("k");
    bench.key("builder");
    let before = fs::read(bench.path("k")).unwrap();
    assert!(bench.fails("key generate k").contains("exists"));
    assert_eq!(fs::read(bench.path("k")).unwrap(), before);
    assert!(bench.ok("key list --keys keys").contains("no key is trusted"));
    bench.ok("key trust k.pub --keys keys");
    bench.ok("key trust builder.pub --native --name farm --keys keys");
    fs::write(bench.path("keys/junk.pub"), "junk").unwrap();
    let listed = bench.ok("key list --keys keys");
    let line = |text: &str| listed.lines().find(|line| line.contains(text)).unwrap().to_owned();
    assert!(line("k.pub").contains(" components  ") && line("farm.pub").contains("components and native code"));
    assert!(line("junk.pub").contains("NOT TRUSTED"));
    assert!(bench.fails("key trust junk.pub --keys keys").contains("junk.pub"));
    assert!(
        bench
            .fails("key trust builder.pub --name k --keys keys")
            .contains("is another key")
    );
}

#[test]
fn a_key_is_replaced_without_a_gap_and_then_revoked() {
    let bench = Bench::new();
    bench.key("old");
    bench.key("new");
    bench.ok("key trust old.pub --keys keys");
    let file = bench.portable("1.0.0", "--key old");
    bench.install(&file);
    bench.ok("key trust new.pub --keys keys");
    bench.ok("bundle sign hello-1.0.0.twb --key new");
    assert!(bench.install(&file).contains("was the current version already"));
    fs::remove_file(bench.path("keys/old.pub")).unwrap();
    assert!(!bench.ok("bundle list --store store --keys keys").contains("REFUSED"));
    fs::remove_file(bench.path("keys/new.pub")).unwrap();
    assert!(
        bench
            .ok("bundle list --store store --keys keys")
            .contains("REFUSED: it is signed with the key")
    );
    assert!(
        bench
            .fails("bundle install hello-1.0.0.twb --store store --keys keys")
            .contains("not trusted here")
    );
}
