//! Models as folders in Hugging Face's form of GPT-2: `config.json`, `model.safetensors` and,
//! beside them, `tokenizer.json`.
//!
//! A folder that this module writes is loaded by `transformers.AutoModelForCausalLM`, with the same
//! logits; and the published GPT-2 models and their kin are read as the models to finetune. The
//! paper's models are GPT-2-style decoders that it pretrains itself; starting from a published
//! checkpoint is ours. This module needs no libtorch: a model is its [`Shape`] and the flat buffer
//! of its [`Layout`].
//!
//! What differs between the two forms: Hugging Face keeps a linear map as `[in, out]` and this
//! crate as `[out, in]`; its models always have biases, so a model without is written with zeros
//! and with `"bias": false` in its `config.json`; and its logits are those of the tied embedding,
//! as here.

mod config;
mod weights;

use crate::formats::json;
use crate::model::{Init, Layout, Shape, TensorSpec};
use crate::rng::Key;
use crate::store::{sha256, write_atomic};
use crate::{Error, Result};
use config::Config;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use weights::Weights;
pub use weights::{conversion, is_pickled};

/// The architecture, in a checkpoint's folder.
pub const CONFIG: &str = "config.json";
/// The parameters, in a checkpoint's folder.
pub const WEIGHTS: &str = "model.safetensors";
/// The tokenizer, in a checkpoint's folder.
pub const TOKENIZER: &str = "tokenizer.json";

/// A model: its architecture and its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The architecture.
    pub shape: Shape,
    /// θ: the flat buffer of the shape's [`Layout`], with zeros between tensors.
    pub theta: Vec<f32>,
}

impl Checkpoint {
    /// A freshly initialised model (GPT-2's initialisation), a function of shape and key alone.
    ///
    /// # Errors
    /// If the shape is invalid.
    pub fn initial(shape: Shape, key: Key) -> Result<Self> {
        shape.validate()?;
        let layout = shape.layout();
        let mut theta = vec![0f32; layout.buffer_len()];
        for (i, tensor) in layout.tensors().iter().enumerate() {
            let slots = &mut theta[tensor.range()];
            match tensor.init {
                Init::Zeros => {}
                Init::Ones => slots.fill(1.0),
                Init::Normal(deviation) => {
                    let key = key.child(i as u64);
                    for (k, slot) in slots.iter_mut().enumerate() {
                        *slot = (deviation * key.normal(k as u64)) as f32;
                    }
                }
            }
        }
        Ok(Self { shape, theta })
    }

    /// # Errors
    /// If the shape is invalid, or the buffer is not that of its layout.
    pub fn validate(&self) -> Result<()> {
        self.shape.validate()?;
        let (found, needed) = (self.theta.len(), self.shape.layout().buffer_len());
        if found == needed {
            return Ok(());
        }
        let requirement = format!("must be {needed}, the layout's");
        Err(Error::setting("length of theta", found, requirement))
    }

    /// Reads a folder. Parameters may be f64, f32, f16 or bf16, in one file or in several with an
    /// index, with the names that `transformers` gives or those that wrappers make of them
    /// (`_orig_mod.`, `module.`); memory is taken for what the files really hold.
    ///
    /// # Errors
    /// The file is named if it is missing, damaged, not GPT-2's form, or asks for something that
    /// this crate's model does not do (another activation, an untied head, other widths).
    ///
    /// # Examples
    /// ```no_run
    /// use forgetting_laws::checkpoint::Checkpoint;
    /// let gpt2 = Checkpoint::read("gpt2".as_ref())?;
    /// println!("{} parameters", gpt2.shape.count().trained());
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn read(folder: &Path) -> Result<Self> {
        let shape = Self::read_shape(folder)?;
        Self::of(shape, &mut Weights::open(folder, false)?)
    }

    /// Reads a folder whose `model.safetensors` must have a hash, which
    /// [`write`](Checkpoint::write) returned. Every byte is read once.
    ///
    /// # Errors
    /// As [`Checkpoint::read`], and if the hash is another one.
    pub fn read_verified(folder: &Path, hash: &str) -> Result<Self> {
        let shape = Self::read_shape(folder)?;
        let mut weights = Weights::open(folder, true)?;
        let read = Self::of(shape, &mut weights);
        weights.verify(hash).and(read)
    }

