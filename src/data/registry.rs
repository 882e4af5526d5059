//! Data sets by name: a built-in TOML table, which the user's own file can extend, and the fetched
//! files of each data set.

use super::files::{Fields, Filter, Instructions};
use super::mask::Supervised;
use crate::hub::{Fetched, Hash, Hub, HubError, Kind, Progress, Repository};
use crate::store::{to_json, write_atomic};
use crate::{Error, Result};
use glob::{MatchOptions, Pattern};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The entries that come with this library.
const BUILT_IN: &str = include_str!("registry.toml");

/// The subsets of The Pile (Gao et al., 2020) by the paper's 5 categories. The categories
/// are our reading of the figures of The Pile's paper and not verified.
pub const THE_PILE: [(&str, &[&str]); 5] = [
    (
        "academic",
        &[
            "PubMed Central",
            "ArXiv",
            "FreeLaw",
            "USPTO Backgrounds",
            "PubMed Abstracts",
            "PhilPapers",
            "NIH ExPorter",
        ],
    ),
    ("internet", &["Pile-CC", "OpenWebText2", "StackExchange", "Wikipedia (en)"]),
    ("prose", &["Books3", "Gutenberg (PG-19)", "BookCorpus2"]),
    ("dialogue", &["OpenSubtitles", "Ubuntu IRC", "EuroParl", "HackerNews", "YoutubeSubtitles"]),
    ("misc", &["Github", "DM Mathematics", "Enron Emails"]),
];

/// A category with at most this many subsets counts as thin.
const THIN: usize = 2;

/// Data sets by name.
#[derive(Debug, Clone)]
pub struct Registry {
    entries: BTreeMap<String, Entry>,
}

/// The entry of a data set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// A description in one sentence.
    pub about: String,
    /// What the paper uses it for, or what it replaces here.
    #[serde(default)]
    pub paper: String,
    /// Its repository on the Hub.
    #[serde(default)]
    pub repository: Option<String>,
    /// The kind of the repository.
    #[serde(default = "dataset")]
    pub kind: Kind,
    /// A branch, a tag or a commit of the repository.
    #[serde(default = "main")]
    pub revision: String,
    /// A listing of URLs, instead of a repository.
    #[serde(default)]
    pub listing: Option<Listing>,
    /// Patterns that the names of its files match.
    pub files: Vec<String>,
    /// The field of the text.
    #[serde(default = "text")]
    pub text: String,
    /// The field that names the work.
    #[serde(default)]
    pub group: Option<String>,
    /// Which records are read.
    #[serde(default)]
    pub filter: Option<Filter>,
    /// How a record of instructions becomes text.
    #[serde(default)]
    pub instructions: Option<Instructions>,
    /// Which tokens of instructions count in the loss.
    #[serde(default)]
    pub loss: Supervised,
    /// The subsets of a collection that it has.
    #[serde(default)]
    pub subsets: Option<Subsets>,
    /// The licence, as its publisher states it.
    pub licence: String,
    /// The source of this entry.
    #[serde(default)]
    pub checked: String,
}

fn dataset() -> Kind {
    Kind::Dataset
}

fn main() -> String {
    "main".into()
}

fn text() -> String {
    "text".into()
}

/// A list of file names at one URL, with the files below another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// The URL of the list.
    pub url: String,
    /// The prefix of a name in the URL of its file.
    pub base: String,
    /// The suffix of a name in the URL of its file.
    #[serde(default)]
    pub suffix: String,
}

/// A copy of a collection in which each record names its subset.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subsets {
    /// The field that names the subset.
    pub field: String,
    /// The name of the collection.
    pub collection: Collection,
    /// The subsets that this copy lacks.
    pub lacks: Vec<String>,
}

/// A collection of subsets.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Collection {
    /// [`THE_PILE`].
    ThePile,
}

