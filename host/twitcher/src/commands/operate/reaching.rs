//! Commands that a text advises, such as `twitcher resume web`, with what it takes to reach the daemon that was asked: who names a socket on
//! the command line has to name it in the next command too. It must not know what is advised.

use std::path::Path;

use super::view::quoted;
use crate::args::CONTROL_VARIABLE;
use twitcher_control::listeners;

/// What is asked of a daemon, all of which takes `--control`.
const ASKING: [&str; 11] = [
    "status", "history", "logs", "events", "run-now", "pause", "resume", "reload", "drain", "stop", "fleet",
];

/// What the commands are to be given besides.
#[derive(Debug, Clone, Default)]
pub(super) struct Reaching(Option<String>);

impl Reaching {
    /// For the daemon at a socket. Where it is looked for by itself, nothing has to be said.
    pub fn of(control: &Path) -> Self {
        let found = control == Path::new(listeners::SOCKET)
            || std::env::var_os(CONTROL_VARIABLE).is_some_and(|named| named == *control);
        Self((!found).then(|| format!(" --control {}", quoted(&control.to_string_lossy()))))
    }

    /// A text whose commands reach it.
    pub fn in_text(&self, text: &str) -> String {
        const BEGIN: &str = "`twitcher ";
        let Some(more) = &self.0 else { return text.to_owned() };
        let mut told = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(BEGIN) {
            let command = &rest[at + BEGIN.len()..];
            let Some(end) = command.find('`') else { break };
            told.push_str(&rest[..at + BEGIN.len() + end]);
            let verb = command[..end].split(' ').next().unwrap_or_default();
            // Who lets a host in asks the servers.
            let asks = ASKING.contains(&verb) && !command.starts_with("fleet enroll ");
            if asks && !command[..end].contains(" --control ") {
                told.push_str(more);
            }
            told.push('`');
            rest = &command[end + 1..];
        }
        told.push_str(rest);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_on_a_daemon_name_its_socket() {
        let reaching = Reaching::of(Path::new("/tmp/a b.sock"));
        assert_eq!(
            reaching.in_text(
                "see `twitcher logs x`, then `twitcher resume 'a b'`; `twitcher help fleet`, `systemctl status`"
            ),
            "see `twitcher logs x --control '/tmp/a b.sock'`, then `twitcher resume 'a b' --control '/tmp/a b.sock'`; \
             `twitcher help fleet`, `systemctl status`"
        );
        let enroll = "`twitcher fleet enroll web-1 --as ID --fleet /twitcher --zk SERVERS`";
        assert_eq!(reaching.in_text(enroll), enroll);
        assert_eq!(reaching.in_text("`twitcher status"), "`twitcher status");
        let usual = Reaching::of(Path::new(listeners::SOCKET));
        assert_eq!(usual.in_text("`twitcher status`"), "`twitcher status`");
    }
}
