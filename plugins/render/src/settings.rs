//! What the operator wrote in `config`: which templates there are, and what becomes of each.
//!
//! It must not read files: in a check of the configuration there are none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use twitcher_sdk::config;

/// Keys that are each template's own. The others say for all what they do not say for one.
const OF_ONE: [&str; 3] = ["template", "template_text", "dest"];
/// Keys that a template can have, or all of them.
const OF_ANY: [&str; 6] = ["check", "command", "perms", "backup", "undefined", "delimiters"];
/// Keys for the run as a whole.
const OF_ALL: [&str; 1] = ["mode"];

/// What a run is to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    /// The templates, by their names; the one without a name first.
    pub templates: Vec<Template>,
    /// Whether it is only shown what would be written.
    pub only_diff: bool,
}

/// A template, and what becomes of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    /// Where it is.
    pub source: Source,
    /// The file that it becomes.
    pub dest: String,
    /// Commands that get the new file before it replaces the old one.
    pub check: Vec<String>,
    /// The command that is run when the file changed.
    pub command: Option<String>,
    /// Permissions of the file; none leaves them to the watch's `umask`.
    pub perms: Option<u32>,
    /// Whether the old file is kept beside the new one.
    pub backup: bool,
    /// Whether what is not defined is an error.
    pub strict: bool,
    /// What stands around an expression, if that is not `{{ }}`.
    pub delimiters: Option<Delimiters>,
}

/// Where a template is.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// In a file.
    File(String),
    /// In the configuration, at this key.
    Text {
        /// Its whole name.
        key: String,
        /// The template itself.
        text: String,
    },
}

/// What stands around an expression, a block and a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delimiters {
    /// Around an expression.
    pub variable: (String, String),
    /// Around a block.
    pub block: (String, String),
    /// Around a comment.
    pub comment: (String, String),
}

impl FromStr for Delimiters {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("must be two pairs of characters such as \"[[ ]]\", not {text:?}");
        let (begin, end) = text.split_once(' ').ok_or_else(wrong)?;
        let (first, last) = match (&*begin.chars().collect::<Vec<_>>(), &*end.chars().collect::<Vec<_>>()) {
            ([first, second], [third, last]) if *second != '%' && *second != '#' && *third != '%' && *third != '#' => {
                (*first, *last)
            }
            _ => return Err(wrong()),
        };
        Ok(Self {
            variable: (begin.to_owned(), end.to_owned()),
            block: (format!("{first}%"), format!("%{last}")),
            comment: (format!("{first}#"), format!("#{last}")),
        })
    }
}

/// Reads the whole configuration, or says all that is wrong with it.
pub fn read() -> Result<Settings, Vec<String>> {
    let mut reader = Reader {
        all: config::all(),
        problems: Vec::new(),
    };
    let names = reader.names();
    let templates: Vec<_> = names.iter().filter_map(|name| reader.template(name)).collect();
    let only_diff = reader.word("mode", "mode", "write", &[("write", false), ("diff", true)]);
    let mut seen = BTreeSet::new();
    for template in &templates {
        if !seen.insert(&template.dest) {
            reader
                .problems
                .push(format!("config has two templates for {:?}", template.dest));
        }
    }
    match reader.problems.is_empty() {
        true => Ok(Settings { templates, only_diff }),
        false => Err(reader.problems),
    }
}

struct Reader {
    all: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Reader {
    /// The names of the templates: what follows a dot in a key.
    fn names(&mut self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut others = BTreeSet::new();
        for key in self.all.keys() {
            let (word, name) = key.split_once('.').unwrap_or((key, ""));
            if OF_ONE.contains(&word) {
                names.insert(name.to_owned());
            } else if OF_ANY.contains(&word) {
                others.insert((key.clone(), name.to_owned()));
            } else if !OF_ALL.contains(&key.as_str()) {
                let known = [&OF_ONE[..], &OF_ANY, &OF_ALL].concat().join(", ");
                self.problems.push(format!(
                    "config has {key:?}, which means nothing here; there are {known}"
                ));
            }
        }
        for (key, name) in others {
            if !name.is_empty() && !names.contains(&name) {
                self.problems.push(format!(
                    "config has {key:?} and no \"dest.{name}\" that it could be about"
                ));
            }
        }
        if names.is_empty() {
            names.insert(String::new());
        }
        names
    }

    fn template(&mut self, name: &str) -> Option<Template> {
        let own = |word: &str| match name {
            "" => word.to_owned(),
            name => format!("{word}.{name}"),
        };
        let dest = self.all.get(&own("dest")).cloned();
        if dest.is_none() {
            self.problems.push(format!("config has no {:?}", own("dest")));
        }
        let (file, text) = (own("template"), own("template_text"));
        let source = match (self.all.get(&file), self.all.get(&text)) {
            (Some(file), None) => Some(Source::File(file.clone())),
            (None, Some(template)) => Some(Source::Text {
                key: text,
                text: template.clone(),
            }),
            _ => {
                self.problems.push(format!("config needs one of {file:?} and {text:?}"));
                None
            }
        };
        // A name's own key goes before the one for all.
        let key = |reader: &Self, word: &str| match reader.all.contains_key(&own(word)) {
            true => own(word),
            false => word.to_owned(),
        };
        let list = |reader: &Self, word: &str, default: &str| -> Vec<String> {
            let given = reader.all.get(&key(reader, word));
            let words = given.map_or(default, String::as_str).split_whitespace();
            words.map(str::to_owned).collect()
        };
        let check = list(self, "check", "");
        let command = list(self, "command", "reload");
        if command.len() > 1 {
            let key = key(self, "command");
            self.problems
                .push(format!("config {key:?}: must be the name of one of commands"));
        }
        let perms = key(self, "perms");
        let perms = self.parsed(&perms, |text| {
            let octal = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
            let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
            octal
                .filter(|_| is_digits)
                .ok_or("must be permissions from \"000\" to \"777\"")
        });
        let backup = key(self, "backup");
        let backup = self.word(&backup, "backup", "false", &[("false", false), ("true", true)]);
        let undefined = key(self, "undefined");
        let strict = self.word(
            &undefined,
            "undefined",
            "strict",
            &[("strict", true), ("lenient", false)],
        );
        let delimiters = key(self, "delimiters");
        let delimiters = self.parsed(&delimiters, Delimiters::from_str);
        Some(Template {
            source: source?,
            dest: dest?,
            check,
            command: command.into_iter().next(),
            perms,
            backup,
            strict,
            delimiters,
        })
    }

    fn parsed<T, E: Display>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        match parse(self.all.get(key)?) {
            Ok(value) => Some(value),
            Err(why) => {
                self.problem(format!("config {key:?}: {why}"));
                None
            }
        }
    }

    /// One of two words.
    fn word(&mut self, key: &str, of: &str, default: &str, words: &[(&str, bool); 2]) -> bool {
        let given = self.all.get(key).map_or(default, String::as_str).to_owned();
        let meant = |text: &str| words.iter().find(|(word, _)| *word == text).map(|(_, meant)| *meant);
        if let Some(meant) = meant(&given) {
            return meant;
        }
        let [(one, _), (other, _)] = words;
        let hint = match (of, u32::from_str_radix(&given, 8)) {
            ("mode", Ok(_)) => "; permissions are \"perms\"",
            _ => "",
        };
        self.problem(format!(
            "config {key:?}: must be {one:?} or {other:?}, not {given:?}{hint}"
        ));
        meant(default).unwrap_or_default()
    }

    /// Once: what all templates share would be told for each.
    fn problem(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}
