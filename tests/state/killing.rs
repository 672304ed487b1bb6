//! `kill -9` of the daemon, of its launcher, of both, at random moments, from the first instant of their lives on: no two actions of a
//! watch overlap, and the last state is run for.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::{kill_9, launcher};
use crate::support::daemon::{PROGRAM, Site};
use crate::support::until;

/// How often something is killed. `TWITCHER_KILLS` asks for more.
const KILLS: u32 = 40;

/// An action that holds a lock for as long as its main process lives, and says so if another has it.
const OWNER: &str = "d=$(cat); exec 9> OUT/lock-$TWITCHER_NAME; flock -n 9 || echo $TWITCHER_NAME >> OUT/overlaps; \
    sleep SECONDS 9>&-; echo $d >> OUT/done-$TWITCHER_NAME";

const WATCHES: [(&str, &str, &str); 5] = [
    ("queue", "0.03", ""),
    ("slow", "0.4", ""),
    ("restart", "0.1", "run_mode=RESTART, kill_after=20"),
    ("discard", "0.1", "run_mode=DISCARD"),
    ("changed", "0.05", "run_on_load=IF_CHANGED"),
];

const FUNCTION: &str = r#"
def function():
    data = stdin()
    if run(["/bin/mkdir", "OUT/lock-function"]).code != 0:
        open("OUT/overlaps", "a").write("function\n")
    run(["/bin/sleep", "0.1"])
    run(["/bin/rmdir", "OUT/lock-function"])
    open("OUT/done-function", "a").write(data + "\n")

RegisterWatch("/function", function, name="function")
"#;

#[test]
fn no_two_at_once_and_the_last_state_is_run_for_whatever_is_killed_when() {
    let seed = std::env::var("TWITCHER_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let kills = std::env::var("TWITCHER_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    println!("TWITCHER_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let site = Site::new();
    let mut config = FUNCTION.to_owned();
    for (name, seconds, fields) in WATCHES {
        let action = OWNER.replace("SECONDS", seconds);
        config += &format!("RegisterWatch('/{name}', Exec({action:?}), name='{name}', {fields})\n");
    }
    site.config("a.twc", &config);
    let names: Vec<&str> = WATCHES.iter().map(|(name, _, _)| *name).chain(["function"]).collect();
    let (mut written, mut said) = (0, String::new());
    let mut write = |random: &mut fastrand::Rng| {
        written += 1;
        site.set(
            &format!("/{}", names[random.usize(..names.len())]),
            &written.to_string(),
        );
    };
    for _ in 0..kills {
        let mut daemon = site.spawn(Path::new(PROGRAM));
        writeln!(said, "daemon {}", daemon.pid()).unwrap();
        if random.bool() {
            daemon.wait("armed", |line| line["message"] == "all watches are armed");
        }
        for _ in 0..random.u32(1..5) {
            write(&mut random);
            // Not to wait for anything: to be at another moment.
            std::thread::sleep(Duration::from_micros(random.u64(..120_000)));
            if random.u32(..4) == 0
                && let Some(launcher) = launcher(daemon.pid())
            {
                kill_9(launcher);
            }
        }
        assert!(daemon.runs(), "it ended by itself:\n{}", daemon.text());
        let launcher = launcher(daemon.pid()).filter(|_| random.bool());
        let daemon_first = random.bool();
        if let Some(launcher) = launcher.filter(|_| !daemon_first) {
            kill_9(launcher);
        }
        said.push_str(&daemon.text());
        daemon.crash();
        if let Some(launcher) = launcher {
            kill_9(launcher);
        }
        assert_eq!(site.read("out/overlaps"), "", "{said}");
    }
    let found = said.matches("a run of the last daemon still runs").count();
    assert!(
        found > kills as usize / 4,
        "only {found} runs outlived their daemon: this has tested nothing"
    );
    for name in &names {
        site.set(&format!("/{name}"), "last");
    }
    let daemon = site.start();
    for name in &names {
        until(&format!("{name} has run for the last state; {}", daemon.text()), || {
            site.lines(&format!("out/done-{name}"))
                .last()
                .is_some_and(|line| line == "last")
        });
    }
    assert_eq!(site.read("out/overlaps"), "");
    assert_eq!(daemon.stop().code(), Some(0));
}
