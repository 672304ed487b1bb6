//! Tables without lines, as `kubectl get` and `systemctl list-units` print them.
//!
//! On a terminal a row is a line: what does not fit is cut. Elsewhere nothing is. It must not know what is in the cells.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table as Grid, Width,
};

use super::theme::{Theme, Tone};

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
            column.set_padding((0, if index + 1 == used.len() { 0 } else { 2 }));
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
