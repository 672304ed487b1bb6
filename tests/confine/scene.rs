//! Where attempts are made: directories, a listening socket, and the process that is confined.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{Signal, raise};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, fork, getppid, pipe, read, setgroups, setresgid, setresuid, write};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use twitcher_confine::helper::{Resources, Work, give_up_rights, give_up_system_calls};
use twitcher_confine::namespaces::{self, Namespaces};
use twitcher_confine::{Applied, Confinement, Dir, Filters};

use crate::attempts;

const NOBODY: u32 = 65534;
/// Exit codes above are none of an errno, and 101 is a panic's.
const SUCCEEDED: i32 = 200;
const NOT_CONFINED: i32 = 201;

/// Who makes an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    Root,
    Nobody,
    Unchanged,
}

/// What is between who makes an attempt and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wall {
    /// Nothing.
    None,
    /// What a component's process has where there are no namespaces.
    Component,
    /// What it has where there are.
    Namespaces,
    /// What the helpers have that evaluate, compile, and call a component's check.
    Evaluator,
    Compiler,
    Judge,
}

const WALLS: [Wall; 6] = [
    Wall::None,
    Wall::Component,
    Wall::Namespaces,
    Wall::Evaluator,
    Wall::Compiler,
    Wall::Judge,
];

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Succeeded,
    Failed(Errno),
    Killed(Signal),
    Broken(String),
}

/// What surrounds the confined process. Everything in it is writable by anyone, so that it is the sandbox that says no.
pub struct Scene {
    dir: TempDir,
    granted: TcpListener,
    not_granted: TcpListener,
}

