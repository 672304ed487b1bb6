//! Runs of a daemon that was killed: processes that are nobody's children here, but must be waited for all the same.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use super::journal::Found;
use super::polled::polled;
use super::process::{Family, pidfd_open};
use super::run::{FAMILY_GRACE, FAMILY_POLL};

/// Names one boot of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// Of the boot that this is.
    pub fn of_this() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let number = u128::from_str_radix(&digits, 16).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// Names a process for good: the one that had this id at that time of that boot. A process id alone is given to others after a while,
/// and again after a reboot; but a process that was given it later has started later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessName {
    pid: i32,
    seen: Duration,
    boot: BootId,
}

impl ProcessName {
    /// The process that had the id `pid` when the boot was so long ago.
    pub fn new(pid: i32, seen: Duration, boot: BootId) -> Self {
        Self { pid, seen, boot }
    }

    /// The process that has the id now.
    pub fn of(pid: i32) -> io::Result<Self> {
        Ok(Self::now(pid, BootId::of_this()?))
    }

    /// The process that has the id now, in a boot that is known.
    pub fn now(pid: i32, boot: BootId) -> Self {
        Self::new(pid, since_boot(), boot)
    }

    /// How long ago it was known to have the id, in this boot.
    pub fn age(&self) -> Duration {
        since_boot().saturating_sub(self.seen)
    }

    /// The process's id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When it is known to have had it, since the boot.
    pub fn seen(&self) -> Duration {
        self.seen
    }

    /// The boot.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    fn is_of_this_boot(&self) -> bool {
        BootId::of_this().is_ok_and(|boot| boot == self.boot)
    }

    /// Whether that very process still runs.
    pub fn exists(&self) -> bool {
        self.is_of_this_boot() && stat(self.pid).is_some_and(|stat| !stat.ended && stat.started <= self.seen)
    }
}

impl Found {
    /// Waits until the run's main process has ended. The run is terminated, the whole of it, once it has run for `limit`, when `terminate`
    /// says so, or at once if its daemon was already about to; what is left is killed `kill_after` later.
    pub async fn ended(
        &self,
        limit: Option<Duration>,
        kill_after: Duration,
        terminate: oneshot::Receiver<()>,
    ) -> io::Result<()> {
        let process = &self.process;
        let pidfd = match pidfd_open(Pid::from_raw(process.pid)) {
            // Looked at again: until the pidfd was open, the id could have been given to another.
            Ok(pidfd) if process.exists() => pidfd,
            Ok(_) | Err(Errno::ESRCH) => {
                if self.is_ending {
                    self.end_rest(Instant::now() + kill_after).await;
                }
                return Ok(());
            }
            Err(errno) => return Err(errno.into()),
        };
        let pidfd = polled(pidfd, Interest::READABLE)?;
        let left = limit.map(|limit| (process.seen + limit).saturating_sub(since_boot()));
        let told = async {
            if !self.is_ending && terminate.await.is_err() {
                // Nobody will say it any more.
                std::future::pending().await
            }
        };
        tokio::select! {
            ended = pidfd.readable() => drop(ended?),
            () = told => return self.terminate(&pidfd, kill_after).await,
            () = sleep(left.unwrap_or_default()), if left.is_some() => return self.terminate(&pidfd, kill_after).await,
        }
        if self.is_ending {
            self.end_rest(Instant::now() + kill_after).await;
        }
        Ok(())
    }

    async fn terminate(&self, pidfd: &AsyncFd<OwnedFd>, kill_after: Duration) -> io::Result<()> {
        self.mark(true);
        let kill_at = Instant::now() + kill_after;
        self.signal(Signal::SIGTERM).await;
        tokio::select! {
            ended = pidfd.readable() => drop(ended?),
            () = sleep_until(kill_at) => {
                self.signal(Signal::SIGKILL).await;
                drop(pidfd.readable().await?);
            }
        }
        self.end_rest(kill_at).await;
        Ok(())
    }

    /// The main process has ended after SIGTERM; the others get the rest of their time, then SIGKILL. They are known by their environment
    /// alone: whoever waited for the main process has made its id, and that of its group, free for others.
    async fn end_rest(&self, kill_at: Instant) {
        loop {
            let now = Instant::now();
            let (kill, family) = (now >= kill_at, self.family());
            // A thread that panics has found nobody.
            let left = spawn_blocking(move || family.marked(kill.then_some(Signal::SIGKILL))).await;
            if left.unwrap_or(0) == 0 || now >= kill_at + FAMILY_GRACE {
                break;
            }
            sleep(FAMILY_POLL).await;
        }
        self.mark(false);
    }

    /// Whether there are processes of the run, apart from its main process. Reads all of /proc.
    pub(super) fn has_left_something(&self) -> bool {
        self.process.is_of_this_boot() && self.family().marked(None) > 0
    }

    fn family(&self) -> Family {
        Family {
            leader: Pid::from_raw(self.process.pid),
            run: self.run.to_string(),
        }
    }

    fn mark(&self, is_ending: bool) {
        if let Some(mark) = &self.mark {
            mark.set(is_ending);
        }
    }

    async fn signal(&self, signal: Signal) {
        let family = self.family();
        family.signal_group(signal);
        // A thread that panics has found nobody.
        let _ = spawn_blocking(move || family.signal_strays(signal)).await;
    }
}

/// Whether a process with this id runs.
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| !stat.ended)
}

/// The time since the boot, suspended or not: what the kernel counts the start of processes in.
pub fn since_boot() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is alive. The clock exists, so the call cannot fail; should it, the time is zero, which is before any process.
    #[allow(unsafe_code)]
    unsafe {
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now)
    };
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

struct Stat {
    ended: bool,
    /// Since the boot; less than a clock tick too early.
    started: Duration,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself hold any of them: what follows the last one is safe.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let ticks: u64 = fields.nth(18)?.parse().ok()?;
    // SAFETY: the call takes a plain number.
    #[allow(unsafe_code)]
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    let seconds = ticks.checked_div(per_second)?;
    let rest = (ticks % per_second) * 1_000_000_000 / per_second;
    Some(Stat {
        ended,
        started: Duration::new(seconds, rest as u32),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_process_is_recognised() {
        let name = ProcessName::of(std::process::id() as i32).unwrap();
        assert!(name.exists());
        // Whoever had the id before this process was there was another one; so was whoever had it before the machine was booted.
        let started = stat(name.pid).unwrap().started;
        assert!(ProcessName { seen: started, ..name }.exists());
        let earlier = started - Duration::from_millis(1);
        assert!(!ProcessName { seen: earlier, ..name }.exists());
        let boot = BootId([7; 16]);
        assert!(!ProcessName { boot, ..name }.exists());
    }

    #[test]
    fn one_that_has_ended_but_was_not_waited_for_does_not_run() {
        let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let name = ProcessName::of(child.id() as i32).unwrap();
        assert!(name.exists());
        child.kill().unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while name.exists() {
            assert!(std::time::Instant::now() < end);
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
