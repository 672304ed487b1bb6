//! Renders configuration files from templates and the data of a znode or of a subtree, and reloads the services that read them, but only
//! when a file really changed: what confd and consul-template are used for. `twitcher help templates` is its manual.
//!
//! ```python
//! RegisterWatch(
//!     znode = "/app",
//!     watch_type = WATCH_TREE, payload = JSON,
//!     action = Wasm("/usr/lib/twitcher/render.wasm",
//!                   config = {"template": "/templates/app.conf", "dest": "/out/app.conf", "perms": "0640", "check": "check"},
//!                   dirs = {"/templates": "/etc/app/templates", "/out": "/etc/app:rw"},
//!                   commands = {"check": ["/usr/sbin/app", "--check", "{file}"],
//!                               "reload": Exec(["/usr/bin/systemctl", "reload", "app"], uid = "root")}),
//!     uid = "app",
//!     timeout = 30,
//! )
//! ```
//!
//! | config | meaning | default |
//! | --- | --- | --- |
//! | `template` | file of the template, as the plugin sees it through `dirs`; what it includes is beside it | this or `template_text` |
//! | `template_text` | the template itself | this or `template` |
//! | `dest` | file to write, as the plugin sees it through a `:rw` of `dirs` | required |
//! | `check` | which of `commands` get the new file, in place of `{file}`, before it replaces the old one | none |
//! | `command` | which of `commands` is run when the file changed; empty for none | `reload` |
//! | `perms` | permissions of the file, such as `0640` | what the watch's `umask` leaves of 0666 |
//! | `backup` | `true` keeps the old file as `NAME.bak` | `false` |
//! | `undefined` | `lenient` has what is not defined be nothing | `strict`: it is an error |
//! | `delimiters` | what stands around an expression, such as `[[ ]]`; blocks are then in `[% %]` | `{{ }}` |
//! | `mode` | `diff` writes nothing, and logs what would be | `write` |
//!
//! Several templates in one watch have names: `template.haproxy`, `dest.haproxy` and so on; what has no name is for all. Either all of
//! them can be rendered and pass their checks, or no file is touched.
//!
//! Files are replaced in one step, so nobody reads half of one. When a command fails the run fails, and can be retried; until it has
//! succeeded once, a file `.NAME.pending` stays beside the file, and the next run runs the command even if the file is the same by then.
//! A failure to parse, render or check leaves everything as it was, and so does a znode that is gone. A new file belongs to the watch's
//! user and group.

mod diff;
mod error;
mod functions;
mod output;
mod settings;
mod several;
mod template;
mod tree;

use std::path::Path;
use std::sync::Arc;

use twitcher_sdk::commands::{Command, ErrorKind};
use twitcher_sdk::log::{self, Level};
use twitcher_sdk::{Change, Failure, ResultExt, action};

use crate::output::{Current, Output};
use crate::settings::{Settings, Template};
use crate::template::World;

/// Most lines of a command's output that are repeated in the log when it fails.
const OUTPUT_LINES: usize = 50;

action!(on_change, check = validate);

/// A file that is to become what its template says.
struct Rendered {
    template: Template,
    output: Output,
    text: String,
    current: Current,
}

impl Rendered {
    fn is_changed(&self) -> bool {
        self.current.content.as_deref() != Some(self.text.as_bytes()) || self.has_other_mode()
    }

    fn has_other_mode(&self) -> bool {
        self.current.mode.is_some() && self.current.mode != self.template.perms
    }

    fn show_diff(&self, level: Level) {
        let file = &self.template.dest;
        if let (Some(mode), Some(perms), true) = (self.current.mode, self.template.perms, self.has_other_mode()) {
            let message = format!("permissions {mode:03o} become {perms:03o}");
            log::record(level, &message, &[("file", file)]);
        }
        if self.current.content.as_deref() == Some(self.text.as_bytes()) {
            return;
        }
        for line in diff::unified(file, self.current.content.as_deref(), &self.text) {
            log::record(level, &line, &[]);
        }
    }
}

