//! The launcher with real processes, users and signals: everything that an action may do to its supervisor.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed; Clippy knows only functions marked as tests"
)]

use std::collections::HashSet;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout};
use twitcher::launch::{Control, Invocation, Journal, Launcher, Launches, Report, RunEvent, wire::Task};
use twitcher::model::{Identity, Limit, Outcome, ProcessSettings, Resource, RunId};
use twitcher::sandbox::channel::Reason;

/// Longer than anything here takes unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test on a runtime of its own while no other does: each reaps every child of this process that it does not know.
fn alone(test: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

struct Bench {
    launches: Launches,
    events: UnboundedReceiver<RunEvent>,
    launcher: u32,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(journal: Option<Journal>) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_twitcher"));
        let launcher = Launcher::spawn_with(program, &["launcher"], journal).unwrap();
        let pid = launcher.pid();
        let (launches, events) = Launches::start(launcher, 100).unwrap();
        Self {
            launches,
            events,
            launcher: pid,
            next: 1,
        }
    }

    fn launch(&mut self, task: Task, settings: ProcessSettings, stdin: &'static [u8]) -> RunId {
        let run = RunId(std::process::id() as u64 * 1_000_000 + self.next);
        self.next += 1;
        let env = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("HOME".into(), settings.identity.home.clone()),
        ];
        let process = Arc::new(settings);
        let stdin = Bytes::from_static(stdin);
        self.launches.launch(Invocation {
            run,
            watch: "test".into(),
            task,
            env,
            process,
            stdin,
            version: None,
            capture: false,
        });
        run
    }

    fn sh(&mut self, script: &str) -> RunId {
        self.launch(sh(script), settings(), b"")
    }

    async fn started(&mut self, run: RunId) -> Pid {
        loop {
            match timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap() {
                RunEvent::Started { run: r, pid } if r == run => return Pid::from_raw(pid),
                RunEvent::Ended { run: r, report } if r == run => panic!("ended before it was seen: {report:?}"),
                _ => {}
            }
        }
    }

    async fn ended(&mut self, run: RunId) -> Report {
        loop {
            match timeout(PATIENCE, self.events.recv())
                .await
                .expect("the run hangs")
                .unwrap()
            {
                RunEvent::Ended { run: r, report } if r == run => return report,
                _ => {}
            }
        }
    }

    /// Waits until all these have ended, in whatever order, each once. Returns how many launchers were replaced meanwhile.
    async fn all_end(&mut self, mut open: HashSet<RunId>, outcome: Outcome) -> usize {
        let mut replaced = 0;
        while !open.is_empty() {
            match timeout(PATIENCE, self.events.recv()).await.expect("runs hang").unwrap() {
                RunEvent::LauncherReplaced { .. } => replaced += 1,
                RunEvent::Ended { run, report } => {
                    assert_eq!(report.outcome, outcome);
                    assert!(open.remove(&run), "{run} ended twice");
                }
                RunEvent::Started { .. } | RunEvent::Asked { .. } => {}
            }
        }
        replaced
    }

    /// Runs a script to its end.
    async fn run(&mut self, task: Task, settings: ProcessSettings, stdin: &'static [u8]) -> (Outcome, String) {
        let run = self.launch(task, settings, stdin);
        let report = self.ended(run).await;
        (
            report.outcome,
            String::from_utf8_lossy(&report.output_tail).into_owned(),
        )
    }
}

fn sh(script: &str) -> Task {
    Task::Exec(vec!["/bin/sh".into(), "-c".into(), script.into()])
}

fn argv(words: &[&str]) -> Task {
    Task::Exec(words.iter().map(|word| (*word).to_owned()).collect())
}

fn settings() -> ProcessSettings {
    ProcessSettings {
        identity: Identity {
            user: "root".into(),
            home: "/root".into(),
            shell: "/bin/sh".into(),
            ..Identity::default()
        },
        ..ProcessSettings::default()
    }
}

