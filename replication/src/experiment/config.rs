//! Settings: a preset in TOML, with `--set key=value` on top. A preset is complete; there are no
//! defaults in the code.

use crate::blocks::MAIN;
use crate::corner::Beyond;
use crate::experiment::compute::EngineChoice;
use crate::experiment::memory::{DeviceMemory, Recompute};
use crate::inputs::sources::Reading;
use forgetting_laws::data::TokenizerKind;
use forgetting_laws::data::mask::Loss;
use forgetting_laws::data::synthetic::Domain;
use forgetting_laws::finetuning::{Budget, EvalPlan, StopRule};
use forgetting_laws::injection::SamplerKind;
use forgetting_laws::laws;
use forgetting_laws::model::{Positions, Precision};
use forgetting_laws::weight_decay::AdamW;
use forgetting_laws::{Error, Fraction, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use toml::{Table, Value};

/// Each a whole table, or one and what another lays over it.
const PRESETS: [(&str, &[&str]); 6] = [
    ("nano", &[include_str!("presets/nano.toml")]),
    ("micro", &[include_str!("presets/micro.toml")]),
    ("mini", &[include_str!("presets/mini.toml")]),
    ("paper", &[include_str!("presets/paper.toml")]),
    ("datadecide", &[include_str!("presets/datadecide.toml")]),
    ("nano-hub", &[include_str!("presets/nano.toml"), include_str!("presets/nano-hub.toml")]),
];

/// Every setting of the harness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Of everything random.
    pub seed: u64,
    /// What all models share.
    pub model: Model,
    /// What each size has of its own.
    pub sizes: BTreeMap<String, Size>,
    /// Text.
    pub data: Data,
    /// The target domains.
    pub domains: BTreeMap<String, Target>,
    /// The paper's pretraining.
    pub pretraining: Pretraining,
    /// Models that come pretrained.
    pub pretrained: PretrainedModels,
    /// The paper's finetuning with injection.
    pub finetuning: Finetuning,
    /// Which runs there are.
    pub grid: BTreeMap<String, Block>,
    /// Which of them are predicted before they are made.
    #[serde(default, skip_serializing_if = "Predict::is_usual")]
    pub predict: Predict,
    /// How runs are carried out.
    pub run: Run,
}

/// What all models share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Tokens a sequence.
    pub context: usize,
    /// Of the tokenizer that is trained; a given tokenizer brings its own.
    pub vocab: usize,
    /// Whether linear maps and normalisations have one.
    pub bias: bool,
    /// How models know where a token stands.
    pub positions: Positions,
    /// What models compute in.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
}

/// What a size has of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Peak learning rate of the pretraining.
    pub peak_lr: f64,
    /// Sequences a step of the pretraining.
    pub batch: u64,
    /// GPUs that the paper used, or that we suggest.
    pub gpus: u64,
    /// The folder of a model that takes the place of the pretraining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<PathBuf>,
}

/// Text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Files or folders; none: the synthetic source.
    pub pretrain: Vec<PathBuf>,
    /// Whether the synthetic source stands in where no files are named.
    pub synthetic: bool,
    /// Field of .jsonl files that holds the text.
    pub text_field: String,
    /// Field of .jsonl files that names the work; empty: every document is one.
    pub group: String,
    /// A file with data sets for hub:NAME, beside those that come with the library; empty: none.
    #[serde(default)]
    pub registry: PathBuf,
    /// A data set whose form the records of the targets' files have; empty: they have a text field.
    #[serde(default)]
    pub like: String,
    /// What of the targets' instructions counts in the loss.
    #[serde(default)]
    pub loss: Loss,
    /// Whether records are left out whose text is null or missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_missing: bool,
    /// Whether text files are read again that the system says did not change.
    #[serde(skip)]
    pub reread: bool,
    /// A tokenizer.json; empty: one is trained.
    pub tokenizer: PathBuf,
    /// The token that ends a text, by name or number, for a given tokenizer; empty: the one that its
    /// files name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub end_of_text: String,
    /// Which one is trained.
    pub tokenizer_kind: TokenizerKind,
    /// Bytes of pretraining text that it is trained on.
    pub tokenizer_bytes: u64,
    /// Cap on the tokens of the pretraining set.
    pub pretrain_tokens: u64,
    /// Tokens of pretraining data reserved for injection.
    pub injection_tokens: u64,
    /// Tokens of each validation set.
    pub validation_tokens: u64,
    /// Tokens of each test set, on which both losses are measured once more at the bottom; 0: there is
    /// none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub test_tokens: u64,
    /// Tokens of the n-grams by which the overlap of a validation set with other text is measured.
    #[serde(default = "overlap_ngram", skip_serializing_if = "is_usual_ngram")]
    pub overlap_ngram: usize,
}

