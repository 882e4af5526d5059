//! Values of the command line that several commands take: numbers, lists and ranges, limits, and
//! `NAME=FILE`.

use forgetting_laws::fit::Limit;
use forgetting_laws::numbers::{Requirement, share, size};
use forgetting_laws::table::Column;
use std::path::{Path, PathBuf};

/// Parses the spread between pretrained models, such as 8% or 0.08.
///
/// # Errors
/// If the text is not a share below 1.
pub fn model_spread(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.trim().strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().ok().map(|number| unit * number);
    share
        .filter(|share| (0.0..1.0).contains(share))
        .ok_or_else(|| "must be a share from 0 to 1, such as 8% or 0.08".into())
}

/// One number, a list or a range.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// A list of numbers separated by commas.
    List(Vec<f64>),
    /// `count` numbers from `low` to `high`.
    Range {
        /// The first.
        low: f64,
        /// The last.
        high: f64,
        /// How many.
        count: usize,
    },
}

/// The most numbers of a range, and the most rows of a table.
pub const MOST: usize = 1_000_000;

impl Values {
    /// Parses sizes: numbers above 0, with suffixes.
    ///
    /// # Errors
    /// If the text is not a number, a list or a range.
    pub fn sizes(text: &str) -> Result<Self, String> {
        Self::parse(text, size)
    }

    /// Parses shares from 0 to 1.
    ///
    /// # Errors
    /// If the text is not a number, a list or a range.
    pub fn shares(text: &str) -> Result<Self, String> {
        Self::parse(text, share)
    }

    fn parse(text: &str, number: fn(&str) -> Result<f64, Requirement>) -> Result<Self, String> {
        let number = |text: &str| number(text).map_err(|why| format!("{:?} {why}", text.trim()));
        let parts: Vec<_> = text.split(':').collect();
        match *parts {
            [list] => Ok(Self::List(list.split(',').map(number).collect::<Result<_, _>>()?)),
            [low, high, count] => {
                let (low, high) = (number(low)?, number(high)?);
                let count = count.trim().parse().ok().filter(|n| (2..=MOST).contains(n));
                let count = count.ok_or(format!("COUNT must be a number from 2 to {MOST}"))?;
                if low < high {
                    Ok(Self::Range { low, high, count })
                } else {
                    Err("LOW must be below HIGH".into())
                }
            }
            _ => Err("must be a number, a list such as 10M,30M or a range LOW:HIGH:COUNT".into()),
        }
    }

    /// The numbers. The ends of a range are exactly those that were given.
    pub fn of(&self, column: Column) -> Vec<f64> {
        match *self {
            Self::List(ref values) => values.clone(),
            Self::Range { low, high, count } => {
                let last = (count - 1) as f64;
                let at = |i: usize| match (i, column) {
                    (0, _) => low,
                    (i, _) if i == count - 1 => high,
                    (_, Column::P) => rounded((low * (last - i as f64) + high * i as f64) / last),
                    _ => low * (high / low).powf(i as f64 / last),
                };
                (0..count).map(at).collect()
            }
        }
    }

    /// Whether it is a single number.
    pub fn is_one(&self) -> bool {
        matches!(self, Self::List(values) if values.len() == 1)
    }
}

/// A number with 12 digits, so that 3% computed as 15% / 5 is 0.03 and no 0.030000000000000006.
fn rounded(p: f64) -> f64 {
    format!("{p:.11e}").parse().expect("a number was written")
}

/// A share of the pretraining loss, or nats per token.
pub fn limit(text: &str) -> Result<Limit, String> {
    let (number, percent) = match text.trim().strip_suffix('%') {
        Some(number) => (number, true),
        None => (text, false),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => {
            Ok(if percent { Limit::Relative(number / 100.0) } else { Limit::Nats(number) })
        }
        _ => Err(
            "must be a share of the pretraining loss, such as 1%, or nats per token, such as 0.05"
                .into(),
        ),
    }
}

/// Splits `NAME=FILE`. An argument that is the path of an existing file is not split.
pub fn named(path: &Path) -> Option<(String, PathBuf)> {
    let (name, rest) = path.to_str()?.split_once('=')?;
    let good = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let is_name = !name.is_empty() && name.chars().all(good) && !path.exists();
    is_name.then(|| (name.to_string(), PathBuf::from(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_and_a_file_that_is_there_none() {
        assert_eq!(named(Path::new("x=a/b.txt")), Some(("x".into(), "a/b.txt".into())));
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("x=y.txt");
        std::fs::write(&odd, "text").unwrap();
        assert_eq!(named(&odd), None);
        assert_eq!(named(Path::new("=y.txt")), None);
        assert_eq!(named(Path::new("a/b=y.txt")), None);
    }

    fn parse(text: &str, column: Column) -> Result<Values, String> {
        match column {
            Column::P => Values::shares(text),
            _ => Values::sizes(text),
        }
    }

    fn values(text: &str, column: Column) -> Vec<f64> {
        parse(text, column).unwrap().of(column)
    }

    #[test]
    fn numbers_lists_and_ranges() {
        assert_eq!(values("3e6", Column::NParams), [3e6]);
        assert_eq!(values("1e6, 3M,2", Column::DFtTokens), [1e6, 3e6, 2.0]);
        assert_eq!(values("0:0.1:3", Column::P), [0.0, 0.05, 0.1]);
        assert_eq!(values("0%:10%:3", Column::P), [0.0, 0.05, 0.1]);
        assert_eq!(values("0:0.05:6", Column::P), [0.0, 0.01, 0.02, 0.03, 0.04, 0.05]);
        assert_eq!(values("0.1:0.3:4", Column::P), [0.1, 0.166666666667, 0.233333333333, 0.3]);
        assert_eq!(values("0.7%,1", Column::P), [0.007, 1.0]);
        let sizes = values("1M:0.1B:3", Column::NParams);
        assert_eq!((sizes[0], sizes[2], sizes.len()), (1e6, 1e8, 3));
        // Two roundings of a power.
        assert!((sizes[1] / 1e7 - 1.0).abs() < 1e-14);
        assert_eq!(values("0.01:0.3:2", Column::P), [0.01, 0.3]);
        assert!(Values::sizes("1,2").is_ok_and(|values| !values.is_one()));
        assert!(Values::sizes("1").is_ok_and(|values| values.is_one()));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in
            ["", "many", "1,", "1:2", "1:2:1", "1:2:3:4", "2:1:3", "1:1:3", "nan", "1:inf:3"]
        {
            assert!(parse(text, Column::NParams).is_err(), "{text}");
        }
        let refused = |text: &str, column| parse(text, column).unwrap_err();
        let share = "must lie between 0 and 1, as 0.01 or 1%";
        assert_eq!(refused("1.5", Column::P), format!("\"1.5\" {share}"));
        assert_eq!(refused("-0.1:1:3", Column::P), format!("\"-0.1\" {share}"));
        for (text, bad) in [("0:10:3", "0"), ("-3", "-3"), ("1M,2 mio", "2 mio"), ("1%", "1%")] {
            let start = format!("{bad:?} must be a number above 0, such as ");
            assert!(refused(text, Column::LossPt0).starts_with(&start), "{text}");
        }
    }
}
