//! Opens the text named on the command line or in the settings: files, or one data set of the registry.

use super::fields::{counting, fields};
use super::files::{CachedIdentity, Text};
use super::registry::{HUB, name_of, registry};
use crate::terminal::Transfers;
use forgetting_laws::data::Source;
use forgetting_laws::data::files::Fields;
use forgetting_laws::data::mask::Supervised;
use forgetting_laws::data::registry::DatasetManifest;
use forgetting_laws::data::tokens::Origin;
use forgetting_laws::hub::Hub;
use forgetting_laws::{Error, Result};
use std::path::{Path, PathBuf};

/// The settings of how text is read.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// The field of .jsonl files with the text.
    pub text_field: &'a str,
    /// The field of .jsonl files that names the work; if empty, every document is a work.
    pub group: &'a str,
    /// A file with data sets in addition to the built-in ones; may be empty.
    pub registry: &'a Path,
    /// A data set whose format the records of the targets' files have; if empty, they have a text
    /// field.
    pub like: &'a str,
    /// Which tokens of the targets' instructions count in the loss.
    pub loss: Supervised,
    /// Whether records whose text is null or missing are skipped.
    pub skip_missing: bool,
    /// Whether text files are read again even if their times and sizes have not changed.
    pub reread: bool,
}

/// An opened text.
pub struct OpenedSource {
    /// The documents.
    pub source: Box<dyn Source>,
    /// A description of its origin.
    pub origin: Origin,
    /// The fetched files, if it is a data set of the registry.
    pub manifest: Option<DatasetManifest>,
    /// Facts about files to store, so that they need not be read again.
    pub known: Option<CachedIdentity>,
    /// Whether only answers count in the loss.
    pub answers: bool,
}

/// The purpose of a text.
#[derive(Clone, Copy, PartialEq)]
pub enum DataRole {
    /// Pretraining and injection; all tokens count.
    Pretraining,
    /// A target; the settings say which tokens count.
    Target,
}

/// Why and how text is opened.
#[derive(Clone, Copy)]
pub struct Purpose<'a> {
    /// Its purpose.
    pub role: DataRole,
    /// The option that names it.
    pub flag: &'a str,
    /// Whether nothing may be fetched.
    pub only_plan: bool,
    /// The folder with cached facts about files.
    pub cache: Option<&'a Path>,
}

/// Opens files or a data set, and fetches the missing files of the data set. `None` if files are
/// missing and only a plan is wanted.
///
/// # Errors
/// If something is missing, damaged or cannot be fetched.
pub fn open(
    paths: &[PathBuf],
    data: Reading<'_>,
    purpose: Purpose<'_>,
) -> Result<Option<OpenedSource>> {
    let Purpose { role, flag, only_plan, cache } = purpose;
    let some = |text: &'_ str| Some(text.to_string()).filter(|text| !text.is_empty());
    let table = Some(data.registry).filter(|file| !file.as_os_str().is_empty());
    let asked = |fields: Fields| {
        let fields = Fields { skip_missing: data.skip_missing, ..fields };
        match role {
            DataRole::Pretraining => Fields { loss: Supervised::All, ..fields },
            DataRole::Target => counting(fields, data.loss),
        }
    };
    let Some(name) = paths.iter().find_map(|path| name_of(path)) else {
        let like = some(data.like).filter(|_| role == DataRole::Target);
        let group = some(data.group);
        let fields = fields(like.as_deref(), table, data.text_field, group.as_deref())?;
        let fields = asked(fields);
        let text = Text::open(paths, &fields, cache, data.reread)?;
        return Ok(Some(OpenedSource::text(text, file_names(paths), None, &fields)));
    };
    if paths.len() > 1 {
        let requirement = "must be the only source";
        return Err(Error::setting(flag, format!("{HUB}{name}"), requirement));
    }
    let (dataset, hub) = (registry(table)?.find(name)?, Hub::from_env()?);
    let manifest = if only_plan {
        dataset.here(&hub)?
    } else {
        Some(dataset.get(&hub, &Transfers::default())?)
    };
    let Some(manifest) = manifest else { return Ok(None) };
    let fields = asked(dataset.fields.clone());
    let text = Text::open(&manifest.paths(&hub), &fields, cache, data.reread)?;
    Ok(Some(OpenedSource::text(text, format!("{HUB}{name}"), Some(manifest), &fields)))
}

impl OpenedSource {
    fn text(text: Text, name: String, manifest: Option<DatasetManifest>, fields: &Fields) -> Self {
        let revision = manifest.as_ref().and_then(|manifest| manifest.commit.clone());
        let origin = Origin { name, revision, files: text.files().to_vec() };
        let (known, answers) = (text.known().cloned(), fields.counts_answers());
        Self { source: Box::new(text), origin, manifest, known, answers }
    }
}

/// The names without folders: the same text in another folder gives the same names.
pub fn file_names(paths: &[PathBuf]) -> String {
    let names = paths.iter().filter_map(|path| path.file_name());
    names.map(|name| name.to_string_lossy()).collect::<Vec<_>>().join(", ")
}
