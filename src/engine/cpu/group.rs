//! The blocks of the model, over a group of sequences whose tokens follow one another as rows.

use super::aligned::Aligned;
use super::layers::{
    Norm, Normalised, add, bias_gradient, gelu_backward, gelu_forward, norm_backward, norm_forward,
    norm_weight_gradient,
};
use super::linear::{Into, Linear, Place};
use super::simd::Simd;
use super::{attention, head};
use crate::data::sequences::Window;
use crate::model::{Layout, Positions, Shape};
use std::ops::Range;

/// What all threads read.
#[derive(Debug)]
pub(super) struct Model {
    pub shape: Shape,
    pub layout: Layout,
    pub simd: Simd,
    pub theta: Aligned,
    /// The embedding of tokens, which is the head's weight too.
    pub head: Linear,
    places: Places,
    pub blocks: Vec<Block>,
    ln_f: Place,
}

/// What tells the places of a sequence apart.
#[derive(Debug)]
enum Places {
    /// Where the vectors `[context, d]` lie.
    Learned(Range<usize>),
    /// Cosines and sines of each place's angles, `[context, half a head's width]`.
    Rotary { cos: Vec<f32>, sin: Vec<f32> },
}

#[derive(Debug)]
pub(super) struct Block {
    ln_1: Place,
    pub qkv: Linear,
    pub attn_proj: Linear,
    ln_2: Place,
    pub fc: Linear,
    pub mlp_proj: Linear,
}

impl Model {
    pub fn new(shape: Shape, simd: Simd) -> Self {
        let layout = shape.layout();
        let find = |name: String| {
            layout.tensors().iter().find(|tensor| tensor.name == name).map(|tensor| tensor.range())
        };
        let place = |name: String| Place {
            weight: find(format!("{name}.weight")).expect("the layout holds every tensor"),
            bias: find(format!("{name}.bias")),
        };
        let d = shape.d_model;
        let blocks = (0..shape.n_layers)
            .map(|i| Block {
                ln_1: place(format!("h.{i}.ln_1")),
                qkv: Linear::new(place(format!("h.{i}.attn.qkv")), d, 3 * d),
                attn_proj: Linear::new(place(format!("h.{i}.attn.proj")), d, d),
                ln_2: place(format!("h.{i}.ln_2")),
                fc: Linear::new(place(format!("h.{i}.mlp.fc")), d, 4 * d),
                mlp_proj: Linear::new(place(format!("h.{i}.mlp.proj")), 4 * d, d),
            })
            .collect();
        let wte = find("wte".into()).expect("the layout holds every tensor");
        let head = Linear::new(Place { weight: wte, bias: None }, d, shape.vocab);
        let places = match shape.positions {
            Positions::Learned => {
                Places::Learned(find("wpe".into()).expect("the layout holds every tensor"))
            }
            Positions::Rotary => rotary(&shape),
        };
        let (ln_f, theta) = (place("ln_f".into()), Aligned::zeros(layout.buffer_len()));
        let mut model = Self { shape, layout, simd, theta, head, places, blocks, ln_f };
        model.pack(Linear::pack_for_forward);
        model
    }

    /// Packs every linear map's weight.
    pub fn pack(&mut self, pack: fn(&mut Linear, Simd, &[f32])) {
        pack(&mut self.head, self.simd, &self.theta);
        for block in &mut self.blocks {
            let Block { qkv, attn_proj, fc, mlp_proj, .. } = block;
            for linear in [qkv, attn_proj, fc, mlp_proj] {
                pack(linear, self.simd, &self.theta);
            }
        }
    }

    fn norm(&self, place: &Place) -> Norm<'_> {
        let bias = place.bias.clone().map(|range| &self.theta[range]);
        Norm { weight: &self.theta[place.weight.clone()], bias }
    }

    /// The vector of a token at a place.
    fn embed(&self, token: u32, place: usize, x: &mut [f32]) {
        let d = self.shape.d_model;
        assert!((token as usize) < self.shape.vocab, "token {token} is outside the vocabulary");
        x.copy_from_slice(&self.theta[self.head.place.weight.start + token as usize * d..][..d]);
        if let Places::Learned(wpe) = &self.places {
            add(x, &self.theta[wpe.start + place * d..][..d]);
        }
    }

    /// Adds dx to the gradient of the token's vector and of the place's.
    pub fn embed_backward(&self, token: u32, place: usize, dx: &[f32], gradient: &mut [f32]) {
        let d = self.shape.d_model;
        add(&mut gradient[self.head.place.weight.start + token as usize * d..][..d], dx);
        if let Places::Learned(wpe) = &self.places {
            add(&mut gradient[wpe.start + place * d..][..d], dx);
        }
    }
}

