//! Models as folders in Hugging Face's format: `config.json`, `model.safetensors` and `tokenizer.json`.
//!
//! `transformers.AutoModelForCausalLM` loads a folder that this module writes, with the same logits.
//! The module also reads published models as starting points for finetuning: GPT-2 and Cerebras-GPT,
//! Llama, Mistral, Qwen2 and 3, OLMo and DataDecide, Pythia. (The paper pretrains its own GPT-2-style
//! decoders and does not start from published models.) No libtorch is needed: a model is its [`Shape`]
//! and the flat buffer of its [`Layout`](crate::model::Layout).
//!
//! `families` maps the fields of `config.json` and the tensors of each family. The formats differ in
//! three points. Hugging Face stores GPT-2's linear maps as `[in, out]`, and this crate stores all as
//! `[out, in]`. Here queries, keys and values are one map, as are the two halves of a gated MLP.
//! Hugging Face's GPT-2 always has biases, so a model without biases is written with zeros and `"bias":
//! false` in `config.json`.

mod families;
mod fields;
mod weights;

use crate::formats::json;
use crate::model::{Head, Init, Shape, TensorSpec};
use crate::rng::Key;
use crate::store::{sha256, to_json, write_atomic};
use crate::{Error, Result};
use families::{Family, Stored};
use fields::Fields;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use weights::{Weights, unwrapped};
pub use weights::{conversion, is_pickled};

/// The file of the architecture in a checkpoint's folder.
pub const CONFIG: &str = "config.json";
/// The file of the parameters in a checkpoint's folder.
pub const WEIGHTS: &str = "model.safetensors";
/// The file of the tokenizer in a checkpoint's folder.
pub const TOKENIZER: &str = "tokenizer.json";

/// A model: its architecture and its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The architecture.
    pub shape: Shape,
    /// θ: the flat buffer of the shape's [`Layout`](crate::model::Layout), with zeros between tensors.
    pub theta: Vec<f32>,
}

impl Checkpoint {
    /// A newly initialised model (GPT-2's initialisation). It depends only on the shape and the key.
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

    /// Checks the shape and the length of θ.
    ///
    /// # Errors
    /// If the shape is invalid, or the buffer does not have the length of its layout.
    pub fn validate(&self) -> Result<()> {
        self.shape.validate()?;
        let (found, needed) = (self.theta.len(), self.shape.layout().buffer_len());
        if found == needed {
            return Ok(());
        }
        let requirement = format!("must be {needed}, the length of the layout");
        Err(Error::setting("length of theta", found, requirement))
    }

    /// Reads a folder. Parameters may be f64, f32, f16 or bf16, in one file or in several with an
    /// index, and their names may have the prefixes of wrappers (`_orig_mod.`, `module.`). Memory is
    /// allocated only after the sizes in the files have been checked.
    ///
    /// # Errors
    /// If a file is missing or damaged, the family is unknown, or `config.json` asks for something that
    /// this crate cannot compute (another activation, a sliding window, experts). The error names the
    /// file.
    ///
    /// # Examples
    /// ```no_run
    /// use forgetting_laws::checkpoint::Checkpoint;
    /// let gpt2 = Checkpoint::read("gpt2".as_ref())?;
    /// println!("{} parameters", gpt2.shape.count().trained());
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn read(folder: &Path) -> Result<Self> {
        Self::of(Self::read_config(folder)?, &mut Weights::open(folder, false)?)
    }

    /// Reads a folder and checks that its `model.safetensors` has the hash that
    /// [`write`](Checkpoint::write) returned. Every byte is read once.
    ///
    /// # Errors
    /// As [`Checkpoint::read`], and if the hash differs.
    pub fn read_verified(folder: &Path, hash: &str) -> Result<Self> {
        let config = Self::read_config(folder)?;
        let mut weights = Weights::open(folder, true)?;
        let read = Self::of(config, &mut weights);
        weights.verify(hash).and(read)
    }

