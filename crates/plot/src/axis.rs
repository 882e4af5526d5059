//! Axes: scales, ranges, ticks and their labels.

/// Values beyond this size are treated as missing, and on a log axis those below its inverse: ratios
/// of such numbers overflow.
const HUGE: f64 = 1e100;

/// How values map to lengths along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Scale {
    /// Equal differences are equally long.
    #[default]
    Linear,
    /// Equal ratios are equally long; only positive values can be drawn.
    Log,
    /// Linear between `-linear` and `linear`, each half as long as one decade beyond, where it is
    /// logarithmic. Draws zero beside many decades.
    SymLog {
        /// Where the linear part ends; a value outside [1e-100, 1e100] counts as 1.
        linear: f64,
    },
}

impl Scale {
    /// The value in the space in which the axis is linear, or `None` where it cannot be drawn.
    pub(super) fn forward(self, v: f64) -> Option<f64> {
        if v.is_nan() || v.abs() > HUGE {
            return None;
        }
        match self {
            Self::Linear => Some(v),
            Self::Log => (v >= 1.0 / HUGE).then(|| v.log10()),
            Self::SymLog { .. } => {
                let u = v / self.linear();
                Some(if u.abs() <= 1.0 { u } else { u.signum() * (1.0 + u.abs().log10()) })
            }
        }
    }

    /// The inverse of [`Scale::forward`].
    pub(super) fn inverse(self, t: f64) -> f64 {
        match self {
            Self::Linear => t,
            Self::Log => 10f64.powf(t),
            Self::SymLog { .. } => {
                let u = if t.abs() <= 1.0 { t } else { t.signum() * 10f64.powf(t.abs() - 1.0) };
                u * self.linear()
            }
        }
    }

    fn linear(self) -> f64 {
        match self {
            Self::SymLog { linear } if (1.0 / HUGE..=HUGE).contains(&linear) => linear,
            _ => 1.0,
        }
    }
}

/// How tick labels are written where none are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// Plain decimals; thousands as 1K, 1M, 1B, 1T; very small and very large ones as powers of ten.
    #[default]
    Auto,
    /// A hundred times the value, with a percent sign.
    Percent,
}

/// One axis of a panel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// What is measured, with its unit; may contain `_{…}` and `^{…}`.
    pub label: String,
    /// How values map to lengths.
    pub scale: Scale,
    /// Ends that are fixed rather than taken from the data; what lies outside is clipped. An end
    /// that the scale cannot show is ignored.
    pub limits: (Option<f64>, Option<f64>),
    /// Ticks that are fixed rather than chosen: values and labels. For categories, place the i-th at
    /// `i as f64`.
    pub ticks: Option<Vec<(f64, String)>>,
    /// How chosen ticks are labelled.
    pub numbers: Numbers,
}

