//! Tables without lines, as `kubectl get` and `systemctl list-units` print them.
//!
//! On a terminal a row is a line: what does not fit is cut. Elsewhere nothing is. It must not know what is in the cells.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table as Grid, Width,
};

use unicode_width::UnicodeWidthStr;

use super::theme::{Theme, Tone};

/// Blanks between columns.
const GAP: usize = 2;

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// In capitals.
    pub heading: &'static str,
    /// Numbers are easier to compare when they end below each other.
    pub right: bool,
    /// The least width that it may be cut to; none if it is never cut.
    pub cut: Option<u16>,
}

/// A column that is never cut.
pub(super) const fn whole(heading: &'static str) -> Column {
    Column {
        heading,
        right: false,
        cut: None,
    }
}

/// The same, for numbers.
pub(super) const fn number(heading: &'static str) -> Column {
    Column {
        heading,
        right: true,
        cut: None,
    }
}

/// A column that is cut when it must be.
pub(super) const fn cut(heading: &'static str, least: u16) -> Column {
    Column {
        heading,
        right: false,
        cut: Some(least),
    }
}

/// Its rows, from top to bottom.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Option<Tone>)>>,
}

impl Table {
    pub fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, with a cell for each column.
    pub fn row<const N: usize>(&mut self, cells: [(String, Option<Tone>); N]) {
        self.rows.push(cells.into());
    }

    /// Its text. Columns where no row has anything are left out.
    pub fn render(&self, look: &Theme) -> String {
        let used: Vec<usize> = (0..self.columns.len())
            .filter(|at| {
                let cells = self.rows.iter().filter_map(|row| row.get(*at));
                cells.into_iter().any(|(text, _)| !text.is_empty())
            })
            .collect();
        match look.width.is_none() && !look.colour {
            true => self.plain(&used),
            false => self.painted(&used, look),
        }
    }

    /// As files and pipes get it, in which nothing is cut or painted: of a hundred thousand rows that takes a fifth of the time.
    fn plain(&self, used: &[usize]) -> String {
        let width_of = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let widths = cells.map(|(text, _)| width(text));
            widths.chain([width(self.columns[at].heading)]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = used.iter().map(|at| width_of(*at)).collect();
        let mut text = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            let begin = text.len();
            for ((cell, at), room) in cells.zip(used).zip(&widths) {
                let missing = room.saturating_sub(width(cell));
                let (before, after) = if self.columns[*at].right {
                    (missing, 0)
                } else {
                    (0, missing)
                };
                text.extend(std::iter::repeat_n(' ', before));
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', after + GAP));
            }
            text.truncate(begin + text[begin..].trim_end().len());
            text.push('\n');
        };
        line(&mut used.iter().map(|at| self.columns[*at].heading));
        for row in &self.rows {
            line(&mut used.iter().filter_map(|at| row.get(*at)).map(|(text, _)| text.as_str()));
        }
        text.replace(TIE, " ")
    }

    fn painted(&self, used: &[usize], look: &Theme) -> String {
        let mut grid = Grid::new();
        // What comfy-table would find out about the terminal, `look` knows.
        grid.force_no_tty()
            .load_style(comfy_table::presets::NOTHING)
            .set_truncation_indicator("…");
        if look.colour {
            grid.enforce_styling();
            grid.style_text_only();
        }
        match look.width {
            Some(width) => grid
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width),
            None => grid.set_content_arrangement(ContentArrangement::Disabled),
        };
        let headings = used.iter().map(|at| {
            let heading = Cell::new(self.columns[*at].heading);
            if look.colour {
                heading.add_attribute(Attribute::Dim)
            } else {
                heading
            }
        });
        let mut headings = Row::from(headings.collect::<Vec<_>>());
        headings.max_height(1);
        grid.set_header(headings);
        for row in &self.rows {
            let cells = used.iter().filter_map(|at| row.get(*at));
            let cells = cells.map(|(text, tone)| painted(text, tone.filter(|_| look.colour)));
            let mut row = Row::from(cells.collect::<Vec<_>>());
            row.max_height(1);
            grid.add_row(row);
        }
        for (index, at) in used.iter().enumerate() {
            let Some(column) = grid.column_mut(index) else {
                continue;
            };
            let Column { right, cut, .. } = self.columns[*at];
            column.set_padding((0, if index + 1 == used.len() { 0 } else { GAP as u16 }));
            if right {
                column.set_cell_alignment(CellAlignment::Right);
            }
            match (cut, look.width) {
                // Cut where the room ends, not at the last blank before.
                (Some(least), Some(_)) => column
                    .set_delimiter('\n')
                    .set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least))),
                _ => column.set_constraint(ColumnConstraint::ContentWidth),
            };
        }
        lines(&grid)
    }
}

