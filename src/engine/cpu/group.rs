//! The blocks of the model, over a group of sequences whose tokens follow one another as rows.

use super::aligned::Aligned;
use super::layers::{
    Norm, Normalised, activate, activate_backward, add, bias_gradient, clip_backward, clip_forward,
    norm_backward, norm_forward, norm_weight_gradient,
};
use super::linear::{Into, Linear, Place};
use super::simd::Simd;
use super::{attention, head};
use crate::data::sequences::Window;
use crate::model::{Layout, NormKind, Positions, Residual, Shape};
use std::ops::Range;

#[cfg(test)]
mod tests;

/// What all threads read.
#[derive(Debug)]
pub(super) struct Model {
    pub shape: Shape,
    pub layout: Layout,
    pub simd: Simd,
    pub theta: Aligned,
    /// The embedding of tokens.
    wte: Range<usize>,
    /// Its weight may be the embedding.
    pub head: Linear,
    places: Places,
    pub blocks: Vec<Block>,
    ln_f: Place,
    /// The weights of normalisations that have none, `[d]`.
    ones: Vec<f32>,
}

/// What tells the places of a sequence apart.
#[derive(Debug)]
enum Places {
    /// Where the vectors `[context, d]` lie.
    Learned(Range<usize>),
    /// Cosines and sines of each place's angles, `[context, half the elements that turn]`.
    Rotary { cos: Vec<f32>, sin: Vec<f32>, half: usize },
}

#[derive(Debug)]
pub(super) struct Block {
    ln_1: Place,
    pub qkv: Linear,
    /// The normalisations of queries and of keys, where there are any.
    qk_norms: [Option<Place>; 2],
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
        // A normalisation may have no weight.
        let place = |name: String| Place {
            weight: find(format!("{name}.weight")).unwrap_or_default(),
            bias: find(format!("{name}.bias")),
        };
        let (d, d_ff) = (shape.d_model, shape.d_ff());
        let blocks = (0..shape.n_layers)
            .map(|i| Block {
                ln_1: place(format!("h.{i}.ln_1")),
                qkv: Linear::new(place(format!("h.{i}.attn.qkv")), d, shape.d_qkv()),
                qk_norms: ["q", "k"].map(|of| {
                    let name = format!("h.{i}.attn.{of}_norm");
                    shape.attention.qk_norm.then(|| place(name))
                }),
                attn_proj: Linear::new(place(format!("h.{i}.attn.proj")), shape.d_queries(), d),
                ln_2: place(format!("h.{i}.ln_2")),
                fc: Linear::new(place(format!("h.{i}.mlp.fc")), d, shape.d_fc()),
                mlp_proj: Linear::new(place(format!("h.{i}.mlp.proj")), d_ff, d),
            })
            .collect();
        let wte = find("wte".into()).expect("the layout holds every tensor");
        let head = find("head.weight".into()).unwrap_or(wte.clone());
        let head = Linear::new(Place { weight: head, bias: None }, d, shape.vocab);
        let places = match shape.positions {
            Positions::Learned => {
                Places::Learned(find("wpe".into()).expect("the layout holds every tensor"))
            }
            Positions::Rotary => rotary(&shape),
        };
        let (ln_f, theta) = (place("ln_f".into()), Aligned::zeros(layout.buffer_len()));
        let ones = vec![1.0; d];
        let mut model = Self { shape, layout, simd, theta, wte, head, places, blocks, ln_f, ones };
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
        let weight = &self.theta[place.weight.clone()];
        Norm {
            weight: if weight.is_empty() { &self.ones } else { weight },
            bias: place.bias.clone().map(|range| &self.theta[range]),
            epsilon: self.shape.norm.epsilon as f32,
            centred: self.shape.norm.kind != NormKind::Rms,
        }
    }

    /// The vector of a token at a place.
    fn embed(&self, token: u32, place: usize, x: &mut [f32]) {
        let d = self.shape.d_model;
        assert!((token as usize) < self.shape.vocab, "token {token} is outside the vocabulary");
        x.copy_from_slice(&self.theta[self.wte.start + token as usize * d..][..d]);
        if let Places::Learned(wpe) = &self.places {
            add(x, &self.theta[wpe.start + place * d..][..d]);
        }
    }

    /// Adds dx to the gradient of the token's vector and of the place's.
    pub fn embed_backward(&self, token: u32, place: usize, dx: &[f32], gradient: &mut [f32]) {
        let d = self.shape.d_model;
        add(&mut gradient[self.wte.start + token as usize * d..][..d], dx);
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
        let (heads, width) = (self.shape.n_heads, self.shape.head_width());
        let (stride, outputs) = (self.shape.d_qkv(), self.shape.d_queries());
        let (kv_heads, values) = (self.shape.n_kv_heads(), self.shape.d_queries_and_keys());
        spans.iter().flat_map(move |span| {
            (0..heads).map(move |head| {
                let kept = head * n + span.start..head * n + span.end;
                let shared = head / (heads / kv_heads) * width;
                let (query, key, value) = (head * width, outputs + shared, values + shared);
                let head = attention::Head { stride, outputs, width, query, key, value };
                (span.clone(), head, kept)
            })
        })
    }

    /// Turns queries and keys by the angles of their places, times `direction`, where positions are
    /// rotary: (a, b) becomes (a·cos − b·sin, b·cos + a·sin), and −1 turns gradients back.
    fn rotate(&self, spans: &[Range<usize>], qkv: &mut [f32], direction: f32) {
        let Places::Rotary { cos, sin, half } = &self.places else { return };
        let (stride, width) = (self.shape.d_qkv(), self.shape.head_width());
        let turned = self.shape.d_queries_and_keys();
        for span in spans {
            let tokens = qkv[stride * span.start..stride * span.end].chunks_exact_mut(stride);
            let angles = cos.chunks_exact(*half).zip(sin.chunks_exact(*half));
            for (token, (cos, sin)) in tokens.zip(angles) {
                for head in token[..turned].chunks_exact_mut(width) {
                    let (a, b) = head.split_at_mut(*half);
                    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                        let sin = direction * sin;
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            }
        }
    }

    /// Where among a token's queries, keys and values its queries and its keys lie.
    fn queries_and_keys(&self) -> [Range<usize>; 2] {
        let queries = self.shape.d_queries();
        [0..queries, queries..self.shape.d_queries_and_keys()]
    }
}

