//! Llama 1 to 3, and models of the same form: SmolLM, TinyLlama, Yi. Most later families use its
//! names of fields and tensors.

use super::{Family, Stored};
use crate::checkpoint::fields::{Fields, MOST, MOST_LAYERS, refuse};
use crate::model::{
    Activation, Attention, Head, Mlp, Norm, NormKind, Positions, Residual, Rotary, Shape,
};
use serde_json::{Value, json};

pub const FAMILY: Family = Family {
    model_types: &["llama"],
    n_layers: "num_hidden_layers",
    keys: &[
        ("n_layers", &["num_hidden_layers"]),
        ("d_model", &["hidden_size"]),
        ("n_heads", &["num_attention_heads"]),
        ("n_kv_heads", &["num_key_value_heads"]),
        ("vocab", &["vocab_size"]),
        ("context", &["max_position_embeddings"]),
        ("head_width", &["head_dim", "hidden_size / num_attention_heads"]),
        ("d_ff", &["intermediate_size"]),
        ("epsilon", &["rms_norm_eps"]),
    ],
    read,
    write,
    in_files: |shape| shape,
    tensors,
    parts: PARTS,
    no_parameters: NO_PARAMETERS,
    heads: &["lm_head.weight"],
    has_own_code: false,
};

pub const PARTS: &[&str] = &["layers", "embed_tokens", "norm", "lm_head"];
/// The rates of rotary positions.
pub const NO_PARAMETERS: &[&str] = &["rotary_emb.inv_freq"];

fn read(fields: &mut Fields) -> Result<Shape, String> {
    let bias = fields.flag("attention_bias", false)?;
    if fields.flag("mlp_bias", false)? != bias {
        return Err(format!(
            "attention_bias is {bias} and mlp_bias is {}; only equal ones can be read",
            !bias
        ));
    }
    let shape = shape(fields)?;
    if !shape.d_model.is_multiple_of(shape.n_heads.max(1)) {
        let heads = format!("a multiple of num_attention_heads, {},", shape.n_heads);
        return refuse("hidden_size", &shape.d_model.into(), &heads);
    }
    Ok(Shape { bias, ..shape })
}

/// Reads the fields that Llama and the families derived from it have in common.
pub fn shape(fields: &mut Fields) -> Result<Shape, String> {
    fields.name("hidden_act", &[("silu", ()), ("swish", ())], "silu")?;
    let context = fields.size(&["max_position_embeddings"], 2_048, MOST)?;
    let (positions, rotary) =
        fields.rotary("rope_theta", ("partial_rotary_factor", 1.0), context)?;
    if rotary.fraction != 1.0 {
        return refuse("partial_rotary_factor", &rotary.fraction.into(), "1");
    }
    Ok(Shape {
        n_layers: fields.size(&["num_hidden_layers"], 32, MOST_LAYERS)?,
        d_model: fields.size(&["hidden_size"], 4_096, MOST)?,
        n_heads: fields.size(&["num_attention_heads"], 32, MOST)?,
        vocab: fields.size(&["vocab_size"], 32_000, MOST)?,
        context,
        bias: false,
        positions,
        norm: Norm { kind: NormKind::Rms, epsilon: fields.number("rms_norm_eps", 1e-6)? },
        attention: Attention {
            n_kv_heads: fields.optional_size("num_key_value_heads")?,
            head_width: fields.optional_size("head_dim")?,
            rotary,
            ..Attention::default()
        },
        mlp: Mlp {
            d_ff: Some(fields.size(&["intermediate_size"], 11_008, MOST)?),
            activation: Activation::Swiglu,
        },
        residual: Residual::Sequential,
        head: if fields.flag("tie_word_embeddings", false)? { Head::Tied } else { Head::Own },
    })
}

