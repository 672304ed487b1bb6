//! Launchers and daemons that die or hang.

use std::collections::HashSet;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;
use twitcher_launch::{Journal, RunEvent};
use twitcher_model::Outcome;

use crate::bench::{Bench, PATIENCE, alive, alone, argv, eventually, settings, sh};

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
                    RunEvent::Started { .. }
                    | RunEvent::Asked { .. }
                    | RunEvent::Told { .. }
                    | RunEvent::Overdue { .. } => {}
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
    assert!(found.is_empty());
    let mut runs = Vec::new();
    alone(async {
        let mut bench = Bench::with(Some(journal), None);
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
    drop((journal, found));
    let (_journal, found) = Journal::claim(dir.path()).unwrap();
    assert!(found.is_empty());
}

/// Requests that wait for a launcher when its daemon dies: whoever still reads them must not carry them out.
#[test]
fn what_a_dead_daemon_asked_for_is_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::claim(dir.path()).unwrap();
    let mark = dir.path().join("mark");
    let mut launcher = 0;
    alone(async {
        let mut bench = Bench::with(Some(journal), None);
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
    assert!(found.is_empty());
    assert!(!mark.exists(), "started although nobody follows it");
}
