//! What is tried of memory, and of the rest of the kernel.

use super::{Attempt, attempt, c_path, call, map, pointer, protect};
use crate::DENIED;

pub const ATTEMPTS: &[Attempt] = &[
    attempt("memory", "mapping executable", DENIED, |_| {
        map(libc::PROT_READ | libc::PROT_EXEC).map(drop)
    }),
    attempt("memory", "mapping everything", DENIED, |_| {
        map(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC).map(drop)
    }),
    attempt("memory", "making executable", DENIED, |_| {
        protect(
            map(libc::PROT_READ | libc::PROT_WRITE)?,
            libc::PROT_READ | libc::PROT_EXEC,
        )
    }),
    attempt("memory", "making executable with a key", DENIED, |_| {
        let at = map(libc::PROT_READ)? as usize;
        call(
            libc::SYS_pkey_mprotect,
            [at, 4096, libc::PROT_EXEC as usize, usize::MAX],
        )
    }),
    attempt("memory", "what is readable being executable", DENIED, |_| {
        const READ_IMPLIES_EXEC: usize = 0x0040_0000;
        call(libc::SYS_personality, [READ_IMPLIES_EXEC])
    }),
    attempt("memory", "a file in memory", DENIED, |_| {
        let name = c_path("x");
        call(libc::SYS_memfd_create, [name.as_ptr() as usize])
    }),
    attempt("memory", "a secret file in memory", DENIED, |_| {
        call(libc::SYS_memfd_secret, [0])
    }),
    attempt("memory", "shared memory", DENIED, |_| {
        call(libc::SYS_shmget, [0, 4096, 0o600])
    }),
    attempt("kernel", "io_uring", DENIED, |_| {
        let parameters = [0_u8; 120];
        call(libc::SYS_io_uring_setup, [1, pointer(&parameters)])
    }),
    attempt("kernel", "bpf", DENIED, |_| call(libc::SYS_bpf, [0])),
    attempt("kernel", "userfaultfd", DENIED, |_| call(libc::SYS_userfaultfd, [0])),
    attempt("kernel", "perf_event_open", DENIED, |_| {
        call(libc::SYS_perf_event_open, [0])
    }),
    attempt("kernel", "keyctl", DENIED, |_| call(libc::SYS_keyctl, [0])),
    attempt("kernel", "add_key", DENIED, |_| call(libc::SYS_add_key, [0])),
    attempt("kernel", "mount", DENIED, |_| call(libc::SYS_mount, [0])),
    attempt("kernel", "umount", DENIED, |_| call(libc::SYS_umount2, [0])),
    attempt("kernel", "another mount interface", DENIED, |_| {
        call(libc::SYS_fsopen, [0])
    }),
    attempt("kernel", "pivot_root", DENIED, |_| call(libc::SYS_pivot_root, [0])),
    attempt("kernel", "namespaces of its own", DENIED, |_| {
        call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize])
    }),
    attempt("kernel", "namespaces of others", DENIED, |_| call(libc::SYS_setns, [0])),
    attempt("kernel", "modules", DENIED, |_| call(libc::SYS_finit_module, [0])),
    attempt("kernel", "kexec", DENIED, |_| call(libc::SYS_kexec_load, [0])),
    attempt("kernel", "reboot", DENIED, |_| call(libc::SYS_reboot, [0])),
    attempt("kernel", "swap", DENIED, |_| call(libc::SYS_swapon, [0])),
    attempt("kernel", "the clock", DENIED, |_| call(libc::SYS_clock_settime, [0])),
    attempt("kernel", "the host name", DENIED, |_| call(libc::SYS_sethostname, [0])),
    attempt("kernel", "the kernel's log", DENIED, |_| call(libc::SYS_syslog, [2])),
    attempt("kernel", "quotas", DENIED, |_| call(libc::SYS_quotactl, [0])),
    attempt("kernel", "another filter", DENIED, |_| call(libc::SYS_seccomp, [0])),
    attempt("kernel", "another Landlock", DENIED, |_| {
        call(libc::SYS_landlock_restrict_self, [0])
    }),
    attempt("kernel", "terminal input", DENIED, |_| {
        let byte = 0_u8;
        call(libc::SYS_ioctl, [0, libc::TIOCSTI as usize, pointer(&byte)])
    }),
    attempt("kernel", "a number of the x32 interface", DENIED, |_| {
        call(0x4000_0000, [0])
    }),
    attempt("kernel", "a number not given yet", DENIED, |_| call(511, [0])),
];