impl Data {
    /// How text is read.
    pub fn reading(&self) -> Reading<'_> {
        Reading {
            text_field: &self.text_field,
            group: &self.group,
            registry: &self.registry,
            like: &self.like,
            loss: self.loss,
            skip_missing: self.skip_missing,
            reread: self.reread,
        }
    }

    /// The token that ends a text, if one is asked for.
    pub fn end_of_text(&self) -> Option<&str> {
        (!self.end_of_text.is_empty()).then_some(self.end_of_text.as_str())
    }
}

/// The length, in words, that GPT-3's authors looked for.
fn overlap_ngram() -> usize {
    13
}

/// Plans of domains are known by their settings, and those of before have no test set.
fn is_zero(tokens: &u64) -> bool {
    *tokens == 0
}

/// Plans of domains are known by their settings, and those of before have no other.
fn is_usual_ngram(n: &usize) -> bool {
    *n == overlap_ngram()
}

/// A target domain: files, or a synthetic one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Files or folders; none: the synthetic target.
    pub files: Vec<PathBuf>,
    /// The synthetic target; none: files are needed.
    pub kind: Option<Domain>,
    /// The synthetic target's distance from the pretraining source.
    pub distance: Option<Fraction>,
}

/// The paper's pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretraining {
    /// Share of the steps.
    pub warmup: Fraction,
    /// Last rate, as a share of the peak.
    pub terminal: Fraction,
    /// Largest global norm of the gradient.
    pub clip: f64,
    /// Which steps are evaluated.
    pub evaluate: EvalPlan,
    /// The optimiser.
    pub adamw: AdamW,
}

/// What all models of `--pretrained` share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainedModels {
    /// Peak learning rate of their pretraining, which finetuning's is a fraction of.
    pub peak_lr: f64,
}

/// The paper's finetuning with injection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finetuning {
    /// What a block's steps count.
    pub budget: Budget,
    /// Of linear warmup.
    pub warmup_steps: u64,
    /// Sequences a step.
    pub batch: u64,
    /// Largest global norm of the gradient.
    pub clip: f64,
    /// Whether a run ends once the U-curve has clearly turned.
    pub stop_when_turned: bool,
    /// When that is.
    pub stop: StopRule,
    /// Which steps are evaluated.
    pub evaluate: EvalPlan,
    /// The optimiser.
    pub adamw: AdamW,
}

/// A part of the grid: every combination of what it lists is a run. What a block leaves out in its
/// file is that of the block "main".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Names of sizes.
    pub sizes: Vec<String>,
    /// Names of domains; none: pretraining alone.
    pub domains: Vec<String>,
    /// Unique tokens of the target.
    pub d_ft_tokens: Vec<u64>,
    /// Fractions of pretraining data.
    pub p: Vec<Fraction>,
    /// Seeds of finetuning runs, added to the seed of everything.
    pub seeds: Vec<u64>,
    /// The same of pretraining runs: of the initial parameters and of the order of the data.
    #[serde(skip_serializing_if = "is_first")]
    pub pretraining_seeds: Vec<u64>,
    /// Learning rates over the pretraining's peak.
    pub lr_ratios: Vec<Ratio>,
    /// How injected sequences are chosen.
    pub samplers: Vec<SamplerKind>,
    /// Tokens of a pool of pretraining data to repeat; 0: always fresh.
    pub replay_tokens: Vec<u64>,
    /// Whether weights decay, in pretraining and finetuning.
    pub decay: Vec<bool>,
    /// Tokens of the pretraining over parameters, D over N.
    pub tokens_per_param: Vec<f64>,
    /// Optimiser steps of a finetuning, at most.
    pub steps: u64,
    /// Whether the laws are fitted to its runs too, as to those of the block "main".
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub laws: bool,
}

/// Plans of domains are known by their settings, and those of before have no such seeds.
fn is_first(seeds: &Vec<u64>) -> bool {
    *seeds == [0]
}

/// Which runs of the main grid are predicted before they are made (Table 4), and by which laws.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Predict {
    /// Whether runs of the size and the amount of data below are predicted, or of either.
    pub beyond: Beyond,
    /// The smallest such size; empty: the largest of the grid.
    pub size: String,
    /// The smallest such D_ft; 0: the largest of the grid.
    pub d_ft_tokens: u64,
    /// Laws by name; none: Equations 6 and 7.
    pub laws: Vec<String>,
}

impl Predict {
    /// Plans of domains are known by their settings, and those of before have no other.
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// How runs are carried out; but for the engine no result depends on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// What computes.
    #[serde(skip_serializing_if = "EngineChoice::is_torch")]
    pub engine: EngineChoice,
    /// Runs at a time; 0: as many as cores.
    pub workers: usize,
    /// Threads of a run.
    pub threads: i32,
    /// Sequences that libtorch takes through a model at a time, at most; 0: as many as fit.
    pub micro_batch: usize,
    /// What a device has for runs.
    #[serde(default, skip_serializing_if = "DeviceMemory::is_auto")]
    pub device_memory: DeviceMemory,
    /// Whether blocks are computed again in the backward pass.
    #[serde(default, skip_serializing_if = "Recompute::is_auto")]
    pub recompute: Recompute,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: u64,
    /// Whether finetunings keep their model at the bottom of the U-curve.
    pub keep_models: bool,
}

