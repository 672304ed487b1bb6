//! The whole manual as one HTML page: every topic, every command with its flags. It loads nothing, so that it can be read anywhere, and
//! hides nothing, so that a browser's search finds all of it.
//!
//! What it says comes from the pages and from the definition of the command line, as `help` and the manual pages have it.

use std::collections::HashSet;
use std::fmt::Write as _;

use clap::{Arg, Command};

use super::markup::{Block, parse};
use super::{TOPICS, Topic};

const STYLE: &str = include_str!("manual.css");

/// The page.
pub fn html(mut program: Command) -> String {
    program.build();
    let version = program.get_version().unwrap_or_default().to_owned();
    let mut page = Page {
        commands: names(&program, ""),
        ids: HashSet::new(),
        contents: String::new(),
        body: String::new(),
    };
    page.contents.push_str("<p>Topics</p><ul>");
    for topic in &TOPICS {
        page.topic(topic);
    }
    page.contents.push_str("</ul><p>Commands</p><ul>");
    page.command(&program, "");
    page.contents.push_str("</ul>");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>Twitcher {version}: the manual</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#manual\">Skip the table of contents</a>\n<div class=\"page\">\n\
         <header><h1>Twitcher {version}</h1>\n\
         <p class=\"summary\">The whole manual: what <code>twitcher help</code> and <code>--help</code> print.</p></header>\n\
         <nav aria-label=\"Table of contents\">{}</nav>\n<main id=\"manual\">\n{}</main>\n</div>\n</body>\n</html>\n",
        page.contents,
        page.body,
        version = escaped(&version),
    )
}

/// The names of a command and of all below it, as they are typed after `twitcher`.
fn names(command: &Command, path: &str) -> HashSet<String> {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    below
        .flat_map(|below| {
            let path = format!("{path} {}", below.get_name());
            let mut all = names(below, &path);
            all.insert(path.trim_start().to_owned());
            all
        })
        .collect()
}

struct Page {
    commands: HashSet<String>,
    ids: HashSet<String>,
    contents: String,
    body: String,
}

impl Page {
    /// A name for a place, which no other has.
    fn id(&mut self, text: &str) -> String {
        let slug: String = text
            .to_lowercase()
            .chars()
            .map(|c| if c.is_alphanumeric() || c == '_' { c } else { '-' })
            .collect();
        let parts: Vec<&str> = slug.split('-').filter(|part| !part.is_empty()).collect();
        let slug = parts.join("-");
        let mut id = slug.clone();
        let mut number = 2;
        while !self.ids.insert(id.clone()) {
            id = format!("{slug}-{number}");
            number += 1;
        }
        id
    }

