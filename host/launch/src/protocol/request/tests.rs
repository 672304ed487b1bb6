use super::*;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use std::os::fd::AsRawFd;
use twitcher_model::Resource;

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
}

fn request(argument: usize) -> Request {
    Request {
        seq: 7,
        task: Task::Exec(vec!["echo".into(), "x".repeat(argument)]),
        env: vec![("A".into(), "b".into()), ("PATH".into(), "/bin:/x".into())],
        cwd: "/".into(),
        setup: setup(),
        may_share_memory: true,
        in_cgroup: false,
    }
}

fn setup() -> ProcessSetup {
    ProcessSetup {
        uid: Some(1),
        groups: Some(vec![1, 2]),
        limits: vec![Limit {
            resource: Resource::Core,
            soft: 0,
            hard: u64::MAX,
        }],
        ..ProcessSetup::default()
    }
}

#[test]
fn requests_for_programs_of_any_size_arrive_whole_with_their_descriptors() {
    let (ours, theirs) = pair();
    let null = File::open("/dev/null").unwrap();
    let mut page = Page::default();
    for size in [0, BODY_MAX, 5_000_000] {
        send_request(ours.as_fd(), &request(size), &[null.as_fd(); 3]).unwrap();
        let Received { head, text, fds } = page.receive(theirs.as_fd()).unwrap().unwrap().unwrap();
        assert_eq!((head.seq, head.kind, fds.len()), (7, Kind::Program, 3));
        assert!(head.may_share_memory && !head.in_cgroup);
        let text = text.read().unwrap();
        let argument = format!("{}\0", "x".repeat(size));
        assert_eq!(
            text.program().unwrap(),
            ProgramText {
                candidates: vec!["/bin/echo\0", "/x/echo\0"],
                argv: vec!["echo\0", &argument],
                env: vec!["A=b\0", "PATH=/bin:/x\0"],
                cwd: "/\0",
                setup: setup(),
            }
        );
    }
}

#[test]
fn what_the_launcher_reads_of_a_function_is_its_head() {
    use std::sync::Arc;
    use twitcher_model::Program;
    let (ours, theirs) = pair();
    let null = File::open("/dev/null").unwrap();
    let program = Program {
        file: std::path::Path::new("/f").into(),
        source: "a secret".into(),
        loads: vec![],
    };
    let action = FunctionAction {
        program: Arc::new(program),
        call: 3,
    };
    let request = Request {
        task: Task::Function(action.clone()),
        ..request(0)
    };
    send_request(ours.as_fd(), &request, &[null.as_fd(); 3]).unwrap();
    let mut page = Page::default();
    let received = page.receive(theirs.as_fd()).unwrap().unwrap().unwrap();
    assert_eq!(received.fds.len(), 3);
    assert!(matches!(received.text, Text::File(_)), "{:?}", received.text);
    let own = received.text.read().unwrap().own().unwrap();
    assert_eq!(own.task, OwnTask::Function(action));
    assert_eq!((own.env, own.cwd, own.setup), (request.env, request.cwd, request.setup));
    assert!(!page.0.windows(6).any(|bytes| bytes == b"secret"));
}

#[test]
fn a_page_holds_nothing_once_it_is_wiped() {
    let (ours, theirs) = pair();
    let null = File::open("/dev/null").unwrap();
    let mut page = Page::default();
    send_request(ours.as_fd(), &request(100), &[null.as_fd(); 3]).unwrap();
    page.receive(theirs.as_fd()).unwrap().unwrap().unwrap();
    assert!(page.0.contains(&b'x'));
    page.wipe();
    assert_eq!(*page.0, [0; BODY_MAX]);
}

#[test]
fn garbage_is_refused_but_answerable() {
    let (ours, theirs) = pair();
    let null = File::open("/dev/null").unwrap();
    let mut page = Page::default();
    let mut refused = || page.receive(theirs.as_fd()).unwrap().unwrap().unwrap_err();
    for (body, seq) in [(&b"\x05"[..], 5), (b"\x05\xff\xff\xff\xff", 5), (&[0xff; 2_000], 0)] {
        send(ours.as_fd(), body, &[]).unwrap();
        assert_eq!(refused(), seq);
    }
    let long = [1; BODY_MAX + 1];
    nix::sys::socket::send(ours.as_raw_fd(), &long, MsgFlags::empty()).unwrap();
    assert_eq!(refused(), 1, "a cut message");
    let head = |kind, in_file| {
        let head = Head {
            seq: 7,
            kind,
            may_share_memory: false,
            in_cgroup: false,
            in_file,
        };
        postcard::to_stdvec(&head).unwrap()
    };
    // Without its descriptors; with a text that the launcher would have to read, and is not to.
    for (kind, count) in [(Kind::Program, 0), (Kind::Function, 3)] {
        send(ours.as_fd(), &head(kind, false), &vec![null.as_fd(); count]).unwrap();
        assert_eq!(refused(), 7, "{kind:?}");
    }
    // With one that could change while it is read.
    send(ours.as_fd(), &head(Kind::Function, true), &[null.as_fd(); 4]).unwrap();
    let received = page.receive(theirs.as_fd()).unwrap().unwrap().unwrap();
    assert!(received.text.read().is_err());
    drop(ours);
    assert!(page.receive(theirs.as_fd()).unwrap().is_none(), "the end of the stream");
}

#[test]
fn a_program_without_a_slash_is_looked_up_but_never_in_the_working_directory() {
    assert_eq!(candidates("ls", "/a::/b:"), ["/a/ls\0", "/b/ls\0"]);
    assert_eq!(candidates("./ls", "/a"), ["./ls\0"]);
    assert_eq!(candidates("/bin/ls", ""), ["/bin/ls\0"]);
}
