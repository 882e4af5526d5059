//! From settings to tokens: sources, tokenizer, splits, and what stands beside the losses.

use crate::experiment::config::Config;
use crate::inputs::files::CachedIdentity;
use crate::inputs::pretrained::{Import, tokenizer_of};
use crate::inputs::sources::{self, DataRole, OpenedSource};
use crate::inputs::tokenizers::train_tokenizer;
use crate::terminal::log;
use forgetting_laws::data::Source;
use forgetting_laws::data::distance::distances;
use forgetting_laws::data::mask::Loss;
use forgetting_laws::data::ngram::Ngram;
use forgetting_laws::data::overlap::Overlaps;
use forgetting_laws::data::overlap::overlap;
use forgetting_laws::data::registry::Manifest as Fetched;
use forgetting_laws::data::sequences::Sequences;
use forgetting_laws::data::split::{RULE, Split, SplitReport, SplitTokens};
use forgetting_laws::data::synthetic::Synthetic;
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::data::tokens::{Origin, Recipe};
use forgetting_laws::engine::{PretrainData, TargetData};
use forgetting_laws::rng::Key;
use forgetting_laws::run::{DataSpec, RunId, Spec, TokenizerSpec};
use forgetting_laws::store::{
    Claim, hashed_files, read_hashed, to_json, write_atomic, write_hashed,
};
use forgetting_laws::{Error, Fraction, Result};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The sources and what is to be made of them; nothing is tokenised yet.
pub struct Sources {
    pretraining: Named,
    targets: BTreeMap<String, Named>,
    given_tokenizer: Option<Arc<Tokenizer>>,
    /// The models that come pretrained, by size.
    pub imports: BTreeMap<String, Import>,
    /// Size of the vocabulary that models have.
    pub vocab: usize,
    /// Tokens of the n-grams by which overlap is measured.
    overlap_ngram: usize,
}

/// A source.
struct Named {
    source: Box<dyn Source>,
    /// Where it comes from, for people.
    origin: Origin,
    fetched: Option<Fetched>,
    known: Option<CachedIdentity>,
    spec: DataSpec,
    /// The option that names its files.
    flag: String,
}

/// All sources as sequences.
pub struct Prepared {
    /// The pretraining data.
    pub pretraining: PretrainData,
    /// The targets that were asked for, by the identity of their data.
    pub targets: BTreeMap<RunId, TargetData>,
    /// What is known of the pretraining data.
    pub pretraining_facts: DataStats,
    /// What is known of each target and of the pretraining data, by the identity of the target's.
    pub facts: BTreeMap<RunId, DataStats>,
    /// What turned text into tokens.
    pub tokenizer: Arc<Tokenizer>,
}

/// What is known of prepared data; kept beside the runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataStats {
    /// Hex SHA-256 of the tokenizer.json.
    pub tokenizer: String,
    /// Its vocabulary.
    pub vocab: usize,
    /// The pretraining data.
    pub pretraining: SourceFacts,
    /// The target; None in the manifest of a pretraining run.
    pub target: Option<SourceFacts>,
    /// Measures of how far the target is from the pretraining data, taken between the part that is
    /// reserved for injection and the target's training part; none where these are too short.
    pub distances: Vec<(String, f64)>,
    /// What the target's validation set has in common with what models are trained on; None in the
    /// manifest of a pretraining run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlaps>,
}

/// What is known of the data of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// For people.
    pub source: String,
    /// Where it was fetched from, and the hashes of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<Fetched>,
    /// How it came about.
    pub spec: DataSpec,
    /// Counts.
    pub counts: SplitReport,
    /// Hex SHA-256 of the tokens of validation, injection and training.
    pub hashes: [String; 3],
    /// Loss of a model of single tokens, counted on the pretraining set, on the validation set; in
    /// nats per token.
    pub unigram: f64,
    /// The same of three tokens.
    pub trigram: f64,
}

