//! Numbers as people write them: sizes with a suffix, and percentages.

/// What a text must be, if it is no number of the kind: `must lie between 0 and 1, as 0.01 or 1%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Requirement(pub &'static str);

/// A size, above 0: 3e6, or with a suffix for thousands, millions, billions or trillions, as 300K,
/// 109M, 1.27B and 2T.
///
/// # Errors
/// If the text is not such a size.
pub fn size(text: &str) -> Result<f64, Requirement> {
    const WRONG: Requirement =
        Requirement("must be a number above 0, such as 3e6, 300K, 109M, 1.27B or 2T");
    let text = text.trim();
    let power = |suffix: char| match suffix.to_ascii_uppercase() {
        'K' => Some(3),
        'M' => Some(6),
        'B' | 'G' => Some(9),
        'T' => Some(12),
        _ => None,
    };
    let value = match text.chars().last().and_then(power) {
        Some(power) => scaled(&text[..text.len() - 1], power),
        None => text.parse().ok(),
    };
    value.filter(|value: &f64| value.is_finite() && *value > 0.0).ok_or(WRONG)
}

/// A share from 0 to 1: 0.01, or as a percentage, 1%.
///
/// # Errors
/// If the text is not such a share.
pub fn share(text: &str) -> Result<f64, Requirement> {
    let value = percentage(text).or_else(|| text.trim().parse().ok());
    value
        .filter(|value| (0.0..=1.0).contains(value))
        .ok_or(Requirement("must lie between 0 and 1, as 0.01 or 1%"))
}

/// The share that `1%` stands for; `None` without the sign.
pub fn percentage(text: &str) -> Option<f64> {
    scaled(text.trim().strip_suffix('%')?, -2)
}

/// The number in a text times a power of ten, rounded once: 0.7% is the number nearest to 0.007.
pub fn scaled(text: &str, power: i32) -> Option<f64> {
    let text = text.trim();
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    format!("{digits}e{}", exponent.checked_add(power)?).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        for (text, value) in [
            ("3e6", 3e6),
            ("300K", 3e5),
            ("109m", 109e6),
            (" 1.27B ", 1.27e9),
            ("1.1G", 1.1e9),
            ("2 T", 2e12),
            ("1e1K", 1e4),
            ("0.2b", 2e8),
        ] {
            assert_eq!(size(text), Ok(value), "{text}");
        }
        for text in
            ["", "M", "5mio", "-3", "0", "0K", "inf", "nan", "1e400", "1e999999999999K", "é"]
        {
            assert!(size(text).unwrap_err().0.contains("above 0"), "{text}");
        }
    }

    #[test]
    fn shares_may_be_percentages() {
        for (text, value) in
            [("0", 0.0), ("0.01", 0.01), ("1%", 0.01), (" 0.7 %", 0.007), ("100%", 1.0)]
        {
            assert_eq!(share(text), Ok(value), "{text}");
        }
        for text in ["", "%", "1.5", "101%", "-1%", "nan", "inf%", "1%%"] {
            assert!(share(text).unwrap_err().0.contains("between 0 and 1"), "{text}");
        }
    }

    /// Division by a hundred would round a second time.
    #[test]
    fn what_is_scaled_is_rounded_once() {
        for hundredths in 0..=10_000 {
            let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
            let expected: f64 = format!("0.{hundredths:04}").parse().unwrap();
            let expected = if hundredths == 10_000 { 1.0 } else { expected };
            assert_eq!(scaled(&text, -2), Some(expected), "{text}");
        }
        assert_eq!(scaled("7e-1", -2), Some(0.007));
        assert_eq!(scaled("nan", -2), None);
        assert_eq!(scaled("inf", -2), None);
    }
}
