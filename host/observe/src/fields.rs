//! The fields of an event as text that people read: in the lines of stderr, stdout and files, of syslog, and in the journal's MESSAGE.
//!
//! What actions, servers and files bring into a line must not pass for what Twitcher says. So no character turns or hides others, a value
//! that could be read as further fields is quoted, and a message that is an action's or has what could be fields comes last, after the fields
//! that say whose it is, or is quoted if there are none. It must not know what is logged.

use std::fmt::{self, Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;
use twitcher_model::sanitize;

/// Events that have this field are the text of an action, and it says how the text came: `stdout`, `stderr`, `log`, `trap` …
const STREAM: &str = "stream";

/// `message name=value …`, or `name=value …: message` where the message is an action's or could be read as fields.
#[derive(Debug)]
pub struct LogFields;

impl<'writer> FormatFields<'writer> for LogFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = LineVisitor {
            colour: writer.has_ansi_escapes(),
            ..LineVisitor::default()
        };
        fields.record(&mut line);
        let LineVisitor {
            message,
            fields,
            is_of_action,
            ..
        } = line;
        match (message, fields) {
            (Some(message), fields) if fields.is_empty() => match has_fields(&message) {
                true => writer.write_str(&quoted(&message)),
                false => writer.write_str(&message),
            },
            (Some(message), fields) if is_of_action || has_fields(&message) => write!(writer, "{fields}: {message}"),
            (Some(message), fields) => write!(writer, "{message} {fields}"),
            (None, fields) => writer.write_str(&fields),
        }
    }
}

#[derive(Debug, Default)]
struct LineVisitor {
    colour: bool,
    message: Option<String>,
    fields: String,
    is_of_action: bool,
}

impl LineVisitor {
    fn add(&mut self, name: &str, value: &str) {
        self.is_of_action |= name == STREAM;
        let gap = if self.fields.is_empty() { "" } else { " " };
        // Writing to memory cannot fail.
        let _ = match self.colour {
            true => write!(self.fields, "{gap}\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
            false => write!(self.fields, "{gap}{name}={value}"),
        };
    }
}

impl Visit for LineVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = Some(sanitize::escaped(value)),
            name => self.add(name, &quoted(value)),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "message" => self.message = Some(sanitize::escaped(&value)),
            // It has a blank and then something that looks like a field.
            name if value
                .split_once(char::is_whitespace)
                .is_some_and(|(_, rest)| rest.contains('=')) =>
            {
                self.add(name, &quoted(&value))
            }
            name => self.add(name, &sanitize::escaped(&value)),
        }
    }
}

/// Whether a message has something in it that looks like a field. Texts of configurations, functions and components are in messages, too.
fn has_fields(message: &str) -> bool {
    let mut parts = message.split('=');
    parts.next_back();
    parts.any(|before| before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

fn quoted(text: &str) -> String {
    sanitize::escaped(&format!("{text:?}"))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(colour: bool, log: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(LogFields)
            .without_time()
            .with_target(false)
            .with_level(false)
            .with_ansi(colour)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = std::mem::take(&mut *written.0.lock().unwrap());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_twitcher_says_comes_first_and_its_fields_after() {
        let line = logged(
            false,
            || tracing::info!(watch = "web", run_id = %7, seconds = 0.5, "run ended"),
        );
        assert_eq!(line, "run ended watch=\"web\" run_id=7 seconds=0.5\n");
        assert_eq!(logged(false, || tracing::info!("ready")), "ready\n");
    }

    #[test]
    fn an_action_cannot_speak_with_our_fields() {
        let forged = "run ended watch=\"db\" run_id=9 outcome=success";
        let line = logged(
            false,
            || tracing::info!(watch = "web", run_id = %7, stream = "stdout", "{forged}"),
        );
        assert_eq!(line, format!("watch=\"web\" run_id=7 stream=\"stdout\": {forged}\n"));
    }

    /// Of a function that failed, of a component's check, of what a configuration prints.
    #[test]
    fn a_message_that_has_fields_comes_after_ours() {
        let forged = "no watch=\"db\" run_id=9";
        let line = logged(false, || tracing::error!(file = %"/etc/a.twc", "check: {forged}"));
        assert_eq!(line, format!("file=/etc/a.twc: check: {forged}\n"));
        let line = logged(false, || tracing::error!("check: {forged}"));
        assert_eq!(line, "\"check: no watch=\\\"db\\\" run_id=9\"\n");
        let line = logged(false, || tracing::warn!(file = %"a", "1 = 2, a == b, TasksMax = of"));
        assert_eq!(line, "1 = 2, a == b, TasksMax = of file=a\n");
        let outcome = "failed:\tx\twatch=\"db\"";
        let line = logged(false, || tracing::warn!(outcome = %outcome, "run ended"));
        assert_eq!(line, "run ended outcome=\"failed:\\tx\\twatch=\\\"db\\\"\"\n");
    }

    #[test]
    fn a_value_that_could_be_read_as_more_fields_is_quoted() {
        let error = "no such file watch=\"db\"";
        let line = logged(false, || tracing::warn!(error = %error, file = %"a b", "cannot read"));
        assert_eq!(line, "cannot read error=\"no such file watch=\\\"db\\\"\" file=a b\n");
    }

    #[test]
    fn nothing_turns_hides_or_ends_the_line() {
        let name = "a\u{202e}b\n\u{1b}[2J";
        let line = logged(false, || tracing::warn!(name, shown = %name, "of {name}"));
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(!line.trim_end().contains(sanitize::is_harmful), "{line}");
        assert_eq!(line.matches("\\u{202e}").count(), 3, "{line}");
    }

    #[test]
    fn colours_are_ours_alone() {
        let line = logged(true, || tracing::warn!(file = "\u{1b}[31m", "{}", "\u{1b}[31mred"));
        assert!(line.contains("\\u{1b}[31mred \x1b[3mfile\x1b[0m"), "{line:?}");
        assert!(!line.contains("\x1b[31m"), "{line:?}");
    }
}
