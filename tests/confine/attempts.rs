//! What is tried, and what it must come to.

mod hidden;

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, renameat};
use nix::sys::socket::{MsgFlags, recvmsg, sendmsg};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use crate::Expected::{self, Fails, Killed, Works};
use crate::scene::Here;
use crate::{DENIED, NO_ACCESS};

/// One thing to try.
pub struct Attempt {
    pub group: &'static str,
    pub name: &'static str,
    pub expected: Expected,
    pub run: fn(&Here) -> Result<(), Errno>,
}

const fn attempt(
    group: &'static str,
    name: &'static str,
    expected: Expected,
    run: fn(&Here) -> Result<(), Errno>,
) -> Attempt {
    Attempt {
        group,
        name,
        expected,
        run,
    }
}

/// Makes a system call with these arguments and zeros.
fn call<const N: usize>(number: libc::c_long, arguments: [usize; N]) -> Result<(), Errno> {
    let mut all = [0_usize; 6];
    all[..N].copy_from_slice(&arguments);
    let [a, b, c, d, e, f] = all;
    // SAFETY: pointers among the arguments are null or to memory that outlives the call; a new process does nothing but end.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    match Errno::result(result) {
        Ok(0) if [libc::SYS_clone, libc::SYS_clone3].contains(&number) => std::process::exit(0),
        result => result.map(drop),
    }
}

fn io<T>(result: io::Result<T>) -> Result<(), Errno> {
    result.map(drop).map_err(errno)
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap())
}

fn c_path(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).unwrap()
}

fn pointer<T>(to: &T) -> usize {
    std::ptr::from_ref(to) as usize
}

fn socket(family: i32, kind: i32, protocol: i32) -> Result<(), Errno> {
    call(libc::SYS_socket, [family as usize, kind as usize, protocol as usize])
}

fn map(protection: i32) -> Result<*mut libc::c_void, Errno> {
    // SAFETY: a new mapping wherever the kernel likes.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        Err(Errno::last())
    } else {
        Ok(at)
    }
}

fn protect(at: *mut libc::c_void, protection: i32) -> Result<(), Errno> {
    // SAFETY: nothing else is in this mapping.
    Errno::result(unsafe { libc::mprotect(at, 4096, protection) }).map(drop)
}

// As cap-std does it, from a directory's descriptor; the standard library's older system calls are not needed and not allowed.
fn rename(from: &Path, to: &Path) -> Result<(), Errno> {
    renameat(AT_FDCWD, from, AT_FDCWD, to)
}

fn remove(file: &Path) -> Result<(), Errno> {
    unlinkat(AT_FDCWD, file, UnlinkatFlags::NoRemoveDir)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn send_to(socket: RawFd, flags: i32, to: SocketAddr) -> Result<(), Errno> {
    let SocketAddr::V4(to) = to else {
        return Err(Errno::EAFNOSUPPORT);
    };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*to.ip()).to_be(),
        },
        sin_zero: [0; 8],
    };
    let data = [0_u8; 1];
    call(
        libc::SYS_sendto,
        [
            socket as usize,
            data.as_ptr() as usize,
            1,
            flags as usize,
            pointer(&address),
            size_of_val(&address),
        ],
    )
}

fn tcp_socket() -> Result<RawFd, Errno> {
    // SAFETY: plain numbers.
    Errno::result(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })
}

#[rustfmt::skip]
/// All of them.
pub fn all() -> impl Iterator<Item = &'static Attempt> {
    ATTEMPTS.iter().chain(hidden::ATTEMPTS)
}