/// A data set, or a subset of one, that was requested by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The name as requested.
    pub name: String,
    /// The entry's name.
    pub entry_name: String,
    /// The entry.
    pub entry: Entry,
    /// Which part of a record is the document.
    pub fields: Fields,
}

/// The fetched files of a data set and their source. It contains no access token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetManifest {
    /// The entry's name.
    pub dataset: String,
    /// The repository on the Hub, or the URL of the listing.
    pub source: String,
    /// The revision that was requested.
    pub revision: Option<String>,
    /// The commit of that revision.
    pub commit: Option<String>,
    /// The patterns of the files.
    pub patterns: Vec<String>,
    /// The licence, as its publisher states it.
    pub licence: String,
    /// The files, in the order in which they are read.
    pub files: Vec<ManifestFile>,
}

/// A file of a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its name in the repository or listing.
    pub name: String,
    /// Its path, relative to the folder that contains the cache.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The hash that it was verified by.
    pub hash: Hash,
}

impl Registry {
    /// The entries that come with this library.
    pub fn built_in() -> Self {
        let entries = parse(BUILT_IN).expect("the table is tested");
        Self { entries }
    }

    /// Adds the entries of a file. An entry with the name of a built-in one replaces it.
    ///
    /// # Errors
    /// If the file cannot be read or an entry is incomplete.
    pub fn with_file(path: &Path) -> Result<Self> {
        let mut registry = Self::built_in();
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let added = parse(&text).map_err(|(line, reason)| Error::content(path, line, reason))?;
        registry.entries.extend(added);
        Ok(registry)
    }

    /// Names and entries.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The data set `NAME`, or the part `NAME/SUBSET` of a copy of a collection.
    ///
    /// # Errors
    /// If there is no such data set, or this copy lacks the subset. The error names those that exist.
    pub fn find(&self, name: &str) -> Result<Dataset> {
        let refuse = |requirement: String| Error::setting("data set", name, requirement);
        let (entry_name, subset) = match name.split_once('/') {
            Some((entry, subset)) => (entry, Some(subset)),
            None => (name, None),
        };
        let Some(entry) = self.entries.get(entry_name) else {
            let names: Vec<&str> = self.entries.keys().map(String::as_str).collect();
            return Err(refuse(format!("must be one of {}", names.join(", "))));
        };
        let (text, group) = (entry.text.clone(), entry.group.clone());
        let (filter, instructions) = (entry.filter.clone(), entry.instructions.clone());
        let (loss, skip_missing) = (entry.loss, false);
        let mut fields = Fields { text, group, filter, instructions, loss, skip_missing };
        if let Some(subset) = subset {
            let Some(subsets) = &entry.subsets else {
                return Err(refuse(format!("{entry_name} has no subsets")));
            };
            let same = |value: &&str| slug(value) == slug(subset);
            if subsets.lacks.iter().any(|value| same(&value.as_str())) {
                return Err(refuse(format!("this copy lacks it; {}", subsets.coverage())));
            }
            let Some(value) = subsets.values().find(same) else {
                let known: Vec<String> = subsets.values().map(slug).collect();
                return Err(refuse(format!("the subsets are {}", known.join(", "))));
            };
            let (field, values) = (subsets.field.clone(), vec![value.to_string()]);
            fields.filter = Some(Filter { field, values });
        }
        let (name, entry_name) = (name.to_string(), entry_name.to_string());
        Ok(Dataset { name, entry_name, entry: entry.clone(), fields })
    }
}

/// The entries of a table, or the line and the reason why it is invalid.
fn parse(text: &str) -> std::result::Result<BTreeMap<String, Entry>, (Option<u64>, String)> {
    let entries: BTreeMap<String, Entry> = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| 1 + before.matches('\n').count() as u64);
        (line, error.message().lines().next().unwrap_or_default().to_string())
    })?;
    for (name, entry) in &entries {
        entry.check(name).map_err(|reason| (None, format!("entry {name}: {reason}")))?;
    }
    Ok(entries)
}

