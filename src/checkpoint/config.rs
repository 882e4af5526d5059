//! `config.json` of Hugging Face's GPT-2, and the shape that it states.

use crate::model::{Positions, Shape};
use serde::Deserialize;
use serde_json::{Value, json};

/// What any dimension is at most. It keeps products of dimensions within 64 bits.
const MOST: usize = 1 << 24;
/// The most layers.
const MOST_LAYERS: usize = 10_000;

/// The published form's `model_type`.
const GPT2: &str = "gpt2";
/// Ours, for the same with rotary positions.
const ROTARY: &str = "forgetting-laws-rotary";

/// What is read of the file. A field that is not there has the form's default.
#[derive(Deserialize)]
#[serde(default)]
struct Fields {
    model_type: String,
    n_layer: usize,
    n_embd: usize,
    n_head: usize,
    vocab_size: usize,
    n_positions: usize,
    n_inner: Option<usize>,
    activation_function: String,
    layer_norm_epsilon: f64,
    scale_attn_weights: bool,
    scale_attn_by_inverse_layer_idx: bool,
    reorder_and_upcast_attn: bool,
    add_cross_attention: bool,
    tie_word_embeddings: bool,
    /// Ours: false where all biases are zeros that are no parameters.
    bias: bool,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            model_type: String::new(),
            n_layer: 12,
            n_embd: 768,
            n_head: 12,
            vocab_size: 50_257,
            n_positions: 1_024,
            n_inner: None,
            activation_function: "gelu_new".into(),
            layer_norm_epsilon: 1e-5,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            reorder_and_upcast_attn: false,
            add_cross_attention: false,
            tie_word_embeddings: true,
            bias: true,
        }
    }
}

/// The shape that a file states, or what is wrong with it.
pub fn parse(text: &str) -> Result<Shape, String> {
    let fields: Fields = serde_json::from_str(text)
        .map_err(|error| format!("not the configuration of a model: {error}"))?;
    let positions = match fields.model_type.as_str() {
        GPT2 => Positions::Learned,
        ROTARY => Positions::Rotary,
        found => return Err(format!("model_type is {found:?}; only gpt2 and its kin can be read")),
    };
    let inner = fields.n_inner.filter(|inner| Some(*inner) != fields.n_embd.checked_mul(4));
    let activation = fields.activation_function.as_str();
    let unlike = [
        (
            !["gelu_new", "gelu_pytorch_tanh"].contains(&activation),
            "activation_function",
            activation,
        ),
        (inner.is_some(), "n_inner", "not 4 times n_embd"),
        (fields.layer_norm_epsilon != 1e-5, "layer_norm_epsilon", "not 1e-5"),
        (!fields.scale_attn_weights, "scale_attn_weights", "false"),
        (fields.scale_attn_by_inverse_layer_idx, "scale_attn_by_inverse_layer_idx", "true"),
        (fields.add_cross_attention, "add_cross_attention", "true"),
        (!fields.tie_word_embeddings, "tie_word_embeddings", "false"),
    ];
    if let Some((_, name, found)) = unlike.iter().find(|(unlike, ..)| *unlike) {
        return Err(format!("{name} is {found}, which this crate's model does not do"));
    }
    let _ = fields.reorder_and_upcast_attn; // Arithmetic of another order, the same model.
    for (name, value, most) in [
        ("n_layer", fields.n_layer, MOST_LAYERS),
        ("n_embd", fields.n_embd, MOST),
        ("n_head", fields.n_head, MOST),
        ("vocab_size", fields.vocab_size, MOST),
        ("n_positions", fields.n_positions, MOST),
    ] {
        if value > most {
            return Err(format!("{name} is {value}, and at most {most} is believable"));
        }
    }
    let shape = Shape {
        n_layers: fields.n_layer,
        d_model: fields.n_embd,
        n_heads: fields.n_head,
        vocab: fields.vocab_size,
        context: fields.n_positions,
        bias: fields.bias,
        positions,
    };
    shape.validate().map_err(|error| error.to_string())?;
    Ok(shape)
}

/// The file for a shape.
pub fn write(shape: &Shape, end_of_text: Option<u32>) -> Vec<u8> {
    let model_type = match shape.positions {
        Positions::Learned => GPT2,
        Positions::Rotary => ROTARY,
    };
    let mut fields = json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": model_type,
        "n_layer": shape.n_layers,
        "n_embd": shape.d_model,
        "n_head": shape.n_heads,
        "n_positions": shape.context,
        "vocab_size": shape.vocab,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "tie_word_embeddings": true,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": "float32",
    });
    if !shape.bias {
        fields["bias"] = Value::Bool(false);
    }
    crate::store::to_json(&fields)
}
