//! Reads the tensors of one safetensors file, or of several with an index, one tensor at a time.

use super::WEIGHTS;
use crate::formats::{HEAD, json, not_data};
use crate::{Error, Result};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The index of a checkpoint that is split into several files.
const INDEX: &str = "model.safetensors.index.json";
/// The longest header of a file, as in the format's own reader.
const MOST_HEADER: u64 = 100_000_000;

/// The prefixes that wrappers add to the names of tensors: `torch.compile`, data parallelism (two of
/// them), activation checkpointing, a trainer's module, and `transformers`' models with a head.
const WRAPPERS: [&str; 7] = [
    "_orig_mod",
    "module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "model",
    "transformer",
    "gpt_neox",
];

/// The tensors of a checkpoint, under their names without wrappers.
pub struct Weights {
    /// The file, or the index of several.
    path: PathBuf,
    files: Vec<Piece>,
    places: BTreeMap<String, Place>,
}

/// One file.
struct Piece {
    path: PathBuf,
    file: Hashed,
    /// Where the tensors begin.
    start: u64,
    header: Metadata,
}

/// Where a tensor lies.
struct Place {
    /// The number of its file.
    file: usize,
    /// Its name there.
    name: String,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// A tensor's name without the prefixes of wrappers: `_orig_mod.transformer.wte.weight` becomes
/// `wte.weight`.
pub fn unwrapped(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    parts.join(".")
}

impl Weights {
    /// Opens a folder's files and reads their headers. With `hashing`, the bytes that are read are
    /// hashed.
    ///
    /// As in `transformers`, every tensor of the files counts, whether the index names it or not. A
    /// name in the index without a tensor is ignored: some indices name a tied head.
    pub fn open(folder: &Path, hashing: bool) -> Result<Self> {
        let single = folder.join(WEIGHTS);
        let index = folder.join(INDEX);
        let sharded = !single.exists() && index.exists();
        if !sharded && !single.exists() {
            refuse_pickled(folder)?;
        }
        let map = if sharded { read_index(&index)? } else { BTreeMap::new() };
        let path = if sharded { index } else { single };
        let mut files = Vec::new();
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        for file in map.values() {
            if !numbers.contains_key(file.as_str()) {
                numbers.insert(file, files.len());
                files.push(Piece::open(folder.join(file), hashing)?);
            }
        }
        if !sharded {
            files.push(Piece::open(path.clone(), hashing)?);
        }
        let mut places: BTreeMap<String, Place> = BTreeMap::new();
        for (file, piece) in files.iter().enumerate() {
            let mut names: Vec<String> = piece.header.tensors().into_keys().collect();
            names.sort_unstable();
            for name in names {
                // In two files it is where the index says.
                if map.get(&name).is_some_and(|of_index| {
                    let stated = numbers[of_index.as_str()];
                    stated != file && files[stated].header.info(&name).is_some()
                }) {
                    continue;
                }
                let place = Place { file, name: name.clone() };
                if let Some(other) = places.insert(unwrapped(&name), place) {
                    let reason = if other.name == name {
                        format!("{name} is in {} too", files[other.file].path.display())
                    } else {
                        format!("{} and {name} are the same tensor of the model", other.name)
                    };
                    return Err(Error::content(&piece.path, None, reason));
                }
            }
        }
        Ok(Self { path, files, places })
    }

    /// The files that tensors lie in.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|piece| piece.path.as_path())
    }

    /// The position of a tensor. Tensors that are read in this order are read from the beginning of
    /// each file to its end.
    pub fn place(&self, name: &str) -> Option<(usize, usize)> {
        let (place, info) = self.find(name).ok()?;
        Some((place.file, info.data_offsets.0))
    }

    /// Refuses a checkpoint in one file if its content does not have the hash (hex). Bytes that have
    /// been read already are not read again.
    pub fn verify(self, hash: &str) -> Result<()> {
        for Piece { path, file, .. } in self.files {
            let found = file.hash().map_err(Error::io(&path))?;
            if found != hash {
                return Err(Error::altered(path, &found, hash));
            }
        }
        Ok(())
    }

