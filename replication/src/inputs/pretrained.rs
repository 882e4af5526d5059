//! Given pretrained models, with cached facts that save reading them again.

use super::fingerprint::{self, Fingerprint};
use crate::terminal::{Transfers, log};
use forgetting_laws::checkpoint::{self, Checkpoint};
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::hub::{Hub, Kind, Repository};
use forgetting_laws::model::Shape;
use forgetting_laws::store::{sha256, to_json, write_atomic};
use forgetting_laws::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The index that names the file of each tensor, if there are several.
const INDEX: &str = "model.safetensors.index.json";

/// Files next to a model and its tokenizer that say how both are used.
const BESIDES: [&str; 5] = [
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
];

/// Copies the files next to a model to a model that was finetuned from it, if the tokenizer is the
/// model's own.
///
/// # Errors
/// If a file cannot be read or written.
pub fn copy_besides(from: &Path, to: &Path, tokenizer: &Tokenizer) -> Result<()> {
    if BESIDES.iter().any(|name| from.join(name).is_file()) && is_own(from, tokenizer) {
        copy_files(&BESIDES, from, to)?;
    }
    Ok(())
}

/// Copies those of some files that a folder has to another folder.
///
/// # Errors
/// If a file cannot be read or written.
pub fn copy_files(names: &[&str], from: &Path, to: &Path) -> Result<()> {
    for name in names {
        let path = from.join(name);
        if path.is_file() {
            write_atomic(&to.join(name), &std::fs::read(&path).map_err(Error::io(&path))?)?;
        }
    }
    Ok(())
}

/// Whether a tokenizer is that of the model in a folder.
fn is_own(folder: &Path, tokenizer: &Tokenizer) -> bool {
    let file = folder.join(checkpoint::TOKENIZER);
    std::fs::read(&file).is_ok_and(|json| json == tokenizer.to_json().as_bytes())
        || Tokenizer::open(&file, None).is_ok_and(|own| own.hash() == tokenizer.hash())
}

/// Gives the `config.json` of a model that was finetuned from another, if there is one, the special
/// tokens of that other model, if the tokenizer is that model's own: those that begin and fill a text,
/// and all that end one, after the one by which texts were separated.
///
/// # Errors
/// If a file cannot be read or written.
pub fn keep_special_tokens(from: &Path, to: &Path, tokenizer: &Tokenizer) -> Result<()> {
    const ENDS: &str = "eos_token_id";
    let [from_config, to_config] = [from, to].map(|folder| folder.join(checkpoint::CONFIG));
    if !to_config.is_file() || !is_own(from, tokenizer) {
        return Ok(());
    }
    let read = |path: &Path| -> Result<Map<String, Value>> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map_err(|error| Error::content(path, None, error.to_string()))
    };
    let (theirs, own) = (read(&from_config)?, read(&to_config)?);
    let mut kept = own.clone();
    for name in ["bos_token_id", "pad_token_id"] {
        if let Some(token) = theirs.get(name).filter(|token| !token.is_null()) {
            kept.insert(name.into(), token.clone());
        }
    }
    let all = |ends: Option<&Value>| match ends {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(ends)) => ends.clone(),
        Some(end) => vec![end.clone()],
    };
    let mut ends = all(own.get(ENDS));
    for end in all(theirs.get(ENDS)) {
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    if ends.len() > 1 {
        kept.insert(ENDS.into(), ends.into());
    }
    if kept != own { write_atomic(&to_config, &to_json(&kept)) } else { Ok(()) }
}

/// Which of the given models are identified, for which their parameters are read, and if need be fetched.
#[derive(Clone, Copy)]
pub enum Needed<'a> {
    /// All models.
    All,
    /// Models whose parameters are here already: a plan fetches none.
    Here,
    /// Models of these shapes, from which runs began. Others have no results.
    Begun(&'a [Shape]),
}

/// A given pretrained model.
pub struct Import {
    /// Its folder.
    pub folder: PathBuf,
    /// Its architecture.
    pub shape: Shape,
    /// The hash of its architecture and parameters.
    pub hash: String,
    /// The facts to store.
    known: Option<CachedIdentity>,
}

impl Import {
    /// Opens a model. Its hash is stored in the folder `cache`, if that exists (a plan does not create
    /// it), and computed again if a file of the model has another length or time. A model that need not
    /// be identified, or whose parameters are not here, has its name instead of a hash.
    ///
    /// # Errors
    /// If the model cannot be read, or its context is too short.
    pub fn open(
        named: &Path,
        context: usize,
        cache: Option<&Path>,
        needed: Needed<'_>,
    ) -> Result<Self> {
        let mut folder = fetched(named, matches!(needed, Needed::All))?;
        let here = || {
            let files = [checkpoint::WEIGHTS, INDEX];
            folder == named || files.iter().any(|file| folder.join(file).exists())
        };
        let identified = match needed {
            Needed::All => true,
            Needed::Here => here(),
            Needed::Begun(shapes) => shapes.contains(&Checkpoint::read_shape(&folder)?),
        };
        let (shape, hash, known) = if identified {
            if !here() {
                folder = fetched(named, true)?;
            }
            Checkpoint::remarks(&folder)?.iter().for_each(|remark| log(remark));
            CachedIdentity::of(&folder, cache)?
        } else {
            (Checkpoint::read_shape(&folder)?, format!("{}, not read", named.display()), None)
        };
        let (most, named) = (shape.context, named.display());
        if context > most {
            let requirement = format!("must be at most {most}, the longest text of {named}");
            return Err(Error::setting("model.context", context, requirement));
        }
        Ok(Self { folder, shape, hash, known })
    }

