//! Jobs: runs to be carried out, with their specification and cost, and records of finished ones.

use forgetting_laws::engine;
use forgetting_laws::finetuning::Evaluation;
use forgetting_laws::model::Shape;
use forgetting_laws::run::{Outcome, Record, RunId, Spec};
use forgetting_laws::store::Store;
use forgetting_laws::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file of a run's specification.
pub const SPEC: &str = "spec.json";

/// A run that a figure needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Its specification.
    pub spec: Spec,
    /// A label.
    pub label: String,
    /// The name of the model size.
    pub size: String,
    /// The model.
    pub shape: Shape,
    /// The most training tokens.
    pub tokens: u64,
    /// The most FLOPs, including evaluations; long runs start first.
    pub flops: f64,
    /// The folder of the model that it imports, if it does.
    pub import: Option<PathBuf>,
}

impl Job {
    /// The run that it depends on.
    pub fn parent(&self) -> Option<&RunId> {
        match &self.spec {
            Spec::Pretrain(_) | Spec::Import(_) => None,
            Spec::Finetune(spec) => Some(&spec.parent),
        }
    }
}

/// The records of all jobs that are finished in the store.
///
/// # Errors
/// If a record cannot be read.
pub fn finished(store: &Store, jobs: &[Job]) -> Result<BTreeMap<RunId, Record>> {
    let mut records = BTreeMap::new();
    for job in jobs {
        let id = job.spec.id();
        if let Some(record) = store.record(&id)? {
            records.insert(id, record);
        }
    }
    Ok(records)
}

/// The shapes of the models from elsewhere that runs in a folder began with; `None` if a specification
/// there cannot be read.
pub fn imported_shapes(runs: &Path) -> Option<Vec<Shape>> {
    let Ok(entries) = std::fs::read_dir(runs) else { return Some(Vec::new()) };
    let mut shapes = Vec::new();
    for entry in entries {
        match std::fs::read(entry.ok()?.path().join(SPEC)) {
            Ok(bytes) => {
                if let Spec::Import(spec) = serde_json::from_slice(&bytes).ok()? {
                    shapes.push(spec.shape);
                }
            }
            // Not a run, or one that has only been claimed.
            Err(_) => continue,
        }
    }
    Some(shapes)
}

/// Whether a finished run must be repeated because its model was not kept and is now wanted.
pub fn lacks_model(record: &Record, keep_models: bool) -> bool {
    keep_models && record.model.is_none()
}

/// Refuses, before anything is trained, runs for whose injection too little data is reserved.
///
/// # Errors
/// If the reserved data do not suffice for a run.
pub fn check(jobs: &[Job], injection_tokens: u64) -> Result<()> {
    for job in jobs {
        if let Spec::Finetune(spec) = &job.spec {
            let context = job.shape.context as u64;
            engine::mixture(spec, context, injection_tokens / context)?;
        }
    }
    Ok(())
}

/// Refuses to finetune a model whose pretraining diverged (which is recorded as its result).
///
/// # Errors
/// If the record is that of a diverged pretraining run.
pub fn usable(job: &Job, record: &Record) -> Result<()> {
    match (&job.spec, &record.outcome) {
        (Spec::Pretrain(spec), Outcome::Diverged { step }) => {
            let (size, peak) = (&job.size, spec.schedule.peak);
            let label = &job.label;
            let what = format!("the pretraining loss of {label} (sizes.{size}.peak_lr = {peak})");
            Err(Error::NonFinite { what, step: *step })
        }
        _ => Ok(()),
    }
}

/// Both losses as text.
pub fn losses(evaluation: &Evaluation) -> String {
    let target = if evaluation.loss_ft.is_nan() {
        String::new()
    } else {
        format!("ft {:.4}, ", evaluation.loss_ft)
    };
    format!("{target}pt {:.4}", evaluation.loss_pt)
}