/// Polls a condition that no event announces.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(
        stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]),
        None | Some(b'Z' | b'X')
    )
}

fn pids_in(path: &Path) -> Vec<Pid> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok().map(Pid::from_raw))
        .collect()
}

#[test]
fn runs_a_program_with_data_environment_and_output() {
    alone(async {
        let mut bench = Bench::new();
        let (outcome, output) = bench
            .run(
                sh("cat; echo; echo $HOME $TWITCHER_RUN_ID; pwd; umask"),
                settings(),
                b"data",
            )
            .await;
        assert_eq!(outcome, Outcome::Exited(0));
        let run = RunId(std::process::id() as u64 * 1_000_000 + 1);
        assert_eq!(output, format!("data\n/root {run}\n/\n0022\n"));
        assert_eq!(bench.run(sh("exit 3"), settings(), b"").await.0, Outcome::Exited(3));
        let without_stdin = ProcessSettings {
            pipe_stdin: false,
            ..settings()
        };
        assert_eq!(
            bench
                .run(sh("cat; readlink /proc/self/fd/0"), without_stdin, b"data")
                .await
                .1,
            "/dev/null\n"
        );
    });
}

#[test]
fn errors_of_the_launch_are_not_exit_codes() {
    alone(async {
        let mut bench = Bench::new();
        let failed = |outcome: Outcome| match outcome {
            Outcome::LaunchFailed { .. } => outcome.to_string(),
            other => panic!("not a launch error: {other:?}"),
        };
        let no_program = bench.run(argv(&["/no/such/program"]), settings(), b"").await.0;
        assert_eq!(
            failed(no_program),
            "cannot execute \"/no/such/program\": No such file or directory (os error 2)"
        );
        let not_executable = bench.run(argv(&["/etc/passwd"]), settings(), b"").await.0;
        assert_eq!(
            failed(not_executable),
            "cannot execute \"/etc/passwd\": Permission denied (os error 13)"
        );
        let not_in_path = bench.run(argv(&["no-such-program"]), settings(), b"").await.0;
        assert_eq!(
            failed(not_in_path),
            "cannot execute \"no-such-program\": No such file or directory (os error 2)"
        );
        let no_directory = ProcessSettings {
            cwd: Path::new("/no/such").into(),
            ..settings()
        };
        let no_directory = bench.run(sh("true"), no_directory, b"").await.0;
        assert_eq!(
            failed(no_directory),
            "cannot enter directory /no/such: No such file or directory (os error 2)"
        );
        let nul = bench.run(argv(&["/bin/echo", "a\0b"]), settings(), b"").await.0;
        assert_eq!(
            failed(nul),
            "cannot execute \"/bin/echo\": Invalid argument (os error 22)"
        );
        // 127 by the program itself stays an exit code.
        assert_eq!(bench.run(sh("exit 127"), settings(), b"").await.0, Outcome::Exited(127));
        assert_eq!(
            bench.run(sh("no-such-program"), settings(), b"").await.0,
            Outcome::Exited(127)
        );
    });
}