impl Model {
    /// Every sequence's rows and head, and where among `[heads, n]` that head's queries are.
    fn heads(
        &self,
        spans: &[Range<usize>],
        n: usize,
    ) -> impl Iterator<Item = (Range<usize>, attention::Head, Range<usize>)> {
        let Shape { d_model: d, n_heads, .. } = self.shape;
        let width = d / n_heads;
        spans.iter().flat_map(move |span| {
            (0..n_heads).map(move |head| {
                let kept = head * n + span.start..head * n + span.end;
                (span.clone(), attention::Head { d, width, start: head * width }, kept)
            })
        })
    }

    /// Turns queries and keys by the angles of their places, times `direction`, where positions are
    /// rotary: (a, b) becomes (a·cos − b·sin, b·cos + a·sin), and −1 turns gradients back.
    fn rotate(&self, spans: &[Range<usize>], qkv: &mut [f32], direction: f32) {
        let Places::Rotary { cos, sin } = &self.places else { return };
        let d = self.shape.d_model;
        let width = d / self.shape.n_heads;
        for span in spans {
            let tokens = qkv[3 * d * span.start..3 * d * span.end].chunks_exact_mut(3 * d);
            let angles = cos.chunks_exact(width / 2).zip(sin.chunks_exact(width / 2));
            for (token, (cos, sin)) in tokens.zip(angles) {
                for head in token[..2 * d].chunks_exact_mut(width) {
                    let (a, b) = head.split_at_mut(width / 2);
                    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                        let sin = direction * sin;
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            }
        }
    }
}

/// Angles of place · 10000^(−2i/w), as [`Positions::Rotary`] says.
fn rotary(shape: &Shape) -> Places {
    const BASE: f64 = 10_000.0;
    let width = shape.d_model / shape.n_heads;
    let angle =
        |place: usize, i: usize| place as f64 * libm::pow(BASE, -2.0 * i as f64 / width as f64);
    let table = |function: fn(f64) -> f64| {
        let row = |place| (0..width / 2).map(move |i| function(angle(place, i)) as f32);
        (0..shape.context).flat_map(row).collect()
    };
    Places::Rotary { cos: table(libm::cos), sin: table(libm::sin) }
}

/// What a block keeps of its forward for its backward; rows are tokens.
#[derive(Debug, Default)]
struct Activations {
    ln_1: Normalised,
    /// `[n, 3·d]`.
    qkv: Aligned,
    /// Of the scores of each head's queries, `[heads, n]`.
    max: Aligned,
    sum: Aligned,
    /// `[n, d]`.
    attended: Aligned,
    ln_2: Normalised,
    /// fc's output through the GELU, and the GELU's slope there: `[n, 4·d]`.
    hidden: Aligned,
    slope: Aligned,
}

/// The gradients of what a block's layers give; rows are tokens.
#[derive(Debug, Default)]
struct Gradients {
    /// Of the residual stream after the block, between its halves, and before it.
    after: Aligned,
    between: Aligned,
    before: Aligned,
    ln_1: Aligned,
    qkv: Aligned,
    attended: Aligned,
    ln_2: Aligned,
    hidden: Aligned,
}

/// Some sequences of a step, and the buffers of a thread.
#[derive(Debug, Default)]
pub(super) struct Group {
    targets: Vec<u32>,
    /// Whether each target counts.
    counted: Vec<bool>,
    /// Each sequence's rows.
    spans: Vec<Range<usize>>,
    /// The residual stream, `[n, d]`.
    x: Aligned,
    activations: Vec<Activations>,
    ln_f: Normalised,
    /// Of the last normalisation's output.
    d_ln_f: Aligned,
    gradients: Gradients,
    logits: Aligned,
    scratch: attention::Scratch,
}

impl Group {
    /// Takes sequences, and embeds their tokens.
    pub fn load(&mut self, model: &Model, rows: &[Window<'_>]) {
        let n: u64 = rows.iter().map(Window::targets).sum();
        self.targets.clear();
        self.counted.clear();
        self.spans.clear();
        self.x.resize(n as usize * model.shape.d_model, 0.0);
        let mut xs = self.x.chunks_exact_mut(model.shape.d_model);
        for row in rows {
            let start = self.targets.len();
            let (_, inputs) = row.tokens.split_last().expect("a window has a target");
            assert!(inputs.len() <= model.shape.context, "a window is longer than the context");
            for (place, (&token, x)) in inputs.iter().zip(&mut xs).enumerate() {
                model.embed(token, place, x);
            }
            self.targets.extend_from_slice(&row.tokens[1..]);
            match &row.counted {
                Some(counted) => self.counted.extend_from_slice(counted),
                None => self.counted.resize(self.targets.len(), true),
            }
            self.spans.push(start..self.targets.len());
        }
    }

    /// The hidden states after the last normalisation. Where nothing is kept for a backward, all blocks
    /// share their buffers.
    pub fn forward(&mut self, model: &Model, keep: bool) -> &[f32] {
        let kept = if keep { model.blocks.len() } else { 1 };
        self.activations.resize_with(kept.max(self.activations.len()), Activations::default);
        for (layer, block) in model.blocks.iter().enumerate() {
            let a = &mut self.activations[if keep { layer } else { 0 }];
            block.forward(model, &self.spans, &mut self.x, a, &mut self.scratch);
        }
        norm_forward(model.simd, model.norm(&model.ln_f), &self.x, &mut self.ln_f);
        &self.ln_f.out
    }

    /// The cross-entropies of the targets, in nats.
    pub fn losses(&mut self, model: &Model) -> Vec<f64> {
        let mut losses = vec![0.0; self.targets.len()];
        let (hidden, targets) = (&self.ln_f.out, &self.targets);
        head::forward(model.simd, &model.head, hidden, targets, &mut losses, &mut self.logits);
        losses
    }

    /// Adds the cross-entropies that count to `loss`, in nats; their gradient times `scale` goes back
    /// through the head.
    pub fn head_backward(&mut self, model: &Model, scale: f32, loss: &mut f64, into: Into<'_>) {
        let mut losses = vec![0.0; self.targets.len()];
        let weight = |&counts: &bool| if counts { scale } else { 0.0 };
        let mut weights: Vec<f32> = self.counted.iter().map(weight).collect();
        self.d_ln_f.resize(self.x.len(), 0.0);
        let tokens = head::Tokens {
            hidden: &self.ln_f.out,
            targets: &self.targets,
            losses: &mut losses,
            weights: &mut weights,
            d_hidden: &mut self.d_ln_f,
        };
        head::forward_and_backward(model.simd, &model.head, tokens, &mut self.logits, into);
        let counted = self.counted.iter().zip(losses).filter(|(counts, _)| **counts);
        counted.for_each(|(_, token)| *loss += token);
    }

    /// The gradient goes back through the last normalisation.
    pub fn ln_f_backward(&mut self, model: &Model) {
        let before = &mut self.gradients.before;
        before.clear();
        before.resize(self.x.len(), 0.0);
        let weight = model.norm(&model.ln_f).weight;
        norm_backward(model.simd, weight, &self.ln_f, &self.d_ln_f, before);
    }

    /// And through a block.
    pub fn block_backward(&mut self, model: &Model, layer: usize) {
        let (g, a) = (&mut self.gradients, &self.activations[layer]);
        std::mem::swap(&mut g.after, &mut g.before);
        model.blocks[layer].backward(model, &self.spans, a, g, &mut self.scratch);
    }

    /// Adds to the gradient of the last normalisation's parameters.
    pub fn ln_f_gradient(&self, model: &Model, gradient: &mut [f32]) {
        norm_gradient(model.simd, &model.ln_f, &self.ln_f, &self.d_ln_f, gradient);
    }

    /// And to that of a block's, after its backward.
    pub fn block_gradient(&self, model: &Model, layer: usize, mut into: Into<'_>) {
        let (simd, block) = (model.simd, &model.blocks[layer]);
        let (g, a) = (&self.gradients, &self.activations[layer]);
        for (linear, dy, x) in [
            (&block.mlp_proj, &g.after, &a.hidden),
            (&block.fc, &g.hidden, &a.ln_2.out),
            (&block.attn_proj, &g.between, &a.attended),
            (&block.qkv, &g.qkv, &a.ln_1.out),
        ] {
            linear.weight_gradient(simd, dy, x, into.reborrow());
        }
        norm_gradient(simd, &block.ln_2, &a.ln_2, &g.ln_2, into.gradient);
        norm_gradient(simd, &block.ln_1, &a.ln_1, &g.ln_1, into.gradient);
    }

    /// The gradient of the embedded tokens, after the first block's backward.
    pub fn d_embedded(&self) -> &[f32] {
        &self.gradients.before
    }
}

impl Block {
    /// x ← x + attn_proj(attention(qkv(ln_1 x))), then x ← x + mlp_proj(GELU(fc(ln_2 x))).
    fn forward(
        &self,
        model: &Model,
        spans: &[Range<usize>],
        x: &mut [f32],
        a: &mut Activations,
        scratch: &mut attention::Scratch,
    ) {
        let (simd, theta) = (model.simd, &model.theta[..]);
        norm_forward(simd, model.norm(&self.ln_1), x, &mut a.ln_1);
        a.qkv.resize(3 * x.len(), 0.0);
        self.qkv.forward(simd, theta, &a.ln_1.out, &mut a.qkv);
        model.rotate(spans, &mut a.qkv, 1.0);
        a.attended.resize(x.len(), 0.0);
        let per_head = x.len() / model.shape.d_model;
        a.max.resize(per_head * model.shape.n_heads, 0.0);
        a.sum.resize(per_head * model.shape.n_heads, 0.0);
        for (span, head, kept) in model.heads(spans, per_head) {
            let d = model.shape.d_model;
            attention::forward(
                simd,
                head,
                &a.qkv[3 * d * span.start..3 * d * span.end],
                &mut a.attended[d * span.start..d * span.end],
                (&mut a.max[kept.clone()], &mut a.sum[kept]),
                scratch,
            );
        }
        self.attn_proj.forward_add(simd, theta, &a.attended, x);

        norm_forward(simd, model.norm(&self.ln_2), x, &mut a.ln_2);
        a.hidden.resize(4 * x.len(), 0.0);
        a.slope.resize(4 * x.len(), 0.0);
        self.fc.forward(simd, theta, &a.ln_2.out, &mut a.hidden);
        gelu_forward(simd, &mut a.hidden, &mut a.slope);
        self.mlp_proj.forward_add(simd, theta, &a.hidden, x);
    }