/// Angles of each place, as [`Rotary`](crate::model::Rotary) says.
fn rotary(shape: &Shape) -> Places {
    let rotary = shape.attention.rotary;
    let elements = rotary.elements(shape.head_width());
    let rates: Vec<f64> = (0..elements / 2).map(|i| rotary.rate(i, elements)).collect();
    let table = |function: fn(f64) -> f64| {
        let row = |place| rates.iter().map(move |rate| function(place as f64 * rate) as f32);
        (0..shape.context).flat_map(row).collect()
    };
    Places::Rotary { cos: table(libm::cos), sin: table(libm::sin), half: elements / 2 }
}

/// Some columns of rows of so many elements, one after another.
fn columns(rows: &[f32], stride: usize, columns: &Range<usize>) -> Vec<f32> {
    rows.chunks_exact(stride).flat_map(|row| &row[columns.clone()]).copied().collect()
}

/// Puts them back.
fn set_columns(rows: &mut [f32], stride: usize, columns: &Range<usize>, values: &[f32]) {
    let values = values.chunks_exact(columns.len());
    for (row, values) in rows.chunks_exact_mut(stride).zip(values) {
        row[columns.clone()].copy_from_slice(values);
    }
}

/// What a block keeps of its forward for its backward; rows are tokens.
#[derive(Debug, Default)]
struct Activations {
    ln_1: Normalised,
    /// What attention and the MLP were given, where that is not normalised.
    given: [Aligned; 2],
    /// `[n, d_qkv]`.
    qkv: Aligned,
    /// Where those are clipped: 1 for each that was within the limits, and else 0.
    unclipped: Aligned,
    /// The normalised queries, `[n·h, w]`, and keys.
    qk_norms: [Normalised; 2],
    /// Maximum and sum of exponentials of the scores of each head's queries, `[heads, n]`.
    max: Aligned,
    sum: Aligned,
    /// `[n, h·w]`.
    attended: Aligned,
    ln_2: Normalised,
    /// The hidden layer of the MLP, `[n, f]`, and its slopes for what fc gave, `[n, d_fc]`.
    hidden: Aligned,
    slopes: Aligned,
}

/// What a forward keeps of the blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kept {
    /// Nothing: there is no backward.
    Nothing,
    /// The input of each block.
    Inputs,
    /// The activations of each block.
    All,
}

