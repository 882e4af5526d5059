//! Runs of given results (`--known results.json`). They count as done, so that a published grid can be
//! extended without repeating its runs.
//!
//! If a missing run needs a model, it is taken from `runs/ID` beside the file. If it is not there, it is
//! pretrained again, and its result must match the file bit for bit.

use crate::experiment::job::{self, Job};
use crate::experiment::known::{KNOWN, KnownRun};
use crate::results::{Preregistration, Results};
use forgetting_laws::run::{Record, RunId};
use forgetting_laws::store::{Store, hash_file};
use forgetting_laws::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The runs of one or more `results.json`.
#[derive(Debug, Default)]
pub struct Tables {
    /// The runs by identity; if a run is in several files, the first counts.
    runs: BTreeMap<RunId, KnownRun>,
    /// Predictions that were sealed before their runs.
    sealed: Vec<Preregistration>,
}

impl Tables {
    /// Reads the files.
    ///
    /// # Errors
    /// If a file cannot be read or is not a `results.json` of this program.
    pub fn read(files: &[PathBuf]) -> Result<Self> {
        let mut tables = Self::default();
        for file in files {
            tables.add(file)?;
        }
        Ok(tables)
    }

    fn add(&mut self, file: &Path) -> Result<()> {
        let results = Results::read(file)?;
        let sha256 = hash_file(file)?;
        let pretrained = results.pretrained.into_iter().map(|run| (run.record, run.core_seconds));
        let finetuned = results.finetuned.into_iter().map(|run| (run.record, run.core_seconds));
        for (record, core_seconds) in pretrained.chain(finetuned) {
            self.runs.entry(record.id.clone()).or_insert_with(|| KnownRun {
                file: file.to_path_buf(),
                sha256: sha256.clone(),
                machines: results.machines.clone(),
                core_seconds,
                record,
            });
        }
        self.sealed.extend(results.preregistration);
        Ok(())
    }

    /// A run, if a file has it.
    pub fn run(&self, id: &RunId) -> Option<&KnownRun> {
        self.runs.get(id)
    }

    /// The sealed predictions of these runs, and perhaps of others: a call for some blocks asks for fewer
    /// runs than were sealed together.
    pub fn sealed(&self, runs: &BTreeSet<&RunId>) -> Option<&Preregistration> {
        self.sealed.iter().find(|sealed| {
            let registered = sealed.content.registered.iter();
            let ids = registered.flat_map(|law| law.forecasts.iter().map(|f| &f.run.run_id));
            !runs.is_empty() && runs.is_subset(&ids.collect())
        })
    }

    /// Records as done those jobs that a file has and that are neither done nor under way in the store.
    ///
    /// # Errors
    /// If a record cannot be read or written.
    pub fn take(&self, store: &Store, jobs: &[Job]) -> Result<()> {
        if self.runs.is_empty() {
            return Ok(());
        }
        for job in jobs {
            self.take_run(store, job)?;
        }
        Ok(())
    }

    fn take_run(&self, store: &Store, job: &Job) -> Result<()> {
        let id = job.spec.id();
        let Some(known) = self.run(&id) else { return Ok(()) };
        // Where it is there, it was taken before: a model that must be made again lacks its record.
        let is_new = || {
            let record: Option<Record> = store.record(&id)?;
            Ok::<_, Error>(record.is_none() && !store.folder(&id).join(KNOWN).exists())
        };
        if !is_new()? {
            return Ok(());
        }
        let Some(claim) = store.claim(&id)? else { return Ok(()) };
        if is_new()? {
            claim.write_json(job::SPEC, &job.spec)?;
            claim.write_json("record.json", &known.record)?;
            claim.write_json(KNOWN, known)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::planted::planted;

    #[test]
    fn sealed_predictions_serve_a_part_of_their_runs() {
        let sealed = planted().preregistration.unwrap();
        let forecasts = sealed.content.registered.iter().flat_map(|law| &law.forecasts);
        let ids: BTreeSet<RunId> = forecasts.map(|f| f.run.run_id.clone()).collect();
        let tables = Tables { sealed: vec![sealed.clone()], ..Tables::default() };
        let all: BTreeSet<&RunId> = ids.iter().collect();
        assert!(all.len() > 1);
        assert_eq!(tables.sealed(&all), Some(&sealed));
        assert_eq!(tables.sealed(&all.iter().take(1).copied().collect()), Some(&sealed));
        // About another run they say nothing, nor about none.
        let other = RunId::of(&"another run");
        assert_eq!(tables.sealed(&all.iter().copied().chain([&other]).collect()), None);
        assert_eq!(tables.sealed(&BTreeSet::new()), None);
    }
}
