//! Taking the addresses to listen on, before the daemon has threads or goes into the background: what fails, fails where it is seen.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::socket::{Backlog, getsockopt, listen, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, fchownat, geteuid};

use super::disclosure::Shown;
use twitcher_files::links;
use twitcher_files::pid_file::{Pidfile, PidfileError};

/// Its members are operators.
pub const GROUP: &str = "twitcher";
/// Where operators look for the socket.
pub const SOCKET: &str = "/run/twitcher/control.sock";

/// Why the control interface is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another daemon is there.
    #[error("the control socket is another daemon's: {0}; choose another with --control")]
    Taken(PidfileError),
    /// Whether another daemon is there cannot be told.
    #[error("cannot lock the control socket by {}: {source}; choose another with --control", path.display())]
    Lock {
        /// The file that is locked.
        path: PathBuf,
        /// The error of opening, locking or writing it.
        source: io::Error,
    },
    /// Somebody listens there who is no daemon of this kind.
    #[error("the control socket {} is in use{}; choose another with --control", path.display(), pid.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    InUse {
        /// The socket.
        path: PathBuf,
        /// Who listens, if the kernel says so.
        pid: Option<i32>,
    },
    /// There is something else.
    #[error("{} is not a socket; choose another path with --control", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {step} {}: {source}", path.display())]
    Socket {
        /// What was attempted.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}; choose another with --http")]
    Address {
        /// The address as given.
        address: String,
        /// The error of the system call.
        source: io::Error,
    },
}

/// What is listened on.
#[derive(Debug)]
pub struct Listeners {
    pub(super) socket: Option<Socket>,
    pub(super) http: Option<Http>,
}

/// A Unix socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    /// Whose members may connect, beside root; none if there is no such group.
    pub(super) group: Option<Gid>,
    /// Kept locked: tells a socket that was left behind from one that is in use without a doubt.
    lock: Pidfile,
}

/// A TCP port.
#[derive(Debug)]
pub struct Http {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    /// By which name it was asked for, if by any.
    pub(super) name: Option<String>,
    /// What whoever reaches it is shown.
    pub(super) shown: Shown,
}

impl Listeners {
    /// Listens on nothing.
    pub fn none() -> Self {
        Self {
            socket: None,
            http: None,
        }
    }

    /// Listens on a TCP port as well, and shows so much to whoever reaches it.
    ///
    /// # Errors
    /// [`ListenError::Address`].
    pub fn add_http(&mut self, address: &str, shown: Shown) -> Result<(), ListenError> {
        let at = |source| ListenError::Address {
            address: address.to_owned(),
            source,
        };
        let listener = TcpListener::bind(address).map_err(at)?;
        let name = address.rsplit_once(':').map(|(host, _)| host.to_owned());
        self.http = Some(Http {
            address: listener.local_addr().map_err(at)?,
            name: name.filter(|name| name.parse::<std::net::IpAddr>().is_err() && !name.starts_with('[')),
            listener,
            shown,
        });
        Ok(())
    }

    /// Listens on a Unix socket as well. One that a dead daemon left behind is replaced. To be called while there is one thread.
    ///
    /// # Errors
    /// All but [`ListenError::Address`].
    pub fn add_socket(&mut self, path: &Path) -> Result<(), ListenError> {
        self.socket = Some(Socket::bind(path)?);
        Ok(())
    }

    /// After going into the background: this is the process that a client sees at the other end from now on.
    pub fn moved(&mut self) {
        if let Some(socket) = &mut self.socket {
            // Neither can fail for a socket that listens already and a file that is locked; only the name of the process is at stake.
            let _ = listen(&socket.listener, Backlog::MAXCONN);
            let _ = socket.lock.write();
        }
    }
}

impl From<PidfileError> for ListenError {
    fn from(error: PidfileError) -> Self {
        match error {
            PidfileError::Io { path, source } => Self::Lock { path, source },
            error @ PidfileError::Locked { .. } => Self::Taken(error),
        }
    }
}

