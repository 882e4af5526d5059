//! The options of the commands that train, and the settings that they make.

use crate::cli::values::named;
use crate::experiment::compute::EngineChoice;
use crate::experiment::config::Config;
use crate::experiment::ranks::RankOptions;
use crate::inputs::registry::name_of;
use clap::{Args, ValueEnum};
use forgetting_laws::data::files::STDIN;
use forgetting_laws::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Settings, data and output folder.
#[derive(Args, Clone)]
pub struct Options {
    /// Settings to start from: nano (two CPU cores, minutes), nano-hub (the same on public data
    /// sets), micro (two CPU cores, hours, on your own texts), mini (one GPU), paper (a node),
    /// datadecide (one GPU, finetunes DataDecide's models).
    #[arg(long, default_value = "nano")]
    pub preset: String,
    /// The engine, overriding run.engine. auto is libtorch for bf16 and on a GPU, otherwise cpu.
    #[arg(long, value_enum)]
    pub engine: Option<EngineChoice>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Trains this many runs at once, each in its own process: on every GPU, or on the one that
    /// --device numbers. Overrides run.workers.
    #[arg(long, value_name = "N", value_parser = at_most_64)]
    pub workers_per_device: Option<usize>,
    /// Folder of the runs and figures [default: out/PRESET].
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Overrides a setting; may be repeated. Example: --set seed=7
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Pretraining text: .txt, .jsonl or .json files, plain, .gz or .zst, .parquet files, folders
    /// or patterns of them, - for standard input, or hub:NAME for a data set (see replication data
    /// list).
    #[arg(long, num_args = 1.., value_name = "FILE|hub:NAME")]
    pub pretrain: Vec<PathBuf>,
    /// Text of the target domains, instead of the preset's: files of one domain, or NAME=FILE for
    /// each of several; or hub:NAME.
    #[arg(long, num_args = 1.., value_name = "[NAME=]FILE|hub:NAME")]
    pub target: Vec<PathBuf>,
    /// Field of .jsonl files that names the work; a split never divides a work.
    #[arg(long, value_name = "FIELD")]
    pub group: Option<String>,
    /// Leaves out records whose text is null or missing, and reports how many.
    #[arg(long)]
    pub skip_missing: bool,
    /// Reads text files again, even if their lengths, times and inodes have not changed.
    #[arg(long)]
    pub reread_texts: bool,
    /// Models to finetune, instead of the preset's sizes: folders of GPT-2, Llama, Qwen, Pythia and
    /// similar models (see docs/models.md) or of models trained here, or hub:OWNER/NAME.
    #[arg(long, num_args = 1.., value_name = "[NAME=]FOLDER")]
    pub pretrained: Vec<PathBuf>,
    /// results.json files whose runs count as done, to extend a published grid. Models are taken from
    /// runs/ beside the file; those that are not there are trained again.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub known: Vec<PathBuf>,
    /// A file with further data sets for hub:NAME.
    #[arg(long, value_name = "FILE")]
    pub registry: Option<PathBuf>,
    /// A tokenizer.json, or its folder [default: one is trained on the pretraining text].
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// The end-of-text token of the given tokenizer or models, by name or number [default: the one
    /// that their files name].
    #[arg(long, value_name = "TOKEN")]
    pub end_of_text: Option<String>,
}

/// A figure or a table.
#[derive(Args)]
pub struct FigureOptions {
    #[command(flatten)]
    pub common: Options,
    #[command(flatten)]
    pub ranks: RankOptions,
    /// Prints what would be done and what it would cost, and does nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Some blocks of the grid.
#[derive(Args)]
pub struct BlockOptions {
    #[command(flatten)]
    pub common: Options,
    /// Blocks of the grid, such as main or fig5; may be repeated [default: all].
    #[arg(long = "block", value_name = "NAME")]
    pub blocks: Vec<String>,
}

/// Some runs of the grid.
#[derive(Args)]
pub struct RunOptions {
    #[command(flatten)]
    pub grid: BlockOptions,
    #[command(flatten)]
    pub ranks: RankOptions,
    /// Only every N-th finetuning run from the I-th on, counted from 0, and the models that these
    /// need.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<String>,
    /// Only runs of this size; may be repeated.
    #[arg(long = "size", value_name = "NAME")]
    pub sizes: Vec<String>,
    /// Only the pretraining runs.
    #[arg(long)]
    pub pretraining_only: bool,
    /// Only prepares the data of all domains of these blocks, and trains nothing.
    #[arg(long, conflicts_with_all = ["shard", "sizes", "pretraining_only", "helper", "ranks"])]
    pub prepare_only: bool,
    /// Helps another process, which names the runs on standard input.
    #[arg(long, hide = true)]
    pub helper: bool,
}

fn at_most_64(text: &str) -> std::result::Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=64).contains(number));
    number.ok_or_else(|| "must be from 1 to 64".into())
}

