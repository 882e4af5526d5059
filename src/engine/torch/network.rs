//! The decoder on libtorch: parameters and gradients as flat buffers, forward, loss and backward.
//!
//! The parameters of the network are *detached leaf views* of one flat buffer, and each leaf's
//! gradient is a view of one flat gradient, in which backward passes accumulate in place. So
//! clipping, AdamW, checkpoints and all-reduce are a few operations on whole buffers. (Views that
//! are part of the graph would make each view's backward pass allocate a gradient of the full
//! size.)
//!
//! In bf16 ([`Precision::Bf16`]) the matrices of the graph are views of a second buffer, into which
//! θ is rounded before each pass. Their gradients are views of a third one, which is added to the
//! flat gradient after each backward pass. So rounding takes two operations on whole buffers, and
//! the gradients of micro-batches add up in f32. All other parameters are leaves in f32.
//! Evaluations compute as training does.
//!
//! What allocates or computes is called by its fallible name, `f_…`, as the memory of a device may be
//! too small for it. Views fail only by a mistake in this file.

use super::{half_open, to_f32};
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::memory::torch_logit_tokens;
use crate::model::{
    Activation, Attention, Layout, NormKind, Positions, Precision, Residual, Rotary, Shape,
    TensorSpec,
};
use crate::rng::Key;
use crate::weight_decay::ParamKind;
use std::collections::BTreeMap;
use std::ops::Range;
use tch::{Device, IndexOp, Kind, Tensor, no_grad};

#[derive(Debug)]
struct Block {
    ln_1: Norm,
    qkv: Linear,
    /// The normalisations of queries and of keys, where there are any.
    qk_norms: Option<[Norm; 2]>,
    attn_proj: Linear,
    ln_2: Norm,
    fc: Linear,
    mlp_proj: Linear,
}

#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// The product, in the precision of the weight.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kind = self.weight.kind();
        let bias = self.bias.as_ref().map(|bias| bias.f_to_kind(kind)).transpose()?;
        Ok(x.f_to_kind(kind)?.f_linear(&self.weight, bias.as_ref())?)
    }
}

#[derive(Debug)]
struct Norm {
    of: crate::model::Norm,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
}

impl Norm {
    /// Normalises over the last dimension, in f32.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = [*x.size().last().expect("tokens have elements")];
        let (weight, epsilon) = (self.weight.as_ref(), self.of.epsilon);
        match self.of.kind {
            NormKind::Layer | NormKind::Plain => {
                Ok(x.f_layer_norm(width, weight, self.bias.as_ref(), epsilon, true)?)
            }
            NormKind::Rms => {
                let x = x.f_to_kind(Kind::Float)?;
                let mean_square = x.f_square()?.f_mean_dim(-1, true, Kind::Float)?;
                let hat = x.f_mul(&mean_square.f_add_scalar(epsilon)?.f_rsqrt()?)?;
                match weight {
                    Some(weight) => Ok(hat.f_mul(weight)?),
                    None => Ok(hat),
                }
            }
        }
    }
}

/// What tells the places of a sequence apart.
#[derive(Debug)]
enum Places {
    /// `[context, d]`.
    Learned(Tensor),
    Rotary(Rotation),
}

