//! The results of a grid, which figures, laws, exports and the report use.
//!
//! A figure never reads the store or the settings; it gets the runs of a block of the grid from
//! [`Results`]. Losses are in nats per token, sizes in parameters and tokens.

#![cfg_attr(
    not(feature = "train"),
    allow(dead_code, reason = "a part of it serves the commands that train")
)]

#[cfg(feature = "train")]
mod collect;
#[cfg(any(feature = "train", test))]
pub mod export;
#[cfg(feature = "train")]
pub mod known;
mod laws;
#[cfg(test)]
pub mod planted;
mod preregistration;

pub use laws::{DomainLaws, Laws};
#[cfg(any(feature = "train", test))]
pub use preregistration::Withheld;
pub use preregistration::{Forecast, Plan, Preregistration, Registered};

use forgetting_laws::data::overlap::Overlaps;
use forgetting_laws::data::split::SplitReport;
use forgetting_laws::finetuning::{Bottom, UCurve};
use forgetting_laws::formats::json;
use forgetting_laws::injection::SamplerKind;
use forgetting_laws::laws::Row;
use forgetting_laws::run::{FinetuningTest, Outcome, Record, RunId, TestLosses};
use forgetting_laws::table::{Run, Table};
use forgetting_laws::{Error, ParamCount, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A pretraining run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pretrained {
    /// The blocks of the grid that ask for it.
    pub blocks: Vec<String>,
    /// The name of the model size.
    pub size: String,
    /// Its place among the sizes of the preset, the smallest first.
    pub rank: usize,
    /// Layers, width and heads of the model.
    pub shape: forgetting_laws::model::Shape,
    /// GPUs that the run is planned for.
    pub gpus: u64,
    /// The seed of the initialisation and of the order of the data.
    pub seed: u64,
    /// The peak learning rate.
    pub peak_lr: f64,
    /// Sequences a step.
    pub batch: u64,
    /// The coefficient of weight decay.
    pub weight_decay: f64,
    /// Seconds that the run's thread kept a core busy, evaluations included; None where not all are
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_seconds: Option<f64>,
    /// The result.
    pub record: Record,
}

impl Pretrained {
    /// Whether a block of the grid asks for it.
    pub fn in_block(&self, block: &str) -> bool {
        self.blocks.iter().any(|name| name == block)
    }

    /// Tokens that were trained on, D.
    pub fn d_tokens(&self) -> u64 {
        self.record.realised.tokens
    }

    /// The last loss, L_pt⁰ of every finetuning that starts here: on the test set where there is one,
    /// else on the validation set.
    pub fn loss(&self) -> f64 {
        match &self.record.test {
            Some(test) => test.loss_pt.value,
            None => self.record.evaluations.last().map_or(f64::NAN, |last| last.loss_pt),
        }
    }
}

/// A finetuning run with injection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finetuned {
    /// The blocks of the grid that ask for it; "main" is the grid of the laws.
    pub blocks: Vec<String>,
    /// The pretraining run that it starts from.
    pub parent: RunId,
    /// The name of the model size.
    pub size: String,
    /// The name of the target domain.
    pub domain: String,
    /// D_ft as asked for; the whole sequences that were used are in the record.
    pub d_ft_tokens: u64,
    /// Tokens of the pretraining, D; 0 where the model came pretrained.
    pub d_tokens: u64,
    /// The fraction of injected pretraining data.
    pub p: f64,
    /// The seed of the order of the data and of the injection.
    pub seed: u64,
    /// The learning rate over the pretraining's peak.
    pub lr_ratio: f64,
    /// The learning rate.
    pub lr: f64,
    /// How injected sequences are chosen.
    pub sampler: SamplerKind,
    /// Tokens of a replay pool; None: injected data is always fresh.
    pub replay_tokens: Option<u64>,
    /// The coefficient of weight decay, in pretraining and finetuning.
    pub weight_decay: f64,
    /// The budget in steps.
    pub steps: u64,
    /// Sequences a step.
    pub batch: u64,
    /// Seconds that the run's thread kept a core busy, evaluations included; None where not all are
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_seconds: Option<f64>,
    /// The result.
    pub record: Record,
}

/// Why a run is left out of the fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// A loss was no longer finite.
    Diverged,
    /// A loss jumped ([`UCurve::stable`]).
    Unstable,
    /// The lowest loss on the target is the first evaluation.
    BottomAtStart,
    /// The lowest loss on the target is the last evaluation.
    BottomAtEnd,
}

