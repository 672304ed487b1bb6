//! What is wrong with a configuration, and where: every error names the file, and the line and column where there are such.
//!
//! This module must not know what is checked, only how a finding is placed in a text and shown.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use twitcher_model::sanitize;

/// Longest part of a source line that is kept, in characters. A hostile file can be one line of megabytes.
const LINE_SHOWN: usize = 160;
/// Longest message that is kept, in characters.
const MESSAGE_SHOWN: usize = 2000;

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TextPosition {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A text that is read as configuration, with what it takes to place errors in it.
#[derive(Debug, Clone)]
pub(super) struct SourceText {
    pub(super) file: Arc<Path>,
    pub(super) text: Arc<str>,
    /// The position of every `MARK_EVERY`th byte. Without them, placing each of 10,000 watches in one large file would take time
    /// quadratic in the file, and the file may be hostile.
    marks: Vec<TextPosition>,
}

const MARK_EVERY: usize = 1024;

impl SourceText {
    pub(super) fn new(file: Arc<Path>, text: Arc<str>) -> Self {
        let mut marks = vec![TextPosition { line: 1, column: 1 }];
        let mut at = 0;
        while at + MARK_EVERY <= text.len() {
            let from = marks[marks.len() - 1];
            marks.push(advance(from, &text, at, at + MARK_EVERY));
            at += MARK_EVERY;
        }
        Self { file, text, marks }
    }

    /// The place `offset` bytes into the text. An offset past the end, or inside a character, counts as the nearest place before it.
    pub(super) fn position(&self, offset: usize) -> TextPosition {
        let mark = offset.min(self.text.len()) / MARK_EVERY;
        advance(self.marks[mark], &self.text, mark * MARK_EVERY, offset)
    }

    /// An error `offset` bytes into the text.
    pub(super) fn error(&self, offset: usize, message: impl fmt::Display) -> ConfigError {
        ConfigError::at(&self.file, &self.text, self.position(offset), message)
    }
}

/// The position of `to`, given that of `from`.
fn advance(mut position: TextPosition, text: &str, from: usize, to: usize) -> TextPosition {
    for c in text[text.floor_char_boundary(from)..text.floor_char_boundary(to)].chars() {
        if c == '\n' {
            position.line = position.line.saturating_add(1);
            position.column = 1;
        } else {
            position.column = position.column.saturating_add(1);
        }
    }
    position
}

/// One finding in one configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigError {
    /// The file or directory.
    pub file: PathBuf,
    /// Where in the file; none when it is about the file as a whole.
    pub position: Option<TextPosition>,
    /// What is wrong: lower case, one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line at `position`, shortened around it when very long.
    pub source_line: Option<SourceLine>,
}

/// The line that an error is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLine {
    /// The line's text, without control characters.
    pub text: String,
    /// The character of `text` that the error is about, from 0.
    pub caret: u32,
}

impl ConfigError {
    /// An error about a file as a whole.
    pub fn of_file(file: impl Into<PathBuf>, message: impl fmt::Display) -> Self {
        Self {
            file: file.into(),
            position: None,
            message: one_line(&message.to_string()),
            hint: None,
            source_line: None,
        }
    }

    /// An error at a place in the `text` of `file`.
    pub fn at(file: &Path, text: &str, position: TextPosition, message: impl fmt::Display) -> Self {
        Self {
            position: Some(position),
            source_line: source_line(text, position),
            ..Self::of_file(file, message)
        }
    }