impl Sources {
    /// Opens what the settings name. What is known of a model and of text files is kept in `folder`,
    /// so that they need not be read for every plan.
    ///
    /// # Errors
    /// If a file is missing, empty or not what its name says, or the settings name no files and
    /// no synthetic source; a plan needs no files that nobody has named.
    pub fn open(config: &Config, only_plan: bool, folder: Option<&Path>) -> Result<Self> {
        let data = &config.data;
        let open = |paths: &[PathBuf], flag: &str, of, synthetic: Option<(Synthetic, String)>| {
            let opened = |source: Box<dyn Source>, name, answers| {
                let origin = Origin { name, ..Origin::default() };
                OpenedSource { source, origin, manifest: None, known: None, answers }
            };
            // What is not there yet may be instructions.
            let missing = |name: String| opened(Box::new(NotNamed(name.clone())), name, true);
            if !paths.is_empty() {
                let found = sources::open(paths, data.reading(), flag, of, only_plan, folder)?;
                return Ok(found.unwrap_or_else(|| {
                    missing(format!("{flag} {}, not yet fetched", paths[0].display()))
                }));
            }
            match (synthetic, only_plan) {
                (Some((source, name)), _) => {
                    let answers = source.counts_answers();
                    Ok(opened(Box::new(source), name, answers))
                }
                (None, true) => Ok(missing(format!("{flag}, not yet named"))),
                (None, false) => {
                    let requirement = "this preset needs text files, as .txt or .jsonl";
                    Err(Error::setting(flag, "(none)", requirement))
                }
            }
        };
        let broad = || (Synthetic::pretraining(config.seed), "synthetic, broad".to_string());
        let pretraining =
            open(&data.pretrain, "--pretrain", DataRole::Pretraining, data.synthetic.then(broad))?;
        let in_grid = |name: &String| config.grid.values().any(|block| block.sizes.contains(name));
        let sizes = config.sizes.iter().filter(|(name, _)| in_grid(name));
        let models = sizes.filter_map(|(name, size)| {
            let (named, context) = (size.pretrained.as_ref()?, config.model.context);
            let import = Import::open(named, context, folder, only_plan);
            Some(import.map(|import| (name.clone(), import)))
        });
        let imports: BTreeMap<String, Import> = models.collect::<Result<_>>()?;
        let given_tokenizer = if data.tokenizer.as_os_str().is_empty() {
            tokenizer_of(&imports, data.end_of_text())?
        } else {
            Some(Arc::new(Tokenizer::open(&data.tokenizer, data.end_of_text())?))
        };
        match &given_tokenizer {
            Some(tokenizer) if tokenizer.unusual_end_of_text().is_some() => {
                log(&format!("end of text: {}", tokenizer.stated_end_of_text()));
            }
            None if data.end_of_text().is_some() => {
                let requirement = "is for a given tokenizer; one that is trained has its own";
                return Err(Error::setting("data.end_of_text", &data.end_of_text, requirement));
            }
            _ => {}
        }
        let tokenizer = match &given_tokenizer {
            Some(tokenizer) => TokenizerSpec::Given {
                hash: tokenizer.hash(),
                end_of_text: tokenizer.unusual_end_of_text(),
            },
            None => TokenizerSpec::Trained {
                kind: data.tokenizer_kind,
                source: pretraining.source.content_hash(),
                bytes: data.tokenizer_bytes,
                vocab: config.model.vocab,
            },
        };
        let named = |OpenedSource { source, origin, manifest, known, .. }: OpenedSource,
                     flag,
                     injection,
                     training| {
            let spec = DataSpec {
                source: source.content_hash(),
                tokenizer: tokenizer.clone(),
                seed: config.seed,
                context: config.model.context,
                validation: data.validation_tokens,
                test: data.test_tokens,
                injection,
                training,
                split: source.len().map(|_| RULE),
            };
            Named { source, origin, fetched: manifest, known, spec, flag }
        };
        let (mut targets, mut answers) = (BTreeMap::new(), false);
        for (name, target) in &config.domains {
            let far = Fraction::new(1.0)?;
            let synthetic = target.kind.map(|kind| {
                let distance = target.distance.unwrap_or(far);
                let text = format!("synthetic {}, distance {}", kind.name(), distance.get());
                (Synthetic::target(kind, distance, config.seed).counting(data.loss), text)
            });
            let flag = format!("--target {name}");
            let opened = open(&target.files, &flag, DataRole::Target, synthetic)?;
            answers |= opened.answers;
            targets.insert(name.clone(), named(opened, flag, 0, None));
        }
        if data.loss == Loss::Answer && !answers {
            let requirement = "no target is of instructions; data.like names the form of their \
                               records";
            return Err(Error::setting("data.loss", data.loss.name(), requirement));
        }
        if let (Some(tokenizer), Some(smallest)) =
            (&given_tokenizer, imports.values().min_by_key(|import| import.shape.vocab))
            && tokenizer.needed_vocab() > smallest.shape.vocab
        {
            let (folder, vocab) = (smallest.folder.display(), smallest.shape.vocab);
            let requirement = format!("must be at most {vocab}, the vocabulary of {folder}");
            return Err(Error::setting("vocabulary", tokenizer.needed_vocab(), requirement));
        }
        Ok(Self {
            imports,
            vocab: given_tokenizer.as_ref().map_or(config.model.vocab, |t| t.vocab_size()),
            pretraining: named(
                pretraining,
                "--pretrain".into(),
                data.injection_tokens,
                Some(data.pretrain_tokens),
            ),
            targets,
            given_tokenizer,
            overlap_ngram: data.overlap_ngram,
        })
    }

