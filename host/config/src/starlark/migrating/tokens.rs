//! The words of a text that may be Python of any version.
//!
//! It never fails: what is no word of Python is a symbol. It must not know what the words mean.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or a keyword.
    Name,
    /// A number.
    Number,
    /// A string with its prefix and quotes.
    Text,
    /// Anything else that is no blank.
    Symbol,
    /// The end of a line that the next does not continue; brackets are not looked at.
    Line,
    /// There is no token.
    End,
}

/// A word of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// Its offset.
    pub at: usize,
}

/// Symbols of two characters that mean something else than each alone.
const DOUBLE: [&str; 18] = [
    "==", "!=", "<=", ">=", "<>", "**", "//", ">>", "<<", "+=", "-=", "*=", "/=", "%=", "|=", "&=", "^=", "->",
];

/// The tokens of a text, without blanks and comments.
pub(super) fn of(text: &str) -> Tokens<'_> {
    Tokens { text, at: 0 }
}

pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = &self.text[self.at..];
            let first = rest.chars().next()?;
            let (kind, length) = match first {
                '\n' => (Kind::Line, 1),
                '#' => {
                    self.at += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                '\\' if rest[1..].starts_with(['\n', '\r']) => {
                    self.at += rest.find('\n').map_or(rest.len(), |end| end + 1);
                    continue;
                }
                blank if blank.is_whitespace() => {
                    self.at += blank.len_utf8();
                    continue;
                }
                '"' | '\'' => (Kind::Text, string(rest, 0)),
                digit if digit.is_ascii_digit() => {
                    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_');
                    (Kind::Number, end.unwrap_or(rest.len()))
                }
                letter if letter.is_alphabetic() || letter == '_' => {
                    let end = rest
                        .find(|c: char| !c.is_alphanumeric() && c != '_')
                        .unwrap_or(rest.len());
                    // r"…", u'…', Rb"""…"""
                    match end <= 2 && rest[end..].starts_with(['"', '\'']) && is_prefix(&rest[..end]) {
                        true => (Kind::Text, string(rest, end)),
                        false => (Kind::Name, end),
                    }
                }
                _ => match DOUBLE.iter().find(|double| rest.starts_with(**double)) {
                    Some(double) => (Kind::Symbol, double.len()),
                    None => (Kind::Symbol, first.len_utf8()),
                },
            };
            let token = Token {
                kind,
                text: &rest[..length],
                at: self.at,
            };
            self.at += length;
            return Some(token);
        }
    }
}

fn is_prefix(text: &str) -> bool {
    text.bytes().all(|byte| b"rRuUbBfF".contains(&byte))
}

/// The length of a string whose quote is at `quote`. One that does not end, ends with its line, or with the text.
fn string(text: &str, quote: usize) -> usize {
    let bytes = text.as_bytes();
    let mark = &bytes[quote..=quote];
    let long = bytes[quote..].starts_with(&[mark[0]; 3]);
    let width = if long { 3 } else { 1 };
    let mut at = quote + width;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'\n' if !long => return at,
            byte if byte == mark[0]
                && bytes[at..].iter().take(width).filter(|next| **next == byte).count() == width =>
            {
                return at + width;
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}
