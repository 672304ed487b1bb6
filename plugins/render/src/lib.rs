//! Renders a configuration file from a template and the JSON in a znode, and reloads the service that reads it, but only when the
//! file really changed: what confd and consul-template are used for.
//!
//! ```python
//! RegisterWatch(
//!     znode = "/app/config",
//!     action = Wasm("/usr/lib/twitcher/render.wasm",
//!                   config = {"template": "/templates/app.conf", "dest": "/out/app.conf"},
//!                   dirs = {"/templates": "/etc/app/templates", "/out": "/etc/app:rw"},
//!                   commands = {"reload": ["/usr/bin/systemctl", "reload", "app"]}),
//!     uid = "app",
//!     timeout = 30,
//! )
//! ```
//!
//! | config | meaning | default |
//! | --- | --- | --- |
//! | `template` | file of the template, as the plugin sees it through `dirs` | this or `template_text` |
//! | `template_text` | the template itself | this or `template` |
//! | `dest` | file to write, as the plugin sees it through a `:rw` of `dirs` | required |
//! | `command` | which of `commands` is run when the file changed; empty for none | `reload` |
//!
//! Templates are [minijinja's](https://docs.rs/minijinja), a dialect of Jinja2. They have `data`, the znode's JSON; `path` and
//! `version`, the znode's. A line that holds nothing but a block is not in the output. What is not defined is an error, not an empty
//! string: a missing key never ends up in a configuration.
//!
//! ```jinja
//! # {{ path }}, version {{ version }}
//! {% for server in data.servers %}
//! server {{ server.host }}:{{ server.port | default(8080) }};
//! {% endfor %}
//! ```
//!
//! The file is replaced in one step, so nobody reads half of it. When the command fails the run fails, and can be retried; until it
//! has succeeded once, a file `.NAME.pending` stays beside the file, and the next run runs the command even if the file is the same
//! by then. A failure to parse or render leaves everything as it was, and so does a znode that is gone. The new file belongs to the
//! watch's user, with the permissions that the watch's `umask` leaves of 0666.

mod output;

use std::fs;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, UndefinedBehavior, Value, context};
use twitcher_sdk::{Change, Failure, ResultExt, action, commands, config, log};

use crate::output::Output;

action!(on_change, check = validate);

fn on_change(change: Change) -> Result<(), Failure> {
    let dest = config::require("dest")?;
    if !change.exists() {
        log::warn!("the znode is gone, the file stays", file = dest);
        return Ok(());
    }
    let text = render(&template()?, &change)?;

    let output = Output::new(&dest).context(&dest)?;
    let changed = output.differs(&text).context(&dest)?;
    if !changed && !output.is_pending() {
        log::info!("unchanged", file = dest);
        return Ok(());
    }
    if changed {
        output.replace(&text).context(&dest)?;
        log::info!("written", file = dest, bytes = text.len(), version = change.version());
    }
    if let Some(command) = command() {
        // A service that is just starting cannot be reloaded yet, for example.
        commands::run(&command).or_retry()?;
        log::info!("{command} done", file = dest);
    }
    output.done().context(&dest)
}

fn validate() -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    problems.extend(config::require("dest").err().map(|error| error.to_string()));
    match (config::get("template"), config::get("template_text")) {
        (Some(_), None) => {} // a file, and there are no files in a check
        (None, Some(text)) => problems.extend(
            parses(&text)
                .err()
                .map(|error| format!("config \"template_text\": {error}")),
        ),
        _ => problems.push("config needs one of \"template\" and \"template_text\"".to_owned()),
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn command() -> Option<String> {
    let name = config::get("command").unwrap_or_else(|| "reload".to_owned());
    (!name.is_empty()).then_some(name)
}

fn template() -> Result<String, Failure> {
    match config::get("template") {
        Some(file) => fs::read_to_string(&file).context(file),
        None => Ok(config::require("template_text")?),
    }
}

fn parses(template: &str) -> Result<(), Error> {
    environment()?.template_from_str(template).map(drop)
}

fn render(template: &str, change: &Change) -> Result<String, Failure> {
    let data: Value = change.json().context("the znode's data")?;
    let variables = context! { data, path => change.path(), version => change.version() };
    Ok(environment()?.render_str(template, variables)?)
}

fn environment() -> Result<Environment<'static>, Error> {
    let whitespace = SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    let mut environment = Environment::new();
    environment.set_syntax(whitespace);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    Ok(environment)
}

#[cfg(test)]
mod tests;
