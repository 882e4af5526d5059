//! The grid: the runs that the settings ask for, and their coordinates in the paper's terms.
//!
//! A run's identity is the hash of everything that determines its result, so a run in several blocks is
//! trained once. Pretraining a model is a run too, and finetuning runs depend on it.

use crate::blocks::MAIN;
use crate::experiment::config::{Block, Config, Data, Ratio};
use crate::experiment::data::Sources;
use crate::experiment::job::Job;
use crate::format::percent;
use crate::inputs::pretrained::Import;
use forgetting_laws::finetuning;
use forgetting_laws::injection::SamplerKind;
use forgetting_laws::model::Shape;
use forgetting_laws::pretraining::{Budget, Schedule};
use forgetting_laws::run::{FORMAT, FinetuneSpec, ImportSpec, PretrainSpec, RunId, Spec};
use forgetting_laws::weight_decay::AdamW;
use forgetting_laws::{Error, Fraction, Result};
use std::collections::BTreeMap;

/// The runs of some blocks.
pub struct Grid {
    /// Every model, sorted by size; models with weight decay come first.
    pub pretrainings: Vec<Pretraining>,
    /// Every finetuning run, sorted by domain, size, D_ft, p and the other coordinates.
    pub finetunings: Vec<Finetuning>,
    /// The largest D_ft of each domain in all blocks of the settings.
    pub largest: BTreeMap<String, u64>,
}

/// A pretraining run.
#[derive(Debug, Clone)]
pub struct Pretraining {
    /// The blocks that ask for it.
    pub blocks: Vec<String>,
    /// The name of the size.
    pub size: String,
    /// Its place among the preset's sizes, the smallest first.
    pub rank: usize,
    /// Whether weights decay.
    pub decay: bool,
    /// Tokens over parameters, as asked for.
    pub tokens_per_param: f64,
    /// The seed of the initial parameters and of the order of the data.
    pub seed: u64,
    /// What is to be done.
    pub job: Job,
}

/// A finetuning run.
#[derive(Debug, Clone)]
pub struct Finetuning {
    /// The blocks that ask for it.
    pub blocks: Vec<String>,
    /// The name of the size.
    pub size: String,
    /// Its place among the preset's sizes, the smallest first.
    pub rank: usize,
    /// The name of the domain.
    pub domain: String,
    /// Tokens over parameters of the pretraining, as asked for.
    pub tokens_per_param: f64,
    /// The seed of the pretraining.
    pub pretraining_seed: u64,
    /// Its other coordinates.
    pub cell: Cell,
    /// What is to be done.
    pub job: Job,
}

/// The coordinates of a finetuning run apart from size and domain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Unique target tokens, as asked for.
    pub d_ft_tokens: u64,
    /// Fraction of injected sequences.
    pub p: Fraction,
    /// The learning rate as a fraction of the pretraining's peak.
    pub ratio: Ratio,
    /// The seed.
    pub seed: u64,
    /// How injected sequences are chosen.
    pub sampler: SamplerKind,
    /// Tokens of a replay pool; `None` means always fresh data.
    pub replay_tokens: Option<u64>,
    /// Whether weights decay, in pretraining and finetuning.
    pub decay: bool,
    /// The most steps.
    pub steps: u64,
}

impl Finetuning {
    /// Whether a block asks for it.
    pub fn in_block(&self, block: &str) -> bool {
        self.blocks.iter().any(|name| name == block)
    }
}

impl Cell {
    /// The sort key of runs of one size and domain.
    fn order(&self) -> (u64, f64, f64, u64, bool, u64, bool, u64) {
        let exact = self.sampler == SamplerKind::Exact;
        let replay = self.replay_tokens.unwrap_or(0);
        let (p, ratio) = (self.p.get(), self.ratio.get());
        (self.d_ft_tokens, p, ratio, self.seed, exact, replay, !self.decay, self.steps)
    }
}

