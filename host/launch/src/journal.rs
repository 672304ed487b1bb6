//! The journal of running processes: a file in which each process of an action writes itself down before it becomes the action.
//!
//! What a daemon writes down after it has heard of a process would miss those that start while it is being killed. So the process does
//! it, as its very first act, with one `pwrite` of a fixed size at a place that the daemon chose; only then does it say that it has
//! started. No fsync: what `kill -9` of any process leaves behind is in the page cache, and after a crash of the machine nothing runs.
//!
//! Nothing is erased when a run ends. A record is believed if it is of this boot and its process exists, is not younger than the
//! record (a process that was given the id later has started later), and not much older: it wrote the record as its first act. What a
//! record names may be killed, so neither the file nor its directory may be one that others can write to. A run that is being terminated is marked in its record before
//! its first signal: should its daemon be killed meanwhile, the next one ends what is left of it, whether or not the main process is.
//!
//! A process that waits for its run is in the journal from its first act, too, as one that waits; before it is handed a run, the daemon
//! changes the record to that run's. So the next daemon finds the run, or a process that has none: nobody waits for that, and should it not
//! have ended with its daemon, it is killed.
//!
//! The file is also the lock of the state directory. Its open file is shared with the launcher, and by each process until it has
//! said that it started. So the next daemon gets it when nobody is left who might still start a run for this one, and then every run
//! that was started is in the file. It must not know what a watch is: a name is a text.

use std::borrow::Cow;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use twitcher_files::private;
use twitcher_files::regular::{self, Links};
use twitcher_model::{RunId, Version};
use twitcher_process::cgroup::RunCgroup;
use twitcher_process::{
    BootId, ProcessIdentity, RunMark, RunProcesses, is_alive, pidfd_open, pidfd_signal, since_boot,
};

/// Size of the header and of each record, in bytes.
const SLOT: usize = 512;
/// Where a record's name begins.
const NAME: usize = 64;
/// Where a record says that its run is being terminated; not part of what the checksum covers.
const ENDING: usize = SLOT - 1;
/// Where the record of a process that waited for its run says since when it has it, and by which number it was known before.
const SINCE: usize = ENDING - 8;
const FORMER: usize = SINCE - 8;
/// Where a record says whether its run stays, and how its watch was defined: what the next daemon needs for programs that stay. In records of
/// versions that did not know this there are zeros, or the end of a very long name; not part of what the checksum covers.
const STAYS: usize = DEFINITION - 1;
const DEFINITION: usize = FORMER - 8;
/// Where a record says which of these its process is.
const KIND: usize = 13;
/// It was made for the run.
const MADE_FOR_RUN: u8 = 0;
/// It waits for one.
const WAITS: u8 = 1;
/// It waited for the run, and has it.
const HAS_WAITED: u8 = 2;
/// Room for so many records is reserved at a time, so that a full disk is noticed here and not by a process that starts.
const CHUNK: u32 = 256;
/// Most records of a file; it is read as a whole.
const MOST: u32 = 64 * 1024;
/// What the name begins with for a run that is none of its watch's action: no watch's own name has such a character.
const ASIDE: char = '\u{1}';
/// What a file begins with.
const MAGIC: &str = "twitcher runs 1\n";
/// How much older than its record a process may be: it may have been held up before its first act.
const FIRST_ACT: Duration = Duration::from_secs(60);
/// How long a living daemon that holds the lock may take to be gone.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long after its daemon a launcher may take to be gone.
const LAUNCHER_PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another daemon uses the directory.
    #[error("another twitcher runs (pid {pid}) and uses the state directory {}", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The other daemon's process id.
        pid: i32,
    },
    /// The daemon that used the directory is gone, but what it had started is not.
    #[error("the launcher of the last twitcher{} still uses the state directory {}", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), dir.display())]
    Lingering {
        /// The directory.
        dir: PathBuf,
        /// The last daemon's process id.
        pid: Option<i32>,
    },
    /// Others could write to the directory or the file, and have the daemon kill what they like.
    #[error(
        "refusing to use {}: {source}; whoever can write there could have any process killed. Give it to the user that runs this, and \
         take the right to write from all others (chmod go-w)", path.display()
    )]
    Untrusted {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The directory or the file in it cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
}

