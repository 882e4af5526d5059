//! Models as users of the command line meet them: measured, sampled, finetuned in the place of one's
//! own pretraining. The model is the one in `golden/checkpoint/nano-small`.

#![cfg(unix)]

mod common;

use common::{must_succeed, stderr};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/checkpoint/nano-small")
}

fn replication(arguments: &[&str]) -> Command {
    let mut call = Command::new(env!("CARGO_BIN_EXE_replication"));
    call.args(arguments);
    call
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line that says why it failed.
fn refusal(call: &mut Command) -> String {
    let output = call.output().unwrap();
    assert!(!output.status.success());
    let said = stderr(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_model_is_measured_on_any_text() {
    let folder = tempfile::tempdir().unwrap();
    let texts = ["rik taid faik", "one two three four five six seven", "x"];
    let line = |text: &&str| format!("{{\"text\": \"{text}\"}}\n");
    let data = folder.path().join("texts.jsonl");
    fs::write(&data, texts.iter().map(line).collect::<String>()).unwrap();
    let out = folder.path().join("losses.json");
    let mut call = replication(&["eval"]);
    call.arg(model()).arg("--data").arg(&data).arg("--json").arg(&out).arg("--per-document");
    let said = stdout(&must_succeed(&mut call));
    let found = json(&out);
    let documents = found["documents"].as_array().unwrap();
    assert_eq!(documents.len(), 3);
    // Token-weighted: the documents' losses with their numbers of tokens give the whole.
    let of = |field: &str| -> Vec<f64> {
        documents.iter().map(|document| document[field].as_f64().unwrap_or(0.0)).collect()
    };
    let (losses, tokens) = (of("loss"), of("tokens"));
    let total: f64 = tokens.iter().sum();
    let mean = losses.iter().zip(&tokens).map(|(l, t)| l * t).sum::<f64>() / total;
    assert!((found["loss"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert_eq!(found["tokens"].as_f64().unwrap(), total);
    assert!(found["stderr"].as_f64().unwrap() > 0.0);
    assert_eq!(found["clusters"], "documents");
    // A document of one token has nothing to predict.
    assert_eq!((documents[2]["tokens"].as_u64(), documents[2]["loss"].is_null()), (Some(0), true));
    assert!(said.contains(&format!("loss {mean:.4}")) && said.contains("3 documents"), "{said}");
    // What it was pretrained on is likelier than English.
    assert!(losses[0] < losses[1], "{losses:?}");

    let mut first = replication(&["eval", "--documents", "1"]);
    first.arg(model()).arg("--data").arg(&data);
    let said = stdout(&must_succeed(&mut first));
    assert!(said.contains(&format!("loss {:.4}", losses[0])), "{said}");
    assert!(said.contains("1 documents"), "{said}");
}

#[test]
fn a_model_writes() {
    let sample = |more: &[&str]| {
        let mut call = replication(&["sample", "--tokens", "30"]);
        stdout(&must_succeed(call.arg(model()).args(more)))
    };
    let text = sample(&["--prompt", "Rik "]);
    assert!(text.starts_with("Rik ") && text.len() > 10, "{text}");
    assert_eq!(sample(&["--prompt", "Rik "]), text);
    assert_ne!(sample(&["--prompt", "Rik ", "--seed", "1"]), text);
    let two = sample(&["--prompt", "Rik ", "--samples", "2"]);
    assert!(two.starts_with(&text) && two.contains("\n---\n"), "{two}");
    assert!(!sample(&[]).is_empty());
}

#[test]
fn what_is_no_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let said = refusal(replication(&["sample"]).arg(&missing));
    assert!(said.contains("missing/config.json"), "{said}");
    let said = refusal(replication(&["sample"]).arg(model().join("config.json")));
    assert!(said.contains("name the folder"), "{said}");
    let said = refusal(replication(&["sample", "--temperature=-1"]).arg(model()));
    assert!(said.contains("temperature = -1"), "{said}");
    let said = refusal(replication(&["eval"]).arg(model()).args(["--data", "/no/such.txt"]));
    assert!(said.contains("/no/such.txt"), "{said}");
}

/// Small runs of a block with a few finetunings.
fn finetune(out: &Path, more: &[&str]) -> Command {
    let mut call = replication(&["run", "--block", "exact", "--device", "cpu"]);
    call.arg("--out").arg(out);
    for setting in [
        "grid.exact.domains=near",
        "grid.exact.p=0.1",
        "grid.exact.samplers=exact",
        "grid.exact.d_ft_tokens=640",
        "grid.exact.steps=12",
        "data.pretrain_tokens=4096",
        "data.injection_tokens=2048",
        "data.validation_tokens=1024",
        "pretrained.peak_lr=7e-3",
    ] {
        call.args(["--set", setting]);
    }
    call.args(more);
    call
}

#[test]
fn a_model_takes_the_place_of_the_pretraining() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let base = format!("base={}", model().display());
    let said = stdout(&must_succeed(&mut finetune(&out, &["--pretrained", &base])));
    assert!(said.contains("2 of 2 runs done"), "{said}");
    let find = |kind: &str| {
        let runs = fs::read_dir(out.join("runs")).unwrap().map(|run| run.unwrap().path());
        let mut of = runs.filter(|run| json(&run.join("spec.json"))["kind"] == kind);
        of.next().unwrap()
    };
    let (import, child) = (find("import"), find("finetune"));
    assert_eq!(
        fs::read(import.join("model.safetensors")).unwrap(),
        fs::read(model().join("model.safetensors")).unwrap()
    );
    // L_pt⁰ is the import's loss and the finetuning's first.
    let loss = |run: &Path| json(&run.join("record.json"))["evaluations"][0]["loss_pt"].clone();
    assert_eq!(loss(&import), loss(&child));
    assert!(!child.join("model.safetensors").exists());
    assert_eq!(json(&child.join("spec.json"))["schedule"]["peak"], 7e-3);

    // Asked for its model, the finetuning is made again, to the same losses.
    let record = fs::read(child.join("record.json")).unwrap();
    let keep = ["--pretrained", &base, "--set", "run.keep_models=true"];
    must_succeed(&mut finetune(&out, &keep));
    let kept = json(&child.join("record.json"));
    let before: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(kept["evaluations"], before["evaluations"]);
    let text = folder.path().join("text.txt");
    fs::write(&text, "rik taid faik lind").unwrap();
    let of = |run: &Path| {
        stdout(&must_succeed(replication(&["eval"]).arg(run).arg("--data").arg(&text)))
    };
    assert_ne!(of(&child), of(&import));
    assert_eq!(of(&model()), of(&import));

    let said = refusal(&mut finetune(&out, &["--pretrained", &base, &base]));
    assert!(said.contains("names two models"), "{said}");
    let long = ["--pretrained", &base, "--set", "model.context=128"];
    let said = refusal(&mut finetune(&out, &long));
    assert!(said.contains("model.context = 128") && said.contains("64"), "{said}");
    let said = refusal(&mut finetune(&out, &["--pretrained", "/no/such"]));
    assert!(said.contains("/no/such/config.json"), "{said}");
}
