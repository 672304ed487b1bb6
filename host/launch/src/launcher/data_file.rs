//! Writing a data file, in a process that has the rights of the watch's user and no others.

use std::ffi::c_int;
use std::io::{self, Write};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use twitcher_files::links::PathError;
use twitcher_files::placed::place;

/// Puts what is on stdin into the file. Gives the exit code: 0, or the number of the error.
pub(crate) fn write(path: &Path) -> c_int {
    // Should the daemon be killed, the next one writes what is newest by then, and this must not come after it.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let failed = match place(path, geteuid(), &mut io::stdin().lock()) {
        Ok(()) => return 0,
        Err(failed) => failed,
    };
    let errno = match &failed {
        PathError::Link { .. } | PathError::Planted { .. } => Errno::EPERM as c_int,
        PathError::NoReader(_) => Errno::ENXIO as c_int,
        PathError::Io(error) => error.raw_os_error().unwrap_or(Errno::EIO as c_int),
    };
    if matches!(failed, PathError::Link { .. } | PathError::Planted { .. }) {
        // The number alone would not say which.
        let _ = writeln!(io::stderr(), "{failed}");
    }
    errno
}