fn on_change(change: Change) -> Result<(), Failure> {
    let Settings { templates, only_diff } =
        settings::read().map_err(|problems| Failure::permanent(problems.join("; ")))?;
    let world = Arc::new(World::new(&change));
    if !world.exists() {
        log::warn!("the znode is gone, the files stay");
        return Ok(());
    }
    let rendered: Vec<_> = templates
        .into_iter()
        .map(|template| rendered(template, &world))
        .collect::<Result<_, _>>()?;
    let (changed, same): (Vec<_>, Vec<_>) = rendered.into_iter().partition(Rendered::is_changed);
    for file in &same {
        log::info!("unchanged", file = file.template.dest);
    }
    let level = if only_diff { Level::Info } else { Level::Debug };
    changed.iter().for_each(|file| file.show_diff(level));
    if only_diff {
        return Ok(());
    }

    let staged = stage_and_check(&changed);
    if staged.is_err() {
        changed.iter().for_each(|file| file.output.unstage());
    }
    staged?;
    for file in &changed {
        let dest = &file.template.dest;
        if let (true, Some(content)) = (file.template.backup, &file.current.content) {
            file.output.back_up(content).context(dest)?;
        }
        file.output.replace(file.template.command.is_some()).context(dest)?;
        log::info!(
            "written",
            file = dest,
            bytes = file.text.len(),
            version = change.version()
        );
    }
    let pending = same.iter().filter(|file| file.output.is_pending());
    tell_readers(changed.iter().chain(pending))
}

fn rendered(template: Template, world: &Arc<World>) -> Result<Rendered, Failure> {
    let text = template::render(&template, world)?;
    let dest = &template.dest;
    let output = Output::new(dest).context(dest)?;
    let current = output.current(template.perms.is_some()).context(dest)?;
    Ok(Rendered {
        template,
        output,
        text,
        current,
    })
}

/// Writes every new file beside the old one, and has each looked at when all are there: one may name another.
fn stage_and_check(files: &[Rendered]) -> Result<(), Failure> {
    let mut staged = Vec::new();
    for file in files {
        let path = file.output.stage(&file.text, file.template.perms);
        staged.push((file, path.context(&file.template.dest)?));
    }
    for (file, path) in staged {
        for command in &file.template.check {
            check(command, path).context(&file.template.dest)?;
            log::debug!("passed", file = file.template.dest, check = command);
        }
    }
    Ok(())
}

/// Has a command look at a new file.
fn check(name: &str, file: &Path) -> Result<(), Failure> {
    match Command::new(name).arg(file.to_string_lossy()).run() {
        Ok(_) => Ok(()),
        Err(error) => {
            if let ErrorKind::Unsuccessful(output) = error.kind() {
                let text = [&*output.stdout, &*output.stderr].concat();
                for line in String::from_utf8_lossy(&text).lines().take(OUTPUT_LINES) {
                    log::record(Level::Error, line, &[("check", &name)]);
                }
            }
            // What it looks at besides the file may be another the next time.
            Err(error)
                .context("the new file is refused, and the old one stays")
                .or_retry()
        }
    }
}

/// Runs the command of each file that changed, and no command twice.
fn tell_readers<'a>(files: impl Iterator<Item = &'a Rendered>) -> Result<(), Failure> {
    let mut told: Vec<(&str, Vec<&Rendered>)> = Vec::new();
    for file in files {
        let Some(command) = &file.template.command else {
            file.output.done().context(&file.template.dest)?;
            continue;
        };
        match told.iter_mut().find(|(name, _)| name == command) {
            Some((_, files)) => files.push(file),
            None => told.push((command, vec![file])),
        }
    }
    let mut first = Ok(());
    for (command, files) in told {
        // A service that is just starting cannot be reloaded yet, for example.
        let run = twitcher_sdk::commands::run(command).or_retry().and_then(|_| {
            log::info!("{command} done", files = files.len());
            let mut files = files.iter();
            files.try_for_each(|file| file.output.done().context(&file.template.dest))
        });
        // The others are not to wait for it.
        first = first.and(run);
    }
    first
}

fn validate() -> Result<(), Vec<String>> {
    let settings = settings::read()?;
    let templates = settings.templates.iter();
    let problems: Vec<_> = templates
        .filter_map(|template| template::check(template).err())
        .map(|problem| format!("config {problem}"))
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

#[cfg(test)]
mod tests;