impl JournalError {
    /// Whether the directory is fine but somebody else's.
    pub fn is_in_use(&self) -> bool {
        matches!(self, JournalError::InUse { .. } | JournalError::Lingering { .. })
    }

    /// Whether the directory is one that must not be used.
    pub fn is_untrusted(&self) -> bool {
        matches!(self, JournalError::Untrusted { .. })
    }
}

/// A run of a former daemon that still goes on.
#[derive(Debug, Clone)]
pub struct SurvivingRun {
    /// The run.
    pub run: RunId,
    /// What it was started for; the name of its watch.
    pub watch: String,
    /// Whether it is no run of that watch's action, but one that belongs to it otherwise.
    pub is_aside: bool,
    /// The state of the node that it is for, where that was known.
    pub version: Option<Version>,
    /// How its watch was defined then, where that is known.
    pub definition: Option<u64>,
    /// It does not end by itself.
    pub stays: bool,
    /// Since when it runs, as the time since the boot: its process may have waited for it.
    pub since: Duration,
    /// Its main process; of a run that was being terminated it may have ended already.
    pub process: ProcessIdentity,
    /// Its daemon was killed while it terminated the run.
    pub is_ending: bool,
    /// Where it is said that the run is being terminated.
    pub(crate) mark: EndingMark,
    /// Where its processes are.
    pub(crate) family: Arc<Mutex<RunProcesses>>,
}

impl SurvivingRun {
    /// How long it has been running.
    pub fn age(&self) -> Duration {
        since_boot().saturating_sub(self.since)
    }
}

/// The place of a run's record that says whether it is being terminated.
#[derive(Debug, Clone)]
pub(crate) struct EndingMark {
    file: Arc<File>,
    slot: u32,
}

impl EndingMark {
    /// To be said before the run's first signal, and taken back when nothing of it is left.
    pub(crate) fn set(&self, is_ending: bool) {
        // What cannot be said is missed only should the daemon be killed in the seconds to come.
        let _ = self
            .file
            .write_all_at(&[u8::from(is_ending)], offset(self.slot) + ENDING as u64);
    }
}

fn offset(slot: u32) -> u64 {
    (u64::from(slot) + 1) * SLOT as u64
}

/// The daemon's end.
#[derive(Debug)]
pub struct Journal {
    /// Locked. Not unlocked when this is dropped: the launcher may have it, too.
    file: Arc<File>,
    writable: bool,
    slots: Vec<u32>,
    /// Where the cgroups of runs are: the last daemon's, until this one says otherwise.
    cgroups: Option<PathBuf>,
}

/// Where and as what a process is to write itself down. Travels in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    slot: u32,
    run: RunId,
    watch: String,
    purpose: Purpose,
    /// It has no run yet; the number is only what it is known by.
    waits: bool,
}

/// What a run is for, as far as the next daemon needs to know it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purpose {
    /// The state of the node.
    pub version: Option<Version>,
    /// How its watch is defined: the same number for the same definition; 0 where nobody asks.
    pub definition: u64,
    /// It does not end by itself.
    pub stays: bool,
}

impl Journal {
    /// Refuses a state directory that others could write to, for who only reads it.
    pub fn check_dir(dir: &Path) -> Result<(), JournalError> {
        trusted(dir, private::check_dir(dir))
    }

