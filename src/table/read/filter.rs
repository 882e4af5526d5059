//! Filters: which rows of a table are read.

use super::{Cell, Naming};
use crate::{Error, Result};
use std::fmt;

/// `COLUMN OP VALUE`.
///
/// Two numbers are compared as numbers, everything else as text. `=` takes several values separated by
/// commas and holds if one of them is equal; `!=` is its opposite. `nan` equals `nan`, so `loss!=nan`
/// leaves out runs that diverged. A cell without a value equals only the empty text, and `<` and `>` do
/// not hold for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// The column's name.
    pub column: String,
    op: Op,
    value: String,
    naming: Naming,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Equal,
    Unequal,
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// Operators of two characters come first.
const OPS: [(&str, Op); 7] = [
    ("!=", Op::Unequal),
    ("<=", Op::AtMost),
    (">=", Op::AtLeast),
    ("==", Op::Equal),
    ("=", Op::Equal),
    ("<", Op::Below),
    (">", Op::Above),
];

impl Filter {
    /// The possible meanings of `COLUMN OP VALUE`, the longest column first. A column's name may
    /// contain an operator, so there is one meaning for each operator in the text. The blanks are
    /// optional.
    ///
    /// # Errors
    /// If there is no column or no operator.
    pub fn readings(text: &str, naming: Naming) -> Result<Vec<Self>> {
        let mut readings = Vec::new();
        let mut from = 0;
        while let Some(at) = text[from..].find(['=', '!', '<', '>']).map(|at| from + at) {
            let (column, rest) = text.split_at(at);
            let found =
                OPS.into_iter().find_map(|(sign, op)| Some((sign, op, rest.strip_prefix(sign)?)));
            from = at + found.map_or(1, |(sign, ..)| sign.len());
            if let Some((_, op, value)) = found.filter(|_| !column.trim().is_empty()) {
                readings.push(Self {
                    column: column.trim().to_owned(),
                    op,
                    value: value.trim().to_owned(),
                    naming,
                });
            }
        }
        readings.reverse();
        if !readings.is_empty() {
            Ok(readings)
        } else {
            let requirement = "must be COLUMN OP VALUE with OP one of = != < <= > >=, such as \
                               'd_ft_tokens>0'";
            Err(Error::setting(naming.name("filters"), text, requirement))
        }
    }

    /// Whether a row with this cell in the column is read.
    ///
    /// # Errors
    /// If `<` or `>` compares a number with a text.
    pub fn keeps(&self, cell: &Cell) -> Result<bool, String> {
        let order = || self.order(cell);
        Ok(match self.op {
            Op::Equal => self.equals(cell),
            Op::Unequal => !self.equals(cell),
            Op::Below => order()?.is_some_and(std::cmp::Ordering::is_lt),
            Op::AtMost => order()?.is_some_and(std::cmp::Ordering::is_le),
            Op::Above => order()?.is_some_and(std::cmp::Ordering::is_gt),
            Op::AtLeast => order()?.is_some_and(std::cmp::Ordering::is_ge),
        })
    }