/// Cosine and sine of each place's angles, `[context, elements that turn]`, both halves alike.
#[derive(Debug)]
struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    fn new(shape: &Shape, device: Device) -> Result<Self> {
        let rotary: Rotary = shape.attention.rotary;
        let elements = rotary.elements(shape.head_width());
        let rates: Vec<f64> =
            (0..elements).map(|i| rotary.rate(i % (elements / 2), elements)).collect();
        let table = |of: fn(f64) -> f64| -> Result<Tensor> {
            let row = |place| rates.iter().map(move |rate| of(place as f64 * rate) as f32);
            let values: Vec<f32> = (0..shape.context).flat_map(row).collect();
            let dims = [shape.context as i64, elements as i64];
            Ok(Tensor::f_from_slice(&values)?.view(dims).f_to_device(device)?)
        };
        Ok(Self { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    /// Turns `[batch, heads, time, width]` by the angles of its places, in f32.
    fn turn(&self, x: &Tensor) -> Result<Tensor> {
        let (time, width, elements) = (x.size()[2], x.size()[3], self.cos.size()[1]);
        let kind = x.kind();
        let turning = x.narrow(3, 0, elements).f_to_kind(Kind::Float)?;
        let halves = turning.split(elements / 2, 3);
        let across = {
            let quarter = Tensor::f_cat(&[halves[1].f_neg()?, halves[0].shallow_clone()], 3)?;
            quarter.f_mul(&self.sin.narrow(0, 0, time))?
        };
        let turned = {
            let along = turning.f_mul(&self.cos.narrow(0, 0, time))?;
            along.f_add(&across)?.f_to_kind(kind)?
        };
        if elements == width {
            Ok(turned)
        } else {
            Ok(Tensor::f_cat(&[turned, x.narrow(3, elements, width - elements)], 3)?)
        }
    }
}

/// What matrix products in bf16 need beside θ and its gradient.
#[derive(Debug)]
struct Half {
    /// θ up to the last matrix, rounded before each pass.
    theta: Tensor,
    /// Gradient of the matrices, zero between passes.
    gradient: Tensor,
    /// Where they lie in the flat buffers.
    matrices: Range<usize>,
}

impl Half {
    fn new(layout: &Layout, theta: &Tensor) -> Result<Self> {
        let matrices = layout.range_of(is_matrix).expect("a model has matrices");
        // Embeddings lie before the matrices, and the head is one.
        let rounded = half_open(theta, 0..matrices.end).f_to_kind(Kind::BFloat16)?;
        let gradient = half_open(&rounded, matrices.clone()).f_zeros_like()?;
        Ok(Self { theta: rounded, gradient, matrices })
    }

    fn round(&self, theta: &Tensor) -> Result<()> {
        let theta = half_open(theta, 0..self.matrices.end);
        Ok(no_grad(|| self.theta.shallow_clone().f_copy_(&theta))?)
    }

    /// Adds the gradient of a pass to the flat one.
    fn hand_over(&mut self, gradient: &Tensor) -> Result<()> {
        let _ = half_open(gradient, self.matrices.clone()).f_add_(&self.gradient)?;
        let _ = self.gradient.f_zero_()?;
        Ok(())
    }
}

/// The backward of a result, given its gradient. It takes both, so that neither needs memory longer
/// than the graph does.
fn backward(result: Tensor, gradient: Tensor) -> Result<()> {
    let product = result.f_mul(&gradient)?;
    drop((result, gradient));
    Ok(product.f_sum(Kind::Float)?.f_backward()?)
}

fn is_matrix(tensor: &TensorSpec) -> bool {
    tensor.kind == ParamKind::Matrix
}

/// A decoder: parameters θ and their gradient, each one flat buffer of
/// [`Layout::buffer_len`] f32.
#[derive(Debug)]
pub struct Network {
    shape: Shape,
    layout: Layout,
    theta: Tensor,
    gradient: Tensor,
    /// Leaves in the order of the layout; the fields below share their storage.
    leaves: Vec<Tensor>,
    wte: Tensor,
    places: Places,
    blocks: Vec<Block>,
    ln_f: Norm,
    /// The buffers of matrix products in bf16; `None` in f32.
    half: Option<Half>,
    /// Whether the forward of a block is computed again for its backward.
    recompute: bool,
    /// The matrix of the head, `[vocab, d]`, in the precision of the products.
    head: Tensor,
    /// A view of the flat gradient.
    head_gradient: Tensor,
}

impl Network {
    /// The network of [`Checkpoint::initial`].
    ///
    /// # Errors
    /// If the shape is invalid, or libtorch refuses.
    pub fn new(shape: Shape, key: Key, device: Device) -> Result<Self> {
        Self::from_checkpoint(&Checkpoint::initial(shape, key)?, device)
    }

    /// The network of a checkpoint.
    ///
    /// # Errors
    /// If the shape is invalid, the buffer is not that of its layout, or libtorch refuses.
    pub fn from_checkpoint(checkpoint: &Checkpoint, device: Device) -> Result<Self> {
        checkpoint.validate()?;
        let Checkpoint { shape, theta } = checkpoint;
        let theta = Tensor::f_from_slice(theta)?.f_to_device(device)?;
        Self::assemble(*shape, shape.layout(), theta, Precision::F32)
    }

    /// The architecture and the parameters as they are now.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn to_checkpoint(&self) -> Result<Checkpoint> {
        Ok(Checkpoint { shape: self.shape, theta: to_f32(&self.theta)? })
    }

    /// The same network, computing in a precision.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn in_precision(self, precision: Precision) -> Result<Self> {
        if precision == self.precision() {
            Ok(self)
        } else {
            Self::assemble(self.shape, self.layout, self.theta, precision)
        }
    }

    /// The same network, which keeps only the input of each block and repeats its forward pass in
    /// the backward pass if `recompute`, and otherwise keeps all activations.
    pub fn with_recompute(mut self, recompute: bool) -> Self {
        self.recompute = recompute;
        self
    }

    fn assemble(shape: Shape, layout: Layout, theta: Tensor, precision: Precision) -> Result<Self> {
        let device = theta.device();
        let gradient = theta.f_zeros_like()?;
        let half = match precision {
            Precision::F32 => None,
            Precision::Bf16 => Some(Half::new(&layout, &theta)?),
        };
        // The buffers of a leaf and of its gradient, and where it lies in the latter.
        let place = |tensor: &TensorSpec| match &half {
            Some(half) if is_matrix(tensor) => {
                let start = tensor.offset - half.matrices.start;
                (&half.theta, &half.gradient, start..start + tensor.len())
            }
            _ => (&theta, &gradient, tensor.range()),
        };
        let view = |flat: &Tensor, tensor: &TensorSpec| {
            let dims: Vec<i64> = tensor.dims.iter().map(|&d| d as i64).collect();
            half_open(flat, tensor.range()).view(&dims[..]).detach()
        };
        let leaves: Vec<Tensor> = layout
            .tensors()
            .iter()
            .map(|tensor| view(place(tensor).0, tensor).set_requires_grad(true))
            .collect();
        // A backward that adds nothing makes the gradients; from then on they are the flat buffer,
        // and later backwards accumulate in place.
        let nothing = |leaf: &Tensor| -> Result<Tensor> {
            Ok(leaf.f_mul_scalar(0.0)?.f_sum(Kind::Float)?.view([1]))
        };
        let nothings: Vec<Tensor> = leaves.iter().map(nothing).collect::<Result<_>>()?;
        Tensor::f_cat(&nothings, 0)?.f_sum(Kind::Float)?.f_backward()?;
        no_grad(|| {
            for (tensor, leaf) in layout.tensors().iter().zip(&leaves) {
                let (_, gradient, range) = place(tensor);
                leaf.grad().set_data(&half_open(gradient, range).view_as(leaf));
            }
        });
        let named: BTreeMap<&str, &Tensor> =
            layout.tensors().iter().map(|t| t.name.as_str()).zip(&leaves).collect();
        let get = |name: String| named.get(name.as_str()).map(|leaf| leaf.shallow_clone());
        let must = |name: String| get(name).expect("the layout holds every tensor of the shape");
        let linear = |name: String| Linear {
            weight: must(format!("{name}.weight")),
            bias: get(format!("{name}.bias")),
        };
        let norm = |name: String| Norm {
            of: shape.norm,
            weight: get(format!("{name}.weight")),
            bias: get(format!("{name}.bias")),
        };
        let blocks = (0..shape.n_layers)
            .map(|i| Block {
                ln_1: norm(format!("h.{i}.ln_1")),
                qkv: linear(format!("h.{i}.attn.qkv")),
                qk_norms: shape
                    .attention
                    .qk_norm
                    .then(|| ["q", "k"].map(|of| norm(format!("h.{i}.attn.{of}_norm")))),
                attn_proj: linear(format!("h.{i}.attn.proj")),
                ln_2: norm(format!("h.{i}.ln_2")),
                fc: linear(format!("h.{i}.mlp.fc")),
                mlp_proj: linear(format!("h.{i}.mlp.proj")),
            })
            .collect();
        let places = match shape.positions {
            Positions::Learned => Places::Learned(must("wpe".into())),
            Positions::Rotary => Places::Rotary(Rotation::new(&shape, device)?),
        };
        let (wte, ln_f) = (must("wte".into()), norm("ln_f".into()));
        let of_head = layout.tensors().iter().find(|tensor| tensor.name == "head.weight");
        let of_head = of_head.unwrap_or(&layout.tensors()[0]);
        let head = view(half.as_ref().map_or(&theta, |half| &half.theta), of_head);
        let head_gradient = view(&gradient, of_head);
        Ok(Self {
            shape,
            layout,
            theta,
            gradient,
            leaves,
            wte,
            places,
            blocks,
            ln_f,
            half,
            recompute: false,
            head,
            head_gradient,
        })
    }

    /// The precision of its matrix products.
    pub fn precision(&self) -> Precision {
        match self.half {
            None => Precision::F32,
            Some(_) => Precision::Bf16,
        }
    }

    /// The architecture.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Where each tensor lies in the flat buffers.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// θ: the flat buffer of parameters, f32 of `[buffer_len]`.
    pub fn theta(&self) -> &Tensor {
        &self.theta
    }

    /// The flat buffer of gradients, f32 of `[buffer_len]`.
    pub fn gradient(&self) -> &Tensor {
        &self.gradient
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.theta.device()
    }

    /// The residual stream after the last normalisation, `[batch, time, d]`, for tokens
    /// `[batch, time]` of i64.
    ///
    /// # Errors
    /// If libtorch refuses.
    #[doc(hidden)]
    pub fn hidden(&self, tokens: &Tensor) -> Result<Tensor> {
        self.round()?;
        let embedded = self.embed(tokens)?;
        let last = self.blocks.iter().try_fold(embedded, |x, block| self.block(block, &x))?;
        self.ln_f.forward(&last)
    }

    /// Takes θ as it is now for products in bf16.
    fn round(&self) -> Result<()> {
        self.half.as_ref().map_or(Ok(()), |half| half.round(&self.theta))
    }

    /// The residual stream before the first block.
    fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        let mut x = Tensor::f_embedding(&self.wte, tokens, -1, false, false)?;
        if let Places::Learned(wpe) = &self.places {
            let _ = x.f_add_(&wpe.narrow(0, 0, tokens.size()[1]))?;
        }
        Ok(x)
    }

    /// The residual stream after a block, `[batch, time, d]`, from that before it.
    fn block(&self, block: &Block, x: &Tensor) -> Result<Tensor> {
        let attention = |x: &Tensor| block.attn_proj.forward(&self.attention(block, x)?);
        let mlp = |x: &Tensor| block.mlp_proj.forward(&self.activation(&block.fc.forward(x)?)?);
        if self.shape.residual == Residual::NormAfter {
            let added = attention(x)?.f_to_kind(Kind::Float)?;
            let after = x.f_add(&block.ln_1.forward(&added)?)?;
            let added = mlp(&after)?.f_to_kind(Kind::Float)?;
            return Ok(after.f_add(&block.ln_2.forward(&added)?)?);
        }
        let after = x.f_add(&attention(&block.ln_1.forward(x)?)?)?;
        let given = if self.shape.residual == Residual::Parallel { x } else { &after };
        Ok(after.f_add(&mlp(&block.ln_2.forward(given)?)?)?)
    }

    /// What attention makes of tokens `[batch, time, d]`: `[batch, time, h·w]`.
    fn attention(&self, block: &Block, x: &Tensor) -> Result<Tensor> {
        let (batch, time) = (x.size()[0], x.size()[1]);
        let (heads, kv_heads) = (self.shape.n_heads as i64, self.shape.n_kv_heads() as i64);
        let width = self.shape.head_width() as i64;
        let Attention { clip_qkv, qk_norm_of_all_heads, .. } = self.shape.attention;
        let mut qkv = block.qkv.forward(x)?;
        if let Some(clip) = clip_qkv {
            qkv = qkv.f_clamp(-clip, clip)?;
        }
        let by_head = |x: &Tensor| x.view([batch, time, -1, width]).transpose(1, 2);
        let sizes = [heads * width, kv_heads * width, kv_heads * width];
        let qkv = qkv.split_with_sizes(sizes, 2);
        let placed = |i: usize| -> Result<Tensor> {
            let norm = |x: &Tensor| -> Result<Tensor> {
                match &block.qk_norms {
                    Some(norms) => Ok(norms[i].forward(x)?.f_to_kind(x.kind())?),
                    None => Ok(x.shallow_clone()),
                }
            };
            let normalised = if qk_norm_of_all_heads {
                by_head(&norm(&qkv[i])?)
            } else {
                norm(&by_head(&qkv[i]))?
            };
            match &self.places {
                Places::Learned(_) => Ok(normalised),
                Places::Rotary(rotation) => rotation.turn(&normalised),
            }
        };
        let (q, k, v) = (placed(0)?, placed(1)?, by_head(&qkv[2]));
        // Each head of keys and values serves equally many of queries.
        let shared = |x: &Tensor| match heads / kv_heads {
            1 => Ok(x.shallow_clone()),
            queries => x.f_repeat_interleave_self_int(queries, 1, None),
        };
        let attended = Tensor::f_scaled_dot_product_attention::<&Tensor>(
            &q,
            &shared(&k)?,
            &shared(&v)?,
            None,
            0.0,
            true,
            None,
            false,
        )?;
        Ok(attended.transpose(1, 2).f_reshape([batch, time, heads * width])?)
    }

    /// The hidden layer of an MLP from what its first map gave.
    fn activation(&self, given: &Tensor) -> Result<Tensor> {
        Ok(match self.shape.mlp.activation {
            Activation::GeluTanh => given.f_gelu("tanh")?,
            Activation::Gelu => given.f_gelu("none")?,
            Activation::Swiglu => {
                let halves = given.chunk(2, -1);
                halves[0].f_silu()?.f_mul(&halves[1])?
            }
        })
    }

    /// Logits `[batch, time, vocab]` for tokens `[batch, time]` of i64.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn logits(&self, tokens: &Tensor) -> Result<Tensor> {
        no_grad(|| self.head_logits(&self.hidden(tokens)?))
    }

    /// Logits in f32 for hidden states `[…, d]`.
    fn head_logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let hidden = hidden.f_to_kind(self.head.kind())?;
        Ok(hidden.f_linear::<&Tensor>(&self.head, None)?.f_to_kind(Kind::Float)?)
    }

    /// The sum over positions of the cross-entropy, a scalar in nats, for inputs and targets
    /// `[batch, time]` of i64.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn loss_sum(&self, inputs: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let targets = targets.f_reshape([-1])?;
        no_grad(|| {
            let hidden = self.hidden(inputs)?.view([-1, self.shape.d_model as i64]);
            let mut sum = Tensor::f_zeros([], (Kind::Double, self.device()))?;
            for rows in self.row_chunks(targets.numel() as i64) {
                let log_probs = self.log_probs_at(&hidden, &targets, rows)?;
                let _ = sum.f_sub_(&log_probs.f_sum(Kind::Double)?)?;
            }
            Ok(sum)
        })
    }

    /// Logits of the token after a window of up to T tokens, `vocab` of them.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn next_logits(&self, window: &[u32]) -> Result<Vec<f32>> {
        let tokens: Vec<i64> = window.iter().map(|&token| i64::from(token)).collect();
        let tokens = Tensor::f_from_slice(&tokens)?.view([1, -1]).f_to_device(self.device())?;
        no_grad(|| {
            let hidden = self.hidden(&tokens)?;
            let last = hidden.i((0, hidden.size()[1] - 1));
            to_f32(&self.head_logits(&last.view([1, -1]))?.view([-1]))
        })
    }

    /// The cross-entropy at each position, in nats, `[batch, time]`, for inputs and targets
    /// `[batch, time]` of i64.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn token_losses(&self, inputs: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let flat = targets.f_reshape([-1])?;
        no_grad(|| {
            let hidden = self.hidden(inputs)?.view([-1, self.shape.d_model as i64]);
            let losses = |rows| -> Result<Tensor> {
                let log_probs = self.log_probs_at(&hidden, &flat, rows)?;
                Ok(log_probs.squeeze_dim(1).f_neg()?)
            };
            let chunks: Result<Vec<Tensor>> =
                self.row_chunks(flat.numel() as i64).map(losses).collect();
            Ok(Tensor::f_cat(&chunks?, 0)?.view_as(targets))
        })
    }

    /// The logarithms of the targets' probabilities, `[n, 1]`, in n rows of hidden states `[·, d]`
    /// and targets `[·]`.
    fn log_probs_at(&self, hidden: &Tensor, targets: &Tensor, rows: Range<i64>) -> Result<Tensor> {
        let logits = self.head_logits(&hidden.i(rows.clone()))?;
        let log_probs = logits.f_log_softmax(-1, None)?;
        Ok(log_probs.f_gather(1, &targets.i(rows).unsqueeze(1), false)?)
    }

    /// Adds the gradient of a loss to the flat gradient, and returns the loss, a scalar in nats on
    /// the device: the cross-entropy of `targets` given `inputs`, both `[batch, time]` of i64,
    /// summed over all positions and divided by `positions`. If `positions` counts those of a whole
    /// step, on all ranks, then the gradients of its micro-batches add up to the gradient of the
    /// step's mean. Reading the loss waits for the device; not reading it does not.
    ///
    /// The tied head and its cross-entropy are differentiated by hand: the chain of autograd would
    /// pass over `[batch · time, vocab]` more often, and keep more of it.
    ///
    /// # Errors
    /// If libtorch refuses; the flat gradient then has no meaning.
    pub fn accumulate_gradient(
        &mut self,
        inputs: &Tensor,
        targets: &Tensor,
        positions: u64,
    ) -> Result<Tensor> {
        self.accumulate_masked_gradient(inputs, targets, None, positions)
    }

    /// [`accumulate_gradient`](Self::accumulate_gradient) of the targets that count: `counted` is 1
    /// where one does and else 0, f32 of `[batch, time]`; None: 1 everywhere. `positions` are those
    /// of a whole step that count.
    ///
    /// # Errors
    /// As [`accumulate_gradient`](Self::accumulate_gradient).
    pub fn accumulate_masked_gradient(
        &mut self,
        inputs: &Tensor,
        targets: &Tensor,
        counted: Option<&Tensor>,
        positions: u64,
    ) -> Result<Tensor> {
        let targets = targets.f_reshape([-1, 1])?;
        let counted = counted.map(|counted| counted.f_reshape([-1, 1])).transpose()?;
        let positions = positions as f64;
        let scale = 1.0 / positions;
        let (hidden, mut streams) = if self.recompute {
            self.round()?;
            let mut streams = no_grad(|| self.streams(inputs))?;
            let last = streams.last_mut().expect("there is one before the first block");
            *last = last.set_requires_grad(true);
            (self.ln_f.forward(last)?, streams)
        } else {
            (self.hidden(inputs)?, Vec::new())
        };
        let hidden = hidden.view([-1, self.shape.d_model as i64]);
        let (loss, d_hidden) =
            no_grad(|| self.head_backward(&hidden.detach(), &targets, counted.as_ref(), scale))?;
        backward(hidden, d_hidden)?;
        if let Some(last) = streams.pop() {
            self.blocks_backward(inputs, streams, last.grad())?;
        }
        if let Some(half) = &mut self.half {
            half.hand_over(&self.gradient)?;
        }
        Ok(loss.f_div_scalar(positions)?)
    }

    /// The residual stream before each block and after the last, `[batch, time, d]` each.
    fn streams(&self, tokens: &Tensor) -> Result<Vec<Tensor>> {
        let mut streams = vec![self.embed(tokens)?];
        for (i, block) in self.blocks.iter().enumerate() {
            streams.push(self.block(block, &streams[i])?);
        }
        Ok(streams)
    }

    /// The backward of the blocks, each of which is computed again from the stream before it, and of the
    /// embedding, given the gradient of the stream after the last.
    fn blocks_backward(
        &self,
        tokens: &Tensor,
        streams: Vec<Tensor>,
        mut gradient: Tensor,
    ) -> Result<()> {
        for (block, stream) in self.blocks.iter().zip(streams).rev() {
            let stream = stream.set_requires_grad(true);
            backward(self.block(block, &stream)?, gradient)?;
            gradient = stream.grad();
        }
        backward(self.embed(tokens)?, gradient)
    }

    /// The head alone, for hidden states h `[n, d]`, targets `[n, 1]` and 1 where one counts and else
    /// 0, `[n, 1]`: the sum of the cross-entropies that count, and its gradient for h times `scale`,
    /// `[n, d]`. The gradient of the head's weight W, times `scale`, is added to the flat gradient.
    ///
    /// With logits z = h·Wᵀ, e = exp(z − max z) and s = Σ e in each row, the gradient for z is
    /// e / s less one at the target. Dividing the rows of h and of the product by s, in place of
    /// those of e, saves a pass over `[n, vocab]`. In bf16 the three products alone are; their sum
    /// over chunks is in f32.
    fn head_backward(
        &mut self,
        hidden: &Tensor,
        targets: &Tensor,
        counted: Option<&Tensor>,
        scale: f64,
    ) -> Result<(Tensor, Tensor)> {
        let mut head_gradient = self.head_gradient.shallow_clone();
        let kind = self.head.kind();
        let d_hidden = hidden.f_empty_like()?;
        let mut loss = Tensor::f_zeros([], (Kind::Float, self.device()))?;
        for rows in self.row_chunks(targets.numel() as i64) {
            let (hidden, targets) = (hidden.i(rows.clone()), targets.i(rows.clone()));
            let counted = counted.map(|counted| counted.i(rows.clone()));
            let masked = |x: Tensor| match &counted {
                Some(counted) => x.f_mul(counted),
                None => Ok(x),
            };
            let logits = hidden.f_to_kind(kind)?.f_matmul(&self.head.tr())?;
            let mut z = logits.f_to_kind(Kind::Float)?;
            drop(logits);
            let at_target = z.f_gather(1, &targets, false)?;
            let max = z.f_amax([1], true)?;
            let _ = z.f_sub_(&max)?.f_exp_()?;
            let sum = z.f_sum_dim_intlist(1, true, Kind::Float)?;
            let losses = masked(sum.f_log()?.f_add(&max)?.f_sub(&at_target)?)?;
            let _ = loss.f_add_(&losses.f_sum(Kind::Float)?)?;
            let _ = z.f_scatter_add_(1, &targets, &sum.f_neg()?)?;
            let weight = masked(sum.f_div_scalar(scale)?.f_pow_tensor_scalar(-1)?)?;
            let z = z.f_to_kind(kind)?;
            d_hidden.i(rows).f_copy_(&z.f_matmul(&self.head)?.f_mul(&weight)?)?;
            let weighted = hidden.f_mul(&weight)?;
            let _ = match kind {
                Kind::Float => head_gradient.f_addmm_(&z.tr(), &weighted)?,
                _ => head_gradient.f_add_(&z.tr().f_matmul(&weighted.f_to_kind(kind)?)?)?,
            };
        }
        Ok((loss, d_hidden))
    }

    /// Where each leaf's gradient lies, in the order of the layout: for tests that they are the flat
    /// buffer.
    #[doc(hidden)]
    pub fn gradient_pointers(&self) -> Vec<*mut std::ffi::c_void> {
        self.leaves.iter().map(|leaf| leaf.grad().data_ptr()).collect()
    }

    /// Sets the flat gradient to zero.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn zero_gradient(&mut self) -> Result<()> {
        let _ = self.gradient.f_zero_()?;
        Ok(())
    }

    fn row_chunks(&self, rows: i64) -> impl Iterator<Item = Range<i64>> + use<> {
        let size = torch_logit_tokens(self.shape.vocab, self.device().is_cuda()) as i64;
        (0..rows).step_by(size as usize).map(move |start| start..(start + size).min(rows))
    }
}
