//! The fields of a `config.json`. They have the defaults of `transformers`; a field that cannot be read
//! is refused by its name and value.

use super::families::Keys;
use crate::model::{Positions, Rotary, RotaryScaling, Shape};
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
    /// Which fields the numbers of rotary positions were read from, by the names of a shape.
    rotary: Vec<(&'static str, String)>,
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
        Self { fields, nulls: Vec::new(), rotary: Vec::new() }
    }

    /// A field, null or not.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// A field that is present and not null.
    pub fn stated(&self, name: &str) -> Option<&Value> {
        self.get(name).filter(|value| !value.is_null())
    }

    /// What the file calls something that a shape calls `name`.
    pub fn key(&self, keys: &[Keys], name: &'static str) -> String {
        if let Some((_, key)) = self.rotary.iter().find(|(known, _)| *known == name) {
            return key.clone();
        }
        let known = keys.iter().find(|(known, _)| *known == name).map(|(_, keys)| *keys);
        let stated = known.and_then(|keys| keys.iter().find(|key| self.stated(key).is_some()));
        stated.or(known.and_then(<[_]>::last)).unwrap_or(&name).to_string()
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

    /// A number that may be null or missing.
    pub fn optional_number(&mut self, name: &str) -> Result<Option<f64>, String> {
        self.stated(name).is_some().then(|| self.number(name, 0.0)).transpose()
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

    /// How many tokens a layer with a window attends to; None: all.
    pub fn window(&self, default: u64) -> Result<Option<u64>, String> {
        match self.get("sliding_window") {
            None => Ok(Some(default)),
            Some(Value::Null) => Ok(None),
            Some(found) => match found.as_u64() {
                Some(window) => Ok(Some(window)),
                None => refuse("sliding_window", found, "null or a whole number"),
            },
        }
    }

    /// Whether a layer has the `window` by `layer_types`, if that is stated. Refuses other attention.
    pub fn has_window(&self, window: Option<u64>) -> Result<Option<bool>, String> {
        let is = |layer: &Value, kind: &str| layer.as_str() == Some(kind);
        let slides = |layer: &Value| is(layer, "sliding_attention") && window.is_some();
        let layers = match self.stated("layer_types") {
            Some(Value::Array(layers)) => layers,
            Some(found) => return refuse("layer_types", found, "a list"),
            None => return Ok(None),
        };
        match layers.iter().find(|layer| !is(layer, "full_attention") && !slides(layer)) {
            Some(other) => refuse("layer_types", other, "\"full_attention\" in every layer"),
            None => Ok(Some(layers.iter().any(slides))),
        }
    }

    /// Refuses a window that is too short for the model's longest text, `context`. A longer window
    /// has no effect.
    pub fn no_window(&self, window: Option<u64>, context: usize) -> Result<(), String> {
        let Some(window) = window.filter(|&window| window < context as u64) else { return Ok(()) };
        let remedy = match window {
            0 => String::new(),
            _ => format!(
                "; a copy of the model whose config.json has {window} as max_position_embeddings is \
                 the same for texts up to that length"
            ),
        };
        let all = format!("null or max_position_embeddings, {context}, or more");
        refuse("sliding_window", &window.into(), &all).map_err(|refusal: String| refusal + &remedy)
    }

    /// Refuses the windows of Qwen2 and 3, which apply to the layers from `max_window_layers` on.
    pub fn no_window_of_qwen(&mut self, shape: &Shape) -> Result<(), String> {
        const WINDOW: u64 = 4_096;
        const FIRST: usize = 28;
        let is_used = self.flag("use_sliding_window", false)?;
        let window = if is_used { self.window(WINDOW)? } else { None };
        let first = self.optional_size("max_window_layers")?.unwrap_or(FIRST);
        let has_window = self.has_window(window)?.unwrap_or(first < shape.n_layers);
        if has_window { self.no_window(window, shape.context) } else { Ok(()) }
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
        let place = place.to_string();
        let inside = |name: &str| format!("{place}.{name}");
        let [of_theta, turned] = ["rope_theta", "partial_rotary_factor"].map(&number);
        let (of_theta, turned) = (of_theta?, turned?);
        let stated = |number: Option<f64>, within: &str, beside: &str| match number {
            Some(_) => inside(within),
            None => beside.to_string(),
        };
        self.rotary = vec![
            ("theta", stated(of_theta, "rope_theta", theta)),
            ("rotary fraction", stated(turned, "partial_rotary_factor", fraction.0)),
            ("factor", inside("factor")),
            ("low", inside("low_freq_factor")),
            ("high", inside("high_freq_factor")),
            ("original", inside("original_max_position_embeddings")),
        ];
        let of_theta = of_theta.map_or_else(|| self.number(theta, 1e4), Ok)?;
        let turned = turned.map_or_else(|| self.number(fraction.0, fraction.1), Ok)?;
        Ok((Positions::Rotary, Rotary { theta: of_theta, fraction: turned, scaling }))
    }
}
