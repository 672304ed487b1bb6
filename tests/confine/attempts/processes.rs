//! What is tried of programs, processes and rights, its own and those of others.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::{Attempt, attempt, c_path, call, io, pointer};
use crate::Expected::{Fails, Killed};
use crate::{DENIED, NO_ACCESS};

pub const ATTEMPTS: &[Attempt] = &[
    attempt("processes", "execve", Killed, |_| {
        let path = c_path("/bin/true");
        call(libc::SYS_execve, [path.as_ptr() as usize])
    }),
    attempt("processes", "execveat", Killed, |_| {
        let path = c_path("/bin/true");
        call(libc::SYS_execveat, [libc::AT_FDCWD as usize, path.as_ptr() as usize])
    }),
    #[cfg(target_arch = "x86_64")]
    attempt("processes", "fork", Killed, |_| call(libc::SYS_fork, [])),
    #[cfg(target_arch = "x86_64")]
    attempt("processes", "vfork", Killed, |_| call(libc::SYS_vfork, [])),
    attempt("processes", "clone", DENIED, |_| {
        call(libc::SYS_clone, [libc::SIGCHLD as usize])
    }),
    attempt("processes", "clone3", DENIED, |_| {
        let arguments = [0_u64; 11];
        call(libc::SYS_clone3, [pointer(&arguments), size_of_val(&arguments)])
    }),
    attempt("processes", "fork by the C library", DENIED, |_| {
        // SAFETY: the child, if there is one, only ends.
        match unsafe { libc::fork() } {
            -1 => Err(Errno::last()),
            0 => std::process::exit(0),
            _ => Ok(()),
        }
    }),
    attempt("processes", "a thread", DENIED, |_| {
        io(std::thread::Builder::new().spawn(|| ()))
    }),
    attempt("processes", "a process that shares its memory", DENIED, |_| {
        call(
            libc::SYS_clone,
            [(libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as usize],
        )
    }),
    attempt("processes", "a thread with namespaces of its own", DENIED, |_| {
        let thread = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
        call(libc::SYS_clone, [(thread | libc::CLONE_NEWUSER) as usize])
    }),
    attempt("processes", "its own processor time", DENIED, |_| {
        let limit = libc::rlimit64 {
            rlim_cur: 50,
            rlim_max: 60,
        };
        call(libc::SYS_prlimit64, [0, libc::RLIMIT_CPU as usize, pointer(&limit)])
    }),
    attempt("processes", "setuid", DENIED, |_| call(libc::SYS_setresuid, [0, 0, 0])),
    attempt("processes", "setpgid", DENIED, |_| call(libc::SYS_setpgid, [0, 0])),
    attempt("processes", "raising a limit", DENIED, |_| {
        let limit = libc::rlimit64 {
            rlim_cur: 1,
            rlim_max: 1,
        };
        call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as usize, pointer(&limit)])
    }),
    attempt(
        "processes",
        "a program that is root's for whoever executes it",
        DENIED,
        |here| {
            let path = c_path(here.path("rw/planted"));
            let flags = (libc::O_CREAT | libc::O_WRONLY) as usize;
            call(
                libc::SYS_openat,
                [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags, 0o4755],
            )
        },
    ),
    attempt("processes", "a program that is its group's", DENIED, |here| {
        let path = c_path(here.path("rw/planted"));
        let flags = (libc::O_CREAT | libc::O_WRONLY) as usize;
        call(
            libc::SYS_openat,
            [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags, 0o2755],
        )
    }),
    attempt("processes", "a directory that gives its group away", DENIED, |here| {
        let path = c_path(here.path("rw/planted"));
        call(
            libc::SYS_mkdirat,
            [libc::AT_FDCWD as usize, path.as_ptr() as usize, 0o2777],
        )
    }),
    attempt(
        "processes",
        "a mode where a filter cannot see it",
        Fails(Errno::ENOSYS),
        |here| {
            let path = c_path(here.path("rw/planted"));
            let how = [(libc::O_CREAT | libc::O_WRONLY) as u64, 0o4755, 0];
            call(
                libc::SYS_openat2,
                [
                    libc::AT_FDCWD as usize,
                    path.as_ptr() as usize,
                    pointer(&how),
                    size_of_val(&how),
                ],
            )
        },
    ),
    attempt("processes", "changing a mode afterwards", DENIED, |here| {
        let path = c_path(here.path("rw/file"));
        call(
            libc::SYS_fchmodat,
            [libc::AT_FDCWD as usize, path.as_ptr() as usize, 0o4755],
        )
    }),
    // Of no file at all: where it is not denied, that is what is wrong with it.
    attempt("processes", "changing the mode of an open file to that", DENIED, |_| {
        call(libc::SYS_fchmod, [usize::MAX, 0o4755])
    }),
    attempt("processes", "a capability of root", DENIED, |_| {
        let name = c_path("host");
        call(libc::SYS_sethostname, [name.as_ptr() as usize, 4])
    }),
    attempt("others", "ptrace of the parent", Killed, |here| {
        call(libc::SYS_ptrace, [libc::PTRACE_ATTACH as usize, here.parent as usize])
    }),
    attempt("others", "reading the parent's memory by system call", Killed, |here| {
        call(libc::SYS_process_vm_readv, [here.parent as usize])
    }),
    attempt("others", "writing the parent's memory by system call", Killed, |here| {
        call(libc::SYS_process_vm_writev, [here.parent as usize])
    }),
    attempt("others", "opening the parent's memory", NO_ACCESS, |here| {
        io(File::open(format!("/proc/{}/mem", here.parent)))
    }),
    attempt("others", "opening the parent's environment", NO_ACCESS, |here| {
        io(File::open(format!("/proc/{}/environ", here.parent)))
    }),
    attempt("others", "opening its own memory", NO_ACCESS, |_| {
        io(OpenOptions::new().write(true).open("/proc/self/mem"))
    }),
    attempt("others", "kill of the parent", DENIED, |here| {
        call(libc::SYS_kill, [here.parent as usize, libc::SIGTERM as usize])
    }),
    attempt("others", "kill of its own group", DENIED, |_| {
        call(libc::SYS_kill, [0, libc::SIGCONT as usize])
    }),
    attempt("others", "tgkill of the parent", DENIED, |here| {
        call(
            libc::SYS_tgkill,
            [here.parent as usize, here.parent as usize, libc::SIGTERM as usize],
        )
    }),
    attempt("others", "tkill of the parent", DENIED, |here| {
        call(libc::SYS_tkill, [here.parent as usize, libc::SIGTERM as usize])
    }),
    attempt("others", "queueing a signal", DENIED, |here| {
        call(
            libc::SYS_rt_sigqueueinfo,
            [here.parent as usize, libc::SIGTERM as usize],
        )
    }),
    attempt("others", "opening the parent as a pidfd", DENIED, |here| {
        call(libc::SYS_pidfd_open, [here.parent as usize])
    }),
    attempt("others", "taking a descriptor of the parent", DENIED, |_| {
        call(libc::SYS_pidfd_getfd, [0, 0])
    }),
    attempt("others", "limits of the parent", DENIED, |here| {
        let mut limit = [0_u64; 2];
        let old = limit.as_mut_ptr() as usize;
        call(
            libc::SYS_prlimit64,
            [here.parent as usize, libc::RLIMIT_NOFILE as usize, 0, old],
        )
    }),
    attempt("others", "signals by an owned descriptor", DENIED, |here| {
        call(
            libc::SYS_fcntl,
            [
                here.pair.0.as_raw_fd() as usize,
                libc::F_SETOWN as usize,
                here.parent as usize,
            ],
        )
    }),
    attempt("others", "becoming dumpable", DENIED, |_| {
        call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, 1])
    }),
];