    /// The file or folder that messages name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names without wrappers, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// A tensor's name in its file.
    pub fn name_in_file(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| place.name.as_str())
    }

    fn find(&self, name: &str) -> Result<(&Place, &TensorInfo)> {
        let found = self
            .places
            .get(name)
            .and_then(|place| Some((place, self.files[place.file].header.info(&place.name)?)));
        found.ok_or_else(|| {
            let some: Vec<&str> = self.places.values().map(|p| p.name.as_str()).take(3).collect();
            let held = if some.is_empty() {
                "the file contains no tensor".to_string()
            } else {
                format!("the first of {} tensors are {}", self.places.len(), some.join(", "))
            };
            Error::content(&self.path, None, format!("the tensor {name} is missing; {held}"))
        })
    }

    /// Refuses a tensor that is missing or has other dimensions.
    pub fn check(&self, name: &str, dims: &[usize]) -> Result<()> {
        let (place, info) = self.find(name)?;
        if info.shape == dims {
            return Ok(());
        }
        let (name, found) = (&place.name, &info.shape);
        let reason = format!("the shape of {name} is {found:?}, and config.json asks for {dims:?}");
        Err(Error::content(&self.files[place.file].path, None, reason))
    }

    /// A tensor's elements, as f32.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>> {
        let (place, info) = self.find(name)?;
        let (file, name) = (place.file, place.name.clone());
        let (dtype, shape, (begin, end)) = (info.dtype, info.shape.clone(), info.data_offsets);
        self.files[file].read(&name, dtype, &shape, begin as u64, end as u64)
    }
}

/// The file of each tensor that an index names; files are in its folder.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = fs::read(path).map_err(Error::io(path))?;
    let content = |reason: String| Error::content(path, None, reason);
    let index: Index = json::whole(path, &text, "an index of files")?;
    if index.weight_map.is_empty() {
        return Err(content("weight_map names no file".into()));
    }
    let outside = |file: &&String| Path::new(file).file_name() != Some(file.as_ref());
    if let Some(file) = index.weight_map.values().find(outside) {
        return Err(content(format!("{file:?} is not the name of a file in its folder")));
    }
    Ok(index.weight_map)
}

/// Whether a file's name is that of a pickled model, or of a part or the index of one.
pub fn is_pickled(name: &str) -> bool {
    name.starts_with("pytorch_model")
        && (name.ends_with(".bin") || name.ends_with(".bin.index.json"))
}