/// A grid on a cluster.
#[derive(Args)]
pub struct SlurmOptions {
    #[command(flatten)]
    pub grid: BlockOptions,
    /// The largest number of jobs into which the finetuning runs of each size are divided.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub jobs: u64,
    /// The time limit of a job, after which another job continues.
    #[arg(long, default_value = "24:00:00", value_name = "TIME")]
    pub time: String,
    /// Further options for every job, such as --partition=gpu; may be repeated.
    #[arg(long = "sbatch", value_name = "OPTION")]
    pub sbatch: Vec<String>,
    /// The program on the nodes [default: this one].
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

impl Options {
    /// The folder of the runs and figures.
    pub fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| PathBuf::from("out").join(&self.preset))
    }

    /// The same options for another call, with the absolute path of the output folder.
    pub fn arguments(&self, out: &Path) -> Vec<String> {
        let whole = |path: &Path| {
            if name_of(path).is_some() {
                return path.display().to_string();
            }
            std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
        };
        let mut arguments = vec!["--preset".into(), self.preset.clone()];
        arguments.extend(["--device".into(), self.device.clone(), "--out".into(), whole(out)]);
        if let Some(engine) = self.engine {
            let name = engine.to_possible_value().expect("no choice is hidden");
            arguments.extend(["--engine".into(), name.get_name().to_string()]);
        }
        if let Some(workers) = self.workers_per_device {
            arguments.extend(["--workers-per-device".into(), workers.to_string()]);
        }
        arguments.extend(self.set.iter().flat_map(|set| ["--set".into(), set.clone()]));
        if !self.known.is_empty() {
            arguments.push("--known".into());
            arguments.extend(self.known.iter().map(|path| whole(path)));
        }
        if !self.pretrain.is_empty() {
            arguments.push("--pretrain".into());
            arguments.extend(self.pretrain.iter().map(|path| whole(path)));
        }
        if !self.target.is_empty() {
            arguments.push("--target".into());
            arguments.extend(self.target.iter().map(|path| match named(path) {
                Some((name, path)) => format!("{name}={}", whole(&path)),
                None => whole(path),
            }));
        }
        if !self.pretrained.is_empty() {
            arguments.push("--pretrained".into());
            let models = models(&self.pretrained).into_iter();
            arguments.extend(models.map(|(name, folder)| {
                if folder.exists() {
                    format!("{name}={}", whole(&folder))
                } else {
                    format!("{name}={}", folder.display())
                }
            }));
        }
        if let Some(group) = &self.group {
            arguments.extend(["--group".into(), group.clone()]);
        }
        if self.skip_missing {
            arguments.push("--skip-missing".into());
        }
        if self.reread_texts {
            arguments.push("--reread-texts".into());
        }
        if let Some(tokenizer) = &self.tokenizer {
            arguments.extend(["--tokenizer".into(), whole(tokenizer)]);
        }
        if let Some(token) = &self.end_of_text {
            arguments.push(format!("--end-of-text={token}"));
        }
        if let Some(registry) = &self.registry {
            arguments.extend(["--registry".into(), whole(registry)]);
        }
        arguments
    }
}

/// Refuses several workers per device together with ranks.
///
/// # Errors
/// If several workers are asked for.
pub fn refuse_helpers(options: &Options) -> Result<()> {
    let Some(workers) = options.workers_per_device else { return Ok(()) };
    let requirement = "gives each process a run of its own, but ranks train one run together";
    Err(Error::setting("--workers-per-device", workers, requirement))
}

