//! The commands that look at text alone: `tokenizer`.

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
    assert!(said.contains("32000 were asked for") && said.contains("No other text"), "{said}");
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
