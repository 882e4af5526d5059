//! How numbers look in drawings and in the tables beside them.

pub use forgetting_laws::fit::report::format::*;

/// A size with three digits: `41M`, `1.27B`.
pub fn short(size: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")];
    // What rounds to a thousand of a unit is one of the next.
    let unit = UNITS.into_iter().find(|(unit, _)| size >= 0.9995 * unit);
    let (unit, suffix) = unit.unwrap_or((1.0, ""));
    let value = size / unit;
    let places = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.places$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

/// The shortest text that reads back as the same number; nothing where it is none.
pub fn cell(value: f64) -> String {
    match value.is_finite() {
        // Very small and very large ones would have hundreds of digits.
        true if value != 0.0 && !(1e-5..1e16).contains(&value.abs()) => format!("{value:e}"),
        true => value.to_string(),
        false => String::new(),
    }
}

/// CSV in the making; names may hold commas. Numbers are written by [`cell`].
pub struct Csv(csv::Writer<Vec<u8>>);

impl Csv {
    /// An empty table with these columns.
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a str>) -> Self {
        let mut table = Self(csv::Writer::from_writer(Vec::new()));
        table.row(columns.into_iter().map(String::from));
        table
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.write_record(cells.into_iter().collect::<Vec<_>>()).expect("rows are of one length");
    }

    /// The table as text.
    pub fn text(self) -> String {
        let bytes = self.0.into_inner().expect("a vector takes every record");
        String::from_utf8(bytes).expect("records of text are text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (size, text) in [
            (41e6, "41M"),
            (1.27e9, "1.27B"),
            (999.6, "1K"),
            (999.4, "999"),
            (64.0, "64"),
            (123_456.0, "123K"),
            (12_345.0, "12.3K"),
            (999_600.0, "1M"),
            (3e12, "3T"),
            (100.0, "100"),
        ] {
            assert_eq!(short(size), text);
        }
    }

    #[test]
    fn cells_read_back() {
        for value in [0.1 + 0.2, 1e-9, 1e300, 4.1e7, -0.5, 0.0] {
            assert_eq!(cell(value).parse::<f64>().unwrap(), value);
        }
        assert_eq!(cell(41e6), "41000000");
        assert_eq!(cell(1e-9), "1e-9");
        assert_eq!(cell(f64::NAN), "");
    }
}
