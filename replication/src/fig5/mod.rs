//! Figure 5 (PMLR version): the learning rate of finetuning over model scales and mixtures.
//!
//! The paper's claim: "In the ablations of Figure 5 … this rule of thumb", 1/30 of the
//! pretraining's peak, "is sufficient to ensure both overfitting well within 12K steps and stable
//! training at all model scales and all mixtures p".

mod drawing;
mod summary;
mod tables;

use crate::config::Ratio;
use crate::data::Facts;
use crate::exec::Job;
use crate::grid::{self, Finetuning, Grid};
use forgetting_laws::finetuning::{Bottom, UCurve};
use forgetting_laws::model::Shape;
use forgetting_laws::run::{Outcome, Record, RunId, Spec};
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
    id: RunId,
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
    /// The runs of the grid's block.
    ///
    /// # Errors
    /// If the block asks for none.
    pub fn of(grid: &Grid) -> Result<Self> {
        let mut sizes: Vec<SizePlan> = Vec::new();
        let first = grid.finetunings.first().map(|run| &run.domain);
        let of_first = |run: &&Finetuning| Some(&run.domain) == first;
        let mut cells = Vec::new();
        for run in grid.finetunings.iter().filter(of_first) {
            let Spec::Finetune(spec) = &run.job.spec else { continue };
            let size = sizes.iter().position(|size| size.id == spec.parent).unwrap_or_else(|| {
                let (name, shape) = (run.size.clone(), run.job.shape);
                sizes.push(SizePlan { name, shape, id: spec.parent.clone() });
                sizes.len() - 1
            });
            let grid::Cell { p, ratio, seed, .. } = run.cell;
            cells.push(Cell { size, p, ratio, seed, job: run.job.clone() });
        }
        let steps = grid.finetunings.first().map(|run| run.cell.steps);
        let none = || Error::setting("grid.fig5.domains", "[]", "must name a domain");
        Ok(Self { steps: steps.ok_or_else(none)?, sizes, cells })
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
            sizes: self.sizes.iter().map(|size| (size, &records[&size.id])).collect(),
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

/// A fraction for people: `0.1%`.
pub fn percent(p: Fraction) -> String {
    crate::fit::drawing::percent(p.get())
}
