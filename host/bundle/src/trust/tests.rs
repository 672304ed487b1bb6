use std::fs::Permissions;

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::signature::SecretKey;
use crate::testing::{Sample, keys, trusting};

fn load(dir: &Path) -> Trust {
    Trust {
        keys: Keys::load(dir).unwrap(),
        require_signed: false,
    }
}

fn judge(trust: &Trust, sample: &Sample, key: Option<&SecretKey>) -> Result<SignatureStanding, TrustRefusal> {
    let signature = key.map(|key| sample.sign(key));
    trust.judge(&sample.manifest.to_bytes().unwrap(), signature.as_ref())
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_gives_the_rights_it_has_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let keys_dir = dir.path().join("keys");
    let sample = Sample::new("hello", "1.0.0");
    let (secret, public) = keys();
    let (_, other) = keys();
    trust(&keys_dir, &other, "other", true).unwrap();
    assert!(matches!(
        judge(&load(&keys_dir), &sample, Some(&secret)),
        Err(TrustRefusal::Untrusted { .. })
    ));
    let file = trust(&keys_dir, &public, "mine", false).unwrap();
    assert_eq!(
        judge(&load(&keys_dir), &sample, Some(&secret)),
        Ok(SignatureStanding::Wasm(public.id()))
    );
    trust(&keys_dir, &public, "mine", true).unwrap();
    assert_eq!(
        judge(&load(&keys_dir), &sample, Some(&secret)),
        Ok(SignatureStanding::Native(public.id()))
    );
    // Nothing else than the file counts.
    fs::remove_file(file).unwrap();
    let refusal = judge(&load(&keys_dir), &sample, Some(&secret)).unwrap_err();
    assert!(refusal.to_string().contains(&public.id().to_string()), "{refusal}");
}

#[test]
fn without_a_directory_of_keys_a_signature_says_nothing() {
    let sample = Sample::new("hello", "1.0.0");
    let (secret, _) = keys();
    let mut trust = load(Path::new("/nonexistent/keys"));
    assert_eq!(judge(&trust, &sample, Some(&secret)), Ok(SignatureStanding::Unsigned));
    trust.require_signed = true;
    assert!(matches!(
        judge(&trust, &sample, Some(&secret)),
        Err(TrustRefusal::Untrusted { .. })
    ));
    // With one that is empty, nobody is trusted.
    let empty = tempfile::tempdir().unwrap();
    let refusal = judge(&load(empty.path()), &sample, Some(&secret)).unwrap_err();
    assert!(refusal.to_string().contains("(no key is)"), "{refusal}");
}

#[test]
fn unsigned_bundles_run_unless_signatures_are_required() {
    let sample = Sample::new("hello", "1.0.0");
    let (_, public) = keys();
    let mut trust = trusting(&[(&public, true)]);
    assert_eq!(judge(&trust, &sample, None), Ok(SignatureStanding::Unsigned));
    trust.require_signed = true;
    assert_eq!(judge(&trust, &sample, None), Err(TrustRefusal::Unsigned));
}

#[test]
fn a_signature_of_another_bundle_or_of_what_was_changed_is_refused() {
    let (secret, public) = keys();
    let trust = trusting(&[(&public, true)]);
    let (one, other) = (Sample::new("one", "1.0.0"), Sample::new("other", "2.0.0"));
    let refusal = |sample: &Sample, signature| {
        let bytes = sample.manifest.to_bytes().unwrap();
        trust.judge(&bytes, Some(&signature)).unwrap_err().to_string()
    };
    let said = refusal(&one, other.sign(&secret));
    assert!(
        said.contains("its comment says \"twitcher bundle other 2.0.0\""),
        "{said}"
    );
    let mut changed = Sample::new("one", "1.0.0");
    changed.manifest.config.push("key".to_owned());
    let said = refusal(&changed, one.sign(&secret));
    assert!(said.contains("changed after it was signed"), "{said}");
}

