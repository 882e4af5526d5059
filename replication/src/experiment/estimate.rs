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
        let mut estimate = Self(Steps::new(MIDDLE));
        for (job, record) in done {
            if let Spec::Finetune(spec) = &job.spec {
                estimate.learn(n_params(job), steps_per_pass(spec, job), record);
            }
        }
        estimate
    }

    /// Takes a finetuning into account.
    pub fn learn(&mut self, n_params: f64, steps_per_pass: f64, record: &Record) {
        // The others say only that their U-curve had not turned by then.
        if record.outcome == Outcome::Turned {
            self.0.learn(n_params, steps_per_pass, record.steps);
        }
    }

    /// The step at which a U-curve is expected to have turned.
    pub fn turned(&self, n_params: f64, steps_per_pass: f64) -> f64 {
        self.0.expected(n_params, steps_per_pass)
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
                let turned = self.turned(n_params(job), steps_per_pass(spec, job));
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