    /// What the pretraining data will be.
    pub fn pretraining_spec(&self) -> &DataSpec {
        &self.pretraining.spec
    }

    /// What the data of a target that the settings name will be.
    pub fn target_spec(&self, name: &str) -> &DataSpec {
        &self.targets[name].spec
    }

    /// Identity of the facts of a target's data, prepared for a largest D_ft.
    pub fn facts_id(&self, target: &str, d_ft_tokens: u64) -> RunId {
        let (pretraining, target) = (&self.pretraining.spec, &self.targets[target].spec);
        RunId::of(&(FACTS, self.overlap_ngram, pretraining, target, d_ft_tokens))
    }

    /// Keeps what is known of text files in `folder`, where there is one, which is made if it is
    /// missing.
    pub fn keep(&self, folder: Option<&Path>) {
        let Some(folder) = folder else { return };
        let all = std::iter::once(&self.pretraining).chain(self.targets.values());
        all.filter_map(|named| named.known.as_ref()).for_each(|known| known.keep(folder));
    }

    /// Tokenises and splits the pretraining data and some targets, each for its largest D_ft, and
    /// measures those of which nothing is `known`, by their names. The tokenizer, the tokens and the
    /// measures are kept in `folder`, where there is one, so that no other D_ft, context or seed
    /// makes a text be tokenised again.
    ///
    /// # Errors
    /// If a source cannot fill its parts, or the folder cannot be written to.
    pub fn prepare(
        &self,
        config: &Config,
        targets: &BTreeMap<String, u64>,
        known: &BTreeMap<String, DataStats>,
        folder: Option<&Path>,
    ) -> Result<Prepared> {
        self.keep(folder);
        let tokenizer = self.tokenizer(config, folder)?;
        let (pretraining, splits) = std::thread::scope(|scope| {
            let pretraining = scope.spawn(|| self.pretraining.split(&tokenizer, 0, folder));
            let of = |(name, d_ft): (&String, &u64)| {
                let split = self.targets[name].split(&tokenizer, *d_ft, folder)?;
                Ok((name.clone(), enough(name, *d_ft, split)?))
            };
            let splits: Result<Vec<(String, Split)>> = targets.iter().map(of).collect();
            let pretraining = pretraining.join();
            (pretraining.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), splits)
        });
        let (pretraining, splits) = (pretraining?, splits?);
        let measures = Measures {
            tokenizer: &tokenizer,
            vocab: self.vocab,
            overlap_ngram: self.overlap_ngram,
            pretraining: &pretraining,
            ngrams: OnceCell::new(),
        };
        let pretraining_facts = match known.values().next() {
            Some(facts) => facts.of_pretraining(),
            None => {
                let id = RunId::of(&(FACTS, &self.pretraining.spec));
                kept(folder, &id, || measures.of_pretraining(&self.pretraining))?
            }
        };
        let (mut data, mut facts) = (BTreeMap::new(), BTreeMap::new());
        for (name, split) in splits {
            let named = &self.targets[&name];
            let of_target = match known.get(&name) {
                Some(facts) => facts.clone(),
                None => {
                    let id = self.facts_id(&name, targets[&name]);
                    kept(folder, &id, || measures.of_target(named, &split, &pretraining_facts))?
                }
            };
            let id = named.spec.id();
            facts.insert(id.clone(), of_target);
            let (validation, test) = named.held_out(split.validation)?;
            data.insert(id, TargetData { validation, test, training: split.training });
        }
        let (validation, test) = self.pretraining.held_out(pretraining.validation)?;
        Ok(Prepared {
            pretraining: PretrainData {
                validation,
                test,
                injection: pretraining.injection,
                training: pretraining.training,
            },
            targets: data,
            pretraining_facts,
            facts,
            tokenizer,
        })
    }

    /// Refuses texts that cannot fill their parts, as [`prepare`](Self::prepare) would, and writes
    /// nothing. It tokenises them, so texts that would take long, and those whose tokenizer is to be
    /// trained on such a one, are not looked at; nor are those that are not there yet.
    ///
    /// # Errors
    /// If a source cannot fill its parts.
    pub fn check(&self, config: &Config, targets: &BTreeMap<String, u64>) -> Result<()> {
        let pretraining = self.pretraining.is_short_text()?;
        let trained_on = self.given_tokenizer.is_none() && self.pretraining.source.len().is_some();
        if trained_on && !pretraining {
            return Ok(());
        }
        let mut texts = Vec::new();
        for (name, d_ft) in targets {
            let target = &self.targets[name];
            if target.is_short_text()? {
                texts.push((name, *d_ft, target));
            }
        }
        if !pretraining && texts.is_empty() {
            return Ok(());
        }
        let tokenizer = self.tokenizer(config, None)?;
        if pretraining {
            self.pretraining.split(&tokenizer, 0, None)?;
        }
        for (name, d_ft, target) in texts {
            enough(name, d_ft, target.split(&tokenizer, d_ft, None)?)?;
        }
        Ok(())
    }

    /// The tokenizer that is given, that was trained before on the same, or that is trained now;
    /// other processes wait meanwhile.
    fn tokenizer(&self, config: &Config, folder: Option<&Path>) -> Result<Arc<Tokenizer>> {
        if let Some(tokenizer) = &self.given_tokenizer {
            return Ok(tokenizer.clone());
        }
        let train = || {
            let (kind, bytes) = (config.data.tokenizer_kind, config.data.tokenizer_bytes);
            let source = &*self.pretraining.source;
            let documents = source.len().unwrap_or(u64::MAX);
            Ok(train_tokenizer(source, documents, bytes, kind, config.model.vocab)?.0)
        };
        let Some(folder) = folder else { return train().map(Arc::new) };
        let folder = folder.join("tokenizers");
        let stem = RunId::of(&(TOKENIZER, &self.pretraining.spec.tokenizer)).to_string();
        let claim = Claim::wait_for(&folder)?;
        if let Some(path) = hashed_files(&folder, &stem)?.first() {
            read_hashed(path)?;
            return Tokenizer::from_file(path).map(Arc::new);
        }
        let tokenizer = train()?;
        write_hashed(claim.folder(), &stem, "json", tokenizer.to_json().as_bytes())?;
        Ok(Arc::new(tokenizer))
    }
}

