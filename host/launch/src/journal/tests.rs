use super::*;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command};

const VERSION: Option<Version> = Some(Version::Data {
    czxid: 3,
    mzxid: -4,
    stamp: twitcher_model::Stamp { stat: 0, contents: 0 },
});

const PURPOSE: Purpose = Purpose {
    version: VERSION,
    definition: u64::MAX - 7,
    stays: true,
};

fn purpose(found: &SurvivingRun) -> Purpose {
    Purpose {
        version: found.version,
        definition: found.definition.unwrap_or(0),
        stays: found.stays,
    }
}

fn pen(journal: &Journal) -> JournalWriter {
    JournalWriter::new(journal.fd().try_clone_to_owned().unwrap()).unwrap()
}

/// A process that has just started, and runs until this is dropped.
struct Running(Child);

impl Running {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The record that a process of this id would write now.
fn record(journal: &Journal, entry: &JournalEntry, pid: i32) -> [u8; SLOT] {
    let JournalRecord { mut bytes, .. } = pen(journal).draft(entry);
    bytes[8..12].copy_from_slice(&pid.to_le_bytes());
    bytes[24..32].copy_from_slice(&(since_boot().as_nanos() as u64).to_le_bytes());
    sign(&mut bytes);
    bytes
}

/// Writes a process down as one that waits for a run.
fn write_waiting(journal: &Journal, slots: &mut JournalSlots, number: u64, pid: i32) {
    let entry = slots.enter_waiting(journal, RunId(number), "w").unwrap().unwrap();
    let bytes = record(journal, &entry, pid);
    journal.file.write_all_at(&bytes, offset(entry.slot)).unwrap();
}

#[test]
fn a_process_that_waits_is_no_run_and_ends_with_its_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::claim(dir.path()).unwrap();
    let mut slots = JournalSlots::new(Some(&journal));
    let mut waiting = Running::new();
    write_waiting(&journal, &mut slots, 7, waiting.pid());
    drop(journal);
    let (_, found) = Journal::claim(dir.path()).unwrap();
    assert_eq!(runs(&found), []);
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(waiting.0.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
}

#[test]
fn what_a_process_that_waited_was_handed_is_a_run_since_then() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::claim(dir.path()).unwrap();
    let mut slots = JournalSlots::new(Some(&journal));
    let process = Running::new();
    write_waiting(&journal, &mut slots, 7, process.pid());
    std::thread::sleep(Duration::from_millis(50));
    let before = since_boot();
    slots.hand_over(&journal, RunId(7), RunId(8), PURPOSE).unwrap();
    assert!(
        slots.hand_over(&journal, RunId(7), RunId(9), PURPOSE).is_ok(),
        "it has no place any more"
    );
    drop(journal);
    let (journal, found) = Journal::claim(dir.path()).unwrap();
    assert_eq!(runs(&found), [(8, "w")]);
    assert_eq!(purpose(&found[0]), PURPOSE);
    assert!(found[0].since >= before && found[0].process.seen() < before);
    // What is not in the journal as waiting is handed nothing.
    let mut slots = JournalSlots::new(Some(&journal));
    let entry = slots.enter_waiting(&journal, RunId(10), "w").unwrap().unwrap();
    slots
        .hand_over(&journal, RunId(10), RunId(11), Purpose::default())
        .unwrap_err();
    assert_eq!(slots.of.get(&RunId(10)), Some(&entry.slot));
}

/// Writes a process down as a run.
fn write(journal: &Journal, slots: &mut JournalSlots, run: u64, watch: &str, pid: i32) {
    let entry = slots.enter(journal, RunId(run), watch, PURPOSE).unwrap().unwrap();
    let bytes = record(journal, &entry, pid);
    journal.file.write_all_at(&bytes, offset(entry.slot)).unwrap();
}

fn runs(found: &[SurvivingRun]) -> Vec<(u64, &str)> {
    let mut runs: Vec<_> = found.iter().map(|found| (found.run.0, &*found.watch)).collect();
    runs.sort_unstable();
    runs
}

#[test]
fn the_next_daemon_finds_what_still_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, found) = Journal::claim(dir.path()).unwrap();
    assert!(found.is_empty());
    let mut slots = JournalSlots::new(Some(&journal));
    let running = Running::new();
    write(&journal, &mut slots, 7, "one", running.pid());
    let long = "x".repeat(255);
    write(&journal, &mut slots, 8, &long, running.pid());
    // One whose process is gone: its record was written by another process than the one that is there now.
    let entry = slots.enter(&journal, RunId(9), "ended", PURPOSE).unwrap().unwrap();
    let mut child = Command::new("/bin/true").spawn().unwrap();
    child.wait().unwrap();
    let draft = record(&journal, &entry, child.id() as i32);
    let file = Arc::clone(&journal.file);
    assert!(decode(&draft, EndingMark { file, slot: 2 }, None).is_some());
    journal.file.write_all_at(&draft, 3 * SLOT as u64).unwrap();
    drop(journal);

    let (journal, found) = Journal::claim(dir.path()).unwrap();
    assert_eq!(runs(&found), [(7, "one"), (8, &*long)]);
    assert_eq!(purpose(&found[0]), PURPOSE);
    assert_eq!(found[0].process.pid(), running.pid());
    // They are still there for the daemon after this, and their places are not given to others.
    let mut slots = JournalSlots::new(Some(&journal));
    write(&journal, &mut slots, 10, "new", running.pid());
    drop((journal, found));
    let (journal, found) = Journal::claim(dir.path()).unwrap();
    assert_eq!(runs(&found), [(7, "one"), (8, &*long), (10, "new")]);
    drop(journal);
}