    fn add(&mut self, text: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.body, "{text}");
    }

    fn topic(&mut self, topic: &Topic) {
        let name = topic.name;
        let id = self.id(name);
        let _ = write!(self.contents, "<li><a href=\"#{id}\">{name}</a><ul>");
        self.add(format_args!(
            "<section aria-labelledby=\"{id}\"><h2 id=\"{id}\"><a href=\"#{id}\">{name}</a></h2>"
        ));
        self.add(format_args!("<p class=\"summary\">{}</p>", escaped(topic.summary)));
        self.blocks(name, &topic.text());
        self.contents.push_str("</ul></li>");
        self.add("</section>");
    }

    fn blocks(&mut self, topic: &str, text: &str) {
        let mut in_list = false;
        let mut below = topic.to_owned();
        for block in parse(text) {
            let is_item = matches!(block, Block::Item { .. });
            if is_item != in_list {
                self.add(if is_item { "<dl>" } else { "</dl>" });
                in_list = is_item;
            }
            match block {
                Block::Heading(text) => {
                    below = self.id(&format!("{topic} {text}"));
                    let title = sentence(&text);
                    let _ = write!(self.contents, "<li><a href=\"#{below}\">{title}</a></li>");
                    self.add(format_args!("<h3 id=\"{below}\"><a href=\"#{below}\">{title}</a></h3>"));
                }
                Block::Paragraph(text) => {
                    let text = self.inline(&text);
                    self.add(format_args!("<p>{text}</p>"));
                }
                Block::Points(points) => {
                    self.add("<ul>");
                    for point in points {
                        let point = self.inline(&point);
                        self.add(format_args!("<li>{point}</li>"));
                    }
                    self.add("</ul>");
                }
                Block::Item { term, meaning } => {
                    let id = self.id(&format!("{below} {}", term.split(' ').next().unwrap_or_default()));
                    let (term, meaning) = (escaped(&term), self.inline(&meaning));
                    self.add(format_args!(
                        "<dt id=\"{id}\"><a href=\"#{id}\">{term}</a></dt><dd>{meaning}</dd>"
                    ));
                }
                Block::Literal(text) => {
                    self.add(format_args!("<pre tabindex=\"0\">{}</pre>", escaped(&text)));
                }
            }
        }
        if in_list {
            self.add("</dl>");
        }
    }

    /// A command and those below it.
    fn command(&mut self, command: &Command, path: &str) {
        let name = format!("twitcher {path}");
        let name = name.trim_end();
        let id = self.id(&anchor(path));
        if !path.is_empty() {
            let _ = write!(self.contents, "<li><a href=\"#{id}\">{}</a></li>", escaped(path));
        }
        let level = if path.is_empty() { "h2" } else { "h3" };
        self.add(format_args!(
            "<section aria-labelledby=\"{id}\"><{level} id=\"{id}\"><a href=\"#{id}\">{}</a></{level}>",
            escaped(name)
        ));
        for about in command.get_long_about().or(command.get_about()).into_iter() {
            self.prose(&about.to_string());
        }
        let usage = command.clone().render_usage().to_string();
        let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
        self.add(format_args!("<pre tabindex=\"0\">{}</pre>", escaped(usage)));
        let arguments: Vec<&Arg> = command
            .get_arguments()
            .filter(|argument| !argument.is_hide_set())
            .collect();
        if !arguments.is_empty() {
            self.add("<dl>");
            for argument in arguments {
                self.argument(&id, argument);
            }
            self.add("</dl>");
        }
        if let Some(after) = command.get_after_long_help().or(command.get_after_help()) {
            self.add(format_args!(
                "<pre tabindex=\"0\">{}</pre>",
                escaped(&after.to_string())
            ));
        }
        self.add("</section>");
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            self.command(below, format!("{path} {}", below.get_name()).trim_start());
        }
    }

    fn argument(&mut self, command: &str, argument: &Arg) {
        let id = self.id(&format!("{command} {}", argument.get_id()));
        self.add(format_args!(
            "<dt id=\"{id}\"><a href=\"#{id}\">{}</a></dt>",
            escaped(&argument.to_string())
        ));
        let help = argument
            .get_long_help()
            .or(argument.get_help())
            .map(ToString::to_string);
        let help = self.inline(&help.unwrap_or_default());
        let mut notes = Vec::new();
        let defaults: Vec<_> = argument
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        if !defaults.is_empty() && argument.get_action().takes_values() && !argument.is_hide_default_value_set() {
            notes.push(format!("default {}", defaults.join(" ")));
        }
        if let Some(variable) = argument.get_env() {
            notes.push(format!("or the variable {}", variable.to_string_lossy()));
        }
        if argument.get_action().takes_values() && !argument.is_hide_possible_values_set() {
            let possible = argument.get_possible_values();
            let possible: Vec<&str> = possible
                .iter()
                .filter(|value| !value.is_hide_set())
                .map(|value| value.get_name())
                .collect();
            if !possible.is_empty() {
                notes.push(format!("one of {}", possible.join(", ")));
            }
        }
        let notes = match notes.is_empty() {
            true => String::new(),
            false => format!(" <span class=\"dim\">[{}]</span>", escaped(&notes.join("; "))),
        };
        self.add(format_args!("<dd>{help}{notes}</dd>"));
    }

    /// Paragraphs of running text.
    fn prose(&mut self, text: &str) {
        for paragraph in text.split("\n\n") {
            let paragraph = self.inline(paragraph);
            self.add(format_args!("<p>{paragraph}</p>"));
        }
    }

    /// Running text. What stands between backquotes is code; a command or a topic there leads to where it is described.
    fn inline(&self, text: &str) -> String {
        if text.matches('`').count() % 2 == 1 {
            return escaped(text);
        }
        let parts = text.split('`').enumerate().map(|(at, part)| match at % 2 {
            0 => escaped(part),
            _ => match self.target(part) {
                Some(target) => format!("<a href=\"#{target}\"><code>{}</code></a>", escaped(part)),
                None => format!("<code>{}</code>", escaped(part)),
            },
        });
        parts.collect()
    }

    /// Where a command line, or `twitcher help TOPIC`, is described.
    fn target(&self, code: &str) -> Option<String> {
        let words: Vec<&str> = code.strip_prefix("twitcher ")?.split_whitespace().collect();
        if let ["help", topic] = words.as_slice()
            && TOPICS.iter().any(|one| one.name == *topic)
        {
            return Some((*topic).to_owned());
        }
        let longest = (1..=words.len()).rev().map(|count| words[..count].join(" "));
        longest
            .into_iter()
            .find(|path| self.commands.contains(path))
            .map(|path| anchor(&path))
    }
}

/// The name of the place of a command.
fn anchor(path: &str) -> String {
    format!("command {path}").trim_end().replace(' ', "-")
}

/// A heading in the case of a sentence.
fn sentence(heading: &str) -> String {
    /// Words that are not written in lower case.
    const NAMES: [&str; 10] = [
        "Deploy",
        "Go",
        "JSON",
        "JavaScript",
        "Python",
        "RegisterGroup",
        "RegisterWatch",
        "Retry",
        "Twitcher",
        "Wasm",
    ];
    let words = heading.split(' ').enumerate().map(|(at, word)| {
        if let Some(name) = NAMES.iter().find(|name| name.eq_ignore_ascii_case(word)) {
            return (*name).to_owned();
        }
        let lower = word.to_lowercase();
        match at {
            0 => word[..1].to_owned() + &lower[1..],
            _ => lower,
        }
    });
    escaped(&words.collect::<Vec<_>>().join(" "))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
