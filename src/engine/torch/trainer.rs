//! One optimiser step, and evaluation.

use super::comm::Collectives;
use super::fused;
use super::half_open;
use super::network::Network;
use crate::data::sequences::{Sequences, Window};
use crate::engine::{Buffer, Solo};
use crate::memory::EVALUATION_TOKENS;
use crate::weight_decay::{AdamW, Step};
use crate::{Error, Result};
use tch::{Device, Kind, Tensor, no_grad};

/// From this many parameters on, AdamW is fused on a CPU too: for 40M parameters a step took 0.03 s
/// with two threads instead of 0.4 s. Smaller models, which would hardly be faster, keep the bits
/// of their losses.
const FUSED_FROM: usize = 1 << 20;

/// A network and its optimiser.
#[derive(Debug)]
pub struct Trainer {
    network: Network,
    adamw: AdamW,
    /// Largest global norm of the gradient.
    clip: f64,
    m: Tensor,
    v: Tensor,
}

impl Trainer {
    /// A trainer for a network, with moments of zero; `clip` bounds the global norm of the gradient.
    ///
    /// # Errors
    /// If a setting of the optimiser is outside its domain, or libtorch refuses.
    pub fn new(network: Network, adamw: AdamW, clip: f64) -> Result<Self> {
        adamw.validate()?;
        if clip.is_nan() || clip <= 0.0 {
            return Err(Error::setting("clip", clip, "must be above 0"));
        }
        let (m, v) = (network.theta().f_zeros_like()?, network.theta().f_zeros_like()?);
        Ok(Self { network, adamw, clip, m, v })
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// A buffer that steps change, sharing its storage.
    pub(super) fn buffer(&self, buffer: Buffer) -> Tensor {
        match buffer {
            Buffer::M => self.m.shallow_clone(),
            Buffer::Theta => self.network.theta().shallow_clone(),
            Buffer::V => self.v.shallow_clone(),
        }
    }

    /// One step on this rank's micro-batches of windows: backward pass, sum of the gradient over
    /// `comm`, clipping by the global norm, AdamW. `positions` is the number of targets that count
    /// in the whole step, on all ranks. Returns this rank's part of the mean cross-entropy before
    /// the update, a scalar in nats on the device; the parts of all ranks add up to the mean.
    ///
    /// # Errors
    /// If a rank is lost, or libtorch refuses; the trainer then cannot go on.
    pub fn step(
        &mut self,
        micro_batches: impl IntoIterator<Item = Result<impl Into<Windows>>>,
        positions: u64,
        step: Step,
        comm: &dyn Collectives,
    ) -> Result<Tensor> {
        self.network.zero_gradient()?;
        let mut loss = Tensor::f_zeros([], (Kind::Float, self.network.device()))?;
        for windows in micro_batches {
            let Windows { tokens, counted } = windows?.into();
            let (inputs, targets) = inputs_and_targets(&tokens);
            let counted = counted.as_ref();
            let part =
                self.network.accumulate_masked_gradient(&inputs, &targets, counted, positions)?;
            let _ = loss.f_add_(&part)?;
        }
        no_grad(|| {
            let mut gradient = self.network.gradient().shallow_clone();
            comm.all_reduce_sum(&mut gradient)?;
            // As torch.nn.utils.clip_grad_norm_, on the device: nothing waits for the norm.
            let norm = gradient.f_norm()?.f_add_scalar(1e-6)?;
            let coefficient = norm.f_div_scalar(self.clip)?.f_pow_tensor_scalar(-1)?;
            let _ = gradient.f_mul_(&coefficient.f_clamp_max(1.0)?)?;
            self.adamw_step(&mut gradient, step)?;
            Ok(loss)
        })
    }

    /// [`AdamW::reference_step`] on whole buffers; on a GPU, and where they are large, moments and
    /// update in one pass.
    fn adamw_step(&mut self, gradient: &mut Tensor, step: Step) -> Result<()> {
        let AdamW { beta1, beta2, eps, scope, .. } = self.adamw;
        let layout = self.network.layout();
        let mut theta = self.network.theta().shallow_clone();
        if let Some(range) = layout.range_of(|tensor| scope.applies(tensor.kind)) {
            let mut decayed = half_open(&theta, range.clone());
            let in_gradient = self.adamw.gradient_decay();
            if in_gradient != 0.0 {
                let _ = half_open(gradient, range).f_add_(&decayed.f_mul_scalar(in_gradient)?)?;
            }
            let factor = self.adamw.decay_factor(step);
            if factor != 1.0 {
                let _ = decayed.f_mul_scalar_(factor)?;
            }
        }
        let pays = theta.device() != Device::Cpu || theta.numel() >= FUSED_FROM;
        if pays && let Some(fused) = fused::find() {
            let (m, v) = (&mut self.m, &mut self.v);
            let buffers = fused::Buffers { theta: &mut theta, gradient, m, v };
            return fused.step(buffers, &self.adamw, step.lr, step.t);
        }
        let correction1 = 1.0 - beta1.powf(step.t as f64);
        let correction2 = 1.0 - beta2.powf(step.t as f64);
        let _ = self.m.f_lerp_(gradient, 1.0 - beta1)?;
        let _ = self.v.f_lerp_(&gradient.f_square()?, 1.0 - beta2)?;
        let denominator = self.v.f_sqrt()?.f_div_scalar_(correction2.sqrt())?.f_add_scalar_(eps)?;
        let mut change = self.m.f_div(&denominator)?;
        drop(denominator);
        let _ = theta.f_sub_(&change.f_mul_scalar_(step.lr / correction1)?)?;
        Ok(())
    }
}

/// Mean cross-entropy over every predicted token of a validation set that counts, in nats; NaN where
/// none does.
///
/// # Errors
/// If libtorch refuses.
pub fn evaluate(network: &Network, set: &Sequences) -> Result<f64> {
    evaluate_together(network, set, &Solo)
}

/// The same, computed by all ranks together: of n ranks each takes every n-th pass, and all get the
/// same loss.
///
/// # Errors
/// If a rank is lost, or libtorch refuses.
pub fn evaluate_together(
    network: &Network,
    set: &Sequences,
    comm: &dyn Collectives,
) -> Result<f64> {
    let device = network.device();
    let per_pass = (EVALUATION_TOKENS / set.context()).max(1);
    let mut sum = Tensor::f_zeros([], (Kind::Double, device))?;
    let first = comm.rank() * per_pass;
    for start in (first..set.len()).step_by(comm.world() * per_pass) {
        let end = (start + per_pass).min(set.len());
        let rows: Vec<_> = (start..end).map(|i| set.window(i)).collect();
        let Windows { tokens, counted } = Windows::of(&rows, device)?;
        let (inputs, targets) = inputs_and_targets(&tokens);
        let part = match &counted {
            None => network.loss_sum(&inputs, &targets)?,
            Some(counted) => {
                let losses = network.token_losses(&inputs, &targets)?.f_to_kind(Kind::Double)?;
                losses.f_mul(counted)?.f_sum(Kind::Double)?
            }
        };
        let _ = sum.f_add_(&part)?;
    }
    comm.all_reduce_sum(&mut sum)?;
    Ok(sum.f_double_value(&[])? / set.counted_tokens() as f64)
}

/// Windows of tokens on the device, and which of their targets count in the loss.
#[derive(Debug)]
pub struct Windows {
    /// `[rows, T + 1]` of i64.
    tokens: Tensor,
    /// `[rows, T]` of f32, 1 where a target counts and else 0; None: 1 everywhere.
    counted: Option<Tensor>,
}

impl Windows {
    /// Windows on the device.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn of(rows: &[Window<'_>], device: Device) -> Result<Self> {
        let tokens: Vec<&[u32]> = rows.iter().map(|row| &*row.tokens).collect();
        let counts = |row: &Window<'_>, i| row.counted.as_ref().is_none_or(|counted| counted[i]);
        let of_row = |row| (0..Window::targets(row) as usize).map(move |i| counts(row, i));
        let counted = if rows.iter().any(|row| row.counted.is_some()) {
            let flat: Vec<f32> =
                rows.iter().flat_map(of_row).map(|c| f32::from(u8::from(c))).collect();
            Some(fetched(Tensor::f_from_slice(&flat)?.view([rows.len() as i64, -1]), device)?)
        } else {
            None
        };
        Ok(Self { tokens: windows(&tokens, device)?, counted })
    }
}

