//! The format of OLMo's own training code, in which DataDecide is published; `transformers` reads
//! it only with the package `ai2-olmo`. It is not written: a finetuned model is written as a Llama
//! or an OLMo.

use super::olmo::EPSILON;
use super::{Family, Stored};
use crate::checkpoint::fields::{Fields, MOST, MOST_LAYERS, refuse};
use crate::model::{
    Activation, Attention, Head, Mlp, Norm, NormKind, Positions, Residual, Rotary, Shape,
};

pub const FAMILY: Family = Family {
    model_types: &["hf_olmo"],
    n_layers: "n_layers",
    keys: &[
        ("vocab", &["embedding_size", "vocab_size"]),
        ("context", &["max_sequence_length"]),
        ("head_width", &["d_model / n_heads"]),
        ("d_ff", &["mlp_hidden_size", "mlp_ratio"]),
        ("epsilon", &["layer_norm_eps"]),
        ("theta", &["rope_theta"]),
    ],
    read,
    write: |_| None,
    in_files: |shape| shape,
    tensors,
    parts: &["blocks", "wte", "wpe", "emb_norm", "ln_f", "ff_out"],
    no_parameters: &[],
    heads: &["ff_out.weight"],
    has_own_code: true,
};

fn read(fields: &mut Fields) -> Result<Shape, String> {
    let affine = fields.flag("layer_norm_with_affine", true)?;
    let known = [("default", false), ("low_precision", false), ("rms", true)];
    let is_rms = fields.name("layer_norm_type", &known, "LayerNorm or RMSNorm")?;
    let kind = match (is_rms, affine) {
        (true, true) => NormKind::Rms,
        (false, false) => NormKind::Plain,
        (_, affine) => {
            let other = "a layer_norm_type of \"rms\" with weights, or \"default\" without,";
            return refuse("layer_norm_with_affine", &affine.into(), other);
        }
    };
    // The defaults are those of GPT-2, so a readable model must state all of these otherwise.
    for (name, default, readable) in [
        ("include_bias", true, false),
        ("bias_for_layer_norm", false, false),
        ("rope", false, true),
        ("alibi", false, false),
        ("attention_layer_norm", false, false),
        ("embedding_layer_norm", false, false),
        ("scale_logits", false, false),
        ("norm_after", false, false),
    ] {
        let found = fields.flag(name, default)?;
        if found != readable {
            return refuse(name, &found.into(), &readable.to_string());
        }
    }
    // Null where n_kv_heads says it.
    if fields.stated("multi_query_attention").is_some() {
        fields.only("multi_query_attention", false)?;
    }
    let clip_qkv = fields.optional_number("clip_qkv")?;
    if let Some(clip) = clip_qkv.filter(|_| kind == NormKind::Rms) {
        return refuse("clip_qkv", &clip.into(), "null where layer_norm_type is \"rms\"");
    }
    fields.name("activation_type", &[("swiglu", ())], "SwiGLU")?;
    fields.name("block_type", &[("sequential", ()), ("llama", ())], "sequential blocks")?;
    let d_model = fields.size(&["d_model"], 768, MOST)?;
    // The width of both halves together.
    let hidden = match fields.optional_size("mlp_hidden_size")? {
        Some(hidden) if !hidden.is_multiple_of(2) => {
            return refuse("mlp_hidden_size", &hidden.into(), "an even width");
        }
        Some(hidden) => hidden,
        None => fields.size(&["mlp_ratio"], 4, 1 << 10)?.saturating_mul(d_model),
    };
    let vocab = fields.size(&["vocab_size"], 50_257, MOST)?;
    let epsilon = fields.number("layer_norm_eps", EPSILON)?;
    if kind == NormKind::Plain && epsilon != EPSILON {
        return refuse("layer_norm_eps", &epsilon.into(), "1e-5 without weights");
    }
    let rotary = Rotary { theta: fields.number("rope_theta", 1e4)?, ..Rotary::default() };
    Ok(Shape {
        n_layers: fields.size(&["n_layers"], 12, MOST_LAYERS)?,
        d_model,
        n_heads: fields.size(&["n_heads"], 12, MOST)?,
        // The size of the embedding, which may be padded.
        vocab: match fields.get("embedding_size") {
            Some(_) => fields.optional_size("embedding_size")?.unwrap_or(vocab),
            None => vocab,
        },
        context: fields.size(&["max_sequence_length"], 1_024, MOST)?,
        bias: false,
        positions: Positions::Rotary,
        norm: Norm { kind, epsilon },
        attention: Attention {
            n_kv_heads: fields.optional_size("n_kv_heads")?,
            clip_qkv,
            rotary,
            ..Attention::default()
        },
        mlp: Mlp { d_ff: Some(hidden / 2), activation: Activation::Swiglu },
        residual: Residual::Sequential,
        head: if fields.flag("weight_tying", true)? { Head::Tied } else { Head::Own },
    })
}

/// In the file the gate is the second half of the MLP's first map; in the layout it is the first
/// half.
fn tensors(shape: &Shape) -> Vec<Stored> {
    let mut all = vec![
        Stored::new("model.transformer.wte.weight", "wte"),
        Stored::new("model.transformer.ln_f.weight", "ln_f.weight"),
        Stored::new("model.transformer.ff_out.weight", "head.weight"),
    ];
    for layer in 0..shape.n_layers {
        let stored = |theirs: &str, ours: &str| {
            let theirs = format!("model.transformer.blocks.{layer}.{theirs}.weight");
            Stored::new(theirs, format!("h.{layer}.{ours}.weight"))
        };
        all.extend([
            stored("attn_norm", "ln_1"),
            stored("att_proj", "attn.qkv"),
            stored("attn_out", "attn.proj"),
            stored("ff_norm", "ln_2"),
            stored("ff_proj", "mlp.fc").halves_swapped(),
            stored("ff_out", "mlp.proj"),
        ]);
    }
    all
}
