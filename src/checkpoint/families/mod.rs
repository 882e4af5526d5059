//! Families of models: how the `config.json` and the tensors of each family correspond to a
//! [`Shape`] and its [`Layout`](crate::model::Layout).
//!
//! A family is a file here and a line in [`FAMILIES`]. It only names things; what is computed
//! depends on the shape alone.

mod gpt2;
mod gpt_neox;
mod hf_olmo;
mod llama;
mod mistral;
mod olmo;
mod olmo2;
mod qwen2;
mod qwen3;

use super::fields::{Fields, shown};
use crate::model::{Shape, TensorSpec};
use serde_json::{Map, Value};
use std::ops::Range;

/// The families. A shape is written in the format of the first family that can represent it.
pub const FAMILIES: &[&Family] = &[
    &gpt_neox::FAMILY,
    &gpt2::FAMILY,
    &llama::FAMILY,
    &mistral::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &olmo::FAMILY,
    &olmo2::FAMILY,
    &hf_olmo::FAMILY,
];

/// The name of a property in a [`Shape`], and the fields of a file that may state it.
pub type Keys = (&'static str, &'static [&'static str]);

/// How a family stores its models. Names of tensors are given without the prefixes of wrappers
/// ([`weights`](super::weights)), except in [`Stored::name`].
pub struct Family {
    /// What `model_type` is.
    pub model_types: &'static [&'static str],
    /// The field that states the layers, for messages.
    pub n_layers: &'static str,
    /// For messages: the fields that state each property of a shape. Of several fields, the first
    /// that is present is named, or else the last.
    pub keys: &'static [Keys],
    /// Reads a shape from the fields of `config.json`.
    pub read: fn(&mut Fields) -> Result<Shape, String>,
    /// The fields of `config.json` that depend on the shape, including `model_type`; `None` if the
    /// family has no such models.
    pub write: fn(&Shape) -> Option<Value>,
    /// The shape whose tensors the files hold: the model's own, or one with more tensors, which are
    /// zero.
    pub in_files: fn(Shape) -> Shape,
    /// All tensors that a model of the family may have. Those that the layout of its shape lacks are
    /// not in its files.
    pub tensors: fn(&Shape) -> Vec<Stored>,
    /// The beginnings of the tensors' names; the first is that of the layers.
    pub parts: &'static [&'static str],
    /// Endings of the names of tensors that some versions store although they are not parameters.
    pub no_parameters: &'static [&'static str],
    /// The names of the head's matrix in different versions.
    pub heads: &'static [&'static str],
    /// Whether `transformers` has no code for it, so that its files refer to their own code.
    pub has_own_code: bool,
}

/// A tensor of a file: which elements of which tensor of the layout it holds, and in what order.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its name in files that are written.
    pub name: String,
    /// The name, in the layout, of the tensor whose elements it holds.
    pub of: String,
    /// The rows of that tensor that it holds; `None`: all.
    rows: Option<Range<usize>>,
    order: Order,
}

/// How the elements lie in the file.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// The elements are in the order of the layout.
    Same,
    /// `[in, out]`.
    Transposed,
    /// Grouped by head: the rows of queries, keys and values of each of this many heads together.
    ByHead(usize),
    /// The second half of the rows before the first.
    HalvesSwapped,
}

impl Stored {
    /// A tensor that is one of the layout's.
    pub fn new(name: impl Into<String>, of: impl Into<String>) -> Self {
        Self { name: name.into(), of: of.into(), rows: None, order: Order::Same }
    }

    /// Only some rows of it.
    pub fn rows(self, rows: Range<usize>) -> Self {
        Self { rows: Some(rows), ..self }
    }

    /// It lies `[in, out]` in the file.
    pub fn transposed(self) -> Self {
        Self { order: Order::Transposed, ..self }
    }

    /// Rows of queries, keys and values lie head by head in the file.
    pub fn by_head(self, heads: usize) -> Self {
        Self { order: Order::ByHead(heads), ..self }
    }

    /// The second half of its rows comes first in the file.
    pub fn halves_swapped(self) -> Self {
        Self { order: Order::HalvesSwapped, ..self }
    }

    /// Rows and columns of what it holds.
    fn size(&self, tensor: &TensorSpec) -> (usize, usize) {
        let rows = self.rows.as_ref().map_or(tensor.dims[0], Range::len);
        (rows, tensor.dims[1..].iter().product())
    }

    /// Its dimensions in the file.
    pub fn dims(&self, tensor: &TensorSpec) -> Vec<usize> {
        let (rows, columns) = self.size(tensor);
        match (self.order, tensor.dims.len()) {
            (_, 1) => vec![rows],
            (Order::Transposed, _) => vec![columns, rows],
            _ => vec![rows, columns],
        }
    }

    /// The range of the tensor's elements that it holds.
    pub fn range(&self, tensor: &TensorSpec) -> Range<usize> {
        let (rows, columns) = self.size(tensor);
        let first = self.rows.as_ref().map_or(0, |rows| rows.start);
        first * columns..(first + rows) * columns
    }

    /// For each element of the file, its position in the layout's order.
    fn places(&self, tensor: &TensorSpec) -> impl Iterator<Item = usize> + use<> {
        let (rows, columns) = self.size(tensor);
        let order = self.order;
        (0..rows * columns).map(move |i| match order {
            Order::Same => i,
            Order::Transposed => i % rows * columns + i / rows,
            Order::ByHead(heads) => {
                let (row, column, width) = (i / columns, i % columns, rows / heads / 3);
                let (head, part, within) = (row / width / 3, row / width % 3, row % width);
                ((part * heads + head) * width + within) * columns + column
            }
            Order::HalvesSwapped => (i + rows / 2 * columns) % (rows * columns),
        })
    }

    /// Writes the elements of the file to their positions in `slots`, the [`range`](Self::range) of
    /// the tensor's elements.
    pub fn place(&self, tensor: &TensorSpec, values: &[f32], slots: &mut [f32]) {
        match self.order {
            Order::Same => slots.copy_from_slice(values),
            _ => self.places(tensor).zip(values).for_each(|(place, &value)| slots[place] = value),
        }
    }

    /// The elements as the file has them.
    pub fn stored(&self, tensor: &TensorSpec, values: &[f32]) -> Vec<f32> {
        self.places(tensor).map(|place| values[place]).collect()
    }
}

/// The family of a `config.json`, by its `model_type`. The oldest files of GPT-2 state only an
/// architecture.
pub fn of(fields: &Fields) -> Result<&'static Family, String> {
    let architecture = fields.get("architectures").and_then(|names| names.get(0)?.as_str());
    let found = match fields.stated("model_type") {
        Some(Value::String(name)) => name,
        None if architecture.is_some_and(|name| name.starts_with("GPT2")) => "gpt2",
        _ => "",
    };
    if let Some(family) = FAMILIES.iter().find(|family| family.model_types.contains(&found)) {
        return Ok(family);
    }
    let known: Vec<&str> = FAMILIES.iter().flat_map(|family| family.model_types).copied().collect();
    let found = fields.get("model_type").map_or("not there".to_string(), shown);
    Err(format!("model_type is {found}; only {} can be read", known.join(", ")))
}

/// The family that a shape is written as.
pub fn for_shape(shape: &Shape) -> Option<(&'static Family, Map<String, Value>)> {
    FAMILIES.iter().copied().find_map(|family| match (family.write)(shape)? {
        Value::Object(fields) => Some((family, fields)),
        _ => None,
    })
}
