//! The log of a daemon: a small pipe, and a thread that reads it into a file, and that can be told to stop reading as a terminal does
//! whose user has pressed Ctrl-S, or a log shipper that hangs.
//!
//! The pipe outlives the daemon: the next one finds it as the last one left it.

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use nix::fcntl::{FcntlArg, fcntl};

use crate::support::until;

use super::watches::HEALTHY;

/// What the pipe has room for: the least there is, so that it is full soon.
const ROOM: i32 = 4096;

#[derive(Debug, Default)]
struct State {
    /// Nothing is to be read.
    stalled: bool,
    /// Nothing is being read.
    stopped: bool,
    /// The last line about the end of a run of the healthy watch.
    told: String,
}

#[derive(Debug, Default)]
struct Reader {
    state: Mutex<State>,
    go_on: Condvar,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Log {
    pipe: PipeWriter,
    reader: Arc<Reader>,
}

impl Log {
    /// Appends to the file what comes.
    pub fn start(path: &Path) -> Self {
        let (read, write) = pipe().unwrap();
        fcntl(&write, FcntlArg::F_SETPIPE_SZ(ROOM)).unwrap();
        let file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        let reader = Arc::<Reader>::default();
        let its = Arc::clone(&reader);
        thread::spawn(move || its.read(read, file));
        Self { pipe: write, reader }
    }

    /// Where a daemon writes to.
    pub fn destination(&self) -> Stdio {
        self.pipe.try_clone().unwrap().into()
    }

    /// Stops reading, and fills the pipe: whoever writes now waits.
    pub fn stall(&self) {
        self.reader.state.lock().unwrap().stalled = true;
        // Opened anew, so that it is not the daemons' end that does not wait.
        let mut filler = OpenOptions::new()
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(format!("/proc/self/fd/{}", self.pipe.as_raw_fd()))
            .unwrap();
        until("the log's reader has stopped, and its pipe is full", || {
            while filler.write(b"\n").is_ok() {}
            self.reader.state.lock().unwrap().stopped
        });
    }

    /// Reads on.
    pub fn go_on(&self) {
        self.reader.state.lock().unwrap().stalled = false;
        self.reader.go_on.notify_all();
    }

    /// The last line about the end of a run of the healthy watch.
    pub fn told(&self) -> String {
        self.reader.state.lock().unwrap().told.clone()
    }
}

impl Reader {
    /// Until nobody has the other end any more.
    fn read(&self, mut pipe: PipeReader, mut file: File) {
        let mut block = [0; 1 << 16];
        let mut rest = Vec::new();
        while let Ok(size @ 1..) = pipe.read(&mut block) {
            rest.extend_from_slice(&block[..size]);
            let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            for line in rest[..whole].split_inclusive(|byte| *byte == b'\n') {
                // Empty ones fill the pipe.
                if line.len() > 1 {
                    file.write_all(line).unwrap();
                    self.note(line);
                }
            }
            rest.drain(..whole);
            self.wait();
        }
    }

    fn note(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        if line.contains("run ended") && line.contains(HEALTHY) {
            self.state.lock().unwrap().told = line.into_owned();
        }
    }

    fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        while state.stalled {
            state.stopped = true;
            state = self.go_on.wait(state).unwrap();
        }
        state.stopped = false;
    }
}
