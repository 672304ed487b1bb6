//! What has to work.

use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, Read, Write, stdin};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::fcntl::AT_FDCWD;
use nix::sys::socket::{MsgFlags, recvmsg, sendmsg};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Attempt, attempt, call, errno, io, map, protect, remove, rename};
use crate::Expected::Works;

pub const ATTEMPTS: &[Attempt] = &[
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
        io(stdin().read(&mut one))
    }),
    attempt("needed", "a panic that is caught", Works, |_| {
        std::panic::catch_unwind(|| panic!("with a backtrace")).unwrap_err();
        Ok(())
    }),
];
