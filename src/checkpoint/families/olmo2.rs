//! OLMo 2: Llama with normalisations after attention and after the MLP in place of before them, and with
//! queries and keys that are normalised over all heads together.

use super::{Family, Stored, llama};
use crate::checkpoint::fields::Fields;
use crate::model::{Attention, NormKind, Residual, Shape};
use serde_json::Value;

pub const FAMILY: Family =
    Family { model_types: &["olmo2"], read, write, tensors, ..llama::FAMILY };

fn read(fields: &mut Fields) -> Result<Shape, String> {
    fields.only("attention_bias", false)?;
    let shape = llama::shape(fields)?;
    let attention = Attention { qk_norm: true, qk_norm_of_all_heads: true, ..shape.attention };
    Ok(Shape { attention, residual: Residual::NormAfter, ..shape })
}

fn write(shape: &Shape) -> Option<Value> {
    let Attention { qk_norm, qk_norm_of_all_heads, qkv_bias, .. } = shape.attention;
    let fits = shape.residual == Residual::NormAfter
        && shape.norm.kind == NormKind::Rms
        && qk_norm
        && qk_norm_of_all_heads
        && !qkv_bias
        && !shape.bias;
    let attention = Attention { qk_norm_of_all_heads: false, ..shape.attention };
    let like_llama = Shape { residual: Residual::Sequential, attention, ..*shape };
    llama::fields("olmo2", "Olmo2ForCausalLM", &like_llama).filter(|_| fits)
}

/// The two normalisations of a block are named for what is before them.
fn tensors(shape: &Shape) -> Vec<Stored> {
    let named = |stored: Stored| {
        let name = if stored.name.contains(".input_layernorm.") {
            stored.name.replace("input_layernorm", "post_attention_layernorm")
        } else {
            stored.name.replace("post_attention_layernorm", "post_feedforward_layernorm")
        };
        Stored { name, ..stored }
    };
    llama::tensors(shape).into_iter().map(named).collect()
}
