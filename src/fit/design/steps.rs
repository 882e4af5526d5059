//! How long a run will take.

use super::gaussian::Gaussian;

/// Predicts, from the finetunings that have ended, the steps of a finetuning that stops once its
/// U-curve has turned. ln steps is taken as linear in the logarithms of N and of the number of
/// steps that one pass over the target data takes.
///
/// Before there are runs, a run of the middle size with ten steps a pass is expected to take 60 passes,
/// within a factor of two; larger models turn earlier (steps as N to the power -0.5) and more data
/// takes fewer passes (steps as D_ft to the power 0.8). These are the runs in `golden/nano`.
///
/// # Examples
/// ```
/// use forgetting_laws::fit::design::Steps;
/// let mut steps = Steps::new(1e6);
/// assert!((steps.expected(1e6, 10.0) - 600.0).abs() < 1e-9);
/// steps.learn(1e6, 10.0, 1200);
/// assert!(steps.expected(1e6, 10.0) > 1000.0 && steps.expected(4e6, 10.0) > 500.0);
/// ```
#[derive(Debug, Clone)]
pub struct Steps {
    middle: f64,
    known: Gaussian,
}

const AT_MIDDLE: f64 = 600.0;
const STEPS_A_PASS: f64 = 10.0;
/// The standard deviation of ln steps around the line.
const NOISE: f64 = 0.2;

impl Steps {
    /// The prediction before there are runs. `middle` is an N in the middle of those to be asked
    /// about.
    pub fn new(middle: f64) -> Self {
        let known = Gaussian::new(&[(AT_MIDDLE.ln(), 0.7), (0.8, 0.2), (-0.5, 0.3)]);
        Self { middle, known }
    }

    /// Takes a run into account that ended after so many steps.
    pub fn learn(&mut self, n_params: f64, steps_a_pass: f64, steps: u64) {
        let steps = (steps.max(1) as f64).ln();
        self.known.learn(&self.features(n_params, steps_a_pass), steps, NOISE * NOISE);
    }

    /// The steps that a run is expected to take.
    pub fn expected(&self, n_params: f64, steps_a_pass: f64) -> f64 {
        self.known.mean(&self.features(n_params, steps_a_pass)).exp()
    }

    fn features(&self, n_params: f64, steps_a_pass: f64) -> [f64; 3] {
        [1.0, (steps_a_pass / STEPS_A_PASS).ln(), (n_params / self.middle).ln()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs that follow a line are predicted, beyond them too.
    #[test]
    fn a_line_is_learned() {
        let of = |n: f64, pass: f64| 90.0 * pass.powf(0.9) * (n / 1e5).powf(-0.7);
        let mut steps = Steps::new(1e5);
        for n in [2e4, 1e5, 4e5] {
            for pass in [2.0, 10.0, 50.0] {
                for _ in 0..5 {
                    steps.learn(n, pass, of(n, pass).round() as u64);
                }
            }
        }
        for (n, pass) in [(1e5, 30.0), (1e6, 100.0)] {
            let ratio = steps.expected(n, pass) / of(n, pass);
            assert!((ratio.ln()).abs() < 0.1, "{n} {pass} {ratio}");
        }
    }
}