/// Refuses text on standard input if several processes would read it.
///
/// # Errors
/// If a text is on standard input.
pub fn refuse_stdin(options: &Options) -> Result<()> {
    let is_stdin = |path: &&PathBuf| {
        let file = named(path).map_or_else(|| path.to_path_buf(), |(_, file)| file);
        file.as_os_str() == STDIN
    };
    if options.pretrain.iter().chain(&options.target).any(|path| is_stdin(&path)) {
        let requirement = "can be read by only one process: give a file";
        return Err(Error::setting("text file", STDIN, requirement));
    }
    Ok(())
}

/// The settings that the options ask for.
///
/// # Errors
/// If an option is invalid.
pub fn configure(options: &Options) -> Result<Config> {
    let mut config = Config::load(&options.preset, &options.set)?;
    if let Some(engine) = options.engine {
        config.run.engine = engine;
    }
    config.run.engine = config.run.engine.resolve(config.model.precision, &options.device);
    if options.workers_per_device.is_some() {
        config.run.workers = 1;
    }
    if !options.pretrain.is_empty() {
        config.data.pretrain.clone_from(&options.pretrain);
    }
    if !options.target.is_empty() {
        let (targets, order) = targets(&options.target);
        config.set_targets(targets, &order);
    }
    if !options.pretrained.is_empty() {
        let models = models(&options.pretrained);
        if let Some(i) = (1..models.len()).find(|&i| models[..i].iter().any(|m| m.0 == models[i].0))
        {
            let requirement = "names two models; write NAME=FOLDER";
            return Err(Error::setting("--pretrained", &models[i].0, requirement));
        }
        config.set_models(&models);
    }
    if let Some(group) = &options.group {
        config.data.group.clone_from(group);
    }
    config.data.skip_missing |= options.skip_missing;
    config.data.reread = options.reread_texts;
    if let Some(tokenizer) = &options.tokenizer {
        config.data.tokenizer.clone_from(tokenizer);
    }
    if let Some(token) = &options.end_of_text {
        config.data.end_of_text.clone_from(token);
    }
    if let Some(registry) = &options.registry {
        config.data.registry.clone_from(registry);
    }
    Ok(config)
}

/// Models and their folders. The default name of a model is that of its folder.
fn models(given: &[PathBuf]) -> Vec<(String, PathBuf)> {
    let own_name = |folder: &Path| {
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        (name.to_string_lossy().into_owned(), folder.to_path_buf())
    };
    given.iter().map(|folder| named(folder).unwrap_or_else(|| own_name(folder))).collect()
}

/// The files of each domain, and the domains in the order in which they were given. `NAME=` starts a
/// domain; further files belong to the last domain, or to the domain `target`.
fn targets(given: &[PathBuf]) -> (BTreeMap<String, Vec<PathBuf>>, Vec<String>) {
    let mut targets: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for path in given {
        let (name, path) = match named(path) {
            Some((name, path)) => (name, path),
            None => (order.last().cloned().unwrap_or("target".into()), path.clone()),
        };
        if !order.contains(&name) {
            order.push(name.clone());
        }
        targets.entry(name).or_default().push(path);
    }
    (targets, order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::config::PRESETS;

    #[test]
    fn help_names_every_preset() {
        #[derive(clap::Parser)]
        struct Call {
            #[command(flatten)]
            options: Options,
        }
        let call = <Call as clap::CommandFactory>::command();
        let preset = call.get_arguments().find(|argument| argument.get_id() == "preset").unwrap();
        let help = preset.get_help().unwrap().to_string();
        for (name, _) in PRESETS {
            assert!(help.contains(&format!("{name} (")), "{name}: {help}");
        }
    }

    #[test]
    fn files_belong_to_the_domain_named_before_them() {
        let given = ["a.txt", "french=b.txt", "c.txt", "law=d.txt"].map(PathBuf::from);
        let (targets, order) = targets(&given);
        assert_eq!(order, ["target", "french", "law"]);
        assert_eq!(targets["french"], ["b.txt", "c.txt"].map(PathBuf::from));
        assert_eq!(targets["target"], [PathBuf::from("a.txt")]);
    }
}
