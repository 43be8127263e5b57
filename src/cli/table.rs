//! Columns for people: as wide as what stands in them, numbers to the right, nothing behind the last.

use std::fmt::Write;

/// Rows under headings.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    pub(super) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| heading.to_uppercase()).collect()], indent: 0 }
    }

    /// Without headings, moved in by so many blanks.
    pub(super) fn bare(indent: usize) -> Self {
        Self { rows: Vec::new(), indent }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [impl Into<String>; N]) -> &mut Self {
        self.rows.push(cells.map(Into::into).into());
        self
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    }

    /// Whether a column holds nothing but numbers under its heading.
    fn is_number(&self, column: usize) -> bool {
        let number =
            |cell: &String| cell.starts_with(|first: char| first.is_ascii_digit()) && cell.parse::<f64>().is_ok();
        let cells = self.rows.iter().skip(1).filter_map(|row| row.get(column)).filter(|cell| *cell != "-");
        let mut cells = cells.peekable();
        cells.peek().is_some() && cells.all(number)
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let shapes: Vec<_> = (0..columns).map(|column| (self.width(column), self.is_number(column))).collect();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (cell, (width, number)) in row.iter().zip(&shapes) {
                let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
                let (before, after) = if *number { (gap.as_str(), "") } else { ("", gap.as_str()) };
                write!(line, "{before}{cell}{after}  ")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let mut table = Table::new(["name", "days", "file"]);
        table.row(["api.example.com", "9", "a.pem"]).row(["ü", "120", ""]);
        assert_eq!(
            table.to_string(),
            "NAME             DAYS  FILE\napi.example.com     9  a.pem\nü                 120\n"
        );
        let mut bare = Table::bare(2);
        bare.row(["a", "b"]).row(["long", "c"]);
        assert_eq!(bare.to_string(), "  a     b\n  long  c\n");
    }
}
