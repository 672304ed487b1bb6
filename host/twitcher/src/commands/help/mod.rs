//! The pages that `twitcher help TOPIC` prints, that are the manual pages twitcher-TOPIC(7), and that `twitcher help --html` has in one.
//!
//! Each is a plain text in `topics/`, shown on a terminal as it is. What must not drift from the program is not written there: a line
//! `@fields Watch@` stands for the fields that the JSON Schema has (see `field_reference.rs`), `@states@` for the states of a watch, `@figures@` for
//! what the benchmark has measured, and tests compare the rest with the code.
//!
//! This module must not know what any of it does: it reads the schema and the definition of the command line, and nothing else.

mod field_reference;
mod figures;
mod man;
mod manual;
mod markup;

use clap::Command;

pub use man::write;
pub use manual::html;

use twitcher_config as config;
use twitcher_control::api::STATES;

/// A page.
#[derive(Debug, Clone, Copy)]
pub struct Topic {
    /// How it is asked for: lower case, one word, the name of no command.
    pub name: &'static str,
    /// What it is about, on one line.
    pub summary: &'static str,
    source: &'static str,
}

macro_rules! topic {
    ($name:literal, $summary:literal) => {
        Topic {
            name: $name,
            summary: $summary,
            source: include_str!(concat!("topics/", $name, ".txt")),
        }
    };
}

/// Every page, in the order in which a newcomer reads them.
pub const TOPICS: [Topic; 14] = [
    topic!("configuration", "configuration files: every field, with its default"),
    topic!("actions", "writing actions: commands, functions, components"),
    topic!(
        "plugins",
        "plugins in Rust, Python, JavaScript, Go and C: build, run, bundle"
    ),
    topic!("templates", "files from templates and znodes: the plugin render"),
    topic!("znodes", "reading, setting and watching znodes from the command line"),
    topic!("guarantees", "what is guaranteed, and what is not"),
    topic!("bundles", "deploying plugins: bundles, keys and trust"),
    topic!(
        "fleet",
        "many hosts on the same znodes: who has handled the last change"
    ),
    topic!(
        "security",
        "who is trusted with what, what each layer stops, what is left"
    ),
    topic!("systemd", "the service: reload, watchdog, hardening, overrides"),
    topic!("metrics", "metrics for Prometheus, alerts and a dashboard"),
    topic!("performance", "what it costs, measured"),
    topic!("troubleshooting", "why did it not run?"),
    topic!(
        "migrating",
        "from the Python Twitcher, confd, consul-template, consul watch"
    ),
];

/// The word that asks which pages there are.
const LIST: &str = "topics";

/// Nothing is called so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no command or topic `{asked}`{}; `twitcher help` lists the commands, `twitcher help topics` the topics",
        near.as_ref().map(|near| format!(", did you mean `{near}`?")).unwrap_or_default())]
pub struct Unknown {
    /// What was asked for.
    pub asked: String,
    /// What may have been meant.
    pub near: Option<String>,
}

impl Topic {
    /// The page. It ends with a line end.
    pub fn text(&self) -> String {
        let schema = config::schema();
        let mut text = String::with_capacity(self.source.len());
        for line in self.source.lines() {
            match line.strip_prefix("@fields ").and_then(|rest| rest.strip_suffix('@')) {
                Some(object) => text.push_str(&field_reference::fields(&schema, object)),
                None if line == "@figures@" => text.push_str(&figures::figures()),
                None if line == "@states@" => text.push_str(&field_reference::states(&STATES)),
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        text
    }
}

/// What `twitcher help WORDS` prints: the list of topics, a topic, or the help of a command of `program`.
pub fn answer(program: &mut Command, words: &[String]) -> Result<String, Unknown> {
    program.build();
    match words {
        [] => return Ok(program.render_long_help().to_string()),
        [word] if word == LIST => return Ok(list()),
        [word] => {
            if let Some(topic) = TOPICS.iter().find(|topic| topic.name == word) {
                return Ok(topic.text());
            }
        }
        _ => {}
    }
    let mut command = program;
    for word in words {
        let near = nearest(command, word);
        command = command.find_subcommand_mut(word).ok_or_else(|| Unknown {
            asked: words.join(" "),
            near,
        })?;
    }
    Ok(command.render_long_help().to_string())
}

fn list() -> String {
    let lines = TOPICS
        .iter()
        .map(|topic| format!("  {:16} {}\n", topic.name, topic.summary));
    format!(
        "Topics, for `twitcher help TOPIC`, or `man twitcher-TOPIC` where the manual pages are installed:\n\n{}",
        lines.collect::<String>()
    )
}

/// The command or topic whose name is most like `word`, if one is.
fn nearest(command: &Command, word: &str) -> Option<String> {
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let topics = TOPICS.iter().map(|topic| topic.name).chain([LIST]);
    commands
        .map(Command::get_name)
        .chain(topics)
        .map(|name| (strsim::jaro_winkler(name, word), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests;
