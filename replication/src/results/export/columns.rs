//! The columns of every table with their units and meanings. CSV, Parquet and the dictionary are made
//! from this list.

use super::sheet::{Column, Sheet};
use crate::blocks::MAIN;
use crate::results::{Finetuned, Pretrained, Results, known};
use forgetting_laws::Result;
use forgetting_laws::finetuning::{Bottom, Evaluation};
use forgetting_laws::injection::SamplerKind;
use forgetting_laws::run::Record;

const NATS: &str = "nats per token";

/// The meanings of columns that two tables have.
const N_PARAMS: &str = "The model size N as the paper counts it: with the embedding once, without \
    positions and without a head of its own.";
const RUN_ID: &str = "The run: the hash of everything that determines its result.";
const BLOCKS: &str = "The parts of the grid that contain the run, joined by +.";

/// Every table.
///
/// # Errors
/// If a count is 2⁶³ or more.
pub fn sheets(results: &Results) -> Result<Vec<Sheet>> {
    let finetuned: Vec<_> =
        results.finetuned.iter().map(|run| Finetuning::new(results, run)).collect();
    let pretrained: Vec<_> = results.pretrained.iter().map(|run| (results, run)).collect();
    let sets = Sets::of(results);
    let mut losses = losses(sets);
    if let Sets::Test = sets {
        losses.extend(test_losses());
    }
    Ok(vec![
        Sheet::new("losses", "a finetuning run", &losses, &finetuned)?,
        Sheet::new("pretrained", "a pretraining run", &pretrainings(sets), &pretrained)?,
        Sheet::new("trajectories", "an evaluation of a run", &trajectories(), &steps(results))?,
    ])
}

/// A finetuning run with the other data of its row.
struct Finetuning<'a> {
    results: &'a Results,
    run: &'a Finetuned,
    bottom: Option<Bottom>,
}

impl<'a> Finetuning<'a> {
    fn new(results: &'a Results, run: &'a Finetuned) -> Self {
        Self { results, run, bottom: run.bottom() }
    }

    fn record(&self) -> &Record {
        &self.run.record
    }

    fn at_bottom(&self, of: fn(&Bottom) -> f64) -> f64 {
        self.bottom.as_ref().map_or(f64::NAN, of)
    }
}

/// The sets on which the losses of a table are measured.
#[derive(Clone, Copy)]
enum Sets {
    /// Only validation sets.
    Validation,
    /// Test sets, which have no part in choosing the bottom; losses on validation sets have separate
    /// columns.
    Test,
}

impl Sets {
    fn of(results: &Results) -> Self {
        let tested = results.pretrained.iter().any(|run| run.record.test.is_some());
        if tested { Self::Test } else { Self::Validation }
    }

    /// The meaning of a column for either kind.
    fn meaning(self, validation: &'static str, test: &'static str) -> &'static str {
        match self {
            Self::Validation => validation,
            Self::Test => test,
        }
    }
}

/// The columns in addition to [`losses`] if there are test sets.
#[rustfmt::skip]
fn test_losses<'a>() -> Vec<Column<Finetuning<'a>>> {
    type C<'a> = Column<Finetuning<'a>>;
    vec![
        C::number("loss_pt0_se", NATS, "The standard error of loss_pt0, over 16 blocks of neighbouring sequences of the test set.", |r| r.run.test().map_or(f64::NAN, |(_, t)| t.loss_pt0.error)),
        C::number("loss_pt_se", NATS, "The standard error of loss_pt.", |r| r.run.test().map_or(f64::NAN, |(t, _)| t.loss_pt.error)),
        C::number("loss_ft_se", NATS, "The standard error of loss_ft.", |r| r.run.test().map_or(f64::NAN, |(_, t)| t.loss_ft.error)),
        C::number("increase_se", NATS, "The standard error of loss_pt - loss_pt0, both measured on the same sequences.", |r| r.run.test().map_or(f64::NAN, |(_, t)| t.increase.error)),
        C::number("loss_pt0_validation", NATS, "The loss on the pretraining's validation set before the first step, as the trajectories have it.", |r| r.run.loss_pt0_of_curve()),
        C::number("loss_pt_validation", NATS, "The same loss at the bottom.", |r| r.run.bottom_of_curve().map_or(f64::NAN, |b| b.loss_pt)),
        C::number("loss_ft_validation", NATS, "The loss on the target's validation set at the bottom. It is the lowest of the run and therefore a little too low.", |r| r.run.bottom_of_curve().map_or(f64::NAN, |b| b.loss_ft)),
    ]
}

