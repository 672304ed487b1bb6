//! What is fuzzed, as functions of bytes: they may do anything but panic. `tests/fuzz` calls them with what a fuzzer makes up, the tests
//! here with what it found and kept.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};

pub use crate::config::fuzzing::{json, twc};
use crate::launch::wire::{receive_reply, receive_request, receive_setup, send_request};
use crate::plugin::inspect::{imports, interfaces};
use crate::sandbox::channel::{Frames, FromAction, ToAction, frame};
use crate::sandbox::compile::compile;

/// A message to or from the launcher, or the bytes of a component's channel; the first byte says which.
pub fn wire(bytes: &[u8]) {
    let Some((which, message)) = bytes.split_first() else {
        return;
    };
    match which % 5 {
        0 => request(message),
        1 => drop(sent(message, &[], receive_reply)),
        2 => drop(sent(message, &[], receive_setup)),
        3 => frames::<FromAction>(message),
        _ => frames::<ToAction>(message),
    }
}

/// A component, or what claims to be one.
pub fn component(bytes: &[u8]) {
    drop(interfaces(bytes));
    drop(imports(bytes));
    if let Ok(compiled) = compile(bytes, None) {
        assert!(!compiled.native.is_empty());
    }
}

/// What is accepted means the same when it is sent again.
fn request(message: &[u8]) {
    let null = File::open("/dev/null").expect("there is one everywhere");
    for count in [3, 5] {
        let fds = vec![null.as_raw_fd(); count];
        let Ok(Some(received)) = sent(message, &fds, receive_request) else {
            return;
        };
        assert_eq!(received.fds.len(), count);
        let Ok(request) = received.message else { continue };
        let (ours, theirs) = pair();
        send_request(ours.as_fd(), &request, &vec![null.as_fd(); count]).expect("it was accepted");
        let again = receive_request(theirs.as_fd())
            .expect("it was sent")
            .expect("it was sent");
        assert_eq!(again.message, Ok(request));
    }
}

fn frames<T: serde::de::DeserializeOwned + serde::Serialize>(bytes: &[u8]) {
    let mut frames = Frames::default();
    // In pieces, as they come.
    for piece in bytes.chunks(7) {
        frames.push(piece);
        while let Ok(Some(message)) = frames.take::<T>() {
            drop(frame(&message));
        }
    }
}

fn sent<T>(message: &[u8], fds: &[RawFd], receive: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
    let (ours, theirs) = pair();
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    sendmsg::<()>(
        ours.as_raw_fd(),
        &[IoSlice::new(message)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    drop(ours);
    receive(theirs.as_fd())
}

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("two descriptors are free")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus")).join(name);
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> = files.map(|path| (path.clone(), fs::read(&path).unwrap())).collect();
        assert!(files.len() >= 5, "{} files for {name}", files.len());
        files
    }

    #[test]
    fn the_corpora_are_taken_without_a_panic() {
        for (path, bytes) in corpus("twc") {
            println!("{}", path.display());
            super::twc(&String::from_utf8_lossy(&bytes));
        }
        for (path, bytes) in corpus("json") {
            println!("{}", path.display());
            super::json(&String::from_utf8_lossy(&bytes));
        }
        for (path, bytes) in corpus("wire") {
            println!("{}", path.display());
            super::wire(&bytes);
        }
        for (path, bytes) in corpus("component") {
            println!("{}", path.display());
            super::component(&bytes);
        }
    }
}
