//! Reading the secrets of a run before it is launched, and giving them to its process alone.
//!
//! A secret is in a file that the daemon may read and the run's user perhaps not. Its value is in the daemon's memory, which nobody else can
//! look into, from then until the process exists, and in what the launcher is sent, which it wipes ([`crate::protocol::Page`]). A file may
//! be on a file system that does not answer: only the runs that need it wait for it, and not for long.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::daemon_side::invocation::Invocation;
use crate::protocol::Task;
use twitcher_files::links;
use twitcher_files::regular::{self, Links};
use twitcher_model::{Outcome, RunId, Secret, SecretPlace};

/// Largest value, in bytes.
const VALUE_MAX: usize = 64 << 10;
/// How long a run waits for its secrets.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most runs whose secrets are read at once: each takes a thread, and one that a file system holds is not given back.
const READERS_MAX: usize = 8;

/// The secrets of a run with their values, which are wiped when this goes.
#[derive(Clone, Default)]
pub struct SecretValues(Vec<(SecretPlace, String, Zeroizing<String>)>);

impl SecretValues {
    /// Puts the values where they belong: into the environment of a process, and into what a component is granted.
    pub(crate) fn give(&self, env: &mut Vec<(String, String)>, task: &mut Task) {
        for (place, name, value) in &self.0 {
            let pair = (name.clone(), value.to_string());
            let to = match (&mut *task, place) {
                (Task::Wasm(task), place) => {
                    let grants = &mut Arc::make_mut(&mut task.action).grants;
                    match place {
                        SecretPlace::Env => &mut grants.env,
                        SecretPlace::Config => &mut grants.config,
                    }
                }
                (Task::Exec(_) | Task::Function(_) | Task::Wait(_) | Task::Write(_), _) => &mut *env,
            };
            to.retain(|(known, _)| known != name);
            to.push(pair);
        }
    }
}

impl fmt::Debug for SecretValues {
    /// Without the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(_, name, _)| name)).finish()
    }
}

/// What became of reading; a run that cannot have its secrets has failed.
type Reading = Result<SecretValues, Outcome>;

/// See the module's documentation.
pub(crate) struct SecretReader {
    waiting: HashMap<RunId, Invocation>,
    slots: Arc<Semaphore>,
    done: mpsc::UnboundedSender<(RunId, Reading)>,
    done_end: mpsc::UnboundedReceiver<(RunId, Reading)>,
}

impl SecretReader {
    pub(crate) fn new() -> Self {
        let (done, done_end) = mpsc::unbounded_channel();
        Self {
            waiting: HashMap::new(),
            slots: Arc::new(Semaphore::new(READERS_MAX)),
            done,
            done_end,
        }
    }

    /// Keeps a run that has secrets until they were read; gives back all others.
    pub(crate) fn keep(&mut self, invocation: Invocation) -> Option<Invocation> {
        let wanted = wanted(&invocation);
        let Some(first) = wanted.first().cloned() else {
            return Some(invocation);
        };
        let run = invocation.run;
        self.waiting.insert(run, invocation);
        let (slots, done) = (Arc::clone(&self.slots), self.done.clone());
        tokio::spawn(async move {
            let reading = async {
                // It is never closed.
                let slot = slots.acquire_owned().await;
                spawn_blocking(move || {
                    let _slot = slot;
                    read_all(wanted)
                })
                .await
                .unwrap_or_else(|_| Err(failed(&first, None, Errno::EIO)))
            };
            let read = timeout(PATIENCE, reading).await;
            let late = |_| Err(failed(&first, Some("it takes too long".to_owned()), Errno::ETIMEDOUT));
            // The service may have ended.
            let _ = done.send((run, read.unwrap_or_else(late)));
        });
        None
    }

    /// The next run whose secrets have been read, with them; or that cannot have them, and why. Can be dropped at any time.
    pub(crate) async fn read(&mut self) -> Result<Invocation, (RunId, Outcome)> {
        loop {
            // This keeps a sender itself, so there is always a next one.
            let Some((run, reading)) = self.done_end.recv().await else {
                std::future::pending().await
            };
            // It may have been terminated meanwhile.
            let Some(mut invocation) = self.waiting.remove(&run) else {
                continue;
            };
            return match reading {
                Ok(values) => {
                    invocation.secrets = values;
                    Ok(invocation)
                }
                Err(outcome) => Err((run, outcome)),
            };
        }
    }

    /// Lets go of a run. Whether it waited.
    pub(crate) fn remove(&mut self, run: RunId) -> bool {
        self.waiting.remove(&run).is_some()
    }
}

fn wanted(invocation: &Invocation) -> Vec<Secret> {
    let granted = match &invocation.task {
        Task::Wasm(task) => &*task.action.grants.secrets,
        Task::Exec(_) | Task::Function(_) | Task::Wait(_) | Task::Write(_) => &[],
    };
    invocation.process.secrets.iter().chain(granted).cloned().collect()
}

