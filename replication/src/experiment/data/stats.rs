//! Stats of prepared data: counts, hashes, reference losses, distances and overlaps. They are stored
//! next to the runs.

use super::{Named, Split};
use forgetting_laws::data::distance::distances;
use forgetting_laws::data::ngram::Ngram;
use forgetting_laws::data::overlap::{Overlaps, overlap};
use forgetting_laws::data::registry::DatasetManifest;
use forgetting_laws::data::sequences::Sequences;
use forgetting_laws::data::split::SplitReport;
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::run::{DataSpec, RunId};
use forgetting_laws::store::{Claim, to_json, write_atomic};
use forgetting_laws::{Error, Result};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// The version of the measures, which is part of their identity.
pub const VERSION: u32 = 5;
/// The most tokens on which distances and reference losses are counted. Each takes 8 bytes of memory,
/// and more tokens do not change the result.
const COUNTED_TOKENS: u64 = 1 << 25;

/// The stats of prepared data, stored next to the runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataStats {
    /// Hex SHA-256 of the tokenizer.json.
    pub tokenizer: String,
    /// Its vocabulary size.
    pub vocab: usize,
    /// The pretraining data.
    pub pretraining: SourceStats,
    /// The target; `None` in the manifest of a pretraining run.
    pub target: Option<SourceStats>,
    /// The distance of the target from the pretraining data, measured between the part that is reserved
    /// for injection and the target's training part; `None` if these are too short.
    pub distances: Vec<(String, f64)>,
    /// The overlap of the target's validation set with the text that models are trained on; `None` in
    /// the manifest of a pretraining run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlaps>,
}

/// The stats of the data of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceStats {
    /// A description.
    pub source: String,
    /// Where it was fetched from, and the hashes of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<DatasetManifest>,
    /// How it was split.
    pub spec: DataSpec,
    /// Counts.
    pub counts: SplitReport,
    /// Hex SHA-256 of the tokens of validation, injection and training.
    pub hashes: [String; 3],
    /// The loss on the validation set of a unigram model that was counted on the training set, in nats
    /// per token.
    pub unigram: f64,
    /// The same for a trigram model.
    pub trigram: f64,
}

/// What the stats are measured with.
pub struct Measures<'a> {
    pub tokenizer: &'a Tokenizer,
    pub vocab: usize,
    pub overlap_ngram: usize,
    pub pretraining: &'a Split,
    /// The unigram and trigram models, counted when they are needed.
    pub ngrams: OnceCell<[Ngram; 2]>,
}

impl Measures<'_> {
    fn ngrams(&self) -> Result<&[Ngram; 2]> {
        if let Some(ngrams) = self.ngrams.get() {
            return Ok(ngrams);
        }
        let counted = first(&self.pretraining.training)?;
        let stream = counted.stream();
        let of = |order| Ngram::train(&stream, self.vocab, order);
        let ngrams = [of(1)?, of(3)?];
        Ok(self.ngrams.get_or_init(|| ngrams))
    }

    fn of_source(&self, named: &Named, split: &Split) -> Result<SourceStats> {
        let [unigram, trigram] = self.ngrams()?;
        Ok(SourceStats {
            source: named.origin.name.clone(),
            fetched: named.fetched.clone(),
            spec: named.spec.clone(),
            counts: split.report,
            hashes: [&split.validation, &split.injection, &split.training].map(|p| p.hash()),
            unigram: unigram.loss(&split.validation)?,
            trigram: trigram.loss(&split.validation)?,
        })
    }

    pub fn of_pretraining(&self, named: &Named) -> Result<DataStats> {
        Ok(DataStats {
            tokenizer: self.tokenizer.hash(),
            vocab: self.vocab,
            pretraining: self.of_source(named, self.pretraining)?,
            target: None,
            distances: Vec::new(),
            overlap: None,
        })
    }

    pub fn of_target(
        &self,
        named: &Named,
        split: &Split,
        pretraining: &DataStats,
    ) -> Result<DataStats> {
        let target = self.of_source(named, split)?;
        // Too short a text has no distance that says anything.
        let Split { injection: broad, training: seen, .. } = self.pretraining;
        let measured = first(broad)
            .and_then(|broad| distances(&broad, &first(&split.training)?, self.vocab))
            .map(|distances| distances.named());
        let distances = measured.into_iter().flatten().map(|(n, v)| (n.to_string(), v));
        let (end, n) = (self.tokenizer.end_of_text(), self.overlap_ngram);
        let found = |others: &[&Sequences]| overlap(&split.validation, others, end, n);
        let overlap =
            Overlaps { pretraining: found(&[seen, broad])?, training: found(&[&split.training])? };
        Ok(DataStats {
            target: Some(target),
            distances: distances.collect(),
            overlap: Some(overlap),
            ..pretraining.clone()
        })
    }
}

/// The portion of a part that is counted.
fn first(part: &Sequences) -> Result<Sequences> {
    if part.tokens() > COUNTED_TOKENS { part.prefix(COUNTED_TOKENS) } else { Ok(part.clone()) }
}

/// The stored stats, or new ones, which are stored.
pub fn kept(
    folder: Option<&Path>,
    id: &RunId,
    measure: impl FnOnce() -> Result<DataStats>,
) -> Result<DataStats> {
    let Some(folder) = folder else { return measure() };
    if let Some(stats) = DataStats::read(folder, id)? {
        return Ok(stats);
    }
    let stats = measure()?;
    stats.write(folder, id)?;
    Ok(stats)
}

impl DataStats {
    /// The stats of the pretraining data only.
    pub fn of_pretraining(&self) -> Self {
        Self { target: None, distances: Vec::new(), overlap: None, ..self.clone() }
    }

    fn path(folder: &Path, id: &RunId) -> PathBuf {
        folder.join(format!("{id}.json"))
    }

    /// The stats that an earlier preparation has written, if any.
    ///
    /// # Errors
    /// If they exist and cannot be read.
    pub fn read(folder: &Path, id: &RunId) -> Result<Option<Self>> {
        let path = Self::path(folder, id);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { path, source }),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                Error::content(&path, None, format!("{error}; remove the file and run again"))
            }),
        }
    }

    fn write(&self, folder: &Path, id: &RunId) -> Result<()> {
        let _one_at_a_time = Claim::wait_for(folder)?;
        write_atomic(&Self::path(folder, id), &to_json(self))
    }
}
