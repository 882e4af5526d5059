//! From fitted laws to decisions: how much to inject, how large a model, how much data.
//!
//! An [`Advisor`] holds the fits of one domain and answers questions, with intervals from the
//! resamples and warnings if an answer should not be relied on. It uses only the predictions of
//! fits, so a new law needs no change here. The paper has no such procedure; what an answer
//! promises is our choice, and each question documents it.
//!
//! # Examples
//! ```
//! use forgetting_laws::fit::{Advisor, Bootstrap, Limit, Options, fit};
//! use forgetting_laws::laws::{Forgetting, Law, Row};
//! use forgetting_laws::table::{Run, Table};
//!
//! // Runs that follow Equation 7 up to a ripple of 0.3%.
//! let mut runs = Vec::new();
//! for (n_params, loss_pt0) in [(41e6, 3.3), (109e6, 3.0), (334e6, 2.7)] {
//!     for d_ft_tokens in [3e5, 3e6, 3e7] {
//!         for p in [0.0, 0.001, 0.01, 0.05] {
//!             let row = Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
//!             let law = Forgetting.predict(&(&row).into(), &[6.0, 829.0, 0.4, 0.35]);
//!             let ripple = 0.003 * (runs.len() as f64 * 2.4).sin();
//!             runs.push(Run { row, loss_pt: Some(law * (1.0 + ripple)), ..Run::default() });
//!         }
//!     }
//! }
//! let bootstrap = Bootstrap { resamples: 200, ..Bootstrap::default() };
//! let fitted = fit(&Table::new(runs), &Forgetting, &Options { bootstrap, ..Options::default() })?;
//!
//! // A new model, and at most 10% more of its pretraining loss, in nine of ten cases.
//! let asked = Row { n_params: 2e8, d_ft_tokens: 1e7, loss_pt0: 2.85, ..Row::default() };
//! let advisor = Advisor::new([&fitted]);
//! let advice = advisor.smallest_p(&asked, Limit::Relative(0.1), 0.9)?;
//! let p = advice.p.unwrap();
//! assert!(advice.by_law.value < p && p < 0.05, "{p}"); // more than the law alone asks for
//! # Ok::<(), forgetting_laws::Error>(())
//! ```

mod answers;
mod data;
mod injection;
mod larger;
mod new_runs;

pub use answers::{Answers, Question, Questions, Unanswered};
pub use data::{Collecting, Needed};
pub use injection::{Limit, OnTarget, SmallestP};
pub use larger::{Larger, Model};
pub use new_runs::{NewRun, NewRuns};

use super::Fit;
use super::bootstrap::middle_with;
use super::card::Warning;
use crate::laws::{LAWS, Point, Row};
use crate::table::Column;
use crate::{Error, Result};
use serde::Serialize;

/// A number that follows from a law. In JSON an infinite end is null.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The value of the law at the optimum.
    pub value: f64,
    /// The lower end of the interval of the resampled laws, at the level of their bootstrap. The interval
    /// holds the value: where the resamples lie on one side of it, it is widened.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Estimate {
    fn of(value: f64, mut draws: Vec<f64>, level: f64) -> Self {
        let (low, high) = middle_with(value, &mut draws, level);
        Self { value, low, high }
    }
}

/// Answers questions from the fits of one domain.
///
/// A question is a [`Row`] with the known values: N in parameters, D_ft and D in tokens and L_pt⁰
/// in nats per token. Fields that a question does not need may be NaN, as in [`Row::default`].
#[derive(Debug, Clone)]
pub struct Advisor<'a> {
    fits: Vec<&'a Fit>,
}

impl<'a> Advisor<'a> {
    /// An advisor with these fits. Each question documents the laws it needs and uses the first fit
    /// of one of them, so put the preferred form ([`super::Ranking::preferred`]) first.
    pub fn new(fits: impl IntoIterator<Item = &'a Fit>) -> Self {
        Self { fits: fits.into_iter().collect() }
    }

    /// The first fit of a law that predicts this loss.
    fn fit(&self, output: Column) -> Option<&'a Fit> {
        self.fits.iter().copied().find(|fit| fit.law.output() == output)
    }

    /// The same, with its resamples.
    ///
    /// # Errors
    /// If there is none, or it has no resamples.
    fn law(&self, output: Column) -> Result<Asked<'a>> {
        if let Some(fit) = self.fit(output) {
            return Asked::of(fit);
        }
        let found: Vec<_> = self.fits.iter().map(|fit| fit.law.name()).collect();
        let found = if found.is_empty() { "none".to_string() } else { found.join(", ") };
        let asked = LAWS.iter().filter(|law| law.output() == output);
        let asked: Vec<_> = asked.map(|law| law.name()).collect();
        let requirement =
            format!("the question needs {}; fit it too (--law all)", asked.join(" or "));
        Err(Error::setting("fitted laws", found, requirement))
    }
}

/// A fit that has resamples.
#[derive(Clone, Copy)]
struct Asked<'a> {
    fit: &'a Fit,
    draws: &'a [Vec<f64>],
    level: f64,
}

