//! The whole grid as its users meet it, on very small models: workers that are killed, runs that fail,
//! shards, figures, tables and the report. The tables of an undisturbed run are the reference.

#![cfg(unix)]

mod common;

use common::{TINY, must_succeed, stderr};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

/// Two models, two domains, three D_ft and three p, and a run or two of every other block.
const SETTINGS: &[&str] = &[
    "sizes.nano-micro.batch=4",
    "sizes.nano-tiny.batch=4",
    "grid.main.tokens_per_param=0.2",
    "finetuning.batch=4",
    "finetuning.evaluate.max_interval=4",
    "grid.main.sizes=nano-micro,nano-tiny",
    "grid.main.domains=near,far",
    "grid.main.d_ft_tokens=[64,128,256]",
    "grid.main.p=0.0,0.1,0.3",
    "grid.main.steps=16",
    "grid.fig5.sizes=nano-tiny",
    "grid.fig5.d_ft_tokens=128",
    "grid.fig5.p=0.0",
    "grid.fig5.lr_ratios=1/30,1/3",
    "grid.fig5.steps=16",
    "grid.fig17.sizes=nano-micro",
    "grid.decay.sizes=nano-micro",
    "grid.decay.domains=far",
    "grid.decay.d_ft_tokens=128",
    "grid.decay.p=0.0",
    "grid.seeds.sizes=nano-micro",
    "grid.seeds.domains=far",
    "grid.seeds.d_ft_tokens=128",
    "grid.seeds.p=0.0",
    "grid.models.sizes=nano-micro",
    "grid.models.domains=far",
    "grid.models.d_ft_tokens=128",
    "grid.models.p=0.0",
    "grid.models.pretraining_seeds=[0,1]",
    "grid.exact.sizes=nano-micro",
    "grid.exact.domains=far",
    "grid.exact.d_ft_tokens=128",
    "grid.exact.p=0.1",
    "grid.replay.sizes=nano-micro",
    "grid.replay.domains=far",
    "grid.replay.d_ft_tokens=128",
    "grid.replay.p=0.1",
    "grid.replay.replay_tokens=[0,32]",
    "grid.high-p.sizes=nano-micro",
    "grid.high-p.domains=far",
    "grid.high-p.d_ft_tokens=128",
    "grid.high-p.p=0.5",
    "grid.high-p.steps=16",
    "grid.tokens.sizes=nano-micro",
    "grid.tokens.domains=far",
    "grid.tokens.d_ft_tokens=128",
    "grid.tokens.p=0.0",
    "grid.tokens.tokens_per_param=0.1",
    "grid.instructions.sizes=nano-micro",
    "grid.instructions.d_ft_tokens=128",
    "grid.instructions.p=0.0,0.1",
];
/// Models: two, one without decay, one on fewer tokens and one of another seed.
const MODELS: usize = 5;
/// Those of the main block.
const MAIN_MODELS: usize = 2;
/// Finetunings of the main block.
const MAIN: usize = 2 * 2 * 3 * 3;

fn replication(command: &str, out: &Path) -> Command {
    let mut call = Command::new(env!("CARGO_BIN_EXE_replication"));
    call.arg(command).args(["--device", "cpu", "--out"]).arg(out);
    for setting in TINY.iter().chain(SETTINGS) {
        call.args(["--set", setting]);
    }
    call.stdin(Stdio::null());
    call
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The tables of losses, which nothing that happens to a run may change.
fn tables(out: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    let names = ["losses.csv", "losses.parquet", "trajectories.csv", "pretrained.csv"];
    names.map(|name| (name, fs::read(out.join(name)).unwrap())).into()
}

/// `all`, undisturbed.
fn reference() -> &'static (TempDir, Output) {
    static REFERENCE: OnceLock<(TempDir, Output)> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let out = tempfile::tempdir().unwrap();
        let output = must_succeed(&mut replication("all", out.path()));
        (out, output)
    })
}

fn runs(out: &Path) -> Vec<PathBuf> {
    let mut runs: Vec<PathBuf> =
        fs::read_dir(out.join("runs")).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    runs.sort();
    runs
}

fn records(out: &Path) -> usize {
    runs(out).iter().filter(|run| run.join("record.json").exists()).count()
}

