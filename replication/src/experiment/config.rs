//! Settings: a preset in TOML, with `--set key=value` on top. A preset is complete; there are no
//! defaults in the code.

mod check;
mod load;

use crate::blocks::MAIN;
use crate::corner::Beyond;
use crate::experiment::compute::EngineChoice;
use crate::experiment::memory::{DeviceMemory, Recompute};
use crate::inputs::sources::Reading;
use forgetting_laws::Fraction;
use forgetting_laws::data::TokenizerKind;
use forgetting_laws::data::mask::Supervised;
use forgetting_laws::data::synthetic::Domain;
use forgetting_laws::finetuning::{Budget, EvalPlan, StopRule};
use forgetting_laws::injection::SamplerKind;
use forgetting_laws::model::{Positions, Precision};
use forgetting_laws::weight_decay::AdamW;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use toml::Value;

/// The presets: each is a whole table, or a table and a second one that overrides it.
pub const PRESETS: [(&str, &[&str]); 6] = [
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
    /// The seed of everything random.
    pub seed: u64,
    /// The settings of all models.
    pub model: Model,
    /// The settings of each size.
    pub sizes: BTreeMap<String, Size>,
    /// The settings of text and tokens.
    pub data: Data,
    /// The target domains.
    pub domains: BTreeMap<String, Target>,
    /// The settings of pretraining.
    pub pretraining: Pretraining,
    /// The settings of models that were pretrained elsewhere.
    pub pretrained: PretrainedModels,
    /// The settings of finetuning with injection.
    pub finetuning: Finetuning,
    /// The runs.
    pub grid: BTreeMap<String, Block>,
    /// Which runs are predicted before they are made.
    #[serde(default, skip_serializing_if = "Predict::is_usual")]
    pub predict: Predict,
    /// How runs are carried out.
    pub run: Run,
}

/// The settings of all models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Tokens per sequence.
    pub context: usize,
    /// The vocabulary size of the tokenizer that is trained; a given tokenizer has its own.
    pub vocab: usize,
    /// Whether linear maps and normalisations have biases.
    pub bias: bool,
    /// How models encode positions.
    pub positions: Positions,
    /// The precision of computation.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
}

/// The settings of a size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Peak learning rate of the pretraining.
    pub peak_lr: f64,
    /// Sequences per step of the pretraining.
    pub batch: u64,
    /// The number of GPUs that the paper used, or that we suggest.
    pub gpus: u64,
    /// The folder of a model that is used instead of pretraining one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<PathBuf>,
}

/// The settings of text and tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Files or folders; if empty, the synthetic source.
    pub pretrain: Vec<PathBuf>,
    /// Whether the synthetic source is used if no files are named.
    pub synthetic: bool,
    /// The field of .jsonl files with the text.
    pub text_field: String,
    /// The field of .jsonl files that names the work; if empty, every document is a work.
    pub group: String,
    /// A file with further data sets for hub:NAME, in addition to the built-in ones; may be empty.
    #[serde(default)]
    pub registry: PathBuf,
    /// A data set whose format the records of the targets' files have; if empty, they have a text
    /// field.
    #[serde(default)]
    pub like: String,
    /// Which tokens of the targets' instructions count in the loss.
    #[serde(default)]
    pub loss: Supervised,
    /// Whether records whose text is null or missing are skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_missing: bool,
    /// Whether text files are read again even if their times and sizes have not changed.
    #[serde(skip)]
    pub reread: bool,
    /// A tokenizer.json; if empty, a tokenizer is trained.
    pub tokenizer: PathBuf,
    /// The token that ends a text, by name or number, for a given tokenizer; if empty, the one that its
    /// files name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub end_of_text: String,
    /// The kind of tokenizer that is trained.
    pub tokenizer_kind: TokenizerKind,
    /// Bytes of pretraining text that the tokenizer is trained on.
    pub tokenizer_bytes: u64,
    /// The most tokens of the pretraining set.
    pub pretrain_tokens: u64,
    /// Tokens of pretraining data reserved for injection.
    pub injection_tokens: u64,
    /// Tokens of each validation set.
    pub validation_tokens: u64,
    /// Tokens of each test set, on which both losses at the bottom are measured again; 0 means no test
    /// sets.
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

    /// The token that ends a text, if one is set.
    pub fn end_of_text(&self) -> Option<&str> {
        (!self.end_of_text.is_empty()).then_some(self.end_of_text.as_str())
    }
}

/// The length, in words, that GPT-3's authors used.
fn overlap_ngram() -> usize {
    13
}

/// Plans of `domain` are identified by their settings, and those of earlier versions have no test set.
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
    /// Files or folders; if empty, the synthetic target.
    pub files: Vec<PathBuf>,
    /// The synthetic target; without one, files are needed.
    pub kind: Option<Domain>,
    /// The synthetic target's distance from the pretraining source.
    pub distance: Option<Fraction>,
}

/// The settings of pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretraining {
    /// The share of the steps that is warmup.
    pub warmup: Fraction,
    /// The last learning rate, as a share of the peak.
    pub terminal: Fraction,
    /// Largest global norm of the gradient.
    pub clip: f64,
    /// Which steps are evaluated.
    pub evaluate: EvalPlan,
    /// The optimiser.
    pub adamw: AdamW,
}

