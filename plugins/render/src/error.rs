//! What is wrong with a template, in words: the template, the line, the expression.

use std::error::Error as _;
use std::ops::Range;
use std::path::Path;

use minijinja::Error;

/// Longest expression that is repeated, in bytes.
const EXPRESSION: usize = 200;

/// ``/templates/app.conf:3: undefined value: `data.prot` is undefined``, and where a template was included that is to blame.
pub fn words(error: &Error, dir: Option<&Path>) -> String {
    // The innermost that knows its place is the cause; those around it say how it was come to.
    let mut chain = vec![error];
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        match cause.downcast_ref::<Error>() {
            Some(error) => chain.push(error),
            None => causes.push(cause.to_string()),
        }
        next = cause.source();
    }
    let place = |error: &Error| {
        let name = error.name()?;
        let file = match dir {
            Some(dir) if !name.starts_with(['/', '"']) => dir.join(name).display().to_string(),
            _ => name.to_owned(),
        };
        Some(match error.line() {
            Some(line) => format!("{file}:{line}"),
            None => file,
        })
    };
    let inner = chain.iter().rposition(|error| error.name().is_some()).unwrap_or(0);
    let cause = chain[chain.len() - 1];
    let mut text = cause.kind().to_string();
    for detail in cause.detail().into_iter().chain(causes.iter().map(String::as_str)) {
        text.push_str(": ");
        text.push_str(detail);
    }
    if let Some(expression) = expression(chain[inner]).filter(|expression| !text.contains(&format!("`{expression}`"))) {
        text.push_str(" in ");
        text.push_str(&expression);
    }
    if let Some(place) = place(chain[inner]) {
        text = format!("{place}: {text}");
    }
    for around in chain[..inner].iter().rev().filter_map(|error| place(error)) {
        text.push_str(&format!(", included at {around}"));
    }
    text
}

/// The expression or block that failed, on one line.
fn expression(error: &Error) -> Option<String> {
    let source = error.template_source()?;
    let piece = around(source, error.range()?).or_else(|| source.get(error.range()?))?;
    let piece = piece.split_whitespace().collect::<Vec<_>>().join(" ");
    match piece.char_indices().find(|(at, _)| *at >= EXPRESSION) {
        Some((at, _)) => Some(format!("{}...", &piece[..at])),
        None => Some(piece).filter(|piece| !piece.is_empty()),
    }
}

/// What stands between the delimiters around a place, if they are Jinja's. What is known of a filter that failed is its name alone.
fn around(source: &str, place: Range<usize>) -> Option<&str> {
    let before = source.get(..place.start)?;
    let (start, end) = ["{{", "{%"]
        .into_iter()
        .filter_map(|begin| Some((before.rfind(begin)?, if begin == "{{" { "}}" } else { "%}" })))
        .max_by_key(|(at, _)| *at)?;
    let inside = source.get(start + 2..)?;
    let length = inside.find(end).filter(|length| start + 2 + length >= place.end)?;
    let inside = inside.get(..length)?.trim_matches(['-', '+']).trim();
    Some(inside).filter(|inside| !inside.contains("{{"))
}
