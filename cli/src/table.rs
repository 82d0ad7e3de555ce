//! Aligned text tables.

use std::fmt::Display;
use std::io::{self, Write};

use clap::builder::styling::Style;

/// Maximum width of a column in characters. A longer cell shifts the rest of its own line only, so
/// that one long name does not widen the whole table.
const MAX_COLUMN_WIDTH: usize = 40;

/// Spaces between columns.
const GAP: usize = 2;

/// A cell of a table.
pub(super) struct Cell {
    text: String,
    style: Style,
    is_right: bool,
}

/// Returns a left-aligned cell, for text.
pub(super) fn left(value: impl Display) -> Cell {
    Cell {
        text: value.to_string(),
        style: Style::new(),
        is_right: false,
    }
}

/// Returns a right-aligned cell, for numbers.
pub(super) fn right(value: impl Display) -> Cell {
    Cell {
        is_right: true,
        ..left(value)
    }
}

impl Cell {
    pub(super) fn with_style(self, style: Style) -> Self {
        Self { style, ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Returns the lines of a table. Columns are as wide as their widest cell within the limit.
pub(super) fn lines(rows: &[Vec<Cell>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widths = cells
                .map(Cell::width)
                .filter(|width| *width <= MAX_COLUMN_WIDTH);
            widths.max().unwrap_or(0)
        })
        .collect();
    let line = |row: &Vec<Cell>| {
        let mut line = String::new();
        // Pending spaces are written before the next cell only, so that no line ends with spaces.
        let mut spaces = 0;
        for (cell, width) in row.iter().zip(&widths) {
            let style = cell.style;
            let missing = width.saturating_sub(cell.width());
            if cell.is_right {
                spaces += missing;
            }
            let gap = format!("{:spaces$}", "");
            line.push_str(&format!("{gap}{style}{}{style:#}", cell.text));
            spaces = if cell.is_right { GAP } else { GAP + missing };
        }
        line
    };
    rows.iter().map(line).collect()
}

/// Prints a table.
pub(super) fn print(out: &mut impl Write, rows: &[Vec<Cell>]) -> io::Result<()> {
    lines(rows)
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_no_line_ends_with_spaces() {
        let rows = [
            vec![left("name"), right("bytes"), left("state")],
            vec![left("a"), right(1234567), left("new")],
            vec![left("longer"), right(1)],
            vec![left("z"), right(10), left("no state")],
        ];
        assert_eq!(
            lines(&rows),
            [
                "name      bytes  state",
                "a       1234567  new",
                "longer        1",
                "z            10  no state",
            ]
        );
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn a_long_cell_shifts_only_its_own_line() {
        let long = "x".repeat(41);
        let rows = [vec![left("abc"), left("y")], vec![left(&long), left("y")]];
        assert_eq!(lines(&rows), ["abc  y", &format!("{long}  y")]);
    }

    #[test]
    fn escape_sequences_take_no_width() {
        let style = crate::color::BAD;
        let rows = [
            vec![left("ab").with_style(style), left("x")],
            vec![left("abc"), left("x")],
        ];
        let expected = format!("{style}ab{style:#}   x");
        assert_eq!(lines(&rows), [expected.as_str(), "abc  x"]);
    }
}