impl From<Tensor> for Windows {
    /// Tokens `[rows, T + 1]` of i64 of which every target counts.
    fn from(tokens: Tensor) -> Self {
        Self { tokens, counted: None }
    }
}

/// Windows of tokens as one tensor `[rows, T + 1]` of i64 on the device.
///
/// # Errors
/// If libtorch refuses.
pub fn windows<R: AsRef<[u32]>>(rows: &[R], device: Device) -> Result<Tensor> {
    let width = rows.first().map_or(0, |row| row.as_ref().len()) as i64;
    let tokens = rows.iter().flat_map(|row| row.as_ref());
    let flat: Vec<i64> = tokens.map(|&token| i64::from(token)).collect();
    fetched(Tensor::f_from_slice(&flat)?.view([-1, width]), device)
}

/// A tensor of the CPU on the device. A GPU fetches it when it comes to it: nothing waits, and the
/// next one is prepared while it computes.
fn fetched(tensor: Tensor, device: Device) -> Result<Tensor> {
    Ok(match device {
        Device::Cuda(_) => {
            // Out of pinned memory; without any, the copy waits for what was computed before.
            let pinned = tensor.f_internal_pin_memory(device).unwrap_or(tensor);
            pinned.f_to_device_(device, pinned.kind(), true, false)?
        }
        _ => tensor.f_to_device(device)?,
    })
}

/// Windows `[rows, T + 1]` as inputs, the first T tokens, and targets, the last T.
fn inputs_and_targets(windows: &Tensor) -> (Tensor, Tensor) {
    let time = windows.size()[1] - 1;
    (windows.narrow(1, 0, time), windows.narrow(1, 1, time))
}
