//! Hostile `.twc` files: whatever they do, loading ends, and other files load.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use twitcher_config::{Config, Evaluator, report};

use super::{Dir, names};

#[test]
fn a_file_that_never_ends_is_ended() {
    let budget = Duration::from_secs(1);
    let mut dir = Dir::with_budget(
        &[
            (
                "a.twc",
                "def f():\n    for a in range(1000000000):\n        pass\nf()\n",
            ),
            // Time goes by inside the library, which never looks at the clock.
            (
                "b.twc",
                "x = sorted(list(range(3000000)) * 4, key=lambda x: -x)\ny = 'a' in 'b' * 100000000\n",
            ),
            ("c.twc", "RegisterWatch('/c', Exec('x'))\n"),
        ],
        budget,
    );
    let started = Instant::now();
    let reload = dir.reload();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(names(&reload), ["c-1"], "the next file is not to blame");
    let text = report::render_errors(&reload).replace(dir.dir.path().to_str().unwrap(), "DIR");
    assert!(
        text.starts_with("DIR/a.twc:2:5: evaluation took more than 1 s"),
        "{text}"
    );
    assert!(text.contains("DIR/b.twc"), "{text}");
}

#[test]
fn a_file_that_eats_memory_is_ended() {
    let mut dir = Dir::new(&[
        ("a.twc", "x = ['a' * 1000 for a in range(100000000)]\n"),
        ("b.twc", "x = 'a' * 1999999999\n"),
        ("c.twc", "x = list(range(1000000000))\n"),
        ("d.twc", "RegisterWatch('/d', Exec('x'))\n"),
    ]);
    let reload = dir.reload();
    assert_eq!(names(&reload), ["d-1"]);
    let text = report::render_errors(&reload).replace(dir.dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(text, @r"
    DIR/a.twc:1:26: evaluation used more than 384 MiB of memory
      | x = ['a' * 1000 for a in range(100000000)]
      |                          ^

    DIR/b.twc: evaluation used more than 1024 MiB of memory

    DIR/c.twc: evaluation used more than 1024 MiB of memory
    ");
}

#[test]
fn deep_recursion_and_nesting_are_survived() {
    let nested = format!("x = {}1{}\n", "(".repeat(100_000), ")".repeat(100_000));
    let lists = "x = []\nfor a in range(1000000):\n    x = [x]\ny = str(x)\n";
    let mut dir = Dir::new(&[
        ("a.twc", "def f(n):\n    return f(n + 1)\nf(0)\n"),
        ("b.twc", &nested),
        ("c.twc", lists),
        ("d.twc", "RegisterWatch('/d', Exec('x'))\n"),
    ]);
    let reload = dir.reload();
    assert_eq!(names(&reload), ["d-1"]);
    let text = report::render_errors(&reload).replace(dir.dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(text, @r"
    DIR/a.twc:2:12: more than 500 functions call one another
      |     return f(n + 1)
      |            ^
      hint: called from DIR/a.twc:3:1

    DIR/b.twc: expressions or values are nested too deeply

    DIR/c.twc: expressions or values are nested too deeply
    ");
}

#[test]
fn a_flood_of_prints_and_watches_is_bounded() {
    let mut dir = Dir::new(&[
        ("a.twc", "for a in range(5000):\n    print('line', a)\n"),
        (
            "b.twc",
            "for a in range(200000):\n    RegisterWatch('/%d' % a, Exec('x'))\n",
        ),
        ("c.twc", "RegisterWatch('/c', Exec('x' * 50000000))\n"),
        ("d.twc", "print('d\\x1b[2J\\nx', [1])\n"),
        (
            "e.twc",
            "for a in range(100):\n    RegisterWatch('/e', Exec('x' * 1000000))\n",
        ),
        (
            "f.twc",
            "RegisterWatch('/f', Exec('x'), **{'zn%d' % n: 1 for n in range(50000)})\n",
        ),
    ]);
    let reload = dir.reload();
    assert_eq!(reload.prints.len(), 1002);
    let first = &reload.prints[0];
    assert_eq!((first.line, first.text.as_str()), (Some(2), "line 0"));
    assert_eq!(
        reload.prints[1000].text,
        "printed more than 1000 lines; the rest is not shown"
    );
    assert_eq!(reload.prints[1001].text, r"d\u{1b}[2J x [1]");
    let text = report::render_errors(&reload).replace(dir.dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(text, @r"
    DIR/b.twc:2:5: more than 100000 watches in one file
      |     RegisterWatch('/%d' % a, Exec('x'))
      |     ^

    DIR/c.twc:1:1: a watch is too large
      | RegisterWatch('/c', Exec('x' * 50000000))
      | ^

    DIR/e.twc: evaluation printed or registered more than 48 MiB

    DIR/f.twc:1:1: a watch has no more than 34 fields
      | RegisterWatch('/f', Exec('x'), **{'zn%d' % n: 1 for n in range(50000)})
      | ^
    ");
}

#[test]
fn ten_thousand_watches_load_in_one_go() {
    let text = "for n in range(10000):\n    RegisterWatch('/n/%d' % n, Exec('true'))\n";
    let watches = Dir::new(&[("a.twc", text)]).watches();
    assert_eq!((watches.len(), &*watches[9999].name), (10_000, "a-10000"));
}

#[test]
fn a_helper_that_cannot_start_is_an_error() {
    let mut dir = Dir::new(&[("a.twc", "")]);
    let babbling = tempfile::tempdir().unwrap();
    let babbler = babbling.path().join("yes");
    // Written by a process of its own: while this one has it open for writing, so may what another test starts, and then it cannot run.
    let make = "printf '#!/bin/sh\\nexec yes >&0\\n' >$0 && chmod 755 $0";
    let made = Command::new("sh").args(["-c", make]).arg(&babbler).status().unwrap();
    assert!(made.success());
    for (program, message) in [
        ("/nonexistent", "cannot start the process"),
        ("/bin/true", "broke down"),
        (babbler.to_str().unwrap(), "nonsense"),
    ] {
        dir.config = Config::new(vec![dir.dir.path().to_owned()], Evaluator::new(program.into()));
        let errors = dir.errors();
        assert!(errors.contains(message), "{program}: {errors}");
    }
}

/// A helper, and the daemon's end of its socket.
fn helper() -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_twitcher"))
        .arg("evaluate")
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .unwrap();
    (child, ours)
}

#[test]
fn the_helper_has_no_rights() {
    let (mut child, mut socket) = helper();
    // Its first message says that it has given up its rights.
    socket.read_exact(&mut [0; 4]).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" ")
    };
    if nix::unistd::geteuid().is_root() {
        let user = field("Uid:").split(' ').next().unwrap().to_owned();
        assert_eq!(field("Uid:"), [&*user; 4].join(" "));
        assert!(!["0", "65534"].contains(&&*user), "{user}");
        // Nobody else is that user, unless it is the package's.
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let others = users.lines().filter(|line| line.split(':').nth(2) == Some(&*user));
        assert!(
            others.into_iter().all(|line| line.starts_with("twitcher-helper:")),
            "{user}"
        );
        assert!(!field("Gid:").split(' ').any(|group| group == "0" || group == "65534"));
        // Its directory in /proc is root's: it cannot be followed, nor read by others of its user.
        let owner = fs::metadata(format!("/proc/{}/mem", child.id())).unwrap().uid();
        assert_eq!(owner, 0);
        let signalled = Command::new("/bin/sh")
            .args(["-c", "kill -0 $0", &child.id().to_string()])
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        assert!(!signalled.status.success(), "nobody can signal it");
        assert_eq!(field("Groups:"), "");
        assert_eq!(field("CapEff:"), "0000000000000000");
        assert_eq!(field("CapPrm:"), "0000000000000000");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    // Every thread has a filter for its system calls.
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let tasks: Vec<_> = tasks.map(|task| task.unwrap().path().join("status")).collect();
    assert_eq!(tasks.len(), 2);
    for task in tasks {
        let status = fs::read_to_string(task).unwrap();
        assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    for (name, most) in [
        ("Max core file size", "0"),
        ("Max file size", "0"),
        ("Max address space", "1073741824"),
        ("Max processes", "0"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let values: Vec<&str> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(values, [most, most], "{name}");
    }
    drop(socket);
    child.wait().unwrap();
}

#[test]
fn the_helper_does_not_outlive_the_daemon() {
    // The kernel counts the thread that started it as its parent.
    let daemon = std::thread::spawn(|| {
        let (child, mut socket) = helper();
        let text = "print(1)\nx = [a for a in range(1000000000) if a < 0]\n";
        let request =
            serde_json::json!({"Evaluate": {"file": "/a.twc", "text": text, "budget_ms": 10_000}}).to_string();
        let length = u32::try_from(request.len()).unwrap().to_le_bytes();
        socket.write_all(&[&length, request.as_bytes()].concat()).unwrap();
        // It has begun once it has said that it is ready; what it prints is still in its buffer.
        socket.read_exact(&mut [0; 4]).unwrap();
        // Open to the end: it is not the end of the stream that ends it.
        (child, socket)
    });
    let (mut child, _socket) = daemon.join().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "{status}");
}
