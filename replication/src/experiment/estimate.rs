//! The cost that a run is expected to have, where its job states the most.

use super::config::Config;
use super::grid::finetuning_flops;
use super::job::Job;
use forgetting_laws::fit::design::Steps;
use forgetting_laws::run::{FinetuneSpec, Outcome, Record, Spec};

/// The N for which [`Steps`] knows the steps best before there are runs. The published runs have 41K to
/// 1.3M parameters; with this N their steps are predicted before any of them is known, in total within
/// a quarter.
const MIDDLE: f64 = 1e5;

/// The steps that finetunings are expected to take if they stop once their U-curve has turned.
pub struct Estimate(Steps);

impl Estimate {
    /// An estimate from the finetunings that are done.
    pub fn new<'a>(done: impl IntoIterator<Item = (&'a Job, &'a Record)>) -> Self {
        let mut steps = Steps::new(MIDDLE);
        for (job, record) in done {
            // The others say only that their U-curve had not turned by then.
            if let (Spec::Finetune(spec), Outcome::Turned) = (&job.spec, &record.outcome) {
                steps.learn(n_params(job), steps_per_pass(spec, job), record.steps);
            }
        }
        Self(steps)
    }

    /// The FLOPs of a job, including evaluations.
    pub fn flops(&self, config: &Config, job: &Job) -> f64 {
        match &job.spec {
            Spec::Finetune(spec) => {
                finetuning_flops(&config.data, &job.shape, spec, self.steps(spec, job))
            }
            Spec::Pretrain(_) | Spec::Import(_) => job.flops,
        }
    }

    fn steps(&self, spec: &FinetuneSpec, job: &Job) -> u64 {
        match spec.stop {
            // Whether it has turned is asked from the least number of steps on.
            Some(stop) => {
                let turned = self.0.expected(n_params(job), steps_per_pass(spec, job));
                (turned as u64).max(stop.min_steps).min(spec.steps)
            }
            None => spec.steps,
        }
    }
}

fn n_params(job: &Job) -> f64 {
    job.shape.count().paper() as f64
}

/// The steps of one pass over the target data.
fn steps_per_pass(spec: &FinetuneSpec, job: &Job) -> f64 {
    (spec.d_ft_tokens / job.shape.context as u64) as f64 / spec.batch as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Results;
    use std::path::Path;

    /// Nothing of a published grid is known, and then the half of its runs.
    #[test]
    fn published_grids_take_what_is_expected() {
        for (grid, runs) in [("nano/synthetic", 350), ("nano/real", 250), ("micro", 500)] {
            let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(grid);
            let results = Results::read(&golden.join("results.json")).unwrap();
            assert!(results.finetuned.len() > runs, "{grid}");
            let mut steps = Steps::new(MIDDLE);
            let mut ratio = |first: usize, stride: usize, learn: bool| {
                let (mut expected, mut taken) = (0.0, 0.0);
                for run in results.finetuned.iter().skip(first).step_by(stride) {
                    let n = run.record.n_params.paper() as f64;
                    let pass = run.d_ft_tokens as f64 / (64 * run.batch) as f64;
                    if learn && run.record.outcome == Outcome::Turned {
                        steps.learn(n, pass, run.record.steps);
                    }
                    expected += n * steps.expected(n, pass).clamp(100.0, run.steps as f64);
                    taken += n * run.record.steps as f64;
                }
                expected / taken
            };
            let unknown = ratio(0, 1, false);
            ratio(0, 2, true);
            let known = ratio(1, 2, false);
            assert!((1.0 / 1.5..1.5).contains(&unknown), "{grid}: {unknown}");
            assert!((1.0 / 1.5..1.5).contains(&known), "{grid}: {known}");
        }
    }
}
