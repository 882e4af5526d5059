//! What is known of a few numbers, if all is normal and linear.

/// A normal distribution of the coefficients of a linear model.
#[derive(Debug, Clone)]
pub(in crate::fit) struct Gaussian {
    mean: Vec<f64>,
    covariance: Vec<Vec<f64>>,
}

impl Gaussian {
    /// Independent coefficients, each with its mean and standard deviation.
    pub fn new(prior: &[(f64, f64)]) -> Self {
        let entry = |i: usize, j: usize| if i == j { prior[i].1.powi(2) } else { 0.0 };
        let row = |i: usize| (0..prior.len()).map(|j| entry(i, j)).collect();
        Self {
            mean: prior.iter().map(|(mean, _)| *mean).collect(),
            covariance: (0..prior.len()).map(row).collect(),
        }
    }

    /// The mean of a linear combination.
    pub fn mean(&self, of: &[f64]) -> f64 {
        dot(of, &self.mean)
    }

    /// The variance of a linear combination.
    pub fn variance(&self, of: &[f64]) -> f64 {
        dot(of, &self.times(of)).max(0.0)
    }

    /// The variances of some linear combinations once another is observed with noise of a variance.
    pub fn variances_after<'a>(
        &self,
        of: &'a [Vec<f64>],
        observed: &[f64],
        noise: f64,
    ) -> impl Iterator<Item = f64> + use<'_, 'a> {
        let shared = self.times(observed);
        let total = noise + dot(observed, &shared);
        of.iter().map(move |g| (self.variance(g) - dot(g, &shared).powi(2) / total).max(0.0))
    }

    /// Takes an observation of a linear combination into account, with noise of a variance.
    pub fn learn(&mut self, observed: &[f64], value: f64, noise: f64) {
        let shared = self.times(observed);
        let total = noise + dot(observed, &shared);
        let surprise = value - self.mean(observed);
        for (mean, share) in self.mean.iter_mut().zip(&shared) {
            *mean += share * surprise / total;
        }
        for (row, a) in self.covariance.iter_mut().zip(&shared) {
            for (entry, b) in row.iter_mut().zip(&shared) {
                *entry -= a * b / total;
            }
        }
    }

    fn times(&self, vector: &[f64]) -> Vec<f64> {
        self.covariance.iter().map(|row| dot(row, vector)).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean of a number with n observations of the noise of its prior is that of n + 1 numbers.
    #[test]
    fn observations_are_averaged() {
        let mut known = Gaussian::new(&[(2.0, 3.0), (0.0, 1.0)]);
        for value in [3.0, 5.0, 6.0] {
            known.learn(&[1.0, 0.0], value, 9.0);
        }
        assert!((known.mean(&[1.0, 0.0]) - 4.0).abs() < 1e-12);
        assert!((known.variance(&[1.0, 0.0]) - 9.0 / 4.0).abs() < 1e-12);
        assert_eq!((known.mean(&[0.0, 1.0]), known.variance(&[0.0, 1.0])), (0.0, 1.0));
    }

    #[test]
    fn what_is_expected_of_an_observation_is_what_it_does() {
        let mut known = Gaussian::new(&[(0.0, 1.0), (0.0, 2.0)]);
        known.learn(&[1.0, 1.0], 0.3, 0.5);
        let (of, observed) = ([vec![1.0, -1.0], vec![0.2, 3.0]], [2.0, 0.7]);
        let expected: Vec<f64> = known.variances_after(&of, &observed, 0.1).collect();
        known.learn(&observed, 17.0, 0.1);
        for (g, expected) in of.iter().zip(expected) {
            assert!((known.variance(g) - expected).abs() < 1e-12);
        }
    }
}