impl LeftOut {
    /// The sampler's name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Diverged => "diverged",
            Self::Unstable => "unstable",
            Self::BottomAtStart => "bottom_at_start",
            Self::BottomAtEnd => "bottom_at_end",
        }
    }
}

impl Finetuned {
    /// Whether a block of the grid asks for it.
    pub fn in_block(&self, block: &str) -> bool {
        self.blocks.iter().any(|name| name == block)
    }

    /// The losses on the test sets, where there are some.
    pub fn test(&self) -> Option<(&TestLosses, &FinetuningTest)> {
        let test = self.record.test.as_ref()?;
        Some((test, test.finetuning.as_ref()?))
    }

    /// The bottom of the U-curve, with the losses there that count: on the test sets where there are
    /// some, else on the validation sets. None where no loss is finite.
    pub fn bottom(&self) -> Option<Bottom> {
        let bottom = self.bottom_of_curve()?;
        Some(match self.test() {
            Some((test, finetuning)) => {
                Bottom { loss_pt: test.loss_pt.value, loss_ft: finetuning.loss_ft.value, ..bottom }
            }
            None => bottom,
        })
    }

    /// The same with the losses on the validation sets, as the evaluations along the run have them.
    pub fn bottom_of_curve(&self) -> Option<Bottom> {
        UCurve::new(&self.record.evaluations).ok()?.bottom()
    }

    /// L_pt⁰: the pretraining loss before the first step, on the set that [`bottom`](Self::bottom) is
    /// of.
    pub fn loss_pt0(&self) -> f64 {
        self.test().map_or_else(|| self.loss_pt0_of_curve(), |(_, test)| test.loss_pt0.value)
    }

    /// The same on the validation set, as the evaluations along the run have it.
    pub fn loss_pt0_of_curve(&self) -> f64 {
        self.record.evaluations.first().map_or(f64::NAN, |evaluation| evaluation.loss_pt)
    }

    /// The loss on the target before the first step.
    pub fn loss_ft0(&self) -> f64 {
        self.record.evaluations.first().map_or(f64::NAN, |evaluation| evaluation.loss_ft)
    }

    /// L_pt − L_pt⁰ at the bottom.
    pub fn rise(&self) -> Option<f64> {
        self.bottom().map(|bottom| bottom.loss_pt - self.loss_pt0())
    }

    /// The model size N as the paper counts it, with the embeddings.
    pub fn n_params(&self) -> u64 {
        self.record.n_params.paper()
    }

    /// N with and without the embeddings.
    pub fn count(&self) -> ParamCount {
        self.record.n_params
    }

    /// The unique tokens of the target that were used, D_ft.
    pub fn unique_tokens(&self) -> u64 {
        self.record.realised.unique_tokens
    }

    fn diverged(&self) -> bool {
        matches!(self.record.outcome, Outcome::Diverged { .. })
    }

    /// Whether every loss is finite and none jumped ([`UCurve::stable`]).
    pub fn stable(&self) -> bool {
        let stable = || UCurve::new(&self.record.evaluations).is_ok_and(|curve| curve.stable());
        !self.diverged() && stable()
    }

    /// The rule of the fits: a run counts where its bottom is interior, no loss diverged and none
    /// jumped. The paper finds a U-curve in every configuration and needs no rule; this one is ours.
    pub fn left_out(&self) -> Option<LeftOut> {
        match self.bottom() {
            _ if self.diverged() => Some(LeftOut::Diverged),
            None => Some(LeftOut::Diverged),
            _ if !self.stable() => Some(LeftOut::Unstable),
            Some(bottom) if bottom.interior => None,
            Some(bottom) if bottom.step == 0 => Some(LeftOut::BottomAtStart),
            Some(_) => Some(LeftOut::BottomAtEnd),
        }
    }

    /// What a law looks at.
    pub fn row(&self) -> Row {
        Row {
            n_params: self.n_params() as f64,
            d_ft_tokens: self.unique_tokens() as f64,
            p: self.p,
            loss_pt0: self.loss_pt0(),
            d_tokens: known(self.d_tokens),
        }
    }