#[test]
fn privileges_are_dropped_whole() {
    alone(async {
        let mut bench = Bench::new();
        let nobody = Identity {
            uid: Some(65534),
            gid: Some(65534),
            groups: Some(vec![65534, 4]),
            user: "nobody".into(),
            home: "/".into(),
            shell: "/bin/sh".into(),
        };
        let as_nobody = ProcessSettings {
            identity: nobody,
            ..settings()
        };
        let (outcome, output) = bench
            .run(
                sh("id -u; id -g; id -G; grep Cap[PE] /proc/self/status"),
                as_nobody.clone(),
                b"",
            )
            .await;
        assert_eq!(outcome, Outcome::Exited(0));
        assert_eq!(
            output,
            "65534\n65534\n65534 4\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
        );
        let locked = tempfile::tempdir().unwrap();
        std::fs::set_permissions(locked.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let locked_out = ProcessSettings {
            cwd: locked.path().into(),
            ..as_nobody
        };
        let (outcome, _) = bench.run(sh("true"), locked_out, b"").await;
        assert!(
            matches!(outcome, Outcome::LaunchFailed { errno: 13, .. }),
            "entered as the user, not as root: {outcome:?}"
        );
    });
}

#[test]
fn a_process_starts_with_a_clean_slate() {
    alone(async {
        let mut bench = Bench::new();
        let script = "grep -E '^Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd | wc -l; ps -o pid=,pgid=,sid= -p $$";
        let (_, output) = bench.run(sh(script), settings(), b"x").await;
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines[0], "SigBlk:\t0000000000000000");
        // Without 32 and 33, which are glibc's own and may come ignored from whoever started the tests.
        let ignored = u64::from_str_radix(lines[1].trim_start_matches("SigIgn:\t"), 16).unwrap() & !(0b11 << 31);
        assert_eq!(ignored, 0, "SIGPIPE above all");
        assert_eq!(lines[2], "4", "stdin, stdout, stderr, and the directory that ls reads");
        let ids: Vec<_> = lines[3].split_whitespace().collect();
        assert!(
            ids[0] == ids[1] && ids[0] == ids[2],
            "leads its own group and session: {ids:?}"
        );
    });
}

#[test]
fn limits_and_umask_are_set() {
    alone(async {
        let mut bench = Bench::new();
        let limited = ProcessSettings {
            umask: 0o077,
            limits: vec![
                Limit {
                    resource: Resource::Nofile,
                    soft: 17,
                    hard: 18,
                },
                Limit {
                    resource: Resource::Core,
                    soft: 0,
                    hard: u64::MAX,
                },
            ],
            ..settings()
        };
        let (_, output) = bench
            .run(sh("umask; ulimit -Sn; ulimit -Hn; ulimit -Sc"), limited, b"")
            .await;
        assert_eq!(output, "0077\n17\n18\n0\n");
    });
}

#[test]
fn death_by_signal_is_told_from_exit() {
    alone(async {
        let mut bench = Bench::new();
        let (outcome, _) = bench.run(sh("kill -KILL $$"), settings(), b"").await;
        assert_eq!(outcome, Outcome::Signaled { signal: 9, core: false });
        let dir = tempfile::tempdir().unwrap();
        let with_core = ProcessSettings {
            cwd: dir.path().into(),
            limits: vec![Limit {
                resource: Resource::Core,
                soft: 1 << 30,
                hard: 1 << 30,
            }],
            ..settings()
        };
        let (outcome, _) = bench.run(sh("kill -SEGV $$"), with_core, b"").await;
        assert!(matches!(outcome, Outcome::Signaled { signal: 11, .. }), "{outcome:?}");
    });
}

#[test]
fn an_action_that_does_not_read_or_closes_its_stdin_harms_nobody() {
    alone(async {
        static MEGABYTE: [u8; 1024 * 1024] = [b'x'; 1024 * 1024];
        let mut bench = Bench::new();
        let deaf = bench.launch(sh("sleep 1000"), settings(), &MEGABYTE);
        bench.started(deaf).await;
        assert_eq!(
            bench.run(sh("exec <&-; exit 5"), settings(), &MEGABYTE).await.0,
            Outcome::Exited(5)
        );
        assert_eq!(bench.run(sh("wc -c"), settings(), &MEGABYTE).await.1, "1048576\n");
        bench.launches.control(deaf, Control::Terminate(Reason::Shutdown));
        assert_eq!(bench.ended(deaf).await.outcome, Outcome::Terminated);
    });
}

#[test]
fn a_gigabyte_of_output_is_read_bounded_and_does_not_hold_up_others() {
    alone(async {
        let mut bench = Bench::new();
        let flood = bench.sh("head -c 1000000000 /dev/zero; printf end");
        bench.started(flood).await;
        assert_eq!(
            bench.run(sh("exit 4"), settings(), b"").await.0,
            Outcome::Exited(4),
            "another run meanwhile"
        );
        let report = bench.ended(flood).await;
        assert_eq!(report.outcome, Outcome::Exited(0));
        assert_eq!(report.output_bytes, 1_000_000_003);
        assert_eq!(report.output_tail.len(), 64 * 1024);
        assert!(report.output_tail.ends_with(b"\0end"));
    });
}

