//! From files to sequences: what a user's text goes through.
#![cfg(feature = "text")]

use forgetting_laws::data::files::Files;
use forgetting_laws::data::ngram::Ngram;
use forgetting_laws::data::sequences::Sequences;
use forgetting_laws::data::split::{Split, SplitSettings, SplitTokens};
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::data::tokens::{Origin, Recipe, StoreManifest, Tokens};
use forgetting_laws::data::{Encode, Source};
use forgetting_laws::rng::Key;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// 40 works of 6 pieces; each piece names its work at its start.
fn write_corpus(folder: &Path) -> PathBuf {
    let key = Key::new(11);
    let nouns = ["law", "loss", "model", "token", "step", "domain", "curve", "rate"];
    let verbs = ["moves", "meets", "follows", "forgets", "keeps"];
    let mut lines: Vec<(u64, String)> = (0..240)
        .map(|piece: u64| {
            let work = piece / 6;
            let key = key.child(piece);
            let text: String = (0..40u64)
                .map(|sentence| {
                    let pick = |slot: u64, words: &[&'static str]| {
                        words[key.below(3 * sentence + slot, words.len() as u64) as usize]
                    };
                    let [subject, verb, object] =
                        [pick(0, &nouns), pick(1, &verbs), pick(2, &nouns)];
                    format!("The {subject} {verb} the {object}.\n")
                })
                .collect();
            let line = serde_json::json!({"text": format!("From work{work}x .\n{text}"), "source": format!("work {work}")});
            (key.word(1000), format!("{line}\n"))
        })
        .collect();
    lines.sort();
    let path = folder.join("corpus.jsonl.gz");
    let file = std::fs::File::create(&path).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    for (_, line) in lines {
        encoder.write_all(line.as_bytes()).unwrap();
    }
    encoder.finish().unwrap();
    path
}

fn works(tokenizer: &Tokenizer, sequences: &Sequences) -> BTreeSet<String> {
    let text = tokenizer.decode(&sequences.stream()).unwrap();
    let words = text
        .split_whitespace()
        .filter(|word| word.strip_prefix("work").and_then(|rest| rest.strip_suffix('x')).is_some());
    words.map(String::from).collect()
}

#[test]
fn files_become_parts_that_share_no_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_corpus(folder.path());
    let files = Files::open(&[path], "text", Some("source")).unwrap();
    let documents = files.len().unwrap();
    assert_eq!(documents, 240);
    let texts = (0..documents).map(|i| files.document(i).unwrap().into_owned());
    let tokenizer = Tokenizer::train(texts, 300).unwrap();

    let tokens = SplitTokens { validation: 4000, injection: 4000, training: 1 << 30 };
    let settings = |seed| SplitSettings { key: Key::new(seed), tokens, context: 64 };
    let split = |seed| Split::build(&files, &tokenizer, settings(seed)).unwrap();
    let parts = split(0);
    let [validation, injection, training] =
        [&parts.validation, &parts.injection, &parts.training].map(|part| works(&tokenizer, part));
    assert!(validation.len() > 1 && injection.len() > 1 && training.len() > 30);
    assert!(validation.is_disjoint(&injection));
    assert!(validation.union(&injection).all(|work| !training.contains(work)));
    assert_eq!(parts.validation.tokens(), 4000 / 64 * 64);
    assert_eq!(parts.report.training.tokens, parts.training.tokens());
    assert_eq!(parts.report.duplicates, 0);
    assert_ne!(split(1).validation.hash(), parts.validation.hash());

    // A saved tokenizer gives the same sequences in a later run.
    let saved = folder.path().join("tokenizer.json");
    tokenizer.save(&saved).unwrap();
    let read = Tokenizer::from_file(&saved).unwrap();
    let again = Split::build(&files, &read, settings(0)).unwrap();
    assert_eq!(again.training.hash(), parts.training.hash());

    // Kept on the disk and mapped, they are the same.
    let recipe = Recipe {
        source: &files,
        encoder: &tokenizer,
        tokenizer: &tokenizer.hash(),
        vocab: tokenizer.vocab_size(),
        shard_documents: 50,
    };
    let store = folder.path().join("store");
    let origin = Origin { name: "corpus".into(), revision: None, files: files.files().to_vec() };
    Tokens::prepare(&store, &recipe, &origin, &|_| ()).unwrap();
    assert_eq!(StoreManifest::read(&store).unwrap().unwrap().shards.len(), 5);
    let mapped = Arc::new(Tokens::open(&store).unwrap());
    let mapped = Split::of(&mapped, settings(0)).unwrap();
    assert_eq!(mapped.report, parts.report);
    assert_eq!(mapped.validation.hash(), parts.validation.hash());
    assert_eq!(mapped.injection.hash(), parts.injection.hash());
    assert_eq!(mapped.training.hash(), parts.training.hash());

    // Longer contexts predict better, and all do better than chance.
    let losses: Vec<f64> = (1..=3)
        .map(|order| {
            let model = Ngram::train(&parts.training.stream(), tokenizer.vocab_size(), order);
            model.unwrap().loss(&parts.validation).unwrap()
        })
        .collect();
    assert!(losses.is_sorted_by(|shorter, longer| shorter > longer), "{losses:?}");
    assert!(losses[0] < (tokenizer.vocab_size() as f64).ln());
}

/// A document that spells out the separator does not become two.
#[test]
fn text_cannot_forge_the_end_of_a_document() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let line = |i: u32| format!("{{\"text\":\"{i} before <|endoftext|> after {i}\"}}\n");
    std::fs::write(&path, (0..50).map(line).collect::<String>()).unwrap();
    let files = Files::open(&[path], "text", None).unwrap();
    let tokenizer = Tokenizer::train(std::iter::once("before after".into()), 257).unwrap();
    let tokens = SplitTokens { validation: 0, injection: 0, training: 1 << 20 };
    let settings = SplitSettings { key: Key::new(0), tokens, context: 1 };
    let split = Split::build(&files, &tokenizer, settings).unwrap();
    let end = Encode::end_of_text(&tokenizer);
    let ends = split.training.stream().iter().filter(|&&token| token == end).count();
    assert_eq!(ends, 50);
}
