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
            .contains("signatures say nothing, since there is no keys")
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
    // Nobody can say whether it is, without the key.
    let why = bench.fails("bundle sign hello-1.0.0.twb --signature manifest.json.minisig --keys keys");
    assert!(
        why.contains("nobody can say whether it is a signature of hello-1.0.0.twb")
            && why.contains("--public-key FILE"),
        "{why}"
    );
    bench.ok("bundle sign hello-1.0.0.twb --signature manifest.json.minisig --public-key m.pub");
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
    // The signature of another bundle, which does not replace the good one.
    bench.portable("2.0.0", "--key k");
    let before = fs::read(bench.path("hello-2.0.0.twb")).unwrap();
    bench.ok("key trust k.pub --keys keys");
    for more in ["--public-key k.pub", "--keys keys"] {
        let why = bench.fails(&format!(
            "bundle sign hello-2.0.0.twb --signature manifest.json.minisig {more}"
        ));
        assert!(
            why.contains("manifest.json.minisig: its signature is not of this manifest")
                && why.contains("its comment says \"twitcher bundle hello 1.0.0\""),
            "{why}"
        );
    }
    assert_eq!(fs::read(bench.path("hello-2.0.0.twb")).unwrap(), before);
    // Of what is no bundle at all.
    fs::write(bench.path("other.txt"), "other").unwrap();
    minisign(&["-S", "-W", "-s", "m", "-m", "other.txt"]);
    bench.fails("bundle sign hello-2.0.0.twb --signature other.txt.minisig --public-key m.pub");
    assert_eq!(fs::read(bench.path("hello-2.0.0.twb")).unwrap(), before);
    // With a key that is trusted no other has to be given.
    bench.ok("bundle sign hello-1.0.0.twb --signature manifest.json.minisig --keys keys");
}

#[test]
fn halves_of_a_key_are_told_apart() {
    let bench = Bench::new();
    bench.key("k");
    bench.portable("1.0.0", "");
    let why = bench.fails("bundle sign hello-1.0.0.twb --key k.pub");
    assert!(
        why.contains("k.pub: it is a public key, and only a secret one signs"),
        "{why}"
    );
    let made = bench
        .command("key generate p --password")
        .env("TWITCHER_KEY_PASSWORD", "right")
        .status();
    assert!(made.unwrap().success());
    for secret in ["k", "p"] {
        for line in [
            format!("bundle verify hello-1.0.0.twb --key {secret}"),
            format!("key trust {secret} --keys keys"),
        ] {
            let why = bench.fails(&line);
            assert!(why.contains(&format!("{secret}: it is a secret key")), "{line}: {why}");
        }
    }
    assert!(!bench.path("keys").exists());
}

#[test]
fn a_password_that_cannot_be_had_is_said_to_be() {
    let bench = Bench::new();
    let made = bench
        .command("key generate k --password")
        .env("TWITCHER_KEY_PASSWORD", "right")
        .status();
    assert!(made.unwrap().success());
    bench.portable("1.0.0", "");
    for line in ["bundle sign hello-1.0.0.twb --key k", "key generate new --password"] {
        let run = |mut command: Command| {
            let output = command.stdin(Stdio::null()).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{line}");
            String::from_utf8(output.stderr).unwrap()
        };
        let mut empty = bench.command(line);
        empty.env("TWITCHER_KEY_PASSWORD", "");
        let why = run(empty);
        assert!(
            why.contains("cannot get the password of ") && why.contains("TWITCHER_KEY_PASSWORD is set, and empty"),
            "{why}"
        );
        // In a session of its own it has no terminal, wherever the tests run.
        let mut alone = Command::new("setsid");
        alone.args(["--wait", env!("CARGO_BIN_EXE_twitcher")]);
        alone
            .current_dir(bench.dir.path())
            .args(line.split_whitespace())
            .env_remove("TWITCHER_KEY_PASSWORD");
        let why = run(alone);
        assert!(
            why.contains("there is no terminal to ask on: set TWITCHER_KEY_PASSWORD"),
            "{why}"
        );
    }
    assert!(!bench.path("new").exists());
}

#[test]
fn a_bundle_without_native_code_is_not_said_to_have_some() {
    let bench = Bench::new();
    let build = format!(
        "bundle build {} --name hello --version 1.0.0",
        crate::support::guests::guest("logs").display()
    );
    let portable = bench.ok(&format!("{build} --portable"));
    assert!(
        portable.contains("not signed: see `twitcher bundle sign`") && !portable.contains("runs nowhere"),
        "{portable}"
    );
    assert!(bench.ok(&build).contains("its native code runs nowhere until"));
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
    let listed = bench.ok("bundle list --store store --keys none");
    assert!(
        listed.contains("signature not judged") && !listed.contains("signed with"),
        "{listed}"
    );
    assert!(
        listed.contains("signatures say nothing, since there is no none"),
        "{listed}"
    );
    assert!(
        bench
            .fails("bundle install hello-1.0.0.twb --store store --keys keys")
            .contains("not trusted here")
    );
}
