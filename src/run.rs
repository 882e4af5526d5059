//! What determines a result, and the result: specifications, identities, records.
//!
//! A run's identity is the hash of everything that determines its losses. The device, the number of
//! workers and all paths are left out, so that a run keeps its identity when it moves; its manifest
//! has them instead.

use crate::data::TokenizerKind;
use crate::finetuning::{self, EvalPlan, Evaluation, StopRule};
use crate::injection::SamplerKind;
use crate::loss::Measured;
use crate::model::{Precision, Shape};
use crate::pretraining::Schedule;
use crate::store::sha256;
use crate::weight_decay::AdamW;
use crate::{Fraction, ParamCount};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of the meaning of a specification. It is raised if the same specification gives other
/// losses than before, so that old runs are not mistaken for new ones.
pub const FORMAT: u32 = 1;

/// The identity of a run or of prepared data: 16 hex digits of the SHA-256 of what determines it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// The identity of a value: the hash of its compact JSON, whose order of keys is that of the
    /// type's fields.
    pub fn of(value: &impl Serialize) -> Self {
        let json = serde_json::to_vec(value).expect("our types have string keys");
        Self(sha256(&json)[..16].to_string())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What computes a run. Engines round differently, and training amplifies the difference, so each
/// engine has its own runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// libtorch. Its bits depend on the device, the processor's instructions and the number of threads.
    #[default]
    Torch,
    /// This crate's own, on a CPU. Its bits depend on neither threads nor vector instructions.
    Cpu,
}

impl EngineKind {
    /// The default, which specifications leave out.
    pub fn is_torch(&self) -> bool {
        *self == Self::Torch
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Torch => "torch",
            Self::Cpu => "cpu",
        })
    }
}

/// Where the tokenizer comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerSpec {
    /// One trained on the first `bytes` bytes of the documents of a source.
    Trained {
        /// Its kind: a byte-level BPE if none is stated, as in all earlier specifications.
        #[serde(default, skip_serializing_if = "TokenizerKind::is_default")]
        kind: TokenizerKind,
        /// The source's content hash.
        source: String,
        /// Bytes of text to train on.
        bytes: u64,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A tokenizer.json with this hash.
    Given {
        /// Hex SHA-256 of the file.
        hash: String,
        /// The token that ends a text where it is another than its vocabulary suggests
        /// ([`unusual_end_of_text`](crate::data::tokenizer::Tokenizer::unusual_end_of_text)).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end_of_text: Option<u32>,
    },
}

/// One source as sequences of tokens, split into its parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSpec {
    /// The source's content hash.
    pub source: String,
    /// The tokenizer.
    pub tokenizer: TokenizerSpec,
    /// The seed of the order in which documents are dealt to the parts.
    pub seed: u64,
    /// Tokens per sequence.
    pub context: usize,
    /// Tokens of the validation set.
    pub validation: u64,
    /// Tokens of the test set, which follow those of the validation set; 0: there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub test: u64,
    /// Tokens reserved for injection.
    pub injection: u64,
    /// Cap on the tokens of the training part. None for a target: its D_ft subsets are prefixes,
    /// and each run states its own.
    pub training: Option<u64>,
    /// Version of the rule that splits a finite source ([`crate::data::split::RULE`]); None for an
    /// unlimited one, which is taken as it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<u32>,
}

/// Without a test set, the identity is the one from before there were test sets.
fn is_zero(tokens: &u64) -> bool {
    *tokens == 0
}

impl DataSpec {
    /// The data's identity.
    pub fn id(&self) -> RunId {
        RunId::of(self)
    }
}

/// A pretraining run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PretrainSpec {
    /// [`FORMAT`].
    pub format: u32,
    /// Identity of the pretraining data's [`DataSpec`].
    pub data: RunId,
    /// The model.
    pub shape: Shape,
    /// The precision of the model: f32 if none is stated, as in all earlier specifications.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// The engine: libtorch if none is stated, as in all earlier specifications.
    #[serde(default, skip_serializing_if = "EngineKind::is_torch")]
    pub engine: EngineKind,
    /// The seed of the initialisation and of the order of the data.
    pub seed: u64,
    /// Sequences per step.
    pub batch: u64,
    /// Learning rate by step, and the number of steps.
    pub schedule: Schedule,
    /// The optimiser.
    pub adamw: AdamW,
    /// Largest global norm of the gradient.
    pub clip: f64,
    /// Which steps are evaluated.
    pub evaluate: EvalPlan,
}

