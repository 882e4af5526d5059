//! The losses of finished runs on test sets.
//!
//! The bottom of the U-curve is the step with the lowest loss on a validation set, so that loss is
//! biased slightly low. The validation set is also small, because it is evaluated every few steps. A
//! test set has no part in choosing the bottom and is evaluated once.

use super::Engine;
use crate::checkpoint::Checkpoint;
use crate::data::sequences::{Sequences, Window};
use crate::loss::{Loss, Measured};
use crate::model::Precision;
use crate::run::{FinetuningTest, TestLosses};
use crate::{Error, Result};

/// Neighbouring sequences may share a document, so standard errors are computed over this many blocks
/// of sequences.
const BLOCKS: usize = 16;

/// A model before a finetuning and at the bottom of its U-curve.
pub(super) struct FinetunedModel<'a> {
    pub before: &'a Checkpoint,
    pub bottom: &'a Checkpoint,
}

/// The test losses of a pretrained model.
pub(super) fn of_model(
    engine: &dyn Engine,
    model: &Checkpoint,
    precision: Precision,
    set: &Sequences,
) -> Result<TestLosses> {
    let losses = block_losses(engine, model, precision, set)?;
    Ok(TestLosses { loss_pt: Measured::mean(&losses), finetuning: None })
}

/// The test losses of a finetuned model, on the test sets of the pretraining data and of the target.
pub(super) fn of_finetuning(
    engine: &dyn Engine,
    models: FinetunedModel<'_>,
    precision: Precision,
    (pretraining, target): (&Sequences, &Sequences),
) -> Result<TestLosses> {
    let before = block_losses(engine, models.before, precision, pretraining)?;
    let after = block_losses(engine, models.bottom, precision, pretraining)?;
    let of_target = block_losses(engine, models.bottom, precision, target)?;
    let difference = |(after, before): (&Loss, &Loss)| Loss {
        nats: after.nats - before.nats,
        tokens: after.tokens,
    };
    let differences: Vec<Loss> = after.iter().zip(&before).map(difference).collect();
    Ok(TestLosses {
        loss_pt: Measured::mean(&after),
        finetuning: Some(FinetuningTest {
            loss_ft: Measured::mean(&of_target),
            loss_pt0: Measured::mean(&before),
            increase: Measured::mean(&differences),
        }),
    })
}

/// Refuses, before a run, a test set that cannot give a loss or its standard error.
pub(super) fn check(set: &Sequences) -> Result<()> {
    let counted: Vec<bool> = (0..set.len()).map(|i| set.window(i).counted() > 0).collect();
    match counted.chunks(block_size(set)).filter(|block| block.contains(&true)).count() {
        0 | 1 => {
            let requirement = "must contain at least two in which a token counts in the loss";
            Err(Error::setting("sequences of a test set", set.len(), requirement))
        }
        _ => Ok(()),
    }
}

/// Sequences of a block.
fn block_size(set: &Sequences) -> usize {
    set.len().div_ceil(BLOCKS).max(1)
}

/// The losses of the blocks of a set in which a token counts.
fn block_losses(
    engine: &dyn Engine,
    model: &Checkpoint,
    precision: Precision,
    set: &Sequences,
) -> Result<Vec<Loss>> {
    let mut model = engine.model(model, precision)?;
    let windows: Vec<Window<'_>> = (0..set.len()).map(|i| set.window(i)).collect();
    let nats = model.window_losses(&windows)?;
    let loss = |(window, nats): (&Window<'_>, f64)| Loss { nats, tokens: window.counted() };
    let losses: Vec<Loss> = windows.iter().zip(nats).map(loss).collect();
    let blocks = losses.chunks(block_size(set)).map(|block| block.iter().copied().sum());
    Ok(blocks.filter(|block: &Loss| block.tokens > 0).collect())
}
