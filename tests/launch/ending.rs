//! How runs end, with everything that they started.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use twitcher_launch::Control;
use twitcher_model::{Outcome, ProcessSettings};
use twitcher_process::cgroup::CgroupTree;
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

/// Ways out of the process group, the session and the environment that administrators take without thinking of it.
const WAYS_OUT: [&str; 6] = [
    "exec su - nobody -s /bin/sh -c APP",
    "/usr/sbin/runuser -l nobody -s /bin/sh -c APP; sleep 1000",
    "setsid -f env -i APP; sleep 1000",
    "script -qec APP /dev/null; sleep 1000",
    "(setsid sh -c 'env -i APP & exit' &); sleep 1000",
    "sh -c 'setsid -f env -i APP'; sleep 1000",
];

/// One that does not listen, and works for another user; it has a child each time anew.
const DEAF: &str = "#!/bin/sh\ntrap '' TERM HUP INT\necho $$ >> PIDS\nwhile :; do sleep 0.02; done\n";

async fn timeout_ends_who_took_a_way_out(cgroups: impl Fn() -> Option<CgroupTree>) {
    for way in WAYS_OUT {
        let dir = tempfile::tempdir().unwrap();
        let (app, pids) = (dir.path().join("app"), dir.path().join("pids"));
        std::fs::write(&app, DEAF.replace("PIDS", &pids.to_string_lossy())).unwrap();
        std::fs::write(&pids, "").unwrap();
        for (path, mode) in [(dir.path(), 0o755), (&*app, 0o755), (&*pids, 0o666)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut bench = Bench::with(None, cgroups());
        // It begins once the deaf one is there, so that there is no timeout to be guessed.
        let patient = ProcessSettings {
            kill_after: Duration::from_millis(300),
            ..settings()
        };
        let run = bench.launch(sh(&way.replace("APP", &app.to_string_lossy())), patient, b"");
        bench.started(run).await;
        eventually(way, || !pids_in(&pids).is_empty()).await;
        bench.launches.control(run, Control::Terminate(Reason::Superseded));
        assert_eq!(bench.ended(run).await.outcome, Outcome::Terminated, "{way}");
        for pid in pids_in(&pids) {
            assert!(!alive(pid), "{way}: {pid} survived");
        }
    }
}

#[test]
fn whatever_way_out_was_taken_the_cgroup_holds_it() {
    alone(async {
        let claim = || CgroupTree::claim(None).ok();
        let Some(tree) = claim() else {
            eprintln!("left out: there is no cgroup v2 hierarchy that can be written to");
            return;
        };
        let path = tree.path().to_owned();
        drop(tree);
        timeout_ends_who_took_a_way_out(claim).await;
        // The service that has the last of them ends on its own.
        eventually("none is left behind", || !path.exists()).await;
    });
}

#[test]
fn without_cgroups_whoever_took_a_way_out_is_followed() {
    alone(timeout_ends_who_took_a_way_out(|| None));
}

/// Nobody has seen it before it was too late to ask whose it is: its parent is gone, and it has neither group, session nor environment.
#[test]
fn without_cgroups_who_flees_while_the_run_is_ended_is_found() {
    alone(async {
        let dir = tempfile::tempdir().unwrap();
        let (app, pids, ready) = (
            dir.path().join("app"),
            dir.path().join("pids"),
            dir.path().join("ready"),
        );
        std::fs::write(&app, DEAF.replace("PIDS", &pids.to_string_lossy())).unwrap();
        std::fs::write(&pids, "").unwrap();
        std::fs::set_permissions(&app, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut bench = Bench::new();
        let patient = ProcessSettings {
            kill_after: Duration::from_millis(300),
            ..settings()
        };
        let script = format!(
            "trap 'setsid -f env -i {}; while [ ! -s {} ]; do :; done; exit' TERM; : > {}; while :; do :; done",
            app.display(),
            pids.display(),
            ready.display()
        );
        let run = bench.launch(sh(&script), patient, b"");
        bench.started(run).await;
        eventually("it is ready", || ready.exists()).await;
        bench.launches.control(run, Control::Terminate(Reason::Superseded));
        assert_eq!(bench.ended(run).await.outcome, Outcome::Terminated);
        for pid in pids_in(&pids) {
            assert!(!alive(pid), "{pid} survived");
        }
    });
}

/// What a run leaves behind when it ends by itself is left alone, and its cgroup goes when it does.
#[test]
fn what_a_run_leaves_behind_on_purpose_lives_on() {
    alone(async {
        let Ok(tree) = CgroupTree::claim(None) else {
            eprintln!("left out: there is no cgroup v2 hierarchy that can be written to");
            return;
        };
        let path = tree.path().to_owned();
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let mut bench = Bench::with(None, Some(tree));
        let script = format!("setsid -f sh -c 'echo $$ > {}; exec sleep 1000'", pids.display());
        let (outcome, _) = bench.run(sh(&script), settings(), b"").await;
        assert_eq!(outcome, Outcome::Exited(0));
        eventually("it is there", || !pids_in(&pids).is_empty()).await;
        let left = pids_in(&pids)[0];
        assert!(alive(left));
        let cgroup = std::fs::read_to_string(format!("/proc/{left}/cgroup")).unwrap();
        assert!(
            cgroup
                .lines()
                .any(|line| line.starts_with("0::") && line.contains("/run-")),
            "{cgroup}"
        );
        kill(left, Signal::SIGKILL).unwrap();
        drop(bench);
        let runs = || {
            std::fs::read_dir(&path)
                .into_iter()
                .flatten()
                .flatten()
                .filter(|e| e.path().is_dir())
        };
        eventually("it can be removed", || {
            runs().all(|run| std::fs::remove_dir(run.path()).is_ok())
        })
        .await;
    });
}

/// From the moment that a run is told of, it can be ended: also before it is set up.
#[test]
fn the_first_moment_is_early_enough_to_end_a_run() {
    alone(async {
        let mut bench = Bench::new();
        let patient = ProcessSettings {
            kill_after: Duration::from_secs(600),
            ..settings()
        };
        for _ in 0..100 {
            let run = bench.launch(argv(&["/bin/sleep", "1000"]), patient.clone(), b"");
            bench.started(run).await;
            bench.launches.control(run, Control::Terminate(Reason::Superseded));
            assert_eq!(bench.ended(run).await.outcome, Outcome::Terminated);
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
