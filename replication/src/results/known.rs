//! Runs that a table of results holds (`--known results.json`): they count as done, so that whoever
//! extends a published grid repeats none of it.
//!
//! Models are not in such a file. One that a missing run needs is pretrained again, and must come out
//! as the file says, to the bit.

use crate::experiment::job::Job;
use crate::experiment::known::{KNOWN, KnownRun};
use crate::results::{Preregistration, Results};
use forgetting_laws::run::{Record, RunId};
use forgetting_laws::store::{Store, hash_file};
use forgetting_laws::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What some tables of results hold.
#[derive(Debug, Default)]
pub struct Tables {
    /// Their runs by identity; of a run in several tables the first counts.
    runs: BTreeMap<RunId, KnownRun>,
    /// Predictions that were sealed before the runs that they speak of.
    sealed: Vec<Preregistration>,
}

impl Tables {
    /// Reads files `results.json`.
    ///
    /// # Errors
    /// If a file cannot be read or is none of ours.
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

    /// A run, if a table holds it.
    pub fn run(&self, id: &RunId) -> Option<&KnownRun> {
        self.runs.get(id)
    }

    /// The sealed predictions of just these runs.
    pub fn sealed(&self, runs: &BTreeSet<&RunId>) -> Option<&Preregistration> {
        self.sealed.iter().find(|sealed| {
            let registered = sealed.content.registered.iter();
            let ids = registered.flat_map(|law| law.forecasts.iter().map(|f| &f.run.run_id));
            ids.collect::<BTreeSet<_>>() == *runs
        })
    }

    /// Notes those of the jobs as done that a table holds and that are neither done nor under way in
    /// the store.
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
            claim.write_json("spec.json", &job.spec)?;
            claim.write_json("record.json", &known.record)?;
            claim.write_json(KNOWN, known)?;
        }
        Ok(())
    }
}