/// Columns that a text takes.
fn width(text: &str) -> usize {
    // Most are, and to look at each character of the others takes much longer.
    match text.is_ascii() {
        true => text.len(),
        false => text.width(),
    }
}

fn painted(text: &str, tone: Option<Tone>) -> Cell {
    let cell = Cell::new(text);
    match tone {
        None => cell,
        Some(Tone::Bad) => cell.fg(Color::DarkRed).add_attribute(Attribute::Bold),
        Some(Tone::Odd) => cell.fg(Color::DarkYellow),
        Some(Tone::Busy) => cell.fg(Color::DarkCyan),
        Some(Tone::Good) => cell.fg(Color::DarkGreen),
        Some(Tone::Dull) => cell.add_attribute(Attribute::Dim),
        Some(Tone::Strong) => cell.add_attribute(Attribute::Bold),
    }
}

/// Labels with texts beside them; a text that does not fit goes on below its beginning.
pub(super) fn fields(rows: &[(&str, String, Option<Tone>)], look: &Theme) -> String {
    let mut grid = Grid::new();
    grid.force_no_tty().load_style(comfy_table::presets::NOTHING);
    if look.colour {
        grid.enforce_styling();
        grid.style_text_only();
    }
    match look.width {
        Some(width) => grid
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width),
        None => grid.set_content_arrangement(ContentArrangement::Disabled),
    };
    for (label, text, tone) in rows {
        let label = painted(label, Some(Tone::Dull).filter(|_| look.colour));
        grid.add_row(vec![label, painted(text, tone.filter(|_| look.colour))]);
    }
    if let Some(labels) = grid.column_mut(0) {
        labels
            .set_padding((2, 2))
            .set_constraint(ColumnConstraint::ContentWidth);
    }
    if let Some(texts) = grid.column_mut(1) {
        texts.set_padding((0, 0));
    }
    lines(&grid)
}

fn lines(grid: &Grid) -> String {
    let mut text = String::new();
    for line in grid.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.replace(TIE, " ")
}

/// A blank at which no line ends. It never comes out.
const TIE: char = '\u{a0}';

/// The text without places where [`fields`] would begin another line: commands are to be copied whole.
pub(super) fn together(text: &str) -> String {
    text.replace(' ', "\u{a0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_what_a_terminal_without_end_would() {
        let mut table = Table::new(&[
            cut("WATCH", 16),
            whole("STATE"),
            number("BEHIND"),
            cut("NOTHING", 4),
            cut("WHY", 8),
        ]);
        for (name, state, behind, why) in [
            ("repo", "armed", "", ""),
            ("数据 and more", "behind", "3 min", "no permission\u{a0}yet"),
            ("e\u{301}tat-👩‍👩‍👧", "up", "12 s", " padded "),
            ("", "a longer state", "1 h", "x"),
        ] {
            let cells = [name, state, behind, "", why];
            table.row(cells.map(|cell| (cell.to_owned(), Some(Tone::Good))));
        }
        let look = Theme {
            width: None,
            colour: false,
            now: jiff::Timestamp::UNIX_EPOCH,
            zone: None,
        };
        let plain = table.plain(&[0, 1, 2, 4]);
        assert_eq!(plain, table.painted(&[0, 1, 2, 4], &look));
        assert_eq!(plain, table.render(&look));
    }
}
