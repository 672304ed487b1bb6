//! A cgroup for each run: what a process cannot leave by another session, another environment or another user, and what ends at once.
//!
//! Only the unified hierarchy (cgroup v2) will do, from Linux 5.14 on, which has `cgroup.kill`. Where systemd has delegated the unit's
//! cgroup, the daemon moves into a leaf of it, since a cgroup that hands its controllers on may hold no processes itself. Elsewhere it makes
//! a directory below the cgroup that it finds itself in, and has there the controllers that are handed on to it: often none.
//!
//! It must not know what a run is for. A run's directory stays as long as a process that the run left behind on purpose is in it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, getxattr, mkdirat, openat, unlinkat};
use rustix::io::Errno;

/// The cgroup below a unit's own that the daemon moves into.
const DAEMON: &str = "daemon";
/// The cgroup of all runs, below a unit's own.
const RUNS: &str = "runs";
/// What the name of a cgroup of runs begins with where there is no unit; the number of its daemon follows.
const TREE: &str = "twitcher-";
/// What the name of a run's cgroup begins with.
const RUN: &str = "run-";
/// Tasks that the daemon, its launcher and its helpers may need: actions cannot have them.
const RESERVED_TASKS: u64 = 128;
/// Which controllers are made use of.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// The period of a processor limit, in microseconds: the kernel's own default.
const CPU_PERIOD: u64 = 100_000;

/// Why runs have no cgroups of their own.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is no unified hierarchy.
    #[error("no cgroup v2 hierarchy is mounted")]
    NotMounted,
    /// The hierarchy lacks what is needed.
    #[error("{} has no cgroup.kill, which Linux has from 5.14 on", .0.display())]
    TooOld(PathBuf),
    /// A directory or file of the hierarchy cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    move |source| CgroupError::Io {
        path: path.to_owned(),
        source,
    }
}

/// What a run may use of the machine, all its processes together. Each needs a controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// Memory, in bytes. A run that needs more is killed, the whole of it.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Processor time, in hundredths of one processor.
    pub cpu_percent: Option<u64>,
}

impl CgroupLimits {
    /// Those of the limits that these controllers can hold a run to.
    pub fn only(self, controllers: &[&str]) -> Self {
        let [memory, tasks, cpu] = CONTROLLERS.map(|name| controllers.contains(&name));
        Self {
            memory: self.memory.filter(|_| memory),
            tasks: self.tasks.filter(|_| tasks),
            cpu_percent: self.cpu_percent.filter(|_| cpu),
        }
    }
}

/// The cgroup that holds those of all runs.
#[derive(Debug)]
pub struct CgroupTree {
    path: PathBuf,
    dir: OwnedFd,
    controllers: Vec<&'static str>,
    /// It was made for this daemon, and goes with it.
    own: bool,
    left: Left,
}

/// The names of cgroups whose runs have ended and in which somebody was left.
type Left = Arc<Mutex<HashSet<String>>>;

impl CgroupTree {
    /// Finds or makes the cgroup for runs. To be called by a process that has one thread and no children yet: it may move to another
    /// cgroup, and they would be left behind.
    ///
    /// `former` is what the last daemon used ([`CgroupTree::path`]): it is used again if runs are in it still.
    pub fn claim(former: Option<&Path>) -> Result<Self, CgroupError> {
        let base = own_cgroup()?;
        if !base.join("cgroup.procs").exists() {
            return Err(CgroupError::NotMounted);
        }
        if let Some(unit) = delegated(&base) {
            return Self::of_unit(unit, &base);
        }
        let former = former.filter(|former| is_in_use(former));
        remove_abandoned(&base);
        let path = former.map_or_else(|| base.join(format!("{TREE}{}", std::process::id())), Path::to_owned);
        make(&path)?;
        Self::open(path, true)
    }

