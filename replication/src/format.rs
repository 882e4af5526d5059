//! Formats numbers, names and tables for the terminal, CSV, figures and reports.

pub use drawings::format::*;
use serde::Serialize;

/// A line of a table.
#[cfg(any(feature = "train", test))]
pub fn line(cells: &[String]) -> String {
    Csv::new(cells.iter().map(String::as_str)).text()
}

/// `1 document`, `2 documents`.
#[cfg(feature = "train")]
pub fn counted(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A table for display; cells are plain text.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    /// The caption above it.
    pub caption: String,
    /// The headers.
    pub columns: Vec<String>,
    /// The rows, each with one cell per header.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The table as Markdown.
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
