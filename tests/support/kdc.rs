//! A real Kerberos realm for tests: Debian's KDC, in a directory of its own, on a free loopback port.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::zookeeper::{GUARD, free_port};

/// The realm `TEST`, whose KDC is killed when dropped, and also when the test process dies in any way.
#[derive(Debug)]
pub struct Realm {
    dir: TempDir,
    port: u16,
    kdc: Option<(Child, Pid)>,
}

/// What a realm takes.
const PROGRAMS: [&str; 3] = ["krb5kdc", "kdb5_util", "kadmin.local"];

impl Realm {
    /// Why there can be none, if so: the library alone, with which the program is built, brings no KDC.
    pub fn can_start() -> Result<(), String> {
        let missing = PROGRAMS.map(program).into_iter().find(|path| !path.exists());
        match missing {
            Some(path) => Err(format!(
                "there is no {}; apt install krb5-kdc krb5-admin-server",
                path.display()
            )),
            None => Ok(()),
        }
    }

    /// A realm with these principals, each with a keytab of its own; see [`Realm::keytab`]. Tickets are good for `life`.
    pub fn start(principals: &[&str], life: Duration) -> Self {
        let mut realm = Self {
            dir: tempfile::tempdir().unwrap(),
            port: free_port(),
            kdc: None,
        };
        let dir = realm.dir.path().display();
        let port = realm.port;
        // No clock skew: a ticket that is over is over.
        fs::write(
            realm.config(),
            format!(
                "[libdefaults]\ndefault_realm = TEST\ndns_lookup_kdc = false\ndns_canonicalize_hostname = false\nrdns = false\n\
                 clockskew = 1\nudp_preference_limit = 1\nkdc_timeout = 2s\nmax_retries = 1\n\
                 [realms]\nTEST = {{\nkdc = 127.0.0.1:{port}\n}}\n"
            ),
        )
        .unwrap();
        fs::write(
            realm.dir.path().join("kdc.conf"),
            format!(
                "[realms]\nTEST = {{\ndatabase_name = {dir}/db\nkey_stash_file = {dir}/stash\nacl_file = {dir}/acl\n\
                 kdc_listen = \"\"\nkdc_tcp_listen = 127.0.0.1:{port}\nmax_life = {}s\n}}\n",
                life.as_secs()
            ),
        )
        .unwrap();
        realm.command("kdb5_util", &["create", "-s", "-r", "TEST", "-P", "master"]);
        for principal in principals {
            realm.command("kadmin.local", &["-q", &format!("addprinc -randkey {principal}")]);
            let keytab = realm.keytab(principal);
            realm.command(
                "kadmin.local",
                &["-q", &format!("ktadd -k {} {principal}", keytab.display())],
            );
        }
        realm.launch();
        realm
    }

    /// Where the library learns of the realm (`KRB5_CONFIG`).
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("krb5.conf")
    }

    /// The keys of a principal.
    pub fn keytab(&self, principal: &str) -> PathBuf {
        self.dir.path().join(format!("{}.keytab", principal.replace('/', "-")))
    }

    /// `kill -9` of the KDC.
    pub fn kill(&mut self) {
        if let Some((mut guard, kdc)) = self.kdc.take() {
            let _ = kill(kdc, Signal::SIGKILL);
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }

    /// Starts the KDC, again if it was killed, and waits until it answers.
    pub fn launch(&mut self) {
        let mut guard = Command::new("/bin/sh");
        guard
            .args(["-c", GUARD, "guard", "/usr/sbin/krb5kdc", "-n"])
            .env("KRB5_CONFIG", self.config())
            .env("KRB5_KDC_PROFILE", self.dir.path().join("kdc.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.dir.path().join("kdc.log")).unwrap());
        let mut guard = guard.spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(guard.stdout.take().unwrap())
            .read_line(&mut pid)
            .unwrap();
        self.kdc = Some((guard, Pid::from_raw(pid.trim().parse().unwrap())));
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || fs::read_to_string(self.dir.path().join("kdc.log")).unwrap_or_default();
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "the KDC does not answer: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn command(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(self::program(program))
            .args(arguments)
            .env("KRB5_CONFIG", self.config())
            .env("KRB5_KDC_PROFILE", self.dir.path().join("kdc.conf"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
    }
}

fn program(name: &str) -> PathBuf {
    ["/usr/sbin", name].iter().collect()
}

impl Drop for Realm {
    fn drop(&mut self) {
        self.kill();
    }
}
