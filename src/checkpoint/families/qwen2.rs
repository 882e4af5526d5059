//! Qwen2 and Qwen2.5: Llama with biases of queries, keys and values.

use super::{Family, llama};
use crate::checkpoint::fields::Fields;
use crate::model::{Attention, NormKind, Shape};
use serde_json::Value;

pub const FAMILY: Family = Family { model_types: &["qwen2"], read, write, ..llama::FAMILY };

fn read(fields: &mut Fields) -> Result<Shape, String> {
    let shape = llama::shape(fields)?;
    fields.no_window_of_qwen(&shape)?;
    Ok(Shape { attention: Attention { qkv_bias: true, ..shape.attention }, ..shape })
}

fn write(shape: &Shape) -> Option<Value> {
    let fits = shape.attention.qkv_bias && !shape.attention.qk_norm && !shape.bias;
    let mut fields = llama::fields("qwen2", "Qwen2ForCausalLM", shape)?;
    fields["use_sliding_window"] = Value::Bool(false);
    (fits && shape.norm.kind == NormKind::Rms).then_some(fields)
}
