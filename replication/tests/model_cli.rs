//! Models as users of the command line meet them: measured, sampled, finetuned in the place of one's
//! own pretraining. The model is the one in `golden/checkpoint/nano-small`.

#![cfg(unix)]

mod common;

use common::{must_succeed, stderr};
use forgetting_laws::checkpoint::Checkpoint;
use forgetting_laws::model::{Activation, Attention, Head, Mlp, Norm, NormKind, Positions, Shape};
use forgetting_laws::rng::Key;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

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
    assert!(said.contains("in 1 document\nend of text: <|endoftext|> "), "{said}");
}

/// Against `transformers`, by `golden/checkpoint/make.py`: losses and bits per byte are of the same
/// tokens, whatever the documents are like.
#[test]
fn bits_per_byte_are_of_what_is_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let all = json(&model().join("../eval.json"));
    let all: Vec<&Value> = all.as_array().unwrap().iter().filter(|one| one["text"] != "").collect();
    let measure = |some: &[&Value]| {
        let data = folder.path().join("texts.jsonl");
        let line = |one: &&Value| format!("{}\n", serde_json::json!({"text": one["text"]}));
        fs::write(&data, some.iter().map(line).collect::<String>()).unwrap();
        let out = folder.path().join("losses.json");
        let mut call = replication(&["eval"]);
        must_succeed(call.arg(model()).arg("--data").arg(&data).arg("--json").arg(&out));
        let found = json(&out);
        let sum = |field: &str| some.iter().map(|one| one[field].as_f64().unwrap()).sum::<f64>();
        let expected = sum("nats") / std::f64::consts::LN_2 / sum("bytes");
        let found_bits = found["bits_per_byte"].as_f64().unwrap();
        assert!((found_bits / expected - 1.0).abs() < 1e-5, "{found_bits}, {expected}");
        for (document, one) in found["documents"].as_array().unwrap().iter().zip(some) {
            assert_eq!((&document["tokens"], &document["bytes"]), (&one["tokens"], &one["bytes"]));
            let nats = document["loss"].as_f64().unwrap_or(0.0) * one["tokens"].as_f64().unwrap();
            assert!((nats - one["nats"].as_f64().unwrap()).abs() < 1e-3, "{document}, {one}");
        }
    };
    measure(&all);
    // Documents of one token have nothing to predict, however many there are.
    let one = all.iter().find(|one| one["text"] == "a").unwrap();
    measure(&[&[all[1]], &vec![*one; 300][..]].concat());
    // A window's end and a mask change neither.
    let text = ["rik", " taid", " faik"].map(|word| word.repeat(30));
    let chat = serde_json::json!({"conversations": [
        {"from": "human", "value": text[0]}, {"from": "gpt", "value": text[1]},
        {"from": "human", "value": text[2]}, {"from": "gpt", "value": "é 汉字"}]});
    let data = folder.path().join("chats.jsonl");
    fs::write(&data, format!("{chat}\n")).unwrap();
    let out = folder.path().join("chats.json");
    let mut call = replication(&["eval", "--like", "openhermes-2.5", "--loss", "answer"]);
    must_succeed(call.arg(model()).arg("--data").arg(&data).arg("--json").arg(&out));
    let found = json(&out);
    // An answer counts from behind [/INST] to the end of its line, and no token lies across.
    let answers: usize =
        [&text[1], "é 汉字"].map(|text| format!(" {}\n", text.trim()).len()).iter().sum();
    assert_eq!(found["documents"][0]["bytes"].as_u64(), Some(answers as u64), "{found}");
}