impl Named {
    /// Its parts, of which a target's has so many tokens for training; the tokens are kept in `folder`,
    /// where there is one.
    fn split(&self, tokenizer: &Tokenizer, training: u64, folder: Option<&Path>) -> Result<Split> {
        let Self { source, spec, origin, .. } = self;
        let tokens = SplitTokens {
            validation: spec.validation + spec.test,
            injection: spec.injection,
            training: spec.training.unwrap_or(training),
        };
        let key = Key::new(spec.seed).named("split");
        let split = match folder {
            None => Split::build(&**source, tokenizer, key, tokens, spec.context),
            Some(folder) => {
                let recipe = Recipe {
                    source: &**source,
                    encoder: tokenizer,
                    tokenizer: &tokenizer.hash(),
                    vocab: tokenizer.vocab_size(),
                    shard_documents: Recipe::SHARD,
                };
                let folder = folder.join("tokens").join(recipe.id());
                Split::keep(&folder, &recipe, origin, key, tokens, spec.context)
            }
        };
        split.map_err(|error| self.too_short(error))
    }

    /// The validation set and the test set in the validation part of its split.
    fn held_out(&self, part: Sequences) -> Result<(Sequences, Option<Sequences>)> {
        match self.spec.test {
            0 => Ok((part, None)),
            _ => part.split_at(self.spec.validation).map(|(first, rest)| (first, Some(rest))),
        }
    }

