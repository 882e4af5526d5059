//! The commands that look at text alone: `tokenizer` and `distance`.

mod common;

use common::{must_succeed, stderr};
use forgetting_laws::data::tokenizer::Tokenizer;
use std::fs;
use std::path::Path;
use std::process::Command;

fn replication(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replication"));
    command.args(arguments);
    command
}

/// Documents of words that follow one another by a rule, and one of their own each.
fn write_texts(path: &Path, words: &[&str], documents: usize) {
    let document = |i: usize| {
        let word = |j: usize| words[(i * i + 3 * j + j * j) % words.len()];
        let text: Vec<&str> = (0..60).map(word).collect();
        format!("{{\"text\": \"{} number{i}.\"}}\n", text.join(" "))
    };
    fs::write(path, (0..documents).map(document).collect::<String>()).unwrap();
}

const WORDS: [&str; 7] = ["the", "ship", "sails", "over", "a", "quiet", "sea"];

#[test]
fn a_tokenizer_is_trained_and_saved() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    write_texts(&folder.path().join("text.jsonl"), &WORDS, 60);
    for (kind, vocab) in [("unigram", "330"), ("bpe", "300")] {
        let (data, out) = (at("text.jsonl"), at(&format!("new/{kind}.json")));
        let arguments =
            ["tokenizer", "--data", &data, "--vocab", vocab, "--kind", kind, "--out", &out];
        let said = must_succeed(&mut replication(&arguments));
        let said = String::from_utf8(said.stdout).unwrap();
        let tokenizer = Tokenizer::from_file(&out).unwrap();
        assert!(said.contains(&tokenizer.hash()) && said.contains("57 of 60 documents"), "{said}");
        assert!(said.contains("bytes per token on 3 other documents"), "{said}");
        let text = "the ship <|endoftext|> ▁ 汉";
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        assert!(tokenizer.encode("the quiet ship").unwrap().len() < 7);
    }
    let one = folder.path().join("one.txt");
    fs::write(&one, "a b c").unwrap();
    let (one, out) = (one.display().to_string(), at("one.json"));
    let said = must_succeed(&mut replication(&["tokenizer", "--data", &one, "--out", &out]));
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("32000 were requested") && said.contains("No other text"), "{said}");
}

#[test]
fn bad_calls_of_tokenizer_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.txt");
    fs::write(&file, "some text").unwrap();
    let file = file.display().to_string();
    for (arguments, why) in [
        (vec!["--data", &file, "--vocab", "279"], "at least 280"),
        (vec!["--data", &file, "--kind", "word"], "must be bpe or unigram"),
        (vec!["--data", "missing.txt"], "missing.txt"),
        (vec![], "--data"),
    ] {
        let output = replication(&["tokenizer"]).args(arguments).output().unwrap();
        let said = stderr(&output);
        assert!(!output.status.success() && said.contains(why), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// Texts of the same words in another order are nearer than those of other words, and the files say
/// what the table says; the same call again gives the same bytes.
#[test]
fn distances_are_a_table_and_two_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let mut order = WORDS;
    order.reverse();
    write_texts(&folder.path().join("pre.jsonl"), &WORDS, 200);
    write_texts(&folder.path().join("near.jsonl"), &order, 200);
    write_texts(&folder.path().join("far.jsonl"), &["10", "+", "7", "=", "17", ";", "x"], 200);
    let (pre, near, far) = (at("pre.jsonl"), at("near.jsonl"), at("far.jsonl"));
    let far = format!("sums={far}");
    let mut files = Vec::new();
    for out in [at("one"), at("two")] {
        let arguments = ["distance", &pre, &near, &far, "synthetic:dialogue:1", "--vocab", "300"];
        let rest = ["--tokens", "8000", "--tokenizer-bytes", "9000", "--out", &out];
        let said = must_succeed(replication(&arguments).args(rest));
        let said = String::from_utf8(said.stdout).unwrap();
        for part in ["Distance from pre: 8000 tokens", "| near |", "| sums |", "classifier error"] {
            assert!(said.contains(part), "{said}");
        }
        let read = |name: &str| fs::read_to_string(Path::new(&out).join(name)).unwrap();
        files.push((said, read("distance.csv"), read("distance.json")));
    }
    assert_eq!(files[0], files[1]);
    let (_, csv, json) = &files[0];
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    let value = |domain: usize, measure: &str| {
        json["domains"][domain]["measures"][measure]["value"].as_f64().unwrap()
    };
    assert_eq!(json["domains"][2]["name"], "synthetic:dialogue:1");
    for measure in ["unigram_js", "bigram_js", "trigram_js", "trigram_gap"] {
        assert!(value(0, measure) < value(1, measure), "{measure}: {csv}");
    }
    assert!(value(1, "classifier_error") < 0.05);
    let mut lines = csv.lines();
    let header = lines.next().unwrap();
    assert!(header.starts_with("domain,documents,tokens,unigram_js,unigram_js_se,"), "{header}");
    let near: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!((near[0], near[3].parse::<f64>().unwrap()), ("near", value(0, "unigram_js")));
    assert_eq!(lines.count(), 2);
}

/// A model loses more on a domain the farther it is from what it was pretrained on.
#[test]
fn a_pretrained_model_is_a_measure_too() {
    let out = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/checkpoint/nano-small");
    let texts = ["synthetic", "near=synthetic:prose:0.25", "far=synthetic:dialogue:1"];
    let mut call = replication(&["distance", "--vocab", "300", "--tokens", "8000"]);
    call.args(texts).args(["--device", "cpu", "--tokenizer-bytes", "9000", "--model"]).arg(model);
    let said = must_succeed(call.arg("--out").arg(out.path()));
    assert!(String::from_utf8(said.stdout).unwrap().contains("| model excess |"));
    let json = fs::read_to_string(out.path().join("distance.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let excess = |domain: usize, field: &str| {
        json["domains"][domain]["model_excess"][field].as_f64().unwrap()
    };
    assert!(excess(0, "value") > 0.0 && excess(1, "value") > excess(0, "value"), "{json}");
    assert!(excess(0, "error") > 0.0 && excess(0, "error") < excess(0, "value"), "{json}");
    let csv = fs::read_to_string(out.path().join("distance.csv")).unwrap();
    assert!(csv.lines().next().unwrap().ends_with("model_excess,model_excess_se"), "{csv}");
    assert_eq!(json["model"].as_str().map(str::len), Some(64));
}

#[test]
fn bad_calls_of_distance_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.jsonl");
    write_texts(&path, &WORDS, 30);
    let short = folder.path().join("short.txt");
    fs::write(&short, "too short").unwrap();
    let (text, short) = (path.display().to_string(), short.display().to_string());
    for (texts, why) in [
        (vec![&*text], "2 values required"),
        (vec![&text, &text], "NAME=FILE"),
        (vec![&text, &short], "short: "),
        (vec![&text, "missing.txt"], "missing.txt"),
        (vec![&text, "synthetic:poems"], "poems"),
        (vec![&text, "synthetic:prose:x"], "from 0 to 1"),
    ] {
        let mut command = replication(&["distance", "--vocab", "300", "--out"]);
        let output = command.arg(folder.path().join("out")).args(texts).output().unwrap();
        let said = stderr(&output);
        assert!(!output.status.success() && said.contains(why), "{said}");
        assert_eq!(
            said.lines().filter(|line| line.starts_with("replication: ")).count(),
            1,
            "{said}"
        );
    }
}
