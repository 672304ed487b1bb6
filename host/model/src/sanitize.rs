//! What others wrote, fit for a terminal: it must not move the cursor, change colours, hide, or turn the letters around it.
//!
//! It must not know whose text it is.

/// Whether a terminal does something with it, or shows what surrounds it in another order: control characters, marks and overrides
/// of writing direction, separators of lines, what has no width, and tags.
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{180e}'
                | '\u{3164}'
                | '\u{ffa0}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A text in which each harmful character is shown as what it is, `\u{202e}`: whoever reads it sees that there is one. Tabs stay.
pub fn escaped(text: &str) -> String {
    shown(text, |c| c == '\t')
}

/// A text on one line: ends of lines and tabs are blanks, and what else is harmful is shown as an escape.
pub fn line(text: &str) -> String {
    // As most are, and there may be a hundred thousand.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.trim().to_owned();
    }
    let text = text.replace("\r\n", " ").replace(['\n', '\r', '\t'], " ");
    escaped(text.trim())
}

/// A text of several lines: ends of lines and tabs stay.
pub fn lines(text: &str) -> String {
    shown(&text.replace("\r\n", "\n"), |c| matches!(c, '\n' | '\t'))
}

/// A word of a command line that no shell takes for anything else: what somebody else says can be pasted there.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn shown(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_harmful(c) && !keep(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_what_it_shows() {
        assert_eq!(
            line(" a\u{1b}[2Jb\n\u{202e}c\u{9b}\u{feff}d ü 漢 \n"),
            "a\\u{1b}[2Jb \\u{202e}c\\u{9b}\\u{feff}d ü 漢"
        );
        assert_eq!(lines("a\r\n\tb\rc\u{1b}]0;x\u{7}\n"), "a\n\tb\\rc\\u{1b}]0;x\\u{7}\n");
        assert_eq!(escaped("a\nb"), "a\\nb");
    }
}
