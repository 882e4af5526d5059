//! The grid on a cluster: job arrays for Slurm on a shared folder.
//!
//! First, one job per model pretrains it with the GPUs of its size (in the paper 1, 1, 4, 8, 8). Then
//! the finetuning runs of each size are divided among the jobs of an array. Finally, one more job per
//! size repeats failed runs, and makes the runs that Table 4 predicts, which wait until the predictions
//! are written. A job that is preempted or reaches its time limit writes checkpoints at the signal and
//! is requeued.
//!
//! A job with several GPUs trains its runs one after the other, each with one rank per GPU.

use super::SlurmOptions;
use crate::experiment::config::Config;
use crate::experiment::grid::{Grid, Pretraining};
use crate::terminal::print;
use forgetting_laws::store::write_atomic;
use forgetting_laws::{Error, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Seconds before the time limit at which a job is told to write its checkpoints.
const NOTICE: u64 = 300;

/// The resources of a size.
struct Size {
    rank: usize,
    gpus: u64,
    cores: u64,
    /// Memory of the host, in gigabytes.
    memory: u64,
    /// The option that uses all GPUs.
    option: String,
    finetunings: u64,
}

impl Size {
    fn of(run: &Pretraining, config: &Config, workers: Option<usize>) -> Self {
        let gpus = config.size(&run.size).gpus;
        // Ranks where a run takes several GPUs, otherwise as many workers as are asked for.
        let (processes, option) = match workers {
            _ if gpus > 1 => (gpus, format!(" --ranks {gpus}")),
            Some(workers) => (workers as u64, format!(" --workers-per-device {workers}")),
            None => (1, String::new()),
        };
        // Each process holds the parameters twice while it draws or reads them, and beside them text
        // and libtorch; the one that writes checkpoints holds them and both moments twice more.
        let count = run.job.shape.count();
        let parameters = 4e-9 * (count.paper() + count.head) as f64;
        let memory = processes as f64 * (2.0 * parameters + 4.0) + 5.0 * parameters;
        Self {
            rank: run.rank,
            gpus,
            cores: processes * config.run.threads.max(1) as u64,
            memory: memory.ceil() as u64,
            option,
            finetunings: 0,
        }
    }
}

/// Writes one script per step and size, and one that submits them all.
///
/// # Errors
/// If an option contains a line end, or a file cannot be written.
pub fn write(
    grid: &Grid,
    config: &Config,
    options: &SlurmOptions,
    arguments: &[String],
    folder: &Path,
) -> Result<()> {
    for option in options.sbatch.iter().chain([&options.time]) {
        if option.contains('\n') {
            return Err(Error::setting("--sbatch", option.escape_debug(), "must be one line"));
        }
    }
    let program = match &options.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(Error::io("this program"))?,
    };
    let mut sizes: BTreeMap<&str, Size> = BTreeMap::new();
    for run in &grid.pretrainings {
        let size = || Size::of(run, config, options.grid.common.workers_per_device);
        sizes.entry(&run.size).or_insert_with(size);
    }
    for run in &grid.finetunings {
        if let Some(size) = sizes.get_mut(run.size.as_str()) {
            size.finetunings += 1;
        }
    }
    let mut sizes: Vec<(&str, Size)> = sizes.into_iter().collect();
    sizes.sort_by_key(|(_, size)| size.rank);
    let mut call = vec![quoted(&program.display().to_string()), "run".into()];
    call.extend(arguments.iter().map(|argument| quoted(argument)));
    for block in &options.grid.blocks {
        call.extend(["--block".into(), quoted(block)]);
    }
    let call = call.join(" ");
    let mut submit = String::from(
        "#!/bin/sh\n# Submits everything; each step waits for the one before.\nset -eu\n\
         cd \"$(dirname \"$0\")\"\n",
    );
    let mut pretrainings = Vec::new();
    for (name, size) in &sizes {
        let script = format!("pretrain-{name}.sh");
        let call = format!("{call} --size {}{} --pretraining-only", quoted(name), size.option);
        put(folder, &script, &batch(options, &format!("pt-{name}"), size, None, &call))?;
        let _ = writeln!(submit, "{}=$(sbatch --parsable {script})", variable("pt", size.rank));
        pretrainings.push(format!("${}", variable("pt", size.rank)));
    }
    let mut arrays = Vec::new();
    for (name, size) in sizes.iter().filter(|(_, size)| size.finetunings > 0) {
        let script = format!("finetune-{name}.sh");
        let jobs = size.finetunings.min(options.jobs);
        let call = format!("{call} --size {}{}", quoted(name), size.option);
        let call = format!("{call} --shard \"$SLURM_ARRAY_TASK_ID/{jobs}\"");
        let array = Some(jobs);
        put(folder, &script, &batch(options, &format!("ft-{name}"), size, array, &call))?;
        let (ft, pt) = (variable("ft", size.rank), variable("pt", size.rank));
        // Without its models there is nothing to finetune.
        let after = format!("--kill-on-invalid-dep=yes --dependency=afterok:${pt}");
        let _ = writeln!(submit, "{ft}=$(sbatch --parsable {after} {script})");
        arrays.push(format!("${ft}"));
    }
    for (name, size) in sizes.iter().filter(|(_, size)| size.finetunings > 0) {
        let script = format!("rest-{name}.sh");
        let call = format!("{call} --size {}{}", quoted(name), size.option);
        put(folder, &script, &batch(options, &format!("rest-{name}"), size, None, &call))?;
        let after = arrays.join(":");
        let _ = writeln!(submit, "sbatch --dependency=afterany:{after} {script}");
    }
    put(folder, "submit.sh", &submit)?;
    let runs = grid.pretrainings.len() + grid.finetunings.len();
    let script = folder.join("submit.sh").display().to_string();
    print(&format!("{runs} runs; read the scripts, then: sh {}\n", quoted(&script)))
}

