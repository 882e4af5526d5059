//! Text files to packed tokens on the disk, in MB of text per second, and sequences out of them, in
//! tokens per second, as a JSON line each: the counterpart of `peer/tokens.py`, which measures
//! `datasets` and `tokenizers` on the same file with the same tokenizer.
//!
//! `cargo bench -p benches --profile dev --bench tokens -- [--data FILE.jsonl] [--vocab N] [--keep FOLDER]`
//!
//! Without a file the text is synthetic. The folder keeps the text and the tokenizer for the peer.

use benches::option;
use forgetting_laws::Fraction;
use forgetting_laws::data::files::Files;
use forgetting_laws::data::sequences::Sequences;
use forgetting_laws::data::split::{Split, SplitSettings, SplitTokens};
use forgetting_laws::data::synthetic::Synthetic;
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::data::tokens::{Origin, Recipe, Tokens};
use forgetting_laws::data::{Encode, Source};
use forgetting_laws::injection::{Draw, MixtureSpec, SamplerKind};
use forgetting_laws::rng::Key;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const CONTEXT: usize = 1024;

fn main() {
    let vocab = option("--vocab").map_or(8192, |n| n.parse().expect("--vocab takes a number"));
    let scratch = std::env::temp_dir().join(format!("bench-tokens-{}", std::process::id()));
    let folder = option("--keep").map_or(scratch.clone(), PathBuf::from);
    fs::create_dir_all(&folder).expect("a folder to write to");
    let text = match option("--data") {
        Some(file) => PathBuf::from(file),
        None => synthetic(&folder.join("text.jsonl")),
    };
    let trained = tokenizer(&text, vocab);
    let saved = folder.join("tokenizer.json");
    trained.save(&saved).expect("a tokenizer.json");
    // Read again, so that no word is known from the training.
    let tokenizer = Tokenizer::from_file(&saved).expect("a tokenizer.json");
    let store = folder.join("store");
    let _ = fs::remove_dir_all(&store);
    println!("{}", pack(&text, &tokenizer, &store));
    println!("{}", sample(&store));
    let _ = fs::remove_dir_all(&store);
    let _ = fs::remove_dir_all(&scratch);
}

/// 20 MB of the synthetic pretraining source, a document a line.
fn synthetic(path: &Path) -> PathBuf {
    let source = Synthetic::pretraining(0);
    let mut lines = String::new();
    for i in 0.. {
        let text = source.document(i).expect("an unlimited source");
        lines += &format!("{{\"text\": {text:?}}}\n");
        if lines.len() > 20_000_000 {
            break;
        }
    }
    fs::write(path, lines).expect("a file to write to");
    path.to_path_buf()
}

fn tokenizer(text: &Path, vocab: usize) -> Tokenizer {
    let files = Files::open(&[text.to_path_buf()], "text", None).expect("a .jsonl file");
    let mut bytes = 0;
    let documents = (0..files.len().expect("finite")).map(|i| files.document(i).expect("a text"));
    let first = documents.take_while(|text| {
        bytes += text.len();
        bytes < 4_000_000
    });
    Tokenizer::train(first.map(|text| text.into_owned()), vocab).expect("some text")
}

/// From the file to the finished store.
fn pack(text: &Path, tokenizer: &Tokenizer, store: &Path) -> String {
    let begun = Instant::now();
    let files = Files::open(&[text.to_path_buf()], "text", None).expect("a .jsonl file");
    let recipe = Recipe {
        source: &files,
        encoder: tokenizer,
        tokenizer: &tokenizer.hash(),
        vocab: tokenizer.vocab_size(),
        shard_documents: Recipe::SHARD,
    };
    let tokens = Tokens::prepare(store, &recipe, &Origin::default(), &|_| ()).expect("a store");
    let seconds = begun.elapsed().as_secs_f64();
    let all = 0..files.len().expect("finite");
    let bytes: usize = all.map(|i| files.document(i).expect("a text").len()).sum();
    assert_eq!(
        tokens.document(0).expect("a document").last(),
        Some(&Encode::end_of_text(tokenizer))
    );
    format!(
        "{{\"what\": \"tokenize and pack\", \"mb\": {:.1}, \"tokens\": {}, \"seconds\": {seconds:.2}, \
         \"mb_per_s\": {:.1}}}",
        bytes as f64 / 1e6,
        tokens.tokens(),
        bytes as f64 / 1e6 / seconds
    )
}

/// Every draw of a finetuning with 5% of injection, out of the mapped store.
fn sample(store: &Path) -> String {
    let tokens = Arc::new(Tokens::open(store).expect("a store"));
    let some = tokens.tokens() / 20 / CONTEXT as u64 * CONTEXT as u64;
    let parts = SplitTokens { validation: 0, injection: some, training: u64::MAX >> 20 };
    let settings = SplitSettings { key: Key::new(0), tokens: parts, context: CONTEXT };
    let split = Split::of(&tokens, settings).expect("enough text");
    let batch = 64;
    let spec = MixtureSpec {
        sampler: SamplerKind::Independent,
        p: Fraction::new(0.05).expect("a fraction"),
        steps: 12 * split.injection.len() as u64 / batch,
        global_batch: batch,
        target_sequences: split.training.len() as u64,
        reserved_sequences: split.injection.len() as u64,
        replay_sequences: None,
        sequence_tokens: CONTEXT as u64,
    };
    let mixture = spec.build(Key::new(0)).expect("enough reserved sequences");
    let rate = |read: &dyn Fn(&Sequences, u64) -> usize| {
        let begun = Instant::now();
        let draws = (0..spec.steps).flat_map(|step| mixture.batch(step));
        let read: usize = draws
            .map(|draw| match draw {
                Draw::Target(i) => read(&split.training, i),
                Draw::Pretrain(j) => read(&split.injection, j),
            })
            .sum();
        read as f64 / begun.elapsed().as_secs_f64()
    };
    let _ = rate(&|part, i| part.get(i as usize).len());
    let rate = rate(&|part, i| black_box(part.get(i as usize)).len());
    format!("{{\"what\": \"sampler\", \"context\": {CONTEXT}, \"tokens_per_s\": {rate:.0}}}")
}