#[test]
fn all_makes_every_figure_and_table_and_a_second_call_repeats_nothing() {
    let (out, output) = reference();
    let out = out.path();
    assert!(stdout(output).contains("report.html"), "{}", stdout(output));
    let tables = tables(out);
    let losses = std::str::from_utf8(&tables["losses.csv"]).unwrap();
    let n = runs(out).len();
    assert_eq!(records(out), n);
    assert_eq!(losses.lines().count() - 1, n - MODELS);
    let main = losses.lines().filter(|line| line.split(',').any(|cell| cell == "true")).count();
    assert!(main >= MAIN, "{main}");
    // Every figure of the list has a folder with a summary, and its own command in the help.
    let help = stdout(&must_succeed(Command::new(env!("CARGO_BIN_EXE_replication")).arg("--help")));
    let figures = ["fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "fig17"];
    for id in figures.into_iter().chain(["table1", "table2", "table3", "table4", "path"]) {
        assert!(help.contains(&format!("\n  {id} ")), "{id}: {help}");
        assert!(out.join(id).join("summary.md").exists(), "{id}");
    }
    // So few steps overfit nothing: there is no law, and so nothing to draw in fig6.
    for id in figures.into_iter().filter(|id| *id != "fig6") {
        assert!(out.join(id).join(format!("{id}.svg")).exists(), "{id}");
    }
    for name in ["report.html", "report.md", "DATASHEET.md", "results.json", "dictionary.csv"] {
        assert!(out.join(name).exists(), "{name}");
    }
    // The predictions of Table 4 are older than the runs that they speak of.
    let text = fs::read_to_string(out.join("table4/preregistration.json")).unwrap();
    let registered: serde_json::Value = serde_json::from_str(&text).unwrap();
    let registered_at = |path: PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    let before = registered_at(out.join("table4/preregistration.json"));
    let forecasts = registered["content"]["registered"].as_array().unwrap();
    assert!(!forecasts.is_empty(), "{text}");
    let corner = |line: &&str| {
        let cells: Vec<&str> = line.split(',').collect();
        cells.contains(&"nano-tiny") && cells.contains(&"256")
    };
    let ids: Vec<&str> = losses.lines().filter(corner).collect();
    assert_eq!(ids.len(), 2 * 3, "{ids:?}");
    for run in runs(out) {
        let id = run.file_name().unwrap().to_string_lossy().into_owned();
        // The rows name their models, too.
        let is_model = !fs::read_to_string(run.join("spec.json")).unwrap().contains("\"parent\"");
        if !is_model && ids.iter().any(|line| line.contains(&id)) {
            assert!(registered_at(run.join("spec.json")) >= before, "{id}");
        }
    }

    let output = must_succeed(&mut replication("run", out));
    assert_eq!(stderr(&output), "");
    assert!(stdout(&output).contains(&format!("{n} of {n} runs done")));
    must_succeed(&mut replication("export", out));
    assert!(self::tables(out) == tables);
    let status = stdout(&must_succeed(&mut replication("status", out)));
    assert!(status.ends_with(&format!("{n} runs: {n} done\n")), "{status}");
    let plan = stdout(&must_succeed(&mut replication("plan", out)));
    assert!(plan.contains(&format!("\n{n} runs, {n} done; 0.000e0 FLOPs")), "{plan}");
}

/// Nothing is sealed where no run is there to predict from, nor of a run that was made before.
#[test]
fn a_part_of_the_grid_seals_nothing_that_it_cannot_predict() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let part = |d_ft: &str| {
        let mut call = replication("run", out);
        call.args(["--block", "main", "--set", "grid.main.sizes=nano-tiny"]);
        must_succeed(call.args(["--set", &format!("grid.main.d_ft_tokens={d_ft}")]));
    };
    part("256");
    let sealed = out.join("table4/preregistration.json");
    assert!(!sealed.exists());
    assert!(records(out) > 1);
    must_succeed(replication("run", out).args(["--block", "main"]));
    assert!(!sealed.exists());
}

