//! The sampler.

use super::{named, raise};
use forgetting_laws::Fraction;
use forgetting_laws::injection::{self, Draw, MixtureSpec, SamplerKind};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Which sequence stands at which position of a finetuning with injection.
#[pyclass(frozen, module = "forgetting_laws._native")]
struct Mixture {
    mixture: injection::Mixture,
    spec: MixtureSpec,
}

#[pymethods]
impl Mixture {
    #[new]
    #[allow(clippy::too_many_arguments, reason = "each is a keyword of the class in Python")]
    fn new(
        p: f64,
        sampler: &str,
        seed: u64,
        steps: u64,
        batch: u64,
        target_sequences: u64,
        reserved_sequences: u64,
        replay_sequences: Option<u64>,
        sequence_tokens: u64,
    ) -> PyResult<Self> {
        let sampler: SamplerKind = named("sampler", sampler, "exact or independent")?;
        let spec = MixtureSpec {
            sampler,
            p: Fraction::new(p).map_err(raise)?,
            steps,
            global_batch: batch,
            target_sequences,
            reserved_sequences,
            replay_sequences,
            sequence_tokens,
        };
        let mixture = spec.of_run(seed).map_err(raise)?;
        Ok(Self { mixture, spec })
    }

    /// The sequences at positions start to stop, in native 64-bit integers: i for the i-th of the target,
    /// and target_sequences + j for the j-th of the pretraining data.
    fn indices<'py>(&self, py: Python<'py>, start: u64, stop: u64) -> Bound<'py, PyBytes> {
        let end = self.spec.steps * self.spec.global_batch;
        let bytes: Vec<u8> = py.detach(|| {
            let draw = |position| match self.mixture.draw(position) {
                Some(Draw::Target(i)) => i as i64,
                Some(Draw::Pretrain(j)) => (self.spec.target_sequences + j) as i64,
                None => unreachable!("positions end with the last step"),
            };
            (start.min(end)..stop.min(end))
                .flat_map(|position| draw(position).to_ne_bytes())
                .collect()
        });
        PyBytes::new(py, &bytes)
    }

    /// Sequences of the target and of the pretraining data in the first steps.
    fn counts(&self, steps: u64) -> (u64, u64) {
        let counts = self.mixture.counts(steps);
        (counts.target, counts.pretrain)
    }

    /// The epoch of the target that a step starts in.
    fn target_epoch(&self, step: u64) -> u64 {
        self.mixture.target_epoch(step)
    }
}

/// The part of a batch that a rank takes.
#[pyfunction]
fn share(batch: u64, rank: u64, ranks: u64) -> (u64, u64) {
    let part = injection::share(batch, rank, ranks);
    (part.start, part.end)
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Mixture>()?;
    module.add_function(wrap_pyfunction!(share, module)?)
}
