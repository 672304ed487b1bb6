use std::collections::BTreeSet;

use clap::CommandFactory;

use super::markup::{Block, parse};
use super::*;
use crate::args::Cli;
use twitcher_model::Trigger;

fn topic(name: &str) -> String {
    TOPICS.iter().find(|topic| topic.name == name).unwrap().text()
}

/// The terms that a page defines below a heading.
fn terms(page: &str, heading: &str) -> Vec<String> {
    let blocks = parse(&topic(page));
    let below = blocks
        .into_iter()
        .skip_while(|block| *block != Block::Heading(heading.to_owned()));
    below
        .skip(1)
        .take_while(|block| !matches!(block, Block::Heading(_)))
        .filter_map(|block| match block {
            Block::Item { term, .. } => Some(term),
            _ => None,
        })
        .collect()
}

fn help(words: &[&str]) -> Result<String, Unknown> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    answer(&mut Cli::command(), &words)
}

/// Every long flag of a command and of those below it, with its aliases.
fn flags(command: &Command, found: &mut BTreeSet<String>) {
    for argument in command.get_arguments() {
        found.extend(argument.get_long().map(str::to_owned));
        found.extend(argument.get_all_aliases().into_iter().flatten().map(str::to_owned));
    }
    for below in command.get_subcommands() {
        flags(below, found);
    }
}

#[test]
fn help_is_of_commands_and_of_topics() {
    assert!(help(&[]).unwrap().contains("Usage: twitcher"));
    assert!(help(&["run"]).unwrap().contains("Usage: twitcher run"));
    assert!(help(&["plugin", "run"]).unwrap().contains("Usage: twitcher plugin run"));
    let list = help(&["topics"]).unwrap();
    for topic in TOPICS {
        assert!(list.contains(topic.summary), "{}", topic.name);
        assert_eq!(help(&[topic.name]).unwrap(), topic.text());
        // The page of a topic may stand for a command that only has others below it, whose help is a list of them.
        let hides = |command: &Command| !command.is_subcommand_required_set();
        let hidden = Cli::command().find_subcommand(topic.name).is_some_and(hides);
        assert!(!hidden, "{} is a command and a topic", topic.name);
    }
}

#[test]
fn who_mistypes_is_told_what_there_is() {
    let text = |words| help(words).unwrap_err().to_string();
    insta::assert_snapshot!(text(&["trouble-shooting"]), @"no command or topic `trouble-shooting`, did you mean `troubleshooting`?; `twitcher help` lists the commands, `twitcher help topics` the topics");
    insta::assert_snapshot!(text(&["plugin", "xyz"]), @"no command or topic `plugin xyz`; `twitcher help` lists the commands, `twitcher help topics` the topics");
}

#[test]
fn pages_fit_a_terminal() {
    for topic in TOPICS {
        for line in topic.text().lines() {
            let wide = line.chars().count() > 80 && !line.starts_with("    ");
            assert!(!wide && line.chars().count() <= 100, "{}: {line}", topic.name);
            assert!(!line.ends_with(' ') && !line.starts_with('@'), "{}: {line}", topic.name);
        }
    }
}

#[test]
fn the_reference_has_every_field_with_what_the_schema_says() {
    let schema = config::schema();
    for (object, heading) in [
        ("Watch", "FIELDS OF REGISTERWATCH"),
        ("Component", "ARGUMENTS OF WASM"),
        ("Deploy", "ARGUMENTS OF DEPLOY"),
        ("Retry", "ARGUMENTS OF RETRY"),
        ("Rollout", "ARGUMENTS OF ROLLOUT"),
        ("Wave", "ARGUMENTS OF WAVE"),
        ("Group", "ARGUMENTS OF REGISTERGROUP"),
    ] {
        let fields = schema["$defs"][object]["properties"].as_object().unwrap();
        let terms = terms("configuration", heading);
        let named: BTreeSet<&str> = terms.iter().map(|term| term.split(' ').next().unwrap()).collect();
        assert_eq!(named, fields.keys().map(String::as_str).collect(), "{object}");
    }
    let page = topic("configuration");
    for exact in [
        "znode (string or list; required)\n    Path of the znode to watch, or a list of several:",
        "action (Exec(...), Wasm(...), Deploy(...) or a function; required)\n",
        "run_mode (QUEUE | DISCARD | PARALLEL | RESTART; default QUEUE)\n",
        "run_on_load (True | False | IF_CHANGED; default True)\n",
        "on_failure (KEEP | STOP or Retry(...); default KEEP)\n",
        "rollout (Rollout(...))\n",
        "verify (Exec(...))\n",
        "max_parallel (whole number from 1 to 10000; default 16)\n",
        "uid (string or whole number)\n",
        "notify_signal (a name such as SIGHUP or whole number from 1 to 31)\n",
        "kill_after (number; default 5)\n",
        "jitter (number from 0 to 1; default 0.2)\n",
        "memory (string or whole number; default \"64MiB\")\n",
        "env (dict; default {})\n",
    ] {
        assert!(page.contains(exact), "{exact} is not in\n{page}");
    }
}