/// Whoever extends a published grid repeats none of its runs. The models that new runs start from are
/// taken from beside the table; where they are not, they are made again and must be the published ones.
#[test]
fn a_published_grid_is_extended() {
    let (published, _) = reference();
    let with_models = published.path().join("results.json");
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("published.json");
    fs::copy(&with_models, &results).unwrap();
    let extended = |command: &str, out: &Path, results: &Path, d_ft: &str| {
        let mut call = replication(command, out);
        call.args(["--block", "main", "--known"]).arg(results);
        call.args(["--set", &format!("grid.main.d_ft_tokens={d_ft}")]);
        call
    };
    let out = folder.path().join("out");
    let (n, new) = (MAIN_MODELS + MAIN, 2 * 2 * 3);
    let plan = stdout(&must_succeed(&mut extended("plan", &out, &results, "[64,128,256]")));
    assert!(plan.contains(&format!("\n{n} runs, {n} done; 0.000e0 FLOPs")), "{plan}");
    let status = stdout(&must_succeed(&mut extended("status", &out, &results, "[64,128,256]")));
    assert!(status.ends_with(&format!("{n} runs: {n} known\n")), "{status}");
    // What new runs start from is planned too, where it is not at hand.
    let repeated = |results: &Path| {
        let call = &mut extended("plan", &out, results, "[64,128,256,512]");
        let plan = stdout(&must_succeed(call));
        let hours = plan.lines().find(|line| line.contains(" hours here, ")).expect("the time");
        let number = |i: usize| hours.split(' ').nth(i).unwrap().parse::<f64>().unwrap();
        assert!(0.0 < number(1) && number(1) <= number(4), "{hours}");
        plan.lines().filter(|line| line.ends_with("  again")).count()
    };
    assert_eq!((repeated(&results), repeated(&with_models)), (MAIN_MODELS, 0));
    assert!(!out.exists());

    let made = must_succeed(&mut extended("run", &out, &results, "[64,128,256]"));
    assert!(stdout(&made).contains(&format!("{n} of {n} runs done")), "{}", stdout(&made));
    let trained =
        |out: &Path| runs(out).iter().filter(|run| run.join("manifest.json").exists()).count();
    assert_eq!((records(&out), trained(&out)), (n, 0));
    let made = must_succeed(&mut extended("run", &out, &results, "[64,128,256,512]"));
    let all = n + new;
    assert!(stdout(&made).contains(&format!("{all} of {all} runs done")), "{}", stdout(&made));
    assert_eq!(trained(&out), MAIN_MODELS + new);
    for run in runs(&out) {
        let of_published = published.path().join("runs").join(run.file_name().unwrap());
        if let Ok(record) = fs::read(of_published.join("record.json")) {
            assert!(fs::read(run.join("record.json")).unwrap() == record, "{run:?}");
        }
    }

    let from_models = folder.path().join("from models");
    let call = &mut extended("run", &from_models, &with_models, "[64,128,256,512]");
    must_succeed(call);
    assert_eq!((records(&from_models), trained(&from_models)), (all, new));
    for run in runs(&out) {
        let same = from_models.join("runs").join(run.file_name().unwrap());
        let record = |run: &Path| fs::read(run.join("record.json")).unwrap();
        assert!(record(&run) == record(&same), "{run:?}");
    }

    // A table of another machine's engine, whose models are others.
    let mut other: serde_json::Value =
        serde_json::from_slice(&fs::read(&results).unwrap()).unwrap();
    for model in other["pretrained"].as_array_mut().unwrap() {
        model["record"]["model"] = "0".repeat(64).into();
    }
    let changed = folder.path().join("results.json");
    fs::write(&changed, other.to_string()).unwrap();
    let out = folder.path().join("other");
    let refused = extended("run", &out, &changed, "[64,512]").output().unwrap();
    let said = stderr(&refused);
    assert!(!refused.status.success() && said.contains("do not belong together"), "{said}");
}