#[rustfmt::skip]
fn losses<'a>(sets: Sets) -> Vec<Column<Finetuning<'a>>> {
    type C<'a> = Column<Finetuning<'a>>;
    vec![
        C::text("domain", "The target domain.", |r| r.run.domain.clone()),
        C::text("size", "The name of the model size.", |r| r.run.size.clone()),
        C::integer("n_params", "parameters", N_PARAMS, |r| Some(r.run.n_params())),
        C::integer("n_params_non_embedding", "parameters", "N without the embeddings.", |r| Some(r.run.count().non_embedding)),
        C::integer("d_ft_tokens", "tokens", "D_ft: the unique tokens of the target that were used.", |r| Some(r.run.unique_tokens())),
        C::integer("d_tokens", "tokens", "D: the tokens of the pretraining, repeats included.", |r| Some(r.run.d_tokens).filter(|&d| d > 0)),
        C::number("tokens_per_param", "tokens per parameter", "d_tokens / n_params.", |r| known(r.run.d_tokens) / r.run.n_params() as f64),
        C::number("p", "fraction", "The fraction of injected pretraining data, from 0 to 1. The realised fraction is injected_sequences / sequences.", |r| r.run.p),
        C::integer("seed", "", "The seed of the order of the data and of the injection.", |r| Some(r.run.seed)),
        C::number("loss_pt0", NATS, sets.meaning("L_pt0: the loss on the pretraining's validation set before the first step.", "L_pt0: the loss on the pretraining's test set before the first step."), |r| r.run.loss_pt0()),
        C::number("loss_pt", NATS, "L_pt: the same loss at the bottom, the step of the lowest loss on the target's validation set.", |r| r.at_bottom(|b| b.loss_pt)),
        C::number("loss_ft", NATS, sets.meaning("L_ft: the loss on the target's validation set at the bottom.", "L_ft: the loss on the target's test set at the bottom."), |r| r.at_bottom(|b| b.loss_ft)),
        C::integer("bottom_step", "steps", "The optimiser step of the bottom; 0 is the pretrained model.", |r| r.bottom.map(|b| b.step)),
        C::flag("interior", "Whether the bottom is neither the first nor the last evaluation.", |r| r.bottom.is_some_and(|b| b.interior)),
        C::text("left_out", "Why the run is left out of the laws' fits: diverged (a loss was not finite), unstable (a loss jumped), bottom_at_start, bottom_at_end; empty if it counts.", |r| r.run.left_out().map_or("", |why| why.name()).into()),
        C::flag("main", "Whether the run belongs to the grid that the laws are fitted to.", |r| r.run.in_block(MAIN)),
        C::text("outcome", "How the run ended: completed (at its last step), turned (early, because its U-curve had turned) or diverged.", |r| r.record().outcome.name().into()),
        C::integer("steps", "steps", "Optimiser steps taken.", |r| Some(r.record().steps)),
        C::integer("budget_steps", "steps", "The maximum number of steps of the run.", |r| Some(r.run.steps)),
        C::integer("batch", "sequences", "Sequences per step.", |r| Some(r.run.batch)),
        C::number("lr", "", "The learning rate.", |r| r.run.lr),
        C::number("lr_ratio", "", "The learning rate over the pretraining's peak.", |r| r.run.lr_ratio),
        C::text("sampler", "How injected sequences are placed: independent (each position on its own with probability p) or exact (evenly spread).", |r| match r.run.sampler { SamplerKind::Independent => "independent", SamplerKind::Exact => "exact" }.into()),
        C::integer("replay_tokens", "tokens", "The size of the pool of pretraining data that is repeated; empty if injected data is always fresh.", |r| r.run.replay_tokens),
        C::number("weight_decay", "", "The coefficient of weight decay, in pretraining and finetuning.", |r| r.run.weight_decay),
        C::text("blocks", BLOCKS, |r| r.run.blocks.join("+")),
        C::number("loss_ft0", NATS, "The loss on the target's validation set before the first step.", |r| r.run.loss_ft0()),
        C::number("unigram_pt", NATS, "The loss of a unigram model on the pretraining's validation set. The share of the progress of pretraining that is lost is (loss_pt - loss_pt0) / (unigram_pt - loss_pt0).", |r| r.results.pretraining.unigram_pt),
        C::number("unigram_ft", NATS, "The loss of a unigram model of the pretraining data on the target's validation set.", |r| r.results.domain(&r.run.domain).map_or(f64::NAN, |domain| domain.unigram_ft)),
        C::integer("sequences", "sequences", "Sequences that were trained on.", |r| Some(r.record().realised.sequences)),
        C::integer("injected_sequences", "sequences", "How many of them came from the pretraining data.", |r| Some(r.record().realised.injected_sequences)),
        C::integer("tokens", "tokens", "Tokens that were predicted in training.", |r| Some(r.record().realised.tokens)),
        C::integer("injected_tokens", "tokens", "How many of them are in injected sequences.", |r| Some(r.record().realised.injected_tokens)),
        C::number("epochs", "passes", "Passes over the target's unique tokens; an incomplete pass counts as a fraction.", |r| r.record().realised.epochs),
        C::integer("d_ft_tokens_asked", "tokens", "D_ft as set in the grid, of which only whole sequences are used.", |r| Some(r.run.d_ft_tokens)),
        C::text("run_id", RUN_ID, |r| r.record().id.to_string()),
        C::text("parent_id", "The pretraining run whose model was finetuned: run_id in the table pretrained.", |r| r.run.parent.to_string()),
    ]
}