/// A positive ratio, written `"1/30"` or as a number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub struct Ratio {
    numerator: f64,
    denominator: f64,
}

impl Ratio {
    /// The number.
    pub fn get(self) -> f64 {
        self.numerator / self.denominator
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.denominator == 1.0 {
            write!(f, "{}", self.numerator)
        } else {
            write!(f, "{}/{}", self.numerator, self.denominator)
        }
    }
}

impl From<Ratio> for String {
    fn from(ratio: Ratio) -> String {
        ratio.to_string()
    }
}

impl TryFrom<Value> for Ratio {
    type Error = String;
    fn try_from(value: Value) -> std::result::Result<Self, String> {
        let parsed = match &value {
            Value::Float(number) => Some((*number, 1.0)),
            Value::Integer(number) => Some((*number as f64, 1.0)),
            Value::String(text) => match text.split_once('/') {
                Some((a, b)) => a.trim().parse().ok().zip(b.trim().parse().ok()),
                None => text.trim().parse().ok().map(|number| (number, 1.0)),
            },
            _ => None,
        };
        match parsed {
            Some((a, b)) if a > 0.0 && b > 0.0 && (a / b).is_finite() && a / b > 0.0 => {
                Ok(Self { numerator: a, denominator: b })
            }
            _ => Err(format!("{value} is no ratio above 0, such as \"1/30\" or 0.03")),
        }
    }
}