/// Several processes share the folder and are killed again and again; what they leave is the same
/// table.
#[test]
fn workers_killed_at_random_leave_the_same_tables() {
    let out = tempfile::tempdir().unwrap();
    let start = || {
        let mut call = replication("run", out.path());
        call.args(["--set", "run.checkpoint_seconds=0", "--set", "run.workers=1"]);
        call.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut kills = 0;
    for round in 0..5u64 {
        let mut workers = [start(), start()];
        // Ours is the moment of the kill alone; every run's bits are its own.
        std::thread::sleep(Duration::from_millis(700 + 450 * round));
        for worker in &mut workers {
            kills += u32::from(worker.try_wait().unwrap().is_none());
            worker.kill().unwrap();
            worker.wait().unwrap();
        }
    }
    assert!(kills >= 4, "only {kills} workers were killed at work");
    must_succeed(&mut replication("run", out.path()));
    must_succeed(&mut replication("export", out.path()));
    assert!(tables(out.path()) == tables(reference().0.path()));
}

#[test]
fn shards_one_after_another_make_the_whole() {
    let out = tempfile::tempdir().unwrap();
    for (shard, size) in [("0/2", None), ("1/2", Some("nano-micro")), ("1/2", Some("nano-tiny"))] {
        let mut call = replication("run", out.path());
        call.args(["--block", "main", "--shard", shard]);
        call.args(size.map(|size| ["--size", size]).into_iter().flatten());
        let output = must_succeed(&mut call);
        let waits = stderr(&output).contains("wait for the runs from which Table 4 predicts them");
        let left = MAIN_MODELS + MAIN > records(out.path());
        assert!(left || !waits, "{}", stderr(&output));
    }
    must_succeed(replication("run", out.path()).args(["--block", "main"]));
    assert_eq!(records(out.path()), MAIN_MODELS + MAIN);
    let nothing = tempfile::tempdir().unwrap();
    for command in ["export", "report"] {
        let output = replication(command, nothing.path()).output().unwrap();
        let said = stderr(&output);
        assert!(!output.status.success() && said.contains("no finished run"), "{said}");
        assert_eq!(fs::read_dir(nothing.path()).unwrap().count(), 0);
    }
    for (option, value) in [("--shard", "2/2"), ("--size", "huge"), ("--block", "none")] {
        let output = replication("run", out.path()).args([option, value]).output().unwrap();
        let said = stderr(&output);
        assert!(!output.status.success() && said.lines().count() == 1, "{said}");
        assert!(said.contains(option) && said.contains(value), "{said}");
    }
}

/// A model that diverges, and a finetuning that cannot write its checkpoint, stop no other run.
#[test]
fn failures_are_noted_and_stop_no_other_run() {
    let out = tempfile::tempdir().unwrap();
    let diverging = ["--set", "sizes.nano-tiny.peak_lr=1e30", "--block", "main"];
    let output = replication("run", out.path()).args(diverging).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().unwrap().contains("nano-tiny"), "{said}");
    assert_eq!(records(out.path()), 2 + MAIN / 2);
    let status = must_succeed(replication("status", out.path()).args(diverging));
    let status = stdout(&status);
    assert!(status.contains("diverged") && status.contains("not finite at step"), "{status}");
    assert!(status.contains(&format!("{} left", MAIN / 2)), "{status}");

    // A limit on the size of files, as a full disk: units of 512 bytes.
    let out = tempfile::tempdir().unwrap();
    let call = replication("run", out.path());
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 500; exec \"$0\" \"$@\""]);
    limited.arg(call.get_program()).args(call.get_args()).args(["--block", "main"]);
    let output = limited.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let status = stdout(&must_succeed(replication("status", out.path()).args(["--block", "main"])));
    let failed: Vec<&str> = status.lines().filter(|line| line.contains(" failed ")).collect();
    assert_eq!(failed.len(), 1, "{status}");
    assert!(failed[0].starts_with("nano-tiny ") && failed[0].contains("os error"), "{status}");
    must_succeed(replication("run", out.path()).args(["--block", "main"]));
    assert_eq!(records(out.path()), MAIN_MODELS + MAIN);
    let status = stdout(&must_succeed(replication("status", out.path()).args(["--block", "main"])));
    assert!(!status.contains("failed"), "{status}");
}

