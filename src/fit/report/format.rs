//! How the numbers and names of a fit look in words.

use crate::fit::{Fit, Objective, Penalty, Space, Status};
pub use crate::words::error_percent;
use std::fmt::Write as _;

/// Appends words to a text: on a line that begins with a name, and on indented lines below it.
pub fn entry(text: &mut String, name: &str, words: &str) {
    const WIDTH: usize = 98;
    const INDENT: usize = 13;
    let mut line = format!("  {name:<10}");
    for word in words.split_whitespace() {
        let length = line.chars().count() + 1 + word.chars().count();
        if length > WIDTH && line.trim_start().len() > name.len() && line.len() > INDENT {
            let _ = writeln!(text, "{line}");
            line = " ".repeat(INDENT - 1);
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

/// The group and the law of a fit: `wikipedia, forgetting`.
pub fn fit_name(fit: &Fit) -> String {
    match fit.domain.as_str() {
        "" => fit.law.name().to_string(),
        domain => format!("{domain}, {}", fit.law.name()),
    }
}

/// `Huber with delta = 0.001 on log losses`.
pub fn objective(objective: &Objective) -> String {
    let space = match objective.space {
        Space::Log => "log losses",
        Space::Raw => "raw losses",
    };
    match objective.penalty {
        Penalty::Huber(delta) => format!("Huber with delta = {delta} on {space}"),
        Penalty::Squared => format!("squares on {space}"),
        Penalty::Absolute => format!("absolute errors on {space}"),
    }
}

/// A status as a file has it.
pub fn status(status: Status) -> &'static str {
    match status {
        Status::Converged => "converged",
        Status::AtBound => "at_bound",
        Status::NotIdentified => "not_identified",
        Status::NotConverged => "not_converged",
    }
}

/// A number with six significant digits.
pub fn number(value: f64) -> String {
    significant(value, 6)
}

/// As many significant digits, with a power of ten where plain decimals would be long.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.abs().to_string();
    }
    // Rounded first: 9.9996 has five digits before it is 10.000.
    let written = format!("{value:.*e}", digits - 1);
    let Some((mantissa, exponent)) = written.split_once('e') else { return written };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        } else {
            text.to_string()
        }
    };
    match exponent {
        -4..=6 => {
            let places = (digits as i32 - 1 - exponent).max(0) as usize;
            trimmed(&format!("{value:.places$}"))
        }
        _ => format!("{}e{exponent}", trimmed(mantissa)),
    }
}

/// A fraction for people, with four digits: `0.1%`.
pub fn percent(p: f64) -> String {
    format!("{}%", significant(100.0 * p, 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_six_digits() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (829.0, "829"),
            (0.123456789, "0.123457"),
            (-2.5, "-2.5"),
            (9_999_999.0, "1e7"),
            (123_456.7, "123457"),
            (1_234_567.0, "1234567"),
            (12_345_678.0, "1.23457e7"),
            (0.00012, "0.00012"),
            (0.00001234, "1.234e-5"),
            (9.9999996, "10"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn long_words_go_on_below() {
        let mut text = String::new();
        entry(&mut text, "status", "short");
        entry(&mut text, "warning", &"seven77 ".repeat(24));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "  status     short");
        assert!(lines[1].starts_with("  warning    seven77 seven77"), "{text}");
        assert!(lines[2].starts_with("             seven77"), "{text}");
        // Eleven of eight columns stand between the indent and the edge, but for the first's blank.
        assert_eq!(lines[1].split_whitespace().count(), 1 + 10);
        assert!(lines.iter().all(|line| line.len() <= 98));
        assert_eq!(text.matches("seven77").count(), 24);
    }

    #[test]
    fn objectives_are_named() {
        let words = |space, penalty| objective(&Objective { space, penalty });
        assert_eq!(
            words(Space::Log, Penalty::Huber(1e-3)),
            "Huber with delta = 0.001 on log losses"
        );
        assert_eq!(words(Space::Raw, Penalty::Squared), "squares on raw losses");
        assert_eq!(words(Space::Raw, Penalty::Absolute), "absolute errors on raw losses");
    }

    #[test]
    fn fractions_are_percentages() {
        assert_eq!(percent(0.001), "0.1%");
        assert_eq!(percent(0.0), "0%");
        assert_eq!(percent(0.05), "5%");
        assert_eq!(percent(0.0242741), "2.427%");
        assert_eq!(percent(0.9999), "99.99%");
        assert_eq!(percent(1.0), "100%");
    }
}