impl Axis {
    /// A linear axis.
    #[must_use]
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), ..Self::default() }
    }

    /// A logarithmic axis.
    #[must_use]
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Log, ..Self::default() }
    }

    /// A symmetric logarithmic axis that is linear up to `linear`.
    #[must_use]
    pub fn symlog(label: impl Into<String>, linear: f64) -> Self {
        Self { label: label.into(), scale: Scale::SymLog { linear }, ..Self::default() }
    }

    /// An axis of named categories, the i-th at `i as f64`, with half a place around the outer ones.
    #[must_use]
    pub fn categories<S: Into<String>>(
        label: impl Into<String>,
        names: impl IntoIterator<Item = S>,
    ) -> Self {
        let ticks: Vec<_> =
            names.into_iter().enumerate().map(|(i, name)| (i as f64, name.into())).collect();
        let limits = (Some(-0.6), Some(ticks.len().max(1) as f64 - 0.4));
        Self { label: label.into(), limits, ticks: Some(ticks), ..Self::default() }
    }

    /// The same axis with fixed ends.
    #[must_use]
    pub fn limited(mut self, low: Option<f64>, high: Option<f64>) -> Self {
        self.limits = (low, high);
        self
    }

    /// The range that shows all of `values` with a little room, save where limits say otherwise.
    /// An end at zero that bars stand on (`grounded`) gets no room. `None` without anything to show.
    pub(super) fn range(
        &self,
        values: impl IntoIterator<Item = f64>,
        grounded: bool,
    ) -> Option<(f64, f64)> {
        const ROOM: f64 = 0.04;
        let limit = |end: Option<f64>| end.filter(|&v| self.scale.forward(v).is_some());
        let (low_limit, high_limit) = (limit(self.limits.0), limit(self.limits.1));
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values.into_iter().filter(|&v| self.scale.forward(v).is_some()) {
            (low, high) = (low.min(v), high.max(v));
        }
        if low > high {
            let both = [low_limit, high_limit];
            let any = both.iter().flatten().next()?;
            (low, high) = (low_limit.unwrap_or(*any), high_limit.unwrap_or(*any));
        }
        let data = (low, high);
        (low, high) = (low_limit.unwrap_or(low), high_limit.unwrap_or(high));
        if low > high && low_limit.is_some() && high_limit.is_some() {
            (low, high) = (high, low);
        }
        // Too narrow to tell its ends apart, or one limit beyond all of the data.
        if high - low <= (1e-9 * low.abs().max(high.abs())).max(1.0 / HUGE) {
            let v = low_limit.or(high_limit).unwrap_or(low);
            return Some(match self.scale {
                Scale::Log => (v / 2.0, v * 2.0),
                _ if v.abs() <= 1.0 / HUGE => (-1.0, 1.0),
                _ => (v - 0.05 * v.abs(), v + 0.05 * v.abs()),
            });
        }
        let (a, b) = (self.scale.forward(low)?, self.scale.forward(high)?);
        let room = ROOM * (b - a);
        if low_limit.is_none() && !(grounded && data.0 == 0.0) {
            low = self.scale.inverse(a - room);
        }
        if high_limit.is_none() && !(grounded && data.1 == 0.0) {
            high = self.scale.inverse(b + room);
        }
        Some((low, high))
    }
}

/// Where the ticks of an axis stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ticks {
    /// Labelled ticks, increasing.
    pub major: Vec<f64>,
    /// Unlabelled ticks.
    pub minor: Vec<f64>,
}

/// Ticks for the range `low < high`: about `want` of them, at least 3, at most `max(want, 8)`.
pub(super) fn ticks(scale: Scale, low: f64, high: f64, want: usize) -> Ticks {
    let want = want.clamp(3, 10);
    match scale {
        Scale::Linear => Ticks { major: linear_ticks(low, high, want), minor: Vec::new() },
        Scale::Log => log_ticks(low, high, want),
        Scale::SymLog { .. } => symlog_ticks(scale, low, high, want),
    }
}

/// Multiples of 1, 2 or 5 times a power of ten: the coarsest step with at least 3 ticks, or a finer
/// one while there are no more than `want`.
fn linear_ticks(low: f64, high: f64, want: usize) -> Vec<f64> {
    let at = |step: f64| -> Vec<f64> {
        // Ends that miss a tick only by rounding still get it.
        let slack = 1e-9 * (high - low);
        let first = ((low - slack) / step).ceil();
        let last = ((high + slack) / step).floor();
        let count = (last - first).max(-1.0) as usize;
        // -0 would be labelled with its sign.
        (0..=count).map(|i| ((first + i as f64) * step + 0.0).clamp(low, high)).collect()
    };
    let mut exponent = (high - low).log10().ceil() as i32;
    let mut best: Vec<f64> = Vec::new();
    // The range spans between one and ten of the first power, so a few powers are enough.
    for _ in 0..4 {
        for digit in [5.0, 2.0, 1.0] {
            let step = if exponent >= 0 {
                digit * 10f64.powi(exponent)
            } else {
                digit / 10f64.powi(-exponent)
            };
            let candidate = at(step);
            if best.len() >= 3 && candidate.len() > want {
                return best;
            }
            best = candidate;
        }
        exponent -= 1;
    }
    best
}

fn power(exponent: i32) -> f64 {
    // Division keeps 0.001 the nearest double to its decimal, which multiplication does not.
    if exponent >= 0 { 10f64.powi(exponent) } else { 1.0 / 10f64.powi(-exponent) }
}