impl<'a> Asked<'a> {
    fn of(fit: &'a Fit) -> Result<Self> {
        let draws = match &fit.bootstrap {
            Some(resampled) if !resampled.draws.is_empty() && !fit.rows.is_empty() => resampled,
            _ => {
                let name = format!("resamples of the {} law", fit.law.name());
                let requirement = "advice needs intervals; fit again with --bootstrap 1000";
                return Err(Error::setting(name, 0, requirement));
            }
        };
        Ok(Self { fit, draws: &draws.draws, level: draws.level })
    }

    fn name(&self) -> &'static str {
        self.fit.law.name()
    }

    /// The value of the law with these parameters.
    fn at(&self, row: &Row, values: &[f64]) -> f64 {
        self.fit.law.predict(&Point::from(row), values)
    }

    /// A number that depends on the parameters.
    fn estimate(&self, of: impl Fn(&[f64]) -> f64) -> Estimate {
        let draws = self.draws.iter().map(|values| of(values)).collect();
        Estimate::of(of(&self.fit.values()), draws, self.level)
    }

    /// Warnings about an answer for a run.
    fn warnings(&self, row: &Row) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let law = self.name();
        let outside = self.fit.extrapolations(row);
        warnings.extend(outside.iter().map(|outside| outside.warning(law)));
        warnings.extend(self.fit.doubts());
        warnings
    }
}

/// Refuses a question if one of these is not a number above 0, or p is not between 0 and 1.
pub(super) fn check(row: &Row, columns: &[Column]) -> Result<()> {
    for &column in columns {
        let given = row.get(column);
        match column {
            Column::P if (0.0..=1.0).contains(&given) => {}
            Column::P => return Err(Error::setting("p", given, "must lie between 0 and 1")),
            _ => check_positive(column.name(), given)?,
        }
    }
    Ok(())
}

fn check_positive(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(Error::setting(name, value, "must be a number above 0"))
    }
}

/// The smallest number between `low` and `high` at which a monotone condition holds, to 2⁻⁶⁰ of
/// their distance; `None` if it does not hold even at `high`.
fn smallest(low: f64, high: f64, holds: impl Fn(f64) -> bool) -> Option<f64> {
    if holds(low) {
        return Some(low);
    }
    if !holds(high) {
        return None;
    }
    let (mut fails, mut holding) = (low, high);
    for _ in 0..60 {
        let middle = 0.5 * (fails + holding);
        *(if holds(middle) { &mut holding } else { &mut fails }) = middle;
    }
    Some(holding)
}

/// The sizes among which an answer is looked for. Farther from the runs a law has nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Searched {
    /// The smallest; an answer of this size stands for all sizes up to it.
    pub least: f64,
    /// The largest; an infinite answer stands for all sizes above it.
    pub most: f64,
}

impl Searched {
    /// How far beyond the runs sizes are looked for, as a factor.
    pub const FACTOR: f64 = 1000.0;

    /// Those around the fitted runs, with the size in question.
    fn around(fit: &Fit, column: Column, asked: f64) -> Self {
        let (low, high) = fit.range(column);
        // An unknown size, NaN, leaves them as they are.
        Self {
            least: (low / Self::FACTOR).min(asked).max(1.0),
            most: (high * Self::FACTOR).max(asked),
        }
    }

    /// The smallest of them at which a monotone condition holds, infinite if there is none.
    fn smallest(&self, holds: impl Fn(f64) -> bool) -> f64 {
        if holds(self.least) {
            return self.least;
        }
        smallest(self.least.ln(), self.most.ln(), |ln| holds(ln.exp()))
            .map_or(f64::INFINITY, f64::exp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_number_of_a_condition() {
        assert_eq!(smallest(0.0, 1.0, |_| true), Some(0.0));
        assert_eq!(smallest(0.0, 1.0, |_| false), None);
        assert_eq!(smallest(0.0, 1.0, |x| x >= 1.0), Some(1.0));
        // To 2⁻⁶⁰ and always on the side where the condition holds.
        let found = smallest(0.0, 1.0, |x| x > 1e-6).unwrap();
        assert!(1e-6 < found && found < 1e-6 + 1e-17, "{found}");
        let searched = Searched { least: 3.0, most: 1e12 };
        assert_eq!(searched.smallest(|_| true), 3.0);
        assert_eq!(searched.smallest(|_| false), f64::INFINITY);
        assert_eq!(searched.smallest(|x| x >= 1e13), f64::INFINITY);
        assert!((searched.smallest(|x| x >= 1e9) / 1e9 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn estimates_hold_the_middle_and_may_be_infinite() {
        let draws = |last: f64| (0..100).map(f64::from).chain([last]).collect();
        let Estimate { value, low, high } = Estimate::of(40.0, draws(100.0), 0.9);
        assert!(value == 40.0 && (low - 5.0).abs() < 1e-12 && (high - 95.0).abs() < 1e-12);
        assert_eq!(Estimate::of(1.0, draws(f64::INFINITY), 1.0 - 1e-9).high, f64::INFINITY);
        assert!(Estimate::of(1.0, draws(f64::INFINITY), 0.9).high < 95.1);
        // A value beside the middle of the draws lies in its interval all the same.
        let beside = Estimate::of(98.0, draws(100.0), 0.9);
        assert!(beside.high == 98.0 && (beside.low - 5.0).abs() < 1e-12);
        assert_eq!(Estimate::of(-1.0, draws(100.0), 0.9).low, -1.0);
    }
}