    /// From the gradient after the block that before it, and those of all between.
    fn backward(
        &self,
        model: &Model,
        spans: &[Range<usize>],
        a: &Activations,
        g: &mut Gradients,
        scratch: &mut attention::Scratch,
    ) {
        let simd = model.simd;
        let n_d = g.after.len();
        g.hidden.resize(4 * n_d, 0.0);
        self.mlp_proj.backward(simd, &g.after, &mut g.hidden);
        gelu_backward(simd, &a.slope, &mut g.hidden);
        g.ln_2.resize(n_d, 0.0);
        self.fc.backward(simd, &g.hidden, &mut g.ln_2);
        g.between.clone_from(&g.after);
        norm_backward(simd, model.norm(&self.ln_2).weight, &a.ln_2, &g.ln_2, &mut g.between);

        g.attended.resize(n_d, 0.0);
        self.attn_proj.backward(simd, &g.between, &mut g.attended);
        g.qkv.clear();
        g.qkv.resize(3 * n_d, 0.0);
        let d = model.shape.d_model;
        for (span, head, kept) in model.heads(spans, n_d / d) {
            let rows = d * span.start..d * span.end;
            let qkv = 3 * rows.start..3 * rows.end;
            attention::backward(
                simd,
                head,
                &a.qkv[qkv.clone()],
                (&a.max[kept.clone()], &a.sum[kept]),
                &g.attended[rows],
                &mut g.qkv[qkv],
                scratch,
            );
        }
        model.rotate(spans, &mut g.qkv, -1.0);
        g.ln_1.resize(n_d, 0.0);
        self.qkv.backward(simd, &g.qkv, &mut g.ln_1);
        g.before.clone_from(&g.between);
        norm_backward(simd, model.norm(&self.ln_1).weight, &a.ln_1, &g.ln_1, &mut g.before);
    }
}

/// dγ += Σ dy·x̂ and dβ += Σ dy.
fn norm_gradient(simd: Simd, place: &Place, kept: &Normalised, dy: &[f32], gradient: &mut [f32]) {
    norm_weight_gradient(simd, &kept.hat, dy, &mut gradient[place.weight.clone()]);
    if let Some(range) = place.bias.clone() {
        bias_gradient(simd, dy, &mut gradient[range]);
    }
}