/// The gradients of what a block's layers give; rows are tokens.
#[derive(Debug, Default)]
struct Gradients {
    /// The gradients of the residual stream after the block, between its halves, and before it.
    after: Aligned,
    between: Aligned,
    before: Aligned,
    ln_1: Aligned,
    qkv: Aligned,
    qk_norms: [Vec<f32>; 2],
    attended: Aligned,
    ln_2: Aligned,
    hidden: Aligned,
    fc: Aligned,
    /// Of what attention and the MLP give, where that is normalised.
    given: [Aligned; 2],
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
    /// What each block was given, where its forward is computed again.
    inputs: Vec<Aligned>,
    /// The activations of each block, or of one.
    activations: Vec<Activations>,
    ln_f: Normalised,
    /// The gradient of the last normalisation's output.
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

    /// The hidden states after the last normalisation. Blocks whose activations are not kept share their
    /// buffers.
    pub fn forward(&mut self, model: &Model, kept: Kept) -> &[f32] {
        let buffers = if kept == Kept::All { model.blocks.len() } else { 1 };
        self.activations.resize_with(buffers.max(self.activations.len()), Activations::default);
        let inputs = if kept == Kept::Inputs { model.blocks.len() } else { 0 };
        self.inputs.resize_with(inputs, Aligned::default);
        for (layer, block) in model.blocks.iter().enumerate() {
            if kept == Kept::Inputs {
                self.inputs[layer].clone_from(&self.x);
            }
            let a = &mut self.activations[if kept == Kept::All { layer } else { 0 }];
            block.forward(model, &self.spans, &mut self.x, a, &mut self.scratch);
        }
        norm_forward(model.simd, model.norm(&model.ln_f), &self.x, &mut self.ln_f);
        &self.ln_f.out
    }

