//! Whether B of Equation 7 is a constant.

use super::{Interval, Options, Status, fit};
use crate::Result;
use crate::laws::growing_b::{GAMMA, GrowingB};
use crate::table::Table;
use serde::{Deserialize, Serialize};

/// How B of Equation 7 depends on the data: as D_ft^γ in L_pt⁰ + A · D_ft^β / ((1 +
/// B·p·D_ft^γ)·N)^α.
///
/// Equation 7 has γ = 0: a fraction p prevents the same share of the forgetting for every D_ft.
/// With γ = 1 the number of injected tokens matters ([`crate::laws::ForgettingTimesTokens`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrowthOfB {
    /// γ at the optimum.
    pub gamma: f64,
    /// Its bootstrap interval, with the mean of the resamples.
    pub interval: Interval,
    /// The level of the interval.
    pub level: f64,
    /// Whether the interval excludes 0, so that B grows with D_ft and the assumption of Equation 7
    /// does not hold.
    pub grows: bool,
}

/// Estimates γ from a table; `None` if the table cannot tell: without three D_ft, p = 0 and another
/// p, as many settings as parameters, and resamples, or if its runs do not determine γ.
///
/// # Errors
/// If a value in the table is invalid, or an option is outside its domain.
pub fn growth_of_b(table: &Table, options: &Options) -> Result<Option<GrowthOfB>> {
    let Ok(sample) = table.sample(&GrowingB) else { return Ok(None) };
    // Without p = 0 nothing shows what a constant B would have prevented.
    if options.bootstrap.resamples == 0 || sample.points.iter().all(|point| point.p > 0.0) {
        return Ok(None);
    }
    let options = Options { hold_out: None, misfit: false, ..options.clone() };
    let fitted = fit(table, &GrowingB, &options)?;
    if !matches!(fitted.status, Status::Converged | Status::AtBound) {
        return Ok(None);
    }
    let values = fitted.values();
    let of_b = 1;
    // Without an effect of injection B has no way to grow.
    if values[of_b] == 0.0 {
        return Ok(None);
    }
    let Some(resampled) = &fitted.bootstrap else { return Ok(None) };
    let interval = resampled.interval(GAMMA);
    let grows = interval.low > 0.0;
    Ok(Some(GrowthOfB { gamma: values[GAMMA], interval, level: resampled.level, grows }))
}