fn read_all(secrets: Vec<Secret>) -> Reading {
    let read = |secret: Secret| Ok((secret.place, secret.name.clone(), read(&secret)?));
    secrets
        .into_iter()
        .map(read)
        .collect::<Result<_, _>>()
        .map(SecretValues)
}

/// The value: what is in the file, without the newline at its end.
fn read(secret: &Secret) -> Result<Zeroizing<String>, Outcome> {
    let unfit = |why: &str| failed(secret, Some(why.to_owned()), Errno::EINVAL);
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = links::open_file(&secret.file, geteuid(), flags, Mode::empty(), Links::Follow);
    let file = opened
        .map_err(io::Error::from)
        .and_then(regular::only)
        .map_err(|error| of_error(secret, &error))?;
    // Of one size from the start: where a vector grows, it leaves behind what it held.
    let mut bytes = Zeroizing::new(Vec::with_capacity(VALUE_MAX + 1));
    let read = file.take(VALUE_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| of_error(secret, &error))?;
    if bytes.len() > VALUE_MAX {
        return Err(unfit("it is larger than 64 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| unfit("it is not UTF-8"))?;
    let value = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n'));
    let value = value.unwrap_or(text);
    if value.is_empty() {
        return Err(unfit("it is empty"));
    }
    if value.contains('\0') {
        return Err(unfit("it has a NUL character, which no variable can have"));
    }
    Ok(Zeroizing::new(value.to_owned()))
}

/// An error of the system has its number; others have words alone.
fn of_error(secret: &Secret, error: &io::Error) -> Outcome {
    match error.raw_os_error() {
        Some(errno) => failed(secret, None, Errno::from_raw(errno)),
        None => failed(secret, Some(error.to_string()), Errno::EINVAL),
    }
}

fn failed(secret: &Secret, why: Option<String>, errno: Errno) -> Outcome {
    let Secret { place, name, file } = secret;
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    Outcome::LaunchFailed {
        step: format!("read the secret {} for {} {name:?}{why}", file.display(), place.field()),
        errno: errno as i32,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn secret(file: &Path) -> Secret {
        Secret {
            place: SecretPlace::Env,
            name: "TOKEN".to_owned(),
            file: file.into(),
        }
    }

    #[test]
    fn a_value_is_the_file_without_the_newline_at_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        for (text, value) in [
            ("s3cret", "s3cret"),
            ("s3cret\n", "s3cret"),
            ("s3cret\r\n", "s3cret"),
            ("s3cret\n\n", "s3cret\n"),
            (" two\nlines ", " two\nlines "),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(*read(&secret(&file)).unwrap(), value, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused_in_words_that_do_not_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let long = vec![b'x'; VALUE_MAX + 1];
        for (bytes, words) in [
            (&b""[..], "(it is empty)"),
            (b"\n", "(it is empty)"),
            (b"a\0b", "(it has a NUL character"),
            (b"\xff", "(it is not UTF-8)"),
            (&long, "(it is larger than 64 KiB)"),
        ] {
            fs::write(&file, bytes).unwrap();
            let said = read(&secret(&file)).unwrap_err().to_string();
            assert!(
                said.contains(words) && said.contains("token for env \"TOKEN\""),
                "{said}"
            );
        }
        let said = |path: &Path| read(&secret(path)).unwrap_err().to_string();
        assert!(said(&dir.path().join("none")).ends_with("No such file or directory (os error 2)"));
        assert!(said(dir.path()).contains("directory"), "{}", said(dir.path()));
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        assert!(said(&pipe).contains("it is not a regular file"));
    }

    #[test]
    fn nobody_has_root_read_what_their_link_leads_to() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("shadow"), "root's own").unwrap();
        let theirs = dir.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::symlink(dir.path().join("shadow"), theirs.join("token")).unwrap();
        std::os::unix::fs::chown(&theirs, Some(4711), None).unwrap();
        let said = read(&secret(&theirs.join("token"))).unwrap_err().to_string();
        assert!(said.contains("is a link that user 4711 can replace"), "{said}");
    }

    #[test]
    fn values_go_where_they_belong_and_are_not_shown() {
        let value = |place, name: &str| (place, name.to_owned(), Zeroizing::new("s3cret".to_owned()));
        let values = SecretValues(vec![value(SecretPlace::Env, "TOKEN")]);
        let mut env = vec![("TOKEN".to_owned(), "inherited".to_owned())];
        values.give(&mut env, &mut Task::Exec(vec!["x".to_owned()]));
        assert_eq!(env, [("TOKEN".to_owned(), "s3cret".to_owned())]);
        assert_eq!(format!("{values:?}"), r#"["TOKEN"]"#);
    }
}