#[test]
fn a_key_that_took_the_id_of_another_gets_nothing_of_its_rights() {
    let sample = Sample::new("hello", "1.0.0");
    let (secret, public) = keys();
    // Another key, with the id of the first.
    let (mallory_secret, mallory) = keys();
    let (line, theirs) = (public.to_text(), mallory.to_text());
    let (line, theirs) = (line.lines().nth(1).unwrap(), theirs.lines().nth(1).unwrap());
    // Two bytes of the algorithm and eight of the id are the first 13 characters and a part of the next: keep 12.
    let forged = PublicKey::parse(&format!("untrusted comment: x\n{}{}\n", &line[..12], &theirs[12..])).unwrap();
    let trust = trusting(&[(&forged, false), (&public, true)]);
    assert_eq!(
        judge(&trust, &sample, Some(&secret)),
        Ok(SignatureStanding::Native(public.id()))
    );
    assert!(judge(&trust, &sample, Some(&mallory_secret)).is_err());
    // Both really have one id: the one that verifies counts, in any order.
    let twice = trusting(&[(&public, false), (&public, true)]);
    assert_eq!(
        judge(&twice, &sample, Some(&secret)),
        Ok(SignatureStanding::Native(public.id()))
    );
}

#[test]
fn keys_that_others_could_have_written_are_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let keys_dir = dir.path().join("keys");
    let (_, public) = keys();
    let file = trust(&keys_dir, &public, "k", true).unwrap();
    let refused = || {
        let keys = Keys::load(&keys_dir).unwrap();
        assert!(keys.trusted.is_empty(), "{keys:?}");
        keys.refused[0].1.clone()
    };
    mode(&file, 0o666);
    assert!(refused().contains("others than its owner may write to it"));
    mode(&file, 0o644);
    mode(&file.with_extension("rights"), 0o664);
    assert!(refused().contains("k.rights"));
    mode(&file.with_extension("rights"), 0o644);
    assert_eq!(Keys::load(&keys_dir).unwrap().trusted.len(), 1);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
        assert!(refused().contains("belongs to user 65534"));
        std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    }
    fs::rename(&file, dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &file).unwrap();
    assert!(!refused().is_empty());
    fs::remove_file(&file).unwrap();
    fs::write(&file, "not a key").unwrap();
    assert!(!refused().is_empty());
    // The directory is as good as the files.
    mode(&keys_dir, 0o777);
    let error = Keys::load(&keys_dir).unwrap_err().to_string();
    assert!(error.contains("others than its owner may write to it"), "{error}");
    assert!(trust(&keys_dir, &public, "other", true).is_err());
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(Keys::load(&dir.path().join("file")).is_err());
}

#[test]
fn rights_are_what_is_written_for_this_key_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (_, public) = keys();
    let file = trust(dir.path(), &public, "k", true).unwrap();
    let rights = |text: &str| {
        fs::write(file.with_extension("rights"), text).unwrap();
        let keys = Keys::load(dir.path()).unwrap();
        keys.trusted.first().map(|key| key.native)
    };
    let id = public.id();
    assert_eq!(rights(&format!("{id}: wasm native\n")), Some(true));
    assert_eq!(rights(&format!("{id}: wasm\n")), Some(false));
    for text in [
        String::new(),
        "wasm native".to_owned(),
        format!("{id}:"),
        format!("{id}: native"),
        format!("{id}: wasm nativ"),
        format!("{id}: wasm native everything"),
        "0000000000000000: wasm native".to_owned(),
    ] {
        assert_eq!(rights(&text), None, "{text:?}");
    }
    fs::remove_file(file.with_extension("rights")).unwrap();
    assert!(
        !Keys::load(dir.path()).unwrap().trusted[0].native,
        "the default is the lesser right"
    );
}

#[test]
fn a_name_stands_for_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let ((_, one), (_, other)) = (keys(), keys());
    trust(dir.path(), &one, "k", false).unwrap();
    assert!(matches!(
        trust(dir.path(), &other, "k", true),
        Err(TrustError::Taken(_))
    ));
    for name in ["", "../x", "a/b", ".hidden", "a b"] {
        assert!(
            matches!(trust(dir.path(), &one, name, false), Err(TrustError::Name(_))),
            "{name:?}"
        );
    }
}
