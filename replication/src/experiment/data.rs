//! From settings to tokens: sources, tokenizer, splits, and the measures that are reported with the
//! losses.

mod stats;

pub use stats::DataStats;

use crate::experiment::config::Config;
use crate::inputs::files::CachedIdentity;
use crate::inputs::pretrained::{Import, Needed, tokenizer_of};
use crate::inputs::sources::{self, DataRole, OpenedSource, Purpose};
use crate::inputs::tokenizers::train_tokenizer;
use crate::terminal::log;
use forgetting_laws::data::Source;
use forgetting_laws::data::mask::Supervised;
use forgetting_laws::data::registry::DatasetManifest;
use forgetting_laws::data::sequences::Sequences;
use forgetting_laws::data::split::{RULE, Split, SplitSettings, SplitTokens};
use forgetting_laws::data::synthetic::Synthetic;
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::data::tokens::{Origin, Recipe};
use forgetting_laws::engine::{PretrainData, TargetData};
use forgetting_laws::rng::Key;
use forgetting_laws::run::{DataSpec, RunId, Spec, TokenizerSpec};
use forgetting_laws::store::{Claim, hashed_files, read_hashed, write_hashed};
use forgetting_laws::{Error, Fraction, Result};
use stats::{Measures, VERSION, kept};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The sources and the settings of their tokens; nothing is tokenised yet.
pub struct Sources {
    pretraining: Named,
    targets: BTreeMap<String, Named>,
    given_tokenizer: Option<Arc<Tokenizer>>,
    /// The given pretrained models, by size.
    pub imports: BTreeMap<String, Import>,
    /// The vocabulary size of the models.
    pub vocab: usize,
    /// Tokens of the n-grams by which overlap is measured.
    overlap_ngram: usize,
}

/// A source.
struct Named {
    source: Box<dyn Source>,
    /// A description of its origin.
    origin: Origin,
    fetched: Option<DatasetManifest>,
    known: Option<CachedIdentity>,
    spec: DataSpec,
    /// The option that names its files.
    flag: String,
}

/// All sources as sequences.
pub struct Prepared {
    /// The pretraining data.
    pub pretraining: PretrainData,
    /// The requested targets, by the identity of their data.
    pub targets: BTreeMap<RunId, TargetData>,
    /// The stats of the pretraining data.
    pub pretraining_stats: DataStats,
    /// The stats of each target and of the pretraining data, by the identity of the target's data.
    pub stats: BTreeMap<RunId, DataStats>,
    /// The tokenizer.
    pub tokenizer: Arc<Tokenizer>,
}