    /// Stores the facts about its files in a folder, which is created if it is missing.
    pub fn keep(&self, cache: &Path) {
        if let Some(known) = &self.known {
            known.keep(cache);
        }
    }
}

/// The hash of a model, with the fingerprints of its files.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct CachedIdentity {
    /// Version of the hash.
    version: u32,
    shape: Shape,
    files: Vec<Fingerprint>,
    hash: String,
}

impl CachedIdentity {
    const VERSION: u32 = 1;

    /// The architecture and the hash of a model, and what to store of it.
    fn of(folder: &Path, cache: Option<&Path>) -> Result<(Shape, String, Option<Self>)> {
        let shape = Checkpoint::read_shape(folder)?;
        // Before it is read: a file that changes meanwhile has another fingerprint the next time.
        let Some(files) = Fingerprint::of_all(&Checkpoint::files(folder)?)? else {
            return Checkpoint::read(folder).map(|model| (model.shape, model.hash(), None));
        };
        let known = cache.and_then(|cache| fingerprint::recall(&Self::path(cache, &files)));
        if let Some(known) = known.filter(|known: &Self| {
            (known.version, known.shape, &known.files) == (Self::VERSION, shape, &files)
        }) {
            return Ok((shape, known.hash.clone(), Some(known)));
        }
        let model = Checkpoint::read(folder)?;
        let found = Self { version: Self::VERSION, shape: model.shape, files, hash: model.hash() };
        if let Some(cache) = cache.filter(|cache| cache.is_dir()) {
            found.keep(cache);
        }
        Ok((found.shape, found.hash.clone(), Some(found)))
    }

    fn path(cache: &Path, files: &[Fingerprint]) -> PathBuf {
        let name = sha256(files[0].file.as_os_str().as_encoded_bytes());
        cache.join(format!("model-{}.json", &name[..16]))
    }

    fn keep(&self, cache: &Path) {
        let path = Self::path(cache, &self.files);
        if fingerprint::recall::<Self>(&path).as_ref() != Some(self) {
            fingerprint::keep(cache, &path, self);
        }
    }
}

/// The folder of a model: a folder, or a fetched repository `hub:OWNER/NAME` or
/// `hub:OWNER/NAME@REVISION`. A name without `hub:` means a repository if there is no such folder.
///
/// # Errors
/// If the repository has no such model or cannot be fetched.
pub fn folder_of(named: &Path) -> Result<PathBuf> {
    fetched(named, true)
}

/// The same, with the parameters or only the files next to them.
fn fetched(named: &Path, with_weights: bool) -> Result<PathBuf> {
    let text = named.to_str().unwrap_or_default();
    let parts = text.split('/').filter(|part| !part.is_empty() && !part.starts_with('.')).count();
    let name = match text.strip_prefix("hub:") {
        Some(name) => name,
        None if !named.exists() && parts == 2 && text.matches('/').count() == 1 => text,
        None => return Ok(named.to_path_buf()),
    };
    let (id, revision) = name.split_once('@').unwrap_or((name, "main"));
    let hub = Hub::from_env()?;
    let progress = Transfers::default();
    let snapshot = hub.snapshot(&Repository::new(id, Kind::Model, revision)?, &progress)?;
    let parts = snapshot.files.iter().filter(|file| {
        let shard = file.starts_with("model-") && file.ends_with(".safetensors");
        shard || file.as_str() == INDEX
    });
    let has = |name: &str| snapshot.files.iter().any(|file| file == name);
    let weights: Vec<&str> = if has(checkpoint::WEIGHTS) {
        vec![checkpoint::WEIGHTS]
    } else {
        parts.map(String::as_str).collect()
    };
    if weights.is_empty()
        && let Some(pickled) = snapshot.files.iter().find(|file| checkpoint::is_pickled(file))
    {
        let own = id.rsplit('/').next().unwrap_or(id);
        let command = checkpoint::conversion(id, own);
        let requirement = format!(
            "has its model as {pickled} alone, which can run code when it is read; convert it and \
             name the folder {own}: {command}"
        );
        return Err(Error::setting("model", named.display(), requirement));
    }
    // GPT-2's older models have a tokenizer in two files.
    let older = !has(checkpoint::TOKENIZER) && has("vocab.json");
    let tokenizer =
        if older { vec!["vocab.json", "merges.txt"] } else { vec![checkpoint::TOKENIZER] };
    let besides = BESIDES.into_iter().filter(|name| has(name));
    let mut folder = PathBuf::new();
    let weights = weights.into_iter().filter(|_| with_weights);
    // The weights, which take the longest, are the last.
    for name in [checkpoint::CONFIG].into_iter().chain(tokenizer).chain(besides).chain(weights) {
        let fetched = hub.fetch(&snapshot, name, &progress)?;
        folder = fetched.path.parent().unwrap_or(&fetched.path).to_path_buf();
    }
    Ok(folder)
}