    /// The files of a folder that [`Checkpoint::read`] reads. Its result depends on nothing else.
    ///
    /// # Errors
    /// If a file is missing, or its header shows that it is not a model.
    pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
        Self::read_shape(folder)?;
        let weights = Weights::open(folder, false)?;
        let mut files = vec![folder.join(CONFIG), weights.path().to_path_buf()];
        files.extend(weights.files().filter(|&file| file != weights.path()).map(Path::to_path_buf));
        Ok(files)
    }

    fn of(config: Config, weights: &mut Weights) -> Result<Self> {
        let Config { shape, family, .. } = config;
        let layout = shape.layout();
        let of_layout: BTreeMap<&str, &TensorSpec> =
            layout.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let of_file = |stored: Stored| {
            let tensor = of_layout.get(stored.of.as_str())?;
            Some((name_in(weights, family, &stored), stored, *tensor))
        };
        let mut tensors: Vec<(String, Stored, &TensorSpec)> =
            (family.tensors)(&shape).into_iter().filter_map(of_file).collect();
        // All names and dimensions before any memory is taken for them.
        for (name, stored, tensor) in &tensors {
            weights.check(name, &stored.dims(tensor))?;
        }
        tensors.sort_by_key(|(name, ..)| weights.place(name));
        let mut theta = vec![0f32; layout.buffer_len()];
        for (name, stored, tensor) in &tensors {
            let slots = &mut theta[tensor.range()][stored.range(tensor)];
            stored.place(tensor, &weights.read(name)?, slots);
        }
        let names: Vec<&str> = tensors.iter().map(|(name, ..)| name.as_str()).collect();
        let embedding = &theta[layout.tensors()[0].range()];
        check_rest(weights, &names, family, &shape, embedding)?;
        Ok(Self { shape, theta })
    }

    /// The choices that [`Checkpoint::read`] makes for a folder, one sentence each: fields that are
    /// null and take their default, and tensors that are left out because they do not belong to the
    /// language model, such as a value head of reinforcement learning or a classifier. Reads only
    /// `config.json` and headers.
    ///
    /// # Errors
    /// As [`Checkpoint::files`].
    pub fn remarks(folder: &Path) -> Result<Vec<String>> {
        let path = folder.join(CONFIG);
        let Config { nulls, family, .. } = Self::read_config(folder)?;
        let mut remarks: Vec<String> =
            nulls.into_iter().map(|null| format!("{}: {null}", path.display())).collect();
        let weights = Weights::open(folder, false)?;
        let others: Vec<&str> = weights.names().filter(|name| !is_of_model(family, name)).collect();
        if let Some(first) = others.first().and_then(|first| weights.name_in_file(first)) {
            let more = match others.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let path = weights.path().display();
            remarks.push(format!("{path}: {first}{more} left out, not part of the language model"));
        }
        Ok(remarks)
    }

    /// Reads only the architecture.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn read_shape(folder: &Path) -> Result<Shape> {
        Self::read_config(folder).map(|config| config.shape)
    }

    fn read_config(folder: &Path) -> Result<Config> {
        let path = folder.join(CONFIG);
        if folder.is_file() {
            let reason =
                "is a file; name the folder that contains config.json and model.safetensors";
            return Err(Error::content(folder, None, reason));
        }
        let bytes = fs::read(&path).map_err(Error::io(&path))?;
        let fields = json::whole(&path, &bytes, "the configuration of a model")?;
        Config::parse(fields).map_err(|reason| Error::content(&path, None, reason))
    }

    /// Hex SHA-256 of the architecture and the parameters. It does not depend on how a file packs them.
    pub fn hash(&self) -> String {
        let shape = serde_json::to_vec(&self.shape).expect("our types have string keys");
        let mut hasher = Sha256::new_with_prefix(&shape);
        for tensor in self.shape.layout().tensors() {
            hasher.update(le_bytes(&self.theta[tensor.range()]));
        }
        format!("{:x}", hasher.finalize())
    }

    /// Writes `config.json` and `model.safetensors` into an existing folder, each atomically, and
    /// returns the hex SHA-256 of the latter. `end_of_text` is the token between documents, for
    /// `config.json`. The caller adds the `tokenizer.json`.
    ///
    /// The format is that of the first family that can represent the model. GPT-2's positions are
    /// learned; a model like GPT-2 with rotary positions and without biases is written in the same
    /// format with a `model_type` of its own, which only this module reads.
    ///
    /// # Errors
    /// If no family can represent the model, or a file cannot be written.
    pub fn write(&self, folder: &Path, end_of_text: Option<u32>) -> Result<String> {
        let (family, mut fields) = families::for_shape(&self.shape).ok_or_else(|| {
            let shape = serde_json::to_string(&self.shape).expect("our types have string keys");
            Error::setting("shape", shape, "cannot be written in the format of any family")
        })?;
        // GPT-2 has one token for both ends.
        fields.entry("bos_token_id").or_insert(end_of_text.into());
        fields.insert("eos_token_id".into(), end_of_text.into());
        fields.insert("torch_dtype".into(), "float32".into());
        let bytes = self.to_safetensors(family);
        write_atomic(&folder.join(CONFIG), &to_json(&fields))?;
        write_atomic(&folder.join(WEIGHTS), &bytes)?;
        Ok(sha256(&bytes))
    }

    fn to_safetensors(&self, family: &Family) -> Vec<u8> {
        let (layout, in_files) = (self.shape.layout(), (family.in_files)(self.shape).layout());
        let by_name = |tensors: &'_ [TensorSpec]| -> BTreeMap<String, TensorSpec> {
            tensors.iter().map(|tensor| (tensor.name.clone(), tensor.clone())).collect()
        };
        let (own, in_files) = (by_name(layout.tensors()), by_name(in_files.tensors()));
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for stored in (family.tensors)(&(family.in_files)(self.shape)) {
            let Some(tensor) = in_files.get(&stored.of) else { continue };
            let range = stored.range(tensor);
            let values = match own.get(&stored.of) {
                Some(own) => stored.stored(tensor, &self.theta[own.range()][range]),
                None => vec![0.0; range.len()],
            };
            let dims = stored.dims(tensor);
            tensors.push((stored.name, dims, le_bytes(&values)));
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

/// The content of a `config.json`.
struct Config {
    shape: Shape,
    family: &'static Family,
    /// Fields that are null, with the defaults that they take.
    nulls: Vec<String>,
}

impl Config {
    /// Parses the fields, or says what is wrong with them. A missing field has the default of the
    /// family.
    fn parse(fields: serde_json::Map<String, Value>) -> Result<Self, String> {
        let mut fields = Fields::new(fields);
        let family = families::of(&fields)?;
        fields.none("quantization_config", "a model in F32, F16 or BF16")?;
        let code = fields.stated("auto_map").and_then(|map| map.get("AutoModelForCausalLM"));
        if let Some(code) = code.filter(|_| !family.has_own_code) {
            return fields::refuse("auto_map.AutoModelForCausalLM", code, "transformers' own code");
        }
        let shape = (family.read)(&mut fields)?.canonical();
        let named = |name: &'static str| fields.key(family.keys, name);
        shape.validate_as(named).map_err(|error| error.to_string())?;
        Ok(Self { shape, family, nulls: fields.nulls })
    }
}

/// The name, without wrappers, under which a tensor is read. A file may store the embedding under the
/// name of the head that is tied to it.
fn name_in(weights: &Weights, family: &Family, stored: &Stored) -> String {
    let own = unwrapped(&stored.name);
    let others = match stored.of.as_str() {
        "wte" | "head.weight" => family.heads,
        _ => &[],
    };
    let mut names = std::iter::once(own.as_str()).chain(others.iter().copied());
    names.find(|name| weights.name_in_file(name).is_some()).unwrap_or(&own).to_string()
}

/// Whether a tensor (by its name without wrappers) belongs to the language model and not to another
/// head.
fn is_of_model(family: &Family, name: &str) -> bool {
    family.parts.contains(&name.split('.').next().unwrap_or_default())
}

/// Refuses a file that contains more of a model than was `read`: biases although the model has none, a
/// separate head although the head is tied to the embedding, or more layers than `config.json` states.
fn check_rest(
    weights: &mut Weights,
    read: &[&str],
    family: &Family,
    shape: &Shape,
    embedding: &[f32],
) -> Result<()> {
    let names: Vec<String> = weights.names().map(String::from).collect();
    let of_model = names.iter().filter(|name| is_of_model(family, name));
    for name in of_model.filter(|name| !read.contains(&name.as_str())) {
        if family.no_parameters.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let path = weights.path().to_path_buf();
        let in_file = weights.name_in_file(name).unwrap_or(name).to_string();
        let refuse =
            |reason: String| Err(Error::content(&path, None, format!("{in_file} {reason}")));
        if family.heads.contains(&name.as_str()) && shape.head == Head::Tied {
            weights.check(name, &[shape.vocab, shape.d_model])?;
            let head = weights.read(name)?;
            let differ = head.iter().zip(embedding).position(|(a, b)| a != b);
            if let Some(i) = differ {
                let (row, column, own) = (i / shape.d_model, i % shape.d_model, head[i]);
                let embedding = embedding[i];
                return refuse(format!(
                    "is a head of its own, but config.json says that it is tied to the embedding: \
                     [{row}, {column}] is {own}, and {embedding} in the embedding"
                ));
            }
        } else if layer_of(family, name).is_some_and(|layer| layer >= shape.n_layers) {
            let (n_layers, stated) = (family.n_layers, shape.n_layers);
            return refuse(format!("is there, but config.json says that {n_layers} is {stated}"));
        } else if name.ends_with(".bias") && !shape.bias {
            let values = weights.read(name)?;
            if let Some(value) = values.iter().find(|&&value| value != 0.0) {
                return refuse(format!("has {value}, but by config.json there is no such bias"));
            }
        } else {
            let model_type = family.model_types[0];
            return refuse(format!("is not a tensor of the model_type {model_type}"));
        }
    }
    Ok(())
}

/// The layer that a tensor's name says it is in.
fn layer_of(family: &Family, name: &str) -> Option<usize> {
    name.strip_prefix(family.parts[0])?.strip_prefix('.')?.split('.').next()?.parse().ok()
}

/// Elements as bytes of a safetensors file.
pub(crate) fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
