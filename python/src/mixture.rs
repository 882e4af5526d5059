//! The sampler.

use super::{named, raise, refuse};
use forgetting_laws::injection::{self, Draw, MixtureSpec, SamplerKind};
use forgetting_laws::{Error, Fraction};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The most indices that are given at once: two gigabytes.
const MOST: u64 = 1 << 28;

/// What the library refuses, with the names that Python has for its settings.
fn with_keywords(error: Error, spec: &MixtureSpec) -> Error {
    let reserved = spec.reserved_sequences;
    match (error, spec.replay_sequences) {
        (Error::Setting { name, value, requirement }, _) => {
            let name = match &*name {
                "global_batch" => "batch".into(),
                "d_ft_tokens" => "target_sequences".into(),
                "finetuning.replay_tokens" => "replay".into(),
                _ => name,
            };
            Error::Setting { name, value, requirement }
        }
        (Error::Exhausted { .. }, Some(replay)) => {
            let requirement = format!("must be at most pretraining_sequences, {reserved}");
            Error::setting("replay", replay, requirement)
        }
        (Error::Exhausted { asked, .. }, None) => {
            let injected = asked / spec.sequence_tokens.max(1);
            let requirement = format!(
                "the run injects {injected} sequences; reserve as many, or repeat some with replay"
            );
            Error::setting("pretraining_sequences", reserved, requirement)
        }
        (other, _) => other,
    }
}

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
        let mixture = spec.of_run(seed).map_err(|error| raise(with_keywords(error, &spec)))?;
        Ok(Self { mixture, spec })
    }

    /// The sequences at positions start to stop, in native 64-bit integers: i for the i-th of the target,
    /// and target_sequences + j for the j-th of the pretraining data.
    fn indices<'py>(
        &self,
        py: Python<'py>,
        start: u64,
        stop: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let end = self.spec.steps * self.spec.global_batch;
        let (start, stop) = (start.min(end), stop.min(end));
        if stop.saturating_sub(start) > MOST {
            let requirement = format!("must be at most {MOST} after start, {start}");
            return Err(refuse("stop", stop, &requirement));
        }
        let bytes: Vec<u8> = py.detach(|| {
            let draw = |position| match self.mixture.draw(position) {
                Some(Draw::Target(i)) => i as i64,
                Some(Draw::Pretrain(j)) => (self.spec.target_sequences + j) as i64,
                None => unreachable!("positions end with the last step"),
            };
            (start..stop).flat_map(|position| draw(position).to_ne_bytes()).collect()
        });
        Ok(PyBytes::new(py, &bytes))
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