/// As of old checkpoints on the Hub: no tokenizer.json, a token for padding that the model has no row
/// for, weights as a wrapper names them.
#[test]
fn models_of_older_forms_are_measured_alike() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    fs::write(&text, "rik taid faik lind é [PAD]").unwrap();
    let eval = |model: &Path| {
        stdout(&must_succeed(replication(&["eval"]).arg(model).arg("--data").arg(&text)))
    };
    let copy = |name: &str, tokenizer: &Value| {
        let to = folder.path().join(name);
        fs::create_dir(&to).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(model().join(file), to.join(file)).unwrap();
        }
        fs::write(to.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        to
    };
    let mut tokenizer = json(&model().join("tokenizer.json"));
    let old = copy("old", &tokenizer);
    fs::remove_file(old.join("tokenizer.json")).unwrap();
    fs::write(old.join("vocab.json"), tokenizer["model"]["vocab"].to_string()).unwrap();
    let merge =
        |pair: &Value| format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
    let merges = tokenizer["model"]["merges"].as_array().unwrap().iter().map(merge);
    fs::write(old.join("merges.txt"), merges.collect::<String>()).unwrap();
    assert_eq!(eval(&old), eval(&model()));
    let added = |special: bool| {
        serde_json::json!({"id": 512, "content": "[PAD]", "single_word": false, "lstrip": false,
                           "rstrip": false, "normalized": false, "special": special})
    };
    tokenizer["added_tokens"].as_array_mut().unwrap().push(added(true));
    assert_eq!(eval(&copy("padded", &tokenizer)), eval(&model()));
    // One that text becomes needs a row.
    *tokenizer["added_tokens"].as_array_mut().unwrap().last_mut().unwrap() = added(false);
    let ordinary = copy("ordinary", &tokenizer);
    let said = refusal(replication(&["eval"]).arg(&ordinary).arg("--data").arg(&text));
    assert!(said.contains("needs a vocabulary of 513, and the model's is 512"), "{said}");
    // What is made of a null is said.
    let config = fs::read_to_string(ordinary.join("config.json")).unwrap();
    let config = config.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": null");
    fs::write(old.join("config.json"), config).unwrap();
    let output = must_succeed(replication(&["eval"]).arg(&old).arg("--data").arg(&text));
    assert!(stderr(&output).contains("tie_word_embeddings is null"), "{}", stderr(&output));
    assert_eq!(stdout(&output), eval(&model()));
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

/// Found out before a model reads anything, in one line.
#[test]
fn what_cannot_be_compared_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    fs::write(&text, "rik taid faik lind").unwrap();
    let out = folder.path().join("out");
    let retention = |finetuned: &Path, out: &Path| {
        let mut call = replication(&["retention"]);
        call.arg(model()).arg(finetuned).arg("--data").arg(&text).arg("--out").arg(out);
        call
    };
    let said = refusal(retention(&model(), &out).args(["--by", "kind"]));
    assert!(said.contains("--by = kind: names a field of records, and document 0 is"), "{said}");
    let said = refusal(&mut retention(&model(), &text.join("out")));
    assert!(said.contains("--out") && said.contains("must be a folder to write to"), "{said}");

    let broken = folder.path().join("broken");
    fs::create_dir(&broken).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(model().join(file), broken.join(file)).unwrap();
    }
    for value in [f32::NAN, f32::NEG_INFINITY] {
        let mut other = Checkpoint::read(&model()).unwrap();
        other.theta[7] = value;
        other.write(&broken, Some(0)).unwrap();
        let mut sample = replication(&["sample"]);
        let mut eval = replication(&["eval"]);
        eval.arg(&broken).arg("--data").arg(&text);
        for call in [&mut retention(&broken, &out), &mut eval, sample.arg(&broken)] {
            let said = refusal(call);
            let why = format!("broken: has a parameter that is {value} (in wte);");
            assert!(said.contains(&why), "{said}");
        }
        assert!(!out.exists());
    }
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

/// The folder of a run of a kind.
fn run_of(out: &Path, kind: &str) -> PathBuf {
    let mut runs = fs::read_dir(out.join("runs")).unwrap().map(|run| run.unwrap().path());
    runs.find(|run| json(&run.join("spec.json"))["kind"] == kind).unwrap()
}