impl Socket {
    fn bind(path: &Path) -> Result<Self, ListenError> {
        let at = |step, source| ListenError::Socket {
            step,
            path: path.to_owned(),
            source,
        };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|error| at("make the directory of the control socket", error))?;
        }
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let mut lock = Pidfile::lock(Path::new(&lock_path))?;
        lock.write()?;
        clear(path)?;
        // Between its creation and its owner's change nobody else may connect.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound.map_err(|error| at("make the control socket", error))?;
        let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid);
        open_to_group(path, group).map_err(|error| at("set the mode of the control socket", error))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            group,
            lock,
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Still locked, so it is ours to remove.
        let _ = fs::remove_file(&self.path);
    }
}

/// Lets a group in, if there is one. Where others can write to the directory, something else may be at the path by now.
fn open_to_group(path: &Path, group: Option<Gid>) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let dir = links::open_dir(dir, geteuid())?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let socket = openat(&dir, path.file_name().unwrap_or_default(), flags, Mode::empty())?;
    let found = fs::File::from(socket.try_clone()?).metadata()?;
    if !found.file_type().is_socket() || found.uid() != geteuid().as_raw() || found.nlink() != 1 {
        return Err(io::Error::other(
            "another file was put in its place; choose a directory that only root writes to",
        ));
    }
    if let Some(group) = group {
        // A daemon that is not root may not be allowed to; then it is for its own user alone.
        let _ = fchownat(&socket, "", None, Some(group), AtFlags::AT_EMPTY_PATH);
    }
    // What is open in this way has its mode changed by this name only.
    let opened = format!("/proc/self/fd/{}", socket.as_raw_fd());
    fs::set_permissions(opened, fs::Permissions::from_mode(0o660))
}

/// Removes a socket that nobody listens on.
fn clear(path: &Path) -> Result<(), ListenError> {
    let at = |step, source| ListenError::Socket {
        step,
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("look at the control socket", error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NoSocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(stream) => {
            let pid = getsockopt(&stream, sockopt::PeerCredentials)
                .ok()
                .map(|peer| peer.pid());
            Err(ListenError::InUse {
                path: path.to_owned(),
                pid,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| at("remove the old control socket", error))
        }
        Err(error) => Err(at("look at the control socket", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(path: &Path) -> Result<Listeners, ListenError> {
        let mut listeners = Listeners::none();
        listeners.add_socket(path).map(|()| listeners)
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control.sock");
        let first = socket(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let second = socket(&path).unwrap_err().to_string();
        assert!(second.contains(&format!("pid {}", std::process::id())), "{second}");
        drop(first);
        assert!(!path.exists());

        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a crash leaves it behind");
        drop(socket(&path).unwrap());

        let foreign = UnixListener::bind(&path).unwrap();
        let refused = socket(&path).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        drop(foreign);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(matches!(socket(&path), Err(ListenError::NoSocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_file_that_was_put_in_the_place_of_the_socket_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (path, secret) = (dir.path().join("control.sock"), dir.path().join("secret"));
        fs::write(&secret, "").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        let error = open_to_group(&path, Some(Gid::from_raw(4711))).unwrap_err().to_string();
        assert!(error.contains("another file"), "{error}");
        let metadata = fs::metadata(&secret).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.gid() == 4711), (0o600, false));
    }

    #[test]
    fn a_lock_that_cannot_be_had_is_not_said_to_be_another_daemon_s() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        fs::create_dir(dir.path().join("control.sock.lock")).unwrap();
        let error = socket(&path).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot lock the control socket by ") && !error.contains("another daemon"),
            "{error}"
        );
    }

    #[test]
    fn of_an_address_the_name_is_kept() {
        let name = |address: &str| {
            let mut listeners = Listeners::none();
            listeners.add_http(address, Shown::Outline).unwrap();
            listeners.http.unwrap().name
        };
        assert_eq!(name("127.0.0.1:0"), None);
        assert_eq!(name("localhost:0").as_deref(), Some("localhost"));
        assert!(Listeners::none().add_http("127.0.0.1:99999", Shown::Outline).is_err());
        assert!(Listeners::none().add_http("127.0.0.1", Shown::Outline).is_err());
    }
}
