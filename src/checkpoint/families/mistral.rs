//! Mistral, if its attention sees the whole text: Llama under another name.

use super::{Family, llama};
use crate::checkpoint::fields::Fields;
use crate::model::{NormKind, Shape};
use serde_json::Value;

pub const FAMILY: Family = Family { model_types: &["mistral"], read, write, ..llama::FAMILY };

fn read(fields: &mut Fields) -> Result<Shape, String> {
    const DEFAULT_WINDOW: u64 = 4_096;
    let shape = llama::shape(fields)?;
    let window = fields.window(DEFAULT_WINDOW)?;
    fields.has_window(window)?;
    fields.no_window(window, shape.context)?;
    Ok(shape)
}

/// Also writes widths that Llama's own configuration refuses.
fn write(shape: &Shape) -> Option<Value> {
    let plain = !shape.attention.qkv_bias && !shape.attention.qk_norm && !shape.bias;
    let mut fields = llama::fields("mistral", "MistralForCausalLM", shape)?;
    fields["sliding_window"] = Value::Null;
    (plain && shape.norm.kind == NormKind::Rms).then_some(fields)
}