    fn equals(&self, cell: &Cell) -> bool {
        let equals = |value: &str| match (cell.number(), cell.in_my_precision(value)) {
            (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
            _ => cell.text() == value,
        };
        // The whole first: a text may hold commas.
        equals(&self.value) || self.value.split(',').any(|value| equals(value.trim()))
    }

    fn order(&self, cell: &Cell) -> Result<Option<std::cmp::Ordering>, String> {
        match (cell, cell.number(), cell.in_my_precision(&self.value)) {
            (Cell::Empty, ..) => Ok(None),
            (_, Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
            (Cell::Text(text), None, None) => Ok(Some(text.as_str().cmp(&self.value))),
            _ => Err(format!(
                "{} is {}, which is neither above nor below {:?} of {} {self}",
                self.column,
                cell.shown(),
                self.value,
                self.naming.name("filters")
            )),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = OPS.iter().rev().find(|(_, op)| *op == self.op).map_or("", |(sign, _)| sign);
        write!(f, "{}{sign}{}", self.column, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only reading of a text, or that with the shortest column.
    fn parse(text: &str) -> Result<Filter> {
        Ok(Filter::readings(text, Naming::Flag)?.pop().unwrap())
    }

    fn keeps(filter: &str, cell: &str) -> bool {
        parse(filter).unwrap().keeps(&Cell::of_text(cell)).unwrap()
    }

    #[test]
    fn filters_are_read_with_and_without_blanks() {
        for (text, column, value, shown) in [
            ("a=b", "a", "b", "a=b"),
            (" config name == GPT 2 ", "config name", "GPT 2", "config name=GPT 2"),
            ("a!=b", "a", "b", "a!=b"),
            ("a <= 3", "a", "3", "a<=3"),
            ("a>=3", "a", "3", "a>=3"),
            ("a<3", "a", "3", "a<3"),
            ("a>-3", "a", "-3", "a>-3"),
            ("a=x=y", "a", "x=y", "a=x=y"),
            ("a=", "a", "", "a="),
        ] {
            let filter = parse(text).unwrap();
            assert_eq!((filter.column.as_str(), filter.value.as_str()), (column, value));
            assert_eq!(filter.to_string(), shown);
            assert_eq!(parse(shown).unwrap(), filter);
        }
        let readings = Filter::readings("lr=0.1, p>=0.5 - loss < 9", Naming::Field).unwrap();
        let read: Vec<_> = readings.iter().map(|f| (f.column.as_str(), f.value.as_str())).collect();
        assert_eq!(
            read,
            [
                ("lr=0.1, p>=0.5 - loss", "9"),
                ("lr=0.1, p", "0.5 - loss < 9"),
                ("lr", "0.1, p>=0.5 - loss < 9")
            ]
        );
        for text in ["", "a", "=3", " > 3", "a!3", "a!"] {
            let message = parse(text).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("--where = {text}: must be COLUMN OP")),
                "{message}"
            );
        }
    }

    #[test]
    fn numbers_compare_as_numbers() {
        for (op, below, equal, above) in [
            ("=", false, true, false),
            ("!=", true, false, true),
            ("<", true, false, false),
            ("<=", true, true, false),
            (">", false, false, true),
            (">=", false, true, true),
        ] {
            let filter = format!("a{op}10");
            assert_eq!(keeps(&filter, "9"), below, "{op}");
            assert_eq!(keeps(&filter, "1e1"), equal, "{op}");
            assert_eq!(keeps(&filter, "10.5"), above, "{op}");
        }
    }

    #[test]
    fn texts_compare_as_texts() {
        assert!(keeps("a=GPT2", "GPT2") && !keeps("a=GPT2", "gpt2"));
        assert!(keeps("a<2024-02-01", "2024-01-31") && !keeps("a<2024-02-01", "2024-02-01"));
        assert!(keeps("a!=3", "three") && !keeps("a=3", "three"));
    }

    #[test]
    fn a_comma_lists_values() {
        for (cell, listed) in [("GPT2", true), ("OPT", true), ("T5", false), ("GPT2, OPT", true)] {
            assert_eq!(keeps("a=GPT2, OPT", cell), listed, "{cell}");
            assert_eq!(keeps("a!=GPT2, OPT", cell), !listed, "{cell}");
        }
        assert!(keeps("p=0,0.01", "0.0100"));
    }

    #[test]
    fn nan_is_nan_and_on_no_side() {
        assert!(keeps("a=nan", "NaN") && !keeps("a!=nan", "NaN") && keeps("a!=nan", "3"));
        for op in ["<", "<=", ">", ">="] {
            assert!(!keeps(&format!("a{op}3"), "nan"));
            assert!(!keeps(&format!("a{op}3"), ""), "{op}");
        }
        assert!(keeps("a<inf", "3") && !keeps("a<inf", "inf"));
    }

    #[test]
    fn no_value_equals_the_empty_text_alone() {
        assert!(keeps("a=", "") && !keeps("a=", "0"));
        assert!(!keeps("a!=", "") && keeps("a!=", "0") && keeps("a!=0", ""));
    }

    #[test]
    fn the_order_of_a_number_and_a_text_is_refused() {
        let filter = parse("size>10M").unwrap();
        let message = filter.keeps(&Cell::of_text("3")).unwrap_err();
        let expected =
            "size is \"3\", which is neither above nor below \"10M\" of --where size>10M";
        assert_eq!(message, expected);
        assert!(parse("size<3").unwrap().keeps(&Cell::of_text("big")).is_err());
        assert!(filter.keeps(&Cell::Other("[3]".into())).is_err());
    }

    /// 0.01 of single precision is above the 0.01 that a text stands for.
    #[test]
    fn single_precision_equals_what_it_was_written_as() {
        let keeps = |filter| parse(filter).unwrap().keeps(&Cell::Single("0.01".into()));
        assert!(
            keeps("p=0.01").unwrap() && keeps("p<=0.01").unwrap() && keeps("p=0,0.01").unwrap()
        );
        assert!(!keeps("p>0.01").unwrap() && keeps("p>0.0099").unwrap());
    }
}
