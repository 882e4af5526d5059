//! One exponent for several domains.

use super::{Bootstrap, Fit, Options, fit, in_order, threads};
use crate::laws::{Held, Law};
use crate::table::Table;
use crate::{Error, Result};

/// A law fitted to several domains with one exponent in common, so that the other parameters of the
/// domains can be compared.
///
/// B of a forgetting law and α trade off within a domain. In free fits the B of two domains may
/// differ only because their α do; at a common α they differ as the effects of injection do.
///
/// The objective is the sum of the domains' objectives. It is computed on a fixed grid of values of
/// the exponent, so the best exponent without one of the domains needs no further fit.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The law.
    pub law: &'static dyn Law,
    /// The exponent that the domains share.
    pub parameter: String,
    /// The domains, in the order of their tables.
    pub domains: Vec<String>,
    /// For each value that is tried, the fits of the domains.
    fits: Vec<Vec<Fit>>,
}

/// How many values of the exponent are tried: from 0.05 to 1.92, each a fifth above the one before.
const GRID: usize = 21;
const STEP: f64 = 1.2;

fn node(i: usize) -> f64 {
    0.05 * STEP.powi(i as i32)
}

impl Shared {
    /// Fits the law to the table of each domain, with `parameter` held at each value of the grid.
    ///
    /// Of the options only the objective and the threads count.
    ///
    /// # Errors
    /// As [`fit`] and [`Held::of`]; also if there is no table.
    pub fn fit(
        tables: &[(String, Table)],
        law: &'static dyn Law,
        parameter: &str,
        options: &Options,
    ) -> Result<Self> {
        if tables.is_empty() {
            return Err(Error::setting("number of domains", 0, "must be at least 1"));
        }
        let of_one = Options {
            bootstrap: Bootstrap::NONE,
            hold_out: None,
            misfit: false,
            threads: 1,
            ..options.clone()
        };
        let count = GRID * tables.len();
        let fits = in_order(count, threads(options), |i| {
            let (domain, table) = &tables[i % tables.len()];
            let held = Held::of(law, parameter, node(i / tables.len()))?;
            let mut fitted = fit(table, held, &of_one)?;
            fitted.domain.clone_from(domain);
            Ok(fitted)
        })?;
        let mut fits = fits.into_iter();
        let row = |_| fits.by_ref().take(tables.len()).collect::<Result<Vec<Fit>>>();
        let fits = (0..GRID).map(row).collect::<Result<_>>()?;
        let domains = tables.iter().map(|(domain, _)| domain.clone()).collect();
        Ok(Self { law, parameter: parameter.into(), domains, fits })
    }

    /// The value of the exponent at which the domains for which `counts` holds are fitted best;
    /// `None` where it lies outside the grid of 0.05 to 1.92.
    pub fn value(&self, counts: impl Fn(usize) -> bool) -> Option<f64> {
        let sum = |fits: &Vec<Fit>| -> f64 {
            let counted = fits.iter().enumerate().filter(|(i, _)| counts(*i));
            counted.map(|(_, fit)| fit.objective).sum()
        };
        let sums: Vec<f64> = self.fits.iter().map(sum).collect();
        let best = (0..GRID).min_by(|&a, &b| sums[a].total_cmp(&sums[b]))?;
        let [below, at, above] = [best.checked_sub(1)?, best, best + 1].map(|i| sums.get(i));
        let (below, at, above) = (*below?, *at?, *above?);
        // The vertex of the parabola through three equidistant points.
        let curvature = below - 2.0 * at + above;
        let shift = if curvature > 0.0 { 0.5 * (below - above) / curvature } else { 0.0 };
        Some(node(best) * STEP.powf(shift))
    }

    /// A parameter of the i-th domain at this value of the exponent; between the nodes of the grid
    /// it is interpolated on a logarithmic scale. `None` outside the grid, and for any name other
    /// than those of the parameters that each domain has for itself.
    pub fn param(&self, domain: usize, name: &str, exponent: f64) -> Option<f64> {
        let position = (exponent / node(0)).ln() / STEP.ln();
        let i = (0..GRID - 1).find(|&i| i as f64 <= position && position <= (i + 1) as f64)?;
        let at = |i: usize| Some(self.fits[i].get(domain)?.params.get(name)?.value);
        let (low, high, share) = (at(i)?, at(i + 1)?, position - i as f64);
        if low > 0.0 && high > 0.0 {
            return Some(((1.0 - share) * low.ln() + share * high.ln()).exp());
        }
        Some((1.0 - share) * low + share * high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::{ForgettingPlusTokens, Row};
    use crate::rng::Key;
    use crate::table::Run;

    /// Runs of a planted law with losses off by 0.1%.
    fn planted(values: [f64; 4], seed: u64) -> Table {
        let mut runs = Vec::new();
        for n_params in [4e4, 1e5] {
            for d_ft_tokens in [3e3, 1e4, 3e4] {
                for p in [0.0, 0.01, 0.05] {
                    let row = Row { n_params, d_ft_tokens, p, loss_pt0: 4.0, ..Row::default() };
                    let noise = 1.0 + 1e-3 * Key::new(seed).normal(runs.len() as u64);
                    let loss = ForgettingPlusTokens.predict(&(&row).into(), &values) * noise;
                    runs.push(Run { row, loss_pt: Some(loss), ..Run::default() });
                }
            }
        }
        Table::new(runs)
    }

    #[test]
    fn the_exponent_and_each_b_are_found_again() {
        let planted_b = [30.0, 700.0, 5_000.0];
        let tables: Vec<_> = (0..3)
            .map(|i| (format!("domain {i}"), planted([6.0, planted_b[i], 0.36, 0.25], i as u64)))
            .collect();
        let shared =
            Shared::fit(&tables, &ForgettingPlusTokens, "alpha", &Options::default()).unwrap();
        let alpha = shared.value(|_| true).unwrap();
        assert!((alpha / 0.36 - 1.0).abs() < 0.05, "{alpha}");
        for (i, planted) in planted_b.into_iter().enumerate() {
            let b = shared.param(i, "B", alpha).unwrap();
            assert!((b / planted).ln().abs() < 0.2, "{b} for {planted}");
            let without = shared.value(|domain| domain != i).unwrap();
            assert!((without / 0.36 - 1.0).abs() < 0.1, "{without}");
        }
        assert_eq!(shared.param(3, "B", alpha), None);
        assert_eq!(shared.param(0, "alpha", alpha), None);
        assert_eq!(shared.param(0, "B", 3.0), None);
    }

    #[test]
    fn what_has_no_answer_is_said() {
        let options = Options::default();
        assert!(Shared::fit(&[], &ForgettingPlusTokens, "alpha", &options).is_err());
        let tables = [("a".to_string(), planted([6.0, 30.0, 0.36, 0.25], 0))];
        assert!(Shared::fit(&tables, &ForgettingPlusTokens, "B", &options).is_err());
        // The best exponent lies at the end of the grid.
        let flat = [("flat".to_string(), planted([0.5, 0.0, 0.0, 0.0], 0))];
        let shared = Shared::fit(&flat, &ForgettingPlusTokens, "alpha", &options).unwrap();
        assert_eq!(shared.value(|_| true), None);
    }
}
