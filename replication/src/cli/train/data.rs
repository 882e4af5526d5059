//! Data sets by name: `replication data`, and `hub:NAME` wherever text is named.

use crate::cli::train::prepare;
use crate::inputs::fields::{Records, counting};
use crate::inputs::files::read;
use crate::inputs::registry::{HUB, name_of, registry};
use crate::terminal::{Transfers, print};
use clap::{Args, Subcommand};
use forgetting_laws::data::Source;
use forgetting_laws::data::files::{Fields, Files, STDIN};
use forgetting_laws::data::mask::Supervised;
use forgetting_laws::data::registry::{Dataset, DatasetManifest, Registry};
use forgetting_laws::hub::Hub;
use forgetting_laws::{Error, Result};
use indicatif::{DecimalBytes, HumanCount};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// `replication data`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the named data sets, with licence and use.
    List(Table),
    /// Fetches a data set, or resumes fetching it, and prints the paths of its files.
    Fetch(Named),
    /// Tokenises text into a token store.
    Prepare(prepare::Options),
    /// Verifies the files of a data set, or a token store, by their hashes.
    Verify(Named),
    /// Describes a data set or files: documents, works, lengths, the beginning.
    Inspect(Inspect),
}

#[derive(Args)]
struct Table {
    /// A file with further entries, in the format of the library's registry.
    #[arg(long, value_name = "FILE")]
    registry: Option<PathBuf>,
}

#[derive(Args)]
struct Named {
    /// The data set, or NAME/SUBSET for part of a collection; `data verify` also takes a folder.
    name: String,
    #[command(flatten)]
    table: Table,
}

#[derive(Args)]
struct Inspect {
    /// The name of a data set, with or without hub: in front, or files, folders, patterns or -.
    #[arg(required = true, value_name = "NAME|FILE")]
    what: Vec<PathBuf>,
    /// Field of the text in .jsonl files.
    #[arg(long, default_value = "text", value_name = "FIELD")]
    text: String,
    /// Field that names the work in files.
    #[arg(long, value_name = "FIELD")]
    group: Option<String>,
    #[command(flatten)]
    records: Records,
}

/// # Errors
/// If there is no such data set, or it cannot be fetched or read, or is damaged.
pub fn run(options: Options) -> Result<()> {
    match options.command {
        Command::List(table) => print(&list(&table.registry()?)),
        Command::Fetch(named) => {
            let (dataset, hub) = (named.find()?, Hub::from_env()?);
            let manifest = dataset.fetch(&hub, &Transfers::default())?;
            let written = dataset.manifest_path(&hub);
            print(&format!(
                "{}recorded in {}\n",
                files(&dataset, &manifest, &hub),
                written.display()
            ))
        }
        Command::Prepare(options) => prepare::run(&options),
        Command::Verify(named) if Path::new(&named.name).exists() => {
            prepare::verify(Path::new(&named.name))
        }
        Command::Verify(named) => {
            let (dataset, hub) = (named.find()?, Hub::from_env()?);
            let Some(manifest) = dataset.here(&hub)? else {
                let requirement = "is incomplete; replication data fetch brings the rest";
                return Err(Error::setting("data set", &named.name, requirement));
            };
            manifest.files.iter().try_for_each(|file| manifest.verify(&hub, file))?;
            let count = manifest.files.len();
            print(&format!("{}: {count} file(s) unchanged\n", manifest.line()))
        }
        Command::Inspect(inspect) => inspect.run(),
    }
}

impl Table {
    fn registry(&self) -> Result<Registry> {
        registry(self.registry.as_deref())
    }
}

impl Named {
    fn find(&self) -> Result<Dataset> {
        self.table.registry()?.find(self.name.strip_prefix(HUB).unwrap_or(&self.name))
    }
}

