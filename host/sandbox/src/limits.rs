//! The resource limits of a component's process.

use std::time::Duration;

use twitcher_model::{Limit, Resource};

/// Open files: standard streams, channel, epoll, granted directories, and what the component opens.
const OPEN_FILES: u64 = 256;

/// What a component's process may have of writable memory besides the component's own, in bytes: for the host's functions, and for
/// the data of the change twice.
pub const HOST_MEMORY: u64 = 256 << 20;

/// The limits of a component's process: those of its watch, and for what the watch says nothing of
///
/// - no core dump: it would hold the daemon's memory as of the clone;
/// - 256 open files;
/// - `HOST_MEMORY` besides the `memory` of the component, which WebAssembly is held to before: what the host's functions keep for a
///   component, and what native code would take, ends there;
/// - no child processes (root is exempt by the kernel; the seccomp filter is not);
/// - with a `timeout`, so many seconds of CPU as it has on the clock, `kill_after` included: one thread cannot use more, so this
///   is for when nobody is left to kill it.
///
/// Never an address space (`RLIMIT_AS`) of our own: the runtime reserves gigabytes that it does not use. `RLIMIT_DATA` counts what is
/// private and writable alone.
/// No file size either: the component's output goes through pipes, and how much a granted directory may hold is for the operator.
pub fn process_limits(of_watch: &[Limit], timeout: Option<Duration>, kill_after: Duration, memory: u64) -> Vec<Limit> {
    let fixed = [
        (Resource::Core, 0),
        (Resource::Data, memory.saturating_add(HOST_MEMORY)),
        (Resource::Nofile, OPEN_FILES),
        (Resource::Nproc, 0),
    ];
    let defaults = fixed.map(|(resource, most)| Limit {
        resource,
        soft: most,
        hard: most,
    });
    let cpu = timeout.map(|timeout| {
        let clock = timeout.saturating_add(kill_after);
        let seconds = clock.as_secs().saturating_add(1);
        Limit {
            resource: Resource::Cpu,
            soft: seconds,
            hard: seconds.saturating_add(1),
        }
    });
    let unsaid = |limit: &Limit| !of_watch.iter().any(|own| own.resource == limit.resource);
    let mut limits: Vec<_> = defaults.into_iter().chain(cpu).filter(unsaid).collect();
    limits.extend_from_slice(of_watch);
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_s_own_limits_win() {
        let own = Limit {
            resource: Resource::Nofile,
            soft: 10,
            hard: 20,
        };
        let limits = process_limits(&[own], None, Duration::from_secs(5), 1 << 20);
        let of = |resource| {
            limits
                .iter()
                .filter(|limit| limit.resource == resource)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Resource::Nofile), [&own]);
        assert_eq!(of(Resource::Core).len(), 1);
        assert!(of(Resource::Cpu).is_empty());
        assert!(of(Resource::As).is_empty());
        assert_eq!(of(Resource::Data)[0].hard, (1 << 20) + HOST_MEMORY);
    }

    #[test]
    fn cpu_time_is_bounded_by_the_time_on_the_clock() {
        let cpu = |timeout, kill_after| {
            let limits = process_limits(&[], Some(timeout), kill_after, 0);
            limits
                .into_iter()
                .find(|limit| limit.resource == Resource::Cpu)
                .unwrap()
        };
        let limit = cpu(Duration::from_millis(2500), Duration::from_millis(4500));
        assert_eq!((limit.soft, limit.hard), (8, 9));
        assert_eq!(cpu(Duration::MAX, Duration::MAX).hard, u64::MAX);
    }
}