#[test]
fn what_is_no_record_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::claim(dir.path()).unwrap();
    let mut slots = JournalSlots::new(Some(&journal));
    let running = Running::new();
    write(&journal, &mut slots, 1, "one", running.pid());
    drop(journal);
    let path = dir.path().join("runs");
    let good = std::fs::read(&path).unwrap();
    let found = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let (journal, found) = Journal::claim(dir.path()).unwrap();
        drop(journal);
        found.len()
    };
    assert_eq!(found(&good), 1);
    assert_eq!(found(&[0xff; 5 * SLOT]), 0);
    assert_eq!(found(&[]), 0);
    assert_eq!(found(&good[..2 * SLOT - 1]), 0, "cut short");
    for at in SLOT..SLOT + NAME + 3 {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        assert_eq!(found(&bytes), 0, "byte {at} flipped");
    }
}

/// Its record would have the daemon kill it.
#[test]
fn a_process_that_is_much_older_than_its_record_did_not_write_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::claim(dir.path()).unwrap();
    write(&journal, &mut JournalSlots::new(Some(&journal)), 1, "init", 1);
    drop(journal);
    let (_, found) = Journal::claim(dir.path()).unwrap();
    assert!(since_boot() < FIRST_ACT || found.is_empty(), "{found:?}");
}

#[test]
fn what_others_could_write_to_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let file = state.join("runs");
    drop(Journal::claim(&state).unwrap());
    let refused = |path: &Path| {
        let error = Journal::claim(&state).unwrap_err();
        assert!(error.is_untrusted() && !error.is_in_use());
        let text = error.to_string();
        assert!(
            text.contains(&format!("use {}:", path.display())) && text.contains("go-w"),
            "{text}"
        );
    };
    for (path, right) in [(&state, 0o700), (&file, 0o600)] {
        for wrong in [right | 0o020, right | 0o002] {
            std::fs::set_permissions(path, Permissions::from_mode(wrong)).unwrap();
            refused(path);
        }
        std::fs::set_permissions(path, Permissions::from_mode(right)).unwrap();
        if nix::unistd::geteuid().is_root() {
            chown(path, Some(65534), None).unwrap();
            refused(path);
            chown(path, Some(0), None).unwrap();
        }
    }
    Journal::claim(&state).unwrap();
}

#[test]
fn a_place_is_used_again_but_not_after_its_launcher_died() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::claim(dir.path()).unwrap();
    let mut slots = JournalSlots::new(Some(&journal));
    let enter = |slots: &mut JournalSlots, run| {
        slots
            .enter(&journal, RunId(run), "w", Purpose::default())
            .unwrap()
            .unwrap()
            .slot
    };
    assert_eq!([enter(&mut slots, 1), enter(&mut slots, 2)], [0, 1]);
    slots.leave(RunId(1));
    assert_eq!(enter(&mut slots, 3), 0);
    slots.abandon(RunId(3));
    slots.leave(RunId(3));
    assert_eq!(enter(&mut slots, 4), 2);
    for run in 5..CHUNK as u64 * 2 {
        enter(&mut slots, run);
    }
    let length = journal.file.metadata().unwrap().len();
    assert_eq!(length, (2 * u64::from(CHUNK) + 1) * SLOT as u64, "room is reserved");
}

#[test]
fn a_second_daemon_is_told_which_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = Journal::claim(dir.path()).unwrap();
    first.sign().unwrap();
    let error = Journal::claim(dir.path()).unwrap_err();
    assert!(error.is_in_use());
    assert!(
        error.to_string().contains(&format!("(pid {})", std::process::id())),
        "{error}"
    );
}

/// As it is between the death of a daemon and that of its launcher.
#[test]
fn the_lock_is_held_by_whoever_has_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = Journal::claim(dir.path()).unwrap();
    let launcher = pen(&first);
    // A daemon that is gone: no process has so large an id.
    let header = format!("{MAGIC}pid {}\n{}", i32::MAX, "\0".repeat(SLOT));
    first.file.write_all_at(&header.as_bytes()[..SLOT], 0).unwrap();
    drop(first);
    let path = dir.path().to_owned();
    let begin = Instant::now();
    let next = std::thread::spawn(move || Journal::claim(&path).map(drop));
    while begin.elapsed() < Duration::from_millis(1500) {
        assert!(!next.is_finished(), "did not wait for the launcher");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(launcher);
    next.join().unwrap().unwrap();
}
