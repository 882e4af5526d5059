//! Losses over tokens, and their standard errors.
//!
//! The tokens of one text are not independent of one another. So a standard error is computed over
//! parts that are: documents, works, blocks of works. It is the jackknife's (Efron and Stein, "The
//! jackknife estimate of variance", Annals of Statistics 9, 1981): the measure is computed without
//! each part in turn. For a mean over parts of one size this gives s / √n.

use serde::{Deserialize, Serialize};
use std::iter::Sum;

/// A loss over tokens that count as one part: those of a window, a document, a work or a block.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// The sum of the tokens' losses, in nats.
    pub nats: f64,
    /// How many tokens.
    pub tokens: u64,
}

impl Sum for Loss {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        let add = |a: Self, b: Self| Self { nats: a.nats + b.nats, tokens: a.tokens + b.tokens };
        parts.fold(Self::default(), add)
    }
}

impl Loss {
    /// Nats per token; NaN where there is no token.
    pub fn mean(&self) -> f64 {
        self.nats / self.tokens as f64
    }
}

/// A number and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The number.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

impl Measured {
    /// The mean over all tokens. Its error assumes that the parts are independent; it is NaN if
    /// fewer than two parts have tokens.
    pub fn mean(parts: &[Loss]) -> Self {
        let whole: Loss = parts.iter().copied().sum();
        let without = |part: &Loss| {
            let rest = Loss { nats: whole.nats - part.nats, tokens: whole.tokens - part.tokens };
            rest.mean()
        };
        let without: Vec<f64> = parts.iter().map(without).collect();
        Self { value: whole.mean(), error: variance(&without).sqrt() }
    }

    /// Half the width of the 95% interval, for a standard error over this many parts: Student's t
    /// with one degree of freedom fewer. NaN if there is no standard error.
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::loss::Measured;
    /// let found = Measured { value: 2.5, error: 1.0 };
    /// assert!((found.margin(3) - 4.303).abs() < 1e-3);
    /// assert!((found.margin(1_000_000) - 1.96).abs() < 1e-3);
    /// ```
    pub fn margin(&self, parts: u64) -> f64 {
        match parts {
            0 | 1 => f64::NAN,
            parts => self.error * student_t(parts - 1),
        }
    }

    /// The mean over `target` minus that over `pretraining`, in nats per token, for the losses of
    /// one model on both.
    pub fn excess(pretraining: &[Loss], target: &[Loss]) -> Self {
        let (there, here) = (Self::mean(target), Self::mean(pretraining));
        Self { value: there.value - here.value, error: there.error.hypot(here.error) }
    }
}

/// The jackknife's variance, given the values without each part.
pub(crate) fn variance(without: &[f64]) -> f64 {
    let n = without.len() as f64;
    let mean = without.iter().sum::<f64>() / n;
    (n - 1.0) / n * without.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
}

