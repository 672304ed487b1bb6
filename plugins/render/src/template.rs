//! From a template and a change to a text.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, ValueKind};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, escape_formatter, path_loader,
};
use twitcher_sdk::{Change, Failure};

use crate::settings::{Source, Template};
use crate::tree::{Nodes, Tree, wrong};
use crate::{error, functions, several, tree};

/// What a template can ask about.
#[derive(Debug)]
pub struct World {
    known: BTreeMap<&'static str, Value>,
    /// Looked at when it is asked for: a template that does not ask does not mind that it is no JSON. None of several znodes.
    data: Option<Vec<u8>>,
    nodes: Result<Arc<Nodes>, String>,
    exists: bool,
}

impl World {
    pub fn new(change: &Change) -> Self {
        let several = several::nodes(change);
        let exists = several
            .as_ref()
            .map_or_else(|| change.exists(), |nodes| !nodes.is_empty());
        let (nodes, data) = match several {
            Some(nodes) => (Ok(Nodes::of_several(nodes)), None),
            None => {
                let nodes = change.tree().map(|tree| Nodes::new(change.path(), tree.nodes()));
                let top = nodes.as_ref().ok().map(|nodes| nodes.top().unwrap_or_default());
                let data = change.content().or(top).unwrap_or_else(|| change.data()).to_vec();
                (nodes.map_err(|why| why.to_string()), Some(data))
            }
        };
        let mut known = BTreeMap::from([
            ("path", Value::from(change.path())),
            ("version", Value::from(change.version())),
            ("watch", Value::from(change.watch_name())),
        ]);
        if let Some(children) = change.children() {
            known.insert("children", children.iter().map(String::as_str).collect());
        }
        Self {
            known,
            data,
            nodes: nodes.map(Arc::new),
            exists,
        }
    }

    /// Whether there is anything to make files of.
    pub fn exists(&self) -> bool {
        self.exists
    }

    fn data(&self) -> Result<&[u8], Error> {
        let none = || wrong("the watch has several znodes: what they hold is in tree, by their paths".to_owned());
        self.data.as_deref().ok_or_else(none)
    }

    /// The data as text.
    fn text(&self) -> Result<Value, Error> {
        let text = std::str::from_utf8(self.data()?);
        text.map(Value::from)
            .map_err(|_| wrong("the znode's data is not UTF-8".to_owned()))
    }

    /// The data as JSON.
    fn json(&self) -> Result<Value, Error> {
        let words = |error| format!("the znode's data is not JSON: {error}; as it is, it is the variable text");
        serde_json::from_slice(self.data()?).map_err(|error| wrong(words(error)))
    }
}

impl Object for World {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        match key {
            "data" => Some(self.json().unwrap_or_else(Value::from)),
            "text" => Some(self.text().unwrap_or_else(Value::from)),
            "tree" => Some(match &self.nodes {
                Ok(nodes) => Value::from_object(Tree::new(nodes.clone())),
                Err(why) => wrong(why.clone()).into(),
            }),
            key => self.known.get(key).cloned(),
        }
    }
}

/// The file that a template becomes. An error says where in which template what went wrong.
pub fn render(template: &Template, world: &Arc<World>) -> Result<String, Failure> {
    let dir = template.source.dir();
    let (name, text) = match &template.source {
        Source::File(file) => {
            let read = fs::read_to_string(file);
            (
                file.as_str(),
                read.map_err(|error| Failure::permanent(format!("{file}: cannot read the template: {error}")))?,
            )
        }
        Source::Text { key, text } => (key.as_str(), text.clone()),
    };
    let rendered = environment(template).and_then(|mut environment| {
        tree::add_to(&mut environment, world.nodes.clone());
        environment.render_named_str(name, &text, Value::from_dyn_object(world.clone()))
    });
    rendered.map_err(|error| failure(&error, dir.as_deref()))
}

/// What is wrong with the syntax of a template, in words.
pub fn check(template: &Template) -> Result<(), String> {
    let Source::Text { key, text } = &template.source else {
        // There are no files in a check.
        return Ok(());
    };
    let checked =
        environment(template).and_then(|environment| environment.template_from_named_str(key, text).map(drop));
    checked.map_err(|error| error::words(&error, None))
}

/// Most errors will be the same the next time; what a znode was asked for in vain may not.
fn failure(error: &Error, dir: Option<&Path>) -> Failure {
    let words = error::words(error, dir);
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<twitcher_sdk::znodes::Error>() {
            return match Failure::from(error.clone()) {
                Failure::Retry { after, .. } => Failure::Retry { message: words, after },
                Failure::Denied { .. } => Failure::Denied { message: words },
                _ => Failure::permanent(words),
            };
        }
        cause = error.source();
    }
    Failure::permanent(words)
}

fn environment(template: &Template) -> Result<Environment<'static>, Error> {
    let mut syntax = SyntaxConfig::builder();
    syntax.keep_trailing_newline(true).trim_blocks(true).lstrip_blocks(true);
    if let Some(delimiters) = &template.delimiters {
        let pair = |(begin, end): &(String, String)| (begin.clone(), end.clone());
        let (begin, end) = pair(&delimiters.variable);
        syntax.variable_delimiters(begin, end);
        let (begin, end) = pair(&delimiters.block);
        syntax.block_delimiters(begin, end);
        let (begin, end) = pair(&delimiters.comment);
        syntax.comment_delimiters(begin, end);
    }
    let mut environment = Environment::new();
    environment.set_syntax(syntax.build()?);
    environment.set_undefined_behavior(match template.strict {
        true => UndefinedBehavior::Strict,
        false => UndefinedBehavior::Chainable,
    });
    // By default the ending of a template's name decides, which is for pages of the web.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(write_value);
    // What an error is about.
    environment.set_debug(true);
    if let Some(dir) = template.source.dir() {
        environment.set_loader(path_loader(dir));
    }
    functions::add_to(&mut environment);
    Ok(environment)
}

/// Writes a value as configuration files have it: Jinja writes what Python does, `True` and `None`.
fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool => out
            .write_str(if value.is_true() { "true" } else { "false" })
            .map_err(Error::from),
        ValueKind::None => match state.undefined_behavior() {
            UndefinedBehavior::Strict => Err(Error::new(ErrorKind::UndefinedError, "the value is null")),
            _ => Ok(()),
        },
        _ => escape_formatter(out, state, value),
    }
}

impl Source {
    /// Where templates are that it includes.
    fn dir(&self) -> Option<PathBuf> {
        match self {
            Self::File(file) => Path::new(file).parent().map(Path::to_owned),
            Self::Text { .. } => None,
        }
    }
}
