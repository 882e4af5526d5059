//! From settings to tokens: sources, tokenizer, splits, and what stands beside the losses.

use crate::config::Config;
use forgetting_laws::data::Source;
use forgetting_laws::data::files::Files;
use forgetting_laws::data::ngram::Ngram;
use forgetting_laws::data::split::{Split, SplitReport, SplitTokens};
use forgetting_laws::data::synthetic::Synthetic;
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::engine::{PretrainData, TargetData};
use forgetting_laws::rng::Key;
use forgetting_laws::run::{DataSpec, RunId, TokenizerSpec};
use forgetting_laws::store::{Claim, to_json, write_atomic};
use forgetting_laws::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The two sources and what is to be made of them; nothing is tokenised yet.
pub struct Sources {
    pretraining: Box<dyn Source>,
    target: Box<dyn Source>,
    given_tokenizer: Option<Tokenizer>,
    /// What the pretraining data will be.
    pub pretraining_spec: DataSpec,
    /// What the target's data will be.
    pub target_spec: DataSpec,
    /// Size of the vocabulary that models have.
    pub vocab: usize,
}

/// Both sources as sequences.
pub struct Prepared {
    /// The pretraining data.
    pub pretraining: PretrainData,
    /// The target.
    pub target: TargetData,
    /// What is known of them.
    pub facts: Facts,
    /// What turned text into tokens.
    pub tokenizer: Tokenizer,
}

/// What is known of prepared data; kept beside the runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// For people.
    pub pretraining_source: String,
    /// For people.
    pub target_source: String,
    /// How the pretraining data came about.
    pub pretraining_spec: DataSpec,
    /// How the target's data came about.
    pub target_spec: DataSpec,
    /// Hex SHA-256 of the tokenizer.json.
    pub tokenizer: String,
    /// Its vocabulary.
    pub vocab: usize,
    /// Counts of the pretraining data.
    pub pretraining: SplitReport,
    /// Counts of the target's data.
    pub target: SplitReport,
    /// Hex SHA-256 of the token streams: pretraining's validation, injection, training; the
    /// target's validation, training.
    pub hashes: [String; 5],
    /// Losses of models of counts that were trained on the pretraining set.
    pub references: References,
}

/// Losses in nats per token of models of counts, trained on the pretraining set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct References {
    /// Of one token, on the pretraining's validation set.
    pub unigram_pt: f64,
    /// Of three tokens, on the pretraining's validation set.
    pub trigram_pt: f64,
    /// Of one token, on the target's validation set.
    pub unigram_ft: f64,
    /// Of three tokens, on the target's validation set.
    pub trigram_ft: f64,
}

impl Sources {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// If a file is missing, empty or not what its name says, or the settings name no files and
    /// the preset allows no synthetic source; a plan needs no files that nobody has named.
    pub fn open(config: &Config, only_plan: bool) -> Result<Self> {
        let data = &config.data;
        let open = |paths: &[PathBuf], flag, synthetic: &dyn Fn() -> Synthetic| {
            if !paths.is_empty() {
                let group = Some(data.group.as_str()).filter(|group| !group.is_empty());
                let files = Files::open(paths, &data.text_field, group)?;
                return Ok(Box::new(files) as Box<dyn Source>);
            }
            match (data.synthetic, only_plan) {
                (true, _) => Ok(Box::new(synthetic()) as Box<dyn Source>),
                (false, true) => Ok(Box::new(NotNamed)),
                (false, false) => {
                    let requirement = "this preset needs text files, as .txt or .jsonl";
                    Err(Error::setting(flag, "(none)", requirement))
                }
            }
        };
        let pretraining =
            open(&data.pretrain, "--pretrain", &|| Synthetic::pretraining(config.seed))?;
        let target = open(&data.target, "--target", &|| {
            Synthetic::target(data.domain, data.distance, config.seed)
        })?;
        let given_tokenizer = match data.tokenizer.as_os_str().is_empty() {
            true => None,
            false => Some(Tokenizer::from_file(&data.tokenizer)?),
        };
        let tokenizer = match &given_tokenizer {
            Some(tokenizer) => TokenizerSpec::Given { hash: tokenizer.hash() },
            None => TokenizerSpec::Trained {
                source: pretraining.content_hash(),
                bytes: data.tokenizer_bytes,
                vocab: config.model.vocab,
            },
        };
        let spec = |source: &dyn Source, injection, training| DataSpec {
            source: source.content_hash(),
            tokenizer: tokenizer.clone(),
            seed: config.seed,
            context: config.model.context,
            validation: data.validation_tokens,
            injection,
            training,
        };
        Ok(Self {
            pretraining_spec: spec(
                &*pretraining,
                data.injection_tokens,
                Some(data.pretrain_tokens),
            ),
            target_spec: spec(&*target, 0, None),
            vocab: given_tokenizer.as_ref().map_or(config.model.vocab, Tokenizer::vocab_size),
            pretraining,
            target,
            given_tokenizer,
        })
    }

