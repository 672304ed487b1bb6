//! Both formats from text to watches, in this very process and without a file: for fuzzing, and for the corpora that come of it.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::accounts::Accounts;
use super::component_resolver::{Components, Resolver};
use super::error::SourceText;
use super::interner::Interner;
use super::starlark::{self, Host, Limits, ScriptError};
use super::validate::{Parsed, Surroundings, watches};
use super::value::Registration;
use super::{ConfigError, json};

/// The text of a `.json` file.
pub fn json(text: &str) {
    let source = SourceText::new(Path::new("fuzzed.json").into(), text.into());
    let parsed = json::parse(&source).map(|(registrations, errors)| Parsed {
        source,
        loads: Vec::new(),
        registrations,
        errors,
    });
    judge(parsed.map_err(|error| vec![error]));
}

/// The text of a `.twc` file, which may load itself and nothing else. Without the process that keeps it in bounds elsewhere, it gets
/// little time and memory; and it must not multiply, for Starlark panics at values of gigabytes, which only ends that process.
pub fn twc(text: &str) {
    if text.contains('*') || text.contains("range") {
        return;
    }
    let file = Path::new("/fuzzed.twc");
    let host = Fuzzed {
        text: text.into(),
        registered: RefCell::default(),
    };
    let limits = Limits {
        budget: Duration::from_secs(1),
        heap: 64 << 20,
    };
    let result = starlark::evaluate(file, text, &host, Some(limits), None);
    let parsed = result.map(|()| Parsed {
        source: SourceText::new(file.into(), text.into()),
        loads: Vec::new(),
        registrations: host.registered.into_inner(),
        errors: Vec::new(),
    });
    judge(parsed);
}

/// Whatever is wrong, it can be said.
fn judge(parsed: Result<Parsed, Vec<ConfigError>>) {
    let resolver = Resolver::of_files(|_, _| Err(vec!["no component here".to_owned()]));
    let mut around = Surroundings {
        accounts: &mut Accounts::default(),
        interner: &mut Interner::default(),
        components: &mut Components::new(resolver),
        controllers: None,
        host: "host",
        notes: &mut Vec::new(),
    };
    match parsed.and_then(|mut parsed| watches(&mut parsed, &mut around)) {
        Ok(built) => {
            for entry in built.entries {
                assert!(!entry.watch.name.is_empty());
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                let said = error.to_string();
                assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
            }
        }
    }
}

struct Fuzzed {
    text: Arc<str>,
    registered: RefCell<Vec<Registration>>,
}

impl Host for Fuzzed {
    fn text(&self, path: &Path) -> Result<Arc<str>, String> {
        match path.ends_with("fuzzed.twc") {
            true => Ok(Arc::clone(&self.text)),
            false => Err("there is no other file".to_owned()),
        }
    }

    fn registered(&self, registration: Registration) -> Result<(), ScriptError> {
        let mut registered = self.registered.borrow_mut();
        if registered.len() >= 1000 {
            return Err(ScriptError::TooManyWatches(1000));
        }
        registered.push(registration);
        Ok(())
    }

    fn print(&self, _: Option<(&str, u32)>, _: &str) -> Result<(), ScriptError> {
        Ok(())
    }
}
