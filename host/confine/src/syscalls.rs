//! The system calls of a confined process: of a component's, and of a helper's.
//!
//! This is the list of what remains, not of what is forbidden: a system call that a future kernel brings is denied. Denied means
//! `EPERM`, so that a library that tries something newer or better falls back to what it did before, and a mistake of ours is an
//! error message. A few kill the process instead: those that make other processes, or programs, or reach into them. No library
//! in the process has a fallback for them because none calls them; what does is native code that got in. (A thread is one that
//! a library may well ask for, so `clone` is merely denied.)
//!
//! Checked arguments are the ones that would widen the list: a protection that makes memory executable, a mode that makes a program
//! its owner's, a signal for another process, a socket of another kind. Paths are for Landlock: a filter cannot read memory.

use std::collections::BTreeMap;

use libc::c_long;

use super::filter::{Condition, OWN_PID, Verdict};

const ALLOWED: &[c_long] = &[
    // Open files. What can be opened is for Landlock; a descriptor from before is meant to be used.
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    // Paths, as cap-std goes them: always from a directory's descriptor.
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_linkat,
    libc::SYS_newfstatat,
    libc::SYS_readlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    // Memory. mmap and mprotect: see `CHECKED`.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Signals, which a wasm trap is. Without restart_syscall a sleep fails when the process was stopped and continued.
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Waiting: tokio, and the channel to the host.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_ppoll,
    libc::SYS_shutdown,
    // Time, chance, and facts about itself, some of which cannot fail and so must not.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_nanosleep,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Calls that the C library still makes where the machine has them beside newer ones.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

const KILLED: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
];
#[cfg(target_arch = "x86_64")]
const KILLED_HERE: &[c_long] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const KILLED_HERE: &[c_long] = &[];

/// What pthread_create asks for, to the bit: nothing else that clone(2) makes is a thread of the same process.
const THREAD: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;
/// What the C library does in a thread that has just started.
const ALLOWED_WITH_THREADS: &[c_long] = &[libc::SYS_rseq, libc::SYS_set_robust_list];

/// Besides socket, connect and the calls on every socket: no bind, listen or accept.
const ALLOWED_WITH_TCP: &[c_long] = &[libc::SYS_connect, libc::SYS_getpeername, libc::SYS_getsockname];

/// What wasi:sockets and an HTTP client set. Others reach far: a filter program, a device, another protocol on top.
const SOCKET_OPTIONS: &[(i32, &[i32])] = &[
    (
        libc::SOL_SOCKET,
        &[
            libc::SO_KEEPALIVE,
            libc::SO_LINGER,
            libc::SO_RCVBUF,
            libc::SO_REUSEADDR,
            libc::SO_SNDBUF,
        ],
    ),
    (
        libc::IPPROTO_TCP,
        &[
            libc::TCP_KEEPCNT,
            libc::TCP_KEEPIDLE,
            libc::TCP_KEEPINTVL,
            libc::TCP_NODELAY,
        ],
    ),
    (libc::IPPROTO_IP, &[libc::IP_TTL]),
    (libc::IPPROTO_IPV6, &[libc::IPV6_UNICAST_HOPS, libc::IPV6_V6ONLY]),
];

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Running a component. The list below is what that needs; the others need a little more.
    Component,
    /// The same, and it may create TCP sockets and connect them.
    ComponentWithTcp,
    /// Interpreting text: it says how much processor time it may take for the next.
    Interpreter,
    /// Compiling: it may start threads, though not other processes.
    Compiler,
}

/// What the kernel tells of a socket, and nobody can set: how connecting ended, and what it is.
const READ_ONLY_OPTIONS: &[i32] = &[
    libc::SO_ACCEPTCONN,
    libc::SO_DOMAIN,
    libc::SO_ERROR,
    libc::SO_PROTOCOL,
    libc::SO_TYPE,
];