impl Config {
    /// A preset with settings on top, each `key=value` with the key's tables joined by dots.
    ///
    /// # Errors
    /// If the preset, a key or a value is not one.
    pub fn load(preset: &str, overrides: &[String]) -> Result<Self> {
        let (_, texts) = PRESETS.iter().find(|(name, _)| *name == preset).ok_or_else(|| {
            let names: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
            Error::setting("preset", preset, format!("must be one of {}", names.join(", ")))
        })?;
        let mut table = Table::new();
        for text in *texts {
            lay_over(&mut table, text.parse().expect("the presets are tested"));
        }
        let given = overrides.iter().filter_map(|setting| setting.split_once('='));
        own_what_is_set(&mut table, given.map(|(key, _)| key.trim()));
        for setting in overrides {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Error::setting("--set", setting, "must be key=value, such as seed=7")
            })?;
            let (key, value) = (key.trim(), value.trim());
            set(&mut table, key, value)?;
            // One by one, so that a refusal names its setting.
            Self::from_table(&table).map_err(|why| Error::setting(key, value, why))?;
        }
        let config = Self::from_table(&table).expect("the presets are tested");
        config.validate()?;
        Ok(config)
    }

    fn from_table(table: &Table) -> std::result::Result<Self, String> {
        // The lines after the first say where in the table, which the caller says better.
        let first = |error: toml::de::Error| error.to_string().lines().next().map(String::from);
        let whole = Value::Table(with_what_blocks_leave_out(table));
        whole.try_into().map_err(|error| first(error).unwrap_or_default())
    }

    /// Takes texts for targets. Where the preset waits for texts of all these names, they are its own,
    /// and the domains whose text is not given leave its blocks. Else the targets take the place of the
    /// preset's: blocks on all domains of the main grid are on all of them, blocks on a part of those
    /// domains on the first ones, and blocks on other domains go.
    pub fn set_targets(&mut self, targets: BTreeMap<String, Vec<PathBuf>>, order: &[String]) {
        let waits = |target: &Target| target.files.is_empty() && target.kind.is_none();
        if order.iter().all(|name| self.domains.get(name).is_some_and(waits)) {
            for (name, files) in targets {
                self.domains.get_mut(&name).expect("all are there").files = files;
            }
            self.domains.retain(|_, target| !waits(target));
            self.grid.retain(|_, block| {
                let trains = !block.domains.is_empty();
                block.domains.retain(|domain| self.domains.contains_key(domain));
                !trains || !block.domains.is_empty()
            });
            return;
        }
        let main = self.grid.get(MAIN).map(|block| block.domains.clone()).unwrap_or_default();
        self.grid.retain(|_, block| block.domains.iter().all(|domain| main.contains(domain)));
        for block in self.grid.values_mut().filter(|block| !block.domains.is_empty()) {
            let count = if block.domains == main { order.len() } else { block.domains.len() };
            block.domains = order.iter().take(count).cloned().collect();
        }
        let target = |(name, files)| (name, Target { files, kind: None, distance: None });
        self.domains = targets.into_iter().map(target).collect();
    }

    /// Takes models that come pretrained in place of the preset's sizes. Blocks that ask about the
    /// pretraining itself go: on models alone, or on tokens per parameter.
    pub fn set_models(&mut self, models: &[(String, PathBuf)]) {
        let usual = self.grid.get(MAIN).map(|main| main.tokens_per_param.clone());
        self.grid.retain(|_, block| {
            !block.domains.is_empty() && Some(&block.tokens_per_param) == usual.as_ref()
        });
        let main = self.grid.get(MAIN).map(|main| main.sizes.clone());
        for block in self.grid.values_mut() {
            let all = Some(&block.sizes) == main.as_ref();
            let count = if all { models.len() } else { block.sizes.len() };
            block.sizes = models.iter().take(count).map(|(name, _)| name.clone()).collect();
        }
        let peak_lr = self.pretrained.peak_lr;
        let size = |(name, folder): &(String, PathBuf)| {
            let pretrained = Some(folder.clone());
            (name.clone(), Size { peak_lr, batch: self.finetuning.batch, gpus: 1, pretrained })
        };
        self.sizes = models.iter().map(size).collect();
    }

    /// # Errors
    /// If a setting is outside its domain, by the name that `--set` knows.
    fn validate(&self) -> Result<()> {
        self.check_counts()?;
        let positive = [
            ("pretraining.clip".to_string(), self.pretraining.clip),
            ("finetuning.clip".to_string(), self.finetuning.clip),
            ("pretrained.peak_lr".to_string(), self.pretrained.peak_lr),
        ];
        let rates =
            self.sizes.iter().map(|(name, size)| (format!("sizes.{name}.peak_lr"), size.peak_lr));
        for (name, value) in positive.into_iter().chain(rates) {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::setting(name, value, "must be above 0 and finite"));
            }
        }
        under("pretraining.adamw", self.pretraining.adamw.validate())?;
        under("pretraining.evaluate", self.pretraining.evaluate.validate())?;
        under("finetuning.adamw", self.finetuning.adamw.validate())?;
        under("finetuning.evaluate", self.finetuning.evaluate.validate())?;
        under("finetuning.stop", self.finetuning.stop.validate())?;
        self.check_predict()?;
        // The main one first: the others may have a bad value from it.
        let (main, others): (Vec<_>, Vec<_>) =
            self.grid.iter().partition(|(name, _)| *name == MAIN);
        let blocks = main.into_iter().chain(others);
        blocks.into_iter().try_for_each(|(name, block)| self.check_block(name, block))
    }

    fn check_predict(&self) -> Result<()> {
        let Predict { size, laws, .. } = &self.predict;
        let of_laws = self.grid.iter().filter(|(name, block)| block.laws || *name == MAIN);
        let mut sizes = of_laws.flat_map(|(_, block)| &block.sizes);
        if !size.is_empty() && !sizes.any(|of_grid| of_grid == size) {
            let requirement = "must be a size of the main grid, or empty for the largest";
            return Err(Error::setting("predict.size", size, requirement));
        }
        let refusal = |error| under("predict", Err(error));
        laws.iter().try_for_each(|name| laws::by_name(name).map(drop).or_else(refusal))
    }

    fn check_block(&self, name: &str, block: &Block) -> Result<()> {
        let at = |axis: &str| format!("grid.{name}.{axis}");
        some_and_once(&at("sizes"), &block.sizes)?;
        some_and_once(&at("p"), block.p.iter().map(|p| p.get()))?;
        some_and_once(&at("d_ft_tokens"), &block.d_ft_tokens)?;
        some_and_once(&at("seeds"), &block.seeds)?;
        some_and_once(&at("pretraining_seeds"), &block.pretraining_seeds)?;
        some_and_once(&at("lr_ratios"), block.lr_ratios.iter().map(|ratio| ratio.get()))?;
        some_and_once(&at("samplers"), block.samplers.iter().map(|kind| format!("{kind:?}")))?;
        some_and_once(&at("replay_tokens"), &block.replay_tokens)?;
        some_and_once(&at("decay"), &block.decay)?;
        some_and_once(&at("tokens_per_param"), &block.tokens_per_param)?;
        if !block.domains.is_empty() {
            some_and_once(&at("domains"), &block.domains)?;
        }
        for size in &block.sizes {
            known(&at("sizes"), size, self.sizes.keys())?;
        }
        for domain in &block.domains {
            known(&at("domains"), domain, self.domains.keys())?;
        }
        for tokens in &block.d_ft_tokens {
            self.check_tokens(&at("d_ft_tokens"), *tokens, false)?;
        }
        for &value in &block.tokens_per_param {
            if !(value > 0.0 && value <= MOST_TOKENS_PER_PARAM) {
                let requirement = format!("must be above 0 and at most {MOST_TOKENS_PER_PARAM}");
                return Err(Error::setting(at("tokens_per_param"), value, requirement));
            }
        }
        for tokens in &block.replay_tokens {
            self.check_tokens(&at("replay_tokens"), *tokens, true)?;
        }
        within(&at("steps"), block.steps, 1, 10_000_000)
    }

    fn check_tokens(&self, name: &str, tokens: u64, may_be_none: bool) -> Result<()> {
        let context = self.model.context as u64;
        let none = may_be_none && tokens == 0;
        if none || (context..=MOST_TOKENS).contains(&tokens) {
            return Ok(());
        }
        let or = if may_be_none { "0, or " } else { "" };
        let requirement = format!(
            "must be {or}one sequence at least, {context} tokens, and at most {MOST_TOKENS}"
        );
        Err(Error::setting(name, tokens, requirement))
    }

    /// Whole numbers: at least what a run cannot do without, and at most what keeps every product
    /// of them, such as the tokens of a run, within 64 bits.
    fn check_counts(&self) -> Result<()> {
        let (model, data, finetuning) = (&self.model, &self.data, &self.finetuning);
        let check = within;
        let context = model.context as u64;
        check("model.context", context, 1, 100_000)?;
        check(
            "model.vocab",
            model.vocab as u64,
            data.tokenizer_kind.min_vocab() as u64,
            1_000_000,
        )?;
        check("finetuning.batch", finetuning.batch, 1, MOST_SEQUENCES)?;
        for (name, size) in &self.sizes {
            check(&format!("sizes.{name}.batch"), size.batch, 1, MOST_SEQUENCES)?;
        }
        check("data.tokenizer_bytes", data.tokenizer_bytes, 1, MOST_TOKENS)?;
        check("data.overlap_ngram", data.overlap_ngram as u64, 1, 64)?;
        check("run.workers", self.run.workers as u64, 0, 1_000)?;
        if !(1..=1_000).contains(&self.run.threads) {
            return Err(Error::setting("run.threads", self.run.threads, "must be from 1 to 1000"));
        }
        for (name, tokens, may_be_none) in [
            ("data.validation_tokens", data.validation_tokens, false),
            ("data.pretrain_tokens", data.pretrain_tokens, false),
            ("data.injection_tokens", data.injection_tokens, true),
            ("data.test_tokens", data.test_tokens, true),
        ] {
            self.check_tokens(name, tokens, may_be_none)?;
        }
        let sequences = data.test_tokens / context;
        if data.test_tokens > 0 && sequences < 2 {
            let requirement = format!("must be 0 or hold two sequences, {} tokens", 2 * context);
            return Err(Error::setting("data.test_tokens", data.test_tokens, requirement));
        }
        Ok(())
    }

    /// The settings of a size that the grid names.
    pub fn size(&self, name: &str) -> &Size {
        &self.sizes[name]
    }
}

