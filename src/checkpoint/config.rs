//! `config.json` of Hugging Face's GPT-2, and the shape that it states.

use crate::model::{Positions, Shape};
use serde_json::{Map, Value, json};

/// What any dimension is at most. It keeps products of dimensions within 64 bits.
const MOST: usize = 1 << 24;
/// The most layers.
const MOST_LAYERS: usize = 10_000;

/// The published form's `model_type`.
const GPT2: &str = "gpt2";
/// Ours, for the same with rotary positions.
const ROTARY: &str = "forgetting-laws-rotary";

/// The activation of GPT-2, the tanh approximation of GELU, under all names that `transformers`
/// has for it.
const ACTIVATIONS: [&str; 5] =
    ["gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"];

/// What a file states.
pub struct Config {
    /// The architecture.
    pub shape: Shape,
    /// Fields that are null, with the values that were taken in their place.
    pub nulls: Vec<String>,
}

/// What a file's fields state, or what is wrong with them. One that is not there has the form's
/// default.
pub fn parse(fields: Map<String, Value>) -> Result<Config, String> {
    let mut fields = Fields { fields, nulls: Vec::new() };
    let positions = fields.positions()?;
    let shape = Shape {
        n_layers: fields.size(&["n_layer", "num_hidden_layers"], 12, MOST_LAYERS)?,
        d_model: fields.size(&["n_embd", "hidden_size"], 768, MOST)?,
        n_heads: fields.size(&["n_head", "num_attention_heads"], 12, MOST)?,
        vocab: fields.size(&["vocab_size"], 50_257, MOST)?,
        // The oldest files have n_ctx alone.
        context: match fields.get("n_positions").or(fields.get("max_position_embeddings")) {
            Some(_) => fields.size(&["n_positions", "max_position_embeddings"], 1_024, MOST)?,
            None => fields.size(&["n_ctx"], 1_024, MOST)?,
        },
        // Ours: false where all biases are zeros that are no parameters.
        bias: fields.flag("bias", true)?,
        positions,
    };
    fields.check(&shape)?;
    shape.validate().map_err(|error| error.to_string())?;
    Ok(Config { shape, nulls: fields.nulls })
}

/// The file's object, and which of its fields were null where they have a default.
struct Fields {
    fields: Map<String, Value>,
    nulls: Vec<String>,
}

impl Fields {
    fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// A dimension under one of its names; `transformers` writes the first and reads all.
    fn size(&self, names: &[&str], default: usize, most: usize) -> Result<usize, String> {
        let mut stated = names.iter().filter_map(|&name| Some((name, self.get(name)?)));
        let Some((name, value)) = stated.next() else { return Ok(default) };
        if let Some((other, another)) = stated.find(|(_, another)| *another != value) {
            let (value, another) = (shown(value), shown(another));
            return Err(format!(
                "{name} is {value} and {other} is {another}; both name one setting"
            ));
        }
        match value.as_u64() {
            Some(number) if number <= most as u64 => Ok(number as usize),
            Some(number) => Err(format!("{name} is {number}, and at most {most} is believable")),
            None => Err(format!("{name} is {}; it must be a whole number", shown(value))),
        }
    }

    /// A field that has a default, or its default, also where it is null.
    fn or_default<T: Into<Value>>(&mut self, name: &str, default: T) -> Value {
        match self.fields.get(name) {
            Some(Value::Null) => {
                let default = default.into();
                self.nulls.push(format!("{name} is null and taken for {default}, its default"));
                default
            }
            Some(value) => value.clone(),
            None => default.into(),
        }
    }

    fn flag(&mut self, name: &str, default: bool) -> Result<bool, String> {
        let value = self.or_default(name, default);
        value
            .as_bool()
            .ok_or_else(|| format!("{name} is {}; it must be true or false", shown(&value)))
    }

    /// What `model_type` says; the oldest files name an architecture alone.
    fn positions(&self) -> Result<Positions, String> {
        let architecture = self.get("architectures").and_then(|names| names.get(0)?.as_str());
        match self.get("model_type") {
            Some(Value::String(name)) if name == GPT2 => Ok(Positions::Learned),
            Some(Value::String(name)) if name == ROTARY => Ok(Positions::Rotary),
            None | Some(Value::Null)
                if architecture.is_some_and(|name| name.starts_with("GPT2")) =>
            {
                Ok(Positions::Learned)
            }
            found => {
                let found = found.map_or("not there".to_string(), shown);
                Err(format!("model_type is {found}; only \"{GPT2}\" can be read"))
            }
        }
    }

    /// Refuses what makes another model of the same tensors.
    fn check(&mut self, shape: &Shape) -> Result<(), String> {
        let no_such = |name: &str, value: &Value, supported: &str| {
            Err(format!("{name} is {}; only {supported} is supported", shown(value)))
        };
        for (name, supported) in [
            ("scale_attn_weights", true),
            ("scale_attn_by_inverse_layer_idx", false),
            ("add_cross_attention", false),
            ("tie_word_embeddings", true),
        ] {
            let found = self.flag(name, supported)?;
            if found != supported {
                return no_such(name, &found.into(), &supported.to_string());
            }
        }
        // It is the order of the arithmetic alone.
        self.flag("reorder_and_upcast_attn", false)?;
        let activation = self.or_default("activation_function", ACTIVATIONS[0]);
        if !activation.as_str().is_some_and(|name| ACTIVATIONS.contains(&name)) {
            let supported = format!("the tanh approximation of GELU ({})", ACTIVATIONS.join(", "));
            return no_such("activation_function", &activation, &supported);
        }
        let epsilon = self.or_default("layer_norm_epsilon", 1e-5);
        if epsilon.as_f64() != Some(1e-5) {
            return no_such("layer_norm_epsilon", &epsilon, "1e-5");
        }
        let inner = 4 * shape.d_model;
        if let Some(found) = self.get("n_inner").filter(|found| !found.is_null())
            && found.as_u64() != Some(inner as u64)
        {
            return no_such("n_inner", found, &format!("4 times n_embd, {inner},"));
        }
        match self.get("quantization_config") {
            Some(found) if !found.is_null() => {
                no_such("quantization_config", found, "a model in F32, F16 or BF16")
            }
            _ => Ok(()),
        }
    }
}

/// A value as JSON, the beginning of a long one.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
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