#[test]
fn timeout_ends_the_whole_family_even_if_it_ignores_sigterm_or_left_the_group() {
    alone(async {
        let mut bench = Bench::new();
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        // A child in the group that ignores SIGTERM, one in a session of its own that does too, and the main process itself.
        let script = format!(
            "trap '' TERM; sh -c 'echo $$ >> {0}; sleep 1000; sleep 1000' & setsid sh -c 'echo $$ >> {0}; sleep 1000; sleep 1000' & \
         echo $$ >> {0}; while :; do sleep 1000; done",
            pids.display()
        );
        let short = ProcessSettings {
            timeout: Some(Duration::from_millis(500)),
            kill_after: Duration::from_millis(300),
            ..settings()
        };
        let run = bench.launch(sh(&script), short, b"");
        let report = bench.ended(run).await;
        assert_eq!(report.outcome, Outcome::TimedOut);
        assert!(
            report.elapsed >= Duration::from_millis(800),
            "SIGKILL came before its time: {:?}",
            report.elapsed
        );
        let pids = pids_in(&pids);
        assert_eq!(pids.len(), 3);
        for pid in pids {
            assert!(!alive(pid), "{pid} survived");
        }
    });
}

#[test]
fn after_sigterm_children_get_their_time_to_clean_up() {
    alone(async {
        let mut bench = Bench::new();
        let dir = tempfile::tempdir().unwrap();
        let (ready, cleaned) = (dir.path().join("ready"), dir.path().join("cleaned"));
        let child = format!(
            "trap 'sleep 0.3; touch {}; exit' TERM; touch {}; while :; do sleep 0.05; done",
            cleaned.display(),
            ready.display()
        );
        let run = bench.launch(argv(&["/bin/sh", "-c", "sh -c \"$0\" & wait", &child]), settings(), b"");
        bench.started(run).await;
        eventually("the child is ready", || ready.exists()).await;
        bench.launches.control(run, Control::Terminate(Reason::Shutdown));
        let report = bench.ended(run).await;
        assert_eq!(report.outcome, Outcome::Terminated);
        assert!(cleaned.exists(), "the child was killed while it cleaned up");
        assert!(
            report.elapsed < Duration::from_secs(4),
            "SIGKILL was waited for in vain: {:?}",
            report.elapsed
        );
    });
}

#[test]
fn a_run_ends_with_its_main_process_whoever_holds_its_output() {
    alone(async {
        let mut bench = Bench::new();
        let dir = tempfile::tempdir().unwrap();
        let (pid, go) = (dir.path().join("pid"), dir.path().join("go"));
        let script = format!(
            "(echo $BASHPID > {0}; exec sh -c 'echo $$ > {0}; while [ ! -e {1} ]; do sleep 0.02; done; echo late; exec sleep 1000') & \
         while [ ! -s {0} ]; do sleep 0.01; done; echo early",
            pid.display(),
            go.display()
        );
        let (outcome, output) = bench.run(sh(&script), settings(), b"").await;
        assert_eq!(outcome, Outcome::Exited(0));
        assert_eq!(output, "early\n");
        std::fs::write(&go, "").unwrap();
        let left = || pids_in(&pid).first().copied();
        eventually("the one left behind writes and lives on", || {
            left().is_some_and(|pid| std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == b"sleep\n"))
        })
        .await;
        kill(left().unwrap(), Signal::SIGKILL).unwrap();
    });
}

