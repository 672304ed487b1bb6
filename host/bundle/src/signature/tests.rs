use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;
use crate::testing::keys;

fn minisign(dir: &Path, arguments: &[&str]) -> std::process::Output {
    // `make test` installs it.
    Command::new("minisign")
        .current_dir(dir)
        .args(arguments)
        .output()
        .unwrap()
}

/// Given where a key has no password.
fn no_password() -> io::Result<String> {
    panic!("asked for a password")
}

#[test]
fn what_is_signed_here_minisign_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("k");
    generate(&key, None).unwrap();
    let secret = SecretKey::read(&key, no_password).unwrap();
    fs::write(dir.path().join("m"), "content").unwrap();
    fs::write(
        dir.path().join("m.minisig"),
        secret.sign(b"content", "twitcher bundle x 1.0.0").unwrap().to_bytes(),
    )
    .unwrap();
    let output = minisign(dir.path(), &["-V", "-p", "k.pub", "-m", "m"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("Trusted comment: twitcher bundle x 1.0.0"),
        "{output:?}"
    );
    fs::write(dir.path().join("m"), "other").unwrap();
    assert!(!minisign(dir.path(), &["-V", "-p", "k.pub", "-m", "m"]).status.success());
    // And with the secret key that was made here.
    assert!(
        minisign(dir.path(), &["-S", "-W", "-s", "k", "-m", "m"])
            .status
            .success()
    );
    let signature = Signature::parse(&fs::read(dir.path().join("m.minisig")).unwrap()).unwrap();
    signature.verify(&secret.public().unwrap(), b"other").unwrap();
}

#[test]
fn what_minisign_signs_is_verified_here() {
    let dir = tempfile::tempdir().unwrap();
    assert!(
        minisign(dir.path(), &["-G", "-W", "-p", "k.pub", "-s", "k"])
            .status
            .success()
    );
    fs::write(dir.path().join("m"), "content").unwrap();
    let made = minisign(
        dir.path(),
        &[
            "-S",
            "-W",
            "-s",
            "k",
            "-m",
            "m",
            "-t",
            "a comment",
            "-c",
            "not authentic",
        ],
    );
    assert!(made.status.success(), "{made:?}");
    let public = PublicKey::read(&dir.path().join("k.pub")).unwrap();
    let bytes = fs::read(dir.path().join("m.minisig")).unwrap();
    // In a bundle it has another first line.
    assert_eq!(Signature::of_bundle(&bytes).unwrap_err(), SignatureError::NotCanonical);
    let signature = Signature::parse(&bytes).unwrap();
    assert_eq!(
        (signature.key(), signature.comment().as_str()),
        (public.id(), "a comment")
    );
    signature.verify(&public, b"content").unwrap();
    assert!(matches!(
        signature.verify(&public, b"other"),
        Err(SignatureError::Wrong(_))
    ));
    Signature::of_bundle(&signature.to_bytes()).unwrap();
    // And with its secret key.
    let secret = SecretKey::read(&dir.path().join("k"), no_password).unwrap();
    secret.sign(b"x", "c").unwrap().verify(&public, b"x").unwrap();
    // The old kind of signature.
    assert!(
        minisign(dir.path(), &["-S", "-l", "-W", "-s", "k", "-m", "m"])
            .status
            .success()
    );
    let legacy = fs::read(dir.path().join("m.minisig")).unwrap();
    assert_eq!(Signature::parse(&legacy).unwrap_err(), SignatureError::Legacy);
}

#[test]
fn keys_are_written_for_their_owner_alone_and_never_over_another() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("k");
    let public = generate(&file, None).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(PublicKey::read(&public_file(&file)).unwrap(), public);
    let before = fs::read(&file).unwrap();
    let error = generate(&file, None).unwrap_err().to_string();
    assert!(error.contains("k.pub") && error.contains("exists"), "{error}");
    fs::remove_file(public_file(&file)).unwrap();
    assert!(generate(&file, None).is_err());
    assert_eq!(fs::read(&file).unwrap(), before);
    assert!(!public_file(&file).exists(), "no half of a pair is left");
}

#[test]
fn a_key_with_a_password_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("k");
    let public = generate(&file, Some("secret".to_owned())).unwrap();
    let with = |password: &str| SecretKey::read(&file, || Ok(password.to_owned()));
    let signature = with("secret").unwrap().sign(b"x", "c").unwrap();
    signature.verify(&public, b"x").unwrap();
    assert!(with("wrong").unwrap_err().to_string().contains("Wrong password"));
}

#[test]
fn what_is_no_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("k");
    let (secret, public) = keys();
    for text in [
        "",
        "x",
        "untrusted comment: x\n",
        "untrusted comment: x\nAAAA\n",
        &"A".repeat(10_000),
    ] {
        fs::write(&file, text).unwrap();
        assert!(PublicKey::read(&file).is_err(), "{text:?}");
        assert!(SecretKey::read(&file, || Ok(String::new())).is_err(), "{text:?}");
    }
    // Of another algorithm.
    let other = format!("untrusted comment: x\n{}\n", format_args!("AAAA{}", "A".repeat(52)));
    assert!(PublicKey::parse(&other).is_err());
    assert!(PublicKey::read(&dir.path().join("none")).is_err());
    // A secret key without a password, with one character changed in each place where the key is.
    let damaged = dir.path().join("damaged");
    generate(&damaged, None).unwrap();
    let good = fs::read_to_string(&damaged).unwrap();
    let key = good.find('\n').unwrap() + 1;
    for at in [key + 100, key + 120, key + 150] {
        let with = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        let mut text = good.clone();
        text.replace_range(at..=at, with);
        fs::write(&damaged, text).unwrap();
        assert!(SecretKey::read(&damaged, no_password).is_err(), "{at}");
    }
    assert_eq!(PublicKey::parse(&public.to_text()).unwrap(), public);
    assert_eq!(format!("{secret:?}"), "SecretKey");
}

#[test]
fn a_signature_that_is_written_otherwise_is_refused() {
    let (secret, public) = keys();
    let good = String::from_utf8(secret.sign(b"x", "c").unwrap().to_bytes()).unwrap();
    Signature::of_bundle(good.as_bytes()).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let with = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines.join("\n") + "\n"
    };
    for text in [
        String::new(),
        good.trim_end().to_owned(),
        format!("{good}\n"),
        format!("{good}more\n"),
        good.replace('\n', "\r\n"),
        with(0, "untrusted comment: something else"),
        with(1, ""),
        with(1, &lines[1][..96]),
        with(2, "c"),
        with(2, "trusted comment: c "),
        with(2, "trusted comment: \u{1b}[2J"),
        // The library would read the second half of these 32 bytes from where there is none.
        with(3, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        with(3, ""),
        with(3, &"!".repeat(88)),
        lines[..3].join("\n"),
        "\u{fffd}".repeat(400),
        "x".repeat(SIGNATURE_MAX + 1),
    ] {
        assert!(Signature::of_bundle(text.as_bytes()).is_err(), "{text:?}");
    }
    // Another comment than was signed is found when it is verified.
    let changed = Signature::of_bundle(with(2, "trusted comment: d").as_bytes()).unwrap();
    assert!(matches!(changed.verify(&public, b"x"), Err(SignatureError::Wrong(_))));
}
