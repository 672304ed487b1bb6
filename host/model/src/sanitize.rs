//! What others wrote, fit for a terminal: it must not move the cursor, change colours, hide, or turn the letters around it.
//!
//! It must not know whose text it is.

/// Whether a terminal does something with it, or shows what surrounds it in another order: control characters, marks and overrides
/// of writing direction, separators of lines, what has no width, and tags.
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
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

/// The character, or a blank in place of a harmful one, so that what follows stays where it was.
pub fn or_blank(c: char) -> char {
    if is_harmful(c) { ' ' } else { c }
}

/// A text on one line.
pub fn line(text: &str) -> String {
    if text.contains(is_harmful) {
        text.replace(is_harmful, " ").trim().to_owned()
    } else {
        text.trim().to_owned()
    }
}

/// A text of several lines: ends of lines and tabs stay.
pub fn lines(text: &str) -> String {
    let keep = |c| if matches!(c, '\n' | '\t') { c } else { or_blank(c) };
    text.replace("\r\n", "\n").chars().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_what_it_shows() {
        assert_eq!(
            line(" a\u{1b}[2Jb\n\u{202e}c\u{9b}\u{feff}d ü 漢 "),
            "a [2Jb  c  d ü 漢"
        );
        assert_eq!(lines("a\r\n\tb\rc\u{1b}]0;x\u{7}\n"), "a\n\tb c ]0;x \n");
    }
}
