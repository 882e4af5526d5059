//! Runs that several processes carry out together.

mod common;

use common::{TINY, must_succeed};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One small model and two finetunings of it.
const SETTINGS: &[&str] = &[
    "sizes.nano-micro.batch=4",
    "finetuning.batch=4",
    "finetuning.evaluate.max_interval=4",
    "grid.main.tokens_per_param=0.2",
    "grid.main.sizes=nano-micro",
    "grid.main.domains=near",
    "grid.main.d_ft_tokens=128",
    "grid.main.p=0.0,0.1",
    "grid.main.steps=16",
];

const LOSSES: [&str; 3] = ["loss_ft", "loss_pt", "loss_train"];

/// What lets it go on until it is ended.
const LONG: [&str; 3] =
    ["grid.main.p=0.0", "grid.main.steps=1000000", "finetuning.stop_when_turned=false"];

fn run(out: &Path, settings: &[&str], ranks: usize) -> Command {
    let mut call = Command::new(env!("CARGO_BIN_EXE_replication"));
    arguments(&mut call, out, settings);
    call.args(["--ranks", &ranks.to_string()]);
    call
}

fn arguments(call: &mut Command, out: &Path, settings: &[&str]) {
    call.args(["run", "--block", "main", "--engine", "torch", "--device", "cpu", "--out"]).arg(out);
    for setting in TINY.iter().chain(SETTINGS).chain(settings) {
        call.args(["--set", setting]);
    }
    call.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The losses of every run, by its identity; those of training tell the order of the samples.
fn losses(out: &Path) -> BTreeMap<String, Vec<f64>> {
    let runs = fs::read_dir(out.join("runs")).unwrap().map(|entry| entry.unwrap().path());
    let of = |run: std::path::PathBuf| {
        let bytes = fs::read(run.join("record.json")).ok()?;
        let record: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let evaluations = record["evaluations"].as_array().unwrap().iter();
        let losses = evaluations.flat_map(|e| LOSSES.map(|name| e[name].as_f64()));
        let name = run.file_name().unwrap().to_str().unwrap().to_string();
        Some((name, losses.flatten().collect()))
    };
    runs.filter_map(of).collect()
}

/// Sums in another order differ by their rounding, which sixteen steps carry on: by at most 2e-4 where
/// this was written.
fn assert_close(a: &Path, b: &Path) {
    let (a, b) = (losses(a), losses(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    assert_eq!(a.len(), 3);
    for (a, b) in a.values().zip(b.values()) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 5e-4, "{a} {b}");
        }
    }
}

/// The step of the newest checkpoint of any run.
fn checkpoint(out: &Path) -> u64 {
    let runs = fs::read_dir(out.join("runs")).into_iter().flatten().flatten();
    let files = runs.filter_map(|run| fs::read_dir(run.path()).ok()).flatten().flatten();
    let step = |file: fs::DirEntry| {
        let name = file.file_name().to_string_lossy().into_owned();
        name.strip_prefix("checkpoint-")?.split(['-', '.']).next()?.parse().ok()
    };
    files.filter_map(step).max().unwrap_or(0)
}

/// Waits until a checkpoint of a later step is there.
fn wait_for_checkpoint(out: &Path, after: u64) {
    let begun = Instant::now();
    while checkpoint(out) <= after {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint after {after}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The processes that this one started.
fn children(parent: &Child) -> Vec<String> {
    let parent = parent.id().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let is_child = |id: &String| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|p| p.trim() == parent))
    };
    let ids = processes.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut ids: Vec<String> = ids.filter(is_child).collect();
    ids.sort_by_key(|id| id.parse::<u64>().unwrap_or(0));
    ids
}

fn signal(name: &str, id: &str) {
    assert!(Command::new("kill").args([name, id]).status().unwrap().success());
}

#[test]
fn ranks_make_the_losses_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    // Of pairs of tokens so many come again that there is something to warn of.
    let settings = ["data.overlap_ngram=2"];
    must_succeed(&mut run(&out("1"), &settings, 1));
    for ranks in [2, 4] {
        let output = must_succeed(&mut run(&out(&ranks.to_string()), &settings, ranks));
        // The first alone answers, and warns.
        assert_eq!(text(&output.stdout), "3 of 3 runs done\n");
        let said = text(&output.stderr);
        assert_eq!(said.matches("losses there may come from memory").count(), 1, "{said}");
        assert_close(&out("1"), &out(&ranks.to_string()));
    }
    let runs = fs::read_dir(out("4").join("runs")).unwrap();
    for run in runs {
        let manifest = fs::read_to_string(run.unwrap().path().join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest["machine"]["ranks"], 4);
    }
    // What is done is not done again, and nobody is left waiting.
    let output = must_succeed(&mut run(&out("1"), &settings, 2));
    assert_eq!(text(&output.stdout), "3 of 3 runs done\n");
}

/// Of instructions the answers alone count: ranks have unequal shares of what does.
#[test]
fn ranks_make_the_losses_of_answers() {
    let folder = tempfile::tempdir().unwrap();
    let [alone, together] = ["alone", "together"].map(|name| folder.path().join(name));
    let answers = ["grid.main.domains=instructions", "data.loss=answer"];
    must_succeed(&mut run(&alone, &answers, 1));
    must_succeed(&mut run(&together, &answers, 3));
    assert_close(&alone, &together);
    let runs = fs::read_dir(together.join("runs")).unwrap().map(|entry| entry.unwrap().path());
    let records = runs.map(|run| fs::read_to_string(run.join("record.json")).unwrap());
    assert_eq!(records.filter(|record| record.contains("\"counted_tokens\"")).count(), 2);
}

