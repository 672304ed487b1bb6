//! The actions: this very program, called by the daemons. An action writes down that it began, behaves as it was told, well or badly, and
//! writes down that it ended.
//!
//! It holds a lock for as long as its main process lives, which the kernel lets go of however it dies: that is how an overlap is
//! noticed by those who overlap, also over a `kill -9` of the daemon.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio, exit};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise, sigprocmask};
use nix::unistd::setsid;

use super::journal::{Line, Start, flat};

/// The first argument of this program when it is an action.
pub const ACT: &str = "act";
/// The first argument of this program when it is what an action leaves behind.
pub const LINGER: &str = "linger";
/// The first argument of this program when it is an action of a rollout.
pub const TURN: &str = "turn";
/// The first argument of this program when it has left everything by which it could be known for a part of an action.
pub const ESCAPED: &str = "escaped";
/// How often that writes down that it is there.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// The name of the process that uses up the others.
pub const EXHAUSTING: &str = "perl";
/// Makes processes until there are no more to be had, and takes each that becomes free. It does not listen to SIGTERM, nor do they.
const EXHAUST: &str = r#"
$SIG{TERM} = 'IGNORE';
my $end = time + 300;
while (time < $end) {
    my $pid = fork;
    if (!defined $pid) { select(undef, undef, undef, 0.005) }
    elsif (!$pid) { sleep 300; exit }
}"#;

/// How an action behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Ends at once, or after a while, at random.
    Mix,
    /// Sleeps until somebody ends it.
    Hang,
    /// The same, and ignores SIGTERM.
    Stubborn,
    /// Fails.
    Fail,
    /// Dies by a signal.
    Crash,
    /// Hangs with children, one in its group, one in a session of its own, one that ignores SIGTERM: all must go with it.
    Fork,
    /// Ends at once, but children live on for a while, as those of init scripts do.
    Leave,
    /// Hangs, with a child that has left its group, its session and its environment and ignores SIGTERM: it must go with it all the same.
    Escape,
    /// Writes far more than anybody wants to read.
    Flood,
    /// Makes processes until there are no more to be had.
    Exhaust,
}

impl Behaviour {
    /// As written in the file that tells an action.
    pub fn word(self) -> String {
        format!("{self:?}")
    }

    pub fn of(word: &str) -> Self {
        use Behaviour::*;
        let all = [Mix, Hang, Stubborn, Fail, Crash, Fork, Leave, Escape, Flood, Exhaust];
        all.into_iter()
            .find(|behaviour| behaviour.word() == word)
            .unwrap_or(Mix)
    }
}

/// No action lives longer, whatever becomes of its daemon. Far longer than any timeout, so that one which lives so long is noticed.
pub const LONGEST_LIFE: Duration = Duration::from_secs(300);

/// `act DIR WATCH SLOTS`: an action of a watch of which at most SLOTS may run at once. DIR is the daemon's `out`.
pub fn act(arguments: &[String]) -> ! {
    let [dir, watch, slots] = arguments else {
        exit(2);
    };
    let dir = Path::new(dir);
    let run = variable("TWITCHER_RUN_ID");
    let parent = std::os::unix::process::parent_id() as i32;
    let held = take_slot(dir, watch, slots.parse().unwrap(), parent, &run);
    let mut stdin = Vec::new();
    std::io::stdin().read_to_end(&mut stdin).unwrap();
    let mut journal = append(&dir.join("journal").join(watch));
    let start = Start {
        at: now(),
        run: run.clone(),
        pid: std::process::id() as i32,
        parent,
        event: variable("TWITCHER_EVENT"),
        attempt: variable("TWITCHER_ATTEMPT").parse().unwrap_or(0),
        mzxid: variable("TWITCHER_MZXID").parse().unwrap_or(-1),
        revision: variable("CHAOS_REVISION"),
        stdin: flat(&String::from_utf8_lossy(&stdin)),
    };
    journal.write_all(Line::Start(start).text().as_bytes()).unwrap();
    if let Err(others) = &held {
        let (run, others) = (run.clone(), others.clone());
        let crowd = Line::Crowd { at: now(), run, others };
        journal.write_all(crowd.text().as_bytes()).unwrap();
    }
    let behaviour = Behaviour::of(&fs::read_to_string(dir.join("behaviour").join(watch)).unwrap_or_default());
    if behaviour == Behaviour::Escape {
        escape(dir, watch, &run, held.as_ref().ok());
    }
    let code = behave(behaviour);
    if code != 0 {
        let (at, run) = (now(), run.clone());
        journal.write_all(Line::Failed { at, run }.text().as_bytes()).unwrap();
    }
    let end = Line::End { at: now(), run };
    journal.write_all(end.text().as_bytes()).unwrap();
    exit(code)
}