    /// The cross-entropies of the targets, in nats.
    pub fn losses(&mut self, model: &Model) -> Vec<f64> {
        head::forward(model.simd, &model.head, &self.ln_f.out, &self.targets, &mut self.logits)
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

    /// Takes the gradient back through the last normalisation.
    pub fn ln_f_backward(&mut self, model: &Model) {
        let before = &mut self.gradients.before;
        before.clear();
        before.resize(self.x.len(), 0.0);
        norm_backward(model.simd, model.norm(&model.ln_f), &self.ln_f, &self.d_ln_f, before);
    }

    /// Takes the gradient back through a block.
    pub fn block_backward(&mut self, model: &Model, layer: usize) {
        let kept = self.activations_of(layer);
        let (g, a, block) =
            (&mut self.gradients, &mut self.activations[kept], &model.blocks[layer]);
        if let Some(input) = self.inputs.get(layer) {
            self.x.clone_from(input);
            block.forward(model, &self.spans, &mut self.x, a, &mut self.scratch);
        }
        std::mem::swap(&mut g.after, &mut g.before);
        block.backward(model, &self.spans, a, g, &mut self.scratch);
    }

    /// The index of a block's activations.
    fn activations_of(&self, layer: usize) -> usize {
        if self.inputs.is_empty() { layer } else { 0 }
    }

    /// Adds to the gradient of the parameters of the last normalisation.
    pub fn ln_f_gradient(&self, model: &Model, gradient: &mut [f32]) {
        norm_gradient(model.simd, &model.ln_f, &self.ln_f, &self.d_ln_f, gradient);
    }

    /// Adds to the gradient of the parameters of a block, after its backward pass.
    pub fn block_gradient(&self, model: &Model, layer: usize, mut into: Into<'_>) {
        let (simd, block) = (model.simd, &model.blocks[layer]);
        let (g, a) = (&self.gradients, &self.activations[self.activations_of(layer)]);
        let (of_attention, of_mlp) = match model.shape.residual {
            Residual::Sequential => (&g.between, &g.after),
            Residual::Parallel => (&g.after, &g.after),
            Residual::NormAfter => (&g.given[0], &g.given[1]),
        };
        let (to_attention, to_mlp, ln_1, ln_2) = match model.shape.residual {
            Residual::NormAfter => (&a.given[0], &a.given[1], &g.between, &g.after),
            _ => (&a.ln_1.out, &a.ln_2.out, &g.ln_1, &g.ln_2),
        };
        for (linear, dy, x) in [
            (&block.mlp_proj, of_mlp, &a.hidden),
            (&block.fc, &g.fc, to_mlp),
            (&block.attn_proj, of_attention, &a.attended),
            (&block.qkv, &g.qkv, to_attention),
        ] {
            linear.weight_gradient(simd, dy, x, into.reborrow());
        }
        norm_gradient(simd, &block.ln_2, &a.ln_2, ln_2, into.gradient);
        norm_gradient(simd, &block.ln_1, &a.ln_1, ln_1, into.gradient);
        let kept = a.qk_norms.iter().zip(&g.qk_norms);
        for (place, (kept, dy)) in block.qk_norms.iter().flatten().zip(kept) {
            norm_gradient(simd, place, kept, dy, into.gradient);
        }
    }

    /// The gradient of the embedded tokens, after the first block's backward.
    pub fn d_embedded(&self) -> &[f32] {
        &self.gradients.before
    }
}

impl Block {
    /// x ← x + attn_proj(attention(qkv(ln_1 x))), then x ← x + mlp_proj(activation(fc(ln_2 x))); in
    /// parallel, ln_2 is of x before either. With the normalisations after:
    /// x ← x + ln_1(attn_proj(attention(qkv x))), then x ← x + ln_2(mlp_proj(activation(fc x))).
    fn forward(
        &self,
        model: &Model,
        spans: &[Range<usize>],
        x: &mut [f32],
        a: &mut Activations,
        scratch: &mut attention::Scratch,
    ) {
        let (simd, theta, shape) = (model.simd, &model.theta[..], &model.shape);
        let n = x.len() / shape.d_model;
        let norm_after = shape.residual == Residual::NormAfter;
        a.qkv.resize(n * shape.d_qkv(), 0.0);
        if norm_after {
            a.given[0].copy(x);
            self.qkv.forward(simd, theta, x, &mut a.qkv);
        } else {
            norm_forward(simd, model.norm(&self.ln_1), x, &mut a.ln_1);
            self.qkv.forward(simd, theta, &a.ln_1.out, &mut a.qkv);
        }
        if let Some(clip) = shape.attention.clip_qkv {
            clip_forward(clip as f32, &mut a.qkv, &mut a.unclipped);
        }
        let norms = self.qk_norms.iter().flatten().zip(&mut a.qk_norms);
        for ((place, kept), of) in norms.zip(model.queries_and_keys()) {
            let heads = columns(&a.qkv, shape.d_qkv(), &of);
            norm_forward(simd, model.norm(place), &heads, kept);
            set_columns(&mut a.qkv, shape.d_qkv(), &of, &kept.out);
        }
        model.rotate(spans, &mut a.qkv, 1.0);
        a.attended.resize(n * shape.d_queries(), 0.0);
        a.max.resize(n * shape.n_heads, 0.0);
        a.sum.resize(n * shape.n_heads, 0.0);
        for (span, head, kept) in model.heads(spans, n) {
            let sequence = attention::Forward {
                qkv: &a.qkv[head.stride * span.start..head.stride * span.end],
                out: &mut a.attended[head.outputs * span.start..head.outputs * span.end],
                max: &mut a.max[kept.clone()],
                sum: &mut a.sum[kept],
            };
            attention::forward(simd, head, sequence, scratch);
        }
        if shape.residual == Residual::Parallel {
            norm_forward(simd, model.norm(&self.ln_2), x, &mut a.ln_2);
        }
        // x ← x + ln(linear(given)).
        let add_normalised = |linear: &Linear, ln, given: &[f32], kept: &mut _, x: &mut [f32]| {
            let mut out = vec![0.0; x.len()];
            linear.forward(simd, theta, given, &mut out);
            norm_forward(simd, model.norm(ln), &out, kept);
            add(x, &kept.out);
        };
        if norm_after {
            add_normalised(&self.attn_proj, &self.ln_1, &a.attended, &mut a.ln_1, x);
            a.given[1].copy(x);
        } else {
            self.attn_proj.forward_add(simd, theta, &a.attended, x);
        }
        if shape.residual == Residual::Sequential {
            norm_forward(simd, model.norm(&self.ln_2), x, &mut a.ln_2);
        }

        a.hidden.resize(n * shape.d_ff(), 0.0);
        a.slopes.resize(n * shape.d_fc(), 0.0);
        let given = if norm_after { &a.given[1] } else { &a.ln_2.out };
        self.fc.forward(simd, theta, given, &mut a.slopes);
        activate(simd, shape.mlp.activation, shape.d_ff(), &mut a.slopes, &mut a.hidden);
        if norm_after {
            add_normalised(&self.mlp_proj, &self.ln_2, &a.hidden, &mut a.ln_2, x);
        } else {
            self.mlp_proj.forward_add(simd, theta, &a.hidden, x);
        }
    }

