//! Numbers as reports write them: three digits, sizes with suffixes, fractions p rounded up.

use crate::fit::Measured;
use crate::fit::advise::Estimate;
use crate::fit::card::ROUNDING;

/// Three significant digits, in decimals.
pub fn number(value: f64) -> String {
    // A sum of nothing is -0.
    let value = value + 0.0;
    if !value.is_finite() {
        return if value > 0.0 { "none".into() } else { value.to_string() };
    }
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    match magnitude {
        -5..=5 => format!("{value:.*}", (2 - magnitude).clamp(0, 6) as usize),
        _ => power(value),
    }
}

/// Three significant digits and a power of ten.
pub fn power(value: f64) -> String {
    format!("{value:.2e}")
}

/// A number and its interval.
pub fn numbers(Estimate { value, low, high }: &Estimate) -> String {
    format!("{} [{}, {}]", number(*value), number(*low), number(*high))
}

/// A loss or an increase in nats: the measured value, followed by that of the law; if there are no
/// runs, that of the law alone.
pub fn told(law: &Estimate, seen: &Option<Measured>) -> String {
    match seen {
        Some(seen) => format!(
            "{} nats (measured in {}; the law says {})",
            number(seen.loss),
            runs(seen),
            numbers(law)
        ),
        None => format!("{} nats", numbers(law)),
    }
}

/// How many runs were measured.
pub fn runs(seen: &Measured) -> String {
    counted(seen.runs)
}

/// A number of runs.
pub fn counted(runs: usize) -> String {
    if runs == 1 { "1 run".into() } else { format!("{runs} runs") }
}

/// A fraction p, rounded up so that the advised p is still enough.
pub fn fraction(p: f64) -> String {
    if p == 0.0 {
        return "0".into();
    }
    let unit = 10f64.powi(p.log10().floor() as i32 - 1);
    // A fraction that has few digits, as those of a grid, stays what it is.
    let steps = (p / unit - 1e-6).ceil();
    percent((steps * unit).min(1.0))
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    trimmed(&number(100.0 * share)) + "%"
}

/// An error as a percentage, in a sentence.
pub fn error(share: f64) -> String {
    if is_rounding(share) { "no more than rounding".into() } else { percent(share) }
}

/// Whether an error is above 0 by rounding alone.
fn is_rounding(share: f64) -> bool {
    share != 0.0 && share.abs() < ROUNDING
}

/// A share with three digits, `0.310%`; `rounding` if it is an error of rounding, and a dash if there is
/// none, such as the error of no increase.
pub fn error_percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent.is_nan() {
        return "-".into();
    }
    if is_rounding(share) {
        return "rounding".into();
    }
    // Below a thousandth of a percent the exponent would take more room than it says.
    let places = match percent.abs() {
        x if x >= 1e5 => return format!("{percent:.1e}%"),
        x if x >= 99.95 => 0,
        x if x >= 9.995 => 1,
        x if x >= 0.9995 => 2,
        x if x >= 0.09995 => 3,
        0.0 => 0,
        x if x >= 1e-3 => 4,
        _ => return format!("{percent:.1e}%"),
    };
    format!("{percent:.places$}%")
}

/// A size as people write it: 109M, 1.27B.
pub fn size(value: f64) -> String {
    if !value.is_finite() {
        return "none".into();
    }
    // What rounds to 1,000 of a unit is 1 of the next.
    let units = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")];
    match units.iter().find(|(unit, _)| value >= 0.9995 * unit) {
        _ if value >= 0.9995e15 => power(value),
        Some((unit, suffix)) => trimmed(&number(value / unit)) + suffix,
        None => trimmed(&number(value)),
    }
}

/// Without the zeros at the end of its decimals.
fn trimmed(number: &str) -> String {
    if number.contains('.') && !number.contains('e') {
        number.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percent() {
        for (share, text) in [
            (0.00312345, "0.312%"),
            (0.0031, "0.310%"),
            (0.9, "90.0%"),
            (0.09996, "10.0%"),
            (0.009999, "1.00%"),
            (1.0, "100%"),
            (1.1716, "117%"),
            (48_136.0, "4.8e6%"),
            (0.0, "0%"),
            (0.0005, "0.0500%"),
            (1.234e-6, "1.2e-4%"),
            (1.234e-9, "1.2e-7%"),
            (5.7e-16, "rounding"),
            (-5.7e-16, "rounding"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(error_percent(share), text);
        }
    }

    #[test]
    fn sizes_are_as_people_write_them() {
        for (value, text) in [
            (41e6, "41M"),
            (1.27e9, "1.27B"),
            (3e5, "300K"),
            (999.4, "999"),
            (999.6, "1K"),
            (999_600.0, "1M"),
            (9_486_832.98, "9.49M"),
            (100.0, "100"),
            (2.5e12, "2.5T"),
            (3e17, "3.00e17"),
            (1.0, "1"),
            (f64::INFINITY, "none"),
        ] {
            assert_eq!(size(value), text);
        }
    }

    #[test]
    fn fractions_are_rounded_up_and_grids_are_kept() {
        for (p, text) in [
            (0.0, "0"),
            (0.001, "0.1%"),
            (0.005, "0.5%"),
            (0.05, "5%"),
            (0.02101, "2.2%"),
            (0.0999, "10%"),
            (0.000_123, "0.013%"),
            (0.995, "100%"),
            (1.0, "100%"),
        ] {
            assert_eq!(fraction(p), text);
        }
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0.00"),
            (0.0214, "0.0214"),
            (-1.2345, "-1.23"),
            (123.4, "123"),
            (1e-9, "1.00e-9"),
            (f64::INFINITY, "none"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(
            (error(0.0312), error(3.2e-17)),
            ("3.12%".into(), "no more than rounding".into())
        );
        assert_eq!(error(0.0), "0%");
        assert_eq!(percent(0.9), "90%");
        assert_eq!(percent(1.0), "100%");
    }
}
