//! The one validation and the set of files, through `.json` files: they need no helper process. What is particular to `.twc` files
//! is tested end to end, in `tests/config`.

mod advice;
mod components;
mod fields;
mod files;
mod grants;

use std::fs;
use std::path::PathBuf;

use super::Resolver;
use super::*;

/// A directory of configuration files.
struct Dir {
    dir: tempfile::TempDir,
    config: Config,
}

impl Dir {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // No .twc file is evaluated here, so this program never starts.
        let config = Config::new(vec![dir.path().to_owned()], Evaluator::new("/nonexistent".into()));
        let this = Self { dir, config };
        for (name, text) in files {
            this.write(name, text);
        }
        this
    }

    /// The same files, read by somebody who takes every file for a component.
    fn with_components(mut self) -> Self {
        self.config = self.config.with_components(Resolver::of_files(components::resolve));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn reload(&mut self) -> Reload {
        self.config.reload()
    }

    /// All errors as text, with the directory written as `DIR`.
    fn errors(&mut self) -> String {
        let reload = self.reload();
        report::render_errors(&reload).replace(self.dir.path().to_str().unwrap(), "DIR")
    }
}

fn names(reload: &Reload) -> Vec<&str> {
    reload.watches.iter().map(|watch| &*watch.name).collect()
}

fn outcome(reload: &Reload, file: &str) -> String {
    let report = reload.files.iter().find(|report| report.file.ends_with(file)).unwrap();
    match &report.outcome {
        FileOutcome::Failed { errors, kept } => format!("Failed({}), {kept} kept", errors.len()),
        other => format!("{other:?}"),
    }
}

const ONE: &str = r#"[{"znode": "/a", "action": {"exec": "true"}}]"#;

/// A list of watches with these names.
fn named(names: &[&str]) -> String {
    let watch =
        |name: &&str| format!("{{\"znode\": \"/a\", \"name\": \"{name}\", \"action\": {{\"exec\": \"true\"}}}}");
    format!("[{}]", names.iter().map(watch).collect::<Vec<_>>().join(",\n"))
}