    /// Computes the gradient before the block, and all gradients inside it, from the gradient after
    /// it.
    fn backward(
        &self,
        model: &Model,
        spans: &[Range<usize>],
        a: &Activations,
        g: &mut Gradients,
        scratch: &mut attention::Scratch,
    ) {
        let (simd, shape) = (model.simd, &model.shape);
        let n = g.after.len() / shape.d_model;
        let norm_after = shape.residual == Residual::NormAfter;
        // What goes back through a normalisation to what it was given.
        let through = |place: &Place, kept: &Normalised, dy: &[f32], dx: &mut Aligned| {
            dx.clear();
            dx.resize(dy.len(), 0.0);
            norm_backward(simd, model.norm(place), kept, dy, dx);
        };
        g.hidden.resize(n * shape.d_ff(), 0.0);
        if norm_after {
            through(&self.ln_2, &a.ln_2, &g.after, &mut g.given[1]);
        }
        let of_mlp = if norm_after { &g.given[1] } else { &g.after };
        self.mlp_proj.backward(simd, of_mlp, &mut g.hidden);
        g.fc.resize(n * shape.d_fc(), 0.0);
        activate_backward(simd, (shape.d_ff(), shape.d_fc()), &a.slopes, &g.hidden, &mut g.fc);
        g.ln_2.resize(g.after.len(), 0.0);
        self.fc.backward(simd, &g.fc, &mut g.ln_2);
        g.between.clone_from(&g.after);
        if norm_after {
            add(&mut g.between, &g.ln_2);
            through(&self.ln_1, &a.ln_1, &g.between, &mut g.given[0]);
        } else {
            norm_backward(simd, model.norm(&self.ln_2), &a.ln_2, &g.ln_2, &mut g.between);
        }

        g.attended.resize(n * shape.d_queries(), 0.0);
        let of_attention = match shape.residual {
            Residual::Sequential => &g.between,
            Residual::Parallel => &g.after,
            Residual::NormAfter => &g.given[0],
        };
        self.attn_proj.backward(simd, of_attention, &mut g.attended);
        g.qkv.clear();
        g.qkv.resize(n * shape.d_qkv(), 0.0);
        for (span, head, kept) in model.heads(spans, n) {
            let qkv = head.stride * span.start..head.stride * span.end;
            let sequence = attention::Backward {
                qkv: &a.qkv[qkv.clone()],
                max: &a.max[kept.clone()],
                sum: &a.sum[kept],
                d_out: &g.attended[head.outputs * span.start..head.outputs * span.end],
                d_qkv: &mut g.qkv[qkv],
            };
            attention::backward(simd, head, sequence, scratch);
        }
        model.rotate(spans, &mut g.qkv, -1.0);
        let norms = self.qk_norms.iter().flatten().zip(&a.qk_norms).zip(&mut g.qk_norms);
        for (((place, kept), dy), of) in norms.zip(model.queries_and_keys()) {
            *dy = columns(&g.qkv, shape.d_qkv(), &of);
            let mut dx = vec![0.0; dy.len()];
            norm_backward(simd, model.norm(place), kept, dy, &mut dx);
            set_columns(&mut g.qkv, shape.d_qkv(), &of, &dx);
        }
        if shape.attention.clip_qkv.is_some() {
            clip_backward(&a.unclipped, &mut g.qkv);
        }
        g.ln_1.resize(g.after.len(), 0.0);
        self.qkv.backward(simd, &g.qkv, &mut g.ln_1);
        g.before.clone_from(&g.between);
        if norm_after {
            add(&mut g.before, &g.ln_1);
        } else {
            norm_backward(simd, model.norm(&self.ln_1), &a.ln_1, &g.ln_1, &mut g.before);
        }
    }
}

/// dγ += Σ dy·x̂ and dβ += Σ dy.
fn norm_gradient(simd: Simd, place: &Place, kept: &Normalised, dy: &[f32], gradient: &mut [f32]) {
    if !place.weight.is_empty() {
        norm_weight_gradient(simd, &kept.hat, dy, &mut gradient[place.weight.clone()]);
    }
    if let Some(range) = place.bias.clone() {
        bias_gradient(simd, dy, &mut gradient[range]);
    }
}
