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
use forgetting_laws::data::mask::Loss;
use forgetting_laws::data::synthetic::Domain;
use forgetting_laws::finetuning::{Budget, EvalPlan, StopRule};
use forgetting_laws::injection::SamplerKind;
use forgetting_laws::model::{Positions, Precision};
use forgetting_laws::weight_decay::AdamW;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use toml::Value;

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

#[cfg(test)]
mod tests;
