//! Runs of processes that are played by others.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::fcntl::OFlag;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::pipe2;

use super::*;
use crate::daemon_side::component_channel::pair;
use crate::daemon_side::secrets::SecretValues;
use crate::journal::Purpose;
use twitcher_model::{ProcessSettings, RunId};
use twitcher_process::pidfd_open;
use twitcher_sandbox::channel::{FORMAT, Timing};

/// A run whose process sleeps, with the end of the channel that would be the component's, and what it writes to.
struct Stage {
    run: SupervisedRun,
    process: Child,
    channel: UnixStream,
    stdout: std::fs::File,
}

fn stage() -> Stage {
    let process = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
    let pid = Pid::from_raw(process.id() as i32);
    let (ours, theirs) = pair().unwrap();
    let (stdout, stdout_end) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (stderr, _) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let settings = ProcessSettings {
        kill_after: Duration::from_millis(20),
        ..ProcessSettings::default()
    };
    let invocation = Invocation {
        run: RunId(7),
        watch: "played".into(),
        task: Task::Exec(Vec::new()),
        env: Vec::new(),
        process: Arc::new(settings),
        stdin: Bytes::new(),
        purpose: Purpose::default(),
        secrets: SecretValues::default(),
        capture: false,
        aside: false,
    };
    let ends = Ends {
        output: [stdout, stderr],
        channel: Some(ours),
        cgroup: None,
    };
    let (events, _) = mpsc::unbounded_channel();
    let control = mpsc::unbounded_channel();
    let pidfd = pidfd_open(pid).unwrap();
    Stage {
        run: SupervisedRun::new(invocation, pid, pidfd, ends, control, events, None).unwrap(),
        process,
        channel: theirs.into(),
        stdout: stdout_end.into(),
    }
}

fn call_end(held: Held) -> Vec<u8> {
    FORMAT
        .frame(&FromAction::CallEnd(CallEnd::Success, Timing::default(), held))
        .unwrap()
}

/// The call is over, the process is not on its way out, as it should be, and never would be.
#[tokio::test]
async fn a_run_is_over_with_its_call_and_its_process_runs_nothing_any_more() {
    let mut stage = stage();
    let held = Held {
        max_rss_kib: 1234,
        minor_faults: 5,
    };
    // Without the end of a line, and without an end of the file.
    stage.stdout.write_all(b"last\nwords").unwrap();
    stage.channel.write_all(&call_end(held)).unwrap();
    let over = stage.run.supervise(&Arc::new(Semaphore::new(1))).await;
    let report = over.report.unwrap();
    assert_eq!(report.outcome, Outcome::Exited(0));
    assert_eq!((report.max_rss_kib, report.minor_faults), (1234, 5));
    assert_eq!(report.output_tail, b"last\nwords");
    assert!(!report.log_ended);
    over.leaving.unwrap().gone().await;
    // It was waited for, and so was killed.
    assert_eq!(stage.process.try_wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
}

/// Whoever is being ended is followed to its end, whatever it says.
#[tokio::test]
async fn a_run_that_is_told_to_end_is_over_with_its_process() {
    let mut stage = stage();
    stage.run.stop(StopReason::Requested(Reason::Superseded)).await;
    stage.channel.write_all(&call_end(Held::default())).unwrap();
    let over = stage.run.supervise(&Arc::new(Semaphore::new(1))).await;
    assert_eq!(over.report.unwrap().outcome, Outcome::Terminated);
    assert!(over.leaving.is_none());
}

/// Both its end and its time are there when the daemon looks.
#[tokio::test]
async fn a_run_that_had_ended_by_itself_is_not_past_its_timeout() {
    // It would be one of two by chance.
    for _ in 0..20 {
        let mut stage = stage();
        let settings = ProcessSettings {
            timeout: Some(Duration::from_millis(1)),
            ..ProcessSettings::default()
        };
        stage.run.invocation.process = Arc::new(settings);
        stage.run.talk = None;
        let pid = Pid::from_raw(stage.process.id() as i32);
        // Not one that whoever runs tests in the background may have had them ignore.
        nix::sys::signal::kill(pid, Signal::SIGUSR1).unwrap();
        // Not waited for.
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(pid), peek).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        let over = stage.run.supervise(&Arc::new(Semaphore::new(1))).await;
        let ended = Outcome::Signaled {
            signal: Signal::SIGUSR1 as i32,
            core: false,
        };
        assert_eq!(over.report.unwrap().outcome, ended);
    }
}
