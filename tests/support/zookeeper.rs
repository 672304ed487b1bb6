//! A real ZooKeeper server for tests: Debian's, in a directory of its own, on a free loopback port.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const START: Duration = Duration::from_secs(30);

/// What is special about a server.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Also serves TLS, on [`ZooKeeperServer::secure_address`], to clients with a certificate of the same authority.
    pub tls: bool,
    /// Knows this user and password for SASL DIGEST-MD5.
    pub sasl: Option<(&'static str, &'static str)>,
    /// The Kerberos configuration and the keytab with which it is `zookeeper/localhost`.
    pub kerberos: Option<(PathBuf, PathBuf)>,
    /// Serves nobody who did not authenticate by SASL.
    pub require_sasl: bool,
    /// `jute.maxbuffer` in bytes.
    pub max_buffer: Option<usize>,
    /// It is one of an ensemble.
    pub member: Option<Member>,
}

/// A server's place in an ensemble.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its port for clients.
    pub client: u16,
    /// Which of `peers` it is, from 0.
    pub index: usize,
    /// The ports of every member for the quorum and for elections.
    pub peers: Vec<(u16, u16)>,
}

/// A server process. Killed when dropped, and also when the test process dies in any way.
#[derive(Debug)]
pub struct ZooKeeperServer {
    setup: Setup,
    dir: TempDir,
    port: u16,
    secure_port: u16,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    /// A shell that kills the server when its stdin, which we hold, is closed.
    guard: Child,
    server: Pid,
}

impl ZooKeeperServer {
    /// Starts a server with nothing special.
    pub fn start() -> Self {
        Self::start_with(Setup::default())
    }

    /// Starts a server and waits until it serves.
    pub fn start_with(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if setup.tls {
            make_certificates(dir.path());
        }
        // Between choosing a port and the server's bind somebody else may take it.
        let mut failures = String::new();
        let mut server = Self {
            setup,
            dir,
            port: 0,
            secure_port: 0,
            process: None,
        };
        for _ in 0..5 {
            (server.port, server.secure_port) = (free_port(), free_port());
            match server.launch() {
                Ok(()) => return server,
                Err(why) => failures.push_str(&why),
            }
        }
        panic!("ZooKeeper does not start: {failures}");
    }

    /// A member of an ensemble. It serves once enough of the others run.
    pub(super) fn start_member(member: Member) -> Self {
        let mut server = Self {
            dir: tempfile::tempdir().unwrap(),
            port: member.client,
            secure_port: 0,
            setup: Setup {
                member: Some(member),
                ..Setup::default()
            },
            process: None,
        };
        server.launch().unwrap();
        server
    }

    /// The server that tests share which neither disturb it nor look at what is not theirs; see [`unique_path`].
    pub fn shared() -> &'static ZooKeeperServer {
        static SHARED: OnceLock<ZooKeeperServer> = OnceLock::new();
        SHARED.get_or_init(ZooKeeperServer::start)
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Port for clients that speak TLS. The server's certificate is for `localhost` only.
    pub fn secure_port(&self) -> u16 {
        self.secure_port
    }

    /// A file of the server's directory: `ca.pem`, `client.pem`, `client.key` with TLS.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where it has its data: snapshots, and the log of its transactions.
    pub fn data(&self) -> PathBuf {
        self.file("data")
    }