impl Entry {
    fn check(&self, name: &str) -> std::result::Result<(), String> {
        let good = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
        if !name.chars().all(good) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err("its name must be letters, digits, points and hyphens".into());
        }
        match (&self.repository, &self.listing) {
            (Some(id), None) => {
                Repository::new(id, self.kind, &self.revision)
                    .map_err(|error| error.to_string())?;
            }
            (None, Some(_)) => {}
            _ => return Err("it needs a repository or a listing, and not both".into()),
        }
        if self.files.is_empty() {
            return Err("it names no files".into());
        }
        if self.loss == Supervised::Answer && self.instructions.is_none() {
            return Err("its loss is set to answers, but it has no instructions".into());
        }
        self.patterns().map(drop).map_err(|error| error.to_string())
    }

    fn patterns(&self) -> std::result::Result<Vec<Pattern>, glob::PatternError> {
        self.files.iter().map(|pattern| Pattern::new(pattern)).collect()
    }

    /// The repository or the URL of the listing.
    pub fn source(&self) -> &str {
        let listing = self.listing.as_ref().map(|listing| listing.url.as_str());
        self.repository.as_deref().or(listing).unwrap_or_default()
    }

    /// The names that match the patterns, in order.
    fn fitting(&self, name: &str, names: Vec<String>) -> Result<Vec<String>> {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        let patterns = self.patterns().expect("checked");
        let count = names.len();
        let fits = |name: &String| patterns.iter().any(|p| p.matches_with(name, options));
        let fitting: Vec<String> = names.into_iter().filter(fits).collect();
        if fitting.is_empty() {
            let requirement = format!("matches none of the {count} files of {}", self.source());
            Err(Error::setting(format!("{name}.files"), self.files.join(", "), requirement))
        } else {
            Ok(fitting)
        }
    }
}

impl Subsets {
    /// The subsets that this copy has.
    pub fn values(&self) -> impl Iterator<Item = &'static str> {
        let Collection::ThePile = self.collection;
        THE_PILE.iter().flat_map(|(_, subsets)| *subsets).copied().filter(|name| self.has(name))
    }

    fn has(&self, name: &str) -> bool {
        !self.lacks.iter().any(|lacking| lacking == name)
    }

    /// Which subsets of the collection are missing, and which categories are thin without them.
    pub fn coverage(&self) -> String {
        let Collection::ThePile = self.collection;
        let all: usize = THE_PILE.iter().map(|(_, subsets)| subsets.len()).sum();
        let lacks = if self.lacks.is_empty() {
            format!("all {all} subsets of The Pile")
        } else {
            let has = self.values().count();
            format!("{has} of {all} subsets of The Pile; lacks {}", self.lacks.join(", "))
        };
        let thin: Vec<String> = THE_PILE
            .iter()
            .filter_map(|(category, subsets)| {
                let left: Vec<&str> =
                    subsets.iter().copied().filter(|name| self.has(name)).collect();
                let of = subsets.len();
                let thin = left.len() < of && (left.len() <= THIN || 2 * left.len() < of);
                thin.then(|| match left.as_slice() {
                    [] => format!("no {category} (of {of})"),
                    left => format!("{category} is only {} (of {of})", left.join(" and ")),
                })
            })
            .collect();
        match thin.as_slice() {
            [] => lacks,
            thin => format!("{lacks}; thin: {}", thin.join(", ")),
        }
    }
}

/// A subset's name as written on a command line.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