/// Decades where there are three of them, else 1 and 3, else 1, 2 and 5, else linear ticks.
fn log_ticks(low: f64, high: f64, want: usize) -> Ticks {
    let inside = |v: &f64| (low..=high).contains(v);
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let of = |digits: &[i32]| -> Vec<f64> {
        (first..=last)
            .flat_map(|e| digits.iter().map(move |&d| scaled(d, e)))
            .filter(inside)
            .collect()
    };
    let decades = of(&[1]);
    if decades.len() >= 3 {
        let stride = stride(decades.len(), want);
        let minor = match stride {
            1 => of(&[2, 3, 4, 5, 6, 7, 8, 9]),
            _ => decades
                .iter()
                .copied()
                .enumerate()
                .filter(|(i, _)| i % stride != 0)
                .map(|d| d.1)
                .collect(),
        };
        return Ticks { major: decades.into_iter().step_by(stride).collect(), minor };
    }
    let fine = of(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let major = [of(&[1, 3]), of(&[1, 2, 5])]
        .into_iter()
        .find(|ticks| ticks.len() >= 3)
        .unwrap_or_else(|| linear_ticks(low, high, want));
    let minor = fine.into_iter().filter(|v| !major.contains(v)).collect();
    Ticks { major, minor }
}

/// The smallest stride that leaves no more than `want` of `count`, or the largest that leaves three.
fn stride(count: usize, want: usize) -> usize {
    let left = |stride: usize| count.div_ceil(stride);
    (1..count)
        .take_while(|&s| left(s) >= 3)
        .find(|&s| left(s) <= want)
        .unwrap_or_else(|| (1..count).take_while(|&s| left(s) >= 3).last().unwrap_or(1))
}

/// `digit · 10^exponent`, rounded once.
fn scaled(digit: i32, exponent: i32) -> f64 {
    if exponent >= 0 {
        f64::from(digit) * power(exponent)
    } else {
        f64::from(digit) / power(-exponent)
    }
}

/// Zero and the decades outside the linear part; linear ticks where these are fewer than three.
fn symlog_ticks(scale: Scale, low: f64, high: f64, want: usize) -> Ticks {
    let linear = scale.linear();
    let inside = |v: &f64| (low..=high).contains(v);
    let reach = low.abs().max(high.abs()) / linear;
    let decades = if reach >= 1.0 { reach.log10().floor() as i32 + 1 } else { 0 };
    // Far decades come from one power, so that 10 · 0.001 is 0.01.
    let decade = |e: i32| linear * power(e);
    let of = |digits: &[i32], stride: usize| -> Vec<f64> {
        let positive: Vec<f64> = (0..decades)
            .step_by(stride)
            .flat_map(|e| digits.iter().map(move |&d| f64::from(d) * decade(e)))
            .collect();
        positive
            .iter()
            .rev()
            .map(|v| -v)
            .chain([0.0])
            .chain(positive.iter().copied())
            .filter(inside)
            .collect()
    };
    let mut minor: Vec<f64> =
        of(&[2, 3, 4, 5, 6, 7, 8, 9], 1).into_iter().filter(|&v| v != 0.0).collect();
    let tenths = (1..10).map(|i| f64::from(i) * linear / 10.0);
    minor.extend(tenths.clone().filter(inside));
    if low <= -linear {
        minor.extend(tenths.map(|v| -v).filter(inside));
    }
    let mut major = of(&[1], 1);
    // Zero stays where decades on both sides are thinned alike.
    let mut every = 2;
    while major.len() > want {
        let thinned = of(&[1], every);
        if thinned.len() < 3 {
            break;
        }
        (major, every) = (thinned, every + 1);
    }
    if major.len() < 3 {
        major = of(&[1, 3], 1);
    }
    if major.len() < 3 {
        major = linear_ticks(low, high, want);
        minor.clear();
    }
    minor.retain(|v| !major.contains(v));
    Ticks { major, minor }
}

/// Labels of chosen ticks, written alike.
pub(super) fn labels(axis: &Axis, ticks: &[f64]) -> Vec<String> {
    if axis.numbers == Numbers::Percent {
        let values: Vec<f64> = ticks.iter().map(|v| v * 100.0).collect();
        return values
            .iter()
            .map(|&v| format!("{}%", plain(v, places(axis, &values, v))))
            .collect();
    }
    let size = |v: &f64| v.abs();
    let largest = ticks.iter().map(size).fold(0.0, f64::max);
    let smallest = ticks.iter().filter(|v| **v != 0.0).map(size).fold(f64::INFINITY, f64::min);
    if largest > 0.0 && (smallest < 1e-3 && largest < 1.0 || largest >= 1e15 || smallest < 1e-4) {
        return ticks.iter().map(|&v| powers(v)).collect();
    }
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")];
    let scaled = |unit: f64| ticks.iter().map(|v| v / unit).collect::<Vec<f64>>();
    // A linear axis has one unit, so that its steps can be read: the largest that needs no decimals,
    // or one when values are tens of it.
    let common = UNITS.into_iter().find(|(unit, _)| {
        let values = scaled(*unit);
        let places = places(axis, &values, 0.0);
        largest >= *unit && (places == 0 || places == 1 && largest >= 10.0 * unit)
    });
    ticks
        .iter()
        .map(|&v| {
            let own = UNITS.into_iter().find(|(unit, _)| v.abs() >= *unit);
            let unit = if axis.scale == Scale::Linear { common } else { own };
            let (unit, suffix) = unit.unwrap_or((1.0, ""));
            if v == 0.0 && unit > 1.0 {
                return "0".into();
            }
            format!("{}{suffix}", plain(v / unit, places(axis, &scaled(unit), v / unit)))
        })
        .collect()
}

/// Decimal places that tell values apart: the same for all on a linear axis, else as few as will do.
fn places(axis: &Axis, values: &[f64], v: f64) -> usize {
    let close = |v: f64, places: usize, error: f64| (v - rounded(v, places)).abs() <= error;
    if axis.scale == Scale::Linear {
        // Against the distance of neighbours, since a value near zero is all rounding noise.
        let error = match values {
            [a, b, ..] => 1e-6 * (b - a).abs(),
            _ => 1e-9 * v.abs(),
        };
        (0..12).find(|&n| values.iter().all(|&v| close(v, n, error))).unwrap_or(12)
    } else {
        (0..12).find(|&n| close(v, n, 1e-9 * v.abs().max(1e-12))).unwrap_or(12)
    }
}

fn rounded(v: f64, places: usize) -> f64 {
    let unit = 10f64.powi(places as i32);
    (v * unit).round() / unit
}

fn plain(v: f64, places: usize) -> String {
    let text = format!("{v:.places$}");
    let zero = text.bytes().all(|b| matches!(b, b'-' | b'0' | b'.'));
    if zero { text.replace('-', "") } else { text.replace('-', "\u{2212}") }
}

/// `m × 10^{e}` with the mantissa left out where it is one.
fn powers(v: f64) -> String {
    if v == 0.0 {
        return "0".into();
    }
    if v == 1.0 {
        return "1".into();
    }
    // Rust's own shortest exponent form is correctly rounded.
    let text = format!("{v:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa: f64 = mantissa.parse().unwrap_or(1.0);
    let digits = (0..6).find(|&n| (mantissa - rounded(mantissa, n)).abs() < 1e-9).unwrap_or(6);
    let exponent = exponent.replace('-', "\u{2212}");
    match plain(mantissa, digits).as_str() {
        "1" => format!("10^{{{exponent}}}"),
        "\u{2212}1" => format!("\u{2212}10^{{{exponent}}}"),
        mantissa => format!("{mantissa}\u{d7}10^{{{exponent}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(axis: &Axis, low: f64, high: f64, want: usize) -> Vec<String> {
        labels(axis, &ticks(axis.scale, low, high, want).major)
    }

    fn well_chosen(scale: Scale, low: f64, high: f64, want: usize) -> Result<(), TestCaseError> {
        let Ticks { major, minor } = ticks(scale, low, high, want);
        prop_assert!((3..=10).contains(&major.len()), "{major:?} in [{low}, {high}]");
        prop_assert!(major.windows(2).all(|w| w[0] < w[1]), "{major:?}");
        prop_assert!(major.iter().chain(&minor).all(|v| (low..=high).contains(v)));
        prop_assert!(minor.iter().all(|v| !major.contains(v)));
        let mut names = labels(&Axis { scale, ..Axis::default() }, &major);
        prop_assert_eq!(names.len(), major.len());
        names.dedup();
        prop_assert_eq!(names.len(), major.len(), "two ticks of one name: {:?}", major);
        Ok(())
    }

    proptest! {
        #[test]
        fn linear_ticks_are_well_chosen(a in -1e6f64..1e6, exponent in -3f64..9.0, want in 0usize..20) {
            well_chosen(Scale::Linear, a, a + 10f64.powf(exponent), want)?;
        }

        #[test]
        fn log_ticks_are_well_chosen(a in -30f64..30.0, decades in 0.01f64..40.0, want in 0usize..20) {
            well_chosen(Scale::Log, 10f64.powf(a), 10f64.powf(a + decades), want)?;
        }

        #[test]
        fn symlog_ticks_are_well_chosen(
            a in -6f64..6.0, span in 0.05f64..12.0, linear in -3f64..3.0, want in 0usize..20,
        ) {
            let scale = Scale::SymLog { linear: 10f64.powf(linear) };
            well_chosen(scale, scale.inverse(a), scale.inverse(a + span), want)?;
        }

        #[test]
        fn scales_invert(v in -1e9f64..1e9, linear in 1e-3f64..1e3) {
            for scale in [Scale::Linear, Scale::Log, Scale::SymLog { linear }] {
                if let Some(t) = scale.forward(v) {
                    // Two transcendental functions, each right to a few ulp, times ln 10 · t.
                    prop_assert!((scale.inverse(t) - v).abs() <= 1e-12 * v.abs().max(1.0));
                }
            }
        }

        #[test]
        fn ranges_hold_what_they_are_given(
            values in proptest::collection::vec(proptest::num::f64::ANY, 1..8),
            low in proptest::option::of(proptest::num::f64::ANY),
            high in proptest::option::of(proptest::num::f64::ANY),
        ) {
            for scale in [Scale::Linear, Scale::Log, Scale::SymLog { linear: 10.0 }] {
                let axis = Axis { scale, ..Axis::default() };
                let free = axis.range(values.iter().copied(), false);
                let drawn: Vec<f64> =
                    values.iter().copied().filter(|&v| scale.forward(v).is_some()).collect();
                prop_assert_eq!(free.is_some(), !drawn.is_empty());
                if let Some((a, b)) = free {
                    prop_assert!(a < b || drawn.iter().any(|v| v.abs() < 1e-300));
                    prop_assert!(drawn.iter().all(|&v| v >= a && v <= b));
                }
                let limited = axis.limited(low, high);
                if let Some((a, b)) = limited.range(values.iter().copied(), false) {
                    prop_assert!(a <= b, "[{}, {}]", a, b);
                }
            }
        }
    }

    #[test]
    fn familiar_ranges_get_familiar_ticks() {
        let plain = Axis::default();
        assert_eq!(named(&plain, 0.0, 1.0, 6), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(named(&plain, 2.93, 4.31, 4), ["3.0", "3.5", "4.0"]);
        assert_eq!(
            named(&plain, -0.11, 0.12, 5),
            ["\u{2212}0.10", "\u{2212}0.05", "0.00", "0.05", "0.10"]
        );
        assert_eq!(named(&plain, 0.0, 12_000.0, 8), ["0", "2K", "4K", "6K", "8K", "10K", "12K"]);
        assert_eq!(named(&plain, 0.0, 3_100.0, 4), ["0", "1K", "2K", "3K"]);
        assert_eq!(named(&plain, 0.0, 1_000.0, 3), ["0", "500", "1000"]);
        assert_eq!(named(&plain, 12_300.0, 12_800.0, 4), ["12.4K", "12.6K", "12.8K"]);
        assert_eq!(named(&plain, 0.0, 2.5e-5, 3)[1], "10^{\u{2212}5}");
    }

    #[test]
    fn log_axes_count_in_decades() {
        let log = Axis::log("");
        assert_eq!(named(&log, 0.5, 20_000.0, 6), ["1", "10", "100", "1K", "10K"]);
        assert_eq!(named(&log, 2e3, 4e5, 6), ["3K", "10K", "30K", "100K", "300K"]);
        assert_eq!(named(&log, 1.5, 12.0, 6), ["2", "5", "10"]);
        assert_eq!(named(&log, 3.1, 4.4, 6), ["3.2", "3.4", "3.6", "3.8", "4", "4.2", "4.4"]);
        assert_eq!(
            named(&log, 1e-6, 1.0, 4),
            ["10^{\u{2212}6}", "10^{\u{2212}4}", "10^{\u{2212}2}", "1"]
        );
        assert_eq!(ticks(Scale::Log, 1.0, 1000.0, 6).minor.len(), 24);
        assert_eq!(ticks(Scale::Log, 1.0, 1000.0, 6).minor[7..9], [9.0, 20.0]);
    }

    #[test]
    fn symlog_axes_have_zero_and_decades() {
        let steps = Axis::symlog("", 10.0);
        assert_eq!(named(&steps, -0.5, 13_000.0, 6), ["0", "10", "100", "1K", "10K"]);
        let minor = ticks(steps.scale, -1.5, 130.0, 6).minor;
        assert!(minor.contains(&1.0) && minor.contains(&20.0) && minor.iter().all(|&v| v > 0.0));
        assert_eq!(steps.scale.forward(10.0), Some(1.0));
        assert_eq!(steps.scale.forward(100.0), Some(2.0));
        assert_eq!(steps.scale.forward(-5.0), Some(-0.5));
        assert_eq!(Scale::SymLog { linear: f64::NAN }.forward(0.5), Some(0.5));
    }

    #[test]
    fn percent_labels_keep_what_they_need() {
        let axis = Axis { numbers: Numbers::Percent, ..Axis::log("") };
        assert_eq!(labels(&axis, &[0.001, 0.01, 0.1]), ["0.1%", "1%", "10%"]);
        let linear = Axis { numbers: Numbers::Percent, ..Axis::default() };
        assert_eq!(labels(&linear, &[0.0, 0.025, 0.05]), ["0.0%", "2.5%", "5.0%"]);
    }

    #[test]
    fn what_a_scale_cannot_show_is_missing() {
        assert_eq!(Scale::Log.forward(0.0), None);
        assert_eq!(Scale::Linear.forward(f64::INFINITY), None);
        assert_eq!(Scale::Linear.forward(f64::NAN), None);
        assert_eq!(Scale::Linear.forward(1e301), None);
    }

    #[test]
    fn ranges_leave_room_and_obey_limits() {
        let axis = Axis::default();
        assert_eq!(axis.range([0.0, 100.0, f64::NAN], false), Some((-4.0, 104.0)));
        assert_eq!(axis.range([0.0, 100.0], true), Some((0.0, 104.0)));
        assert_eq!(axis.range([2.0], false), Some((1.9, 2.1)));
        assert_eq!(axis.range([0.0], false), Some((-1.0, 1.0)));
        assert_eq!(axis.range([f64::NAN], false), None);
        let limited = axis.limited(None, Some(50.0));
        assert_eq!(limited.range([0.0, 100.0], false), Some((-2.0, 50.0)));
        assert_eq!(limited.range([60.0, 100.0], false), Some((47.5, 52.5)));
        assert_eq!(Axis::log("").limited(Some(0.0), None).range([4.0], false), Some((2.0, 8.0)));
        let swapped = Axis::default().limited(Some(2.0), Some(1.0));
        assert_eq!(swapped.range([0.0], false), Some((1.0, 2.0)));
        assert_eq!(Axis::categories("", ["a", "b"]).range([], false), Some((-0.6, 1.6)));
    }
}