/// The command that saves a pickled model as safetensors.
pub fn conversion(from: &str, to: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let quoted = |text: &str| {
        if text.chars().all(safe) {
            text.to_string()
        } else {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
    };
    format!(
        "python -c \"import sys, transformers as t; \
         t.AutoModelForCausalLM.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])\" {} {}",
        quoted(from),
        quoted(to)
    )
}

/// Refuses a folder whose model is pickled, with the command that converts it.
fn refuse_pickled(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let Some(found) = names.filter(|name| is_pickled(name)).min() else { return Ok(()) };
    let place = folder.display().to_string();
    let command = conversion(&place, &place);
    let reason = format!(
        "contains a model as {found}, which can run code when it is read; convert it: {command}"
    );
    Err(Error::content(folder, None, reason))
}

impl Piece {
    fn open(path: PathBuf, hashing: bool) -> Result<Self> {
        let file = File::open(&path).map_err(Error::io(&path))?;
        let length = file.metadata().map_err(Error::io(&path))?.len();
        let mut file = Hashed { file, hasher: hashing.then(Sha256::new), hashed: 0 };
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        let mut size = [0u8; 8];
        file.read(0, &mut size).map_err(|_| damaged("it ends within its header".into()))?;
        let size = u64::from_le_bytes(size);
        if size > MOST_HEADER || size > length - 8 {
            let mut head = vec![0u8; length.min(HEAD as u64) as usize];
            file.read(0, &mut head).map_err(|_| damaged("it cannot be read".into()))?;
            // Weights are binary; what may stand in their place is text.
            if !head.contains(&0)
                && let Some(what) = not_data(&head)
            {
                return Err(Error::content(&path, None, what));
            }
            return Err(damaged(format!("by its first bytes its header has {size} bytes")));
        }
        let mut header = vec![0u8; size as usize];
        file.read(8, &mut header).map_err(Error::io(&path))?;
        let header: Metadata = serde_json::from_slice(&header).map_err(|error| {
            Error::content(&path, None, format!("not a safetensors file: {error}"))
        })?;
        let start = 8 + size;
        let held = length - start;
        let stated = header.data_len() as u64;
        if stated > held {
            return Err(damaged(format!(
                "its header names {stated} bytes of tensors, and {held} follow"
            )));
        }
        Ok(Self { path, file, start, header })
    }

    fn read(
        &mut self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        begin: u64,
        end: u64,
    ) -> Result<Vec<f32>> {
        let width = match dtype {
            Dtype::F64 => 8,
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            other => {
                let reason =
                    format!("{name} is {other:?}; only F64, F32, F16 and BF16 can be read");
                return Err(Error::content(&self.path, None, reason));
            }
        };
        let elements = shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d));
        let bytes = elements.and_then(|elements| elements.checked_mul(width));
        let stated = end.checked_sub(begin);
        let held = self.header.data_len() as u64;
        let (Some(bytes), true) = (bytes, stated == bytes.map(|b| b as u64) && end <= held) else {
            let reason = format!("the offsets that its header states for {name} are impossible");
            return Err(Error::Damaged { path: self.path.clone(), reason });
        };
        let mut data = vec![0u8; bytes];
        self.file.read(self.start + begin, &mut data).map_err(Error::io(&self.path))?;
        Ok(match dtype {
            Dtype::F64 => {
                data.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect()
            }
            Dtype::F32 => data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Dtype::F16 => halves(&data).map(from_f16).collect(),
            _ => halves(&data).map(|bits| f32::from_bits(u32::from(bits) << 16)).collect(),
        })
    }
}

/// A file whose bytes are hashed, if they are to be, when they are read for the first time.
struct Hashed {
    file: File,
    hasher: Option<Sha256>,
    /// How many bytes, from the beginning, went into the hash.
    hashed: u64,
}

impl Hashed {
    /// Reads bytes at a place. Those before it that nobody has read are hashed first.
    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.hash_up_to(at)?;
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(into)?;
        if let Some(hasher) = &mut self.hasher {
            let known = ((self.hashed - at) as usize).min(into.len());
            hasher.update(&into[known..]);
            self.hashed = self.hashed.max(at + into.len() as u64);
        }
        Ok(())
    }

    fn hash_up_to(&mut self, end: u64) -> io::Result<()> {
        if let Some(hasher) = &mut self.hasher
            && self.hashed < end
        {
            self.file.seek(SeekFrom::Start(self.hashed))?;
            self.hashed += io::copy(&mut self.file.by_ref().take(end - self.hashed), hasher)?;
        }
        Ok(())
    }

    /// Hex SHA-256 of the whole file.
    fn hash(mut self) -> io::Result<String> {
        self.hash_up_to(u64::MAX)?;
        Ok(format!("{:x}", self.hasher.unwrap_or_default().finalize()))
    }
}

fn halves(data: &[u8]) -> impl Iterator<Item = u16> {
    data.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes))
}

/// IEEE 754 binary16: a sign, 5 bits of exponent, 10 of fraction.
fn from_f16(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::from_f16;

    /// Values of IEEE 754-2019's binary16, table 3.5 and its limits.
    #[test]
    fn half_precision() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65_504.0),
            (0x0400, 2f32.powi(-14)),
            (0x0001, 2f32.powi(-24)),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(from_f16(bits), value, "{bits:#x}");
        }
        assert!(from_f16(0x7e01).is_nan());
        assert!(from_f16(0x8000).is_sign_negative());
    }
}