    /// The files that [`Checkpoint::read`] reads of a folder: what it returns depends on nothing
    /// else.
    ///
    /// # Errors
    /// If one is missing, or it is plain from its header that it is no model.
    pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
        Self::read_shape(folder)?;
        let weights = Weights::open(folder, false)?;
        let mut files = vec![folder.join(CONFIG), weights.path().to_path_buf()];
        files.extend(weights.files().filter(|&file| file != weights.path()).map(Path::to_path_buf));
        Ok(files)
    }

    fn of(shape: Shape, weights: &mut Weights) -> Result<Self> {
        let layout = shape.layout();
        let tensors: Vec<(String, &TensorSpec)> = layout
            .tensors()
            .iter()
            .map(|tensor| (name_in(weights, &tensor.name), tensor))
            .collect();
        // All names and dimensions before any memory is taken for them.
        for (name, tensor) in &tensors {
            weights.check(name, &stored_dims(tensor))?;
        }
        let mut in_place = tensors.clone();
        in_place.sort_by_key(|(name, _)| weights.place(name));
        let mut theta = vec![0f32; layout.buffer_len()];
        for (name, tensor) in in_place {
            place(tensor, &weights.read(&name)?, &mut theta[tensor.range()]);
        }
        let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
        check_rest(weights, &names, &layout, &theta)?;
        Ok(Self { shape, theta })
    }

    /// What [`Checkpoint::read`] makes of a folder without being told so, a sentence each: fields
    /// that are null and have their default, and tensors that are left out because they are no part
    /// of the model, as the value head of reinforcement learning or a classifier. Reads no more than
    /// `config.json` and headers.
    ///
    /// # Errors
    /// As [`Checkpoint::files`].
    pub fn remarks(folder: &Path) -> Result<Vec<String>> {
        let path = folder.join(CONFIG);
        let nulls = Self::read_config(folder)?.nulls;
        let mut remarks: Vec<String> =
            nulls.into_iter().map(|null| format!("{}: {null}", path.display())).collect();
        let weights = Weights::open(folder, false)?;
        let others: Vec<&str> = weights.names().filter(|name| !is_of_model(name)).collect();
        if let Some(first) = others.first().and_then(|first| weights.name_in_file(first)) {
            let more = match others.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let path = weights.path().display();
            remarks.push(format!("{path}: {first}{more} left out: no part of the language model"));
        }
        Ok(remarks)
    }

    /// Reads the architecture alone.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn read_shape(folder: &Path) -> Result<Shape> {
        Self::read_config(folder).map(|config| config.shape)
    }

    fn read_config(folder: &Path) -> Result<Config> {
        let path = folder.join(CONFIG);
        if folder.is_file() {
            let reason = "is a file; name the folder that holds config.json and model.safetensors";
            return Err(Error::content(folder, None, reason));
        }
        let bytes = fs::read(&path).map_err(Error::io(&path))?;
        let fields = json::whole(&path, &bytes, "the configuration of a model")?;
        config::parse(fields).map_err(|reason| Error::content(&path, None, reason))
    }

    /// Hex SHA-256 of the architecture and the parameters: the same however a file packs them.
    pub fn hash(&self) -> String {
        let shape = serde_json::to_vec(&self.shape).expect("our types have string keys");
        let mut hasher = Sha256::new_with_prefix(&shape);
        for tensor in self.shape.layout().tensors() {
            hasher.update(le_bytes(&self.theta[tensor.range()]));
        }
        format!("{:x}", hasher.finalize())
    }

    /// Writes `config.json` and `model.safetensors` into a folder that exists, each whole or not at
    /// all, and returns the hex SHA-256 of the latter. `end_of_text` is the token between
    /// documents, for the configuration. A `tokenizer.json` is the caller's to put beside them.
    ///
    /// GPT-2's positions are learned. A model with rotary ones is written alike, under a
    /// `model_type` of its own, which only this module reads.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, folder: &Path, end_of_text: Option<u32>) -> Result<String> {
        let bytes = self.to_safetensors();
        write_atomic(&folder.join(CONFIG), &config::write(&self.shape, end_of_text))?;
        write_atomic(&folder.join(WEIGHTS), &bytes)?;
        Ok(sha256(&bytes))
    }

    fn to_safetensors(&self) -> Vec<u8> {
        // A model with biases has every tensor that the form asks for.
        let with_biases = Shape { bias: true, ..self.shape }.layout();
        let layout = self.shape.layout();
        let known: BTreeMap<&str, &TensorSpec> =
            layout.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for tensor in with_biases.tensors() {
            let values = match known.get(tensor.name.as_str()) {
                Some(known) => stored(known, &self.theta[known.range()]),
                None => vec![0.0; tensor.len()],
            };
            let name = hugging_face_name("transformer.", &tensor.name);
            tensors.push((name, stored_dims(tensor), le_bytes(&values)));
        }
        tensors.sort();
        let views = tensors.iter().map(|(name, dims, bytes)| {
            let view = TensorView::new(Dtype::F32, dims.clone(), bytes);
            (name.as_str(), view.expect("four bytes an element"))
        });
        // Without it transformers refuses the file.
        let format = HashMap::from([("format".to_string(), "pt".to_string())]);
        safetensors::serialize(views, Some(format)).expect("dimensions are those of the tensors")
    }
}

