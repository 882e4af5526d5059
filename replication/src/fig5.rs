//! Figure 5 (PMLR version): the learning rate of finetuning over model scales and mixtures.
//!
//! The paper's claim: "In the ablations of Figure 5 … this rule of thumb", 1/30 of the
//! pretraining's peak, "is sufficient to ensure both overfitting well within 12K steps and stable
//! training at all model scales and all mixtures p".

use crate::config::{Config, Ratio};
use crate::data::{Facts, Sources};
use crate::exec::Job;
use crate::plot::{
    self, Axis, Color, Dash, Glyph, Legend, Line, Mark, Panel, Place, Rule, Share, Stroke,
};
use forgetting_laws::finetuning::{self, Bottom, LR_RATIO, UCurve};
use forgetting_laws::model::Shape;
use forgetting_laws::pretraining::{Budget, Schedule};
use forgetting_laws::run::{FORMAT, FinetuneSpec, Outcome, PretrainSpec, Record, RunId, Spec};
use forgetting_laws::store::write_atomic;
use forgetting_laws::{Error, Fraction, ParamCount, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
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

    /// The U was seen: an interior bottom, and a loss that has risen from it.
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
        write_atomic(&folder.join("fig5.csv"), trajectories(&drawn).as_bytes())?;
        write_atomic(&folder.join("runs.csv"), runs(&drawn).as_bytes())?;
        let summary = folder.join("summary.md");
        write_atomic(&summary, self.summary(&drawn, facts, machine).as_bytes())?;
        self.figure(&drawn, facts)
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

/// Every plotted number.
fn trajectories(drawn: &[Drawn<'_>]) -> String {
    let header =
        "size,n_params,d_ft_tokens,p,lr_ratio,seed,step,loss_ft_val,loss_pt_val,loss_train";
    let mut csv = format!("{header}\n");
    for d in drawn {
        for e in &d.record.evaluations {
            let train = e.loss_train.map(number).unwrap_or_default();
            let losses = format!("{},{}", number(e.loss_ft), number(e.loss_pt));
            let _ = writeln!(csv, "{},{},{losses},{train}", identity(d), e.step);
        }
    }
    csv
}

/// A row a run.
fn runs(drawn: &[Drawn<'_>]) -> String {
    let mut csv = String::from(
        "size,n_params,d_ft_tokens,p,lr_ratio,seed,bottom_step,interior,loss_ft,loss_pt,loss_pt0,\
         stable,outcome,steps,lr,n_params_non_embedding,sequences,injected_sequences,tokens,\
         injected_tokens,target_epochs,run_id\n",
    );
    for d in drawn {
        let Spec::Finetune(spec) = &d.cell.job.spec else { continue };
        let bottom = match &d.bottom {
            Some(b) => {
                format!("{},{},{},{}", b.step, b.interior, number(b.loss_ft), number(b.loss_pt))
            }
            None => ",false,,".into(),
        };
        let outcome = match d.record.outcome {
            Outcome::Completed => "completed",
            Outcome::Turned => "turned",
            Outcome::Diverged { .. } => "diverged",
        };
        let r = &d.record.realised;
        let _ = writeln!(
            csv,
            "{},{bottom},{},{},{outcome},{},{},{},{},{},{},{},{},{}",
            identity(d),
            number(d.loss_pt0()),
            d.stable,
            d.record.steps,
            spec.schedule.lr(spec.steps - 1),
            d.n_params().non_embedding,
            r.sequences,
            r.injected_sequences,
            r.tokens,
            r.injected_tokens,
            number(r.epochs),
            d.record.id,
        );
    }
    csv
}

/// The columns that say which run a row is of.
fn identity(d: &Drawn<'_>) -> String {
    format!(
        "{},{},{},{},{},{}",
        d.size.name,
        d.n_params().paper(),
        d.record.realised.unique_tokens,
        d.cell.p.get(),
        d.cell.ratio.get(),
        d.cell.seed
    )
}

/// The shortest text that reads back as the same number; nothing where it is none.
fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}

impl Fig5 {
    fn summary(&self, drawn: &[Drawn<'_>], facts: &Facts, machine: &str) -> String {
        let at_rule: Vec<&Drawn<'_>> =
            drawn.iter().filter(|d| d.cell.ratio.get() == LR_RATIO).collect();
        let overfit = at_rule.iter().filter(|d| d.overfits_within(self.steps)).count();
        let stable = at_rule.iter().filter(|d| d.stable).count();
        let n = at_rule.len();
        let verdict = if n == 0 {
            "**Not tested**: the ratio 1/30 is not among these runs.".to_string()
        } else if overfit == n && stable == n {
            let latest = at_rule.iter().filter_map(|d| d.bottom).map(|b| b.step).max();
            format!(
                "**Supported** by these runs: at 1/30 all {n} runs are stable and overfit, the \
                 latest bottom at step {} of {}.",
                latest.unwrap_or_default(),
                self.steps
            )
        } else {
            format!(
                "**Not supported** by these runs: at 1/30, {overfit} of {n} runs have an interior \
                 bottom within {:.0}% of {} steps, and {stable} of {n} are stable.",
                100.0 * WELL_WITHIN,
                self.steps
            )
        };
        let mut text = format!(
            "# Figure 5: the learning rate of finetuning\n\n\
             The paper's claim: 1/30 of the pretraining's peak learning rate \"is sufficient to \
             ensure both overfitting well within 12K steps and stable training at all model scales \
             and all mixtures p\".\n\n{verdict}\n\n\
             A run *overfits within the budget* if the lowest validation loss on the target lies \
             at an interior evaluation, at no more than {:.0}% of the {} steps. It is *stable* if \
             every loss is finite and neither the target's validation loss nor the training loss \
             jumps by more than {} nat between two evaluations. Both definitions are ours.\n\n",
            100.0 * WELL_WITHIN,
            self.steps,
            finetuning::JUMP,
        );
        self.by_ratio(drawn, &mut text);
        by_run(drawn, &mut text);
        forgetting(&at_rule, &mut text);
        data_and_machine(drawn, facts, machine, &mut text);
        text
    }

    fn by_ratio(&self, drawn: &[Drawn<'_>], text: &mut String) {
        text.push_str(
            "| lr / peak | runs | overfit within the budget | stable | bottom at step (first to \
             last run) | mean loss_ft at the bottom |\n|---|---|---|---|---|---|\n",
        );
        let mut ratios: Vec<Ratio> = drawn.iter().map(|d| d.cell.ratio).collect();
        ratios.sort_by(|a, b| a.get().total_cmp(&b.get()));
        ratios.dedup();
        for ratio in ratios {
            let of: Vec<&Drawn<'_>> = drawn.iter().filter(|d| d.cell.ratio == ratio).collect();
            let bottoms: Vec<Bottom> = of.iter().filter_map(|d| d.bottom).collect();
            let steps = bottoms.iter().map(|b| b.step);
            let range = match (steps.clone().min(), steps.max()) {
                (Some(low), Some(high)) => format!("{low} to {high}"),
                _ => "none".into(),
            };
            let mean = bottoms.iter().map(|b| b.loss_ft).sum::<f64>() / bottoms.len() as f64;
            let _ = writeln!(
                text,
                "| {ratio} | {} | {} | {} | {range} | {mean:.3} |",
                of.len(),
                of.iter().filter(|d| d.overfits_within(self.steps)).count(),
                of.iter().filter(|d| d.stable).count(),
            );
        }
        text.push('\n');
    }

    fn figure(&self, drawn: &[Drawn<'_>], facts: &Facts) -> plot::Figure {
        let ratios = {
            let mut ratios: Vec<Ratio> = drawn.iter().map(|d| d.cell.ratio).collect();
            ratios.sort_by(|a, b| a.get().total_cmp(&b.get()));
            ratios.dedup();
            ratios
        };
        let colors = Color::sequential(ratios.len());
        let stroke = |ratio: Ratio| {
            let i = ratios.iter().position(|&known| known == ratio).unwrap_or_default();
            let rule = ratio.get() == LR_RATIO;
            Stroke::new(colors[i], if rule { 2.0 } else { 1.1 }).dashed(if rule {
                Dash::Solid
            } else {
                Dash::nth(1 + i)
            })
        };
        let fractions = {
            let mut p: Vec<Fraction> = drawn.iter().map(|d| d.cell.p).collect();
            p.sort_by(|a, b| a.get().total_cmp(&b.get()));
            p.dedup();
            p
        };
        let mut rows = Vec::new();
        let mut panels = Vec::new();
        let mut sizes: Vec<&SizePlan> = self.sizes.iter().collect();
        sizes.sort_by_key(|size| size.shape.count().paper());
        for size in sizes {
            for pretraining in [false, true] {
                let label = if pretraining { "L_{pt} (nats)" } else { "L_{ft} (nats)" };
                rows.push(format!("{}, N = {}", size.name, short(size.shape.count().paper())));
                let row = fractions.iter().map(|&p| {
                    let of = drawn.iter().filter(|d| d.size.name == size.name && d.cell.p == p);
                    panel(of, pretraining, label, &stroke)
                });
                panels.push(row.collect());
            }
        }
        let mut figure = plot::Figure::new(
            "Finetuning at several learning rates: both validation losses",
            panels,
        );
        figure.rows = rows;
        figure.columns = fractions.iter().map(|&p| format!("p = {}", percent(p))).collect();
        figure.share_x = Share::Figure;
        figure.share_y = Share::Row;
        figure.description = format!(
            "For each model size two rows of panels, the validation loss on the target and on the \
             pretraining data against finetuning steps; a column for each fraction p of injected \
             pretraining data; a curve for each learning rate. Target: {}.",
            facts.target_source
        );
        let ids: Vec<&str> = self.cells.iter().map(|_| "").collect();
        figure.provenance = format!(
            "runs: {}; pretraining data {}; target data {}",
            ids.len(),
            facts.pretraining_spec.id(),
            facts.target_spec.id()
        );
        figure.legend = vec![
            Legend {
                title: "lr / peak".into(),
                entries: ratios.iter().map(|&r| (stroke(r).into(), r.to_string())).collect(),
            },
            Legend {
                title: String::new(),
                entries: vec![
                    (Glyph::dot(Color::BLACK).into(), "bottom of the U".into()),
                    (Glyph::dot(Color::BLACK).hollow().into(), "not interior".into()),
                    (Glyph::new(plot::Shape::Cross, Color::BLACK).into(), "not stable".into()),
                    (Rule::new(Place::Identity, "").stroke.into(), "L_{pt}^{0}".into()),
                ],
            },
        ];
        figure.footnote = format!(
            "D_{{ft}} = {} tokens of {}; pretraining: {}.",
            short(drawn.first().map_or(0, |d| d.record.realised.unique_tokens)),
            facts.target_source,
            facts.pretraining_source
        );
        figure
    }
}

fn panel<'a>(
    runs: impl Iterator<Item = &'a Drawn<'a>>,
    pretraining: bool,
    label: &str,
    stroke: &dyn Fn(Ratio) -> Stroke,
) -> Panel {
    let mut panel = Panel::new(Axis::symlog("Finetuning steps", 10.0), Axis::linear(label));
    let mut loss_pt0 = None;
    for d in runs {
        let loss = |ft: f64, pt: f64| if pretraining { pt } else { ft };
        let evaluations = &d.record.evaluations;
        let points = evaluations.iter().map(|e| (e.step as f64, loss(e.loss_ft, e.loss_pt)));
        panel.lines.push(Line::new(points.collect(), stroke(d.cell.ratio)));
        if let Some(b) = d.bottom {
            let glyph = Glyph::dot(Color::BLACK);
            let glyph = match (d.stable, b.interior) {
                (false, _) => Glyph::new(plot::Shape::Cross, Color::BLACK),
                (true, true) => glyph,
                (true, false) => glyph.hollow(),
            };
            panel.marks.push(Mark::new((b.step as f64, loss(b.loss_ft, b.loss_pt)), glyph));
        }
        loss_pt0 = Some(d.loss_pt0());
    }
    if let Some(loss) = loss_pt0.filter(|_| pretraining) {
        panel.rules.push(Rule::new(Place::Horizontal(loss), ""));
    }
    panel
}

fn by_run(drawn: &[Drawn<'_>], text: &mut String) {
    text.push_str(
        "## Every run\n\n| size | p asked | p realised | lr / peak | bottom at step | interior | \
         stable | loss_ft | loss_pt | rise of loss_pt |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for d in drawn {
        let realised = d.record.realised.fraction();
        let realised = realised.map_or("".into(), |f| format!("{:.2}%", 100.0 * f));
        let head =
            format!("| {} | {} | {realised} | {} |", d.size.name, percent(d.cell.p), d.cell.ratio);
        let _ = match &d.bottom {
            Some(b) => writeln!(
                text,
                "{head} {} | {} | {} | {:.4} | {:.4} | {:+.4} |",
                b.step,
                yes(b.interior),
                yes(d.stable),
                b.loss_ft,
                b.loss_pt,
                b.loss_pt - d.loss_pt0()
            ),
            None => writeln!(text, "{head} none | no | no | | | |"),
        };
    }
    text.push('\n');
}

/// What the same runs say of forgetting.
fn forgetting(at_rule: &[&Drawn<'_>], text: &mut String) {
    let mut lines = String::new();
    for d in at_rule {
        let same =
            |other: &&&Drawn<'_>| other.size.name == d.size.name && other.cell.p.get() == 0.0;
        let Some(without) = at_rule.iter().find(same).and_then(|other| other.bottom) else {
            continue;
        };
        let Some(b) = d.bottom.filter(|_| d.cell.p.get() > 0.0) else { continue };
        let (rise0, rise) = (without.loss_pt - d.loss_pt0(), b.loss_pt - d.loss_pt0());
        let _ = writeln!(
            lines,
            "- {}, p = {}: loss_pt rises by {rise:.3} nats at the bottom, by {rise0:.3} without \
             injection: {:.0}% of the forgetting is undone; loss_ft changes by {:+.4}.",
            d.size.name,
            percent(d.cell.p),
            100.0 * (1.0 - rise / rise0),
            b.loss_ft - without.loss_ft
        );
    }
    if !lines.is_empty() {
        let _ = writeln!(text, "## What injection does at 1/30\n\n{lines}");
    }
}

fn data_and_machine(drawn: &[Drawn<'_>], facts: &Facts, machine: &str, text: &mut String) {
    let r = &facts.references;
    let d_ft = drawn.first().map_or(0, |d| d.record.realised.unique_tokens);
    let _ = write!(
        text,
        "## Data and machine\n\n\
         - Pretraining: {}; {} tokens, {} reserved for injection, {} for validation.\n\
         - Target: {}; D_ft = {d_ft} tokens, {} for validation.\n\
         - Losses of models of counts trained on the pretraining set, in nats per token: unigram \
         {:.3} (pretraining) and {:.3} (target), trigram {:.3} and {:.3}.\n\
         - Tokenizer {} with {} tokens. Data {} and {}.\n\
         - {machine}\n",
        facts.pretraining_source,
        facts.pretraining.training.tokens,
        facts.pretraining.injection.tokens,
        facts.pretraining.validation.tokens,
        facts.target_source,
        facts.target.validation.tokens,
        r.unigram_pt,
        r.unigram_ft,
        r.trigram_pt,
        r.trigram_ft,
        &facts.tokenizer[..16],
        facts.vocab,
        facts.pretraining_spec.id(),
        facts.target_spec.id(),
    );
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// A count for people: `41K`.
fn short(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}K", count / 1_000),
        1_000_000..1_000_000_000 => format!("{}M", count / 1_000_000),
        _ => format!("{:.2}B", count as f64 / 1e9),
    }
}