pub fn behave(behaviour: Behaviour) -> i32 {
    match behaviour {
        Behaviour::Mix if fastrand::bool() => {}
        Behaviour::Mix => std::thread::sleep(Duration::from_millis(fastrand::u64(1..400))),
        Behaviour::Hang | Behaviour::Escape => std::thread::sleep(LONGEST_LIFE),
        Behaviour::Stubborn => {
            ignore_sigterm();
            std::thread::sleep(LONGEST_LIFE);
        }
        Behaviour::Fail => return 3,
        Behaviour::Crash => {
            setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
            raise(Signal::SIGABRT).unwrap();
        }
        Behaviour::Fork => {
            for how in ["group", "session", "stubborn"] {
                leave_behind(how, LONGEST_LIFE);
            }
            std::thread::sleep(LONGEST_LIFE);
        }
        Behaviour::Leave => {
            for how in ["group", "session"] {
                leave_behind(how, Duration::from_millis(700));
            }
        }
        Behaviour::Exhaust => {
            // Others may have been faster, and there is no process left for it.
            let _ = Command::new(EXHAUSTING).args(["-e", EXHAUST]).status();
            std::thread::sleep(LONGEST_LIFE);
        }
        Behaviour::Flood => {
            let line = [b'x'; 1023];
            let mut stdout = std::io::stdout().lock();
            for _ in 0..4096 {
                // Nobody has to read all of it.
                if stdout.write_all(&line).and_then(|()| stdout.write_all(b"\n")).is_err() {
                    break;
                }
            }
        }
    }
    0
}

#[allow(clippy::zombie_processes, reason = "leaving it behind is the point")]
pub fn leave_behind(how: &str, life: Duration) {
    let started = Command::new(std::env::current_exe().unwrap())
        .args([LINGER, how, &life.as_millis().to_string()])
        .stdin(Stdio::null())
        // In the group of the action, which Command leaves alone unless told otherwise.
        .arg0("chaos-linger")
        .spawn();
    may_fail(started.map(drop));
}

