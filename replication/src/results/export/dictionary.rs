//! The data dictionary: every column of every table.

use super::sheet::Sheet;
use crate::format::Table;
use crate::format::line;

const COLUMNS: [&str; 5] = ["table", "column", "type", "unit", "meaning"];

/// The dictionary as CSV, one row per column.
pub fn csv(sheets: &[Sheet]) -> String {
    let mut text = line(&COLUMNS.map(String::from));
    for sheet in sheets {
        text.extend(rows(sheet).iter().map(|row| line(row)));
    }
    text
}

/// The dictionary as Markdown, with a table for each table of results.
pub fn markdown(sheets: &[Sheet]) -> String {
    let mut text = String::from(
        "# Data dictionary\n\nAn empty cell means that there is no such value. Losses are means over a \
         validation set, in nats per token.\n",
    );
    for sheet in sheets {
        let table = Table {
            caption: format!("## {}\n\nA row is {}.", sheet.name, sheet.row),
            columns: COLUMNS[1..].iter().map(ToString::to_string).collect(),
            rows: rows(sheet).into_iter().map(|row| row[1..].to_vec()).collect(),
        };
        text += &format!("\n{}", table.markdown());
    }
    text
}

fn rows(sheet: &Sheet) -> Vec<Vec<String>> {
    let row = |(head, values): &(super::sheet::Head, super::sheet::Values)| {
        [sheet.name, head.name, values.kind(), head.unit, head.meaning].map(String::from).to_vec()
    };
    sheet.columns.iter().map(row).collect()
}
