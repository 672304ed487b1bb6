//! What `/proc/PID/stat` tells of a process.

use std::fs;

use nix::unistd::Pid;

/// A process at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcStat {
    /// It has ended, and perhaps nobody has waited for it yet.
    pub dead: bool,
    /// The id of its parent, of its process group, and of its session.
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// When it was started, in clock ticks since the boot.
    pub started: u64,
}

/// A process as it is now; none if there is none.
pub(crate) fn stat(pid: Pid) -> Option<ProcStat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in parentheses and may itself hold any of them: what follows the last one is safe.
fn parse(text: &str) -> Option<ProcStat> {
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X" | "x");
    let mut number = || fields.next()?.parse().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    let started = fields.nth(15)?.parse().ok()?;
    Some(ProcStat {
        dead,
        parent,
        group,
        session,
        started,
    })
}

/// The soft limit of a process on the time it may compute in one go under a real-time policy, in microseconds; none if it has no such limit.
pub(crate) fn realtime_limit(pid: Pid) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max realtime timeout"))?;
    soft.split_ascii_whitespace().next()?.parse().ok()
}

/// The ids of all processes.
pub(crate) fn all_processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_forge_its_stat() {
        let stat = parse("12 (a) Z 1 99 (b) S 1 34 35 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0").unwrap();
        assert!(!stat.dead);
        assert_eq!((stat.parent, stat.group, stat.session, stat.started), (1, 34, 35, 777));
        assert!(
            parse("12 (a) Z 1 34 34 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 7 0")
                .unwrap()
                .dead
        );
        assert!(parse("nonsense").is_none());
    }

    #[test]
    fn this_process_is_among_all() {
        assert!(all_processes().any(|pid| pid == Pid::this()));
        assert!(stat(Pid::this()).unwrap().started > 0);
        assert_eq!(realtime_limit(Pid::this()), None, "who has none");
    }
}