/// The settings of models given with `--pretrained`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainedModels {
    /// The peak learning rate of their pretraining; the learning rate of finetuning is a fraction of
    /// it.
    pub peak_lr: f64,
}

/// The settings of finetuning with injection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finetuning {
    /// Whether a block's steps count all steps or only those with target data.
    pub budget: Budget,
    /// Steps of linear warmup.
    pub warmup_steps: u64,
    /// Sequences a step.
    pub batch: u64,
    /// Largest global norm of the gradient.
    pub clip: f64,
    /// Whether a run ends when the U-curve has clearly turned.
    pub stop_when_turned: bool,
    /// When the U-curve has clearly turned.
    pub stop: StopRule,
    /// Which steps are evaluated.
    pub evaluate: EvalPlan,
    /// The optimiser.
    pub adamw: AdamW,
}

/// A block of the grid: every combination of the values that it lists is a run. It inherits what it
/// leaves out from the block "main".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Names of sizes.
    pub sizes: Vec<String>,
    /// Names of domains; if empty, the block only pretrains.
    pub domains: Vec<String>,
    /// Unique tokens of the target.
    pub d_ft_tokens: Vec<u64>,
    /// Fractions of pretraining data.
    pub p: Vec<Fraction>,
    /// Seeds of finetuning runs, added to the seed of everything.
    pub seeds: Vec<u64>,
    /// Seeds of pretraining runs, which decide the initial parameters and the order of the data.
    #[serde(skip_serializing_if = "is_first")]
    pub pretraining_seeds: Vec<u64>,
    /// Learning rates, as fractions of the pretraining's peak.
    pub lr_ratios: Vec<Ratio>,
    /// How injected sequences are chosen.
    pub samplers: Vec<SamplerKind>,
    /// Tokens of a replay pool of pretraining data; 0 means always fresh data.
    pub replay_tokens: Vec<u64>,
    /// Whether weights decay, in pretraining and finetuning.
    pub decay: Vec<bool>,
    /// Tokens of pretraining per parameter, D / N.
    pub tokens_per_param: Vec<f64>,
    /// The most optimiser steps of a finetuning run.
    pub steps: u64,
    /// Whether the laws are also fitted to its runs, as to those of the block "main".
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub laws: bool,
}

/// Plans of `domain` are identified by their settings, and those of earlier versions have no such
/// seeds.
fn is_first(seeds: &Vec<u64>) -> bool {
    *seeds == [0]
}

/// Which runs of the main grid are predicted before they are made (Table 4), and by which laws.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Predict {
    /// Whether a predicted run must have both the size and the D_ft below, or either.
    pub beyond: Beyond,
    /// The smallest size; if empty, the largest of the grid.
    pub size: String,
    /// The smallest D_ft; 0 means the largest of the grid.
    pub d_ft_tokens: u64,
    /// Laws by name; if empty, Equations 6 and 7.
    pub laws: Vec<String>,
}

impl Predict {
    /// Plans of domains are known by their settings, and those of before have no other.
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// How runs are carried out. No result depends on it, except on the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The engine.
    #[serde(skip_serializing_if = "EngineChoice::is_torch")]
    pub engine: EngineChoice,
    /// How many runs are trained at a time; 0 means as many as cores.
    pub workers: usize,
    /// Threads per run.
    pub threads: i32,
    /// The most sequences per pass of libtorch; 0 means as many as fit.
    pub micro_batch: usize,
    /// The memory of a device that runs may use.
    #[serde(default, skip_serializing_if = "DeviceMemory::is_auto")]
    pub device_memory: DeviceMemory,
    /// Whether blocks are recomputed in the backward pass.
    #[serde(default, skip_serializing_if = "Recompute::is_auto")]
    pub recompute: Recompute,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: u64,
    /// Whether finetuning runs keep the model at the bottom of the U-curve.
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
            _ => Err(format!("{value} is not a ratio above 0, such as \"1/30\" or 0.03")),
        }
    }
}

impl Config {
    /// Uses the given texts as targets. If the preset expects texts with all these names, they become
    /// those domains, and the domains without a text are removed from its blocks. Otherwise the targets
    /// replace the preset's domains: a block on all domains of the main grid gets all targets, a block
    /// on some of them gets the first targets, and a block on other domains is removed.
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

    /// Uses given pretrained models instead of the preset's sizes. Blocks about the pretraining itself
    /// (only models, or tokens per parameter) are removed.
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

    /// The sizes that some blocks name, or all blocks.
    pub fn sizes_of(&self, blocks: Option<&[&str]>) -> BTreeSet<&str> {
        let asked = |name: &str| blocks.is_none_or(|blocks| blocks.contains(&name));
        let asked = self.grid.iter().filter(|(name, _)| asked(name));
        asked.flat_map(|(_, block)| block.sizes.iter().map(String::as_str)).collect()
    }

    /// The settings of a size that the grid names.
    pub fn size(&self, name: &str) -> &Size {
        &self.sizes[name]
    }
}

impl Run {
    /// How many runs are trained at a time.
    pub fn workers(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }
}

#[cfg(test)]
mod tests;