const ATTEMPTS: &[Attempt] = &[
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
    attempt("files", "times of a file outside", DENIED, |here| {
        let path = c_path(here.path("outside/file"));
        call(libc::SYS_utimensat, [libc::AT_FDCWD as usize, path.as_ptr() as usize])
    }),
    attempt("files", "reading /etc/passwd", NO_ACCESS, |_| {
        io(File::open("/etc/passwd"))
    }),
    attempt("files", "reading outside", NO_ACCESS, |here| {
        io(File::open(here.path("outside/file")))
    }),
    attempt("files", "writing outside", NO_ACCESS, |here| {
        io(OpenOptions::new().write(true).open(here.path("outside/file")))
    }),
    attempt("files", "creating outside", NO_ACCESS, |here| {
        io(File::create(here.path("outside/new")))
    }),
    attempt("files", "creating in the parent directory", NO_ACCESS, |here| {
        io(File::create(here.path("rw/../new")))
    }),
    attempt("files", "outside by ..", NO_ACCESS, |here| {
        io(OpenOptions::new().write(true).open(here.path("rw/../outside/file")))
    }),
    attempt("files", "outside by a link", NO_ACCESS, |here| {
        io(OpenOptions::new().write(true).open(here.path("rw/link")))
    }),
    attempt("files", "outside by a link to a directory", NO_ACCESS, |here| {
        io(File::create(here.path("rw/dir-link/new")))
    }),
    attempt("files", "outside by a link of its own", NO_ACCESS, |here| {
        symlinkat("/etc/passwd", AT_FDCWD, &here.path("rw/own-link"))?;
        io(File::open(here.path("rw/own-link")))
    }),
    attempt("files", "moving out", NO_ACCESS, |here| {
        fs::write(here.path("rw/moving"), "x").map_err(errno)?;
        rename(&here.path("rw/moving"), &here.path("outside/moved"))
    }),
    attempt("files", "linking in", Fails(Errno::EXDEV), |here| {
        io(fs::hard_link(here.path("outside/file"), here.path("rw/linked")))
    }),
    attempt("files", "listing outside", NO_ACCESS, |here| {
        io(fs::read_dir(here.path("outside")))
    }),
    attempt("files", "listing /", NO_ACCESS, |_| io(fs::read_dir("/"))),
    attempt("files", "removing outside", NO_ACCESS, |here| {
        remove(&here.path("outside/file"))
    }),
    attempt("files", "truncating outside", DENIED, |here| {
        let path = c_path(here.path("outside/file"));
        call(libc::SYS_truncate, [path.as_ptr() as usize, 0])
    }),
    attempt("files", "writing where it may read", NO_ACCESS, |here| {
        io(OpenOptions::new().write(true).open(here.path("ro/file")))
    }),
    attempt("files", "emptying where it may read", NO_ACCESS, |here| {
        io(OpenOptions::new().write(true).truncate(true).open(here.path("ro/file")))
    }),
    attempt("files", "creating where it may read", NO_ACCESS, |here| {
        io(File::create(here.path("ro/new")))
    }),
    attempt("files", "removing where it may read", NO_ACCESS, |here| {
        remove(&here.path("ro/file"))
    }),
    attempt("files", "an unnamed file where it may read", NO_ACCESS, |here| {
        io(OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .open(here.path("ro")))
    }),
    attempt("files", "outside by a descriptor of a path", NO_ACCESS, |here| {
        let path = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(here.path("outside/file"))
            .map_err(errno)?;
        io(File::open(format!("/proc/self/fd/{}", path.as_raw_fd())))
    }),
    attempt("files", "a named pipe", DENIED, |here| {
        let path = c_path(here.path("rw/pipe"));
        call(
            libc::SYS_mknodat,
            [
                libc::AT_FDCWD as usize,
                path.as_ptr() as usize,
                libc::S_IFIFO as usize | 0o600,
            ],
        )
    }),
    attempt("files", "another owner", DENIED, |here| {
        let path = c_path(here.path("rw/file"));
        call(
            libc::SYS_fchownat,
            [libc::AT_FDCWD as usize, path.as_ptr() as usize, 0, 0, 0],
        )
    }),
    attempt("files", "other permissions", DENIED, |here| {
        let path = c_path(here.path("rw/file"));
        call(
            libc::SYS_fchmodat,
            [libc::AT_FDCWD as usize, path.as_ptr() as usize, 0o4777],
        )
    }),
    attempt("files", "another root", DENIED, |_| {
        let path = c_path("/");
        call(libc::SYS_chroot, [path.as_ptr() as usize])
    }),
    attempt("files", "a handle", DENIED, |_| {
        call(libc::SYS_open_by_handle_at, [0, 0, 0])
    }),
    attempt("files", "notification of others' files", DENIED, |_| {
        call(libc::SYS_inotify_init1, [0])
    }),
    attempt("no grants", "reading what anybody may", NO_ACCESS, |here| {
        io(File::open(here.path("ro/file")))
    }),
    attempt("no grants", "listing what anybody may", NO_ACCESS, |here| {
        io(fs::read_dir(here.path("ro")))
    }),
    attempt("no grants", "writing where anybody may", NO_ACCESS, |here| {
        io(OpenOptions::new().write(true).open(here.path("rw/file")))
    }),
    attempt("no grants", "creating where anybody may", NO_ACCESS, |here| {
        io(File::create(here.path("rw/new")))
    }),
    attempt("no grants", "what it computes, and says on its socket", Works, |here| {
        let ours = here.pair.0.as_raw_fd();
        sendmsg::<()>(ours, &[IoSlice::new(b"said")], &[], MsgFlags::MSG_NOSIGNAL, None)?;
        let computed: Vec<u64> = (0..100_000).map(|n| n * n).collect();
        assert_eq!(computed.len(), 100_000);
        Ok(())
    }),
    attempt("sockets", "urgent data", DENIED, |here| {
        let (socket, data) = (here.pair.0.as_raw_fd() as usize, [0_u8]);
        call(
            libc::SYS_sendto,
            [socket, data.as_ptr() as usize, 1, libc::MSG_OOB as usize],
        )
    }),
    attempt("sockets", "urgent data of another", DENIED, |here| {
        let (socket, data) = (here.pair.0.as_raw_fd() as usize, [0_u8]);
        call(
            libc::SYS_recvfrom,
            [socket, data.as_ptr() as usize, 1, libc::MSG_OOB as usize],
        )
    }),
    attempt("sockets", "who is at the other end", DENIED, |here| {
        let (socket, answer, length) = (here.pair.0.as_raw_fd() as usize, [0_u8; 12], 12_u32);
        let (level, name) = (libc::SOL_SOCKET as usize, libc::SO_PEERCRED as usize);
        call(
            libc::SYS_getsockopt,
            [socket, level, name, answer.as_ptr() as usize, pointer(&length)],
        )
    }),
    attempt("sockets", "tcp", DENIED, |_| {
        socket(libc::AF_INET, libc::SOCK_STREAM, 0)
    }),
    attempt("sockets", "tcp over IPv6", DENIED, |_| {
        socket(libc::AF_INET6, libc::SOCK_STREAM, 0)
    }),
    attempt("sockets", "udp", DENIED, |_| socket(libc::AF_INET, libc::SOCK_DGRAM, 0)),
    attempt("sockets", "unix", DENIED, |_| {
        socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)
    }),
    attempt("sockets", "netlink", DENIED, |_| {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, 0)
    }),
    attempt("sockets", "raw", DENIED, |_| {
        socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
    }),
    attempt("sockets", "packet", DENIED, |_| {
        socket(libc::AF_PACKET, libc::SOCK_RAW, 0)
    }),
    attempt("sockets", "vsock", DENIED, |_| {
        socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)
    }),
    attempt("sockets", "alg", DENIED, |_| {
        socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)
    }),
    attempt("sockets", "a pair", DENIED, |_| {
        let mut pair = [0_i32; 2];
        let at = pair.as_mut_ptr() as usize;
        call(
            libc::SYS_socketpair,
            [libc::AF_UNIX as usize, libc::SOCK_STREAM as usize, 0, at],
        )
    }),
    attempt("sockets", "every family", DENIED, |_| {
        (0..64)
            .map(|family| socket(family, libc::SOCK_STREAM, 0))
            .find(|made| *made != Err(Errno::EPERM))
            .unwrap_or(Err(Errno::EPERM))
    }),
    attempt("sockets", "connect", DENIED, |here| {
        call(libc::SYS_connect, [here.pair.0.as_raw_fd() as usize])
    }),
    attempt("sockets", "bind", DENIED, |here| {
        call(libc::SYS_bind, [here.pair.0.as_raw_fd() as usize])
    }),
    attempt("sockets", "listen", DENIED, |here| {
        call(libc::SYS_listen, [here.pair.0.as_raw_fd() as usize, 1])
    }),
    attempt("sockets", "accept", DENIED, |here| {
        call(libc::SYS_accept4, [here.pair.0.as_raw_fd() as usize])
    }),
    attempt("tcp", "the granted port", Works, |here| {
        io(TcpStream::connect(loopback(here.granted_port)))
    }),
    attempt("tcp", "another port", NO_ACCESS, |here| {
        io(TcpStream::connect(loopback(here.other_port)))
    }),
    attempt("tcp", "another port by sending to it", DENIED, |here| {
        send_to(tcp_socket()?, libc::MSG_FASTOPEN, loopback(here.other_port))
    }),
    attempt("tcp", "another port by an option", DENIED, |_| {
        let (socket, on) = (tcp_socket()?, 1_i32);
        call(
            libc::SYS_setsockopt,
            [
                socket as usize,
                libc::IPPROTO_TCP as usize,
                libc::TCP_FASTOPEN_CONNECT as usize,
                pointer(&on),
                4,
            ],
        )
    }),
    attempt("tcp", "options of a client", Works, |here| {
        let stream = TcpStream::connect(loopback(here.granted_port)).map_err(errno)?;
        io(stream.set_nodelay(true))?;
        io(stream.set_nonblocking(true))?;
        io(stream.set_ttl(10))?;
        io(stream.peer_addr())?;
        io(stream.take_error())
    }),
    attempt("tcp", "listening", DENIED, |_| io(TcpListener::bind(loopback(0)))),
    attempt("tcp", "listening without a bind", DENIED, |_| {
        call(libc::SYS_listen, [tcp_socket()? as usize, 1])
    }),
    attempt("tcp", "udp", DENIED, |_| io(UdpSocket::bind(loopback(0)))),
    attempt("tcp", "a protocol like it", DENIED, |_| {
        socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)
    }),
    attempt("tcp", "sctp", DENIED, |_| {
        socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP)
    }),
    attempt("tcp", "unix", DENIED, |_| socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)),
    attempt("tcp", "raw", DENIED, |_| {
        socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP)
    }),
    attempt("tcp", "execve all the same", Killed, |_| call(libc::SYS_execve, [])),
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
    attempt("needed", "reading and writing where it may write", Works, |here| {
        let mut file = File::create(here.path("rw/new")).map_err(errno)?;
        io(file.write_all(b"x"))?;
        io(file.sync_all())?;
        io(file.set_len(10))?;
        mkdirat(AT_FDCWD, &here.path("rw/sub"), Mode::S_IRWXU)?;
        rename(&here.path("rw/new"), &here.path("rw/sub/renamed"))?;
        io(fs::read_dir(here.path("rw/sub")))?;
        remove(&here.path("rw/sub/renamed"))?;
        unlinkat(AT_FDCWD, &here.path("rw/sub"), UnlinkatFlags::RemoveDir)
    }),
    attempt("needed", "reading where it may read", Works, |here| {
        io(fs::read_dir(here.path("ro")))?;
        io(fs::read_to_string(here.path("ro/file")))
    }),
    attempt("needed", "an open file again, by its descriptor", Works, |here| {
        let path = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(here.path("ro/file"))
            .map_err(errno)?;
        io(File::open(format!("/proc/self/fd/{}", path.as_raw_fd())))
    }),
    attempt(
        "needed",
        "the async runtime: a timer, and a socket that becomes ready",
        Works,
        |here| {
            here.runtime.block_on(async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let socket = UnixDatagram::from(here.pair.1.try_clone().map_err(errno)?);
                socket.set_nonblocking(true).map_err(errno)?;
                let socket = tokio::net::UnixDatagram::from_std(socket).map_err(errno)?;
                let quiet = tokio::time::timeout(Duration::from_millis(1), socket.readable());
                assert!(quiet.await.is_err());
                sendmsg::<()>(
                    here.pair.0.as_raw_fd(),
                    &[IoSlice::new(b"ask")],
                    &[],
                    MsgFlags::MSG_NOSIGNAL,
                    None,
                )?;
                io(socket.recv(&mut [0; 8]).await)
            })
        },
    ),
    attempt("needed", "another epoll and an event", Works, |_| {
        call(libc::SYS_epoll_create1, [0])?;
        call(libc::SYS_eventfd2, [0])
    }),
    attempt("needed", "the channel", Works, |here| {
        let (ours, theirs) = (here.pair.0.as_raw_fd(), here.pair.1.as_raw_fd());
        sendmsg::<()>(ours, &[IoSlice::new(b"ask")], &[], MsgFlags::MSG_NOSIGNAL, None)?;
        let mut buffer = [0; 8];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg::<()>(theirs, &mut parts, None, MsgFlags::empty())?;
        assert_eq!(received.bytes, 3);
        Ok(())
    }),
    attempt("needed", "memory, time and chance", Works, |_| {
        let at = map(libc::PROT_NONE)?;
        protect(at, libc::PROT_READ | libc::PROT_WRITE)?;
        std::thread::sleep(Duration::from_millis(1));
        let mut random = [0_u8; 16];
        call(libc::SYS_getrandom, [random.as_mut_ptr() as usize, 16])
    }),
    attempt("needed", "reading its limits", Works, |_| {
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map(drop)
    }),
    attempt("needed", "standard input", Works, |_| {
        let mut one = [0_u8];
        io(io::stdin().read(&mut one))
    }),
    attempt("needed", "a panic that is caught", Works, |_| {
        std::panic::catch_unwind(|| panic!("with a backtrace")).unwrap_err();
        Ok(())
    }),
];