impl Run {
    /// Runs at a time.
    pub fn workers(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }
}

/// The largest batch.
const MOST_SEQUENCES: u64 = 1_000_000;
/// The most tokens of any part of the data.
const MOST_TOKENS: u64 = 1_000_000_000_000_000;
/// A thousand times the paper's.
const MOST_TOKENS_PER_PARAM: f64 = 100_000.0;

/// A refusal by the name that `--set` knows, given that of the table.
fn under(table: &str, result: Result<()>) -> Result<()> {
    result.map_err(|error| match error {
        Error::Setting { name, value, requirement } => {
            Error::Setting { name: format!("{table}.{name}"), value, requirement }
        }
        error => error,
    })
}

/// Lays a table over another one, table by table; the domains are those of the upper one alone.
fn lay_over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) if key != "domains" => {
                lay_over(inner, value)
            }
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

/// Gives a block its own value of what is to be set there and so far is that of the main block.
fn own_what_is_set<'a>(table: &mut Table, keys: impl Iterator<Item = &'a str>) {
    for key in keys {
        let Some((block, axis)) = key.strip_prefix("grid.").and_then(|k| k.split_once('.')) else {
            continue;
        };
        let Some(grid) = table.get_mut("grid").and_then(Value::as_table_mut) else { continue };
        let of_main = grid.get(MAIN).and_then(|main| main.get(axis)).cloned();
        if let (Some(value), Some(Value::Table(block))) = (of_main, grid.get_mut(block)) {
            block.entry(axis).or_insert(value);
        }
    }
}

/// The table with every block whole.
fn with_what_blocks_leave_out(table: &Table) -> Table {
    let mut table = table.clone();
    let Some(grid) = table.get_mut("grid").and_then(Value::as_table_mut) else { return table };
    let Some(Value::Table(main)) = grid.get(MAIN).cloned() else { return table };
    for (_, block) in grid.iter_mut() {
        let Value::Table(block) = block else { continue };
        for (axis, value) in &main {
            block.entry(axis).or_insert_with(|| value.clone());
        }
    }
    table
}

/// Refuses a count outside its range.
fn within(name: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(Error::setting(name, value, format!("must be from {least} to {most}")))
    }
}

/// Refuses a name that is none of some.
fn known<'a>(at: &str, name: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.contains(&name) {
        Ok(())
    } else {
        Err(Error::setting(at, name, format!("this preset has {}", names.join(", "))))
    }
}

/// Refuses a list that is empty or holds a value twice.
fn some_and_once<T: PartialEq + ToString>(
    name: &str,
    values: impl IntoIterator<Item = T>,
) -> Result<()> {
    let values: Vec<T> = values.into_iter().collect();
    if values.is_empty() {
        return Err(Error::setting(name, "[]", "must hold at least one value"));
    }
    match values.iter().enumerate().find(|(i, value)| values[..*i].contains(value)) {
        Some((_, twice)) => Err(Error::setting(name, twice.to_string(), "must hold it once only")),
        None => Ok(()),
    }
}

