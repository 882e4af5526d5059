//! This engine as the training loop sees it.

use super::aligned::Aligned;
use super::{Decoder, Optimizer};
use crate::checkpoint::Checkpoint;
use crate::data::sequences::{Sequences, Window};
use crate::engine::{Buffer, Engine, Model, Training};
use crate::model::{Precision, Shape};
use crate::run::EngineKind;
use crate::weight_decay::{AdamW, Step};
use crate::{Error, Result};
use std::borrow::Cow;

/// Targets whose losses are held at a time in an evaluation. No bit depends on it.
const EVALUATION_TOKENS: usize = 4_096;

/// This crate's own engine: f32 on a CPU. Its bits depend on neither threads nor vector
/// instructions.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// Threads that compute one model.
    pub threads: usize,
    /// Whether the forward pass of a block is repeated in the backward pass instead of keeping its
    /// activations: slower, with less memory, and the same bits.
    pub recompute: bool,
}

impl Cpu {
    fn decoder(&self, model: &Checkpoint, precision: Precision) -> Result<Decoder> {
        if !precision.is_f32() {
            let requirement = "must be f32 on the engine cpu; libtorch computes in bf16";
            return Err(Error::setting("precision", "bf16", requirement));
        }
        model.validate()?;
        let mut decoder =
            Decoder::new(model.shape)?.with_threads(self.threads).with_recompute(self.recompute);
        decoder.load(&model.theta);
        Ok(decoder)
    }
}

impl Engine for Cpu {
    fn kind(&self) -> EngineKind {
        EngineKind::Cpu
    }

    fn training(
        &self,
        model: &Checkpoint,
        precision: Precision,
        adamw: AdamW,
        clip: f64,
    ) -> Result<Box<dyn Training + '_>> {
        let decoder = self.decoder(model, precision)?;
        let optimizer = Optimizer::new(decoder.layout(), adamw, clip)?;
        let gradient = Aligned::zeros(model.theta.len());
        Ok(Box::new(Run { decoder, optimizer, gradient, loss_sum: 0.0 }))
    }

    fn model(&self, model: &Checkpoint, precision: Precision) -> Result<Box<dyn Model>> {
        Ok(Box::new(self.decoder(model, precision)?))
    }

    fn loss(&self, model: &Checkpoint, precision: Precision, set: &Sequences) -> Result<f64> {
        Ok(mean_loss(&mut self.decoder(model, precision)?, set))
    }
}

/// A model in training.
struct Run {
    decoder: Decoder,
    optimizer: Optimizer,
    gradient: Aligned,
    loss_sum: f64,
}

impl Training for Run {
    fn shape(&self) -> &Shape {
        self.decoder.shape()
    }

    fn step(&mut self, batch: &[Window<'_>], step: Step) -> Result<()> {
        let counted = batch.iter().map(Window::counted).sum();
        self.gradient.fill(0.0);
        self.loss_sum += self.decoder.loss_and_gradient(batch, counted, &mut self.gradient);
        let Self { decoder, optimizer, gradient, .. } = self;
        decoder.update(|theta| {
            optimizer.step(theta, gradient, step);
        });
        Ok(())
    }

    fn loss_sums(&self) -> Result<Vec<f64>> {
        Ok(vec![self.loss_sum])
    }

    fn set_loss_sums(&mut self, sums: &[f64]) -> Result<()> {
        self.loss_sum = sums.iter().sum();
        Ok(())
    }

    fn evaluate(&mut self, set: &Sequences) -> Result<f64> {
        Ok(mean_loss(&mut self.decoder, set))
    }

    fn buffer(&self, buffer: Buffer) -> Result<Cow<'_, [f32]>> {
        let (m, v) = self.optimizer.moments();
        Ok(match buffer {
            Buffer::M => m.into(),
            Buffer::Theta => self.decoder.theta().into(),
            Buffer::V => v.into(),
        })
    }

    fn set_buffer(&mut self, buffer: Buffer, values: &[f32]) -> Result<()> {
        let (m, v) = self.optimizer.moments_mut();
        match buffer {
            Buffer::M => m.copy_from_slice(values),
            Buffer::V => v.copy_from_slice(values),
            Buffer::Theta => self.decoder.load(values),
        }
        Ok(())
    }
}

impl Model for Decoder {
    fn shape(&self) -> &Shape {
        Decoder::shape(self)
    }

    fn window_losses(&mut self, windows: &[Window<'_>]) -> Result<Vec<f64>> {
        Ok(sums(self, windows))
    }

    fn token_losses(&mut self, windows: &[Window<'_>]) -> Result<Vec<Vec<f64>>> {
        let mut losses = Decoder::token_losses(self, windows).into_iter();
        let of = |window: &Window<'_>| losses.by_ref().take(window.targets() as usize).collect();
        Ok(windows.iter().map(of).collect())
    }

    fn next_logits(&mut self, window: &[u32]) -> Result<Vec<f32>> {
        Ok(Decoder::next_logits(self, window))
    }
}

/// For each window the sum of the losses that count.
fn sums(decoder: &mut Decoder, windows: &[Window<'_>]) -> Vec<f64> {
    let losses = decoder.token_losses(windows);
    let mut rest = losses.as_slice();
    let sum = |window: &Window<'_>| {
        let (losses, others) = rest.split_at(window.targets() as usize);
        rest = others;
        let counts = |i: usize| window.counted.as_ref().is_none_or(|counted| counted[i]);
        let counted = losses.iter().enumerate().filter(|&(i, _)| counts(i));
        counted.map(|(_, loss)| loss).sum()
    };
    windows.iter().map(sum).collect()
}

fn mean_loss(decoder: &mut Decoder, set: &Sequences) -> f64 {
    let per_pass = (EVALUATION_TOKENS / set.context()).max(1);
    let mut sum = 0.0;
    for start in (0..set.len()).step_by(per_pass) {
        let end = (start + per_pass).min(set.len());
        let windows: Vec<_> = (start..end).map(|i| set.window(i)).collect();
        sums(decoder, &windows).iter().for_each(|window| sum += window);
    }
    sum / set.counted_tokens() as f64
}
