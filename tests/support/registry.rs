//! A real OCI registry for tests: Debian's `docker-registry`, in a directory of its own, on a free loopback port.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::until;
use super::zookeeper::free_port;

/// Runs the registry until stdin, which the test holds, is closed: also when the test dies in any way.
const GUARD: &str = r#"exec 3<&0
docker-registry serve "$1" </dev/null 3<&- &
registry=$!
{ read -r _ <&3; kill -9 $registry; } 2>/dev/null &
exec 3<&-
wait $registry"#;

/// What `user` is let in by: bcrypt, the only kind that it takes.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// How a registry differs from one that lets everybody in, without TLS.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    /// Lets `user` in, with the password `secret`, and nobody else.
    pub password: bool,
    /// Serves TLS, with a certificate for 0.0.0.0 that nobody trusts.
    pub tls: bool,
}

/// A registry process. Killed when dropped.
#[derive(Debug)]
pub struct Registry {
    dir: TempDir,
    port: u16,
    guard: Child,
}

impl Registry {
    /// Starts one that lets everybody in.
    pub fn start() -> Self {
        Self::start_with(Setup::default())
    }

    /// Starts one and waits until it serves.
    pub fn start_with(setup: Setup) -> Self {
        let mut log = String::new();
        // Between choosing a port and the server's bind somebody else may take it.
        for _ in 0..5 {
            let mut registry = Self::launch(setup);
            let mut running = true;
            until("docker-registry serves or ends", || {
                running = registry.guard.try_wait().unwrap().is_none();
                !running || TcpStream::connect(("127.0.0.1", registry.port)).is_ok()
            });
            log = fs::read_to_string(registry.dir.path().join("log")).unwrap();
            // Somebody else's server would also have answered.
            if running && !log.contains("address already in use") {
                return registry;
            }
        }
        panic!("docker-registry does not start: {log}");
    }

    fn launch(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n",
            at("storage")
        );
        if setup.password {
            fs::write(at("htpasswd"), HTPASSWD).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", at("htpasswd"));
        }
        let mut tls = String::new();
        if setup.tls {
            make_certificate(dir.path());
            tls = format!(", tls: {{certificate: {}, key: {}}}", at("cert.pem"), at("key.pem"));
        }
        config += &format!("http: {{addr: \"0.0.0.0:{port}\"{tls}}}\n");
        fs::write(at("config.yml"), config).unwrap();
        let log = fs::File::create(at("log")).unwrap();
        let guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard"])
            .arg(at("config.yml"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { dir, port, guard }
    }

    /// `HOST:PORT`, where the host is of the loopback network.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The same registry by a name that is not known to be on this machine.
    pub fn far_address(&self) -> String {
        format!("0.0.0.0:{}", self.port)
    }

    /// The certificate of one with TLS.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn make_certificate(dir: &Path) {
    let output = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test".split(' '))
        .args([
            "-addext",
            "subjectAltName=IP:0.0.0.0",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
