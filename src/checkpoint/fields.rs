//! The fields of a `config.json`. They have the defaults of `transformers`; a field that cannot be read
//! is refused by its name and value.

use crate::model::{Positions, Rotary, RotaryScaling};
use serde_json::{Map, Value};

/// The largest value of any dimension.
pub const MOST: usize = 1 << 24;
/// The most layers.
pub const MOST_LAYERS: usize = 10_000;

/// The file's object, and those of its fields that are null and have a default.
pub struct Fields {
    fields: Map<String, Value>,
    /// Fields that are null, with the defaults that they take.
    pub nulls: Vec<String>,
}

/// Refuses a field's value.
pub fn refuse<T>(name: &str, value: &Value, readable: &str) -> Result<T, String> {
    Err(format!("{name} is {}; only {readable} can be read", shown(value)))
}

/// A value as JSON, the beginning of a long one.
pub fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl Fields {
    pub fn new(fields: Map<String, Value>) -> Self {
        Self { fields, nulls: Vec::new() }
    }

    /// A field, null or not.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// A field that is present and not null.
    pub fn stated(&self, name: &str) -> Option<&Value> {
        self.get(name).filter(|value| !value.is_null())
    }

    /// A dimension under one of its names. `transformers` writes the first name and reads all of them.
    pub fn size(&self, names: &[&str], default: usize, most: usize) -> Result<usize, String> {
        let mut stated = names.iter().filter_map(|&name| Some((name, self.get(name)?)));
        let Some((name, value)) = stated.next() else { return Ok(default) };
        if let Some((other, another)) = stated.find(|(_, another)| *another != value) {
            let (value, another) = (shown(value), shown(another));
            return Err(format!(
                "{name} is {value} and {other} is {another}; both name the same setting"
            ));
        }
        match value.as_u64() {
            Some(number) if number <= most as u64 => Ok(number as usize),
            Some(number) => Err(format!("{name} is {number}; it can be at most {most}")),
            None => Err(format!("{name} is {}; it must be a whole number", shown(value))),
        }
    }

    /// A dimension that may be null or missing.
    pub fn optional_size(&self, name: &str) -> Result<Option<usize>, String> {
        self.stated(name).map(|_| self.size(&[name], 0, MOST)).transpose()
    }

    /// A field, or its default if it is null or missing.
    fn or_default<T: Into<Value>>(&mut self, name: &str, default: T) -> Value {
        match self.fields.get(name) {
            Some(Value::Null) => {
                let default = default.into();
                self.nulls.push(format!("{name} is null and read as {default}, its default"));
                default
            }
            Some(value) => value.clone(),
            None => default.into(),
        }
    }

    pub fn flag(&mut self, name: &str, default: bool) -> Result<bool, String> {
        let value = self.or_default(name, default);
        value
            .as_bool()
            .ok_or_else(|| format!("{name} is {}; it must be true or false", shown(&value)))
    }

    pub fn number(&mut self, name: &str, default: f64) -> Result<f64, String> {
        let value = self.or_default(name, default);
        value.as_f64().ok_or_else(|| format!("{name} is {}; it must be a number", shown(&value)))
    }

    /// Refuses every value of a switch except its default.
    pub fn only(&mut self, name: &str, readable: bool) -> Result<(), String> {
        let found = self.flag(name, readable)?;
        if found == readable { Ok(()) } else { refuse(name, &found.into(), &readable.to_string()) }
    }

    /// Refuses a field unless it is null or missing.
    pub fn none(&self, name: &str, readable: &str) -> Result<(), String> {
        self.stated(name).map_or(Ok(()), |found| refuse(name, found, readable))
    }

    /// What one of the `known` names stands for. The first is the default.
    pub fn name<T: Copy>(
        &mut self,
        name: &str,
        known: &[(&str, T)],
        what: &str,
    ) -> Result<T, String> {
        let value = self.or_default(name, known[0].0);
        let found = known.iter().find(|(known, _)| value.as_str() == Some(known));
        found.map(|(_, stands_for)| *stands_for).map_or_else(
            || {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                refuse(name, &value, &format!("{what} ({})", names.join(", ")))
            },
            Ok,
        )
    }

    /// Refuses attention that does not see all tokens before it.
    pub fn full_attention(&self) -> Result<(), String> {
        let full = |layer: &Value| layer.as_str() == Some("full_attention");
        match self.stated("layer_types") {
            Some(Value::Array(layers)) => match layers.iter().find(|layer| !full(layer)) {
                Some(other) => refuse("layer_types", other, "\"full_attention\" in every layer"),
                None => Ok(()),
            },
            Some(found) => refuse("layer_types", found, "a list"),
            None => Ok(()),
        }
    }

    /// Rotary positions: from `rope_parameters` or, in older files, from `rope_scaling` and the fields
    /// named `theta` and `fraction`.
    pub fn rotary(
        &mut self,
        theta: &str,
        fraction: (&str, f64),
        context: usize,
    ) -> Result<(Positions, Rotary), String> {
        let place =
            ["rope_scaling", "rope_parameters"].into_iter().find(|p| self.stated(p).is_some());
        let inner = match place.map(|place| &self.fields[place]) {
            Some(Value::Object(inner)) => inner.clone(),
            Some(found) => return refuse(place.unwrap_or_default(), found, "an object"),
            None => Map::new(),
        };
        let place = place.unwrap_or_default();
        let number = |name: &str| match inner.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_f64()
                .map(Some)
                .ok_or_else(|| format!("{place}.{name} is {}; it must be a number", shown(value))),
        };
        let of = |name: &str| {
            number(name)?.ok_or_else(|| format!("{place}.{name} is missing, which llama3 needs"))
        };
        let kind = inner.get("rope_type").or(inner.get("type")).filter(|kind| !kind.is_null());
        let scaling = match kind.map(|kind| (kind, kind.as_str())) {
            None | Some((_, Some("default"))) => None,
            Some((_, Some("llama3"))) => Some(RotaryScaling {
                factor: of("factor")?,
                low: of("low_freq_factor")?,
                high: of("high_freq_factor")?,
                original: number("original_max_position_embeddings")?.unwrap_or(context as f64),
            }),
            Some((kind, _)) => {
                return refuse(&format!("{place}.rope_type"), kind, "\"default\" or \"llama3\"");
            }
        };
        let of_theta = number("rope_theta")?.map_or_else(|| self.number(theta, 1e4), Ok)?;
        let turned = number("partial_rotary_factor")?;
        let turned = turned.map_or_else(|| self.number(fraction.0, fraction.1), Ok)?;
        Ok((Positions::Rotary, Rotary { theta: of_theta, fraction: turned, scaling }))
    }
}