/// A model that was pretrained elsewhere, from which finetunings start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportSpec {
    /// [`FORMAT`].
    pub format: u32,
    /// Identity of the [`DataSpec`] of the data that stand for its pretraining data.
    pub data: RunId,
    /// The model.
    pub shape: Shape,
    /// The precision in which its loss is measured: f32 if none is stated, as in all earlier
    /// specifications.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// The engine: libtorch if none is stated, as in all earlier specifications.
    #[serde(default, skip_serializing_if = "EngineKind::is_torch")]
    pub engine: EngineKind,
    /// Hex SHA-256 of its shape and parameters.
    pub weights: String,
}

/// A finetuning run with injection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinetuneSpec {
    /// [`FORMAT`].
    pub format: u32,
    /// The run whose model is finetuned: a pretraining or an import.
    pub parent: RunId,
    /// Identity of the target's [`DataSpec`].
    pub target: RunId,
    /// The precision of the model: f32 if none is stated, as in all earlier specifications.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// The engine: libtorch if none is stated, as in all earlier specifications.
    #[serde(default, skip_serializing_if = "EngineKind::is_torch")]
    pub engine: EngineKind,
    /// The seed of the order of the data and of the injection.
    pub seed: u64,
    /// Unique target tokens asked for; whole sequences are used.
    pub d_ft_tokens: u64,
    /// Fraction of sequences that come from the pretraining data.
    pub p: Fraction,
    /// How the injected positions are chosen.
    pub sampler: SamplerKind,
    /// Tokens of a replay pool; None: injected data is always fresh.
    pub replay_tokens: Option<u64>,
    /// Sequences per step.
    pub batch: u64,
    /// Learning rate by step.
    pub schedule: finetuning::Schedule,
    /// Largest number of optimiser steps.
    pub steps: u64,
    /// The optimiser.
    pub adamw: AdamW,
    /// Largest global norm of the gradient.
    pub clip: f64,
    /// Which steps are evaluated.
    pub evaluate: EvalPlan,
    /// When to end early; None: never.
    pub stop: Option<StopRule>,
}

/// What determines a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Spec {
    /// A pretraining run.
    Pretrain(PretrainSpec),
    /// A model from elsewhere.
    Import(ImportSpec),
    /// A finetuning run.
    Finetune(FinetuneSpec),
}

impl Spec {
    /// The run's identity.
    pub fn id(&self) -> RunId {
        RunId::of(self)
    }

    /// The precision of the model.
    pub fn precision(&self) -> Precision {
        match self {
            Self::Pretrain(spec) => spec.precision,
            Self::Import(spec) => spec.precision,
            Self::Finetune(spec) => spec.precision,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Outcome {
    /// It ran to its last step.
    Completed,
    /// Early, by its [`StopRule`]: the U-curve had clearly turned.
    Turned,
    /// A loss was no longer finite.
    Diverged {
        /// The step of the evaluation that noticed it.
        step: u64,
    },
}

impl Outcome {
    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Turned => "turned",
            Self::Diverged { .. } => "diverged",
        }
    }
}

/// How much data a run used.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Realised {
    /// Sequences that were trained on.
    pub sequences: u64,
    /// The sequences among them that came from the pretraining data, in a finetuning run.
    pub injected_sequences: u64,
    /// Tokens that were predicted.
    pub tokens: u64,
    /// The predicted tokens of injected sequences.
    pub injected_tokens: u64,
    /// The predicted tokens that count in the loss; `None`: all. All injected tokens count, so
    /// their share of the loss may be larger than their share of the sequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_tokens: Option<u64>,
    /// Unique tokens of the set that is repeated: the target's D_ft, or the pretraining set.
    pub unique_tokens: u64,
    /// The unique tokens that count in the loss; `None` means that all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_counted_tokens: Option<u64>,
    /// Passes over that set, or over those of its sequences in which a token counts. An unfinished
    /// pass counts as a fraction.
    pub epochs: f64,
}

impl Realised {
    /// Realised fraction of injected sequences, or None before the first.
    pub fn fraction(&self) -> Option<f64> {
        (self.sequences > 0).then(|| self.injected_sequences as f64 / self.sequences as f64)
    }
}

/// Losses on the test sets, on which no choice depends, in nats per token: for a finetuning those
/// of the model at the bottom of its U-curve, for a pretraining those of its last model. Each has a
/// standard error over blocks of neighbouring sequences, because these may share a document.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TestLosses {
    /// L_pt.
    pub loss_pt: Measured,
    /// The further losses of a finetuning; `None` for a pretraining or an import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetuning: Option<FinetuningTest>,
}