impl Grid {
    /// The runs of the blocks with these names; unknown blocks have no runs, and neither have sizes
    /// whose pretrained models were not opened.
    ///
    /// # Errors
    /// If a size, a shape or a budget is invalid.
    pub fn new(config: &Config, sources: &Sources, blocks: &[&str]) -> Result<Self> {
        let mut planner = Planner {
            config,
            sources,
            ranks: ranks(config, sources)?,
            pretrainings: BTreeMap::new(),
            finetunings: BTreeMap::new(),
        };
        let mut largest = BTreeMap::new();
        for (name, block) in &config.grid {
            for domain in &block.domains {
                let most = block.d_ft_tokens.iter().copied().max().unwrap_or(0);
                let known: &mut u64 = largest.entry(domain.clone()).or_default();
                *known = most.max(*known);
            }
            if blocks.contains(&name.as_str()) {
                planner.add(name, block)?;
            }
        }
        let mut pretrainings: Vec<_> = planner.pretrainings.into_values().collect();
        pretrainings.sort_by(|a, b| {
            let key = |run: &Pretraining| (run.rank, !run.decay, run.tokens_per_param, run.seed);
            key(a).partial_cmp(&key(b)).expect("tokens per parameter are numbers")
        });
        let mut finetunings: Vec<_> = planner.finetunings.into_values().collect();
        finetunings.sort_by(|a: &Finetuning, b: &Finetuning| {
            let key = |run: &Finetuning| {
                let parent = (run.tokens_per_param, run.pretraining_seed);
                (run.domain.clone(), run.rank, run.cell.order(), parent)
            };
            key(a).partial_cmp(&key(b)).expect("fractions and ratios are numbers")
        });
        Ok(Self { pretrainings, finetunings, largest })
    }

    /// All runs, pretraining first.
    pub fn jobs(&self) -> Vec<Job> {
        let pretraining = self.pretrainings.iter().map(|run| &run.job);
        pretraining.chain(self.finetunings.iter().map(|run| &run.job)).cloned().collect()
    }

    /// The domains of these runs, each with its largest D_ft among them.
    pub fn domains(&self) -> BTreeMap<String, u64> {
        let mut domains: BTreeMap<String, u64> = BTreeMap::new();
        for run in &self.finetunings {
            let most = domains.entry(run.domain.clone()).or_default();
            *most = run.cell.d_ft_tokens.max(*most);
        }
        domains
    }
}

/// The shape of a size, with the context of the data.
fn shape(config: &Config, sources: &Sources, size: &str) -> Result<Shape> {
    if let Some(import) = sources.imports.get(size) {
        return Ok(Shape { context: config.model.context, ..import.shape });
    }
    let mut shape = Shape::named(size, sources.vocab, config.model.context)?;
    shape.bias = config.model.bias;
    shape.positions = config.model.positions;
    shape.validate()?;
    Ok(shape)
}

/// The place of each size of the preset, the smallest first.
fn ranks(config: &Config, sources: &Sources) -> Result<BTreeMap<String, usize>> {
    let count = |size: &String| Ok((shape(config, sources, size)?.count().paper(), size.clone()));
    let sizes = config.sizes.keys().filter(|name| sources.has(config, name)).map(count);
    let mut sizes: Vec<(u64, String)> = sizes.collect::<Result<_>>()?;
    sizes.sort();
    Ok(sizes.into_iter().enumerate().map(|(rank, (_, size))| (size, rank)).collect())
}

struct Planner<'a> {
    config: &'a Config,
    sources: &'a Sources,
    ranks: BTreeMap<String, usize>,
    pretrainings: BTreeMap<RunId, Pretraining>,
    finetunings: BTreeMap<RunId, Finetuning>,
}