/// The verdict on each system call, by its number.
pub(super) fn rules(purpose: Purpose) -> BTreeMap<u32, Verdict> {
    let mut rules = BTreeMap::new();
    let mut add = |calls: &[c_long], verdict: Verdict| {
        // The numbers are small and positive.
        rules.extend(calls.iter().map(|call| (*call as u32, verdict.clone())));
    };
    add(ALLOWED, Verdict::Allow);
    add(ALLOWED_HERE, Verdict::Allow);
    add(KILLED, Verdict::Kill);
    add(KILLED_HERE, Verdict::Kill);

    // Files with the mode of a set-user-id program: root's would stay so, and whoever executes it is root. openat2 has its mode in memory,
    // where a filter cannot see it.
    let special = (libc::S_ISUID | libc::S_ISGID | libc::S_ISVTX) as i32;
    add(&[libc::SYS_openat], allow_if([without(3, special)]));
    add(&[libc::SYS_mkdirat], allow_if([without(2, special)]));
    if matches!(purpose, Purpose::Component | Purpose::ComponentWithTcp) {
        add(&[libc::SYS_fchmod], allow_if([without(1, special)]));
    }
    add(&[libc::SYS_openat2], Verdict::Missing);
    // Of a file that is open, which takes a grant, and not by a path: no file system rule looks at times.
    let (no_path, no_path_either) = (is(1, &[0]), Condition { half: 3, ..is(1, &[0]) });
    add(&[libc::SYS_utimensat], allow_if([no_path, no_path_either]));
    let not_executable = without(2, libc::PROT_EXEC);
    add(&[libc::SYS_mmap, libc::SYS_mprotect], allow_if([not_executable]));
    // abort(3) and raise(3).
    add(&[libc::SYS_tgkill], allow_if([is(0, &[OWN_PID])]));
    // Reads the limits of this process (0), sets none: the pointer to new ones is null.
    let upper_half = Condition { half: 5, ..is(2, &[0]) };
    let mut limits = vec![vec![is(0, &[0]), is(2, &[0]), upper_half]];
    if purpose == Purpose::Interpreter {
        limits.push(vec![is(0, &[0]), is(1, &[libc::RLIMIT_CPU])]);
    }
    add(&[libc::SYS_prlimit64], Verdict::AllowIf(limits));
    if purpose == Purpose::Compiler {
        let no_more = Condition { half: 1, ..is(0, &[0]) };
        add(&[libc::SYS_clone], allow_if([is(0, &[THREAD as u32]), no_more]));
        // It has its flags in memory, where a filter cannot see them. The C library then does with clone.
        add(&[libc::SYS_clone3], Verdict::Missing);
        add(ALLOWED_WITH_THREADS, Verdict::Allow);
    }
    // The last is isatty(3).
    add(
        &[libc::SYS_ioctl],
        allow_if([is(
            1,
            &[libc::FIONBIO, libc::FIONREAD, libc::TCGETS].map(|command| command as u32),
        )]),
    );
    let commands = [
        libc::F_DUPFD,
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_GETFL,
        libc::F_SETFD,
        libc::F_SETFL,
    ];
    add(
        &[libc::SYS_fcntl],
        allow_if([is(1, &commands.map(|command| command as u32))]),
    );
    // Urgent data is of no use to anybody here, and often was to those who looked for mistakes of the kernel.
    add(&[libc::SYS_recvmsg], allow_if([without(2, libc::MSG_OOB)]));
    add(&[libc::SYS_recvfrom], allow_if([without(3, libc::MSG_OOB)]));
    let options = |options: &[(i32, &[i32])]| {
        let of_level = |(level, names): &(i32, &[i32])| {
            let names: Vec<_> = names.iter().map(|name| *name as u32).collect();
            vec![is(1, &[*level as u32]), is(2, &names)]
        };
        Verdict::AllowIf(options.iter().map(of_level).collect())
    };

    if purpose != Purpose::ComponentWithTcp {
        add(&[libc::SYS_sendmsg], allow_if([without(2, libc::MSG_OOB)]));
        add(&[libc::SYS_sendto], allow_if([without(3, libc::MSG_OOB)]));
        add(
            &[libc::SYS_getsockopt],
            options(&[(libc::SOL_SOCKET, READ_ONLY_OPTIONS)]),
        );
        return rules;
    }
    add(ALLOWED_WITH_TCP, Verdict::Allow);
    add(&[libc::SYS_socket], allow_if(tcp_sockets()));
    // Sending may connect, and past Landlock, which looks at connect(2) only.
    add(
        &[libc::SYS_sendmsg],
        allow_if([without(2, libc::MSG_FASTOPEN | libc::MSG_OOB)]),
    );
    add(
        &[libc::SYS_sendto],
        allow_if([without(3, libc::MSG_FASTOPEN | libc::MSG_OOB)]),
    );
    // What can be set can be read; the options that can only be read are on top, and setting those fails by itself.
    let mut socket_options = SOCKET_OPTIONS.to_vec();
    socket_options.push((libc::SOL_SOCKET, READ_ONLY_OPTIONS));
    add(&[libc::SYS_setsockopt, libc::SYS_getsockopt], options(&socket_options));
    rules
}

/// TCP and nothing like it: Landlock knows the ports of no other stream protocol (MPTCP, SCTP).
fn tcp_sockets() -> [Condition; 3] {
    let families = [libc::AF_INET, libc::AF_INET6].map(|family| family as u32);
    let kind = Condition {
        mask: !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32,
        ..is(1, &[libc::SOCK_STREAM as u32])
    };
    [is(0, &families), kind, is(2, &[0, libc::IPPROTO_TCP as u32])]
}

fn allow_if<const N: usize>(all: [Condition; N]) -> Verdict {
    Verdict::AllowIf(vec![all.to_vec()])
}

/// The argument, an `int` or flags below 2^32, is one of these.
fn is(argument: u8, values: &[u32]) -> Condition {
    Condition {
        half: 2 * argument,
        mask: u32::MAX,
        values: values.to_vec(),
    }
}

/// The argument has none of these bits.
fn without(argument: u8, bits: i32) -> Condition {
    Condition {
        half: 2 * argument,
        mask: bits as u32,
        values: vec![0],
    }
}