    /// Memory that its process has, in KiB; none if it does not run.
    pub fn resident(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.as_ref()?.server)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    }

    /// Time of a processor that its process has had; none if it does not run.
    pub fn processor_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.as_ref()?.server)).ok()?;
        // In ticks, of which Linux tells programs a hundred a second; after the name, which may have anything in it.
        let fields = stat.rsplit_once(')')?.1.split_whitespace();
        let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        Some(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port with the data it has; kills it first if it runs.
    pub fn restart(&mut self) {
        self.kill();
        let start = Instant::now();
        while let Err(why) = self.launch() {
            assert!(start.elapsed() < START, "ZooKeeper does not start again: {why}");
        }
    }

    /// Whether its process has not been killed.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it serves clients, which a member of an ensemble does only with a quorum.
    pub fn serves(&self) -> bool {
        self.four_letters("srvr").is_ok_and(|answer| answer.contains("Mode:"))
    }

    /// Kills it and removes its data.
    pub fn wipe(&mut self) {
        self.kill();
        fs::remove_dir_all(self.dir.path().join("data")).unwrap();
    }

    /// Stops it from doing anything (SIGSTOP), or lets it go on (SIGCONT).
    pub fn pause(&self, pause: bool) {
        let signal = if pause { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(self.process.as_ref().unwrap().server, signal).unwrap();
    }

    /// The answer to a four-letter word.
    pub fn four_letters(&self, word: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(word.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn launch(&mut self) -> Result<(), String> {
        let dir = self.dir.path();
        fs::create_dir_all(dir.join("data")).unwrap();
        fs::write(dir.join("zoo.cfg"), self.config()).unwrap();
        fs::write(dir.join("log4j.properties"), LOG4J).unwrap();
        let log = fs::File::create(dir.join("server.log")).unwrap();
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard", "java"])
            .args(self.java_options())
            .arg("-cp")
            .arg(format!("{}:{}", dir.display(), jars()))
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(dir.join("zoo.cfg"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(guard.stdout.take().unwrap())
            .read_line(&mut pid)
            .unwrap();
        let server = Pid::from_raw(pid.trim().parse().unwrap());
        self.process = Some(Process { guard, server });

        let start = Instant::now();
        while self.four_letters("ruok").ok().as_deref() != Some("imok") {
            let log = || fs::read_to_string(self.file("server.log")).unwrap_or_default();
            if kill(server, None).is_err() {
                let why = log();
                self.process = None;
                return Err(why);
            }
            assert!(start.elapsed() < START, "ZooKeeper runs, but does not serve: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        // Somebody else's server on the port would also have answered.
        if kill(server, None).is_err() {
            self.process = None;
            return Err("it ended after its port answered".into());
        }
        Ok(())
    }

    fn config(&self) -> String {
        let dir = self.dir.path().display();
        let mut config = format!(
            "tickTime=200\nminSessionTimeout=400\nmaxSessionTimeout=60000\ndataDir={dir}/data\nclientPort={}\n\
             clientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=*\n",
            self.port
        );
        if self.setup.tls {
            let _ = write!(
                config,
                "secureClientPort={}\nsecureClientPortAddress=127.0.0.1\n\
                 serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
                 ssl.keyStore.location={dir}/server.pem\nssl.keyStore.type=PEM\n\
                 ssl.trustStore.location={dir}/ca.pem\nssl.trustStore.type=PEM\n\
                 ssl.clientAuth=need\nssl.hostnameVerification=false\n",
                self.secure_port
            );
        }
        if self.setup.sasl.is_some() || self.setup.kerberos.is_some() {
            config.push_str("authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n");
        }
        if let Some(member) = &self.setup.member {
            fs::write(self.file("data/myid"), (member.index + 1).to_string()).unwrap();
            // In ticks of 200 ms. A follower that was stopped for a while may come back without an election.
            config.push_str("initLimit=50\nsyncLimit=25\n");
            for (index, (quorum, election)) in member.peers.iter().enumerate() {
                let _ = writeln!(config, "server.{}=127.0.0.1:{quorum}:{election}", index + 1);
            }
        }
        if self.setup.require_sasl {
            config.push_str("sessionRequireClientSASLAuth=true\n");
        }
        config
    }

    fn java_options(&self) -> Vec<String> {
        // A small, quickly started virtual machine; nothing here has to survive a power cut.
        let mut options: Vec<String> = [
            "-Xmx512m",
            "-Xshare:auto",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
        ]
        .map(String::from)
        .to_vec();
        options.push("-Dzookeeper.forceSync=no".into());
        options.push("-Dzookeeper.preAllocSize=1024".into());
        options.push("-Dzookeeper.globalOutstandingLimit=100000".into());
        if let Some(bytes) = self.setup.max_buffer {
            options.push(format!("-Djute.maxbuffer={bytes}"));
        }
        if let Some((user, password)) = self.setup.sasl {
            let jaas = self.dir.path().join("jaas.conf");
            let module = "org.apache.zookeeper.server.auth.DigestLoginModule";
            fs::write(
                &jaas,
                format!("Server {{ {module} required user_{user}=\"{password}\"; }};\n"),
            )
            .unwrap();
            options.push(format!("-Djava.security.auth.login.config={}", jaas.display()));
        }
        if let Some((config, keytab)) = &self.setup.kerberos {
            let jaas = self.dir.path().join("jaas.conf");
            fs::write(
                &jaas,
                format!(
                    "Server {{ com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true \
                     useTicketCache=false keyTab=\"{}\" principal=\"zookeeper/localhost\"; }};\n",
                    keytab.display()
                ),
            )
            .unwrap();
            options.push(format!("-Djava.security.auth.login.config={}", jaas.display()));
            options.push(format!("-Djava.security.krb5.conf={}", config.display()));
        }
        options
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = kill(self.server, Signal::SIGKILL);
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The server, what it needs for TLS, and what writes its log; as Debian names them.
fn jars() -> String {
    let netty = [
        "buffer",
        "codec",
        "common",
        "handler",
        "resolver",
        "transport",
        "transport-native-unix-common",
    ];
    let netty = netty.map(|part| format!("/usr/share/java/netty-{part}.jar")).join(":");
    let own = ["zookeeper", "slf4j-log4j12", "log4j-1.2"]
        .map(|name| format!("/usr/share/java/{name}.jar"))
        .join(":");
    format!("{own}:{netty}")
}

/// Says the process id of the server that its arguments start, waits until nobody holds our stdin any more, and kills the server.
pub const GUARD: &str = r#"exec 3<&0
"$@" </dev/null >&2 3<&- &
echo $!
exec >&-
read -r _ <&3
kill -9 $!
wait $! 2>/dev/null"#;

const LOG4J: &str = "log4j.rootLogger=WARN, CONSOLE
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.target=System.err
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} %m%n
";

/// A path that no other test of this process uses.
pub fn unique_path(test: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("/{test}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A loopback port that nobody listened on a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// An authority (`ca.pem`), a server (`server.pem`, with its key) that is only called localhost, and a client (`client.pem`,
/// `client.key`).
pub fn make_certificates(dir: &Path) {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
        assert!(
            output.status.success(),
            "openssl {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ];
    let new = |args: &[&str]| openssl(&[&["req"], &key[..], args].concat());
    new(&[
        "-x509",
        "-subj",
        "/CN=Test authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ]);
    for name in ["server", "client"] {
        new(&[
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.csr"),
        ]);
        fs::write(
            dir.join("ext"),
            "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        let (csr, pem) = (format!("{name}.csr"), format!("{name}.pem"));
        openssl(&[
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "ext",
            "-out",
            &pem,
        ]);
    }
    let key = fs::read_to_string(dir.join("server.key")).unwrap();
    let chain = fs::read_to_string(dir.join("server.pem")).unwrap();
    fs::write(dir.join("server.pem"), key + &chain).unwrap();
}