fn write(shape: &Shape) -> Option<Value> {
    let plain = !shape.attention.qkv_bias && !shape.attention.qk_norm;
    // Llama's configuration refuses other widths, even if the width of a head is stated.
    let fields = fields("llama", "LlamaForCausalLM", shape)?;
    (plain && shape.norm.kind == NormKind::Rms && shape.d_model.is_multiple_of(shape.n_heads))
        .then_some(fields)
}

/// The fields that Llama and the families derived from it have in common, except those of
/// normalisations; `None` if Llama has no such models, whatever their normalisations.
pub fn fields(model_type: &str, architecture: &str, shape: &Shape) -> Option<Value> {
    let Rotary { theta, fraction, scaling } = shape.attention.rotary;
    let fits = shape.positions == Positions::Rotary
        && fraction == 1.0
        && shape.mlp.activation == Activation::Swiglu
        && shape.residual == Residual::Sequential
        && shape.attention.clip_qkv.is_none()
        && !shape.attention.qk_norm_of_all_heads;
    let scaling = scaling.map(|scaling| {
        json!({
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low,
            "high_freq_factor": scaling.high,
            "original_max_position_embeddings": whole(scaling.original),
        })
    });
    fits.then(|| {
        json!({
            "architectures": [architecture],
            "model_type": model_type,
            "num_hidden_layers": shape.n_layers,
            "hidden_size": shape.d_model,
            "intermediate_size": shape.d_ff(),
            "num_attention_heads": shape.n_heads,
            "num_key_value_heads": shape.n_kv_heads(),
            "head_dim": shape.head_width(),
            "max_position_embeddings": shape.context,
            "vocab_size": shape.vocab,
            "hidden_act": "silu",
            "rms_norm_eps": shape.norm.epsilon,
            "rope_theta": theta,
            "rope_scaling": scaling,
            "attention_bias": shape.bias,
            "mlp_bias": shape.bias,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "bos_token_id": null,
            "pad_token_id": null,
            "tie_word_embeddings": shape.head == Head::Tied,
        })
    })
}

/// A number as JSON, without a decimal point if it is whole: `transformers` warns about position
/// counts that are not integers.
fn whole(number: f64) -> Value {
    if number == number.trunc() && number < MOST as f64 {
        Value::from(number as u64)
    } else {
        Value::from(number)
    }
}

/// The tensors of Llama and its kin: queries, keys and values, and the two halves of the MLP's first
/// map, are each a tensor of its own.
pub fn tensors(shape: &Shape) -> Vec<Stored> {
    let (q, qkv, ff) = (shape.d_queries(), shape.d_qkv(), shape.d_ff());
    let v = shape.d_queries_and_keys();
    let mut all = vec![
        Stored::new("model.embed_tokens.weight", "wte"),
        Stored::new("model.norm.weight", "ln_f.weight"),
        Stored::new("lm_head.weight", "head.weight"),
    ];
    for layer in 0..shape.n_layers {
        for part in ["weight", "bias"] {
            let stored = |theirs: &str, ours: &str| {
                let theirs = format!("model.layers.{layer}.{theirs}.{part}");
                Stored::new(theirs, format!("h.{layer}.{ours}.{part}"))
            };
            all.extend([
                stored("input_layernorm", "ln_1"),
                stored("self_attn.q_proj", "attn.qkv").rows(0..q),
                stored("self_attn.k_proj", "attn.qkv").rows(q..v),
                stored("self_attn.v_proj", "attn.qkv").rows(v..qkv),
                stored("self_attn.q_norm", "attn.q_norm"),
                stored("self_attn.k_norm", "attn.k_norm"),
                stored("self_attn.o_proj", "attn.proj"),
                stored("post_attention_layernorm", "ln_2"),
                stored("mlp.gate_proj", "mlp.fc").rows(0..ff),
                stored("mlp.up_proj", "mlp.fc").rows(ff..2 * ff),
                stored("mlp.down_proj", "mlp.proj"),
            ]);
        }
    }
    all
}