    /// Whether it is a text that is there and takes little time to tokenise.
    fn is_short_text(&self) -> Result<bool> {
        let documents = self.source.len().unwrap_or(0);
        let mut bytes = 0;
        for i in 0..documents {
            bytes += self.source.document(i)?.len();
            if bytes > CHECKED_BYTES {
                return Ok(false);
            }
        }
        Ok(documents > 0)
    }

    /// The error of a text that cannot fill its parts, with its name.
    fn too_short(&self, error: Error) -> Error {
        match error {
            Error::Exhausted { what, asked, available, remedy } => {
                let what = format!("{} ({}): {what}", self.flag, self.origin.name);
                Error::Exhausted { what, asked, available, remedy }
            }
            error => error,
        }
    }
}

/// What facts are measured with.
struct Measures<'a> {
    tokenizer: &'a Tokenizer,
    vocab: usize,
    overlap_ngram: usize,
    pretraining: &'a Split,
    /// Models of one and of three tokens, counted when they are needed.
    ngrams: OnceCell<[Ngram; 2]>,
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

    fn of_source(&self, named: &Named, split: &Split) -> Result<SourceFacts> {
        let [unigram, trigram] = self.ngrams()?;
        Ok(SourceFacts {
            source: named.origin.name.clone(),
            fetched: named.fetched.clone(),
            spec: named.spec.clone(),
            counts: split.report,
            hashes: [&split.validation, &split.injection, &split.training].map(|p| p.hash()),
            unigram: unigram.loss(&split.validation)?,
            trigram: trigram.loss(&split.validation)?,
        })
    }

    fn of_pretraining(&self, named: &Named) -> Result<DataStats> {
        Ok(DataStats {
            tokenizer: self.tokenizer.hash(),
            vocab: self.vocab,
            pretraining: self.of_source(named, self.pretraining)?,
            target: None,
            distances: Vec::new(),
            overlap: None,
        })
    }

    fn of_target(
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

impl Prepared {
    /// What is known of the data of a run.
    ///
    /// # Errors
    /// If its target was not prepared.
    pub fn facts_of(&self, spec: &Spec) -> Result<&DataStats> {
        match spec {
            Spec::Pretrain(_) | Spec::Import(_) => Ok(&self.pretraining_facts),
            Spec::Finetune(spec) => self
                .facts
                .get(&spec.target)
                .ok_or_else(|| Error::setting("target", &spec.target, "was not prepared")),
        }
    }
}

/// Version of the facts.
const FACTS: u32 = 4;
/// Version of the tokenizers that are kept.
const TOKENIZER: u32 = 1;
/// Tokens that distances and reference losses are counted on at most: it takes 8 bytes of memory
/// for each, and more say nothing more.
const COUNTED_TOKENS: u64 = 1 << 25;

/// Bytes up to which a text is tokenised by [`Sources::check`]: a few seconds' work.
const CHECKED_BYTES: usize = 32 << 20;

/// As much of a part as is counted.
fn first(part: &Sequences) -> Result<Sequences> {
    if part.tokens() > COUNTED_TOKENS { part.prefix(COUNTED_TOKENS) } else { Ok(part.clone()) }
}

/// A target's training text, in words.
pub fn training_text(name: &str) -> String {
    format!("the training text of the target {name}")
}

/// A target's parts, if there is as much to finetune on as asked for.
fn enough(name: &str, d_ft_tokens: u64, split: Split) -> Result<Split> {
    let available = split.training.tokens();
    let context = split.training.context() as u64;
    for (part, what) in [(&split.validation, "validation"), (&split.training, "training")] {
        if part.counted_tokens() == 0 {
            let setting = format!("{what} tokens of the target {name}");
            let requirement = "none of them counts in the loss: all are of instructions; give more \
                               text or let all count with data.loss";
            return Err(Error::setting(setting, part.tokens(), requirement));
        }
    }
    if available >= d_ft_tokens / context * context {
        return Ok(split);
    }
    Err(Error::Exhausted {
        what: training_text(name),
        asked: d_ft_tokens,
        available,
        remedy: "lower d_ft_tokens in the grid's blocks or give more text".into(),
    })
}

/// What was measured before, or now and kept for another time.
fn kept(
    folder: Option<&Path>,
    id: &RunId,
    measure: impl FnOnce() -> Result<DataStats>,
) -> Result<DataStats> {
    let Some(folder) = folder else { return measure() };
    if let Some(facts) = DataStats::read(folder, id)? {
        return Ok(facts);
    }
    let facts = measure()?;
    facts.write(folder, id)?;
    Ok(facts)
}

impl DataStats {
    /// What of them is known of the pretraining data alone.
    fn of_pretraining(&self) -> Self {
        Self { target: None, distances: Vec::new(), overlap: None, ..self.clone() }
    }

    fn path(folder: &Path, id: &RunId) -> PathBuf {
        folder.join(format!("{id}.json"))
    }

    /// What an earlier preparation has written, if it is there.
    ///
    /// # Errors
    /// If it is there and cannot be read.
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

/// Stands in a plan for the text that its runs will be given.
struct NotNamed(String);

impl Source for NotNamed {
    fn content_hash(&self) -> String {
        self.0.clone()
    }

    fn len(&self) -> Option<u64> {
        Some(0)
    }

    fn document(&self, i: u64) -> Result<std::borrow::Cow<'_, str>> {
        Err(Error::setting("document", i, "no text was named"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    /// 60 documents of 200 words each.
    fn write_texts(path: &Path, seed: u64) {
        let key = Key::new(seed);
        let line = |i: u64| {
            let word = |j| format!("w{}", key.child(i).below(j, 40));
            let text: String = (0..200).map(|j| word(j) + " ").collect();
            serde_json::json!({ "text": text }).to_string() + "\n"
        };
        std::fs::write(path, (0..60).map(line).collect::<String>()).unwrap();
    }

    /// The files of all stores and when each was written.
    fn shards(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
        let stores = std::fs::read_dir(folder.join("tokens")).unwrap();
        let files = stores.flat_map(|store| std::fs::read_dir(store.unwrap().path()).unwrap());
        let files = files.map(|file| file.unwrap());
        files
            .filter(|file| !file.file_name().to_string_lossy().starts_with('.'))
            .map(|file| (file.path(), file.metadata().unwrap().modified().unwrap()))
            .collect()
    }

    /// Settings for two files of text in a folder, which are written.
    fn of_files(folder: &Path) -> Config {
        let paths = ["pretrain.jsonl", "target.jsonl"].map(|name| folder.join(name));
        write_texts(&paths[0], 0);
        write_texts(&paths[1], 1);
        let mut config = small();
        config.data.pretrain = vec![paths[0].clone()];
        let target = config.domains["far"].clone();
        let target = crate::experiment::config::Target { files: vec![paths[1].clone()], ..target };
        config.domains = BTreeMap::from([("mine".to_string(), target)]);
        config
    }

    fn small() -> Config {
        let mut config = Config::load("nano", &[]).unwrap();
        config.data.tokenizer_bytes = 10_000;
        config.data.validation_tokens = 640;
        config.data.injection_tokens = 640;
        config.data.pretrain_tokens = 1 << 20;
        config.model.vocab = 300;
        config
    }

    #[test]
    fn a_text_that_is_too_short_is_named_with_its_option() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = of_files(folder.path());
        let error = |config: &Config| {
            let sources = Sources::open(config, false, None).unwrap();
            let targets = BTreeMap::from([("mine".to_string(), 1024)]);
            let prepared = sources.prepare(config, &targets, &BTreeMap::new(), None);
            prepared.map(drop).unwrap_err().to_string()
        };
        std::fs::write(folder.path().join("target.jsonl"), "{\"text\": \"w1 w2\"}\n").unwrap();
        let short = error(&config);
        let expected = "--target mine (target.jsonl): the validation part: 640 tokens were asked";
        assert!(short.starts_with(expected), "{short}");
        config.data.validation_tokens = 1 << 20;
        let short = error(&config);
        assert!(short.starts_with("--pretrain (pretrain.jsonl): the validation part"), "{short}");
    }

    #[test]
    fn another_call_with_other_settings_tokenises_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = of_files(folder.path());
        let data = folder.path().join("data");
        let prepare = |config: &Config, d_ft| {
            let sources = Sources::open(config, false, None).unwrap();
            let targets = BTreeMap::from([("mine".to_string(), d_ft)]);
            sources.prepare(config, &targets, &BTreeMap::new(), Some(&data)).unwrap()
        };
        let first = prepare(&config, 1024);
        let written = shards(&data);
        // A shard and a manifest of each of two sources.
        assert_eq!(written.len(), 4);
        let larger = prepare(&config, 4096);
        let (small, large) = (targets(&first), targets(&larger));
        assert_eq!(small.training.hash(), large.training.prefix(1024).unwrap().hash());
        assert_eq!(small.validation.hash(), large.validation.hash());
        config.seed = 1;
        config.model.context = 32;
        config.data.validation_tokens = 320;
        let other = prepare(&config, 2048);
        assert_ne!(targets(&other).validation.hash(), small.validation.hash());
        assert_eq!(shards(&data), written);
        // Random words of the same kind on both sides: no run of 13 tokens is shared by chance.
        let facts = first.facts.values().next().unwrap();
        let overlap = facts.overlap.unwrap();
        assert!(overlap.pretraining.ngrams > 500 && overlap.pretraining.found == 0);
        assert!(overlap.training.documents > 1 && overlap.training.found == 0);
        assert_eq!(facts.pretraining.spec.split, Some(RULE));

        // Shorter runs are shared by any two texts of these words, and are other facts of the same
        // data.
        config.data.overlap_ngram = 2;
        let short = prepare(&config, 2048);
        let found = |prepared: &Prepared| prepared.facts.values().next().unwrap().overlap.unwrap();
        assert_eq!((overlap.training.n, found(&short).training.n), (13, 2));
        assert!(found(&short).training.share() > 0.5, "{:?}", found(&short));
        assert_eq!(short.facts.keys().next(), other.facts.keys().next());
        assert_eq!(shards(&data), written);
        let mut id = |n| {
            config.data.overlap_ngram = n;
            let sources = Sources::open(&config, true, None).unwrap();
            let (spec, target) = (sources.pretraining_spec(), sources.target_spec("mine"));
            // The identity of before there was a setting.
            let constant = RunId::of(&(FACTS, 13usize, spec, target, 2048u64));
            (sources.facts_id("mine", 2048), constant)
        };
        let ((usual, of_before), (short, _)) = (id(13), id(2));
        assert!(usual == of_before && usual != short);
    }

    fn targets(prepared: &Prepared) -> &TargetData {
        prepared.targets.values().next().unwrap()
    }

    /// The hashes of all parts.
    fn hashes(prepared: &Prepared) -> Vec<String> {
        let PretrainData { validation, test: _, injection, training } = &prepared.pretraining;
        let mut parts = vec![validation, injection, training];
        parts.extend(prepared.targets.values().flat_map(|t| [&t.validation, &t.training]));
        parts.into_iter().map(Sequences::hash).collect()
    }

    #[test]
    fn a_second_process_opens_what_a_first_one_has_prepared() {
        let folder = tempfile::tempdir().unwrap();
        let mut synthetic = small();
        synthetic.data.pretrain_tokens = 40_000;
        synthetic.domains.retain(|name, _| name == "far" || name == "instructions");
        synthetic.data.loss = Loss::Answer;
        for (name, config) in [("files", of_files(folder.path())), ("synthetic", synthetic)] {
            let data = folder.path().join(name);
            let targets: BTreeMap<String, u64> =
                config.domains.keys().map(|name| (name.clone(), 1024)).collect();
            let nothing = BTreeMap::new();
            let open = || Sources::open(&config, false, Some(&data)).unwrap();
            let alone = open().prepare(&config, &targets, &nothing, None).unwrap();
            assert!(!data.exists());
            let first = open().prepare(&config, &targets, &nothing, Some(&data)).unwrap();
            assert_eq!((hashes(&first), &first.facts), (hashes(&alone), &alone.facts));
            let written = shards(&data);

            // Facts that nobody would measure: they are taken as they are.
            let of = |name: &String| &first.facts[&open().target_spec(name).id()];
            let mut known: BTreeMap<String, DataStats> =
                config.domains.keys().map(|name| (name.clone(), of(name).clone())).collect();
            known.values_mut().for_each(|facts| facts.vocab = 7);
            let second = open().prepare(&config, &targets, &known, Some(&data)).unwrap();
            assert_eq!(hashes(&second), hashes(&first));
            assert!(second.facts.values().all(|facts| facts.vocab == 7));
            assert_eq!(second.pretraining_facts.vocab, 7);
            assert_eq!(shards(&data), written);
            let none = open().prepare(&config, &BTreeMap::new(), &nothing, Some(&data)).unwrap();
            assert_eq!(none.pretraining_facts, alone.pretraining_facts);

            // So is the tokenizer: one that was altered is noticed.
            let tokenizers = data.join("tokenizers");
            let path = hashed_files(&tokenizers, "").unwrap();
            let path = path.iter().find(|path| path.extension().is_some()).unwrap();
            let json = std::fs::read_to_string(path).unwrap();
            std::fs::write(path, json.replace("1.0", "1.1")).unwrap();
            let refused = open().prepare(&config, &targets, &known, Some(&data));
            assert!(matches!(refused, Err(Error::Damaged { .. })));
            std::fs::remove_file(path).unwrap();
            let again = open().prepare(&config, &targets, &nothing, Some(&data)).unwrap();
            assert_eq!((hashes(&again), &again.facts), (hashes(&alone), &alone.facts));
            assert_eq!(std::fs::read_to_string(path).unwrap(), json);
        }
    }
}