impl Planner<'_> {
    fn add(&mut self, name: &str, block: &Block) -> Result<()> {
        for size in block.sizes.iter().filter(|size| self.sources.has(self.config, size)) {
            for &tokens_per_param in &block.tokens_per_param {
                for &decay in &block.decay {
                    for &seed in &block.pretraining_seeds {
                        let parent = self.pretraining(size, decay, tokens_per_param, seed)?;
                        self.add_finetunings(name, block, &parent)?;
                        let id = parent.job.spec.id();
                        let blocks = &mut self.pretrainings.entry(id).or_insert(parent).blocks;
                        note(blocks, name, block);
                    }
                }
            }
        }
        Ok(())
    }

    fn add_finetunings(&mut self, name: &str, block: &Block, parent: &Pretraining) -> Result<()> {
        for domain in &block.domains {
            for cell in self.cells(block, parent.decay)? {
                let run = self.finetuning(parent, domain, cell);
                let entry = self.finetunings.entry(run.job.spec.id()).or_insert(run);
                note(&mut entry.blocks, name, block);
            }
        }
        Ok(())
    }

    fn cells(&self, block: &Block, decay: bool) -> Result<Vec<Cell>> {
        let mut cells = Vec::new();
        for &d_ft_tokens in &block.d_ft_tokens {
            for &p in &block.p {
                let steps = self.config.finetuning.budget.steps(block.steps, p)?;
                for &ratio in &block.lr_ratios {
                    for seed in &block.seeds {
                        for &sampler in &block.samplers {
                            for &replay in &block.replay_tokens {
                                cells.push(Cell {
                                    d_ft_tokens,
                                    p,
                                    ratio,
                                    seed: self.config.seed.wrapping_add(*seed),
                                    sampler,
                                    replay_tokens: Some(replay).filter(|&tokens| tokens > 0),
                                    decay,
                                    steps,
                                });
                            }
                        }
                    }
                }
            }
        }
        Ok(cells)
    }

    fn pretraining(
        &self,
        size: &str,
        decay: bool,
        tokens_per_param: f64,
        seed: u64,
    ) -> Result<Pretraining> {
        let seed = self.config.seed.wrapping_add(seed);
        let (config, settings) = (&self.config.pretraining, self.config.size(size));
        let shape = shape(self.config, self.sources, size)?;
        if let Some(import) = self.sources.imports.get(size) {
            return Ok(self.import(size, decay, shape, import));
        }
        let context = shape.context as u64;
        let budget = Budget { tokens_per_param };
        let total_steps = budget.steps(shape.count().paper(), settings.batch * context)?;
        let spec = Spec::Pretrain(PretrainSpec {
            format: FORMAT,
            data: self.sources.pretraining_spec().id(),
            shape,
            precision: self.config.model.precision,
            engine: self.config.run.engine.kind(),
            seed,
            batch: settings.batch,
            schedule: Schedule {
                peak: settings.peak_lr,
                total_steps,
                warmup: config.warmup,
                terminal: config.terminal,
            },
            adamw: decayed(config.adamw, decay),
            clip: config.clip,
            evaluate: config.evaluate,
        });
        let tokens = total_steps * settings.batch * context;
        let evaluations = config.evaluate.steps(total_steps).len() as u64;
        let flops = flops(&shape, tokens, evaluated(&self.config.data, evaluations));
        let mut label = size.to_string() + &self.label_of_model(tokens_per_param, seed);
        if !decay {
            label += " without decay";
        }
        Ok(Pretraining {
            blocks: Vec::new(),
            size: size.to_string(),
            rank: self.ranks[size],
            decay,
            tokens_per_param,
            seed,
            job: Job { spec, label, size: size.to_string(), shape, tokens, flops, import: None },
        })
    }

    /// A model from elsewhere instead of a pretraining run; the number of tokens that it has seen is
    /// unknown.
    fn import(&self, size: &str, decay: bool, shape: Shape, import: &Import) -> Pretraining {
        let spec = Spec::Import(ImportSpec {
            format: FORMAT,
            data: self.sources.pretraining_spec().id(),
            shape: import.shape,
            precision: self.config.model.precision,
            engine: self.config.run.engine.kind(),
            weights: import.hash.clone(),
        });
        Pretraining {
            blocks: Vec::new(),
            size: size.to_string(),
            rank: self.ranks[size],
            decay,
            tokens_per_param: 0.0,
            seed: self.config.seed,
            job: Job {
                spec,
                label: size.to_string(),
                size: size.to_string(),
                shape,
                tokens: 0,
                flops: flops(&shape, 0, evaluated(&self.config.data, 1)),
                import: Some(import.folder.clone()),
            },
        }
    }

    fn finetuning(&self, parent: &Pretraining, domain: &str, cell: Cell) -> Finetuning {
        let settings = &self.config.finetuning;
        let (size, shape) = (parent.size.as_str(), parent.job.shape);
        let spec = FinetuneSpec {
            format: FORMAT,
            parent: parent.job.spec.id(),
            target: self.sources.target_spec(domain).id(),
            precision: self.config.model.precision,
            engine: self.config.run.engine.kind(),
            seed: cell.seed,
            d_ft_tokens: cell.d_ft_tokens,
            p: cell.p,
            sampler: cell.sampler,
            replay_tokens: cell.replay_tokens,
            batch: settings.batch,
            schedule: finetuning::Schedule {
                peak: self.config.size(size).peak_lr,
                ratio: cell.ratio.get(),
                warmup_steps: settings.warmup_steps,
            },
            steps: cell.steps,
            adamw: decayed(settings.adamw, cell.decay),
            clip: settings.clip,
            evaluate: settings.evaluate,
            stop: settings.stop_when_turned.then_some(settings.stop),
        };
        let tokens = spec.steps * spec.batch * shape.context as u64;
        let flops = finetuning_flops(&self.config.data, &shape, &spec, spec.steps);
        let model = match parent.job.import {
            Some(_) => String::new(),
            None => self.label_of_model(parent.tokens_per_param, parent.seed),
        };
        let label = self.label(size, domain, &cell) + &model;
        Finetuning {
            blocks: Vec::new(),
            size: size.to_string(),
            rank: self.ranks[size],
            domain: domain.to_string(),
            tokens_per_param: parent.tokens_per_param,
            pretraining_seed: parent.seed,
            cell,
            job: Job {
                spec: Spec::Finetune(spec),
                label,
                size: size.to_string(),
                shape,
                tokens,
                flops,
                import: None,
            },
        }
    }

    /// The suffix of the label of a model with other tokens per parameter or another seed than the main
    /// block.
    fn label_of_model(&self, tokens_per_param: f64, seed: u64) -> String {
        let usual = self.config.grid.get(MAIN).map(|main| main.tokens_per_param[0]);
        let mut label = String::new();
        if usual != Some(tokens_per_param) {
            label += &format!(" D/N={tokens_per_param}");
        }
        if seed != self.config.seed {
            label += &format!(" pretraining seed={seed}");
        }
        label
    }

    fn label(&self, size: &str, domain: &str, cell: &Cell) -> String {
        let Cell { d_ft_tokens, p, ratio, seed, sampler, replay_tokens, decay, .. } = cell;
        let mut label = format!("{size} {domain} D_ft={d_ft_tokens} p={}", percent(p.get()));
        if ratio.get() != finetuning::LR_RATIO {
            label += &format!(" lr={ratio}");
        }
        if *seed != self.config.seed {
            label += &format!(" seed={seed}");
        }
        if *sampler == SamplerKind::Exact {
            label += " exact";
        }
        if let Some(tokens) = replay_tokens {
            label += &format!(" replay={tokens}");
        }
        if !decay {
            label += " without decay";
        }
        label
    }
}