#[test]
fn flags_that_pages_name_exist() {
    // Of other programs.
    const OTHERS: [&str; 16] = [
        "features",
        "package",
        "quiet",
        "ff-only",
        "release",
        "target",
        "now",
        "full",
        "drop-in",
        "daemon-reload",
        "config-from-stdin",
        "unix-socket",
        "offline",
        "version",
        "help",
        "no-install-recommends",
    ];
    let mut known: BTreeSet<String> = OTHERS.map(str::to_owned).into();
    flags(&Cli::command(), &mut known);
    for topic in TOPICS {
        let text = topic.text();
        for (at, _) in text.match_indices("--") {
            let flag: String = text[at + 2..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
                .collect();
            assert!(flag.is_empty() || known.contains(&flag), "{}: --{flag}", topic.name);
        }
    }
}

#[test]
fn commands_that_pages_name_exist() {
    let program = Cli::command();
    for topic in TOPICS {
        let text = topic.text();
        let lines = text.lines().flat_map(|line| line.split('`').chain([line.trim_start()]));
        for words in lines.filter_map(|part| part.strip_prefix("twitcher ")) {
            let mut command = &program;
            for word in words.split_whitespace() {
                let is_name = word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
                if !is_name || !command.has_subcommands() {
                    break;
                }
                let below = command.find_subcommand(word);
                assert!(below.is_some(), "{}: twitcher {words}", topic.name);
                let Some(below) = below else { break };
                command = below;
            }
        }
    }
}

#[test]
fn every_event_is_explained() {
    let events = [
        Trigger::Load,
        Trigger::Created,
        Trigger::Data,
        Trigger::Children,
        Trigger::Tree,
        Trigger::Deleted,
        Trigger::Retry,
        Trigger::Manual,
    ];
    let explained = terms("actions", "EVENTS");
    assert_eq!(explained, events.map(Trigger::as_str));
}

#[test]
fn every_metric_is_explained() {
    let source = include_str!("../../../../observe/src/metrics.rs");
    let listed = source
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `twitcher_")?.split_once('`'));
    let listed: Vec<String> = listed.map(|(name, _)| format!("twitcher_{name}")).collect();
    assert!(listed.len() > 20);
    assert_eq!(terms("metrics", "METRICS"), listed);
}

#[test]
fn every_state_of_a_watch_is_explained() {
    let words: Vec<&str> = STATES.iter().map(|info| info.words).collect();
    assert_eq!(terms("troubleshooting", "WHY DID IT NOT RUN?"), words);
}

#[test]
fn pages_are_manual_pages() {
    let dir = tempfile::tempdir().unwrap();
    write(Cli::command(), dir.path()).unwrap();
    for topic in TOPICS {
        let page = std::fs::read_to_string(dir.path().join(format!("twitcher-{}.7", topic.name))).unwrap();
        assert!(
            page.contains(&format!(".TH TWITCHER-{} 7 \"\" ", topic.name.to_uppercase())),
            "{page}"
        );
        assert!(page.contains(".SH \"SEE ALSO\"\ntwitcher(1), "), "{page}");
    }
    assert!(dir.path().join("twitcher-plugin-run.1").is_file());
}

/// A command and those below it, as far as somebody is to know of them.
fn shown(command: &Command) -> Vec<Command> {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    below.flat_map(shown).chain([command.clone()]).collect()
}

#[test]
fn the_manual_has_every_topic_command_and_flag() {
    let manual = html(Cli::command());
    for topic in TOPICS {
        assert!(manual.contains(&format!("<h2 id=\"{0}\"><a href=\"#{0}\">{0}</a></h2>", topic.name)));
    }
    let mut program = Cli::command();
    program.build();
    for command in shown(&program) {
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let term = argument.to_string().replace('<', "&lt;").replace('>', "&gt;");
            assert!(
                manual.contains(&format!("\">{term}</a></dt>")),
                "{}: {term}",
                command.get_name()
            );
        }
    }
    for part in [
        "id=\"command-fleet-status\"",
        "id=\"configuration-fields-of-registerwatch-run_mode\"",
        "<a href=\"#command-fleet-laggards\"><code>twitcher fleet laggards --help</code></a>",
        "<a href=\"#troubleshooting\"><code>twitcher help troubleshooting</code></a>",
        "[default 600]",
    ] {
        assert!(manual.contains(part), "{part}");
    }
    // The processes that the program starts itself are nobody else's.
    assert!(!manual.contains("twitcher launcher"));
}

/// Whether a text is what a format string makes, whatever stands in its braces.
fn is_made_by(format: &str, text: &str) -> bool {
    let mut parts = format.split('{').enumerate().map(|(at, part)| match at {
        0 => part,
        _ => part.split_once('}').map_or("", |(_, rest)| rest),
    });
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || format.ends_with('}')
}

#[test]
fn the_figures_are_of_what_the_benchmark_measures_and_readme_has_them_from_there() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/bench");
    let sources = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let sources: String = sources.collect();
    let formats: Vec<&str> = sources
        .split('"')
        .filter(|text| text.len() > 8 && !text.contains('\n'))
        .collect();
    let mut count = 0;
    for [what, ..] in figures::rows() {
        // In a source a quotation mark ends the text.
        let made = |format: &&str| is_made_by(format, what);
        assert!(formats.iter().any(made) || what.contains('"'), "{what}");
        count += 1;
    }
    assert!(count > 40, "{count}");
    let readme = include_str!("../../../../../README.md");
    let table = readme
        .split("| measured | median | ratio |\n| --- | --- | --- |\n")
        .nth(1)
        .unwrap();
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 10);
    for row in rows {
        assert!(include_str!("figures.md").lines().any(|line| line == row), "{row}");
    }
}
