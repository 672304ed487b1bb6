//! Which process is meant: an id that was given at a time of a boot, because ids are given again.

use std::fs;
use std::io;
use std::time::Duration;

use nix::unistd::Pid;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

use crate::stat::stat;

/// Names one boot of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// The id of the present boot.
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
pub struct ProcessIdentity {
    pid: i32,
    seen: Duration,
    boot: BootId,
}

impl ProcessIdentity {
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

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When the process is known to have had the id, as the time since the boot.
    pub fn seen(&self) -> Duration {
        self.seen
    }

    /// The boot in which the process had the id.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Whether the process was started in the present boot.
    pub fn is_of_this_boot(&self) -> bool {
        BootId::of_this().is_ok_and(|boot| boot == self.boot)
    }

    /// Whether the process had been started at most so long before it was seen.
    pub fn was_new(&self, most: Duration) -> bool {
        started(self.pid).is_some_and(|(started, _)| started + most >= self.seen)
    }

    /// Whether the very process that is meant still runs.
    pub fn exists(&self) -> bool {
        self.is_of_this_boot() && started(self.pid).is_some_and(|(started, ended)| !ended && started <= self.seen)
    }
}

/// Whether a process with this id runs.
pub fn is_alive(pid: i32) -> bool {
    stat(Pid::from_raw(pid)).is_some_and(|stat| !stat.dead)
}

/// The time since the boot, suspended or not: what the kernel counts the start of processes in.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// When the process started, since the boot and less than a clock tick too early; and whether it has ended.
fn started(pid: i32) -> Option<(Duration, bool)> {
    let stat = stat(Pid::from_raw(pid))?;
    let per_second = clock_ticks_per_second();
    let seconds = stat.started.checked_div(per_second)?;
    let rest = (stat.started % per_second) * 1_000_000_000 / per_second;
    Some((Duration::new(seconds, rest as u32), stat.dead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_process_is_recognised() {
        let name = ProcessIdentity::of(std::process::id() as i32).unwrap();
        assert!(name.exists());
        // Whoever had the id before this process was there was another one; so was whoever had it before the machine was booted.
        let (started, _) = started(name.pid).unwrap();
        assert!(ProcessIdentity { seen: started, ..name }.exists());
        let earlier = started - Duration::from_millis(1);
        assert!(!ProcessIdentity { seen: earlier, ..name }.exists());
        let boot = BootId([7; 16]);
        assert!(!ProcessIdentity { boot, ..name }.exists());
    }

    #[test]
    fn one_that_has_ended_but_was_not_waited_for_does_not_run() {
        let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let name = ProcessIdentity::of(child.id() as i32).unwrap();
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
