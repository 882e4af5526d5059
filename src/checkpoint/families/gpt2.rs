//! GPT-2 and Cerebras-GPT. The same architecture with rotary positions is written under a
//! `model_type` of this crate's own, which nothing else reads.

use super::{Family, Stored};
use crate::checkpoint::fields::{Fields, MOST, MOST_LAYERS};
use crate::model::{Activation, Attention, Head, Mlp, Norm, NormKind, Positions, Residual, Shape};
use crate::weight_decay::ParamKind;
use serde_json::{Value, json};

pub const FAMILY: Family = Family {
    model_types: &["gpt2", ROTARY],
    n_layers: "n_layer",
    keys: &[
        ("n_layers", &["n_layer", "num_hidden_layers"]),
        ("d_model", &["n_embd", "hidden_size"]),
        ("n_heads", &["n_head", "num_attention_heads"]),
        ("vocab", &["vocab_size"]),
        ("context", &["n_positions", "max_position_embeddings", "n_ctx"]),
        ("head_width", &["n_embd / n_head"]),
        ("d_ff", &["n_inner"]),
        ("epsilon", &["layer_norm_epsilon"]),
    ],
    read,
    write,
    // The models of `transformers` always have biases. A model without biases is written with zeros
    // and `"bias": false`.
    in_files: |shape| Shape { bias: true, ..shape },
    tensors,
    parts: &["h", "wte", "wpe", "ln_f", "lm_head"],
    // The causal mask.
    no_parameters: &[".attn.bias", ".attn.masked_bias"],
    heads: &["lm_head.weight"],
    has_own_code: false,
};

const ROTARY: &str = "forgetting-laws-rotary";

/// Under all names that `transformers` has for them.
const ACTIVATIONS: [(&str, Activation); 7] = [
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
];

fn read(fields: &mut Fields) -> Result<Shape, String> {
    let is_rotary = fields.get("model_type").and_then(Value::as_str) == Some(ROTARY);
    for (name, readable) in [
        ("scale_attn_weights", true),
        ("scale_attn_by_inverse_layer_idx", false),
        ("add_cross_attention", false),
    ] {
        fields.only(name, readable)?;
    }
    // It is the order of the arithmetic alone.
    fields.flag("reorder_and_upcast_attn", false)?;
    let tied = fields.flag("tie_word_embeddings", true)?;
    Ok(Shape {
        n_layers: fields.size(&["n_layer", "num_hidden_layers"], 12, MOST_LAYERS)?,
        d_model: fields.size(&["n_embd", "hidden_size"], 768, MOST)?,
        n_heads: fields.size(&["n_head", "num_attention_heads"], 12, MOST)?,
        vocab: fields.size(&["vocab_size"], 50_257, MOST)?,
        // The oldest files have n_ctx alone.
        context: match fields.get("n_positions").or(fields.get("max_position_embeddings")) {
            Some(_) => fields.size(&["n_positions", "max_position_embeddings"], 1_024, MOST)?,
            None => fields.size(&["n_ctx"], 1_024, MOST)?,
        },
        // Our own field: false if all biases are zeros that are not parameters.
        bias: fields.flag("bias", true)?,
        positions: if is_rotary { Positions::Rotary } else { Positions::Learned },
        norm: Norm { kind: NormKind::Layer, epsilon: fields.number("layer_norm_epsilon", 1e-5)? },
        attention: Attention::default(),
        mlp: Mlp {
            d_ff: fields.optional_size("n_inner")?,
            activation: fields.name("activation_function", &ACTIVATIONS, "GELU")?,
        },
        residual: Residual::Sequential,
        head: if tied { Head::Tied } else { Head::Own },
    })
}

fn write(shape: &Shape) -> Option<Value> {
    let fits = shape.norm.kind == NormKind::Layer
        && shape.attention == Attention::default()
        && shape.residual == Residual::Sequential;
    let names = ACTIVATIONS.iter().find(|(_, known)| *known == shape.mlp.activation);
    let (activation, _) = names.filter(|_| fits)?;
    let mut fields = json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": match shape.positions {
            Positions::Learned => "gpt2",
            Positions::Rotary => ROTARY,
        },
        "n_layer": shape.n_layers,
        "n_embd": shape.d_model,
        "n_head": shape.n_heads,
        "n_positions": shape.context,
        "vocab_size": shape.vocab,
        "activation_function": activation,
        "layer_norm_epsilon": shape.norm.epsilon,
        "initializer_range": 0.02,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "tie_word_embeddings": shape.head == Head::Tied,
    });
    if let Some(d_ff) = shape.mlp.d_ff {
        fields["n_inner"] = d_ff.into();
    }
    if !shape.bias {
        fields["bias"] = Value::Bool(false);
    }
    Some(fields)
}

/// The layout's names are GPT-2's, except those of linear maps, which the files store as `[in,
/// out]`.
fn tensors(shape: &Shape) -> Vec<Stored> {
    let stored = |tensor: &crate::model::TensorSpec| {
        let name =
            tensor.name.replace("attn.qkv", "attn.c_attn").replace("attn.proj", "attn.c_proj");
        let name = name.replace("mlp.fc", "mlp.c_fc").replace("mlp.proj", "mlp.c_proj");
        match tensor.name.as_str() {
            "head.weight" => Stored::new("lm_head.weight", &tensor.name),
            "wte" | "wpe" => Stored::new(format!("transformer.{name}.weight"), &tensor.name),
            _ if tensor.kind == ParamKind::Matrix => {
                Stored::new(format!("transformer.{name}"), &tensor.name).transposed()
            }
            _ => Stored::new(format!("transformer.{name}"), &tensor.name),
        }
    };
    shape.layout().tensors().iter().map(stored).collect()
}