const CONTENT: &str = "as it was";

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let anyone = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        anyone(dir.path(), 0o777);
        for name in ["rw", "ro", "outside"] {
            let sub = dir.path().join(name);
            fs::create_dir(&sub).unwrap();
            anyone(&sub, 0o777);
            fs::write(sub.join("file"), CONTENT).unwrap();
            anyone(&sub.join("file"), 0o666);
        }
        symlink("../outside/file", dir.path().join("rw/link")).unwrap();
        symlink("../outside", dir.path().join("rw/dir-link")).unwrap();
        Self {
            dir,
            granted: TcpListener::bind("127.0.0.1:0").unwrap(),
            not_granted: TcpListener::bind("127.0.0.1:0").unwrap(),
        }
    }

    /// Runs this test program again, to make one attempt.
    pub fn attempt(&self, name: &str, user: User, wall: Wall) -> End {
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port().to_string();
        let output = Command::new(env::current_exe().unwrap())
            // One thread: the test then runs in the main one, and the process is like a component's.
            .args(["attempt", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env("CONFINE_ATTEMPT", name)
            .env("CONFINE_SCENE", self.dir.path())
            .env("CONFINE_WALL", format!("{wall:?}"))
            .env("CONFINE_USER", format!("{user:?}"))
            .env("CONFINE_PORT", port(&self.granted))
            .env("CONFINE_OTHER_PORT", port(&self.not_granted))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        match (output.status.code(), output.status.signal()) {
            (Some(SUCCEEDED), _) => End::Succeeded,
            (Some(code @ 1..100), _) => End::Failed(Errno::from_raw(code)),
            (None, Some(signal)) => End::Killed(Signal::try_from(signal).unwrap()),
            _ => End::Broken(format!(
                "{}\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    }

    /// Whatever was tried, nothing outside the writable directory has changed.
    pub fn assert_untouched(&self) {
        for name in ["ro/file", "outside/file"] {
            assert_eq!(
                fs::read_to_string(self.dir.path().join(name)).unwrap(),
                CONTENT,
                "{name}"
            );
        }
        for name in ["ro", "outside"] {
            let entries = fs::read_dir(self.dir.path().join(name)).unwrap().count();
            assert_eq!(entries, 1, "{name}");
        }
    }
}

/// What an attempt knows of where it is.
pub struct Here {
    pub root: PathBuf,
    pub parent: i32,
    pub granted_port: u16,
    pub other_port: u16,
    /// A connected pair of sockets from before.
    pub pair: (OwnedFd, OwnedFd),
    /// A runtime as a component has, also from before.
    pub runtime: Runtime,
    /// The writable directory.
    pub rw: OwnedFd,
}

impl Here {
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

/// The harness runs even a single test in a thread of its own, and the root of a process with threads cannot become another.
fn go_on_as_child() {
    // SAFETY: the child makes attempts and ends; no lock that the harness's other thread may hold is of use to it.
    if let ForkResult::Parent { child } = unsafe { fork() }.unwrap() {
        let code = match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => {
                raise(signal).unwrap();
                NOT_CONFINED
            }
            _ => NOT_CONFINED,
        };
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code) }
    }
}

/// Made by another process, as the launcher has it done; it waits for this one to have opened them.
fn empty_namespaces() -> Namespaces {
    let (made, tell) = pipe().unwrap();
    let (hold, go) = pipe().unwrap();
    // SAFETY: this process has one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(go);
            let failed = Namespaces::make().is_err();
            write(&tell, &[u8::from(failed)]).unwrap();
            read(&hold, &mut [0]).unwrap();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            let mut failed = [1];
            read(&made, &mut failed).unwrap();
            assert_eq!(failed, [0], "no namespaces");
            let open =
                ["mnt", "net", "ipc"].map(|name| fs::File::open(format!("/proc/{child}/ns/{name}")).unwrap().into());
            drop(go);
            waitpid(child, None).unwrap();
            Namespaces::received(open.into()).unwrap()
        }
    }
}

fn become_helper(work: Work) -> Result<(), Box<dyn std::error::Error>> {
    give_up_rights(Resources {
        memory: None,
        cpu: 60,
        files: 64,
        file_size: 1 << 20,
        tasks: Some(64),
    })?;
    Ok(give_up_system_calls(work)?)
}

/// Confines this process as its environment says, and makes the attempt. Does not return.
pub fn attempt_here() {
    let Ok(name) = env::var("CONFINE_ATTEMPT") else { return };
    let attempt = attempts::all().find(|attempt| attempt.name == name).unwrap();
    let port = |name| env::var(name).unwrap().parse().unwrap();
    let wall = env::var("CONFINE_WALL").unwrap();
    let wall = WALLS.into_iter().find(|known| format!("{known:?}") == wall).unwrap();
    let root = PathBuf::from(env::var_os("CONFINE_SCENE").unwrap());
    if wall == Wall::Namespaces {
        go_on_as_child();
    }
    let namespaces = (wall == Wall::Namespaces).then(empty_namespaces);
    if namespaces.is_some() {
        namespaces::keep_capabilities().unwrap();
    }
    if env::var("CONFINE_USER").unwrap() == "Nobody" {
        setgroups(&[]).unwrap();
        setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(NOBODY)).unwrap();
        setresuid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY)).unwrap();
        if namespaces.is_some() {
            namespaces::keep_needed().unwrap();
        }
    }
    let open_path = |name| {
        let dir = open(&root.join(name), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        match namespaces {
            Some(_) => namespaces::own_mount(dir.as_fd()).unwrap(),
            None => dir,
        }
    };
    let (rw, ro) = (open_path("rw"), open_path("ro"));
    let here = Here {
        rw: rw.try_clone().unwrap(),
        root,
        parent: getppid().as_raw(),
        granted_port: port("CONFINE_PORT"),
        other_port: port("CONFINE_OTHER_PORT"),
        pair: socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap(),
        runtime: Builder::new_current_thread().enable_all().build().unwrap(),
    };
    let dirs = [
        Dir {
            fd: rw.as_fd(),
            writable: true,
        },
        Dir {
            fd: ro.as_fd(),
            writable: false,
        },
    ];
    let confinement = Confinement {
        dirs: &dirs,
        tcp_ports: if attempt.group == "tcp" {
            &[here.granted_port]
        } else {
            &[]
        },
        namespaces: namespaces.as_ref(),
    };
    let applied: Result<_, Box<dyn std::error::Error>> = match wall {
        Wall::None => Ok(None),
        Wall::Component | Wall::Namespaces => confinement
            .apply(&Filters::compile().unwrap())
            .map(Some)
            .map_err(Into::into),
        Wall::Evaluator => become_helper(Work::Interpreting).map(|()| None),
        Wall::Compiler => become_helper(Work::Compiling).map(|()| None),
        Wall::Judge => become_helper(Work::Running).map(|()| None),
    };
    let enough = |applied: Applied| applied.landlock.is_some_and(|abi| abi >= 4);
    let code = match applied {
        Ok(applied) if applied.is_none_or(enough) => match (attempt.run)(&here) {
            Ok(()) => SUCCEEDED,
            Err(errno) => errno as i32,
        },
        // Half of what is tried here is for Landlock to deny: a kernel without it cannot pass, and must not seem to.
        other => {
            eprintln!("{other:?}");
            NOT_CONFINED
        }
    };
    // SAFETY: ends the process at once; libtest's own end would need more than is allowed.
    unsafe { libc::_exit(code) }
}