/// The tokenizer of the given models. It must be the same for all, because losses per token cannot be
/// compared between tokenizers.
///
/// # Errors
/// If a model has no tokenizer, or two differ.
pub fn tokenizer_of(
    imports: &BTreeMap<String, Import>,
    end_of_text: Option<&str>,
) -> Result<Option<Arc<Tokenizer>>> {
    let mut found: Option<(Tokenizer, &Import)> = None;
    for import in imports.values() {
        let own = Tokenizer::open(&import.folder.join(checkpoint::TOKENIZER), end_of_text)?;
        match &found {
            Some((first, other)) if first.hash() != own.hash() => {
                let (a, b) = (other.folder.display(), import.folder.display());
                let requirement =
                    format!("must have the tokenizer of {a}; name one by --tokenizer");
                return Err(Error::setting("--pretrained", b, requirement));
            }
            Some((first, other)) if first.end_of_text() != own.end_of_text() => {
                let (a, b) = (other.folder.display(), import.folder.display());
                let ends = [first, &own].map(Tokenizer::stated_end_of_text);
                let requirement = format!(
                    "ends a text with {}, and {a} with {}; name one by --end-of-text",
                    ends[1], ends[0]
                );
                return Err(Error::setting("--pretrained", b, requirement));
            }
            Some(_) => {}
            None => found = Some((own, import)),
        }
    }
    Ok(found.map(|(tokenizer, _)| Arc::new(tokenizer)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::fingerprint::set_time;
    use std::fs;
    use std::time::{Duration, SystemTime};

    fn golden(name: &str, file: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/checkpoint").join(name);
        fs::read(folder.join(file)).unwrap()
    }

    #[test]
    fn a_model_is_read_again_when_it_changes_and_only_then() {
        let root = tempfile::tempdir().unwrap();
        let (folder, cache) = (root.path().join("model"), root.path().join("out/data"));
        fs::create_dir_all(&cache).unwrap();
        fs::create_dir(&folder).unwrap();
        for file in [checkpoint::CONFIG, checkpoint::WEIGHTS] {
            fs::write(folder.join(file), golden("f32", file)).unwrap();
        }
        let weights = folder.join(checkpoint::WEIGHTS);
        let then = SystemTime::now() - Duration::from_secs(1000);
        set_time(&weights, then);
        let open = |cache| CachedIdentity::of(&folder, cache).map(|(shape, hash, _)| (shape, hash));
        let first = open(Some(&cache)).unwrap();
        assert_eq!(first, open(None).unwrap());
        assert_eq!(first.1, Checkpoint::read(&folder).unwrap().hash());

        // It is not read again: what is kept of it is believed.
        let mut files = fs::read_dir(&cache).unwrap().map(|file| file.unwrap().path());
        let kept = files.find(|file| file.extension().is_some_and(|json| json == "json")).unwrap();
        let known = fs::read_to_string(&kept).unwrap();
        fs::write(&kept, known.replace(&first.1, "believed")).unwrap();
        assert_eq!(open(Some(&cache)).unwrap().1, "believed");
        fs::write(&kept, known).unwrap();

        // Other parameters, though of the same length and time, and they are.
        let mut other = fs::read(&weights).unwrap();
        let last = other.len() - 1;
        other[last] ^= 1;
        fs::write(&weights, &other).unwrap();
        set_time(&weights, then);
        let second = open(Some(&cache)).unwrap();
        assert_ne!(second.1, first.1);
        assert_eq!(second, open(None).unwrap());
        // Another length: zeros at the end, which no tensor has.
        fs::write(&weights, [&golden("f32", checkpoint::WEIGHTS)[..], &[0; 8]].concat()).unwrap();
        set_time(&weights, then + Duration::from_nanos(1_000_000));
        let third = open(Some(&cache)).unwrap_or_else(|_| open(None).unwrap());
        assert_eq!(third, first);
        // Another architecture in the place of the one that is known, and a cache that is none.
        let config = String::from_utf8(golden("f32", checkpoint::CONFIG)).unwrap();
        fs::write(folder.join(checkpoint::CONFIG), config.replace("\"n_head\"", "\"n_heads\""))
            .unwrap();
        assert!(open(Some(&cache)).is_err());
        fs::write(folder.join(checkpoint::CONFIG), config).unwrap();
        for file in fs::read_dir(&cache).unwrap() {
            fs::write(file.unwrap().path(), "{").unwrap();
        }
        assert_eq!(open(Some(&cache)).unwrap(), first);
        // Nowhere to keep it.
        assert_eq!(open(Some(&weights)).unwrap(), first);
    }
}
