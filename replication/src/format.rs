//! How numbers, names and tables look: on the terminal, in CSV, in figures and in reports.

pub use drawings::format::*;
use serde::Serialize;

/// A line of a table.
#[cfg(any(feature = "train", test))]
pub fn line(cells: &[String]) -> String {
    Csv::new(cells.iter().map(String::as_str)).text()
}

/// A table for people; cells are plain text.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    /// Above it.
    pub caption: String,
    /// Headers.
    pub columns: Vec<String>,
    /// Rows of as many cells as there are headers.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// As Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let escaped: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", escaped.join(" | "))
        };
        let mut text =
            if self.caption.is_empty() { String::new() } else { format!("{}\n\n", self.caption) };
        text += &line(&self.columns);
        text += &format!("|{}\n", "---|".repeat(self.columns.len()));
        text.extend(self.rows.iter().map(|row| line(row)));
        text
    }
}
