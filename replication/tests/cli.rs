//! The program as its users meet it: whole runs on a very small model, interrupted in every way
//! and started again, and every bad input.
//!
//! The tables of an uninterrupted run are the reference; whatever happens to a run, it must end at
//! those very bytes.

#![cfg(unix)]

mod common;

use common::{TINY, must_succeed, stderr};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// One pretraining of 108 steps and four finetunings of 20, a second of work.
const SETTINGS: &[&str] = &[
    "sizes.nano-tiny.batch=4",
    "sizes.nano-tiny.peak_lr=1e-2",
    "grid.main.tokens_per_param=0.2",
    "grid.fig5.d_ft_tokens=320",
    "grid.fig5.steps=20",
    "finetuning.batch=4",
    "grid.fig5.sizes=nano-tiny",
    "grid.fig5.p=[0.0,0.5]",
    "grid.fig5.lr_ratios=1/30,1/3",
];
const RUNS: usize = 5;
const PRETRAINING_STEPS: u64 = 108;

const FIG5_HEADER: &str = "size,n_params,d_ft_tokens,p,lr_ratio,seed,step,loss_ft_val,loss_pt_val";
const RUNS_HEADER: &str = "size,n_params,d_ft_tokens,p,lr_ratio,seed,bottom_step,interior,loss_ft,\
                           loss_pt,loss_pt0,stable";

/// `replication fig5` with the settings above on any device.
fn fig5_anywhere(out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replication"));
    command.args(["fig5", "--out"]).arg(out);
    set(set(&mut command, &TINY), SETTINGS);
    command.stdin(Stdio::null());
    command
}

/// The same on the CPU, where bits can be compared.
fn fig5(out: &Path) -> Command {
    let mut command = fig5_anywhere(out);
    command.args(["--device", "cpu"]);
    command
}

fn set<'a>(command: &'a mut Command, settings: &[&str]) -> &'a mut Command {
    settings.iter().fold(command, |command, setting| command.args(["--set", setting]))
}

/// Asserts that the process failed and complained in one line, and returns the line. Lines on the
/// progress of runs may stand before it.
fn complaint(output: &Output) -> String {
    let all = stderr(output);
    assert!(output.status.code().is_some_and(|code| code != 0), "{}: {all}", output.status);
    assert!(!all.contains("panicked") && !all.contains("stack backtrace"), "{all}");
    let complaints = all.lines().filter(|line| line.starts_with("replication: "));
    assert_eq!(complaints.count(), 1, "{all}");
    let last = all.lines().last().unwrap();
    assert!(last.starts_with("replication: "), "{all}");
    last.to_string()
}

/// What the figure is drawn from, and the figure.
#[derive(PartialEq)]
struct Figure(BTreeMap<&'static str, Vec<u8>>);

impl Figure {
    fn of(out: &Path) -> Self {
        let names = ["fig5.csv", "runs.csv", "fig5.svg", "fig5.png"];
        Self(names.map(|name| (name, fs::read(out.join("fig5").join(name)).unwrap())).into())
    }

    fn table(&self, name: &str) -> &str {
        std::str::from_utf8(&self.0[name]).unwrap()
    }

    #[track_caller]
    fn assert_same(&self, other: &Self) {
        for name in ["fig5.csv", "runs.csv"] {
            assert_eq!(self.table(name), other.table(name));
        }
        assert!(self == other, "the tables are the same and the drawings are not");
    }
}

/// A run that nothing disturbed. Each step writes a checkpoint, so that two of them are left.
fn reference() -> &'static (TempDir, Figure) {
    static REFERENCE: OnceLock<(TempDir, Figure)> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let out = tempfile::tempdir().unwrap();
        must_succeed(set(&mut fig5(out.path()), &["run.workers=1", "run.checkpoint_seconds=0"]));
        let figure = Figure::of(out.path());
        (out, figure)
    })
}

/// A copy of the reference's folder.
fn copy_of_reference() -> TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to)
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let out = tempfile::tempdir().unwrap();
    copy(reference().0.path(), out.path());
    out
}

/// The files below a folder, with their time of change and content.
fn files(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        // Where another process works on the folder, files come and go.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            found.extend(files(&path));
        } else if let Ok(content) = fs::read(&path) {
            found.insert(path, (metadata.modified().unwrap(), content));
        }
    }
    found
}

/// The names below `runs/` of which the test says true.
fn find(out: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for run in fs::read_dir(out.join("runs")).into_iter().flatten().flatten() {
        for file in fs::read_dir(run.path()).into_iter().flatten().flatten() {
            if wanted(&file.file_name().to_string_lossy()) {
                found.push(file.path());
            }
        }
    }
    found.sort();
    found
}