impl Sources {
    /// Opens the sources in the settings. Of the pretrained models only those of `sizes` are opened, or
    /// of every block's sizes if that is `None`, and `needed` says which of them are read; if only those
    /// that are here, no text is fetched either. Facts about models and text files are stored in
    /// `folder`, so that a plan need not read them again.
    ///
    /// # Errors
    /// If a file is missing, empty or not what its name says, or if the settings name neither files nor
    /// the synthetic source (a plan works without files that have not been named).
    pub fn open(
        config: &Config,
        sizes: Option<&BTreeSet<&str>>,
        needed: Needed<'_>,
        folder: Option<&Path>,
    ) -> Result<Self> {
        let (data, only_plan) = (&config.data, matches!(needed, Needed::Here));
        let open = |paths: &[PathBuf], flag: &str, role, synthetic: Option<(Synthetic, String)>| {
            let opened = |source: Box<dyn Source>, name, answers| {
                let origin = Origin { name, ..Origin::default() };
                OpenedSource { source, origin, manifest: None, known: None, answers }
            };
            // What is not there yet may be instructions.
            let missing = |name: String| opened(Box::new(NotNamed(name.clone())), name, true);
            if !paths.is_empty() {
                let purpose = Purpose { role, flag, only_plan, cache: folder };
                let found = sources::open(paths, data.reading(), purpose)?;
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
                    let requirement = "this preset needs text files, such as .txt or .jsonl";
                    Err(Error::setting(flag, "(none)", requirement))
                }
            }
        };
        let broad = || (Synthetic::pretraining(config.seed), "synthetic, broad".to_string());
        let pretraining =
            open(&data.pretrain, "--pretrain", DataRole::Pretraining, data.synthetic.then(broad))?;
        let of_grid = config.sizes_of(None);
        let pretrained = |name: &&str| config.size(name).pretrained.is_some();
        // The models also bring the tokenizer, so at least one is opened if the grid has any.
        let chosen = sizes.filter(|sizes| sizes.iter().any(pretrained)).unwrap_or(&of_grid);
        let models = chosen.iter().filter_map(|&name| {
            let (named, context) = (config.size(name).pretrained.as_ref()?, config.model.context);
            let import = Import::open(named, context, folder, needed);
            Some(import.map(|import| (name.to_string(), import)))
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
        if data.loss == Supervised::Answer && !answers {
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

    /// Whether runs of a size can be planned: it is pretrained here, or its model was opened.
    pub fn has(&self, config: &Config, size: &str) -> bool {
        config.size(size).pretrained.is_none() || self.imports.contains_key(size)
    }

    /// A description of the pretraining data.
    pub fn pretraining_spec(&self) -> &DataSpec {
        &self.pretraining.spec
    }

    /// A description of the data of a target in the settings.
    pub fn target_spec(&self, name: &str) -> &DataSpec {
        &self.targets[name].spec
    }

    /// The identity of the stats of a target's data, prepared for a largest D_ft.
    pub fn stats_id(&self, target: &str, d_ft_tokens: u64) -> RunId {
        let (pretraining, target) = (&self.pretraining.spec, &self.targets[target].spec);
        RunId::of(&(VERSION, self.overlap_ngram, pretraining, target, d_ft_tokens))
    }

    /// Stores facts about models and text files in `folder`, if given; it is created if it is missing.
    pub fn keep(&self, folder: Option<&Path>) {
        let Some(folder) = folder else { return };
        let all = std::iter::once(&self.pretraining).chain(self.targets.values());
        all.filter_map(|named| named.known.as_ref()).for_each(|known| known.keep(folder));
        self.imports.values().for_each(|import| import.keep(folder));
    }

    /// Tokenises and splits the pretraining data and the named targets, each for its largest D_ft, and
    /// measures those that are not in `known`. The tokenizer, the tokens and the measures are stored in
    /// `folder`, if given, so that another D_ft, context or seed does not require tokenising again.
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
        let pretraining_stats = match known.values().next() {
            Some(stats) => stats.of_pretraining(),
            None => {
                let id = RunId::of(&(VERSION, &self.pretraining.spec));
                kept(folder, &id, || measures.of_pretraining(&self.pretraining))?
            }
        };
        let (mut data, mut stats) = (BTreeMap::new(), BTreeMap::new());
        for (name, split) in splits {
            let named = &self.targets[&name];
            let of_target = match known.get(&name) {
                Some(stats) => stats.clone(),
                None => {
                    let id = self.stats_id(&name, targets[&name]);
                    kept(folder, &id, || measures.of_target(named, &split, &pretraining_stats))?
                }
            };
            let id = named.spec.id();
            stats.insert(id.clone(), of_target);
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
            pretraining_stats,
            stats,
            tokenizer,
        })
    }

    /// Refuses texts that are too short for their parts, as [`prepare`](Self::prepare) would, without
    /// writing anything. It tokenises the texts, so it skips long ones, those whose tokenizer must be
    /// trained on a long one, and those that do not exist yet.
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

    /// The given tokenizer, one that was trained earlier on the same text, or a newly trained one.
    /// Other processes wait meanwhile.
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
    /// The parts of the source, with this many training tokens for a target. The tokens are stored in
    /// `folder`, if given.
    fn split(&self, tokenizer: &Tokenizer, training: u64, folder: Option<&Path>) -> Result<Split> {
        let Self { source, spec, origin, .. } = self;
        let tokens = SplitTokens {
            validation: spec.validation + spec.test,
            injection: spec.injection,
            training: spec.training.unwrap_or(training),
        };
        let key = Key::new(spec.seed).named("split");
        let settings = SplitSettings { key, tokens, context: spec.context };
        let split = match folder {
            None => Split::build(&**source, tokenizer, settings),
            Some(folder) => {
                let recipe = Recipe {
                    source: &**source,
                    encoder: tokenizer,
                    tokenizer: &tokenizer.hash(),
                    vocab: tokenizer.vocab_size(),
                    shard_documents: Recipe::SHARD,
                };
                let folder = folder.join("tokens").join(recipe.id());
                Split::keep(&folder, &recipe, origin, settings)
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

    /// Whether it is an existing text that takes little time to tokenise.
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

    /// The error of a text that is too short for its parts, with its name.
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

impl Prepared {
    /// The stats of the data of a run.
    ///
    /// # Errors
    /// If its target was not prepared.
    pub fn stats_of(&self, spec: &Spec) -> Result<&DataStats> {
        match spec {
            Spec::Pretrain(_) | Spec::Import(_) => Ok(&self.pretraining_stats),
            Spec::Finetune(spec) => self
                .stats
                .get(&spec.target)
                .ok_or_else(|| Error::setting("target", &spec.target, "was not prepared")),
        }
    }
}

/// Version of the stored tokenizers.
const TOKENIZER: u32 = 1;
/// The largest text, in bytes, that [`Sources::check`] tokenises, which takes a few seconds.
const CHECKED_BYTES: usize = 32 << 20;

/// A description of a target's training text.
pub fn training_text(name: &str) -> String {
    format!("the training text of the target {name}")
}

/// A target's parts, if there is enough to finetune on.
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

/// Replaces, in a plan, a text that has not been named yet.
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
mod tests;
