//! Figure 5 (PMLR version): the learning rate of finetuning over model scales and mixtures.
//!
//! The paper's claim: "In the ablations of Figure 5 … this rule of thumb", 1/30 of the
//! pretraining's peak, "is sufficient to ensure both overfitting well within 12K steps and stable
//! training at all model scales and all mixtures p".

mod drawing;
mod summary;
mod tables;

use crate::config::{Config, Ratio};
use crate::data::{Facts, Sources};
use crate::exec::Job;
use forgetting_laws::finetuning::{self, Bottom, UCurve};
use forgetting_laws::model::Shape;
use forgetting_laws::pretraining::{Budget, Schedule};
use forgetting_laws::run::{FORMAT, FinetuneSpec, Outcome, PretrainSpec, Record, RunId, Spec};
use forgetting_laws::store::write_atomic;
use forgetting_laws::{Error, Fraction, ParamCount, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The bottom counts as well within the budget where it lies at no more than this share of it.
/// The paper gives no number; this one is ours.
const WELL_WITHIN: f64 = 0.8;

/// The runs of the figure.
pub struct Fig5 {
    steps: u64,
    sizes: Vec<SizePlan>,
    cells: Vec<Cell>,
}

struct SizePlan {
    name: String,
    shape: Shape,
    job: Job,
}

/// One finetuning run.
struct Cell {
    size: usize,
    p: Fraction,
    ratio: Ratio,
    seed: u64,
    job: Job,
}

/// All that the figure, its tables and its summary show.
struct Results<'a> {
    /// The budget of each finetuning.
    steps: u64,
    /// Every size, smallest first, with its pretraining.
    sizes: Vec<(&'a SizePlan, &'a Record)>,
    /// By size, p and ratio.
    drawn: Vec<Drawn<'a>>,
    facts: &'a Facts,
    machine: &'a str,
}

impl Results<'_> {
    /// The ratios, ascending.
    fn ratios(&self) -> Vec<Ratio> {
        let mut ratios: Vec<Ratio> = self.drawn.iter().map(|d| d.cell.ratio).collect();
        ratios.sort_by(|a, b| a.get().total_cmp(&b.get()));
        ratios.dedup();
        ratios
    }

    /// The fractions, ascending.
    fn fractions(&self) -> Vec<Fraction> {
        let mut fractions: Vec<Fraction> = self.drawn.iter().map(|d| d.cell.p).collect();
        fractions.sort_by(|a, b| a.get().total_cmp(&b.get()));
        fractions.dedup();
        fractions
    }

    /// Unique tokens of the target that were used.
    fn d_ft_tokens(&self) -> u64 {
        self.drawn.first().map_or(0, |d| d.record.realised.unique_tokens)
    }
}

/// A cell with its result.
struct Drawn<'a> {
    cell: &'a Cell,
    size: &'a SizePlan,
    record: &'a Record,
    bottom: Option<Bottom>,
    stable: bool,
}

impl Drawn<'_> {
    fn n_params(&self) -> ParamCount {
        self.record.n_params
    }

    /// The U was seen: an interior bottom, well within the budget.
    fn overfits_within(&self, steps: u64) -> bool {
        self.bottom.is_some_and(|b| b.interior && b.step as f64 <= WELL_WITHIN * steps as f64)
    }

    fn loss_pt0(&self) -> f64 {
        self.record.evaluations.first().map_or(f64::NAN, |evaluation| evaluation.loss_pt)
    }
}