fn note(blocks: &mut Vec<String>, name: &str, block: &Block) {
    let of_laws = block.laws.then_some(MAIN);
    for name in std::iter::once(name).chain(of_laws) {
        if !blocks.iter().any(|known| known == name) {
            blocks.push(name.to_string());
        }
    }
}

fn decayed(adamw: AdamW, decay: bool) -> AdamW {
    AdamW { weight_decay: if decay { adamw.weight_decay } else { 0.0 }, ..adamw }
}

/// The FLOPs of a finetuning that ends after so many steps, including evaluations.
pub fn finetuning_flops(data: &Data, shape: &Shape, spec: &FinetuneSpec, steps: u64) -> f64 {
    let tokens = steps * spec.batch * shape.context as u64;
    let evaluations = spec.evaluate.steps(steps).len() as u64;
    // Both sets, and the pretraining's test set before the first step and at the bottom.
    flops(shape, tokens, 2 * evaluated(data, evaluations) + data.test_tokens)
}

/// The tokens of one source that a run reads in so many evaluations.
fn evaluated(data: &Data, evaluations: u64) -> u64 {
    evaluations * data.validation_tokens + data.test_tokens
}

/// The FLOPs of training and evaluating on so many tokens.
fn flops(shape: &Shape, trained: u64, evaluated: u64) -> f64 {
    // A forward pass alone costs a third of a training step.
    shape.train_flops_per_token() * (trained as f64 + evaluated as f64 / 3.0)
}