/// The number that |T| exceeds with 5% probability (the 97.5% quantile), for Student's t with ν
/// degrees of freedom.
///
/// For few degrees the finite series of P(|T| < t), θ = atan(t/√ν) (Abramowitz and Stegun, 26.7.3 and
/// 26.7.4), is solved for θ; for many, the expansion in 1/ν around the normal distribution's is used
/// (26.7.5).
fn student_t(degrees: u64) -> f64 {
    const SERIES: u64 = 200;
    const PROBABILITY: f64 = 0.95;
    let nu = degrees as f64;
    if degrees > SERIES {
        let z: f64 = 1.959_963_984_540_054;
        let powers = |coefficients: &[f64]| {
            coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * z * z + coefficient) * z
        };
        return z
            + powers(&[1.0, 1.0]) / (4.0 * nu)
            + powers(&[3.0, 16.0, 5.0]) / (96.0 * nu.powi(2))
            + powers(&[-15.0, 17.0, 19.0, 3.0]) / (384.0 * nu.powi(3))
            + powers(&[-945.0, -1920.0, 1482.0, 776.0, 79.0]) / (92_160.0 * nu.powi(4));
    }
    let is_odd = !degrees.is_multiple_of(2);
    let within = |theta: f64| {
        let (sine, cosine) = (libm::sin(theta), libm::cos(theta));
        let (mut term, mut sum) = if is_odd { (cosine, 0.0) } else { (1.0, 0.0) };
        let first = if is_odd { 3 } else { 2 };
        for k in (first..=degrees).step_by(2) {
            sum += term;
            term *= cosine * cosine * (k - 1) as f64 / k as f64;
        }
        if is_odd { (theta + sine * sum) * std::f64::consts::FRAC_2_PI } else { sine * sum }
    };
    let (mut low, mut high) = (0.0, std::f64::consts::FRAC_PI_2);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if within(middle) < PROBABILITY { low = middle } else { high = middle }
    }
    nu.sqrt() * libm::sin(high) / libm::cos(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn part(nats: f64, tokens: u64) -> Loss {
        Loss { nats, tokens }
    }

    /// `scipy.stats.t.ppf(0.975, ν)` of SciPy 1.17.1.
    #[test]
    fn the_quantiles_of_students_t() {
        for (degrees, expected) in [
            (1, 12.706204736174694),
            (2, 4.302652729749462),
            (3, 3.1824463052837078),
            (4, 2.7764451051977934),
            (5, 2.5705818356363146),
            (9, 2.262157162798205),
            (29, 2.045229642132703),
            (99, 1.9842169515864174),
            (199, 1.9719565442517533),
            (200, 1.9718962236339088),
            (201, 1.971836506779859),
            (202, 1.9717773846699893),
            (1_000, 1.9623390808264083),
            (100_000, 1.9599877075346095),
            (1_000_000_000, 1.959963986912325),
        ] {
            assert_relative_eq!(student_t(degrees), expected, max_relative = 1e-10);
        }
        let one = Measured { value: 1.0, error: f64::NAN };
        assert!(one.margin(1).is_nan() && one.margin(0).is_nan());
    }

    #[test]
    fn the_jackknife_of_a_mean() {
        let part = |nats| part(nats, 2);
        let found = Measured::mean(&[part(2.0), part(4.0), part(12.0)]);
        // Means of 1, 2 and 6: their mean is 3 and their variance 7.
        assert_relative_eq!(found.value, 3.0);
        assert_relative_eq!(found.error, (7.0f64 / 3.0).sqrt(), epsilon = 1e-14);
        let larger = Measured::excess(&[part(2.0), part(2.0)], &[part(2.0), part(4.0), part(12.0)]);
        assert_relative_eq!(larger.value, 2.0);
        assert_relative_eq!(larger.error, found.error);
    }
    /// Two parts of 1 and 3 tokens with means 4 and 2: 10/4 in all, and 2 and 4 without each, so
    /// that the variance is (2 − 1)/2 · (1 + 1).
    #[test]
    fn the_error_by_hand() {
        let found = Measured::mean(&[part(4.0, 1), part(6.0, 3)]);
        assert_eq!(found, Measured { value: 2.5, error: 1.0 });
        assert!(Measured::mean(&[part(4.0, 1)]).error.is_nan());
        assert!(Measured::mean(&[]).value.is_nan() && Loss::default().mean().is_nan());
    }

    /// For parts of one size it is that of their means: s / √n.
    #[test]
    fn the_error_of_equal_parts_is_the_usual_one() {
        let means = [1.0, 2.0, 4.0, 4.5];
        let error = Measured::mean(&means.map(|mean| part(10.0 * mean, 10))).error;
        let mean = means.iter().sum::<f64>() / 4.0;
        let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / 3.0;
        assert!((error - (variance / 4.0).sqrt()).abs() < 1e-15);
    }

    /// For many parts of different sizes it is nearly that of a ratio of sums over clusters
    /// (Cochran, Sampling Techniques, 1977, Section 6.4).
    #[test]
    fn the_error_of_many_parts_is_that_of_a_ratio() {
        let key = crate::rng::Key::new(3);
        let draw = |i: u64| {
            let tokens = 1 + key.below(i, 50);
            part(tokens as f64 * (3.0 + key.child(1).normal(i)), tokens)
        };
        let parts: Vec<Loss> = (0..2000).map(draw).collect();
        let (whole, n) = (parts.iter().copied().sum::<Loss>(), parts.len() as f64);
        let residual = |part: &Loss| (part.nats - whole.mean() * part.tokens as f64).powi(2);
        let squares: f64 = parts.iter().map(residual).sum();
        let ratio = (squares * n / (n - 1.0)).sqrt() / whole.tokens as f64;
        let error = Measured::mean(&parts).error;
        assert!((error / ratio - 1.0).abs() < 0.01, "{error} and {ratio}");
    }
}
