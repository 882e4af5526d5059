//! Qwen3: Llama with normalised queries and keys.

use super::{Family, llama};
use crate::checkpoint::fields::Fields;
use crate::model::{Attention, NormKind, Shape};
use serde_json::Value;

pub const FAMILY: Family = Family { model_types: &["qwen3"], read, write, ..llama::FAMILY };

fn read(fields: &mut Fields) -> Result<Shape, String> {
    /// The width of a head if the file states none. It is not d / h, as in other families.
    const HEAD_WIDTH: usize = 128;
    fields.only("attention_bias", false)?;
    let mut shape = llama::shape(fields)?;
    fields.no_window_of_qwen(&shape)?;
    shape.attention.qk_norm = true;
    if fields.get("head_dim").is_none() && shape.d_model != HEAD_WIDTH * shape.n_heads {
        shape.attention.head_width = Some(HEAD_WIDTH);
    }
    Ok(shape)
}

fn write(shape: &Shape) -> Option<Value> {
    let Attention { qk_norm, qkv_bias, .. } = shape.attention;
    let mut fields = llama::fields("qwen3", "Qwen3ForCausalLM", shape)?;
    fields["use_sliding_window"] = Value::Bool(false);
    (qk_norm && !qkv_bias && !shape.bias && shape.norm.kind == NormKind::Rms).then_some(fields)
}
