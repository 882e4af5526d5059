//! What a model reads and writes, on libtorch.

use super::network::Network;
use crate::Result;
use crate::data::sequences::Window;
use crate::engine::Model;
use crate::memory::EVALUATION_TOKENS;
use crate::model::Shape;
use std::cmp::Reverse;
use tch::{Device, Kind, Tensor};

impl Model for Network {
    fn shape(&self) -> &Shape {
        Network::shape(self)
    }

    fn window_losses(&mut self, windows: &[Window<'_>]) -> Result<Vec<f64>> {
        let mut results = vec![0.0; windows.len()];
        for (batch, width) in batches(windows) {
            let (losses, counted) = batch_losses(self, batch.iter().map(|&i| &windows[i]), width)?;
            let sums = losses.f_mul(&counted)?.f_sum_dim_intlist(1, false, Kind::Double)?;
            for (i, nats) in batch.into_iter().zip(on_cpu(&sums)?) {
                results[i] = nats;
            }
        }
        Ok(results)
    }

    fn token_losses(&mut self, windows: &[Window<'_>]) -> Result<Vec<Vec<f64>>> {
        let mut results = vec![Vec::new(); windows.len()];
        for (batch, width) in batches(windows) {
            let (losses, _) = batch_losses(self, batch.iter().map(|&i| &windows[i]), width)?;
            let losses = on_cpu(&losses.f_reshape([-1])?)?;
            for (i, losses) in batch.into_iter().zip(losses.chunks_exact(width)) {
                results[i] = losses[..windows[i].targets() as usize].to_vec();
            }
        }
        Ok(results)
    }

    fn next_logits(&mut self, window: &[u32]) -> Result<Vec<f32>> {
        Network::next_logits(self, window)
    }
}

/// Windows of about one length, by their numbers, so that little is padded, and the longest one's.
fn batches(windows: &[Window<'_>]) -> Vec<(Vec<usize>, usize)> {
    let mut order: Vec<usize> = (0..windows.len()).collect();
    order.sort_by_key(|&i| Reverse(windows[i].tokens.len()));
    let mut batches = Vec::new();
    let mut rest = order.as_slice();
    while let Some(&longest) = rest.first() {
        let width = windows[longest].targets() as usize;
        let rows = (EVALUATION_TOKENS / width).max(1).min(rest.len());
        let (batch, others) = rest.split_at(rows);
        batches.push((batch.to_vec(), width));
        rest = others;
    }
    batches
}

/// The loss of each target, and 1 where it counts and else 0: f64 of `[windows, width]`. Shorter windows
/// are filled up at their end, where causal attention keeps it from what is predicted before.
fn batch_losses<'a>(
    network: &Network,
    windows: impl Iterator<Item = &'a Window<'a>>,
    width: usize,
) -> Result<(Tensor, Tensor)> {
    let (mut inputs, mut targets, mut counted) = (Vec::new(), Vec::new(), Vec::new());
    for window in windows {
        let (tokens, length) = (&window.tokens, window.tokens.len() - 1);
        let filled = |tokens: &[u32]| {
            let tokens = tokens.iter().map(|&token| i64::from(token));
            tokens.chain(std::iter::repeat_n(0, width - length)).collect::<Vec<_>>()
        };
        inputs.extend(filled(&tokens[..length]));
        targets.extend(filled(&tokens[1..]));
        let counts = |i| i < length && window.counted.as_ref().is_none_or(|counted| counted[i]);
        counted.extend((0..width).map(|i| if counts(i) { 1.0 } else { 0f64 }));
    }
    let device = network.device();
    let rows = |values: Tensor| values.view([-1, width as i64]).f_to_device(device);
    let inputs = rows(Tensor::f_from_slice(&inputs)?)?;
    let targets = rows(Tensor::f_from_slice(&targets)?)?;
    let losses = network.token_losses(&inputs, &targets)?;
    Ok((losses.f_to_kind(Kind::Double)?, rows(Tensor::f_from_slice(&counted)?)?))
}

/// A flat tensor of f64.
fn on_cpu(values: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(values.f_to_device(Device::Cpu)?)?)
}
