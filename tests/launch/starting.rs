//! What a process starts with, and how it is told what became of it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use twitcher_launch::Control;
use twitcher_model::{Identity, Limit, Outcome, ProcessSettings, Resource, RunId};
use twitcher_sandbox::channel::Reason;

use crate::bench::{Bench, alone, argv, settings, sh};

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
