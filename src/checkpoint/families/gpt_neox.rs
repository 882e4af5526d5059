//! GPT-NeoX and Pythia: attention and MLP side by side, and positions that turn a part of each head.

use super::{Family, Stored};
use crate::checkpoint::fields::{Fields, MOST, MOST_LAYERS};
use crate::model::{
    Activation, Attention, Head, Mlp, Norm, NormKind, Positions, Residual, Rotary, Shape,
};
use serde_json::{Value, json};

pub const FAMILY: Family = Family {
    model_types: &["gpt_neox"],
    n_layers: "num_hidden_layers",
    keys: &[
        ("n_layers", &["num_hidden_layers"]),
        ("d_model", &["hidden_size"]),
        ("n_heads", &["num_attention_heads"]),
        ("vocab", &["vocab_size"]),
        ("context", &["max_position_embeddings"]),
        ("head_width", &["hidden_size / num_attention_heads"]),
        ("d_ff", &["intermediate_size"]),
        ("epsilon", &["layer_norm_eps"]),
    ],
    read,
    write,
    in_files: |shape| shape,
    tensors,
    parts: &["layers", "embed_in", "final_layer_norm", "embed_out", "lm_head"],
    // The causal mask, and the rates of rotary positions.
    no_parameters: &[".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"],
    heads: &["embed_out.weight", "lm_head.weight"],
    has_own_code: false,
};

const ACTIVATIONS: [(&str, Activation); 5] = [
    ("gelu", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_python", Activation::Gelu),
];

fn read(fields: &mut Fields) -> Result<Shape, String> {
    fields.only("attention_bias", true)?;
    let context = fields.size(&["max_position_embeddings"], 2_048, MOST)?;
    let (positions, rotary) = fields.rotary("rotary_emb_base", ("rotary_pct", 0.25), context)?;
    if rotary.scaling.is_some() {
        return Err("rope_scaling.rope_type is \"llama3\"; only null can be read".into());
    }
    let is_parallel = fields.flag("use_parallel_residual", true)?;
    Ok(Shape {
        n_layers: fields.size(&["num_hidden_layers"], 44, MOST_LAYERS)?,
        d_model: fields.size(&["hidden_size"], 6_144, MOST)?,
        n_heads: fields.size(&["num_attention_heads"], 64, MOST)?,
        vocab: fields.size(&["vocab_size"], 50_432, MOST)?,
        context,
        bias: true,
        positions,
        norm: Norm { kind: NormKind::Layer, epsilon: fields.number("layer_norm_eps", 1e-5)? },
        attention: Attention { rotary, ..Attention::default() },
        mlp: Mlp {
            d_ff: Some(fields.size(&["intermediate_size"], 24_576, MOST)?),
            activation: fields.name("hidden_act", &ACTIVATIONS, "GELU")?,
        },
        residual: if is_parallel { Residual::Parallel } else { Residual::Sequential },
        head: if fields.flag("tie_word_embeddings", false)? { Head::Tied } else { Head::Own },
    })
}

fn write(shape: &Shape) -> Option<Value> {
    let Rotary { theta, fraction, .. } = shape.attention.rotary;
    let rotary = Rotary { theta, fraction, scaling: None };
    let fits = shape.positions == Positions::Rotary
        && shape.norm.kind == NormKind::Layer
        && shape.residual != Residual::NormAfter
        && shape.bias
        && shape.attention == Attention { rotary, ..Attention::default() };
    let names = ACTIVATIONS.iter().find(|(_, known)| *known == shape.mlp.activation);
    let (activation, _) = names.filter(|_| fits)?;
    Some(json!({
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "num_hidden_layers": shape.n_layers,
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_ff(),
        "num_attention_heads": shape.n_heads,
        "max_position_embeddings": shape.context,
        "vocab_size": shape.vocab,
        "hidden_act": activation,
        "layer_norm_eps": shape.norm.epsilon,
        "rotary_emb_base": theta,
        "rotary_pct": fraction,
        "use_parallel_residual": shape.residual == Residual::Parallel,
        "attention_bias": true,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": null,
        "pad_token_id": null,
        "tie_word_embeddings": shape.head == Head::Tied,
    }))
}

fn tensors(shape: &Shape) -> Vec<Stored> {
    let mut all = vec![
        Stored::new("gpt_neox.embed_in.weight", "wte"),
        Stored::new("gpt_neox.final_layer_norm.weight", "ln_f.weight"),
        Stored::new("gpt_neox.final_layer_norm.bias", "ln_f.bias"),
        Stored::new("embed_out.weight", "head.weight"),
    ];
    for layer in 0..shape.n_layers {
        for part in ["weight", "bias"] {
            let stored = |theirs: &str, ours: &str| {
                let theirs = format!("gpt_neox.layers.{layer}.{theirs}.{part}");
                Stored::new(theirs, format!("h.{layer}.{ours}.{part}"))
            };
            all.extend([
                stored("input_layernorm", "ln_1"),
                stored("attention.query_key_value", "attn.qkv").by_head(shape.n_heads),
                stored("attention.dense", "attn.proj"),
                stored("post_attention_layernorm", "ln_2"),
                stored("mlp.dense_h_to_4h", "mlp.fc"),
                stored("mlp.dense_4h_to_h", "mlp.proj"),
            ]);
        }
    }
    all
}
