//! Samples of output in README are what the program prints. Times, ids, numbers and hashes are others each time; nothing else may be.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use crate::support::DEADLINE;
use crate::support::daemon::{PROGRAM, Site};

const README: &str = include_str!("../README.md");

/// What README shows below a command, up to the end of its block or the next command.
fn sample(command: &str) -> Vec<&'static str> {
    let below = README
        .split(&format!("\n$ {command}"))
        .nth(1)
        .unwrap_or_else(|| panic!("{command} is not there"));
    let lines = below.lines().skip(1);
    let sample: Vec<&str> = lines
        .take_while(|line| *line != "```" && !line.starts_with("$ "))
        .collect();
    assert!(!sample.is_empty(), "{command} shows nothing");
    sample
}

/// A line in which each word with a digit is the same, whatever it is; without the time that a line of the log begins with.
fn masked(line: &str) -> String {
    let line = match line.find(" INFO ") {
        Some(at) => &line[at..],
        None => line,
    };
    let line = format!("{line} ");
    let mut text = String::new();
    for word in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '.') {
        let end = word
            .trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != '.')
            .len();
        match word[..end].chars().any(|c| c.is_ascii_digit()) {
            true => text += "#",
            false => text += &word[..end],
        }
        text += &word[end..];
    }
    // Which of these is the unit depends on how fast the machine is.
    for unit in ["us", "s"] {
        for end in [" ", ","] {
            text = text.replace(&format!("# {unit}{end}"), &format!("# ms{end}"));
        }
    }
    text.trim_end().to_owned()
}

#[test]
fn what_check_says_of_a_mistake() {
    let site = Site::new();
    let sample = sample("twitcher check /etc/twitcher\n".trim_end());
    let source = sample
        .iter()
        .find_map(|line| line.strip_prefix("  | Register"))
        .unwrap();
    site.config("repo.twc", &format!("{}Register{source}\n", "\n".repeat(6)));
    let dir = site.path("conf");
    let output = Command::new(PROGRAM).arg("check").arg(&dir).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said)
        .unwrap()
        .replace(&*dir.to_string_lossy(), "/etc/twitcher");
    for line in sample {
        assert!(said.lines().any(|said| said == line), "{line}\nis not in\n{said}");
    }
}

#[test]
fn what_run_logs() {
    let site = Site::new();
    site.set("/git/head", "4f2a91c");
    site.config(
        "repo.twc",
        "RegisterWatch(znode='/git/head', action=Exec('read v; echo would pull $v'), description='pull the repo')\n",
    );
    let sample = sample("twitcher run --tree tree --config /etc/twitcher");
    let mut child = Command::new(PROGRAM)
        .args([
            "run",
            "--log-format",
            "text",
            "--tree",
            "tree",
            "--config",
            "conf",
            "--state-dir",
            "state",
        ])
        .current_dir(site.path(""))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || {
        stderr
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    let mut said = Vec::new();
    let end = Instant::now() + DEADLINE;
    let mut changed = false;
    while said
        .iter()
        .filter(|line: &&String| line.contains("INFO run ended"))
        .count()
        < 2
    {
        let line = lines.recv_timeout(end.saturating_duration_since(Instant::now()));
        said.push(masked(
            &line.unwrap_or_else(|_| panic!("no more than\n{}", said.join("\n"))),
        ));
        if !changed && said.iter().any(|line| line.contains("run ended")) {
            site.set("/git/head", "9d03b7e");
            changed = true;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for line in sample {
        let line = masked(line);
        assert!(said.contains(&line), "{line}\nis not in\n{}", said.join("\n"));
    }
}

#[test]
fn what_trying_a_component_prints() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let component = target.join("wasm32-wasip2/release/hello.wasm");
    assert!(component.is_file(), "{} is missing: make plugins", component.display());
    let cache = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM)
        .args(["plugin", "run"])
        .arg(component)
        .args(["--data", r#"{"a":1}"#, "--path", "/x"])
        .env("XDG_CACHE_HOME", cache.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let said = String::from_utf8([output.stderr, output.stdout].concat()).unwrap();
    // The action of README is the one that `plugin new` makes, which logs the same as this but for the version.
    let said: Vec<String> = said
        .lines()
        .map(|line| masked(line).replace(" version=#", ""))
        .collect();
    for line in sample("twitcher plugin run") {
        let line = masked(line);
        assert!(said.contains(&line), "{line}\nis not in\n{}", said.join("\n"));
    }
}

#[test]
fn every_sample_of_output_is_tested() {
    // That of `status` is compared with what `status` prints by its own tests.
    let tested = [
        "twitcher check /etc/twitcher",
        "twitcher run --tree",
        "twitcher plugin run",
        "twitcher status",
    ];
    let mut command = None;
    let mut in_console = false;
    for line in README.lines() {
        match line {
            "```console" => in_console = true,
            "```" => (in_console, command) = (false, None),
            _ => match line.strip_prefix("$ ") {
                Some(said) if in_console => command = Some(said),
                None if in_console && !line.is_empty() => {
                    let command = command.unwrap();
                    assert!(
                        tested.iter().any(|tested| command.starts_with(tested)),
                        "{command}: {line}"
                    );
                }
                _ => {}
            },
        }
    }
}
