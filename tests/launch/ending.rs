//! How runs end, with everything that they started.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use twitcher_launch::Control;
use twitcher_model::{Outcome, ProcessSettings};
use twitcher_sandbox::channel::Reason;

use crate::bench::{Bench, alive, alone, argv, eventually, pids_in, settings, sh};

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