/// Refuses a name that is not a block.
///
/// # Errors
/// If there is no such block; the error names the blocks.
pub fn check_blocks(config: &Config, blocks: &[String]) -> Result<()> {
    match blocks.iter().find(|name| !config.grid.contains_key(*name)) {
        None => Ok(()),
        Some(name) => {
            let known: Vec<&str> = config.grid.keys().map(String::as_str).collect();
            let requirement =
                format!("is not a block of the grid; the blocks are {}", known.join(", "));
            Err(Error::setting("--block", name, requirement))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::pretrained::Needed;
    use forgetting_laws::model::Positions;
    use std::collections::BTreeSet;

    fn grid(preset: &str, blocks: &[&str]) -> Grid {
        let config = Config::load(preset, &[]).unwrap();
        let sources = Sources::open(&config, None, Needed::Here, None).unwrap();
        let all: Vec<&str> = config.grid.keys().map(String::as_str).collect();
        Grid::new(&config, &sources, if blocks.is_empty() { &all } else { blocks }).unwrap()
    }

    #[test]
    fn positions_and_budgets_are_settings() {
        let set = ["model.positions=rotary", "finetuning.budget=target", "grid.main.p=0,0.5"];
        let config = Config::load("nano", &set.map(String::from)).unwrap();
        let sources = Sources::open(&config, None, Needed::Here, None).unwrap();
        let grid = Grid::new(&config, &sources, &["main"]).unwrap();
        assert!(grid.pretrainings.iter().all(|run| run.job.shape.positions == Positions::Rotary));
        for run in &grid.finetunings {
            let expected = if run.cell.p.get() == 0.0 { 12_000 } else { 24_000 };
            assert_eq!(run.cell.steps, expected, "{}", run.job.label);
        }
        let all = ["finetuning.budget=target", "grid.main.p=1.0"].map(String::from);
        let config = Config::load("nano", &all).unwrap();
        let refusal = Grid::new(&config, &sources, &["main"]).err().unwrap().to_string();
        assert!(refusal.contains("budget = target") && refusal.contains("p = 1"), "{refusal}");
    }

    /// The issue of the small grid: 4 sizes, 3 domains, 4 D_ft over a factor of 30 or more, 4 p.
    #[test]
    fn the_main_grid_of_nano_is_wide_enough() {
        let grid = grid("nano", &["main"]);
        assert_eq!((grid.pretrainings.len(), grid.finetunings.len()), (4, 192));
        let d_ft = grid.finetunings.iter().map(|run| run.cell.d_ft_tokens);
        assert!(d_ft.clone().max().unwrap() >= 30 * d_ft.min().unwrap());
        assert_eq!(grid.domains().len(), 3);
    }

    /// Its five sizes, D_ft over a factor of 96, five p; thinned for the two largest.
    #[test]
    fn the_grid_of_micro_has_the_papers_proportions() {
        let grid = grid("micro", &[]);
        let main = |size: &str| {
            let of_size = |run: &&Finetuning| run.in_block(MAIN) && run.size == size;
            grid.finetunings.iter().filter(of_size).count()
        };
        let sizes = ["nano-tiny", "nano-small", "nano-medium", "nano-large", "nano-xl"];
        assert_eq!(sizes.map(main), [75, 75, 75, 60, 27]);
        let of_seed = |seed| grid.pretrainings.iter().filter(move |run| run.seed == seed).count();
        assert_eq!([0, 1, 2].map(of_seed), [5, 4, 3]);
        let domains: BTreeSet<&String> = grid.finetunings.iter().map(|run| &run.domain).collect();
        assert_eq!(domains.len(), 12);
    }

    #[test]
    fn the_papers_grid_has_1500_runs() {
        let grid = grid("paper", &["main"]);
        assert_eq!((grid.pretrainings.len(), grid.finetunings.len()), (5, 1_500));
    }

    #[test]
    fn runs_that_blocks_share_are_one_and_parents_come_first() {
        for preset in ["nano", "micro", "mini", "paper"] {
            let grid = grid(preset, &[]);
            let jobs = grid.jobs();
            let ids: BTreeSet<RunId> = jobs.iter().map(|job| job.spec.id()).collect();
            assert_eq!(ids.len(), jobs.len());
            let mut before = BTreeSet::new();
            for job in &jobs {
                assert!(job.parent().is_none_or(|id| before.contains(id)), "{}", job.label);
                before.insert(job.spec.id());
            }
            let shared = |run: &&Finetuning| run.in_block("main") && run.in_block("seeds");
            assert!(grid.finetunings.iter().filter(shared).count() > 0, "{preset}");
            let labels: BTreeSet<&str> = jobs.iter().map(|job| job.label.as_str()).collect();
            // A smaller budget alone does not show.
            assert!(labels.len() + 40 > jobs.len(), "{preset}");
        }
    }

    #[test]
    fn a_run_without_decay_starts_from_a_model_without() {
        let grid = grid("nano", &["decay"]);
        for run in &grid.finetunings {
            let Spec::Finetune(spec) = &run.job.spec else { unreachable!() };
            let parent = grid.pretrainings.iter().find(|p| p.job.spec.id() == spec.parent).unwrap();
            let Spec::Pretrain(model) = &parent.job.spec else { unreachable!() };
            assert_eq!(spec.adamw.weight_decay > 0.0, run.cell.decay);
            assert_eq!(model.adamw.weight_decay > 0.0, run.cell.decay);
        }
    }
}
