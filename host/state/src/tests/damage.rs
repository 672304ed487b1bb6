use std::fs;
use std::path::PathBuf;

use super::database::FILE;
use super::*;

fn aside(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_aside = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.contains("corrupt") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    names.filter(is_aside).collect()
}

/// A database with some of everything, all of it in the one file.
fn sound() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = open(dir.path());
    for number in 0..200 {
        state.handled(&watch(&format!("w{number}")), handled(number));
        state.ended(ended(number as u64 + 1, &format!("w{number}")));
    }
    state.close();
    assert!(!dir.path().join("state.db-wal").exists());
    fs::read(dir.path().join(FILE)).unwrap()
}

/// Whatever is in the database, the daemon starts, what it says of a watch is true, and what it is told is kept. Whether the database
/// was moved aside.
fn starts_with(bytes: &[u8]) -> bool {
    starts(bytes, |number, known| known.position == handled(number).position)
}

fn starts(bytes: &[u8], believable: impl Fn(i64, Handled) -> bool) -> bool {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), bytes).unwrap();
    let (state, _) = open(dir.path());
    for number in 0..200 {
        let known = state
            .known(&watch(&format!("w{number}")))
            .and_then(|known| known.handled);
        assert!(known.is_none_or(|known| believable(number, known)));
    }
    state.handled(&watch("new"), handled(1));
    state.close();
    assert_eq!(stored(dir.path(), "new"), Some(handled(1)));
    !aside(dir.path()).is_empty()
}

#[test]
fn garbage_is_moved_aside() {
    assert!(starts_with(b"this is no database"));
    assert!(starts_with(&[0xa5; 100_000]));
    assert!(!starts_with(b""), "an empty one is just new");
    assert!(!starts_with(&sound()), "a sound one is left alone");
}

#[test]
fn a_database_that_was_cut_short_is_moved_aside() {
    let sound = sound();
    for page in 1..sound.len() / 4096 {
        assert!(starts_with(&sound[..page * 4096]), "{page} pages");
        assert!(starts_with(&sound[..page * 4096 - 1000]), "almost {page} pages");
    }
}

#[test]
fn a_page_of_nonsense_anywhere_is_noticed() {
    let sound = sound();
    for page in 0..sound.len() / 4096 {
        let mut bytes = sound.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0xff);
        assert!(starts_with(&bytes), "page {page}");
    }
}

#[test]
fn flipped_bytes_do_no_harm() {
    let sound = sound();
    let mut random = fastrand::Rng::with_seed(7);
    let mut noticed = 0;
    for _ in 0..60 {
        let mut bytes = sound.clone();
        for _ in 0..20 {
            bytes[random.usize(..sound.len())] ^= 1 << random.u8(..8);
        }
        // Nothing guards a number within a row. One that is another than it was is not that of the present state.
        noticed += usize::from(starts(&bytes, |_, _| true));
    }
    assert!(noticed > 10, "{noticed}");
}

#[test]
fn at_most_three_are_kept_and_each_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..6 {
        fs::write(dir.path().join(FILE), format!("garbage {round}")).unwrap();
        fs::write(dir.path().join("state.db-wal"), "its log").unwrap();
        open(dir.path()).0.close();
    }
    let mut aside = aside(dir.path());
    aside.sort();
    let texts: Vec<_> = aside.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(texts, ["garbage 3", "garbage 4", "garbage 5"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3 + 3 + 1);
}

#[test]
fn one_that_is_damaged_while_it_is_used_is_begun_anew_with_all_that_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = open(dir.path());
    state.handled(&watch("a"), handled(1));
    state.started(StartedRun {
        run: RunId(1),
        watch: "a".into(),
        started: SystemTime::now(),
        attempt: 1,
        event: None,
    });
    let path = dir.path().join(FILE);
    // Removed, as by an operator who cleans up.
    until("it is written", || {
        fs::metadata(dir.path().join("state.db-wal")).is_ok_and(|wal| wal.len() > 0)
    });
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(dir.path().join(file));
    }
    state.handled(&watch("b"), handled(2));
    until("it is there again", || path.exists());
    state.close();
    let (state, _) = open(dir.path());
    for (name, mzxid) in [("a", 1), ("b", 2)] {
        let known = state.known(&watch(name)).unwrap();
        assert_eq!(known.handled, Some(handled(mzxid)));
    }
    // What ran is known, too: without it in the journal it has ended.
    let history = state.history();
    state.close();
    assert_eq!(history.newest(10).unwrap()[0].run, RunId(1));
}

#[test]
fn a_directory_that_cannot_be_used_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    fs::write(&path, "not a directory").unwrap();
    let (state, _) = open(&path);
    state.handled(&watch("a"), handled(1));
    state.ended(ended(1, "a"));
    assert_eq!(state.known(&watch("a")).unwrap().handled, Some(handled(1)));
    fs::remove_file(&path).unwrap();
    until("it is written after all", || {
        state.history().newest(1).is_ok_and(|runs| runs.len() == 1)
    });
    state.close();
    assert_eq!(stored(&path, "a"), Some(handled(1)));
}

#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (state, _) = open(dir.path());
    state.ended(ended(1, "a"));
    until("it is written", || {
        state.history().newest(1).is_ok_and(|runs| runs.len() == 1)
    });
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} {mode:o}", entry.path());
    }
    state.close();
}
