//! What the benchmark has measured, as text.
//!
//! It must not know what was measured: `figures.md` is the table that `make bench` prints.

/// The table, a row a line.
const TABLE: &str = include_str!("figures.md");
/// Where lines are broken.
const WIDTH: usize = 80;

/// What was measured, the median and the ratio of each row.
pub(super) fn rows() -> impl Iterator<Item = [&'static str; 3]> {
    let rows = TABLE.lines().skip(2);
    rows.filter_map(|row| {
        let mut cells = row
            .strip_prefix("| ")?
            .trim_end_matches('|')
            .trim_end()
            .splitn(3, " | ");
        let (what, median) = (cells.next()?, cells.next()?);
        Some([
            what,
            median.trim_end_matches([' ', '|']),
            cells.next().unwrap_or_default(),
        ])
    })
}

/// The rows, as an example is set: what was measured, and below it the figures.
pub(super) fn figures() -> String {
    let mut text = String::new();
    for [what, median, ratio] in rows() {
        let mut line = String::from("   ");
        for word in what.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                text += &line;
                text.push('\n');
                line = String::from("     ");
            }
            line.push(' ');
            line += word;
        }
        let ratio = match ratio {
            "" => String::new(),
            ratio if ratio.contains(' ') => format!("; {ratio}"),
            ratio => format!("; ratio {ratio}"),
        };
        text += &format!("{line}\n        {median}{ratio}\n");
    }
    text
}
