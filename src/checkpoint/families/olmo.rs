//! OLMo (the first, as converted for `transformers`): Llama with normalisations that have no weights.

use super::{Family, llama};
use crate::checkpoint::fields::Fields;
use crate::model::{Norm, NormKind, Shape};
use serde_json::Value;

pub const FAMILY: Family = Family { model_types: &["olmo"], read, write, ..llama::FAMILY };

/// The ε of OLMo's code. `config.json` has no field for it.
pub const EPSILON: f64 = 1e-5;

fn read(fields: &mut Fields) -> Result<Shape, String> {
    fields.only("attention_bias", false)?;
    fields.none("clip_qkv", "null")?;
    let norm = Norm { kind: NormKind::Plain, epsilon: EPSILON };
    Ok(Shape { norm, ..llama::shape(fields)? })
}

fn write(shape: &Shape) -> Option<Value> {
    let fits = shape.norm == Norm { kind: NormKind::Plain, epsilon: EPSILON }
        && !shape.attention.qkv_bias
        && !shape.attention.qk_norm
        && !shape.bias;
    let mut fields = llama::fields("olmo", "OlmoForCausalLM", shape)?;
    fields["clip_qkv"] = Value::Null;
    fits.then_some(fields)
}