#[test]
fn orphans_are_reaped() {
    alone(async {
        let mut bench = Bench::new();
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        // Double fork: the grandchild outlives its parent and becomes the daemon's.
        let script = format!(
            "setsid sh -c 'sh -c \"echo \\$\\$ > {0}.new; mv {0}.new {0}; sleep 0.2\" &' ; exit 0",
            pid.display()
        );
        assert_eq!(bench.run(sh(&script), settings(), b"").await.0, Outcome::Exited(0));
        eventually("the orphan told its pid", || !pids_in(&pid).is_empty()).await;
        let orphan = pids_in(&pid)[0];
        eventually("the orphan has been waited for", || {
            !Path::new(&format!("/proc/{orphan}")).exists()
        })
        .await;
    });
}

#[test]
fn notify_reaches_the_main_process_alone() {
    alone(async {
        let mut bench = Bench::new();
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready");
        let script = format!(
            "trap 'echo got; exit 0' USR1; sleep 1000 & touch {}; wait",
            ready.display()
        );
        let run = bench.launch(sh(&script), settings(), b"");
        bench.started(run).await;
        eventually("the trap is set", || ready.exists()).await;
        bench.launches.control(run, Control::Notify(Signal::SIGUSR1));
        let report = bench.ended(run).await;
        assert_eq!(report.outcome, Outcome::Exited(0));
        assert_eq!(report.output_tail, b"got\n");
    });
}

#[test]
fn many_that_end_together_are_all_reaped() {
    alone(async {
        let mut bench = Bench::new();
        let open: HashSet<_> = (0..300).map(|_| bench.sh("exit 0")).collect();
        bench.all_end(open, Outcome::Exited(0)).await;
    });
}

#[test]
fn runs_survive_the_launcher_and_the_next_one_takes_over() {
    alone(async {
        let mut bench = Bench::new();
        let dir = tempfile::tempdir().unwrap();
        let go = dir.path().join("go");
        let run = bench.sh(&format!("while [ ! -e {} ]; do sleep 0.01; done; exit 7", go.display()));
        let pid = bench.started(run).await;
        kill(Pid::from_raw(bench.launcher as i32), Signal::SIGKILL).unwrap();
        // Asked while nobody is there to serve it.
        assert_eq!(bench.run(sh("exit 6"), settings(), b"").await.0, Outcome::Exited(6));
        assert!(alive(pid));
        std::fs::write(go, "").unwrap();
        assert_eq!(bench.ended(run).await.outcome, Outcome::Exited(7), "still tracked");
    });
}

/// However the launcher dies, no request is lost and none is carried out twice.
#[test]
fn a_dying_launcher_neither_loses_nor_doubles_requests() {
    alone(async {
        let mut bench = Bench::new();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut open = HashSet::new();
        let mut deaths = 0;
        for round in 0..4 {
            for _ in 0..25 {
                open.insert(bench.sh(&format!("echo {round} >> {}", log.display())));
            }
            kill(Pid::from_raw(bench.launcher as i32), Signal::SIGKILL).unwrap();
            // The next launcher is killed in the middle of its work.
            while deaths == round {
                match timeout(PATIENCE, bench.events.recv()).await.unwrap().unwrap() {
                    RunEvent::LauncherReplaced { pid } => {
                        bench.launcher = pid;
                        deaths += 1;
                    }
                    RunEvent::Ended { run, .. } => assert!(open.remove(&run), "{run} ended twice"),
                    RunEvent::Started { .. } | RunEvent::Asked { .. } => {}
                }
            }
        }
        bench.all_end(open, Outcome::Exited(0)).await;
        assert_eq!(std::fs::read_to_string(log).unwrap().lines().count(), 100);
    });
}

/// A program that cannot be executed while this lives: executing it waits until a write lease on it is given back.
struct Stuck(std::fs::File);

impl Stuck {
    fn program(at: &Path) -> Self {
        std::fs::copy("/bin/true", at).unwrap();
        let file = std::fs::File::open(at).unwrap();
        // From fcntl.h; the libc crate has it not.
        const F_SETSIG: libc::c_int = 10;
        // SAFETY: the calls take numbers. The signal tells that somebody waits for the lease; this one is ignored by default.
        #[allow(unsafe_code)]
        let leased = unsafe {
            libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG);
            libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
        };
        assert_eq!(leased, 0, "{}", std::io::Error::last_os_error());
        Self(file)
    }

    fn release(self) {
        drop(self.0);
    }
}

