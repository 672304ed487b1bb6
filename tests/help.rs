//! The pages of `twitcher help`: what they show must work.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use crate::support::daemon::{PROGRAM, Site};
use crate::support::guests::guest;
use crate::support::schema::is_payload;

fn twitcher(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn page(topic: &str) -> String {
    String::from_utf8(twitcher(&["help", topic]).stdout).unwrap()
}

/// The names of the pages, as `help topics` lists them.
fn topics() -> Vec<String> {
    let list = page("topics");
    let names = list.lines().filter_map(|line| line.strip_prefix("  "));
    names.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// The examples of a page: indented lines that follow an empty one, up to the next line at the margin.
fn examples(page: &str) -> Vec<String> {
    let mut examples = vec![String::new()];
    let mut before = "";
    for line in page.lines() {
        let example = examples.last_mut().unwrap();
        match line.strip_prefix("    ") {
            Some(code) if before.is_empty() || !example.is_empty() => {
                example.push_str(code);
                example.push('\n');
            }
            _ if line.is_empty() && !example.is_empty() => example.push('\n'),
            _ if !example.is_empty() => examples.push(String::new()),
            _ => {}
        }
        before = line;
    }
    examples
}

#[test]
fn every_example_of_a_configuration_is_one() {
    let component = guest("logs");
    let mut checked = 0;
    for topic in topics() {
        for example in examples(&page(&topic)) {
            let is_json = example.starts_with(['[', '{']) && example.contains('"');
            if !is_json && !example.contains("RegisterWatch(") {
                continue;
            }
            if is_json && example.contains("watch_type") {
                is_payload(&serde_json::from_str(&example).unwrap()).unwrap();
                continue;
            }
            let mut text = example;
            for bundle in ["\"render\"", "\"my-action\""] {
                text = text.replace(bundle, &format!("{component:?}"));
            }
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join(if is_json { "a.json" } else { "a.twc" });
            fs::write(&file, &text).unwrap();
            let output = twitcher(&["check", "--json", file.to_str().unwrap()]);
            let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(output.status.success(), "{topic}:\n{text}\n{found:#}");
            assert!(!found["watches"].as_array().unwrap().is_empty(), "{topic}:\n{text}");
            checked += 1;
        }
    }
    assert!(checked >= 11, "only {checked} examples were found");
}

#[test]
fn the_environment_is_the_one_that_is_told() {
    let site = Site::new();
    site.set("/a", "x");
    site.config(
        "a.twc",
        "RegisterWatch('/a', Exec(['cp', '/proc/self/environ', 'OUT/env']))\n",
    );
    let daemon = site.start_in(&[("TZ", "UTC".as_ref())]);
    daemon.wait_runs("a-1", 1);
    let environment = site.read("out/env");
    let names: BTreeSet<&str> = environment
        .split_terminator('\0')
        .map(|entry| entry.split('=').next().unwrap())
        .collect();
    let page = page("actions");
    let section = page
        .split("\nENVIRONMENT\n")
        .nth(1)
        .unwrap()
        .split("\nEVENTS\n")
        .next()
        .unwrap();
    let told: BTreeSet<&str> = section
        .lines()
        .filter(|line| !line.is_empty() && line.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    assert_eq!(names, told);
}

#[test]
fn help_goes_on_to_name_commands() {
    let output = twitcher(&["help", "plugin", "inspect"]);
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("Usage: twitcher plugin inspect")
    );
    let output = twitcher(&["help", "pluginx"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("did you mean `plugin")
    );
    assert!(twitcher(&["run", "--help"]).status.success());
}