    /// Locks the journal of a state directory, making both if need be (mode 0700), and finds the runs in it that still go on. Waits up
    /// to ten seconds for the launcher of a daemon that was killed.
    pub fn claim(dir: &Path) -> Result<(Self, Vec<SurvivingRun>), JournalError> {
        let path = dir.join("runs");
        let at = |source| JournalError::Io {
            path: path.clone(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| JournalError::Io {
                path: dir.to_owned(),
                source,
            })?;
        Self::check_dir(dir)?;
        let open = |writable| {
            let mut options = OpenOptions::new();
            options.read(true).write(writable).create(writable).mode(0o600);
            regular::open_with(&mut options, &path, Links::Refuse)
        };
        // One that can only be read still is a lock, and tells what runs.
        let (file, writable) = match open(true) {
            Ok(file) => (file, true),
            Err(error) => (open(false).map_err(|_| at(error))?, false),
        };
        trusted(&path, private::check(&file))?;
        lock(&file, dir, &path)?;
        let file = Arc::new(file);
        let mut header = [0; SLOT];
        let cgroups = file.read_exact_at(&mut header, 0).ok();
        let cgroups = cgroups.and_then(|()| header_line(&header, "cgroup ").map(PathBuf::from));
        let found = read(&file).map_err(at)?;
        let mut journal = Self {
            cgroups,
            file,
            writable,
            slots: found.iter().map(|(slot, _)| *slot).collect(),
        };
        if found.is_empty() && writable {
            journal.file.set_len(0).map_err(at)?;
        }
        journal.slots.sort_unstable();
        // Should this fail, a second daemon is refused all the same, only without a name.
        let _ = journal.sign();
        Ok((journal, found.into_iter().map(|(_, found)| found).collect()))
    }

    /// Writes down which process holds the lock: this one. To be called again by a process that was forked.
    pub fn sign(&self) -> io::Result<()> {
        self.write_header(self.cgroups.as_deref())
    }

    /// Writes down where the cgroups of runs are from now on.
    pub fn sign_cgroups(&mut self, cgroups: &Path) -> io::Result<()> {
        self.cgroups = Some(cgroups.to_owned());
        self.sign()
    }

    /// Where the cgroups of the last daemon's runs are, if they had any.
    pub fn former_cgroups(&self) -> Option<&Path> {
        self.cgroups.as_deref()
    }

    fn write_header(&self, cgroups: Option<&Path>) -> io::Result<()> {
        let mut text = format!("{MAGIC}pid {}\n", std::process::id());
        if let Some(path) = cgroups.and_then(Path::to_str) {
            text += &format!("cgroup {path}\n");
        }
        let mut header = [0; SLOT];
        let room = header.get_mut(..text.len()).ok_or(io::ErrorKind::InvalidFilename)?;
        room.copy_from_slice(text.as_bytes());
        self.file.write_all_at(&header, 0)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Refuses what others could write to. What cannot be looked at is left to whoever opens it.
fn trusted(path: &Path, checked: io::Result<()>) -> Result<(), JournalError> {
    match checked {
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => Err(JournalError::Untrusted {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Takes the lock; waits for whoever has just died.
fn lock(file: &File, dir: &Path, path: &Path) -> Result<(), JournalError> {
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => {
                return Err(JournalError::Io {
                    path: path.to_owned(),
                    source,
                });
            }
        }
        let (pid, waited, dir) = (holder(file), begin.elapsed(), dir.to_owned());
        match pid.filter(|pid| is_alive(*pid)) {
            Some(pid) if waited >= PATIENCE => return Err(JournalError::InUse { dir, pid }),
            None if waited >= LAUNCHER_PATIENCE => return Err(JournalError::Lingering { dir, pid }),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn holder(file: &File) -> Option<i32> {
    let mut header = [0; SLOT];
    file.read_exact_at(&mut header, 0).ok()?;
    header_line(&header, "pid ")?.parse().ok()
}

/// What the header says behind a word.
fn header_line<'a>(bytes: &'a [u8], word: &str) -> Option<&'a str> {
    let header = bytes.get(..SLOT)?;
    let text = std::str::from_utf8(header).ok()?.strip_prefix(MAGIC)?;
    text.trim_end_matches('\0')
        .lines()
        .find_map(|line| line.strip_prefix(word))
}

/// The records of which there are processes still, with their places.
fn read(file: &Arc<File>) -> io::Result<Vec<(u32, SurvivingRun)>> {
    let mut bytes = Vec::new();
    file.as_ref().take(offset(MOST)).read_to_end(&mut bytes)?;
    let cgroups = header_line(&bytes, "cgroup ").map(PathBuf::from);
    let records = bytes.chunks_exact(SLOT).skip(1).zip(0u32..);
    let records = records.filter_map(|(record, slot)| {
        let file = Arc::clone(file);
        let found = decode(record, EndingMark { file, slot }, cgroups.as_deref())?;
        if record[KIND] == WAITS {
            end_waiting(&found.process);
            return None;
        }
        Some((slot, found))
    });
    let runs = |found: &SurvivingRun| {
        let mut family = found.family.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alive = found.process.exists() && found.process.was_new(FIRST_ACT);
        if !is_alive {
            family.leader_is_gone();
        }
        is_alive || (found.is_ending && found.process.is_of_this_boot() && family.others() > 0)
    };
    Ok(records.filter(|(_, found)| runs(found)).collect())
}

/// A process that waits for a run of the last daemon will get none. It ends by itself, unless it never got as far as to wait.
fn end_waiting(process: &ProcessIdentity) {
    let is_it = || process.exists() && process.was_new(FIRST_ACT);
    if !is_it() {
        return;
    }
    let pid = Pid::from_raw(process.pid());
    // Looked at again: until the pidfd was open, the id could have been given to another.
    if let Ok(pidfd) = pidfd_open(pid)
        && is_it()
    {
        // It has just ended if this fails.
        let _ = pidfd_signal(pidfd.as_fd(), Signal::SIGKILL);
    }
}

/// Which places are free. Bookkeeping of the daemon; nothing here is written while runs come and go.
#[derive(Debug, Default)]
pub(crate) struct JournalSlots {
    free: Vec<u32>,
    next: u32,
    reserved: u32,
    of: std::collections::HashMap<RunId, u32>,
    refused: bool,
}

impl JournalSlots {
    /// The places of a journal, but those of runs that were found.
    pub(crate) fn new(journal: Option<&Journal>) -> Self {
        let taken = journal.map_or(&[][..], |journal| &journal.slots);
        let next = taken.last().map_or(0, |last| last + 1);
        Self {
            free: (0..next).filter(|slot| taken.binary_search(slot).is_err()).collect(),
            next,
            reserved: next,
            ..Self::default()
        }
    }

    /// The entry for a run that is about to be started; none if there is no room. Returns why once.
    pub(crate) fn enter(
        &mut self,
        journal: &Journal,
        run: RunId,
        watch: &str,
        purpose: Purpose,
    ) -> Result<Option<JournalEntry>, io::Error> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                if let Err(error) = self.reserve(journal) {
                    return if std::mem::replace(&mut self.refused, true) {
                        Ok(None)
                    } else {
                        Err(error)
                    };
                }
                self.refused = false;
                self.next += 1;
                self.next - 1
            }
        };
        self.of.insert(run, slot);
        let watch = watch.to_owned();
        Ok(Some(JournalEntry {
            slot,
            run,
            watch,
            purpose,
            waits: false,
        }))
    }

    /// The same for a process that is to wait, which `number` stands for until it has a run.
    pub(crate) fn enter_waiting(
        &mut self,
        journal: &Journal,
        number: RunId,
        watch: &str,
    ) -> Result<Option<JournalEntry>, io::Error> {
        let entry = self.enter(journal, number, watch, Purpose::default())?;
        Ok(entry.map(|entry| JournalEntry { waits: true, ..entry }))
    }

    /// Writes down that a process that waited has a run from now on. Fails, and the process must not get it, if it is not in the journal.
    pub(crate) fn hand_over(
        &mut self,
        journal: &Journal,
        number: RunId,
        run: RunId,
        purpose: Purpose,
    ) -> io::Result<()> {
        let Some(slot) = self.of.get(&number).copied() else {
            // There was no room for it, which was said; a run that starts then is not written down either.
            return Ok(());
        };
        let mut bytes = [0; SLOT];
        journal.file.read_exact_at(&mut bytes, offset(slot))?;
        if bytes[KIND] != WAITS || bytes[16..24] != number.0.to_le_bytes() || !is_whole(&bytes) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes[KIND] = HAS_WAITED;
        bytes[16..24].copy_from_slice(&run.0.to_le_bytes());
        put_purpose(&mut bytes, purpose);
        bytes[FORMER..SINCE].copy_from_slice(&number.0.to_le_bytes());
        bytes[SINCE..ENDING].copy_from_slice(&(since_boot().as_nanos() as u64).to_le_bytes());
        sign(&mut bytes);
        journal.file.write_all_at(&bytes, offset(slot))?;
        self.of.remove(&number);
        self.of.insert(run, slot);
        Ok(())
    }

    fn reserve(&mut self, journal: &Journal) -> io::Result<()> {
        if self.next < self.reserved {
            return Ok(());
        }
        if !journal.writable {
            return Err(Errno::EROFS.into());
        }
        if self.next >= MOST {
            return Err(Errno::EFBIG.into());
        }
        let (from, length) = (offset(self.reserved), u64::from(CHUNK) * SLOT as u64);
        match fallocate(
            &*journal.file,
            FallocateFlags::empty(),
            from.cast_signed(),
            length.cast_signed(),
        ) {
            // Some file systems cannot reserve. There a process may find the disk full.
            Ok(()) | Err(Errno::EOPNOTSUPP) => self.reserved += CHUNK,
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// Where it is said that a run is being terminated; none if it has no place.
    pub(crate) fn mark(&self, journal: &Journal, run: RunId) -> Option<EndingMark> {
        self.of.get(&run).map(|slot| EndingMark {
            file: Arc::clone(&journal.file),
            slot: *slot,
        })
    }

    /// The run's place is free: its process has been waited for, or there never was one; or it runs nothing any more, and whoever comes next need
    /// not wait for it.
    pub(crate) fn leave(&mut self, run: RunId) {
        self.free.extend(self.of.remove(&run));
    }

    /// The launcher died with the run's request. A process that it had cloned may write to the place at any time from now on, and then
    /// end: it must not be given away again. At most a few kilobytes for each launcher, until the next daemon.
    pub(crate) fn abandon(&mut self, run: RunId) {
        self.of.remove(&run);
    }
}

/// The launcher's end: the file, and which boot this is.
#[derive(Debug)]
pub(crate) struct JournalWriter {
    file: OwnedFd,
    boot: BootId,
}

/// A record that lacks only what its process alone knows. Made before the process, which then need not allocate.
#[derive(Debug)]
pub(crate) struct JournalRecord {
    bytes: [u8; SLOT],
    offset: u64,
}

impl JournalWriter {
    pub(crate) fn new(file: OwnedFd) -> io::Result<Self> {
        let boot = BootId::of_this()?;
        Ok(Self { file, boot })
    }

    /// The record for an entry. A name that is too long is cut, which keeps its run from being found; no watch has such a name.
    pub(crate) fn draft(&self, entry: &JournalEntry) -> JournalRecord {
        let name = entry.watch.as_bytes();
        let name = &name[..name.len().min(STAYS - NAME)];
        let mut bytes = [0; SLOT];
        put_purpose(&mut bytes, entry.purpose);
        bytes[KIND] = if entry.waits { WAITS } else { MADE_FOR_RUN };
        bytes[14..16].copy_from_slice(&(name.len() as u16).to_le_bytes());
        bytes[16..24].copy_from_slice(&entry.run.0.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.boot.0);
        bytes[NAME..NAME + name.len()].copy_from_slice(name);
        JournalRecord {
            bytes,
            offset: offset(entry.slot),
        }
    }

    /// Writes down the calling process. Two system calls, no allocation.
    pub(crate) fn write(&self, draft: &JournalRecord) -> nix::Result<()> {
        let mut bytes = draft.bytes;
        bytes[8..12].copy_from_slice(&nix::unistd::getpid().as_raw().to_le_bytes());
        bytes[24..32].copy_from_slice(&(since_boot().as_nanos() as u64).to_le_bytes());
        sign(&mut bytes);
        // The system call alone: this process may share its memory with the launcher.
        match rustix::io::pwrite(&self.file, &bytes, draft.offset) {
            Ok(SLOT) => Ok(()),
            Ok(_) => Err(Errno::ENOSPC),
            Err(error) => Err(Errno::from_raw(error.raw_os_error())),
        }
    }

    /// Lets go of the file, and with it of the lock, in a process that has started. Loading the program may take it long, and the next
    /// daemon need not wait for that.
    pub(crate) fn put_down(&self) {
        // SAFETY: the descriptor is the calling process's own: it does not share the table with the launcher, to whom `self` belongs,
        // and it does not use `self` again.
        #[allow(unsafe_code)]
        unsafe {
            libc::close(self.file.as_raw_fd());
        }
    }
}

fn decode(bytes: &[u8], mark: EndingMark, cgroups: Option<&Path>) -> Option<SurvivingRun> {
    let u64_at = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..at + 8)?.first_chunk()?));
    let length = usize::from(u16::from_le_bytes(*bytes.get(14..16)?.first_chunk()?));
    if !is_whole(bytes.first_chunk()?) {
        return None;
    }
    let version = match bytes[12] {
        u8::MAX => None,
        kind => Some(Version::from_parts(
            kind,
            u64_at(48)?.cast_signed(),
            u64_at(56)?.cast_signed(),
        )?),
    };
    let run = RunId(u64_at(16)?);
    let process = ProcessIdentity::new(
        i32::from_le_bytes(*bytes.get(8..12)?.first_chunk()?),
        Duration::from_nanos(u64_at(24)?),
        BootId(*bytes.get(32..48)?.first_chunk()?),
    );
    let (since, known_by) = match bytes[KIND] {
        HAS_WAITED => (Duration::from_nanos(u64_at(SINCE)?), RunId(u64_at(FORMER)?)),
        _ => (process.seen(), run),
    };
    let cgroup = cgroups.and_then(|tree| RunCgroup::find(tree, &known_by.to_string()));
    let family = RunProcesses::new(
        Pid::from_raw(process.pid()),
        &RunMark::of_run(run.to_string(), run.0),
        cgroup.map(Arc::new),
    );
    let name = std::str::from_utf8(bytes.get(NAME..NAME + length)?).ok()?;
    let watch = name.strip_prefix(ASIDE);
    let has_room = NAME + length <= STAYS;
    Some(SurvivingRun {
        run,
        definition: Some(u64_at(DEFINITION)?).filter(|definition| has_room && *definition != 0),
        stays: has_room && bytes[STAYS] == 1,
        since,
        watch: watch.unwrap_or(name).to_owned(),
        is_aside: watch.is_some(),
        version,
        process,
        is_ending: *bytes.get(ENDING)? != 0,
        mark,
        family: Arc::new(Mutex::new(family)),
    })
}

/// The name for a run that is none of the watch's action.
pub(crate) fn aside(watch: &str) -> Cow<'static, str> {
    format!("{ASIDE}{watch}").into()
}

fn put_purpose(bytes: &mut [u8; SLOT], purpose: Purpose) {
    let Purpose {
        version,
        definition,
        stays,
    } = purpose;
    bytes[STAYS] = u8::from(stays);
    bytes[DEFINITION..FORMER].copy_from_slice(&definition.to_le_bytes());
    let (kind, a, b) = version.map_or((u8::MAX, 0, 0), |version| version.parts());
    bytes[12] = kind;
    bytes[48..56].copy_from_slice(&a.to_le_bytes());
    bytes[56..64].copy_from_slice(&b.to_le_bytes());
}

/// The checksum of a record; none if it says that its name is longer than it can be.
fn sum_of(bytes: &[u8; SLOT]) -> Option<u64> {
    let length = usize::from(u16::from_le_bytes([bytes[14], bytes[15]]));
    let sum = checksum(bytes.get(8..NAME + length).filter(|_| NAME + length <= ENDING)?);
    Some(match bytes[KIND] {
        // What was written before a process could wait has nothing else.
        MADE_FOR_RUN => sum,
        _ => sum ^ checksum(&bytes[FORMER..ENDING]),
    })
}

fn sign(bytes: &mut [u8; SLOT]) {
    if let Some(sum) = sum_of(bytes) {
        bytes[..8].copy_from_slice(&sum.to_le_bytes());
    }
}

fn is_whole(bytes: &[u8; SLOT]) -> bool {
    sum_of(bytes).is_some_and(|sum| bytes[..8] == sum.to_le_bytes())
}

/// FNV-1a. Not against forgery, which needs root; an empty or half-written record must not look like one.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