impl Fig5 {
    /// The runs that the settings ask for.
    ///
    /// # Errors
    /// If a size, a shape or a budget is none.
    pub fn plan(config: &Config, sources: &Sources) -> Result<Self> {
        let context = config.model.context as u64;
        let mut sizes = Vec::new();
        for name in &config.fig5.sizes {
            let settings = config.size(name)?;
            let mut shape = Shape::named(name, sources.vocab, config.model.context)?;
            shape.bias = config.model.bias;
            let budget = Budget { tokens_per_param: config.pretraining.tokens_per_param };
            let total_steps = budget.steps(shape.count().paper(), settings.batch * context)?;
            let spec = Spec::Pretrain(PretrainSpec {
                format: FORMAT,
                data: sources.pretraining_spec.id(),
                shape,
                seed: config.seed,
                batch: settings.batch,
                schedule: Schedule {
                    peak: settings.peak_lr,
                    total_steps,
                    warmup: config.pretraining.warmup,
                    terminal: config.pretraining.terminal,
                },
                adamw: config.pretraining.adamw,
                clip: config.pretraining.clip,
                evaluate: config.pretraining.evaluate,
            });
            let tokens = total_steps * settings.batch * context;
            let evaluations = config.pretraining.evaluate.steps(total_steps).len() as u64;
            let evaluated = evaluations * config.data.validation_tokens;
            let job = job(spec, name.clone(), shape, tokens, evaluated);
            sizes.push(SizePlan { name: name.clone(), shape, job });
        }
        sizes.sort_by_key(|size: &SizePlan| size.shape.count().paper());
        let mut cells = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            for &p in &config.fig5.p {
                for &ratio in &config.fig5.lr_ratios {
                    cells.push(cell(config, sources, i, size, p, ratio)?);
                }
            }
        }
        Ok(Self { steps: config.finetuning.steps, sizes, cells })
    }

    /// All runs, pretraining first.
    pub fn jobs(&self) -> Vec<Job> {
        let pretraining = self.sizes.iter().map(|size| &size.job);
        pretraining.chain(self.cells.iter().map(|cell| &cell.job)).cloned().collect()
    }

    /// Draws the figure from the records of all jobs into `folder`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn draw(
        &self,
        records: &BTreeMap<RunId, Record>,
        facts: &Facts,
        machine: &str,
        folder: &Path,
    ) -> Result<PathBuf> {
        let mut drawn = Vec::new();
        for cell in &self.cells {
            let record = &records[&cell.job.spec.id()];
            let curve = UCurve::new(&record.evaluations)?;
            let diverged = matches!(record.outcome, Outcome::Diverged { .. });
            drawn.push(Drawn {
                cell,
                size: &self.sizes[cell.size],
                record,
                bottom: curve.bottom(),
                stable: curve.stable() && !diverged,
            });
        }
        drawn.sort_by(|a, b| {
            let key = |d: &Drawn<'_>| (d.n_params().paper(), d.cell.p.get(), d.cell.ratio.get());
            key(a).partial_cmp(&key(b)).expect("fractions and ratios are numbers")
        });
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let results = Results {
            steps: self.steps,
            sizes: self.sizes.iter().map(|size| (size, &records[&size.job.spec.id()])).collect(),
            drawn,
            facts,
            machine,
        };
        write_atomic(&folder.join("fig5.csv"), tables::trajectories(&results.drawn).as_bytes())?;
        write_atomic(&folder.join("runs.csv"), tables::runs(&results.drawn).as_bytes())?;
        let summary = folder.join("summary.md");
        write_atomic(&summary, summary::text(&results).as_bytes())?;
        drawing::figure(&results)
            .write(&folder.join("fig5"))
            .map_err(|error| Error::content(folder.join("fig5.png"), None, error.to_string()))?;
        Ok(summary)
    }
}

fn job(spec: Spec, label: String, shape: Shape, tokens: u64, evaluated: u64) -> Job {
    // A forward pass alone costs a third of a training step.
    let per_token = shape.train_flops_per_token();
    let flops = per_token * (tokens as f64 + evaluated as f64 / 3.0);
    Job { spec, label, shape, tokens, flops }
}

fn cell(
    config: &Config,
    sources: &Sources,
    index: usize,
    size: &SizePlan,
    p: Fraction,
    ratio: Ratio,
) -> Result<Cell> {
    let settings = &config.finetuning;
    let spec = Spec::Finetune(FinetuneSpec {
        format: FORMAT,
        parent: size.job.spec.id(),
        target: sources.target_spec.id(),
        seed: config.seed,
        d_ft_tokens: settings.d_ft_tokens,
        p,
        sampler: settings.sampler,
        replay_tokens: Some(settings.replay_tokens).filter(|&tokens| tokens > 0),
        batch: settings.batch,
        schedule: finetuning::Schedule {
            peak: config.size(&size.name)?.peak_lr,
            ratio: ratio.get(),
            warmup_steps: settings.warmup_steps,
        },
        steps: settings.steps,
        adamw: settings.adamw,
        clip: settings.clip,
        evaluate: settings.evaluate,
        stop: settings.stop_when_turned.then_some(settings.stop),
    });
    let label = format!("{} p={} lr={ratio}", size.name, percent(p));
    let tokens = settings.steps * settings.batch * config.model.context as u64;
    let evaluations = settings.evaluate.steps(settings.steps).len() as u64;
    let job = job(spec, label, size.shape, tokens, 2 * evaluations * config.data.validation_tokens);
    Ok(Cell { size: index, p, ratio, seed: config.seed, job })
}

/// A fraction for people: `0.1%`.
fn percent(p: Fraction) -> String {
    // Six digits hide the rounding of 0.001 · 100.
    let text = format!("{:.6}", p.get() * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A count for people, truncated: `6.4K`, `41K`.
fn short(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..10_000 if count % 1_000 >= 100 => {
            format!("{}.{}K", count / 1_000, count % 1_000 / 100)
        }
        1_000..1_000_000 => format!("{}K", count / 1_000),
        1_000_000..1_000_000_000 => format!("{}M", count / 1_000_000),
        _ => format!("{:.2}B", count as f64 / 1e9),
    }
}