/// Sets one key of a table to a value written as in TOML; strings may go without quotes.
fn set(table: &mut Table, key: &str, text: &str) -> Result<()> {
    let all_keys = keys_of(table, "");
    if !all_keys.iter().any(|known| known == key) {
        return Err(unknown(table, &all_keys, key, text));
    }
    let mut parts = key.split('.');
    let first = parts.next().and_then(|first| table.get_mut(first));
    let slot = parts.try_fold(first.expect("a key that is known"), |slot, part| slot.get_mut(part));
    let slot = slot.expect("a key that is known");
    let value = match (toml_value(text), &*slot) {
        (Some(Value::Integer(number)), Value::Float(_)) => Value::Float(number as f64),
        (Some(Value::Float(number)), Value::Integer(_)) if number.fract() == 0.0 => {
            Value::Integer(number as i64)
        }
        (Some(single), Value::Array(_)) if !single.is_array() => Value::Array(vec![single]),
        (Some(value), _) => value,
        // Elements without brackets, strings without quotes.
        (None, Value::Array(_)) => {
            let element = |part| toml_value(part).unwrap_or_else(|| Value::String(part.into()));
            Value::Array(text.split(',').map(str::trim).map(element).collect())
        }
        (None, _) => Value::String(text.into()),
    };
    if std::mem::discriminant(&value) != std::mem::discriminant(slot) {
        let expected = slot.type_str();
        return Err(Error::setting(key, text, format!("must be of type {expected}, as {slot} is")));
    }
    *slot = value;
    Ok(())
}

/// Why a key cannot be set, with those that may be meant: those below it or that end like it, or else
/// the nearest. Where the value fits none of them, that is said too.
fn unknown(table: &Table, all_keys: &[String], key: &str, text: &str) -> Error {
    const NAMED: usize = 6;
    let ends_alike = |known: &&String| {
        known.starts_with(&format!("{key}.")) || known.ends_with(&format!(".{key}"))
    };
    let alike: Vec<&String> = all_keys.iter().filter(ends_alike).collect();
    let nearest = || all_keys.iter().min_by_key(|known| strsim::damerau_levenshtein(known, key));
    let names = alike.iter().take(NAMED).map(|known| known.as_str()).collect::<Vec<_>>().join(", ");
    let hint = match (alike.as_slice(), nearest()) {
        ([], None) => String::new(),
        ([], Some(nearest)) => format!("; the nearest is {nearest}"),
        ([only], _) => format!("; there is {only}"),
        (many, _) if many.len() > NAMED => {
            format!("; there are {names} and {} more", many.len() - NAMED)
        }
        _ => format!("; there are {names}"),
    };
    let refused = alike.iter().map(|known| {
        let mut trial = table.clone();
        set(&mut trial, known, text).map_err(|error| error.to_string())?;
        Config::from_table(&trial).map_err(|why| format!("{known} = {text}: {why}"))
    });
    let refused: Option<Vec<String>> = refused.map(Result::err).collect();
    let value = refused.and_then(|refused| Some(format!(" ({})", refused.first()?)));
    let value = value.unwrap_or_default();
    Error::setting("--set", key, format!("no such setting{hint}{value}"))
}

/// A value written as in TOML; None where it is not.
fn toml_value(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok()?.remove("value")
}

