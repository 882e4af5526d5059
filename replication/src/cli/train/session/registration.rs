//! Runs that Table 4 predicts: they are made after the predictions have been written.

use super::Session;
use crate::blocks::MAIN;
use crate::corner::Corner;
use crate::experiment::config::Predict;
use crate::experiment::grid::Finetuning;
use crate::experiment::job::Job;
use crate::experiment::queue::{self, Done};
use crate::experiment::worker::RunContext;
use crate::results::{Plan, Preregistration, Pretrained, Withheld};
use forgetting_laws::Result;
use forgetting_laws::run::RunId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

impl Session {
    /// Carries out the runs from which Table 4 predicts first, and the predicted runs after the
    /// predictions have been written.
    pub(super) fn in_order(&self, context: &RunContext<'_>, jobs: &[Job]) -> Result<Done> {
        let corner = self.corner();
        let withheld = |run: &&Finetuning| {
            run.in_block(MAIN)
                && corner.is_some_and(|c| c.withholds(run.rank, run.cell.d_ft_tokens))
        };
        let withheld: BTreeSet<RunId> =
            self.grid.finetunings.iter().filter(withheld).map(|run| run.job.spec.id()).collect();
        let is_withheld = |job: &&Job| withheld.contains(&job.spec.id());
        let (later, now): (Vec<&Job>, Vec<&Job>) = jobs.iter().partition(is_withheld);
        let now: Vec<Job> = now.into_iter().cloned().collect();
        let mut done = queue::execute(context, &now)?;
        if later.is_empty() {
            return Ok(done);
        }
        if !self.register(corner.expect("something is withheld"), &done)? {
            done.waiting = later.len();
            return Ok(done);
        }
        let parents = now.iter().filter(|job| job.parent().is_none());
        let later: Vec<Job> = parents.chain(later).cloned().collect();
        done.add(queue::execute(context, &later)?);
        Ok(done)
    }

    fn corner(&self) -> Option<Corner> {
        let main = || self.grid.finetunings.iter().filter(|run| run.in_block(MAIN));
        let largest = Corner::of(main().map(|run| (run.rank, run.cell.d_ft_tokens)))?;
        let Predict { beyond, size, d_ft_tokens, .. } = &self.config.predict;
        let rank_of = |size: &String| main().find(|run| run.size == *size).map(|run| run.rank);
        let rank = if size.is_empty() {
            largest.rank
        } else {
            // Blocks without that size have no run that is so large.
            rank_of(size).unwrap_or(usize::MAX)
        };
        let d_ft_tokens = if *d_ft_tokens > 0 { *d_ft_tokens } else { largest.d_ft_tokens };
        Some(Corner { rank, d_ft_tokens, beyond: *beyond })
    }

    pub(super) fn preregistration(&self) -> PathBuf {
        self.out.join("table4").join("preregistration.json")
    }

    /// Writes the predictions for the corner of the main grid, unless they exist. Returns false if runs
    /// to fit are missing.
    fn register(&self, corner: Corner, done: &Done) -> Result<bool> {
        let path = self.preregistration();
        if path.exists() {
            return Ok(true);
        }
        let of_main = || self.grid.finetunings.iter().filter(|run| run.in_block(MAIN));
        let fits = |run: &&Finetuning| corner.fits(run.rank, run.cell.d_ft_tokens);
        if !of_main().any(|run| fits(&run)) {
            // A part of a grid may have nothing to predict from. The rest may be asked for later.
            return Ok(true);
        }
        let results = self.results()?;
        let here = |run: &Finetuning| {
            let id = run.job.spec.id();
            let failed = done.failures.iter().any(|(label, _)| *label == run.job.label);
            // All models were to be trained before: one that is not there has failed.
            let parent = |made: &Pretrained| Some(&made.record.id) == run.job.parent();
            failed
                || !results.pretrained.iter().any(parent)
                || results.finetuned.iter().any(|made| made.record.id == id)
        };
        if !of_main().filter(fits).all(here) {
            return Ok(false);
        }
        let parents: BTreeMap<&RunId, &Pretrained> =
            results.pretrained.iter().map(|made| (&made.record.id, made)).collect();
        let withheld = of_main().filter_map(|run| {
            let parent = parents.get(run.job.parent()?)?;
            corner.withholds(run.rank, run.cell.d_ft_tokens).then(|| Withheld {
                run_id: run.job.spec.id(),
                domain: run.domain.clone(),
                size: run.size.clone(),
                n_params: run.job.shape.count().paper(),
                d_ft_tokens: run.cell.d_ft_tokens,
                p: run.cell.p.get(),
                loss_pt0: parent.loss(),
                d_tokens: parent.d_tokens(),
            })
        });
        let mut withheld: Vec<Withheld> = withheld.collect();
        let folder = self.folder("table4")?;
        let ids: BTreeSet<&RunId> = withheld.iter().map(|run| &run.run_id).collect();
        if path.exists() {
            // Another process has written it since.
        } else if let Some(sealed) = self.known.sealed(&ids) {
            sealed.write(&path)?;
        } else {
            // Nothing is sealed about a run that was made before, here or elsewhere.
            let made = |id: &RunId| results.finetuned.iter().any(|run| run.record.id == *id);
            withheld.retain(|run| !made(&run.run_id) && self.known.run(&run.run_id).is_none());
            if !withheld.is_empty() {
                let plan = Plan::of_settings(&self.config.predict, corner)?;
                Preregistration::make(&results, &withheld, &plan).write(&path)?;
            }
        }
        drop(folder);
        Ok(true)
    }
}