    fn of_unit(unit: &Path, base: &Path) -> Result<Self, CgroupError> {
        if base == unit {
            let leaf = unit.join(DAEMON);
            make(&leaf)?;
            write(&leaf.join("cgroup.procs"), &std::process::id().to_string())?;
        }
        let runs = unit.join(RUNS);
        make(&runs)?;
        for controller in CONTROLLERS {
            // Of those that the unit does not have, there is nothing to hand on.
            let _ = write(&unit.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
        let tree = Self::open(runs, false)?;
        tree.reserve_tasks(unit)?;
        Ok(tree)
    }

    fn open(path: PathBuf, own: bool) -> Result<Self, CgroupError> {
        if !path.join("cgroup.kill").exists() {
            let _ = fs::remove_dir(&path);
            return Err(CgroupError::TooOld(path));
        }
        for controller in CONTROLLERS {
            let _ = write(&path.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
        let handed_on = fs::read_to_string(path.join("cgroup.subtree_control")).map_err(at(&path))?;
        let handed_on: Vec<&str> = handed_on.split_ascii_whitespace().collect();
        let controllers = CONTROLLERS
            .into_iter()
            .filter(|name| handed_on.contains(name))
            .collect();
        let dir = open_dir(CWD, &path).map_err(at(&path))?;
        // For as long as this daemon or its launcher lives, whatever others see of their numbers.
        let _ = flock(&dir, FlockOperation::NonBlockingLockShared);
        // Those of the last daemon's runs, if there are any.
        let entries = fs::read_dir(&path).map_err(at(&path))?.flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let left = names.filter(|name| name.starts_with(RUN)).collect();
        Ok(Self {
            path,
            dir,
            controllers,
            own,
            left: Arc::new(Mutex::new(left)),
        })
    }

    /// Actions must not use up the tasks that the unit may have: the daemon could not supervise them any more.
    fn reserve_tasks(&self, unit: &Path) -> Result<(), CgroupError> {
        let Ok(most) = fs::read_to_string(unit.join("pids.max")) else {
            return Ok(());
        };
        let Ok(most) = most.trim().parse::<u64>() else {
            return Ok(());
        };
        let left = most.saturating_sub(RESERVED_TASKS).max(most / 2);
        write(&self.path.join("pids.max"), &left.to_string())
    }

    /// Where it is. What [`CgroupTree::claim`] of the next daemon wants to know.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The controllers that runs can be limited by, of memory, pids and cpu.
    pub fn controllers(&self) -> &[&'static str] {
        &self.controllers
    }

    /// A cgroup for a run, which has no processes yet.
    ///
    /// # Errors
    ///
    /// Those of mkdir(2), and of writing the limits.
    pub fn create(&self, run: &str, limits: &CgroupLimits) -> io::Result<RunCgroup> {
        let name = format!("{RUN}{run}");
        match mkdirat(&self.dir, &*name, Mode::from_raw_mode(0o755)) {
            // Of the same run: a launcher died before it could start it.
            Err(Errno::EXIST) => {}
            made => made?,
        }
        let cgroup = RunCgroup {
            dir: open_dir(&self.dir, Path::new(&name))?,
            tree: self.dir.try_clone()?,
            name,
            left: Arc::clone(&self.left),
        };
        cgroup.limit(limits)?;
        Ok(cgroup)
    }

    /// Removes the cgroups of runs that left something behind which has ended since, and says how many cannot be removed yet.
    pub fn sweep(&self) -> usize {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|name| unlinkat(&self.dir, &**name, AtFlags::REMOVEDIR) == Err(Errno::BUSY));
        left.len()
    }
}

impl Drop for CgroupTree {
    fn drop(&mut self) {
        if self.own && self.sweep() == 0 {
            // Should somebody be in it, it stays.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// The cgroup of a run. Goes when this is dropped, if nobody is in it any more.
#[derive(Debug)]
pub struct RunCgroup {
    tree: OwnedFd,
    dir: OwnedFd,
    name: String,
    left: Left,
}

impl RunCgroup {
    /// The cgroup that a run of the last daemon has, if it has one still.
    pub fn find(tree: &Path, run: &str) -> Option<Self> {
        let tree = open_dir(CWD, tree).ok()?;
        let name = format!("{RUN}{run}");
        let dir = open_dir(&tree, Path::new(&name)).ok()?;
        let left = Left::default();
        Some(Self { tree, dir, name, left })
    }

    /// The directory, for clone3(2).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The ids of the processes in it. Not of those that have moved elsewhere, which takes root.
    pub fn processes(&self) -> Vec<i32> {
        let text = self.read("cgroup.procs").unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills all that are in it, also those that are being made.
    pub fn kill(&self) -> io::Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// Whether the kernel killed the run because it needed more memory than it may.
    pub fn ran_out_of_memory(&self) -> bool {
        let events = self.read("memory.events").unwrap_or_default();
        events
            .lines()
            .filter_map(|line| line.split_once(' '))
            .any(|(name, count)| name == "oom_kill" && count != "0")
    }

    fn limit(&self, limits: &CgroupLimits) -> io::Result<()> {
        if let Some(memory) = limits.memory {
            self.write("memory.max", &memory.to_string())?;
            // Without swap accounting, what goes to swap is not counted anyway.
            let _ = self.write("memory.swap.max", "0");
            // Half a run is of no use to anybody.
            self.write("memory.oom.group", "1")?;
        }
        if let Some(tasks) = limits.tasks {
            self.write("pids.max", &tasks.to_string())?;
        }
        if let Some(percent) = limits.cpu_percent {
            let quota = percent.saturating_mul(CPU_PERIOD / 100);
            self.write("cpu.max", &format!("{quota} {CPU_PERIOD}"))?;
        }
        Ok(())
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let mut text = String::new();
        File::from(openat(
            &self.dir,
            file,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
        .read_to_string(&mut text)?;
        Ok(text)
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let file = openat(&self.dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        File::from(file).write_all(text.as_bytes())
    }
}

impl Drop for RunCgroup {
    fn drop(&mut self) {
        // Refused while somebody is in it: what a run left behind. Then a sweep removes it some day.
        if unlinkat(&self.tree, &*self.name, AtFlags::REMOVEDIR).is_err() {
            let name = std::mem::take(&mut self.name);
            self.left.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        }
    }
}

fn open_dir(at: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, path, flags, Mode::empty())?)
}

fn make(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    fs::write(path, text).map_err(at(path))
}

/// Removes what daemons that were killed left behind, in which nobody is any more. What is not empty cannot be removed, and so stays.
fn remove_abandoned(base: &Path) {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| is_abandoned(path)) {
        let runs = fs::read_dir(&path).into_iter().flatten().flatten();
        for run in runs.filter(|run| run.file_name().as_encoded_bytes().starts_with(RUN.as_bytes())) {
            let _ = fs::remove_dir(run.path());
        }
        let _ = fs::remove_dir(&path);
    }
}

/// Whether it was made by a daemon that has gone, and its launcher too.
fn is_abandoned(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let daemon = name.strip_prefix(TREE).and_then(|number| number.parse::<u32>().ok());
    daemon.is_some_and(|daemon| !Path::new(&format!("/proc/{daemon}")).exists())
        && !is_in_use(path)
        && open_dir(CWD, path).is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok())
}

/// Whether there are processes in it or below.
fn is_in_use(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events")).is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

/// The unit's own cgroup, if systemd has handed it over: `base`, or the one above if the daemon is in a leaf of it already.
fn delegated(base: &Path) -> Option<&Path> {
    let is_delegated = |path: &Path| {
        // Of these systemd sets the one or the other, by its version and the user it runs as.
        ["trusted.delegate", "user.delegate"].iter().any(|name| {
            let mut value = [0u8; 8];
            getxattr(path, *name, &mut value).is_ok_and(|length| value[..length] == *b"1")
        })
    };
    let above = base.parent().filter(|_| base.ends_with(DAEMON));
    [Some(base), above]
        .into_iter()
        .flatten()
        .find(|path| is_delegated(path))
}

/// The directory of the cgroup that this process is in.
fn own_cgroup() -> Result<PathBuf, CgroupError> {
    let read = |path: &str| fs::read_to_string(path).map_err(at(Path::new(path)));
    let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    cgroup_directory(&mounts, &own).ok_or(CgroupError::NotMounted)
}

/// From what `/proc/self/mountinfo` and `/proc/self/cgroup` say.
fn cgroup_directory(mounts: &str, own: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        file_system
            .starts_with("cgroup2 ")
            .then(|| Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_in_every_arrangement() {
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let hybrid = "31 30 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let container = "900 899 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw";
        let found = |mounts: &str, own: &str| cgroup_directory(mounts, own).map(|path| path.display().to_string());
        assert_eq!(
            found(unified, "0::/system.slice/twitcher.service\n").as_deref(),
            Some("/sys/fs/cgroup/system.slice/twitcher.service")
        );
        assert_eq!(
            found(hybrid, "8:pids:/a\n0::/\n").as_deref(),
            Some("/sys/fs/cgroup/unified/")
        );
        assert_eq!(
            found(container, "0::/docker/abc/x\n").as_deref(),
            Some("/sys/fs/cgroup/x")
        );
        assert_eq!(found(container, "0::/elsewhere\n"), None, "not visible here");
        assert_eq!(found("", "0::/\n"), None);
        assert_eq!(found(unified, "1:name=systemd:/\n"), None, "version 1 alone");
    }

    #[test]
    fn what_daemons_that_are_gone_left_behind_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        let gone = {
            gone.wait().unwrap();
            gone.id()
        };
        // No process has a number as high as the others.
        let names = [
            (format!("twitcher-{gone}/run-7"), false),
            (format!("twitcher-{}", u32::MAX), false),
            (format!("twitcher-{}", u32::MAX - 1), true),
            (format!("twitcher-{}/run-1/of-somebody", u32::MAX - 2), true),
            (format!("twitcher-{}/other", u32::MAX - 3), true),
            (format!("twitcher-{}", std::process::id()), true),
            ("twitcher-x".to_owned(), true),
            ("twitcher-".to_owned(), true),
            (format!("other-{gone}"), true),
        ];
        for (name, _) in &names {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        // That of one whose number is not seen here.
        let in_use = open_dir(CWD, &dir.path().join(&names[2].0)).unwrap();
        flock(&in_use, FlockOperation::NonBlockingLockShared).unwrap();
        remove_abandoned(dir.path());
        for (name, stays) in &names {
            assert_eq!(dir.path().join(name).exists(), *stays, "{name}");
        }
        assert!(!dir.path().join(format!("twitcher-{gone}")).exists());
    }

    #[test]
    fn limits_that_cannot_be_had_can_be_left_out() {
        let limits = CgroupLimits {
            memory: Some(1),
            tasks: None,
            cpu_percent: Some(50),
        };
        let left = limits.only(&["memory", "pids"]);
        assert_eq!((left.memory, left.tasks, left.cpu_percent), (Some(1), None, None));
    }

    /// Files of a directory stand for those of the kernel: what is written where.
    #[test]
    fn limits_are_written_where_the_kernel_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run-7");
        fs::create_dir(&run).unwrap();
        for file in [
            "memory.max",
            "memory.swap.max",
            "memory.oom.group",
            "pids.max",
            "cpu.max",
        ] {
            fs::write(run.join(file), "").unwrap();
        }
        let cgroup = RunCgroup::find(dir.path(), "7").unwrap();
        let limits = CgroupLimits {
            memory: Some(64 << 20),
            tasks: Some(20),
            cpu_percent: Some(150),
        };
        cgroup.limit(&limits).unwrap();
        let read = |file: &str| fs::read_to_string(run.join(file)).unwrap();
        assert_eq!(read("memory.max"), "67108864");
        assert_eq!(read("memory.oom.group"), "1");
        assert_eq!(read("pids.max"), "20");
        assert_eq!(read("cpu.max"), "150000 100000");
        assert!(!cgroup.ran_out_of_memory());
        fs::write(run.join("memory.events"), "low 0\noom 1\noom_kill 3\n").unwrap();
        assert!(cgroup.ran_out_of_memory());
    }
}