impl Dataset {
    /// Requests the current commit of the revision, fetches the missing files and records all of them.
    ///
    /// # Errors
    /// If a file cannot be fetched, or the entry's patterns match no file.
    pub fn fetch(&self, hub: &Hub, progress: &dyn Progress) -> Result<DatasetManifest> {
        let entry = &self.entry;
        let (commit, fetched) = match (&entry.repository, &entry.listing) {
            (Some(id), _) => {
                let repository = Repository::new(id, entry.kind, &entry.revision)?;
                let snapshot = hub.snapshot(&repository, progress)?;
                let names = entry.fitting(&self.entry_name, snapshot.files.clone())?;
                let fetch = |name: String| hub.fetch(&snapshot, &name, progress);
                let fetched = names.into_iter().map(fetch).collect::<Result<Vec<_>>>()?;
                (Some(snapshot.commit.clone()), fetched)
            }
            (None, Some(Listing { url, base, suffix })) => {
                let names = entry.fitting(&self.entry_name, hub.listing(url, progress)?)?;
                let fetch =
                    |name: String| hub.fetch_url(&format!("{base}{name}{suffix}"), &name, progress);
                (None, names.into_iter().map(fetch).collect::<Result<Vec<_>>>()?)
            }
            (None, None) => unreachable!("entries are checked"),
        };
        let root = root(hub);
        let file = |Fetched { name, path, size, hash }: Fetched| {
            let path = path.strip_prefix(&root).map_or(path.clone(), Path::to_path_buf);
            ManifestFile { name, path, size, hash }
        };
        let manifest = DatasetManifest {
            dataset: self.entry_name.clone(),
            source: entry.source().into(),
            revision: entry.repository.as_ref().map(|_| entry.revision.clone()),
            commit,
            patterns: entry.files.clone(),
            licence: entry.licence.clone(),
            files: fetched.into_iter().map(file).collect(),
        };
        let path = self.manifest_path(hub);
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        write_atomic(&path, &to_json(&manifest))?;
        Ok(manifest)
    }

    /// The files that an earlier call fetched, if they match the present entry and all exist. Needs no
    /// network: the commit stays pinned until the data set is fetched again.
    ///
    /// # Errors
    /// If the record exists and cannot be read.
    pub fn here(&self, hub: &Hub) -> Result<Option<DatasetManifest>> {
        let path = self.manifest_path(hub);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(Error::io(&path))?,
        };
        let manifest: DatasetManifest = serde_json::from_slice(&bytes).map_err(|error| {
            Error::content(&path, None, format!("{error}; remove the file and fetch it again"))
        })?;
        let entry = &self.entry;
        let same = manifest.source == entry.source()
            && manifest.revision.as_ref().is_none_or(|revision| *revision == entry.revision)
            && manifest.patterns == entry.files;
        let there = |file: &ManifestFile| {
            fs::metadata(root(hub).join(&file.path)).is_ok_and(|found| found.len() == file.size)
        };
        Ok((same && manifest.files.iter().all(there)).then_some(manifest))
    }

    /// [`Self::here`] or, if that is `None`, [`Self::fetch`].
    ///
    /// # Errors
    /// If a file must be fetched and cannot be.
    pub fn get(&self, hub: &Hub, progress: &dyn Progress) -> Result<DatasetManifest> {
        match self.here(hub)? {
            Some(manifest) => Ok(manifest),
            None => self.fetch(hub, progress),
        }
    }

    /// The path of the record of fetched files.
    pub fn manifest_path(&self, hub: &Hub) -> PathBuf {
        hub.settings().own_folder().join(format!("{}.json", self.entry_name))
    }
}

impl DatasetManifest {
    /// The paths of the files.
    pub fn paths(&self, hub: &Hub) -> Vec<PathBuf> {
        self.files.iter().map(|file| root(hub).join(&file.path)).collect()
    }

    /// Compares a file with its recorded hash.
    ///
    /// # Errors
    /// If it differs, or the file cannot be read.
    pub fn verify(&self, hub: &Hub, file: &ManifestFile) -> Result<()> {
        let (name, path) = (file.name.clone(), root(hub).join(&file.path));
        match fs::exists(&path) {
            Ok(false) => {
                let what = format!("{} of {}", file.name, self.dataset);
                Err(HubError::Offline { what }.into())
            }
            _ => Fetched { name, path, size: file.size, hash: file.hash.clone() }.verify(),
        }
    }

