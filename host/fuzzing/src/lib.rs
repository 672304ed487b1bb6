//! What is fuzzed, as functions of bytes: they may do anything but panic. `tests/fuzz` calls them with what a fuzzer makes up, the tests
//! here with what it found and kept, and with mutations of that. No other crate may use this one.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};

use twitcher_bundle::{BundleReader, sign_again};
pub use twitcher_config::fuzzing::{json, twc};
use twitcher_interfaces::{imports, interfaces};
use twitcher_ipc::frames::Frames;
use twitcher_ipc::memfd;
use twitcher_launch::protocol::{Page, Text, receive_reply, receive_setup};
use twitcher_sandbox::channel::{FORMAT, FromAction, ToAction};
use twitcher_sandbox::compile::compile;

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

/// A bundle: of what is accepted there is one form.
pub fn bundle(bytes: &[u8]) {
    let Ok(reader) = BundleReader::open(bytes) else { return };
    let signature = reader.signature().cloned();
    if let Ok(packed) = sign_again(reader, signature.as_ref(), Vec::new()) {
        assert_eq!(packed, bytes);
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

/// The launcher reads the head and, of a program, the text; the text of others is read by the process that it is for.
fn request(message: &[u8]) {
    let null = File::open("/dev/null").expect("there is one everywhere");
    for count in [3, 4, 5, 6] {
        let fds = vec![null.as_raw_fd(); count];
        let mut page = Page::default();
        let Ok(Some(Ok(received))) = sent(message, &fds, |socket| page.receive(socket)) else {
            continue;
        };
        if let Ok(text) = received.text.read() {
            drop(text.program());
        }
    }
    if let Ok(file) = memfd::sealed(c"request", message) {
        let text = Text::File(file).read().expect("it is sealed");
        drop(text.program());
        drop(text.own());
    }
}

fn frames<T: serde::de::DeserializeOwned + serde::Serialize>(bytes: &[u8]) {
    let mut frames = Frames::new(FORMAT);
    // In pieces, as they come.
    for piece in bytes.chunks(7) {
        frames.push(piece);
        while let Ok(Some(message)) = frames.take::<T>() {
            drop(FORMAT.frame(&message));
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
    use std::time::{Duration, Instant};

    /// How many mutations of each corpus are tried, always the same ones, so that no build fails by chance. `TWITCHER_FUZZ_SECONDS` asks
    /// for that long instead, and for others each time.
    const MUTATIONS: usize = 3_000;

    fn text(target: fn(&str)) -> impl Fn(&[u8]) {
        move |bytes| target(&String::from_utf8_lossy(bytes))
    }

    /// Every file of a corpus, then mutations of them.
    fn try_all(name: &str, target: impl Fn(&[u8])) {
        let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus")).join(name);
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut corpus: Vec<_> = files.map(|path| (path.clone(), fs::read(&path).unwrap())).collect();
        // Directories are listed in any order.
        corpus.sort();
        assert!(corpus.len() >= 5, "{} files for {name}", corpus.len());
        for (path, bytes) in &corpus {
            println!("{}", path.display());
            target(bytes);
        }
        let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        let end = number("TWITCHER_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let seed = number("TWITCHER_SEED").unwrap_or_else(|| end.map_or(1, |_| fastrand::u64(..)));
        let mut random = fastrand::Rng::with_seed(seed);
        let mut tried = 0;
        while end.map_or(tried < MUTATIONS, |end| Instant::now() < end) {
            let mut bytes = corpus[random.usize(..corpus.len())].1.clone();
            for _ in 0..random.u32(1..6) {
                mutate(&mut bytes, &corpus[random.usize(..corpus.len())].1, &mut random);
            }
            // Said before: a panic shows what was tried last.
            println!("seed {seed}, mutation {tried}: {:?}", String::from_utf8_lossy(&bytes));
            target(&bytes);
            tried += 1;
        }
        eprintln!("{name}: {tried} mutations");
    }

    fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut fastrand::Rng) {
        let at = random.usize(..=bytes.len());
        let to = random.usize(at..=bytes.len().min(at + 16));
        match random.u32(..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u32(..8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'(', b'\n'][random.usize(..8)],
            2 => drop(bytes.drain(at..to)),
            3 => bytes.truncate(at),
            4 => {
                let repeated = bytes[at..to].to_vec();
                bytes.splice(at..at, repeated);
            }
            _ => {
                let from = random.usize(..=other.len());
                let piece = &other[from..random.usize(from..=other.len().min(from + 64))];
                bytes.splice(at..to, piece.iter().copied());
            }
        }
    }

    #[test]
    fn twc_files() {
        try_all("twc", text(super::twc));
    }

    #[test]
    fn json_files() {
        try_all("json", text(super::json));
    }

    #[test]
    fn messages() {
        try_all("wire", super::wire);
    }

    #[test]
    fn components() {
        try_all("component", super::component);
    }

    #[test]
    fn bundles() {
        try_all("bundle", super::bundle);
    }
}