#[test]
fn scripts_for_slurm_split_the_runs_and_ask_for_the_papers_gpus() {
    let out = tempfile::tempdir().unwrap();
    let mut call = Command::new(env!("CARGO_BIN_EXE_replication"));
    call.args([
        "slurm",
        "--preset",
        "paper",
        "--block",
        "main",
        "--program",
        "/opt/a b/replication",
    ]);
    call.args(["--sbatch=--partition=gpu", "--jobs", "50", "--workers-per-device", "2"]);
    call.arg("--out").arg(out.path());
    must_succeed(&mut call);
    let script = |name: &str| fs::read_to_string(out.path().join("slurm").join(name)).unwrap();
    let sizes = [
        ("tiny", 1, "cpus-per-task=16", "mem=10G"),
        ("small", 1, "cpus-per-task=16", "mem=12G"),
        ("medium", 4, "cpus-per-task=32", "mem=34G"),
        ("large", 8, "cpus-per-task=64", "mem=88G"),
        ("xl", 8, "cpus-per-task=64", "mem=139G"),
    ];
    for (size, gpus, cpus, memory) in sizes {
        for step in ["pretrain", "finetune", "rest"] {
            let name = format!("{step}-{size}.sh");
            let text = script(&name);
            assert!(text.contains(&format!("#SBATCH --gpus-per-node={gpus}\n")), "{text}");
            assert!(text.contains("#SBATCH --requeue\n#SBATCH --open-mode=append\n"), "{text}");
            assert!(text.contains("#SBATCH --partition=gpu\n"), "{text}");
            assert!(text.contains("'/opt/a b/replication' run --preset paper"), "{text}");
            assert!(text.contains(&format!("#SBATCH --{cpus}\n#SBATCH --{memory}\n")), "{text}");
            let processes = match gpus {
                1 => "--workers-per-device 2".into(),
                ranks => format!("--ranks {ranks}"),
            };
            assert_eq!(text.contains(" --ranks"), gpus > 1, "{text}");
            assert_eq!(text.contains(" --workers-per-device"), gpus == 1, "{text}");
            assert!(text.contains(&format!(" --size {size} {processes}")), "{text}");
            let path = out.path().join("slurm").join(&name);
            assert!(Command::new("bash").arg("-n").arg(path).status().unwrap().success(), "{name}");
        }
        let text = script(&format!("finetune-{size}.sh"));
        assert!(text.contains("#SBATCH --array=0-49\n"), "{text}");
        assert!(text.contains("--shard \"$SLURM_ARRAY_TASK_ID/50\""), "{text}");
    }
    let submit = script("submit.sh");
    assert_eq!(submit.lines().filter(|line| line.contains("sbatch")).count(), 15, "{submit}");
    let after = "--kill-on-invalid-dep=yes --dependency=afterok";
    assert_eq!(submit.matches(after).count(), 5, "{submit}");

    // A job that is told to end, here by two signals, writes its checkpoints, returns 130 and is put
    // back.
    let fake = out.path().join("fake");
    fs::write(
        &fake,
        "#!/bin/sh\ntrap 'trap : TERM; sleep 1; exit 130' TERM\nwhile :; do sleep 0.05; done\n",
    )
    .unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&fake).status().unwrap().success());
    let requeued = out.path().join("requeued");
    let scontrol = out.path().join("scontrol");
    fs::write(&scontrol, format!("#!/bin/sh\necho \"$@\" > '{}'\n", requeued.display())).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&scontrol).status().unwrap().success());
    let text = script("pretrain-xl.sh").replace("'/opt/a b/replication'", fake.to_str().unwrap());
    let path = std::env::var("PATH").unwrap();
    let mut job = Command::new("bash")
        .args(["-c", &text])
        .env("PATH", format!("{}:{path}", out.path().display()))
        .env("SLURM_JOB_ID", "7")
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let pid = job.id().to_string();
    for signal in ["-TERM", "-USR1", "-TERM"] {
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(job.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read_to_string(requeued).unwrap(), "requeue 7\n");
}

/// Three processes make what one makes, to the bit.
#[test]
fn workers_of_a_device_share_the_grid() {
    let out = tempfile::tempdir().unwrap();
    let out = out.path();
    must_succeed(replication("run", out).args(["--workers-per-device", "3"]));
    for log in ["cpu-1.log", "cpu-2.log"] {
        let log = fs::read_to_string(out.join("workers").join(log)).unwrap();
        assert!(!log.contains("panicked") && !log.contains("--help"), "{log}");
    }
    must_succeed(&mut replication("export", out));
    assert_eq!(tables(out), tables(reference().0.path()));
    let refused = replication("run", out).args(["--workers-per-device", "0"]).output().unwrap();
    assert!(stderr(&refused).contains("must be from 1 to 64"), "{}", stderr(&refused));
}

/// A helper makes the runs that it is told, and ends where nobody holds its standard input.
#[test]
fn a_helper_makes_what_it_is_told_and_ends_with_the_one_it_helps() {
    let is_model = |run: &&PathBuf| {
        let spec = fs::read_to_string(run.join("spec.json")).unwrap();
        spec.contains("\"pretrain\"")
    };
    let reference = runs(reference().0.path());
    let model = reference.iter().find(is_model).unwrap().file_name().unwrap().to_owned();
    let id = model.to_str().unwrap();
    for (told, made) in [(format!("{id}\n\n"), 1), (format!("{id}\n"), 0)] {
        let out = tempfile::tempdir().unwrap();
        let mut call = replication("run", out.path());
        call.arg("--helper").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut helper = call.spawn().unwrap();
        let mut pipe = helper.stdin.take().unwrap();
        pipe.write_all(told.as_bytes()).unwrap();
        // Told all, it ends by itself; else it ends with the pipe.
        let held = (made == 1).then_some(pipe);
        let output = helper.wait_with_output().unwrap();
        drop(held);
        assert_eq!(records(out.path()), made, "{}", stderr(&output));
        assert_eq!(output.status.code(), Some(if made == 1 { 0 } else { 130 }));
        if made == 1 {
            assert_eq!(runs(out.path())[0].file_name().unwrap(), model);
        }
    }
}