/// The folders of the finetuning runs.
fn finetunings(out: &Path) -> Vec<PathBuf> {
    let specs = find(out, |name| name == "spec.json");
    let is_finetuning = |path: &PathBuf| fs::read_to_string(path).unwrap().contains("\"parent\"");
    specs.into_iter().filter(is_finetuning).map(|p| p.parent().unwrap().to_path_buf()).collect()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Turns a bit of the file's last byte.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Columns of a table by name, row by row.
fn column<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = table.lines();
    let i = lines.next().unwrap().split(',').position(|column| column == name).unwrap();
    lines.map(|line| line.split(',').nth(i).unwrap()).collect()
}

#[test]
fn runs_end_to_end_and_writes_the_tables() {
    let (out, figure) = reference();
    let runs = figure.table("runs.csv");
    assert!(runs.starts_with(RUNS_HEADER), "{runs}");
    assert_eq!(column(runs, "p"), ["0", "0", "0.5", "0.5"]);
    let ratio = |text: &str| text.parse::<f64>().unwrap();
    let ratios: Vec<f64> = column(runs, "lr_ratio").into_iter().map(ratio).collect();
    assert_eq!(ratios, [1.0 / 30.0, 1.0 / 3.0, 1.0 / 30.0, 1.0 / 3.0]);
    assert_eq!(column(runs, "size"), ["nano-tiny"; 4]);
    assert_eq!(column(runs, "d_ft_tokens"), ["320"; 4]);
    assert_eq!(column(runs, "stable"), ["true"; 4]);

    let points = figure.table("fig5.csv");
    assert!(points.starts_with(FIG5_HEADER), "{points}");
    let steps = column(points, "step");
    assert_eq!(steps.iter().filter(|&&step| step == "0").count(), 4);
    assert_eq!(steps.iter().filter(|&&step| step == "20").count(), 4);
    // All four start from one model.
    let at_0 = column(points, "loss_pt_val").into_iter().zip(&steps).filter(|(_, s)| **s == "0");
    let at_0: Vec<&str> = at_0.map(|(loss, _)| loss).collect();
    assert_eq!(at_0, column(runs, "loss_pt0"));
    assert!(at_0.iter().all(|loss| *loss == at_0[0]));

    let summary = fs::read_to_string(out.path().join("fig5/summary.md")).unwrap();
    assert!(summary.contains("1/30") && summary.contains("ynthetic"), "{summary}");
    assert!(figure.0["fig5.svg"].starts_with(b"<"));
    assert!(figure.0["fig5.png"].starts_with(b"\x89PNG"));
    for name in ["spec", "record", "manifest", "tokenizer"].map(|name| format!("{name}.json")) {
        assert_eq!(find(out.path(), |found| found == name).len(), RUNS, "{name}");
    }
    for manifest in find(out.path(), |name| name == "manifest.json") {
        let manifest = json(&manifest);
        let capability = manifest["machine"]["cpu_capability"].as_str().unwrap();
        assert!(["DEFAULT", "AVX2", "AVX512"].contains(&capability), "{manifest}");
        assert!(manifest["sessions"][0]["seconds"].as_f64().unwrap() > 0.0, "{manifest}");
    }
    for metrics in find(out.path(), |name| name == "metrics.jsonl") {
        let text = fs::read_to_string(&metrics).unwrap();
        let record = json(&metrics.with_file_name("record.json"));
        assert_eq!(text.lines().count(), record["evaluations"].as_array().unwrap().len());
    }
}

#[test]
fn a_second_call_repeats_nothing() {
    let out = copy_of_reference();
    let before = files(&out.path().join("runs"));
    let begun = Instant::now();
    let output = must_succeed(&mut fig5(out.path()));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(stderr(&output), "");
    assert!(files(&out.path().join("runs")) == before, "a file of a finished run has changed");
    reference().1.assert_same(&Figure::of(out.path()));
    // Without the tables and drawings they are drawn again.
    fs::remove_dir_all(out.path().join("fig5")).unwrap();
    must_succeed(&mut fig5(out.path()));
    reference().1.assert_same(&Figure::of(out.path()));
}

#[test]
fn the_number_of_workers_moves_no_bit() {
    let out = tempfile::tempdir().unwrap();
    must_succeed(set(&mut fig5(out.path()), &["run.workers=3", "run.checkpoint_seconds=1000"]));
    reference().1.assert_same(&Figure::of(out.path()));
}