#[test]
fn a_model_takes_the_place_of_the_pretraining() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let base = format!("base={}", model().display());
    let said = stdout(&must_succeed(&mut finetune(&out, &["--pretrained", &base])));
    assert!(said.contains("2 of 2 runs done"), "{said}");
    let (import, child) = (run_of(&out, "import"), run_of(&out, "finetune"));
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

/// A Qwen3 with the tokenizer of the golden model, and with what published models have beside them.
fn qwen3(folder: &Path) {
    let shape = Shape {
        positions: Positions::Rotary,
        norm: Norm { kind: NormKind::Rms, epsilon: 1e-6 },
        attention: Attention {
            n_kv_heads: Some(1),
            head_width: Some(8),
            qk_norm: true,
            ..Attention::default()
        },
        mlp: Mlp { d_ff: Some(40), activation: Activation::Swiglu },
        head: Head::Own,
        ..Shape::gpt2(2, 24, 2, 600, 48)
    };
    fs::create_dir(folder).unwrap();
    Checkpoint::initial(shape, Key::new(1)).unwrap().write(folder, Some(0)).unwrap();
    let mut config = json(&folder.join("config.json"));
    for (name, value) in
        [("bos_token_id", "5"), ("pad_token_id", "6"), ("eos_token_id", "[7, 0, 9]")]
    {
        config[name] = serde_json::from_str(value).unwrap();
    }
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::copy(model().join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    fs::write(folder.join("generation_config.json"), "{\"temperature\": 0.6}").unwrap();
    fs::write(folder.join("tokenizer_config.json"), "{\"model_max_length\": 4096}").unwrap();
}

/// Of a family, which is no GPT-2: measured, written with, finetuned and kept, and what it forgot.
#[test]
fn models_of_families_are_taken_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("qwen3");
    qwen3(&base);
    let text = folder.path().join("texts.jsonl");
    let line = |i: usize| {
        let words = ["rik taid faik ", "one two three "][i % 2].repeat(4 + i);
        format!("{{\"text\": \"{words}\", \"kind\": \"{}\"}}\n", ["own", "other"][i % 2])
    };
    fs::write(&text, (0..6).map(line).collect::<String>()).unwrap();
    let said = stdout(&must_succeed(replication(&["eval"]).arg(&base).arg("--data").arg(&text)));
    // No one knows anything yet: ln 600.
    assert!(said.contains("loss 6.4"), "{said}");
    must_succeed(replication(&["sample", "--tokens", "5", "--prompt", "Rik "]).arg(&base));

    let out = folder.path().join("out");
    let named = format!("qwen={}", base.display());
    let keep = ["--pretrained", &named, "--set", "run.keep_models=true"];
    must_succeed(finetune(&out, &keep).args(["--set", "model.context=32"]));
    let child = run_of(&out, "finetune");
    assert_eq!(json(&child.join("config.json"))["model_type"], "qwen3");
    // Killed again and again, it goes on and ends with the same bits.
    let again = folder.path().join("again");
    let mut kills = 0;
    for tenths in 1..=6 {
        let mut call = finetune(&again, &keep);
        call.args(["--set", "model.context=32", "--set", "run.checkpoint_seconds=0"]);
        let mut process = call.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100 * tenths));
        process.kill().unwrap();
        kills += u32::from(!process.wait().unwrap().success());
    }
    assert!(kills >= 1);
    must_succeed(finetune(&again, &keep).args(["--set", "model.context=32"]));
    let of = |run: &Path| {
        let losses = json(&run.join("record.json"))["evaluations"].clone();
        (losses, fs::read(run.join("model.safetensors")).unwrap())
    };
    assert!(of(&run_of(&again, "finetune")) == of(&child));
    // Before any text is prepared, and by the name that was given.
    let mut long = finetune(&folder.path().join("long"), &["--pretrained", &named]);
    let said = refusal(&mut long);
    let most = format!("model.context = 64: must be at most 48, the longest text of {base:?}");
    assert!(said.contains(&most.replace('"', "")), "{said}");
    assert!(!folder.path().join("long").exists());
    // All tokens that end or fill a text are kept, first the one that separated texts.
    let config = json(&child.join("config.json"));
    assert_eq!(config["eos_token_id"], serde_json::json!([7, 0, 9]));
    assert_eq!((&config["bos_token_id"], &config["pad_token_id"]), (&5.into(), &6.into()));
    for beside in ["generation_config.json", "tokenizer_config.json"] {
        assert_eq!(json(&child.join(beside)), json(&base.join(beside)));
    }

    let report = folder.path().join("retention");
    let mut call = replication(&["retention", "--by", "kind", "--context", "16"]);
    call.args([&base, &child]).arg("--data").arg(&text).arg("--out").arg(&report);
    let said = stdout(&must_succeed(&mut call));
    let found = json(&report.join("retention.json"));
    let documents = found["documents"].as_array().unwrap();
    assert_eq!((documents.len(), found["context"].as_u64()), (6, Some(16)));
    let sum = |of: &Value, field: &str| -> f64 {
        let term = |d: &Value| d[field].as_f64().unwrap() * d["tokens"].as_f64().unwrap();
        of.as_array().unwrap().iter().map(term).sum()
    };
    let (tokens, whole) = (found["whole"]["tokens"].as_f64().unwrap(), &found["whole"]);
    for field in ["loss_base", "loss_finetuned"] {
        let mean = sum(&found["documents"], field) / tokens;
        assert!((whole[field].as_f64().unwrap() - mean).abs() < 1e-9, "{field}");
    }
    let increase = whole["increase"]["value"].as_f64().unwrap();
    let difference =
        whole["loss_finetuned"].as_f64().unwrap() - whole["loss_base"].as_f64().unwrap();
    assert!((increase - difference).abs() < 1e-9 && increase != 0.0);
    assert!(said.contains(&format!("{increase:+.4}")), "{said}");
    let of_slices: u64 =
        ["own", "other"].map(|name| found["slices"][name]["tokens"].as_u64().unwrap()).iter().sum();
    assert_eq!(of_slices as f64, tokens);
    assert_eq!(fs::read_to_string(report.join("documents.csv")).unwrap().lines().count(), 7);
    assert_eq!(fs::read_to_string(report.join("slices.csv")).unwrap().lines().count(), 3);
    assert!(report.join("retention.svg").is_file() && report.join("retention.png").is_file());

    // In the windows of the finetuned model, every document's loss is that of `eval`.
    let mut call = replication(&["retention"]);
    call.args([&base, &child]).arg("--data").arg(&text).arg("--out").arg(&report);
    must_succeed(&mut call);
    let (found, losses) = (json(&report.join("retention.json")), folder.path().join("losses.json"));
    let mut call = replication(&["eval", "--per-document"]);
    must_succeed(call.arg(&child).arg("--data").arg(&text).arg("--json").arg(&losses));
    let of_eval = json(&losses)["documents"].clone();
    let pairs = of_eval.as_array().unwrap().iter().zip(found["documents"].as_array().unwrap());
    for (of_eval, document) in pairs {
        assert_eq!(of_eval["tokens"], document["tokens"]);
        let loss = |of: &Value| of.as_f64().unwrap();
        let (a, b) = (loss(&of_eval["loss"]), loss(&document["loss_finetuned"]));
        assert!((a - b).abs() < 1e-6, "{a}, {b}");
    }

    // A model has forgotten nothing of itself, and one of another tokenizer cannot be compared.
    let mut same = replication(&["retention"]);
    same.args([&base, &base]).arg("--data").arg(&text).arg("--out").arg(&report);
    let said = stdout(&must_succeed(&mut same));
    assert!(said.contains("+0.0000") && said.contains("0 rose and 0 fell"), "{said}");
    let mut tokenizer = json(&model().join("tokenizer.json"));
    tokenizer["model"]["merges"].as_array_mut().unwrap().pop();
    fs::write(base.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let mut other = replication(&["retention"]);
    other.args([&base, &child]).arg("--data").arg(&text).arg("--out").arg(&report);
    assert!(refusal(&mut other).contains("must have the tokenizer of"));
}
