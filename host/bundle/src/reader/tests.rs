use std::io::Cursor;

use super::*;
use crate::archive::header;
use crate::manifest::COMPONENT;
use crate::testing::{Sample, keys, trusting};

fn check(bytes: &[u8]) -> Result<Manifest, ReadError> {
    BundleReader::open(bytes).and_then(BundleReader::check)
}

fn error(bytes: &[u8]) -> String {
    check(bytes).unwrap_err().to_string()
}

/// One entry of a tar file, as hostile as its header is.
fn entry(header: Block, content: &[u8]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// A header with other bytes at a place, and a checksum that is right again.
fn forged(name: &str, size: u64, at: usize, bytes: &[u8]) -> Block {
    let mut block = header(name, size);
    block[at..at + bytes.len()].copy_from_slice(bytes);
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// The sample's beginning, up to where `component.wasm` should come, and then this.
fn instead_of_component(next: &[u8]) -> String {
    let sample = Sample::new("hello", "1.0.0");
    let manifest = sample.manifest.to_bytes().unwrap();
    let mut bytes = entry(header("manifest.json", manifest.len() as u64), &manifest);
    bytes.extend_from_slice(next);
    bytes.extend_from_slice(&END);
    error(&bytes)
}

#[test]
fn what_was_packed_is_read() {
    let sample = Sample::new("hello", "1.0.0");
    let (secret, _) = keys();
    for signature in [None, Some(sample.sign(&secret))] {
        let bytes = sample.pack(signature.as_ref());
        assert_eq!(bytes, sample.pack(signature.as_ref()), "reproducible");
        let mut reader = BundleReader::open(Cursor::new(bytes)).unwrap();
        assert_eq!(reader.manifest(), &sample.manifest);
        assert_eq!(reader.signature().is_some(), signature.is_some());
        let mut seen = Vec::new();
        while let Some((name, facts)) = reader.next_file().unwrap() {
            let mut content = Vec::new();
            loop {
                let chunk = reader.chunk().unwrap();
                if chunk.is_empty() {
                    break;
                }
                content.extend_from_slice(chunk);
            }
            assert_eq!(FileFacts::of(&content), facts);
            assert_eq!(content, sample.files[&name]);
            seen.push(name);
        }
        let listed: Vec<String> = sample.manifest.files().map(|(name, _)| name).collect();
        assert_eq!(seen, listed);
        assert!(reader.next_file().unwrap().is_none(), "it stays at its end");
    }
}

#[test]
fn a_bundle_that_is_cut_off_anywhere_is_refused() {
    let sample = Sample::new("hello", "1.0.0");
    let (secret, _) = keys();
    let bytes = sample.pack(Some(&sample.sign(&secret)));
    check(&bytes).unwrap();
    for length in 0..bytes.len() {
        let error = check(&bytes[..length]).unwrap_err();
        assert!(matches!(error, ReadError::Truncated(_)), "{length}: {error}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(check(&longer), Err(ReadError::Trailing)));
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let sample = Sample::new("hello", "1.0.0");
    let (secret, public) = keys();
    let trust = trusting(&[(&public, true)]);
    let bytes = sample.pack(Some(&sample.sign(&secret)));
    let accepted = |bytes: &[u8]| {
        let reader = BundleReader::open(bytes).map_err(|error| error.to_string())?;
        let standing = trust.judge(reader.manifest_bytes(), reader.signature());
        standing.map_err(|refusal| refusal.to_string())?;
        reader.check().map_err(|error| error.to_string())
    };
    accepted(&bytes).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(accepted(&damaged).is_err(), "byte {at}");
    }
}

#[test]
fn entries_that_are_no_files_of_the_bundle_are_refused_by_name() {
    let size = Sample::new("hello", "1.0.0").manifest.component.size;
    let content = vec![b'x'; usize::try_from(size).unwrap()];
    let kind = |kind: &[u8; 1]| entry(forged(COMPONENT, size, 156, kind), &content);
    let named = |name: &str| entry(header(name, size), &content);
    for (next, words) in [
        (named("../../etc/passwd"), "leads out of the bundle"),
        (named("native/../../x"), "leads out of the bundle"),
        (named("/etc/passwd"), "is an absolute path"),
        (named("manifest.json"), "comes a second time"),
        (named("readme.txt"), "\"readme.txt\" comes instead"),
        (named("Component.wasm"), "comes instead"),
        (kind(b"1"), "a hard link"),
        (kind(b"2"), "a symbolic link"),
        (kind(b"3"), "a device"),
        (kind(b"4"), "a device"),
        (kind(b"5"), "a directory"),
        (kind(b"6"), "a pipe"),
        (kind(b"S"), "a sparse file"),
        (kind(b"x"), "an extended header"),
        (kind(b"g"), "an extended header"),
        (kind(b"L"), "a long name"),
        (kind(b"7"), "other fields"),
        (kind(b"\0"), "other fields"),
        (kind(b"?"), "an unknown kind"),
        (
            entry(forged(COMPONENT, size, 100, b"0004755\0"), &content),
            "other fields",
        ),
        (entry(forged(COMPONENT, size, 265, b"root"), &content), "other fields"),
        (entry(forged(COMPONENT, size, 345, b"etc"), &content), "other fields"),
        (entry(forged(COMPONENT, size, 500, b"x"), &content), "other fields"),
        (entry([0xff; BLOCK], &content), "something else than the header"),
        (vec![], "the archive ends before it"),
    ] {
        let said = instead_of_component(&next);
        assert!(
            said.contains("expected component.wasm") && said.contains(words),
            "{words}: {said}"
        );
    }
}

#[test]
fn sizes_that_lie_are_refused_before_anything_is_read_or_allocated() {
    let size = Sample::new("hello", "1.0.0").manifest.component.size;
    // Base-256, as GNU tar writes what octal digits cannot say, and a signed one.
    let huge = forged(COMPONENT, size, 124, &[0x80, 0, 0, 0, 0, 0, 0, 2, 0x80, 0, 0, 0]);
    for (header, words) in [
        (
            header(COMPONENT, 8 << 30 >> 1),
            "it claims to be 4294967296 bytes long, and the manifest says",
        ),
        (header(COMPONENT, size - 1), "bytes long, and the manifest says"),
        (header(COMPONENT, size + 1), "bytes long, and the manifest says"),
        (huge, "not 11 octal digits"),
        (forged(COMPONENT, size, 124, b"         31\0"), "not 11 octal digits"),
    ] {
        let said = instead_of_component(&entry(header, b"x"));
        assert!(said.contains(words), "{words}: {said}");
    }
    // 10 GB cannot even be written in a header: it claims them in the manifest.
    let mut sample = Sample::new("hello", "1.0.0");
    sample.manifest.native[0].size = 10 << 30;
    let manifest = serde_json::to_vec(&sample.manifest).unwrap();
    let said = error(&entry(header("manifest.json", manifest.len() as u64), &manifest));
    assert!(said.contains("claims 10737418240 bytes"), "{said}");
    let said = error(&header("manifest.json", 6 << 30));
    assert!(
        said.contains("manifest.json claims 6442450944 bytes, and at most 262144"),
        "{said}"
    );
    let mut signed = Sample::new("hello", "1.0.0").pack(None);
    let at = signed
        .windows(14)
        .position(|window| window == COMPONENT.as_bytes())
        .unwrap();
    signed[at..at + BLOCK].copy_from_slice(&header("manifest.json.minisig", 4 << 30));
    assert!(error(&signed).contains("manifest.json.minisig claims 4294967296 bytes"));
}

#[test]
fn a_manifest_that_names_what_is_not_there_is_refused() {
    let mut sample = Sample::new("hello", "1.0.0");
    let whole = sample.pack(None);
    let removed = sample.manifest.native.remove(0);
    let without = sample.pack(None);
    // The manifest with the file, and the files without it.
    let manifest_of = |bytes: &[u8]| {
        let size = archive::size(bytes[..BLOCK].try_into().unwrap()).unwrap();
        BLOCK + usize::try_from(size).unwrap().next_multiple_of(BLOCK)
    };
    let bytes = [&whole[..manifest_of(&whole)], &without[manifest_of(&without)..]].concat();
    let said = error(&bytes);
    assert!(
        said.contains(&removed.path()) && said.contains("the archive ends before it"),
        "{said}"
    );
    // And the other way: a file that the manifest does not name.
    let bytes = [&without[..manifest_of(&without)], &whole[manifest_of(&whole)..]].concat();
    assert!(error(&bytes).contains("expected the end of the bundle"));
}

#[test]
fn what_is_no_bundle_at_all_is_refused_in_words() {
    assert!(error(b"").contains("cut off in its first header"));
    assert!(error(&[0; 4096]).contains("expected manifest.json: the archive ends before it"));
    assert!(error(&b"\x1f\x8b gzip".repeat(100)).contains("something else than the header"));
    let newer = br#"{"format": 2}"#;
    let said = error(&entry(header("manifest.json", newer.len() as u64), newer));
    assert!(said.contains("update twitcher"), "{said}");
    let signature = b"untrusted comment: x\n";
    let sample = Sample::new("hello", "1.0.0");
    let manifest = sample.manifest.to_bytes().unwrap();
    let bytes = [
        entry(header("manifest.json", manifest.len() as u64), &manifest),
        entry(header("manifest.json.minisig", signature.len() as u64), signature),
    ]
    .concat();
    assert!(error(&bytes).contains("the signature is not one that minisign makes"));
}

#[test]
fn gnu_tar_makes_the_same_bytes_and_reads_them() {
    use std::process::Command;
    let sample = Sample::new("hello", "1.0.0");
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("manifest.json"), sample.manifest.to_bytes().unwrap()).unwrap();
    let mut names = vec!["manifest.json".to_owned()];
    for (name, _) in sample.manifest.files() {
        std::fs::create_dir_all(path(&name).parent().unwrap()).unwrap();
        std::fs::write(path(&name), &sample.files[&name]).unwrap();
        names.push(name);
    }
    let made = Command::new("tar")
        .current_dir(dir.path())
        .args([
            "--format=ustar",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mtime=@0",
            "--mode=0644",
            "-b1",
            "-cf",
            "x.twb",
        ])
        .args(&names)
        .status()
        .unwrap();
    assert!(made.success());
    assert_eq!(std::fs::read(path("x.twb")).unwrap(), sample.pack(None));
    let listed = Command::new("tar").arg("-tf").arg(path("x.twb")).output().unwrap();
    assert_eq!(
        String::from_utf8(listed.stdout).unwrap().lines().collect::<Vec<_>>(),
        names
    );
}

/// What the fuzzer has found worth keeping, and what it starts from.
#[test]
fn the_corpus_is_read_without_a_panic() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus/bundle");
    let mut accepted = 0;
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        count += 1;
        accepted += usize::from(check(&bytes).is_ok());
    }
    assert!(count > 20 && accepted > 0, "{accepted} of {count}");
}