/// The keys of all settings below a table, with dots.
fn keys_of(table: &Table, prefix: &str) -> Vec<String> {
    let below = table.iter().flat_map(|(name, value)| match value {
        Value::Table(inner) => keys_of(inner, &format!("{prefix}{name}.")),
        _ => vec![format!("{prefix}{name}")],
    });
    below.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(overrides: &[&str]) -> Result<Config> {
        Config::load("nano", &overrides.iter().map(|s| s.to_string()).collect::<Vec<_>>())
    }

    fn refusal(overrides: &[&str]) -> String {
        let message = load(overrides).unwrap_err().to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        message
    }

    #[test]
    fn every_preset_loads() {
        for (name, _) in PRESETS {
            Config::load(name, &[]).unwrap();
        }
        let message = Config::load("huge", &[]).unwrap_err().to_string();
        assert!(message.contains("nano, micro, mini, paper"), "{message}");
    }

    /// PAPER.md's settings that are known, in the preset that claims to be the paper's.
    #[test]
    fn the_paper_preset_is_the_papers() {
        let paper = Config::load("paper", &[]).unwrap();
        assert_eq!(paper.grid[MAIN].tokens_per_param, [100.0]);
        assert_eq!(paper.pretraining.warmup.get(), 0.005);
        assert_eq!(paper.pretraining.terminal.get(), 0.01);
        assert_eq!(paper.pretraining.clip, 5.0);
        assert_eq!(paper.pretraining.adamw.weight_decay, 0.1);
        assert_eq!(paper.model.context, 1024);
        assert_eq!(paper.model.vocab, 32_000);
        assert_eq!(paper.model.precision, Precision::Bf16);
        assert_eq!(paper.data.tokenizer_kind, TokenizerKind::Unigram);
        assert_eq!(paper.grid[MAIN].steps, 12_000);
        assert!(!paper.finetuning.stop_when_turned);
        let gpus = ["tiny", "small", "medium", "large", "xl"].map(|s| paper.sizes[s].gpus);
        assert_eq!(gpus, [1, 1, 4, 8, 8]);
        assert!(paper.grid["fig5"].lr_ratios.iter().any(|ratio| ratio.get() == 1.0 / 30.0));
    }

    #[test]
    fn settings_override_and_keep_their_type() {
        let config = load(&[
            "seed=7",
            "grid.fig5.steps=10",
            "sizes.nano-tiny.peak_lr=1",
            "grid.fig5.p=[0.0,0.5]",
        ])
        .unwrap();
        assert_eq!((config.seed, config.grid["fig5"].steps), (7, 10));
        assert_eq!(config.sizes["nano-tiny"].peak_lr, 1.0);
        assert_eq!(config.grid["fig5"].p.iter().map(|p| p.get()).collect::<Vec<_>>(), [0.0, 0.5]);
        assert_eq!(
            load(&["domains.far.kind=code"]).unwrap().domains["far"].kind,
            Some(Domain::Code)
        );
        assert_eq!(load(&["grid.fig5.sizes=nano-tiny"]).unwrap().grid["fig5"].sizes, ["nano-tiny"]);
        let p = load(&["grid.fig5.p=0, 0.25,1"]).unwrap().grid["fig5"].p.clone();
        assert_eq!(p.iter().map(|p| p.get()).collect::<Vec<_>>(), [0.0, 0.25, 1.0]);
        assert_eq!(
            load(&["grid.fig5.lr_ratios=1/30, 1/3"]).unwrap().grid["fig5"].lr_ratios.len(),
            2
        );
        assert_eq!(
            load(&["grid.fig5.lr_ratios=[0.5]"]).unwrap().grid["fig5"].lr_ratios[0].get(),
            0.5
        );
    }

    #[test]
    fn bad_settings_are_named() {
        assert!(refusal(&["sede=7"]).contains("nearest is seed"));
        assert!(refusal(&["finetuning.warmup_step=7"]).contains("finetuning.warmup_steps"));
        assert!(refusal(&["finetuning=7"]).contains("finetuning."));
        assert!(refusal(&["seed.x=7"]).contains("no such setting"));
        let message = refusal(&["p=0,0.1"]);
        let start = "--set = p: no such setting; there are grid.";
        assert!(message.starts_with(start) && message.contains("grid.main.p"), "{message}");
        assert!(!message.contains('('), "{message}");
        let message = refusal(&["p=0,1.1"]);
        assert!(message.contains("grid.main.p") && message.contains("= 0,1.1: "), "{message}");
        let message = refusal(&["vocab=many"]);
        let expected = "--set = vocab: no such setting; there is model.vocab (model.vocab = many: ";
        assert!(message.starts_with(expected), "{message}");
        assert!(refusal(&["adamw.beta1=0.5"]).contains("finetuning.adamw.beta1, pretraining."));
        assert!(refusal(&["seed"]).contains("key=value"));
        assert!(refusal(&["seed=many"]).contains("integer"));
        assert!(refusal(&["seed=-1"]).contains("-1"));
        assert!(refusal(&["grid.fig5.p=[1.5]"]).contains("1.5"));
        assert!(refusal(&["grid.fig5.p=[]"]).contains("grid.fig5.p"));
        assert!(refusal(&["grid.fig5.sizes=[\"huge\"]"]).contains("nano-tiny"));
        assert!(refusal(&["grid.fig5.lr_ratios=[\"1/0\"]"]).contains("1/0"));
        assert!(refusal(&["grid.fig5.p=[0.5, 0.1, 0.5]"]).contains("grid.fig5.p = 0.5"));
        assert!(refusal(&["grid.fig5.lr_ratios=[\"1/2\", 0.5]"]).contains("once"));
        assert!(refusal(&["grid.main.d_ft_tokens=0"]).contains("grid.main.d_ft_tokens"));
        assert!(refusal(&["sizes.nano-tiny.peak_lr=0"]).contains("sizes.nano-tiny.peak_lr"));
        assert!(refusal(&["grid.exact.samplers=best"]).contains("best"));
    }

    /// Nothing that is accepted here is refused once runs have begun.
    #[test]
    fn settings_outside_their_domain_are_named() {
        for (setting, named) in [
            ("model.context=0", "from 1"),
            ("model.vocab=256", "from 257"),
            ("grid.main.steps=0", "from 1"),
            ("grid.fig5.steps=10000000000000000", "to 10000000"),
            ("finetuning.batch=0", "from 1"),
            ("sizes.nano-tiny.batch=0", "from 1"),
            ("run.threads=-3", "-3"),
            ("run.workers=1000000000", "to 1000"),
            ("data.tokenizer_bytes=0", "from 1"),
            ("data.overlap_ngram=0", "from 1"),
            ("data.overlap_ngram=65", "to 64"),
            ("data.validation_tokens=63", "64 tokens"),
            ("data.pretrain_tokens=63", "64 tokens"),
            ("data.injection_tokens=63", "be 0, or"),
            ("grid.replay.replay_tokens=63", "be 0, or"),
            ("grid.main.d_ft_tokens=63", "64 tokens"),
            ("grid.main.tokens_per_param=1e30", "at most"),
            ("grid.tokens.tokens_per_param=[10.0, -1.0]", "above 0"),
            ("pretraining.clip=nan", "above 0"),
            ("pretraining.warmup=2", "between 0 and 1"),
            ("pretraining.adamw.beta1=1", "below 1"),
            ("pretraining.evaluate.min_interval=0", "at least 1"),
            ("finetuning.adamw.eps=0", "above 0"),
            ("finetuning.evaluate.ratio=0.5", "at least 1"),
            ("finetuning.stop.factor=nan", "at least 1"),
            ("finetuning.stop.rise=-1", "positive"),
        ] {
            let message = refusal(&[setting]);
            let name = setting.split('=').next().unwrap();
            assert!(message.starts_with(&format!("{name} = ")), "{setting}: {message}");
            assert!(message.contains(named), "{setting}: {message}");
        }
        for least in ["data.validation_tokens=64", "data.injection_tokens=0", "model.vocab=257"] {
            load(&[least]).unwrap();
        }
        let unigram = "data.tokenizer_kind=unigram";
        assert!(refusal(&[unigram, "model.vocab=279"]).contains("from 280"));
        assert_eq!(load(&[unigram]).unwrap().data.tokenizer_kind, TokenizerKind::Unigram);
        assert!(refusal(&["data.tokenizer_kind=wordpiece"]).contains("wordpiece"));
    }

    #[test]
    fn what_is_usual_leaves_settings_as_they_were_known() {
        let written = |config: &Config| serde_json::to_string(config).unwrap();
        assert!(!written(&load(&[]).unwrap()).contains("overlap_ngram"));
        let other = load(&["data.overlap_ngram=8"]).unwrap();
        assert!(written(&other).contains("\"overlap_ngram\":8"));
    }

    #[test]
    fn ratios_keep_how_they_were_written() {
        let ratio =
            load(&["grid.fig5.lr_ratios=[\"1/30\", 0.25]"]).unwrap().grid["fig5"].lr_ratios.clone();
        assert_eq!(ratio.iter().map(Ratio::to_string).collect::<Vec<_>>(), ["1/30", "0.25"]);
        assert_eq!(ratio[0].get(), 1.0 / 30.0);
    }

    #[test]
    fn blocks_take_from_the_main_one_what_they_leave_out() {
        let config = load(&["grid.main.steps=77", "grid.seeds.p=0.02"]).unwrap();
        let p = |block: &str| config.grid[block].p.iter().map(|p| p.get()).collect::<Vec<_>>();
        assert_eq!((config.grid["exact"].steps, config.grid["fig5"].steps), (77, 1_500));
        assert_eq!(p("seeds"), [0.02]);
        assert_eq!(p("fig17"), p(MAIN));
        // An axis that the block has from the main one can be its own.
        let config = load(&["grid.exact.steps=5"]).unwrap();
        assert_eq!((config.grid["exact"].steps, config.grid[MAIN].steps), (5, 12_000));
        assert!(refusal(&["grid.exact.step=5"]).contains("no such setting"));
        assert!(refusal(&["grid.main.domains=elsewhere"]).contains("far, instructions"));
    }

    #[test]
    fn texts_that_a_preset_waits_for_leave_its_grid_as_it_is() {
        let mut config = Config::load("micro", &[]).unwrap();
        let order = ["statutes".to_string(), "french".to_string()];
        let files = |name: &String| (name.clone(), vec![PathBuf::from(name)]);
        config.set_targets(order.iter().map(files).collect(), &order);
        let domains: Vec<&String> = config.domains.keys().collect();
        assert_eq!(domains, ["far", "french", "instructions", "middle", "near", "statutes"]);
        assert_eq!(config.grid[MAIN].domains, ["french", "statutes"]);
        let of_domains = ["french", "statutes", "near", "middle", "far", "instructions"];
        assert_eq!(config.grid["domains"].domains, of_domains);
        assert_eq!(config.grid["models"].domains, ["french", "statutes"]);
        config.validate().unwrap();
    }

    #[test]
    fn other_targets_replace_the_presets() {
        let mut config = load(&[]).unwrap();
        let order = ["b".to_string(), "a".to_string()];
        let files = |name: &String| (name.clone(), vec![PathBuf::from(name)]);
        config.set_targets(order.iter().map(files).collect(), &order);
        assert_eq!(config.domains.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(config.grid[MAIN].domains, order);
        assert_eq!(config.grid["fig5"].domains, ["b"]);
        assert!(config.grid["fig17"].domains.is_empty());
        assert!(!config.grid.contains_key("instructions"));
        config.validate().unwrap();
    }
}