/// What is measured after a finetuning in addition to L_pt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FinetuningTest {
    /// L_ft.
    pub loss_ft: Measured,
    /// L_pt⁰, the loss of the model that was finetuned.
    pub loss_pt0: Measured,
    /// L_pt − L_pt⁰. Both are measured on the same text, so its error is smaller than theirs.
    pub increase: Measured,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The run.
    pub id: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// Optimiser steps taken.
    pub steps: u64,
    /// N.
    pub n_params: ParamCount,
    /// How much data was used.
    pub realised: Realised,
    /// Every evaluation, by step.
    pub evaluations: Vec<Evaluation>,
    /// The losses on the test sets, where there are some and the run has a finite loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestLosses>,
    /// Hex SHA-256 of the `model.safetensors` in the run's folder, for runs that others depend on.
    pub model: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of before there was a choice keep their identity.
    #[test]
    fn the_default_tokenizer_leaves_no_trace() {
        let trained =
            |kind| TokenizerSpec::Trained { kind, source: "ab".into(), bytes: 7, vocab: 300 };
        let json = |kind| serde_json::to_string(&trained(kind)).unwrap();
        let before = r#"{"trained":{"source":"ab","bytes":7,"vocab":300}}"#;
        assert_eq!(json(TokenizerKind::Bpe), before);
        let after = r#"{"trained":{"kind":"unigram","source":"ab","bytes":7,"vocab":300}}"#;
        assert_eq!(json(TokenizerKind::Unigram), after);
        for kind in TokenizerKind::ALL {
            let read: TokenizerSpec = serde_json::from_str(&json(kind)).unwrap();
            assert_eq!(read, trained(kind));
        }
    }

    /// Identities of runs on libtorch do not name the engine; those of the CPU's engine do.
    #[test]
    fn libtorch_leaves_no_trace() {
        let shape = Shape::named("nano-tiny", 300, 64).unwrap();
        let import = |engine| {
            let (data, weights, precision) = (RunId::of(&"data"), "ab".into(), Precision::F32);
            Spec::Import(ImportSpec { format: FORMAT, data, shape, precision, engine, weights })
        };
        let json = |engine| serde_json::to_string(&import(engine)).unwrap();
        assert!(!json(EngineKind::Torch).contains("engine"), "{}", json(EngineKind::Torch));
        assert!(json(EngineKind::Cpu).contains(r#""engine":"cpu""#), "{}", json(EngineKind::Cpu));
        assert_ne!(import(EngineKind::Torch).id(), import(EngineKind::Cpu).id());
        for engine in [EngineKind::Torch, EngineKind::Cpu] {
            let read: Spec = serde_json::from_str(&json(engine)).unwrap();
            assert_eq!(read, import(engine));
        }
    }

    /// So does a given tokenizer whose end of text is the one that was always taken.
    #[test]
    fn the_usual_end_of_text_leaves_no_trace() {
        let given = |end_of_text| TokenizerSpec::Given { hash: "ab".into(), end_of_text };
        let json = |end_of_text| serde_json::to_string(&given(end_of_text)).unwrap();
        assert_eq!(json(None), r#"{"given":{"hash":"ab"}}"#);
        assert_eq!(json(Some(7)), r#"{"given":{"hash":"ab","end_of_text":7}}"#);
        for end_of_text in [None, Some(7)] {
            let read: TokenizerSpec = serde_json::from_str(&json(end_of_text)).unwrap();
            assert_eq!(read, given(end_of_text));
        }
    }

    /// Specifications of runs in f32, and so their identities, do not name the precision.
    #[test]
    fn f32_leaves_no_trace() {
        let shape = Shape::named("nano-tiny", 300, 64).unwrap();
        let import = |precision| {
            let (data, weights) = (RunId::of(&"data"), "ab".into());
            let engine = EngineKind::Torch;
            Spec::Import(ImportSpec { format: FORMAT, data, shape, precision, engine, weights })
        };
        let json = |precision| serde_json::to_string(&import(precision)).unwrap();
        assert!(!json(Precision::F32).contains("precision"), "{}", json(Precision::F32));
        assert!(
            json(Precision::Bf16).contains(r#""precision":"bf16""#),
            "{}",
            json(Precision::Bf16)
        );
        assert_ne!(import(Precision::F32).id(), import(Precision::Bf16).id());
        for precision in [Precision::F32, Precision::Bf16] {
            let read: Spec = serde_json::from_str(&json(precision)).unwrap();
            assert_eq!((read.precision(), &read), (precision, &import(precision)));
        }
    }
}