    /// Identity of both together.
    pub fn id(&self) -> RunId {
        RunId::of(&(&self.pretraining_spec, &self.target_spec))
    }

    /// Tokenises and splits. `target_tokens` is the largest D_ft.
    ///
    /// # Errors
    /// If a source cannot fill its parts.
    pub fn prepare(self, config: &Config, target_tokens: u64) -> Result<Prepared> {
        let data = &config.data;
        let tokenizer = match self.given_tokenizer {
            Some(tokenizer) => tokenizer,
            None => train_tokenizer(&*self.pretraining, data.tokenizer_bytes, config.model.vocab)?,
        };
        let split = |source: &dyn Source, spec: &DataSpec, training| {
            let tokens = SplitTokens {
                validation: spec.validation,
                injection: spec.injection,
                training: spec.training.unwrap_or(training),
            };
            let key = Key::new(spec.seed).named("split");
            Split::build(source, &tokenizer, key, tokens, spec.context)
        };
        let pretraining = split(&*self.pretraining, &self.pretraining_spec, 0)?;
        let target = split(&*self.target, &self.target_spec, target_tokens)?;
        let context = config.model.context as u64;
        if target.training.tokens() < target_tokens / context * context {
            return Err(Error::Exhausted {
                what: "the target's training text".into(),
                asked: target_tokens,
                available: target.training.tokens(),
                remedy: "lower finetuning.d_ft_tokens or give more text".into(),
            });
        }
        let unigram = Ngram::train(pretraining.training.stream(), self.vocab, 1)?;
        let trigram = Ngram::train(pretraining.training.stream(), self.vocab, 3)?;
        let facts = Facts {
            pretraining_source: describe(&data.pretrain, || "synthetic, broad".into()),
            target_source: describe(&data.target, || {
                format!("synthetic {}, distance {}", data.domain.name(), data.distance.get())
            }),
            tokenizer: tokenizer.hash(),
            vocab: self.vocab,
            pretraining: pretraining.report,
            target: target.report,
            hashes: [
                &pretraining.validation,
                &pretraining.injection,
                &pretraining.training,
                &target.validation,
                &target.training,
            ]
            .map(|part| part.hash()),
            references: References {
                unigram_pt: unigram.loss(&pretraining.validation)?,
                trigram_pt: trigram.loss(&pretraining.validation)?,
                unigram_ft: unigram.loss(&target.validation)?,
                trigram_ft: trigram.loss(&target.validation)?,
            },
            pretraining_spec: self.pretraining_spec,
            target_spec: self.target_spec,
        };
        Ok(Prepared {
            pretraining: PretrainData {
                validation: pretraining.validation,
                injection: pretraining.injection,
                training: pretraining.training,
            },
            target: TargetData { validation: target.validation, training: target.training },
            facts,
            tokenizer,
        })
    }
}

impl Facts {
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
}

impl Prepared {
    /// Writes the facts and the tokenizer for later.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, folder: &Path, id: &RunId) -> Result<()> {
        let _one_at_a_time = Claim::wait_for(folder)?;
        write_atomic(
            &folder.join(format!("{id}.tokenizer.json")),
            self.tokenizer.to_json().as_bytes(),
        )?;
        write_atomic(&Facts::path(folder, id), &to_json(&self.facts))
    }
}

/// Stands in a plan for the text that its runs will be given.
struct NotNamed;

impl Source for NotNamed {
    fn content_hash(&self) -> String {
        "not yet named".into()
    }

    fn len(&self) -> Option<u64> {
        Some(0)
    }

    fn document(&self, i: u64) -> Result<std::borrow::Cow<'_, str>> {
        Err(Error::setting("document", i, "no text was named"))
    }
}

fn describe(paths: &[PathBuf], synthetic: impl FnOnce() -> String) -> String {
    if paths.is_empty() {
        return synthetic();
    }
    // Names only: the same text in another folder gives the same files.
    let names = paths.iter().filter_map(|path| path.file_name());
    names.map(|name| name.to_string_lossy()).collect::<Vec<_>>().join(", ")
}

fn train_tokenizer(source: &dyn Source, bytes: u64, vocab: usize) -> Result<Tokenizer> {
    let mut left = bytes;
    let mut error = None;
    let documents = 0..source.len().unwrap_or(u64::MAX);
    let texts = documents.map_while(|i| {
        if left == 0 {
            return None;
        }
        let text = source.document(i).map_err(|e| error = Some(e)).ok()?.into_owned();
        left = left.saturating_sub(text.len() as u64);
        Some(text)
    });
    let tokenizer = Tokenizer::train(texts, vocab);
    match error {
        Some(error) => Err(error),
        None => tokenizer,
    }
}
