//! The few forms that the text of a page has. A terminal shows them as they are; a manual page needs to know them.
//!
//! ```text
//! A HEADING            a line of its own, without lower case letters
//! a paragraph          lines at the margin
//! - a point            its further lines indented by two
//! term                 directly above lines that are indented: an item of a list of definitions
//!     what it means
//!
//!     literal          indented lines after an empty one: examples and tables
//! ```

/// A part of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    Heading(String),
    Paragraph(String),
    Points(Vec<String>),
    Item {
        term: String,
        meaning: String,
    },
    /// With its indentation taken off.
    Literal(String),
}

/// How far literal text and meanings are indented.
const INDENT: &str = "    ";

/// The parts of a page, in order.
pub(super) fn parse(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for part in text.split("\n\n") {
        let lines: Vec<&str> = part.lines().collect();
        let block = match lines.as_slice() {
            [] => continue,
            [line] if is_heading(line) => Block::Heading((*line).to_owned()),
            [first, ..] if first.starts_with(INDENT) => {
                let text = unindented(&lines).join("\n");
                // An empty line within an example does not end it.
                if let Some(Block::Literal(before)) = blocks.last_mut() {
                    before.push_str("\n\n");
                    before.push_str(&text);
                    continue;
                }
                Block::Literal(text)
            }
            [first, ..] if first.starts_with("- ") => Block::Points(points(&lines)),
            [term, second, ..] if second.starts_with(INDENT) => Block::Item {
                term: (*term).to_owned(),
                meaning: unindented(&lines[1..]).join("\n"),
            },
            _ => Block::Paragraph(lines.join("\n")),
        };
        blocks.push(block);
    }
    blocks
}

fn is_heading(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_uppercase()) && !line.contains(|c: char| c.is_lowercase())
}

fn unindented<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    lines
        .iter()
        .map(|line| line.strip_prefix(INDENT).unwrap_or(line.trim_start()))
        .collect()
}

fn points(lines: &[&str]) -> Vec<String> {
    let mut points: Vec<String> = Vec::new();
    for line in lines {
        match (line.strip_prefix("- "), points.last_mut()) {
            (Some(point), _) => points.push(point.to_owned()),
            (None, Some(point)) => {
                point.push('\n');
                point.push_str(line.trim_start());
            }
            (None, None) => {}
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_told_from_the_others() {
        let text = "A HEADING\n\ntwo\nlines\n\n- one,\n  longer\n- two\n\nterm (x)\n    its\n    meaning\n\n    a\n      b\n\n    c\n\nend\n";
        assert_eq!(
            parse(text),
            [
                Block::Heading("A HEADING".into()),
                Block::Paragraph("two\nlines".into()),
                Block::Points(vec!["one,\nlonger".into(), "two".into()]),
                Block::Item {
                    term: "term (x)".into(),
                    meaning: "its\nmeaning".into()
                },
                Block::Literal("a\n  b\n\nc".into()),
                Block::Paragraph("end".into()),
            ]
        );
    }
}
