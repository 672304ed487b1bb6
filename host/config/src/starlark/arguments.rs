//! Where the arguments of a call stand in its text.
//!
//! Starlark tells a native function where the call is, but not where each argument is; and an error about one field of a
//! twenty-line `RegisterWatch` should point at that field. This is a scan for brackets, commas and strings. It must not know what
//! the arguments mean, and a text that it does not understand only costs precision.

/// Where arguments stand, as byte offsets in the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Offsets of positional arguments.
    pub(super) positional: Vec<u32>,
    /// Names of keyword arguments, with the offsets of name and value.
    pub(super) keywords: Vec<(String, u32, u32)>,
}

impl Places {
    /// The places in the call that ends at `end`, with its closing bracket, and begins at `begin`.
    pub(super) fn of_call(text: &str, begin: usize, end: usize) -> Self {
        let Some(call) = text.get(begin..end) else {
            return Self::default();
        };
        // The arguments are in the last of the outermost brackets: `table["key"](argument)`.
        let mut open = None;
        let mut depth = 0_usize;
        for token in (Tokens { text: call, at: 0 }) {
            match token {
                Token::Open(at) => {
                    if depth == 0 {
                        open = Some(at + 1);
                    }
                    depth += 1;
                }
                Token::Close(_) => depth = depth.saturating_sub(1),
                Token::Comma(_) | Token::Assign(_) | Token::Other(_) => {}
            }
        }
        match open {
            Some(open) => Self::of_arguments(&call[open..], begin + open),
            None => Self::default(),
        }
    }

    fn of_arguments(text: &str, base: usize) -> Self {
        let mut places = Self::default();
        let mut depth = 0_usize;
        let mut argument = Argument::default();
        for token in (Tokens { text, at: 0 }) {
            match token {
                Token::Close(_) if depth == 0 => break,
                Token::Comma(_) if depth == 0 => std::mem::take(&mut argument).note(text, base, &mut places),
                Token::Assign(at) if depth == 0 && argument.assign.is_none() => argument.assign = Some(at),
                Token::Open(at) | Token::Close(at) | Token::Comma(at) | Token::Assign(at) | Token::Other(at) => {
                    argument.saw(at)
                }
            }
            match token {
                Token::Open(_) => depth += 1,
                Token::Close(_) => depth = depth.saturating_sub(1),
                Token::Comma(_) | Token::Assign(_) | Token::Other(_) => {}
            }
        }
        argument.note(text, base, &mut places);
        places
    }
}

/// One argument while it is scanned.
#[derive(Debug, Default)]
struct Argument {
    /// Its first token.
    begin: Option<usize>,
    /// The first `=` outside brackets.
    assign: Option<usize>,
    /// The first token after that.
    value: Option<usize>,
}

impl Argument {
    fn saw(&mut self, at: usize) {
        self.begin.get_or_insert(at);
        if self.assign.is_some() {
            self.value.get_or_insert(at);
        }
    }

    fn note(self, text: &str, base: usize, places: &mut Places) {
        let Some(begin) = self.begin else {
            return;
        };
        let offset = |at: usize| u32::try_from(base + at).unwrap_or(u32::MAX);
        if let (Some(assign), Some(value)) = (self.assign, self.value)
            && let Some(name) = text.get(begin..assign).map(str::trim_end)
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        {
            places.keywords.push((name.to_owned(), offset(begin), offset(value)));
        } else {
            places.positional.push(offset(begin));
        }
    }
}

/// What matters of a text, with offsets.
#[derive(Debug, Clone, Copy)]
enum Token {
    Open(usize),
    Close(usize),
    Comma(usize),
    /// A single `=`.
    Assign(usize),
    /// A string, or a character of anything else.
    Other(usize),
}

struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let bytes = self.text.as_bytes();
        loop {
            let at = self.at;
            let byte = *bytes.get(at)?;
            self.at += 1;
            return Some(match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b'\\' => continue,
                b'#' => {
                    let comment = bytes[at..].iter().position(|byte| *byte == b'\n');
                    self.at = comment.map_or(bytes.len(), |length| at + length);
                    continue;
                }
                b'(' | b'[' | b'{' => Token::Open(at),
                b')' | b']' | b'}' => Token::Close(at),
                b',' => Token::Comma(at),
                b'=' if bytes.get(at + 1) == Some(&b'=') => {
                    self.at += 1;
                    Token::Other(at)
                }
                b'=' => Token::Assign(at),
                b'!' | b'<' | b'>' if bytes.get(at + 1) == Some(&b'=') => {
                    self.at += 1;
                    Token::Other(at)
                }
                b'"' | b'\'' => {
                    self.at = end_of_string(bytes, at);
                    Token::Other(at)
                }
                _ => Token::Other(at),
            });
        }
    }
}

/// The offset after the string that begins at `at`.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    let triple = bytes[at..].starts_with(&[quote, quote, quote]);
    let closing: &[u8] = if triple { &[quote; 3] } else { &[quote] };
    let mut at = at + closing.len();
    while at < bytes.len() {
        match bytes[at] {
            // In a raw string, too, a quote after a backslash does not end it.
            b'\\' => at += 2,
            b'\n' if !triple => return at,
            _ if bytes[at..].starts_with(closing) => return at + closing.len(),
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands at each place, as `value` or `name=value`, up to the next comma or bracket.
    fn shown(call: &str) -> Vec<String> {
        let text = format!("x = 1\n{call}\ny = 2\n");
        let places = Places::of_call(&text, 6, 6 + call.len());
        let from = |at: u32| {
            text[at as usize..]
                .split([',', ')', '\n'])
                .next()
                .unwrap()
                .trim()
                .to_owned()
        };
        let positional = places.positional.iter().map(|at| from(*at));
        let keywords = places.keywords.iter().map(|(name, name_at, value_at)| {
            assert!(text[*name_at as usize..].starts_with(name));
            format!("{name}={}", from(*value_at))
        });
        positional.chain(keywords).collect()
    }

    #[test]
    fn arguments_are_found() {
        assert_eq!(shown("R('/a', b)"), ["'/a'", "b"]);
        assert_eq!(shown("R(znode = '/a', action=b)"), ["znode='/a'", "action=b"]);
        assert_eq!(shown("R(\n  '/a', # why, (not\n  uid =\n    'x')"), ["'/a'", "uid='x'"]);
        assert_eq!(
            shown("R(f(1, x=2), [1, 2], a == b, c=1 == 2)"),
            ["f(1", "[1", "a == b", "c=1 == 2"]
        );
        assert_eq!(
            shown("R('a,)', \"b\\\")\", c='''\n,''', d=r'\\')"),
            ["'a", "\"b\\\"", "c='''", "d=r'\\'"]
        );
        assert_eq!(shown("t['(']('/a', u=1)"), ["'/a'", "u=1"]);
        assert_eq!(
            shown("R(lambda: f(1), action=lambda x=1: x)"),
            ["lambda: f(1", "action=lambda x=1: x"]
        );
        assert_eq!(shown("R(*a, **k)"), ["*a", "**k"]);
        assert_eq!(shown("R()"), [""; 0]);
    }

    proptest::proptest! {
        #[test]
        fn nonsense_is_survived(text in r#"[R(){}\[\],='"\\# \na-cü]{0,40}"#, begin in 0..45_usize, end in 0..45_usize) {
            let places = Places::of_call(&text, begin, end);
            let inside = |at: &u32| (begin..end).contains(&(*at as usize));
            proptest::prop_assert!(places.positional.iter().all(inside));
            proptest::prop_assert!(places.keywords.iter().all(|(_, name, value)| inside(name) && inside(value)));
        }
    }
}