/// Starts what leaves everything behind but the lock, which thus is held for as long as any of the run lives.
pub fn escape(dir: &Path, watch: &str, run: &str, held: Option<&Flock<File>>) {
    if let Some(lock) = held {
        fcntl(&**lock, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    }
    let started = Command::new("setsid")
        .args(["--fork", "env", "-i"])
        .arg(std::env::current_exe().unwrap())
        .arg(ESCAPED)
        .arg(dir)
        .args([watch, run])
        .stdin(Stdio::null())
        .status();
    may_fail(started.map(drop));
}

/// Where an action has used up the processes, there are none for others.
fn may_fail(started: std::io::Result<()>) {
    if let Err(error) = started {
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    }
}

/// `turn DIR SLOTS HOST`: an action of a rollout in which SLOTS hosts may act at once, on one machine with all of them. DIR is everybody's.
pub fn turn(arguments: &[String]) -> ! {
    let [dir, slots, host] = arguments else {
        exit(2);
    };
    let dir = Path::new(dir);
    let run = format!("{host}/{}", variable("TWITCHER_RUN_ID"));
    // Held to the end of this process, whatever that is.
    let held = take_place(dir, slots.parse().unwrap(), &run);
    let mut stdin = Vec::new();
    std::io::stdin().read_to_end(&mut stdin).unwrap();
    let mut journal = append(&dir.join("journal").join("repo"));
    let start = Start {
        at: now(),
        run: run.clone(),
        pid: std::process::id() as i32,
        parent: std::os::unix::process::parent_id() as i32,
        event: variable("TWITCHER_EVENT"),
        attempt: variable("TWITCHER_ATTEMPT").parse().unwrap_or(0),
        mzxid: variable("TWITCHER_MZXID").parse().unwrap_or(-1),
        revision: String::new(),
        stdin: flat(&String::from_utf8_lossy(&stdin)),
    };
    let bad = start.stdin.starts_with("bad");
    journal.write_all(Line::Start(start).text().as_bytes()).unwrap();
    if let Err(others) = &held {
        let (run, others) = (run.clone(), others.clone());
        let crowd = Line::Crowd { at: now(), run, others };
        journal.write_all(crowd.text().as_bytes()).unwrap();
    }
    let behaviour = Behaviour::of(&fs::read_to_string(dir.join("behaviour").join(host)).unwrap_or_default());
    if behaviour == Behaviour::Mix {
        // Long enough for something to happen while a change goes out.
        std::thread::sleep(Duration::from_millis(fastrand::u64(100..1_200)));
    }
    let code = behave(behaviour);
    let end = Line::End { at: now(), run };
    journal.write_all(end.text().as_bytes()).unwrap();
    exit(if bad { 3 } else { code })
}

fn take_place(dir: &Path, places: u32, run: &str) -> Result<Flock<File>, String> {
    let mut others = Vec::new();
    for place in 0..places {
        let path = dir.join("locks").join(place.to_string());
        match Flock::lock(append(&path), FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                held.set_len(0).unwrap();
                held.write_all(run.as_bytes()).unwrap();
                return Ok(held);
            }
            Err(_) => others.push(fs::read_to_string(&path).unwrap_or_default()),
        }
    }
    Err(others.join(", "))
}

/// `escaped DIR WATCH RUN`: writes down that it is there, until somebody ends it.
pub fn escaped(arguments: &[String]) -> ! {
    let [dir, watch, run] = arguments else {
        exit(2);
    };
    ignore_sigterm();
    let mut journal = append(&Path::new(dir).join("journal").join(watch));
    let end = Instant::now() + LONGEST_LIFE;
    while Instant::now() < end {
        let run = run.clone();
        journal
            .write_all(Line::Still { at: now(), run }.text().as_bytes())
            .unwrap();
        std::thread::sleep(HEARTBEAT);
    }
    exit(0)
}

/// `linger HOW MILLISECONDS`: what an action leaves behind.
pub fn linger(arguments: &[String]) -> ! {
    let [how, millis] = arguments else {
        exit(2);
    };
    match &**how {
        "session" => drop(setsid().unwrap()),
        "stubborn" => ignore_sigterm(),
        _ => {}
    }
    std::thread::sleep(Duration::from_millis(millis.parse().unwrap()));
    exit(0)
}

/// Blocking does what ignoring would, for a process with one thread, and needs no unsafe code.
pub fn ignore_sigterm() {
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::from(Signal::SIGTERM)), None).unwrap();
}

/// Takes one of the places there are; if none is free, gives who has them. Where several may run, nothing waits for those that a former
/// daemon left, so that each daemon has places of its own.
pub fn take_slot(dir: &Path, watch: &str, slots: u32, parent: i32, run: &str) -> Result<Flock<File>, String> {
    let mut others = Vec::new();
    for slot in 0..slots {
        let name = match slots {
            1 => watch.to_owned(),
            _ => format!("{watch}.{parent}.{slot}"),
        };
        let path = dir.join("locks").join(name);
        let file = append(&path);
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                held.set_len(0).unwrap();
                held.write_all(format!("{run} {}", std::process::id()).as_bytes())
                    .unwrap();
                return Ok(held);
            }
            Err(_) => others.push(fs::read_to_string(&path).unwrap_or_default()),
        }
    }
    Err(others.join(", "))
}

pub fn append(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).unwrap()
}

pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Milliseconds since 1970: what every process, also one in another time namespace, agrees on.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}
