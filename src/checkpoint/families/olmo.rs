//! OLMo (the first, as converted for `transformers`): Llama with normalisations that have no weights. From
//! April 2024 on (0424, 0724) queries, keys and values are clipped.

use super::{Family, llama};
use crate::checkpoint::fields::Fields;
use crate::model::{Attention, Norm, NormKind, Shape};
use serde_json::Value;

pub const FAMILY: Family = Family { model_types: &["olmo"], read, write, ..llama::FAMILY };

/// The ε of OLMo's code. `config.json` has no field for it.
pub const EPSILON: f64 = 1e-5;

fn read(fields: &mut Fields) -> Result<Shape, String> {
    fields.only("attention_bias", false)?;
    let clip_qkv = fields.optional_number("clip_qkv")?;
    let norm = Norm { kind: NormKind::Plain, epsilon: EPSILON };
    let shape = llama::shape(fields)?;
    Ok(Shape { norm, attention: Attention { clip_qkv, ..shape.attention }, ..shape })
}

fn write(shape: &Shape) -> Option<Value> {
    let fits = shape.norm == Norm { kind: NormKind::Plain, epsilon: EPSILON }
        && !shape.attention.qkv_bias
        && !shape.attention.qk_norm
        && !shape.bias;
    let attention = Attention { clip_qkv: None, ..shape.attention };
    let unclipped = Shape { attention, ..*shape };
    let mut fields = llama::fields("olmo", "OlmoForCausalLM", &unclipped)?;
    fields["clip_qkv"] = shape.attention.clip_qkv.into();
    fits.then_some(fields)
}
