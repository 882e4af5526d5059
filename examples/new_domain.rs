//! A target domain of your own: implement [`Source`], and everything else works with it. Builds
//! without libtorch:
//!
//! ```sh
//! cargo run -p forgetting-laws --example new_domain --no-default-features
//! ```
//!
//! For the command line, write the documents to a .jsonl file and pass it as `--target`.

use forgetting_laws::Result;
use forgetting_laws::data::ngram::Ngram;
use forgetting_laws::data::split::{Split, SplitTokens};
use forgetting_laws::data::synthetic::Synthetic;
use forgetting_laws::data::{Encode, Source};
use forgetting_laws::rng::{Draws, Key};
use forgetting_laws::store::sha256;
use std::borrow::Cow;

/// Lists of numbers and the same lists in order. Unlimited: every index is a document.
struct Sorting {
    seed: u64,
}

impl Source for Sorting {
    fn content_hash(&self) -> String {
        sha256(format!("sorting, version 1, seed {}", self.seed).as_bytes())
    }

    fn len(&self) -> Option<u64> {
        None
    }

    fn document(&self, i: u64) -> Result<Cow<'_, str>> {
        let mut draws = Draws::new(Key::new(self.seed).named("sorting").child(i));
        let mut numbers: Vec<u64> = (0..6).map(|_| draws.below(1000)).collect();
        let given = format!("{numbers:?}");
        numbers.sort();
        Ok(format!("sort {given} = {numbers:?}").into())
    }
}

/// A token a byte, to need no tokenizer. `data::tokenizer::Tokenizer` is the real one.
struct Bytes;

impl Encode for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(text.bytes().map(u32::from).collect())
    }

    fn end_of_text(&self) -> u32 {
        256
    }
}

/// Splits the domain and says how far it lies from the pretraining data.
pub fn main() -> Result<()> {
    let split = |source: &dyn Source, injection| {
        let tokens = SplitTokens { validation: 8_192, injection, training: 100_000 };
        Split::build(source, &Bytes, Key::new(0).named("split"), tokens, 64)
    };
    let pretraining = split(&Synthetic::pretraining(0), 8_192)?;
    let target = split(&Sorting { seed: 0 }, 0)?;
    println!("{:?}", target.report.training);
    for d_ft in [1_000, 10_000, 100_000] {
        println!("D_ft = {} tokens", target.training.prefix(d_ft)?.tokens());
    }

    let trigram = Ngram::train(&pretraining.training.stream(), 257, 3)?;
    let near = trigram.loss(&pretraining.validation)?;
    let far = trigram.loss(&target.validation)?;
    println!("a trigram model of the pretraining data: {near:.2} nats a byte there, {far:.2} here");
    assert!(far > near);

    // What `engine::finetune` takes.
    #[cfg(feature = "train")]
    let _target = forgetting_laws::engine::TargetData {
        validation: target.validation,
        training: target.training,
    };
    Ok(())
}