/// A rank that is killed ends the others, each with a line; the run goes on from its checkpoint, on
/// another number of ranks, and a stop is heard by all.
#[test]
fn a_killed_rank_ends_the_others_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let often = [&LONG[..], &["run.checkpoint_seconds=0"]].concat();
    let call = run(folder.path(), &often, 3).spawn().unwrap();
    // Of the pretraining there are none beyond step 35.
    wait_for_checkpoint(folder.path(), 40);
    let ids = children(&call);
    assert_eq!(ids.len(), 3);
    let begun = Instant::now();
    signal("-KILL", &ids[2]);
    let output = call.wait_with_output().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    for rank in ["rank 0 of 3: ", "rank 1 of 3: "] {
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(rank)).collect();
        assert_eq!(lines.len(), 1, "{said}");
        assert!(lines[0].contains("another rank ended or did not answer in time"), "{said}");
        assert!(
            lines[0].ends_with("the same command continues from the last checkpoint"),
            "{said}"
        );
    }
    assert!(said.contains("rank 2 was ended by signal 9"), "{said}");
    assert!(!said.contains("frame #"), "{said}");

    let reached = checkpoint(folder.path());
    let call = run(folder.path(), &often, 2).spawn().unwrap();
    wait_for_checkpoint(folder.path(), reached);
    signal("-TERM", &call.id().to_string());
    let output = call.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("continues from step"), "{said}");
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert_eq!(said.matches("interrupted; the same command continues").count(), 1, "{said}");
}

#[test]
fn what_does_not_fit_together_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let said = |call: &mut Command| {
        let output = call.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    // Before a rank is started.
    let line = said(&mut run(folder.path(), &["grid.main.stepss=3"], 2));
    assert!(line.lines().count() == 1 && line.contains("stepss"), "{line}");
    let lines = said(run(folder.path(), &[], 2).env("GLOO_SOCKET_IFNAME", "none0"));
    assert!(lines.lines().count() == 2, "{lines}");
    assert_eq!(lines.matches("Unable to find address for: none0").count(), 2, "{lines}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let rank = |rank: &str, world: &str, ranks: usize| {
        let mut call = run(folder.path(), &[], ranks);
        call.args(["--rank-timeout", "3"]).envs([("RANK", rank), ("WORLD_SIZE", world)]);
        call.envs([("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port.to_string())]);
        call
    };
    let line = said(&mut rank("2", "2", 1));
    assert_eq!(line, "replication: RANK = 2: must be below WORLD_SIZE=2\n");
    let line = said(&mut rank("1", "2", 3));
    assert!(line.contains("--ranks = 3: contradicts the WORLD_SIZE of 2"), "{line}");
    // Who is waited for is said while there is time to end it.
    let waiting = |rank: &str, lines: &str| {
        let (first, rest) = lines.split_once('\n').unwrap();
        let start = format!(
            "RANK={rank} and WORLD_SIZE=2: waiting for 1 other rank at 127.0.0.1:{port}, 1 of 3 s; \
             to run alone, unset RANK and WORLD_SIZE"
        );
        assert_eq!(first, start);
        rest.to_string()
    };
    let line = waiting("1", &said(&mut rank("1", "2", 1)));
    assert!(line.lines().count() == 1, "{line}");
    assert!(line.contains("rank 1 found no rank 0 at MASTER_ADDR=127.0.0.1"), "{line}");
    let line = waiting("0", &said(&mut rank("0", "2", 1)));
    assert_eq!(
        line,
        "replication: 1 of 2 ranks connected within 3 s: were all started, with the same WORLD_SIZE?\n"
    );
}

/// FORGETTING_LAWS_PYTHON names a Python whose folder has a torchrun.
#[test]
fn torchrun_starts_the_ranks() {
    let python = std::env::var_os("FORGETTING_LAWS_PYTHON").map(std::path::PathBuf::from);
    let torchrun = python.map(|python| python.with_file_name("torchrun"));
    let Some(torchrun) = torchrun.filter(|torchrun| torchrun.exists()) else {
        eprintln!("skipped: FORGETTING_LAWS_PYTHON names no Python with torchrun");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [alone, together] = ["alone", "together"].map(|name| folder.path().join(name));
    must_succeed(&mut run(&alone, &[], 1));
    let mut call = Command::new(torchrun);
    call.args(["--standalone", "--no-python", "--nproc-per-node", "2"]);
    call.arg(env!("CARGO_BIN_EXE_replication"));
    arguments(&mut call, &together, &[]);
    must_succeed(&mut call);
    assert_close(&alone, &together);
}

/// As srun does, with the meeting's place from the script.
#[test]
fn sruns_variables_place_the_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let [alone, together] = ["alone", "together"].map(|name| folder.path().join(name));
    must_succeed(&mut run(&alone, &[], 1));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let rank = |rank: &str| {
        let mut call = run(&together, &[], 1);
        call.envs([("SLURM_PROCID", rank), ("SLURM_LOCALID", rank), ("SLURM_NTASKS", "2")]);
        call.envs([("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port.to_string())]);
        call.spawn().unwrap()
    };
    for child in [rank("0"), rank("1")] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    assert_close(&alone, &together);
}