#[rustfmt::skip]
fn pretrainings<'a>(sets: Sets) -> Vec<Column<(&'a Results, &'a Pretrained)>> {
    type C<'a> = Column<(&'a Results, &'a Pretrained)>;
    vec![
        C::text("run_id", RUN_ID, |(_, r)| r.record.id.to_string()),
        C::text("size", "The name of the model size.", |(_, r)| r.size.clone()),
        C::integer("n_params", "parameters", N_PARAMS, |(_, r)| Some(r.record.n_params.paper())),
        C::integer("n_params_non_embedding", "parameters", "N without the embeddings.", |(_, r)| Some(r.record.n_params.non_embedding)),
        C::integer("n_layers", "blocks", "Transformer blocks.", |(_, r)| Some(r.shape.n_layers as u64)),
        C::integer("d_model", "", "The width of the residual stream.", |(_, r)| Some(r.shape.d_model as u64)),
        C::integer("n_heads", "heads", "Attention heads.", |(_, r)| Some(r.shape.n_heads as u64)),
        C::integer("vocab", "tokens", "Distinct tokens.", |(_, r)| Some(r.shape.vocab as u64)),
        C::integer("context", "tokens", "Tokens per sequence.", |(_, r)| Some(r.shape.context as u64)),
        C::integer("d_tokens", "tokens", "D: tokens that were predicted in training, repeats included.", |(_, r)| Some(r.d_tokens()).filter(|&d| d > 0)),
        C::number("tokens_per_param", "tokens per parameter", "d_tokens / n_params.", |(_, r)| known(r.d_tokens()) / r.record.n_params.paper() as f64),
        C::integer("unique_tokens", "tokens", "Tokens of the pretraining set.", |(_, r)| Some(r.record.realised.unique_tokens)),
        C::number("epochs", "passes", "Passes over the pretraining set; an incomplete pass counts as a fraction.", |(_, r)| r.record.realised.epochs),
        C::integer("seed", "", "The seed of the initialisation and of the order of the data.", |(_, r)| Some(r.seed)),
        C::number("peak_lr", "", "The peak learning rate.", |(_, r)| r.peak_lr),
        C::integer("batch", "sequences", "Sequences per step.", |(_, r)| Some(r.batch)),
        C::number("weight_decay", "", "The coefficient of weight decay.", |(_, r)| r.weight_decay),
        C::text("outcome", "How the run ended: completed (at its last step) or diverged.", |(_, r)| r.record.outcome.name().into()),
        C::integer("steps", "steps", "Optimiser steps taken.", |(_, r)| Some(r.record.steps)),
        C::integer("sequences", "sequences", "Sequences that were trained on.", |(_, r)| Some(r.record.realised.sequences)),
        C::number("loss_pt", NATS, sets.meaning("The last loss on the pretraining's validation set: loss_pt0 of the finetunings.", "The loss of the last model on the pretraining's test set: loss_pt0 of the finetunings."), |(_, r)| r.loss()),
        C::number("unigram_pt", NATS, "The loss of a unigram model on the same set.", |(results, _)| results.pretraining.unigram_pt),
        C::text("blocks", BLOCKS, |(_, r)| r.blocks.join("+")),
    ]
}

/// An evaluation and its run.
struct Step<'a> {
    kind: &'static str,
    batch: u64,
    record: &'a Record,
    evaluation: &'a Evaluation,
}

/// Every evaluation: of the pretraining runs, then of the finetuning runs.
fn steps(results: &Results) -> Vec<Step<'_>> {
    let pretrained = results.pretrained.iter().map(|run| ("pretrain", run.batch, &run.record));
    let finetuned = results.finetuned.iter().map(|run| ("finetune", run.batch, &run.record));
    let steps = pretrained.chain(finetuned).flat_map(|(kind, batch, record)| {
        record.evaluations.iter().map(move |evaluation| Step { kind, batch, record, evaluation })
    });
    steps.collect()
}

#[rustfmt::skip]
fn trajectories<'a>() -> Vec<Column<Step<'a>>> {
    type C<'a> = Column<Step<'a>>;
    vec![
        C::text("run_id", "The run: run_id in the tables losses and pretrained.", |s| s.record.id.to_string()),
        C::text("kind", "pretrain or finetune.", |s| s.kind.into()),
        C::integer("step", "steps", "Optimiser steps taken; 0 is before the first step.", |s| Some(s.evaluation.step)),
        C::integer("sequences", "sequences", "Sequences trained on so far, injected ones included.", |s| s.evaluation.step.checked_mul(s.batch)),
        C::number("loss_ft", NATS, "The loss on the target's validation set; empty in pretraining and if it is not finite.", |s| s.evaluation.loss_ft),
        C::number("loss_pt", NATS, "The loss on the pretraining's validation set; empty if it is not finite.", |s| s.evaluation.loss_pt),
        C::number("loss_train", NATS, "The mean loss of the training steps since the previous evaluation, injected sequences included; empty before the first step.", |s| s.evaluation.loss_train.unwrap_or(f64::NAN)),
    ]
}
