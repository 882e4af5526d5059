//! Both engines from the command line: the CPU's makes the same bits however it is called, each has
//! runs of its own, and what only libtorch does is refused with what to do.

#![cfg(unix)]

mod common;

use common::{TINY, must_succeed, stderr};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One pretraining and two finetunings, less than a second of work.
const SETTINGS: [&str; 9] = [
    "sizes.nano-tiny.batch=4",
    "sizes.nano-tiny.peak_lr=1e-3",
    "grid.main.tokens_per_param=0.1",
    "grid.fig5.d_ft_tokens=320",
    "grid.fig5.steps=20",
    "finetuning.batch=4",
    "grid.fig5.sizes=nano-tiny",
    "grid.fig5.p=[0.0,0.5]",
    "grid.fig5.lr_ratios=1/3",
];

fn fig5(out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replication"));
    command.args(["fig5", "--out"]).arg(out).stdin(Stdio::null());
    for setting in TINY.iter().chain(&SETTINGS) {
        command.args(["--set", setting]);
    }
    command.args(more);
    command
}

fn on_the_cpus_engine(out: &Path, more: &[&str]) -> [Vec<u8>; 2] {
    must_succeed(&mut fig5(out, &[&["--engine", "cpu"], more].concat()));
    ["fig5.csv", "runs.csv"].map(|name| fs::read(out.join("fig5").join(name)).unwrap())
}

/// The folders of the runs, each named by its identity.
fn runs(out: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(out.join("runs")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.join("record.json").exists()).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The one line in which a call is refused.
fn refusal(more: &[&str]) -> String {
    let out = tempfile::tempdir().unwrap();
    let output = fig5(out.path(), more).output().unwrap();
    let said = stderr(&output);
    assert!(!output.status.success() && said.lines().count() == 1, "{said}");
    said
}

#[test]
fn the_cpus_engine_makes_the_same_bits_however_it_is_called() {
    let [a, b] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let one = on_the_cpus_engine(a.path(), &["--set", "run.workers=1"]);
    let other = ["run.workers=2", "run.threads=3", "run.micro_batch=1", "run.checkpoint_seconds=0"];
    let other: Vec<&str> = other.iter().flat_map(|setting| ["--set", setting]).collect();
    assert!(on_the_cpus_engine(b.path(), &other) == one);
    let made = runs(a.path());
    assert_eq!(made.len(), 3);
    for folder in &made {
        assert_eq!(json(&folder.join("spec.json"))["engine"], "cpu");
        let machine = &json(&folder.join("manifest.json"))["machine"];
        assert_eq!((&machine["engine"], &machine["device"]), (&"cpu".into(), &"cpu".into()));
    }
}

/// Both engines in one folder: neither takes the other's runs for its own. They end within rounding
/// of each other, since the learning rate is low: at one ten times as high, two kernels of libtorch
/// end 0.01 nats apart.
#[cfg(feature = "torch")]
#[test]
fn each_engine_has_runs_of_its_own() {
    let out = tempfile::tempdir().unwrap();
    let _ = on_the_cpus_engine(out.path(), &[]);
    let of_cpu = runs(out.path());
    must_succeed(&mut fig5(out.path(), &["--engine", "torch", "--device", "cpu"]));
    let both = runs(out.path());
    assert_eq!((of_cpu.len(), both.len()), (3, 6));
    let loss = |folder: &PathBuf| {
        let record = json(&folder.join("record.json"));
        let last = record["evaluations"].as_array().unwrap().last().unwrap().clone();
        last["loss_pt"].as_f64().unwrap()
    };
    let label = |folder: &PathBuf| json(&folder.join("manifest.json"))["label"].clone();
    for folder in both.difference(&of_cpu) {
        let spec = json(&folder.join("spec.json"));
        assert_eq!(spec.get("engine"), None, "libtorch's keep their identities");
        let same = of_cpu.iter().find(|other| label(other) == label(folder)).unwrap();
        assert!((loss(folder) - loss(same)).abs() < 1e-4, "{} {}", loss(folder), loss(same));
    }
}

#[cfg(feature = "torch")]
#[test]
fn both_engines_read_and_write_alike() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/checkpoint/nano-small");
    let call = |command: &str, engine: &str, more: &[&str]| {
        let mut call = Command::new(env!("CARGO_BIN_EXE_replication"));
        call.arg(command).arg(&model).args(["--engine", engine, "--device", "cpu"]).args(more);
        String::from_utf8(must_succeed(&mut call).stdout).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    fs::write(&text, "One sentence after another, and a few words more than a window. ".repeat(40))
        .unwrap();
    let loss = |engine: &str| {
        let out = folder.path().join(engine);
        let (data, json_file) = (text.to_str().unwrap(), out.to_str().unwrap());
        let _ = call("eval", engine, &["--data", data, "--json", json_file]);
        let measured = json(&out);
        (measured["loss"].as_f64().unwrap(), measured["tokens"].as_u64().unwrap())
    };
    let ((a, a_tokens), (b, b_tokens)) = (loss("cpu"), loss("torch"));
    assert_eq!(a_tokens, b_tokens);
    assert!((a - b).abs() < 1e-5, "{a} and {b}");
    let greedy = ["--prompt", "One ", "--tokens", "20", "--temperature", "0"];
    assert_eq!(call("sample", "cpu", &greedy), call("sample", "torch", &greedy));
}

#[test]
fn what_only_libtorch_does_is_refused_with_what_to_do() {
    let remedy = if cfg!(feature = "torch") {
        "use --engine torch"
    } else {
        "cargo run -p replication --features torch"
    };
    for more in [
        ["--engine", "cpu", "--device", "cuda"],
        ["--engine", "cpu", "--set", "model.precision=bf16"],
        ["--engine", "cpu", "--ranks", "2"],
    ] {
        let said = refusal(&more);
        assert!(said.contains("needs libtorch") && said.contains(remedy), "{said}");
    }
    if !cfg!(feature = "torch") {
        let said = refusal(&["--engine", "torch"]);
        assert!(said.contains("run.engine = torch") && said.contains(remedy), "{said}");
    }
    let said = refusal(&["--engine", "gpu"]);
    assert!(said.contains("gpu") && said.contains("auto, cpu, torch"), "{said}");
}
