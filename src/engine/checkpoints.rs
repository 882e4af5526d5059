//! Checkpoints of runs: safetensors files with the flat buffers and the state of the run.

use super::{Buffer, Observer, Training};
use crate::checkpoint::le_bytes;
use crate::finetuning::{Evaluation, UCurve};
use crate::run::RunId;
use crate::store::{Claim, hashed_files, read_hashed, write_hashed};
use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What a checkpoint contains apart from the parameters and the moments. It has no state of a random
/// generator or of the data, because both are functions of the step.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// The identity of the run.
    run: String,
    /// Optimiser steps taken.
    pub step: u64,
    pub evaluations: Vec<Evaluation>,
    /// The first rank's part of the sum of the training losses since the last evaluation.
    loss_sum: f64,
    /// The parts of the other ranks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    other_loss_sums: Vec<f64>,
    /// The parameters with the lowest loss on the target so far, if the run keeps them; a tensor of the
    /// checkpoint.
    #[serde(skip)]
    pub bottom: Option<Vec<f32>>,
}

impl State {
    /// A run before its first step.
    pub fn new(id: &RunId) -> Self {
        Self { run: id.to_string(), ..Self::default() }
    }

    /// The parts of all ranks that wrote the checkpoint.
    pub fn loss_sums(&self) -> Vec<f64> {
        [&[self.loss_sum], self.other_loss_sums.as_slice()].concat()
    }

    /// Sets the parts of all ranks.
    pub fn set_loss_sums(&mut self, mut sums: Vec<f64>) {
        self.loss_sum = sums.remove(0);
        self.other_loss_sums = sums;
    }
}

/// The prefix of the names of checkpoints.
const CHECKPOINT: &str = "checkpoint-";

/// How many checkpoints are kept: the newest, and the one before in case the newest is damaged.
const KEPT: usize = 2;

/// The name of the tensor of [`State::bottom`].
const BOTTOM: &str = "bottom";

/// The key of the run's own state in a checkpoint's metadata.
const STATE: &str = "state";

/// Whether a run's folder holds checkpoints.
///
/// # Errors
/// If the folder cannot be read.
pub fn has_checkpoints(folder: &Path) -> Result<bool> {
    Ok(!hashed_files(folder, CHECKPOINT)?.is_empty())
}

/// Removes a run's checkpoints, which are not needed once its record is written.
///
/// # Errors
/// If the system refuses.
pub fn remove_checkpoints(claim: &Claim) -> Result<()> {
    remove(hashed_files(claim.folder(), CHECKPOINT)?)
}

fn remove(files: Vec<PathBuf>) -> Result<()> {
    files.iter().try_for_each(|path| std::fs::remove_file(path).map_err(Error::io(path)))
}

pub(super) fn write(training: &dyn Training, state: &State, claim: &Claim) -> Result<()> {
    let json = serde_json::to_string(state).expect("our types have string keys");
    let stem = format!("{CHECKPOINT}{:012}", state.step);
    write_hashed(claim.folder(), &stem, "safetensors", &to_safetensors(training, state, json)?)?;
    let mut files = hashed_files(claim.folder(), CHECKPOINT)?;
    files.truncate(files.len().saturating_sub(KEPT));
    remove(files)
}

/// Resumes from the newest intact checkpoint of this run. A damaged one is reported and removed.
pub(super) fn resume(
    id: &RunId,
    training: &mut dyn Training,
    keeps_bottom: bool,
    claim: &Claim,
    observer: &dyn Observer,
) -> Result<State> {
    for path in hashed_files(claim.folder(), CHECKPOINT)?.into_iter().rev() {
        match load(id, training, keeps_bottom, &path) {
            Ok(state) => return Ok(state),
            Err(error @ (Error::Damaged { .. } | Error::Content { .. })) => {
                observer.note(&format!("{error}; the checkpoint before it is used"));
                remove(vec![path])?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(State::new(id))
}

fn load(id: &RunId, training: &mut dyn Training, keeps_bottom: bool, path: &Path) -> Result<State> {
    let bytes = read_hashed(path)?;
    let mut state: State = serde_json::from_str(&state_in(path, &bytes)?)
        .map_err(|error| Error::content(path, None, error.to_string()))?;
    if state.run != id.as_str() {
        return Err(Error::content(path, None, format!("belongs to the run {}", state.run)));
    }
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| Error::content(path, None, format!("not a safetensors file: {error}")))?;
    let len = training.shape().layout().buffer_len();
    let bytes_of = |name| f32_data(path, &file, name, len);
    // All of them are looked at before any is replaced.
    Buffer::ALL.into_iter().try_for_each(|buffer| bytes_of(buffer.name()).map(drop))?;
    if keeps_bottom && UCurve::new(&state.evaluations)?.bottom().is_some() {
        state.bottom = Some(f32s(bytes_of(BOTTOM)?));
    }
    for buffer in Buffer::ALL {
        training.set_buffer(buffer, &f32s(bytes_of(buffer.name())?))?;
    }
    Ok(state)
}

fn to_safetensors(training: &dyn Training, state: &State, json: String) -> Result<Vec<u8>> {
    let len = training.shape().layout().buffer_len();
    // One after another, as a device's are copied.
    let bytes = |buffer: Buffer| Ok((buffer.name(), le_bytes(&training.buffer(buffer)?)));
    let buffers: Vec<_> = Buffer::ALL.into_iter().map(bytes).collect::<Result<_>>()?;
    let bottom = state.bottom.as_deref().map(|theta| (BOTTOM, le_bytes(theta)));
    let view =
        |bytes| TensorView::new(Dtype::F32, vec![len], bytes).expect("four bytes an element");
    let views = buffers.iter().chain(&bottom).map(|(name, bytes)| (*name, view(bytes)));
    let state = HashMap::from([(STATE.to_string(), json)]);
    Ok(safetensors::serialize(views, Some(state)).expect("buffers of one length serialise"))
}

/// The state in a checkpoint's metadata.
fn state_in(path: &Path, bytes: &[u8]) -> Result<String> {
    let damaged = |error| Error::content(path, None, format!("not a checkpoint: {error}"));
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let state = metadata.metadata().as_ref().and_then(|entries| entries.get(STATE)).cloned();
    state.ok_or_else(|| Error::content(path, None, "a safetensors file, but not a checkpoint"))
}

/// The bytes of a tensor, four an element.
fn f32_data<'a>(path: &Path, file: &SafeTensors<'a>, name: &str, len: usize) -> Result<&'a [u8]> {
    let found = file
        .tensor(name)
        .map_err(|_| Error::content(path, None, format!("the tensor {name} is missing")))?;
    if found.dtype() != Dtype::F32 || found.shape() != [len] {
        let (dtype, shape) = (found.dtype(), found.shape());
        let reason = format!("{name} is {dtype:?} {shape:?}, and F32 [{len}] is needed");
        return Err(Error::content(path, None, reason));
    }
    Ok(found.data())
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&quad| f32::from_le_bytes(quad)).collect()
}