    /// The same error with advice.
    pub fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().map(|hint| one_line(&hint));
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names of files are of whoever made them.
        f.write_str(&sanitize::escaped(&self.file.to_string_lossy()))?;
        if let Some(TextPosition { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(SourceLine { text, caret }) = &self.source_line {
            write!(f, "\n  | {text}\n  | {:width$}^", "", width = *caret as usize)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The line at `position`, cut to what a terminal can show. Harmful characters are shown as escapes, so that a file cannot drive the
/// terminal of whoever reads the error, and the caret stays below what it points at.
fn source_line(text: &str, position: TextPosition) -> Option<SourceLine> {
    let line = text.lines().nth(position.line as usize - 1)?;
    let column = position.column as usize - 1;
    let skip = if column < LINE_SHOWN {
        0
    } else {
        column - LINE_SHOWN / 2
    };
    let (before, after): (String, String) = (
        line.chars().take(column).skip(skip).collect(),
        line.chars().skip(column).take(LINE_SHOWN - (column - skip)).collect(),
    );
    // A tab is as wide as the terminal says, which the caret below cannot know.
    let before = sanitize::escaped(&before.replace('\t', " "));
    let text = before.clone() + &sanitize::escaped(&after.replace('\t', " "));
    let text = text.trim_end();
    (!text.is_empty()).then(|| SourceLine {
        text: text.to_owned(),
        caret: saturate(before.chars().count()),
    })
}

/// `text` on one line and of bounded length, without control characters.
fn one_line(text: &str) -> String {
    let mut line = sanitize::line(text);
    if let Some((at, _)) = line.char_indices().nth(MESSAGE_SHOWN) {
        line.truncate(at);
        line.push('…');
    }
    line
}

fn saturate(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The name of `known` that `wrong` was probably meant to be.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing is quadratic in the length, and no name is that long.
    if wrong.len() > 64 {
        return None;
    }
    let folded = wrong.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().min(wrong.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `did you mean "…"?`, if there is a name that comes near.
pub(super) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(wrong, known).map(|name| format!("did you mean {name:?}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> SourceText {
        SourceText::new(Path::new("/etc/twitcher/a.twc").into(), text.into())
    }

    #[test]
    fn positions_count_characters() {
        let source = source("a = 1\nü = x\n");
        let of = |offset| {
            let TextPosition { line, column } = source.position(offset);
            (line, column)
        };
        assert_eq!(of(0), (1, 1));
        assert_eq!(of(6), (2, 1));
        assert_eq!(of(7), (2, 1), "inside the ü");
        assert_eq!(of(8), (2, 2));
        assert_eq!(of(9999), (3, 1));
    }

    #[test]
    fn positions_in_a_long_text_are_those_of_counting_from_its_start() {
        let text = "ü-line with ünusual letters 漢\n".repeat(400) + &"ß".repeat(5000);
        let source = source(&text);
        for offset in (0..text.len() + 10).step_by(7) {
            let slow = advance(TextPosition { line: 1, column: 1 }, &text, 0, offset);
            assert_eq!(source.position(offset), slow, "{offset}");
        }
    }

    #[test]
    fn an_error_shows_the_line_and_a_caret() {
        let error = source("x = 1\n\tü = lamda\n")
            .error(12, "no such name")
            .with_hint("did you mean \"lambda\"?".to_owned());
        insta::assert_snapshot!(error, @r#"
        /etc/twitcher/a.twc:2:6: no such name
          |  ü = lamda
          |      ^
          hint: did you mean "lambda"?
        "#);
    }

    #[test]
    fn a_line_of_megabytes_is_cut_around_the_place() {
        let text = format!("{}X{}", "a".repeat(1_000_000), "b".repeat(1_000_000));
        let error = source(&text).error(1_000_000, "here");
        let line = error.source_line.unwrap();
        assert_eq!(line.text.chars().nth(line.caret as usize), Some('X'));
        assert!(line.text.len() <= LINE_SHOWN);
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let error = source("\u{1b}[2Jx").error(0, "bad \u{1b}[2J\nthing");
        let shown = error.to_string();
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["znode", "action", "run_mode", "umask"];
        assert_eq!(nearest("zonde", known), Some("znode"));
        assert_eq!(nearest("runmode", known), Some("run_mode"));
        assert_eq!(nearest("RUN_MODE", known), Some("run_mode"));
        assert_eq!(nearest("elephant", known), None);
        assert_eq!(nearest("xy", known), None);
    }
}