    /// The row of a table of losses; the losses are those at the bottom.
    pub fn run(&self) -> Run {
        let bottom = self.bottom();
        Run {
            domain: self.domain.clone(),
            seed: self.seed.to_string(),
            run: self.record.id.to_string(),
            parent: self.parent.to_string(),
            epochs: Some(self.record.realised.epochs).filter(|epochs| *epochs > 0.0),
            interior: bottom.map(|bottom| bottom.interior),
            row: self.row(),
            loss_pt: bottom.map(|bottom| bottom.loss_pt),
            loss_ft: bottom.map(|bottom| bottom.loss_ft),
            ..Run::default()
        }
    }
}

/// A target domain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Domain {
    /// Its name in the settings.
    pub name: String,
    /// A description of the text for people.
    pub source: String,
    /// The identity of its data.
    pub data: RunId,
    /// The loss of a model of single tokens, counted on the pretraining data, on its validation set.
    pub unigram_ft: f64,
    /// The loss of a trigram model of the pretraining data on the domain's validation set.
    pub trigram_ft: f64,
    /// Tokens and documents of its parts.
    pub counts: SplitReport,
    /// Measures of how far it is from the pretraining data, by name: larger is farther.
    pub distances: Vec<(String, f64)>,
    /// What its validation set has in common with what models are trained on; None in results of
    /// before this was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlaps>,
}

/// The pretraining data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PretrainingData {
    /// A description of the text for people.
    pub source: String,
    /// Its identity.
    pub data: RunId,
    /// The loss of a model of single tokens on its validation set: L_ref of claim 3.
    pub unigram_pt: f64,
    /// The loss of a trigram model on its validation set.
    pub trigram_pt: f64,
    /// Tokens and documents of its parts.
    pub counts: SplitReport,
    /// Hex SHA-256 of the tokenizer.json.
    pub tokenizer: String,
    /// Its vocabulary.
    pub vocab: usize,
}

/// The results of a grid.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// The preset.
    pub preset: String,
    /// The pretraining data.
    pub pretraining: PretrainingData,
    /// The target domains, in the order of their names.
    pub domains: Vec<Domain>,
    /// The finished pretraining runs, by size, weight decay and seed.
    pub pretrained: Vec<Pretrained>,
    /// The finished finetuning runs, by domain, size, D_ft, p, seed and what else they differ in.
    pub finetuned: Vec<Finetuned>,
    /// How many runs the grid asks for that are not finished, or failed.
    pub missing: usize,
    /// The machines that made the runs, in a line each.
    pub machines: Vec<String>,
    /// The program and its commit.
    pub program: String,
    /// The predictions of Table 4, where they were written before its runs.
    #[serde(default)]
    pub preregistration: Option<Preregistration>,
}

impl Results {
    /// The results of a file.
    ///
    /// # Errors
    /// If it is none of ours.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        json::whole(path, &bytes, "a results.json of replication export")
    }

    /// The finetuning runs of a block.
    pub fn block<'a>(&'a self, block: &'a str) -> impl Iterator<Item = &'a Finetuned> {
        self.finetuned.iter().filter(move |run| run.in_block(block))
    }

    /// The domains that a block has runs in, in the order of [`Results::domains`].
    pub fn domains_of(&self, block: &str) -> Vec<&Domain> {
        let has = |domain: &&Domain| self.block(block).any(|run| run.domain == domain.name);
        self.domains.iter().filter(has).collect()
    }

    /// The domain of this name.
    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.iter().find(|domain| domain.name == name)
    }

    /// The runs of a block that count in fits, as a table of losses.
    pub fn table(&self, block: &str) -> Table {
        Table::new(
            self.block(block).filter(|run| run.left_out().is_none()).map(Finetuned::run).collect(),
        )
    }

    /// The pretraining run of a finetuning.
    pub fn parent(&self, run: &Finetuned) -> Option<&Pretrained> {
        self.pretrained.iter().find(|pretrained| pretrained.record.id == run.parent)
    }

    /// The hash of all that the results say: of every record, in order.
    pub fn hash(&self) -> RunId {
        let pretrained = self.pretrained.iter().map(|run| &run.record);
        let records: Vec<&Record> =
            pretrained.chain(self.finetuned.iter().map(|run| &run.record)).collect();
        RunId::of(&records)
    }
}

/// Tokens of a pretraining for a law: those of a model that came pretrained, 0 in its record, are not
/// known.
pub fn known(d_tokens: u64) -> f64 {
    if d_tokens == 0 { f64::NAN } else { d_tokens as f64 }
}

/// The distinct values of some numbers, ascending.
pub fn distinct(numbers: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    numbers.dedup();
    numbers
}