fn list(registry: &Registry) -> String {
    let mut text = String::new();
    for (name, entry) in registry.entries() {
        let source = match &entry.repository {
            Some(_) => format!("{} at {}", entry.source(), entry.revision),
            None => entry.source().to_string(),
        };
        let loss = if entry.loss == Supervised::Answer { "of answers only" } else { "" };
        let _ = writeln!(text, "{name}");
        for (head, what) in [
            ("about", &entry.about),
            ("paper", &entry.paper),
            ("source", &source),
            ("licence", &entry.licence),
            ("loss", &loss.to_string()),
            ("checked", &entry.checked),
        ] {
            if !what.is_empty() {
                let _ = writeln!(text, "  {head:9}{what}");
            }
        }
        if let Some(subsets) = &entry.subsets {
            let _ = writeln!(text, "  {:9}{}", "subsets", subsets.coverage());
        }
    }
    text
}

/// The files of a data set, one per line.
fn files(dataset: &Dataset, manifest: &DatasetManifest, hub: &Hub) -> String {
    let mut text = format!("{}: {}\n", dataset.name, manifest.line());
    let _ = writeln!(text, "licence: {}", manifest.licence);
    if let Some(subsets) = &dataset.entry.subsets {
        let _ = writeln!(text, "{}", subsets.coverage());
    }
    for (file, path) in manifest.files.iter().zip(manifest.paths(hub)) {
        let size = DecimalBytes(file.size);
        let _ = writeln!(text, "{}  {size}  {}", path.display(), file.hash);
    }
    text
}

impl Inspect {
    fn run(&self) -> Result<()> {
        let named = match self.what.as_slice() {
            [one] => name_of(one).or_else(|| one.to_str().filter(|_| !is_file(one))),
            _ => None,
        };
        let registry = registry(self.records.registry.as_deref())?;
        // What is neither a file nor a name is said to be no file, unless it says that it is a name.
        let dataset = match named {
            Some(name) if name_of(&self.what[0]).is_some() => Some(registry.find(name)?),
            Some(name) => registry.find(name).ok(),
            None => None,
        };
        let Some(dataset) = dataset else {
            let fields = self.records.fields(&self.text, self.group.as_deref())?;
            return print(&content(&read(&self.what, &fields)?)?);
        };
        let hub = Hub::from_env()?;
        let manifest = dataset.get(&hub, &Transfers::default())?;
        let fields = counting(dataset.fields.clone(), self.records.loss);
        let fields = Fields { skip_missing: self.records.skip_missing, ..fields };
        let source = read(&manifest.paths(&hub), &fields)?;
        print(&(files(&dataset, &manifest, &hub) + &content(&source)?))
    }
}

fn is_file(path: &Path) -> bool {
    path.exists() || path.as_os_str() == STDIN
}

/// A description of a source.
fn content(source: &Files) -> Result<String> {
    const SHOWN: usize = 300;
    let count = source.len().unwrap_or_default();
    let mut lengths = Vec::new();
    let mut groups = BTreeSet::new();
    let (mut bytes, mut counted, mut silent) = (0, 0, 0);
    for i in 0..count {
        let passage = source.passage(i)?;
        lengths.push(passage.text.chars().count() as u64);
        groups.insert(source.group(i));
        bytes += passage.text.len();
        counted += passage.counted_bytes();
        silent += u64::from(passage.counted_bytes() == 0);
    }
    let counts = if counted == bytes {
        String::new()
    } else {
        format!(
            "{} of {} bytes count in the loss, and nothing of {} documents\n",
            HumanCount(counted as u64),
            HumanCount(bytes as u64),
            HumanCount(silent)
        )
    };
    let all: u64 = lengths.iter().sum();
    lengths.sort_unstable();
    let at = |place: usize| HumanCount(lengths.get(place).copied().unwrap_or_default());
    let (median, last) = (lengths.len() / 2, lengths.len().saturating_sub(1));
    let works = if source.blocks() {
        format!("{} blocks, because there are too few works", groups.len())
    } else {
        format!("{} works", HumanCount(groups.len() as u64))
    };
    let first = source.document(0)?;
    let first = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = first.chars().take(SHOWN).collect();
    Ok(format!(
        "{} documents of {works}, {} characters\ncharacters a document: {} at least, {} in the \
         middle, {} at most\n{counts}hash: {}\nthe first begins: {shown}\n",
        HumanCount(count),
        HumanCount(all),
        at(0),
        at(median),
        at(last),
        source.content_hash()
    ))
}
