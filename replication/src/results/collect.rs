//! Collects results from the store.

use super::{Domain, Finetuned, Pretrained, PretrainingData, Results};
use crate::experiment::config::Config;
use crate::experiment::data::DataStats;
use crate::experiment::grid::Grid;
use crate::experiment::provenance;
use forgetting_laws::run::{Record, RunId, Spec};
use forgetting_laws::store::Store;
use forgetting_laws::{Error, Result};
use std::collections::BTreeMap;

impl Results {
    /// The results of a grid's runs in the store. `stats` has the stats of each domain's data.
    ///
    /// # Errors
    /// If a record cannot be read, or there are no stats.
    pub fn collect(
        preset: &str,
        config: &Config,
        grid: &Grid,
        store: &Store,
        stats: &BTreeMap<String, DataStats>,
    ) -> Result<Self> {
        let any = stats.values().next().ok_or_else(|| {
            Error::setting("domains", "{}", "must name a target for there to be results")
        })?;
        let mut records: BTreeMap<RunId, Record> = BTreeMap::new();
        for job in grid.jobs() {
            let id = job.spec.id();
            if let Some(record) = store.record(&id)? {
                records.insert(id, record);
            }
        }
        let mut pretrained = Vec::new();
        for run in &grid.pretrainings {
            let Some(record) = records.get(&run.job.spec.id()) else { continue };
            let settings = config.size(&run.size);
            // Nothing is known of the pretraining of a model from elsewhere.
            let (seed, peak_lr, batch, weight_decay) = match &run.job.spec {
                Spec::Pretrain(spec) => {
                    (spec.seed, spec.schedule.peak, spec.batch, spec.adamw.weight_decay)
                }
                Spec::Import(_) => (0, settings.peak_lr, 0, 0.0),
                Spec::Finetune(_) => continue,
            };
            pretrained.push(Pretrained {
                blocks: run.blocks.clone(),
                size: run.size.clone(),
                rank: run.rank,
                shape: run.job.shape,
                gpus: settings.gpus,
                seed,
                peak_lr,
                batch,
                weight_decay,
                core_seconds: provenance::core_seconds(store, &record.id),
                record: record.clone(),
            });
        }
        let mut finetuned = Vec::new();
        for run in &grid.finetunings {
            let Spec::Finetune(spec) = &run.job.spec else { continue };
            let Some(record) = records.get(&run.job.spec.id()) else { continue };
            let Some(parent) = records.get(&spec.parent) else { continue };
            finetuned.push(Finetuned {
                blocks: run.blocks.clone(),
                parent: spec.parent.clone(),
                size: run.size.clone(),
                domain: run.domain.clone(),
                d_ft_tokens: spec.d_ft_tokens,
                d_tokens: parent.realised.tokens,
                p: spec.p.get(),
                seed: spec.seed,
                lr_ratio: spec.schedule.ratio,
                lr: spec.schedule.peak * spec.schedule.ratio,
                sampler: spec.sampler,
                replay_tokens: spec.replay_tokens,
                weight_decay: spec.adamw.weight_decay,
                steps: spec.steps,
                batch: spec.batch,
                core_seconds: provenance::core_seconds(store, &record.id),
                record: record.clone(),
            });
        }
        let domain = |(name, stats): (&String, &DataStats)| {
            let target = stats.target.as_ref()?;
            Some(Domain {
                name: name.clone(),
                source: target.source.clone(),
                data: target.spec.id(),
                unigram_ft: target.unigram,
                trigram_ft: target.trigram,
                counts: target.counts,
                distances: stats.distances.clone(),
                overlap: stats.overlap,
            })
        };
        let jobs = grid.pretrainings.len() + grid.finetunings.len();
        Ok(Self {
            preset: preset.to_string(),
            pretraining: PretrainingData {
                source: any.pretraining.source.clone(),
                data: any.pretraining.spec.id(),
                unigram_pt: any.pretraining.unigram,
                trigram_pt: any.pretraining.trigram,
                counts: any.pretraining.counts,
                tokenizer: any.tokenizer.clone(),
                vocab: any.vocab,
            },
            domains: stats.iter().filter_map(domain).collect(),
            missing: jobs - pretrained.len() - finetuned.len(),
            pretrained,
            finetuned,
            machines: provenance::machines(store, records.keys()),
            program: provenance::program(),
            preregistration: None,
        })
    }
}
