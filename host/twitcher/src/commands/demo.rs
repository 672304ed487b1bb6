//! `twitcher demo`: a daemon on a directory, a few watches and changes, and what they led to.
//!
//! It uses nothing but the program itself, as a newcomer would: writes files, runs `twitcher run`, reads its log.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long each step may take before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(20);

const CONFIG: &str = r#"# A command: the znode's new contents are on its stdin.
RegisterWatch(
    znode = "/git/head",
    action = Exec("read -r commit && echo \"pulling $commit\""),
    description = "pull the repository",
)

# A function of this file: it runs in a process of its own.
def render():
    port = stdin().strip()
    open("OUT/app.conf", "w").write("listen = %s\n" % port)
    print("app.conf written, listening on " + port)

RegisterWatch(znode = "/app/port", action = render, description = "render app.conf")
"#;

/// For a plugin, where there is one to show.
const COMPONENT: &str = r#"
# A WebAssembly component: it reaches nothing but what it is granted, here nothing at all.
RegisterWatch(
    znode = "/git/head",
    action = Wasm("COMPONENT", config = {"greeting": "a component saw it too"}),
    description = "hello",
)
"#;

/// Runs the demo, telling on standard output what happens.
///
/// With a `component` (the plugin `hello`) it is watched beside the others.
pub fn run(program: &Path, component: Option<&Path>) -> Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("twitcher-demo-")
        .tempdir()
        .context("cannot make a directory")?;
    let (tree, config) = (dir.path().join("tree"), dir.path().join("watches"));
    for dir in [tree.join("git"), tree.join("app"), config.clone()] {
        fs::create_dir_all(dir)?;
    }
    let mut text = CONFIG.replace("OUT", &dir.path().to_string_lossy());
    if let Some(component) = component {
        let plugin = dir.path().join("hello.wasm");
        fs::copy(component, &plugin).with_context(|| format!("cannot copy {}", component.display()))?;
        text += &COMPONENT.replace("COMPONENT", &plugin.to_string_lossy());
    }
    fs::write(config.join("demo.twc"), &text)?;
    fs::write(tree.join("git/head"), "4f2a91c first commit\n")?;

    println!("The watches (watches/demo.twc):\n");
    for line in text.lines() {
        println!("    {line}");
    }
    println!("\nThe daemon, on a local directory instead of ZooKeeper: DIR/git/head is znode /git/head.\n");
    println!("$ twitcher run --tree tree --config watches");
    let mut daemon = Daemon::start(program, &tree, &config)?;
    match component {
        None => daemon.show_until(
            "the node exists already, so its action runs at start",
            &["pulling 4f2a91c"],
        )?,
        Some(_) => daemon.show_until(
            "the node exists already, so its actions run at start",
            &["pulling 4f2a91c", "event=load"],
        )?,
    }

    println!("\n$ echo '9d03b7e second commit' > tree/git/head");
    fs::write(tree.join("git/head"), "9d03b7e second commit\n")?;
    match component {
        None => daemon.show_until("the command ran with the new contents", &["pulling 9d03b7e"])?,
        Some(_) => daemon.show_until(
            "the command and the component ran, side by side, with the new contents",
            &["pulling 9d03b7e", "event=data"],
        )?,
    }

    println!("\n$ echo 8080 > tree/app/port        # did not exist until now");
    fs::write(tree.join("app/port"), "8080\n")?;
    daemon.show_until("the function ran", &["app.conf written"])?;
    let rendered = fs::read_to_string(dir.path().join("app.conf")).context("the function wrote no file")?;
    println!("$ cat app.conf\n{}", rendered.trim_end());
    if rendered != "listen = 8080\n" {
        bail!("app.conf holds {rendered:?}");
    }

    println!("\n^C");
    daemon.stop()?;
    println!("\nAll reacted. Try your own: see `twitcher run --help`.");
    Ok(())
}

struct Daemon {
    child: Child,
    lines: Receiver<String>,
}

impl Daemon {
    fn start(program: &Path, tree: &Path, config: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["run", "--log_to_stdout", "--tree"])
            .arg(tree)
            .arg("--config")
            .arg(config)
            .arg("--state-dir")
            .arg(tree.with_file_name("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the daemon")?;
        let stdout = child.stdout.take().context("the daemon has no standard output")?;
        let (to, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Shows the log up to the end of as many runs as there are signs, each of which is in what one of them wrote.
    fn show_until(&mut self, what: &str, signs: &[&str]) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let (mut unseen, mut ended) = (signs.to_vec(), 0);
        loop {
            let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) else {
                bail!("this did not happen within {} s: {what}", PATIENCE.as_secs());
            };
            println!("    {}", short(&line));
            unseen.retain(|sign| !line.contains(sign));
            ended += usize::from(line.contains("run ended"));
            if unseen.is_empty() && ended >= signs.len() {
                println!("  → {what}");
                return Ok(());
            }
        }
    }

    fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT)?;
        for line in self.lines.iter() {
            println!("    {}", short(&line));
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the daemon ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Without the date, which says nothing here.
fn short(line: &str) -> &str {
    line.split_once('T').map_or(line, |(_, rest)| rest)
}