    /// The source and its version in one line.
    pub fn line(&self) -> String {
        match &self.commit {
            Some(commit) => format!("{} at {commit}", self.source),
            None => self.source.clone(),
        }
    }
}

/// The folder that holds the cache.
fn root(hub: &Hub) -> PathBuf {
    let folder = hub.settings().own_folder();
    folder.parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_says_what_it_is() {
        let registry = Registry::built_in();
        for name in ["redpajama-v2", "redpajama-v2-sample", "openhermes", "openhermes-2.5"] {
            assert_eq!(registry.find(name).unwrap().entry_name, name);
        }
        for (name, entry) in registry.entries() {
            for (what, text) in
                [("about", &entry.about), ("licence", &entry.licence), ("checked", &entry.checked)]
            {
                assert!(text.len() > 2 && !text.contains('\n'), "{name}: {what}");
            }
            // Nobody could reach the Hub where the table was written.
            assert!(entry.checked.contains("not verified"), "{name}");
        }
    }

    #[test]
    fn a_copy_says_what_it_lacks_and_what_that_leaves_thin() {
        let registry = Registry::built_in();
        assert_eq!(THE_PILE.iter().map(|(_, subsets)| subsets.len()).sum::<usize>(), 22);
        let dataset = registry.find("pile-uncopyrighted/dm-mathematics").unwrap();
        let values = vec!["DM Mathematics".to_string()];
        let field = "meta.pile_set_name".to_string();
        assert_eq!(dataset.fields.filter, Some(Filter { field, values }));
        assert_eq!(dataset.entry_name, "pile-uncopyrighted");
        let coverage = dataset.entry.subsets.unwrap().coverage();
        let lacks = "17 of 22 subsets of The Pile; lacks Books3, BookCorpus2, OpenSubtitles, ";
        assert!(coverage.starts_with(lacks), "{coverage}");
        assert!(coverage.contains("prose is only Gutenberg (PG-19) (of 3)"), "{coverage}");
        let error = registry.find("pile-uncopyrighted/books3").unwrap_err().to_string();
        assert!(error.contains("this copy lacks it; 17 of 22"), "{error}");
        let error = registry.find("pile-10k/poems").unwrap_err().to_string();
        assert!(error.contains("wikipedia-en, books3, gutenberg-pg-19"), "{error}");
        assert!(registry.find("pile-10k/Ubuntu IRC").is_ok());
        assert!(registry.find("gsm8k/x").unwrap_err().to_string().contains("no subsets"));
        let error = registry.find("pile").unwrap_err().to_string();
        assert!(error.contains("must be one of c4, dolly, gsm8k, mbpp"), "{error}");
    }

    #[test]
    fn a_file_adds_entries_and_its_errors_have_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        let with = |text: &str| {
            fs::write(&path, text).unwrap();
            Registry::with_file(&path)
        };
        let own = "[gsm8k]\nabout = 'mine'\nrepository = 'me/mine'\nfiles = ['*.jsonl']\nlicence = 'CC0'\n";
        let registry = with(own).unwrap();
        assert_eq!(registry.find("gsm8k").unwrap().entry.about, "mine");
        assert!(registry.find("dolly").is_ok());
        for (from, to, expected) in [
            ("'mine'", "'mine", ", line 2: "),
            ("about = 'mine'\n", "", "missing field `about`"),
            ("about", "abut", ", line 2: unknown field `abut`"),
            ("me/mine", "../mine", "entry gsm8k: repository = ../mine"),
            ("repository = 'me/mine'\n", "", "needs a repository or a listing"),
            ("['*.jsonl']", "[]", "names no files"),
            ("about", "loss = 'answer'\nabout", "it has no instructions"),
            ("about", "loss = 'x'\nabout", ", line 2: unknown variant `x`"),
            ("'*.jsonl'", "'***'", "entry gsm8k: "),
            ("[gsm8k]", "['../x']", "its name must be"),
        ] {
            let error = with(&own.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("mine.toml"), "{error}\n{expected}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