fn variable(prefix: &str, rank: usize) -> String {
    format!("{prefix}{rank}")
}

fn put(folder: &Path, name: &str, text: &str) -> Result<()> {
    write_atomic(&folder.join(name), text.as_bytes())
}

/// The script of one step. The program itself gets the signal, and its exit status decides whether the
/// job is requeued.
fn batch(options: &SlurmOptions, name: &str, size: &Size, jobs: Option<u64>, call: &str) -> String {
    let mut text = format!("#!/bin/bash\n#SBATCH --job-name={name}\n");
    let _ = writeln!(text, "#SBATCH --nodes=1\n#SBATCH --ntasks=1");
    let Size { gpus, cores, memory, .. } = size;
    let _ = writeln!(text, "#SBATCH --gpus-per-node={gpus}\n#SBATCH --cpus-per-task={cores}");
    let _ = writeln!(text, "#SBATCH --mem={memory}G");
    let _ = writeln!(text, "#SBATCH --time={}", options.time);
    let _ = writeln!(text, "#SBATCH --signal=B:TERM@{NOTICE}\n#SBATCH --requeue");
    let _ = writeln!(text, "#SBATCH --open-mode=append");
    if let Some(jobs) = jobs {
        let _ = writeln!(text, "#SBATCH --array=0-{}", jobs - 1);
    }
    for option in &options.sbatch {
        let _ = writeln!(text, "#SBATCH {option}");
    }
    let _ = write!(
        text,
        "\n{call} &\npid=$!\ntrap 'kill -TERM \"$pid\"' TERM USR1\nwait \"$pid\"\nstatus=$?\n\
         # A signal ends a wait early, while the program writes its checkpoints.\n\
         while kill -0 \"$pid\" 2>/dev/null; do wait \"$pid\"; status=$?; done\n\
         if [ \"$status\" -eq 130 ]; then scontrol requeue \"$SLURM_JOB_ID\"; fi\n\
         exit \"$status\"\n"
    );
    text
}

/// A word, quoted for the shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_string()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_shell_are_one_word() {
        for text in ["plain", "", "two words", "it's", "$HOME `ls` \"x\"", "a=b;c"] {
            let script = format!("printf %s {}", quoted(text));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