/// Hugging Face's name of a tensor of the layout.
fn hugging_face_name(prefix: &str, name: &str) -> String {
    let name = name.replace("attn.qkv", "attn.c_attn").replace("attn.proj", "attn.c_proj");
    let name = name.replace("mlp.fc", "mlp.c_fc").replace("mlp.proj", "mlp.c_proj");
    let suffix = if name == "wte" || name == "wpe" { ".weight" } else { "" };
    format!("{prefix}{name}{suffix}")
}

/// Whether the file holds a tensor's transpose: the matrices of linear maps.
fn transposed(tensor: &TensorSpec) -> bool {
    tensor.kind == crate::weight_decay::ParamKind::Matrix
}

/// A tensor's dimensions in the file.
fn stored_dims(tensor: &TensorSpec) -> Vec<usize> {
    if transposed(tensor) {
        tensor.dims.iter().rev().copied().collect()
    } else {
        tensor.dims.clone()
    }
}

/// A tensor's elements as the file has them.
fn stored(tensor: &TensorSpec, values: &[f32]) -> Vec<f32> {
    if transposed(tensor) {
        transpose(values, tensor.dims[0], tensor.dims[1])
    } else {
        values.to_vec()
    }
}

/// Puts a tensor's elements from the file where they belong.
fn place(tensor: &TensorSpec, values: &[f32], slots: &mut [f32]) {
    if transposed(tensor) {
        slots.copy_from_slice(&transpose(values, tensor.dims[1], tensor.dims[0]))
    } else {
        slots.copy_from_slice(values)
    }
}

/// `[rows, columns]` as `[columns, rows]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
}

/// The name, without wrappers, under which a tensor of the layout is read. A file may keep the
/// embedding as the head that is tied to it.
fn name_in(weights: &Weights, name: &str) -> String {
    let own = hugging_face_name("", name);
    let kept_as_head = name == "wte"
        && weights.name_in_file(&own).is_none()
        && weights.name_in_file(HEAD).is_some();
    if kept_as_head { HEAD.to_string() } else { own }
}

/// The head's weight, which is the embedding.
const HEAD: &str = "lm_head.weight";

/// Whether a tensor, by its name without wrappers, is one of the language model: those of other
/// heads are not.
fn is_of_model(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default();
    ["h", "wte", "wpe", "ln_f", "lm_head"].contains(&first)
}

/// Refuses a file that holds more of a model than was `read`: biases of a model that says to have
/// none, a head of its own, or layers beyond those that config.json states.
fn check_rest(weights: &mut Weights, read: &[&str], layout: &Layout, theta: &[f32]) -> Result<()> {
    let names: Vec<String> = weights.names().map(String::from).collect();
    for name in names.iter().filter(|name| is_of_model(name) && !read.contains(&name.as_str())) {
        // The causal mask, which old files carry.
        if name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") {
            continue;
        }
        let path = weights.path().to_path_buf();
        let in_file = weights.name_in_file(name).unwrap_or(name).to_string();
        let refuse =
            |reason: String| Err(Error::content(&path, None, format!("{in_file} {reason}")));
        let layers = layout.tensors().iter().filter(|t| t.name.ends_with(".ln_1.weight")).count();
        if name == HEAD {
            let wte = &layout.tensors()[0];
            weights.check(name, &wte.dims)?;
            let head = weights.read(name)?;
            let differ = head.iter().zip(&theta[wte.range()]).position(|(a, b)| a != b);
            if let Some(i) = differ {
                let (row, column, own) = (i / wte.dims[1], i % wte.dims[1], head[i]);
                let embedding = theta[wte.range()][i];
                return refuse(format!(
                    "is a head of its own, which is not supported: [{row}, {column}] is {own}, and \
                     {embedding} in the embedding"
                ));
            }
        } else if name.ends_with(".bias")
            && !layout.tensors().iter().any(|t| t.name.ends_with("bias"))
        {
            let values = weights.read(name)?;
            if let Some(value) = values.iter().find(|&&value| value != 0.0) {
                return refuse(format!("has {value}, but config.json says that bias is false"));
            }
        } else if layer_of(name).is_some_and(|layer| layer >= layers) {
            return refuse(format!("is there, but config.json says that n_layer is {layers}"));
        } else {
            return refuse("is no tensor of a GPT-2".into());
        }
    }
    Ok(())
}

/// The layer that a tensor's name says it is in.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("h.")?.split('.').next()?.parse().ok()
}

/// Elements as a safetensors file has them.
pub(crate) fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
