//! What a process has used so far, and what it holds; and how much processor time it may use.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use rustix::param::page_size;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::errno;

/// What a process of one thread has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Page faults served without I/O.
    pub minor_faults: u64,
}

impl Usage {
    /// Of a process as it is now; as far as the kernel tells.
    pub fn of(pid: Pid) -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        Self {
            cpu: cpu_time(&read("schedstat")).unwrap_or_default(),
            minor_faults: minor_faults(&read("stat")).unwrap_or_default(),
        }
    }
}

/// The processor time of a process, also of one that is ending.
pub fn cpu_time_of(pid: Pid) -> nix::Result<Duration> {
    clock_gettime(ClockId::pid_cpu_clock_id(pid)?).map(Duration::from)
}

/// The name stands in parentheses and may itself hold any of them: what follows the last one is safe.
fn minor_faults(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(7)?.parse().ok()
}

fn cpu_time(schedstat: &str) -> Option<Duration> {
    Some(Duration::from_nanos(
        schedstat.split_ascii_whitespace().next()?.parse().ok()?,
    ))
}

/// The memory that a process has to itself, in bytes: what would be free if it ended. Where that may not be looked at, what is not of files.
pub fn private_memory(pid: Pid) -> u64 {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let private = read("smaps_rollup").and_then(|text| private(&text));
    private.unwrap_or_else(|| read("statm").and_then(|text| anonymous(&text)).unwrap_or_default())
}

fn private(smaps: &str) -> Option<u64> {
    let of = |line: &str| {
        line.strip_prefix("Private_")?
            .split_ascii_whitespace()
            .nth(1)?
            .parse::<u64>()
            .ok()
    };
    let kib: Vec<u64> = smaps.lines().filter_map(of).collect();
    (!kib.is_empty()).then(|| kib.iter().sum::<u64>() << 10)
}

fn anonymous(statm: &str) -> Option<u64> {
    let mut pages = statm.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(shared) * page_size() as u64)
}

/// The soft and the hard limit of processor time, in seconds, that this process hands on.
pub fn own_cpu_limit() -> (u64, u64) {
    let limit = getrlimit(Resource::Cpu);
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}

/// Sets the limits of processor time, in seconds, of another process.
pub fn limit_cpu(pid: Pid, (soft, hard): (u64, u64)) -> nix::Result<()> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Errno::EINVAL)?;
    let limited = |seconds| (seconds != u64::MAX).then_some(seconds);
    let limit = Rlimit {
        current: limited(soft),
        maximum: limited(hard),
    };
    prlimit(Some(pid), Resource::Cpu, limit).map(drop).map_err(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something_and_holds_something() {
        let usage = Usage::of(Pid::this());
        assert!(cpu_time_of(Pid::this()).unwrap() > Duration::ZERO);
        assert!(
            usage.minor_faults > 0 && private_memory(Pid::this()) > 1 << 16,
            "{usage:?}"
        );
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(minor_faults("12 (a) S 1 (b) S 1 34 35 0 -1 4 77 0 0 0"), Some(77));
        assert_eq!(cpu_time("1500000 7 3\n"), Some(Duration::from_micros(1500)));
        let smaps = "55 r-- [rollup]\nRss: 100 kB\nPrivate_Clean: 4 kB\nPrivate_Dirty:  8 kB\nSwap: 0 kB\n";
        assert_eq!(private(smaps), Some(12 << 10));
        assert_eq!(anonymous("900 10 4 1 0 5 0"), Some(6 * page_size() as u64));
        assert_eq!((private(""), anonymous(""), cpu_time("")), (None, None, None));
    }
}