/// A launcher waits for the process that shares its memory to execute its program. On a dead file server that takes for ever.
#[test]
fn a_program_that_cannot_be_loaded_holds_up_only_itself() {
    alone(async {
        let mut bench = Bench::new();
        let dir = tempfile::tempdir().unwrap();
        let programs = [dir.path().join("a"), dir.path().join("b"), dir.path().join("c")];
        let stuck = programs.each_ref().map(|program| Stuck::program(program));
        let mut waiting = HashSet::new();
        let mut replaced = 0;
        for program in &programs {
            let run = bench.launch(argv(&[program.to_str().unwrap()]), settings(), b"");
            let pid = bench.started(run).await;
            let waits = || std::fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|at| at.contains("lease"));
            eventually("it is being executed", waits).await;
            waiting.insert(run);
            let others = (0..40).map(|_| bench.sh("exit 6")).collect();
            replaced += bench.all_end(others, Outcome::Exited(6)).await;
        }
        assert_eq!(replaced, 1, "it happens once: from then on launchers do not wait");
        stuck.into_iter().for_each(Stuck::release);
        bench.all_end(waiting, Outcome::Exited(0)).await;
    });
}

/// What is found here nobody else has written down: the daemon's own notes come later, and may never come.
#[test]
fn a_process_is_in_the_journal_before_it_does_anything() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let (journal, found) = Journal::claim(dir.path()).unwrap();
    assert_eq!(found, []);
    let mut runs = Vec::new();
    alone(async {
        let mut bench = Bench::with(Some(journal));
        // Of one that shares the launcher's memory, and one that does not.
        for _ in 0..2 {
            runs.push(bench.sh(&format!("echo $$ >> {}; exec sleep 1000", mark.display())));
        }
        runs.push(bench.sh("true"));
        let has_ended = |event: &RunEvent| matches!(event, RunEvent::Ended { .. });
        while !bench.events.recv().await.is_some_and(|event| has_ended(&event)) {}
        while std::fs::read_to_string(&mark).unwrap_or_default().lines().count() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    // Everything of this daemon is gone but what it had started; the next one waits for the launcher.
    let (journal, found) = Journal::claim(dir.path()).unwrap();
    let pids = std::fs::read_to_string(&mark).unwrap();
    let mut pids: Vec<i32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
    let mut told: Vec<_> = found.iter().map(|found| found.process.pid()).collect();
    pids.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, pids);
    assert!(
        found
            .iter()
            .all(|found| runs[..2].contains(&found.run) && found.watch == "test")
    );
    for pid in pids {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        nix::sys::wait::waitpid(Pid::from_raw(pid), None).unwrap();
    }
    drop(journal);
    let (_journal, found) = Journal::claim(dir.path()).unwrap();
    assert_eq!(found, []);
}

/// Requests that wait for a launcher when its daemon dies: whoever still reads them must not carry them out.
#[test]
fn what_a_dead_daemon_asked_for_is_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::claim(dir.path()).unwrap();
    let mark = dir.path().join("mark");
    let mut launcher = 0;
    alone(async {
        let mut bench = Bench::with(Some(journal));
        let pid = Pid::from_raw(bench.launcher as i32);
        launcher = bench.launcher;
        bench.sh("true");
        while !matches!(bench.events.recv().await, Some(RunEvent::Ended { .. })) {}
        kill(pid, Signal::SIGSTOP).unwrap();
        for _ in 0..3 {
            bench.sh(&format!("echo started >> {}", mark.display()));
        }
        // They are sent as soon as the service has its turn.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    });
    kill(Pid::from_raw(launcher as i32), Signal::SIGCONT).unwrap();
    let (_journal, found) = Journal::claim(dir.path()).unwrap();
    assert_eq!(found, []);
    assert!(!mark.exists(), "started although nobody follows it");
}