#[test]
fn another_seed_gives_other_losses() {
    let out = tempfile::tempdir().unwrap();
    must_succeed(set(&mut fig5(out.path()), &["seed=7"]));
    let (ours, theirs) = (Figure::of(out.path()), &reference().1);
    let (ours, theirs) = (ours.table("fig5.csv"), theirs.table("fig5.csv"));
    for same in ["size", "n_params", "d_ft_tokens", "p", "lr_ratio", "step"] {
        assert_eq!(column(ours, same), column(theirs, same));
    }
    for other in ["seed", "loss_ft_val", "loss_pt_val"] {
        assert!(column(ours, other).iter().zip(column(theirs, other)).all(|(a, b)| *a != b));
    }
}

/// Waits until something holds in the folder of a process. False if the process ended before.
fn wait_until(process: &mut Child, holds: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if holds() {
            return true;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "the process hangs");
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

fn signal(process: &Child, name: &str) {
    let pid = process.id().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_bits() {
    let out = tempfile::tempdir().unwrap();
    let often = ["run.workers=2", "run.checkpoint_seconds=0"];
    let step_of = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.trim_start_matches("checkpoint-").split('.').next().unwrap().parse::<u64>().unwrap()
    };
    let checkpoints = || find(out.path(), |name| name.starts_with("checkpoint-"));
    let finished = || find(out.path(), |name| name == "record.json").len();
    let moments: [&dyn Fn() -> bool; 6] = [
        // Of the first run: its folder has just been made; at its first step; half-way.
        &|| out.path().join("runs").is_dir(),
        &|| checkpoints().iter().any(|path| step_of(path) >= 1),
        &|| checkpoints().iter().any(|path| step_of(path) >= PRETRAINING_STEPS / 2),
        // In the middle of a write; between runs; with several under way.
        &|| !find(out.path(), |name| name.ends_with(".partial")).is_empty(),
        &|| finished() >= 1,
        &|| finished() >= 2,
    ];
    let mut kills = 0;
    for (i, moment) in moments.iter().enumerate() {
        let mut process = set(&mut fig5(out.path()), &often)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        if wait_until(&mut process, moment) {
            std::thread::sleep(Duration::from_millis(7 * i as u64));
            process.kill().unwrap();
        }
        kills += u32::from(!process.wait().unwrap().success());
    }
    assert!(kills >= 4, "the process was only killed {kills} times");
    must_succeed(&mut fig5(out.path()));
    reference().1.assert_same(&Figure::of(out.path()));
    for leftover in [".partial", ".tmp"] {
        let left: Vec<_> = files(out.path()).into_keys().collect();
        assert!(!left.iter().any(|path| path.to_string_lossy().ends_with(leftover)), "{left:?}");
    }
    // Only the pretraining's last checkpoints are kept, for a model that turns out damaged.
    assert!(checkpoints().iter().all(|path| step_of(path) + 1 >= PRETRAINING_STEPS));
}

#[test]
fn interrupted_it_writes_checkpoints_and_says_so() {
    // What is not Ctrl-C may come twice: to a group of processes, and passed on by one of them.
    for names in [&["INT"][..], &["TERM", "TERM"], &["USR1", "TERM", "HUP"]] {
        let out = tempfile::tempdir().unwrap();
        let mut process = set(&mut fig5(out.path()), &["run.checkpoint_seconds=0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let steps = || find(out.path(), |name| name.starts_with("checkpoint-"));
        assert!(wait_until(&mut process, || !steps().is_empty()));
        names.iter().for_each(|name| signal(&process, name));
        let output = process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{names:?}: {}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains("continues from the last checkpoint"), "{names:?}: {said}");
        assert_eq!(said.matches("writing checkpoints").count(), 1, "{names:?}: {said}");

        let output = must_succeed(&mut fig5(out.path()));
        assert!(stderr(&output).contains("nano-tiny: continues from step "), "{}", stderr(&output));
        reference().1.assert_same(&Figure::of(out.path()));
    }
}

/// Waits until a process catches SIGINT, which on a busy machine takes it a second to come to.
fn wait_for_signal_handlers(process: &Child) {
    const SIGINT: u32 = 2;
    if !cfg!(target_os = "linux") {
        return std::thread::sleep(Duration::from_secs(2));
    }
    let status = format!("/proc/{}/status", process.id());
    let catches = |status: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (SIGINT - 1) != 0
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !catches(&std::fs::read_to_string(&status).unwrap()) {
        assert!(Instant::now() < deadline, "SIGINT is not caught");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn interrupted_before_any_run_it_ends_at_once() {
    for name in ["INT", "TERM", "USR1"] {
        let out = tempfile::tempdir().unwrap();
        let settings = ["data.pretrain_tokens=20000000", "data.injection_tokens=2000000"];
        let mut process = set(&mut fig5(out.path()), &settings).spawn().unwrap();
        wait_for_signal_handlers(&process);
        signal(&process, name);
        let begun = Instant::now();
        assert_eq!(process.wait().unwrap().code(), Some(130), "{name}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{name}: {:?}", begun.elapsed());
        assert!(find(out.path(), |name| name == "spec.json").is_empty());
    }
}

#[test]
fn two_processes_share_the_work() {
    let out = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = fig5(out.path());
        command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let outputs = [start(), start()].map(|process| process.wait_with_output().unwrap());
    for output in &outputs {
        assert!(output.status.success(), "{}", stderr(output));
    }
    reference().1.assert_same(&Figure::of(out.path()));
    let manifests = find(out.path(), |name| name == "manifest.json");
    assert_eq!(manifests.len(), RUNS);
    for manifest in manifests {
        let sessions = json(&manifest)["sessions"].as_array().unwrap().len();
        assert_eq!(sessions, 1, "{} was worked on {sessions} times", manifest.display());
    }
}

#[test]
fn a_damaged_model_and_a_damaged_checkpoint_are_named_and_mended() {
    let out = copy_of_reference();
    let model = find(out.path(), |name| name == "model.safetensors").remove(0);
    let newest = find(out.path(), |name| name.starts_with("checkpoint-")).remove(1);
    damage(&model);
    damage(&newest);
    fs::remove_dir_all(&finetunings(out.path())[0]).unwrap();
    let output = must_succeed(&mut fig5(out.path()));
    let said = stderr(&output);
    for path in [&model, &newest] {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let line = said.lines().find(|line| line.contains(&name)).expect(&said);
        assert!(line.contains("damaged"), "{line}");
    }
    let step = PRETRAINING_STEPS - 1;
    assert!(said.contains(&format!("continues from step {step} of {PRETRAINING_STEPS}")), "{said}");
    reference().1.assert_same(&Figure::of(out.path()));

    // A model that is gone, and no checkpoint is whole.
    fs::remove_file(&model).unwrap();
    find(out.path(), |name| name.starts_with("checkpoint-")).iter().for_each(|path| damage(path));
    fs::remove_dir_all(&finetunings(out.path())[0]).unwrap();
    let said = stderr(&must_succeed(&mut fig5(out.path())));
    let name = model.file_name().unwrap().to_string_lossy().into_owned();
    assert!(said.contains(&name) && !said.contains("continues from step"), "{said}");
    reference().1.assert_same(&Figure::of(out.path()));
}

/// As where the process died between the record and the removal.
#[test]
fn checkpoints_of_a_finished_run_go_with_the_next_call() {
    let out = copy_of_reference();
    let finished = &finetunings(out.path())[0];
    let leftover = finished.join("checkpoint-000000000020.0123456789abcdef.safetensors");
    fs::write(&leftover, "left").unwrap();
    must_succeed(&mut fig5(out.path()));
    assert!(!leftover.exists());
    reference().1.assert_same(&Figure::of(out.path()));
}

#[test]
fn a_truncated_record_is_named() {
    let out = copy_of_reference();
    let records = find(out.path(), |name| name == "record.json");
    let bytes = fs::read(&records[0]).unwrap();
    fs::write(&records[0], &bytes[..bytes.len() / 2]).unwrap();
    let output = fig5(out.path()).output().unwrap();
    let line = complaint(&output);
    assert!(line.contains(records[0].to_str().unwrap()) && line.contains("remove"), "{line}");
    fs::remove_file(&records[0]).unwrap();
    must_succeed(&mut fig5(out.path()));
    reference().1.assert_same(&Figure::of(out.path()));
}

/// A limit on the size of files makes the write of a checkpoint fail half-way, as a full disk
/// does.
#[test]
fn a_write_that_fails_loses_nothing_that_is_finished() {
    let out = copy_of_reference();
    fs::remove_dir_all(&finetunings(out.path())[0]).unwrap();
    fs::remove_dir_all(&finetunings(out.path())[1]).unwrap();
    let before = files(&out.path().join("runs"));
    let unlimited = fig5(out.path());
    let mut limited = Command::new("sh");
    // Units of 512 bytes: less than a checkpoint's 400 KB, more than any other file.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 600; exec \"$0\" \"$@\""]);
    limited.arg(unlimited.get_program()).args(unlimited.get_args());
    let output = set(&mut limited, &["run.workers=2"]).output().unwrap();
    let line = complaint(&output);
    assert!(line.contains("checkpoint-") && line.contains("os error"), "{line}");
    let after = files(&out.path().join("runs"));
    assert!(before.iter().all(|(path, content)| after.get(path) == Some(content)));
    assert!(!after.keys().any(|path| path.to_string_lossy().ends_with(".partial")));
    must_succeed(&mut fig5(out.path()));
    reference().1.assert_same(&Figure::of(out.path()));
}

/// Where the log lies on the full disk, the runs still go on.
#[test]
#[cfg(target_os = "linux")]
fn a_log_that_cannot_be_written_stops_nothing() {
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let out = copy_of_reference();
    fs::remove_dir_all(&finetunings(out.path())[0]).unwrap();
    must_succeed(fig5(out.path()).stderr(full()));
    reference().1.assert_same(&Figure::of(out.path()));
    let output = fig5(out.path()).stdout(full()).stderr(Stdio::piped()).output().unwrap();
    assert!(complaint(&output).contains("standard output"));
}

#[test]
fn a_dry_run_says_what_it_would_cost_and_writes_nothing() {
    for (preset, runs) in [("nano", None), ("mini", None), ("paper", Some(5 + 5 * 5 * 5))] {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_replication"))
            .args(["fig5", "--preset", preset, "--dry-run", "--device", "cpu"])
            .args(["--set", "run.device_memory=80GB"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{preset}: {}", stderr(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        for part in ["tokens", "FLOPs", "hours", " 0 done", "memory: at most ", " of 80.000"] {
            assert!(said.contains(part), "{preset}: {said}");
        }
        if let Some(runs) = runs {
            assert!(said.contains(&format!("\n{runs} runs, ")), "{said}");
            assert_eq!(said.lines().filter(|line| line.ends_with(" no")).count(), runs);
        }
        assert!(files(folder.path()).is_empty(), "{preset} wrote something");
    }
    // What the run refuses, it refuses.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    for arguments in [&[][..], &["--dry-run"]] {
        let output = fig5(&file.join("out")).args(arguments).output().unwrap();
        assert!(complaint(&output).contains("--out = "), "{arguments:?}");
        if cfg!(target_os = "linux") {
            let output = fig5(Path::new("/proc/nowhere")).args(arguments).output().unwrap();
            assert!(complaint(&output).contains("--out = /proc/nowhere"), "{arguments:?}");
        }
        let call = ["--ranks", "2", "--workers-per-device", "2"];
        let output = fig5(folder.path()).args(call).args(arguments).output().unwrap();
        assert!(complaint(&output).contains("--workers-per-device = 2"), "{arguments:?}");
    }
    let text = folder.path().join("few.jsonl");
    std::fs::write(&text, r#"{"text": "Once upon a time."}"#).unwrap();
    let [run, dry] = [&[][..], &["--dry-run"]].map(|arguments| {
        let mut call = fig5(&folder.path().join("out"));
        complaint(&call.arg("--target").arg(&text).args(arguments).output().unwrap())
    });
    assert!(run.contains("(few.jsonl): the validation part: "), "{run}");
    assert_eq!(run, dry);
    let said = must_succeed(fig5(reference().0.path()).arg("--dry-run")).stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains(&format!("\n{RUNS} runs, {RUNS} done; 0.000e0 FLOPs")), "{said}");
}

/// Sentences of a small grammar: the i-th work has words of its own.
fn work(kind: &str, i: usize, sentences: usize) -> String {
    let words = ["ground", "river", "stone", "market", "letter", "winter", "paper", "garden"];
    let verbs = ["holds", "leaves", "finds", "carries", "follows"];
    let mut state = i as u64 + 1;
    let mut pick = |list: &[&str]| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        list[(state >> 33) as usize % list.len()].to_string()
    };
    let sentence =
        |_| format!("The {kind} {} {} a {}{i}. ", pick(&words), pick(&verbs), pick(&words));
    (0..sentences).map(sentence).collect()
}

/// Lines with a text and the work that it is a piece of.
fn json_lines(kind: &str, works: std::ops::Range<usize>) -> String {
    let line = |i: usize, piece: usize| {
        let text = work(kind, 10 * i + piece, 12);
        serde_json::json!({ "text": text, "source": format!("{kind} {i}") }).to_string() + "\n"
    };
    works.flat_map(|i| (0..3).map(move |piece| line(i, piece))).collect()
}

#[test]
fn real_text_takes_the_same_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.jsonl"), json_lines("old", 0..30)).unwrap();
    fs::write(path("b.jsonl"), json_lines("old", 30..60)).unwrap();
    fs::write(path("domain.jsonl"), json_lines("new", 0..30)).unwrap();
    assert!(Command::new("gzip").arg("-k").arg(path("b.jsonl")).status().unwrap().success());
    let out = path("out");
    let run = |second: &str| {
        let mut command = fig5(&out);
        command.arg("--pretrain").args([path("a.jsonl"), path(second)]);
        command.arg("--target").arg(path("domain.jsonl")).args(["--group", "source"]);
        command
    };
    must_succeed(&mut run("b.jsonl.gz"));
    let figure = Figure::of(&out);
    assert_eq!(column(figure.table("runs.csv"), "size").len(), RUNS - 1);
    let summary = fs::read_to_string(out.join("fig5/summary.md")).unwrap();
    assert!(summary.contains("a.jsonl, b.jsonl.gz") && summary.contains("domain.jsonl"));
    // The same text, not packed, is the same source.
    let before = files(&out.join("runs"));
    must_succeed(&mut run("b.jsonl"));
    assert!(files(&out.join("runs")) == before, "a finished run was repeated");
    figure.assert_same(&Figure::of(&out));
    // With a run's own tokenizer given, the losses stay and the runs are others.
    let tokenizer = find(&out, |name| name == "tokenizer.json").remove(0);
    fs::copy(tokenizer, path("given.json")).unwrap();
    must_succeed(run("b.jsonl").arg("--tokenizer").arg(path("given.json")));
    let given = Figure::of(&out);
    assert_eq!(given.table("fig5.csv"), figure.table("fig5.csv"));
    assert_ne!(given.table("runs.csv"), figure.table("runs.csv"));
}

/// A call that is refused: its arguments, and what the complaint must name.
type Refusal<'a> = (&'a [&'a str], &'a [&'a str]);

/// What the preset of GPUs is refused for: first of all a program that cannot carry it out.
const PAPER_NEEDS: &[&str] = if cfg!(feature = "torch") {
    &["--pretrain", "text files"]
} else {
    &["model.precision = bf16", "--features torch"]
};

const CUDA_NEEDS: &str = if cfg!(feature = "torch") { "CUDA device" } else { "--features torch" };

/// Each is refused in exactly one line, before anything is written.
#[track_caller]
fn assert_refused(refusals: &[Refusal<'_>]) {
    for (arguments, named) in refusals {
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().join("out");
        let output = fig5_anywhere(&folder).args(*arguments).output().unwrap();
        let line = complaint(&output);
        assert_eq!(stderr(&output).lines().count(), 1, "{arguments:?}: {}", stderr(&output));
        assert_eq!(output.stdout, b"", "{arguments:?}");
        for part in *named {
            assert!(line.contains(part), "{arguments:?} should name {part}: {line}");
        }
        assert!(find(&folder, |_| true).is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_command_line_that_is_none_is_refused() {
    let refusals: &[Refusal<'_>] = &[
        (&[], &["no command or figure", "fig5"]),
        (&["fig99"], &["fig99", "the commands are fig1", "fig5"]),
        (&["fig5", "fig5"], &["fig5", "--help"]),
        (&["fig5", "--prest", "nano"], &["--prest", "--help"]),
        (&["fig5", "--out"], &["--out", "--help"]),
        (&["fig5", "--preset", "huge"], &["huge", "nano, micro, mini, paper"]),
        (&["fig5", "--preset", "paper"], PAPER_NEEDS),
        (&["fig5", "--set", "a\nb=1"], &["a b", "nearest"]),
    ];
    for (arguments, named) in refusals {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_replication"))
            .args(*arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let line = complaint(&output);
        assert_eq!(stderr(&output).lines().count(), 1, "{arguments:?}: {}", stderr(&output));
        for part in *named {
            assert!(line.contains(part), "{arguments:?} should name {part}: {line}");
        }
        assert!(files(folder.path()).is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_bad_setting_is_refused_by_its_name() {
    assert_refused(&[
        (&["--device", "tpu"], &["device = tpu", "auto, cpu, cuda"]),
        (&["--device", "cuda:99"], &["device = cuda:99", CUDA_NEEDS]),
        (&["--set", "finetuning.warmup_step=7"], &["nearest is finetuning.warmup_steps"]),
        (&["--set", "seed=many"], &["seed = many", "integer"]),
        (&["--set", "seed=-1"], &["seed = -1"]),
        (&["--set", "grid.fig5.sizes=huge"], &["grid.fig5.sizes = huge", "nano-tiny"]),
        (&["--set", "grid.fig5.p=[0.0, 1.5]"], &["grid.fig5.p", "1.5", "between 0 and 1"]),
        (&["--set", "grid.fig5.p=nan"], &["grid.fig5.p", "NaN", "between 0 and 1"]),
        (&["--set", "grid.fig5.p=[0.5, 0.5]"], &["grid.fig5.p", "0.5", "once"]),
        (&["--set", "grid.fig5.lr_ratios=1/0"], &["grid.fig5.lr_ratios", "1/0", "ratio above 0"]),
        (&["--set", "grid.fig5.d_ft_tokens=0"], &["grid.fig5.d_ft_tokens = 0", "16 tokens"]),
        (&["--set", "grid.fig5.d_ft_tokens=15"], &["grid.fig5.d_ft_tokens = 15", "16 tokens"]),
        (&["--set", "data.validation_tokens=8"], &["data.validation_tokens = 8", "16 tokens"]),
        (&["--set", "model.vocab=256"], &["model.vocab = 256", "from 257"]),
        (&["--set", "model.context=0"], &["model.context = 0", "from 1"]),
        (&["--set", "finetuning.batch=0"], &["finetuning.batch = 0", "from 1"]),
        (&["--set", "run.threads=-3"], &["run.threads = -3", "from 1"]),
        // More injection than is reserved is noticed before the pretraining, not after it.
        (
            &["--set", "grid.fig5.p=[1.0]", "--set", "data.injection_tokens=320"],
            &["reserved for injection", "1280", "320", "data.injection_tokens", "replay_tokens"],
        ),
        (
            &["--set", "grid.fig5.p=[0.5]", "--set", "grid.fig5.replay_tokens=4000"],
            &["replay pool", "4000", "2000", "replay_tokens"],
        ),
    ]);
}

#[test]
fn a_pretraining_that_diverges_is_named() {
    let out = tempfile::tempdir().unwrap();
    let output = set(&mut fig5(out.path()), &["sizes.nano-tiny.peak_lr=1e30"]).output().unwrap();
    let line = complaint(&output);
    for part in ["nano-tiny", "peak_lr", "not finite", "lower the learning rate"] {
        assert!(line.contains(part), "{line}");
    }
    // It is a result, and said again.
    assert_eq!(find(out.path(), |name| name == "record.json").len(), 1);
    let output = set(&mut fig5(out.path()), &["sizes.nano-tiny.peak_lr=1e30"]).output().unwrap();
    assert_eq!(complaint(&output), line);
}

/// A finetuning that diverges is a result: 1/30 is the paper's claim since larger ratios may not
/// be stable.
#[test]
fn a_finetuning_that_diverges_is_a_result() {
    let out = copy_of_reference();
    let mut command = fig5(out.path());
    set(&mut command, &["grid.fig5.p=0.0", "grid.fig5.lr_ratios=1/30,1e8"]);
    must_succeed(&mut command);
    let figure = Figure::of(out.path());
    assert_eq!(column(figure.table("runs.csv"), "stable"), ["true", "false"]);
    let losses = column(figure.table("fig5.csv"), "loss_ft_val");
    let finite = |loss: &str| loss.is_empty() || loss.parse::<f64>().unwrap().is_finite();
    assert!(losses.contains(&"") && losses.into_iter().all(finite));
    // And is read back as it was written.
    must_succeed(&mut command);
    figure.assert_same(&Figure::of(out.path()));
}

#[test]
fn bad_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_string()
    };
    let good = file("good.jsonl", json_lines("old", 0..30).as_bytes());
    let missing = folder.path().join("missing.txt").to_str().unwrap().to_string();
    let empty = file("empty.txt", b"");
    let blank = file("blank.jsonl", b"\n \n");
    let latin = file("latin.txt", b"caf\xe9 au lait");
    let broken = file("broken.jsonl", b"{\"text\": \"one\"}\n{\"text\": \n{\"text\": \"two\"}\n");
    let no_text = file("other.jsonl", b"{\"text\": \"one\"}\n\n{\"body\": \"two\"}\n");
    let number = file("number.jsonl", b"{\"text\": 3}\n");
    let kind = file("table.csv", b"a,b\n");
    let packed = file("packed.txt.gz", b"\x1f\x8b not really");
    let tiny = file("tiny.txt", b"Too little text to split into anything.");
    let not_a_tokenizer = file("tokenizer.json", b"{\"model\": 3}\n\n");
    let nothing = folder.path().join("nothing");
    fs::create_dir(&nothing).unwrap();
    let nothing = nothing.to_str().unwrap().to_string();
    assert_refused(&[
        (&["--pretrain", &missing], &["missing.txt", "No such file"]),
        (&["--pretrain", &good, &missing], &["missing.txt", "No such file"]),
        (&["--target", &empty], &["empty.txt", "empty"]),
        (&["--pretrain", &blank], &["blank.jsonl", "no text"]),
        (&["--pretrain", &latin], &["latin.txt", "line 1", "byte 3", "not UTF-8"]),
        (&["--target", &broken], &["broken.jsonl, line 2"]),
        (&["--target", &no_text], &["other.jsonl, line 3", "text"]),
        (&["--target", &number], &["number.jsonl, line 1", "text"]),
        (&["--pretrain", &kind], &["table.csv", ".jsonl"]),
        (&["--pretrain", &packed], &["packed.txt.gz", "gzip"]),
        (&["--pretrain", &nothing], &["nothing", "folder", ".txt"]),
        (&["--target", &good, "--group", "author"], &["good.jsonl, line 1", "author"]),
        (&["--target", &good, "--set", "data.text_field=body"], &["good.jsonl, line 1", "body"]),
        (&["--tokenizer", &not_a_tokenizer], &["tokenizer.json", "not a tokenizer"]),
        (&["--tokenizer", &missing], &["missing.txt", "No such file"]),
        (&["--target", &tiny], &["validation", "1024", "more text"]),
        (
            &["--target", &good, "--set", "grid.fig5.d_ft_tokens=1000000"],
            &["target", "1000000", "d_ft_tokens"],
        ),
    ]);
}

#[test]
fn an_out_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "here").unwrap();
    for out in [file.clone(), file.join("below")] {
        let line = complaint(&fig5(&out).output().unwrap());
        assert!(line.contains("--out") && line.contains(out.to_str().unwrap()), "{line}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"here");
}

/// `replication data prepare` makes a store, verifies it, keeps what is there, and names what is
/// damaged.
#[test]
fn a_token_store_is_made_kept_and_verified() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let line = |i: u32| format!("{{\"text\": \"document {i} of some words\"}}\n");
    fs::write(path("a.jsonl"), (0..50).map(line).collect::<String>()).unwrap();
    let data = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_replication"));
        let output = command.arg("data").args(arguments).current_dir(&folder);
        output.stdin(Stdio::null()).output().unwrap()
    };
    let said = |output: &Output| {
        assert!(output.status.success(), "{}", stderr(output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let made = ["prepare", "--data", "a.jsonl", "--vocab", "300", "--out", "store"];
    let first = said(&data(&made));
    assert!(first.starts_with("50 documents, ") && first.contains("store: store"), "{first}");
    let shard = || {
        let files = fs::read_dir(path("store")).unwrap().map(|file| file.unwrap().path());
        let mut shards = files.filter(|file| file.extension().is_some_and(|end| end == "tokens"));
        shards.next().unwrap()
    };
    let written = fs::metadata(shard()).unwrap().modified().unwrap();
    let given =
        ["prepare", "--data", "a.jsonl", "--tokenizer", "store/tokenizer.json", "--out", "store"];
    assert_eq!(said(&data(&given)), first);
    assert_eq!(fs::metadata(shard()).unwrap().modified().unwrap(), written);
    assert!(said(&data(&["verify", "store"])).contains("1 shards, 50 documents"));

    let other = ["prepare", "--data", "a.jsonl", "--vocab", "258", "--out", "store"];
    assert!(complaint(&data(&other)).contains("another source or tokenizer"));
    let mut bytes = fs::read(shard()).unwrap();
    bytes[200] ^= 1;
    fs::write(shard(), &bytes).unwrap();
    let name = shard().file_name().unwrap().to_string_lossy().into_owned();
    let refused = complaint(&data(&["verify", "store"]));
    assert!(refused.contains(&name) && refused.contains("damaged"), "{refused}");
    fs::write(shard(), &bytes[..bytes.len() - 1]).unwrap();
    assert!(complaint(&data(&made)).contains(&name));
    fs::remove_file(shard()).unwrap();
    assert_eq!(said(&data(&made)), first);
    assert!(said(&data(&["verify", "store"])).contains("all unchanged"));
    assert!(complaint(&data(&["verify", "a.jsonl"])).contains("a.jsonl"));
    assert!(complaint(&data(&["verify", "."])).contains("not finished"));
    assert!(
        complaint(&data(&["prepare", "--data", "a.jsonl", "--out", "store"]))
            .contains("--tokenizer")
    );
}
