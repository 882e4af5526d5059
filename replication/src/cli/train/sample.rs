//! `replication sample`: text that a model writes.

use crate::experiment::compute::ComputeOptions;
use crate::experiment::reader::Reader;
use crate::terminal::{log, print};
use clap::Args;
use forgetting_laws::Result;
use forgetting_laws::engine::{self, Sampling};
use forgetting_laws::rng::Key;
use std::path::PathBuf;

/// A model and how it writes.
#[derive(Args)]
pub struct SampleOptions {
    /// Folder with config.json, model.safetensors and tokenizer.json: a run's, or one of the
    /// families in docs/models.md; or the Hub's hub:OWNER/NAME.
    pub model: PathBuf,
    /// What the text begins with; without, it begins as a document does.
    #[arg(long, default_value = "")]
    pub prompt: String,
    /// The longest text, in tokens.
    #[arg(long, default_value_t = 200)]
    pub tokens: usize,
    /// Logits are divided by it; 0 takes the likeliest token each time.
    #[arg(long, default_value_t = 1.0)]
    pub temperature: f64,
    /// Only so many of the likeliest tokens are drawn from; 0: all.
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Of the draws: the same seed gives the same text.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The token that ends a text, by name or number [default: the one that the model's files name].
    #[arg(long, value_name = "TOKEN")]
    pub end_of_text: Option<String>,
    /// How many texts.
    #[arg(long, default_value_t = 1)]
    pub samples: u64,
    #[command(flatten)]
    pub compute: ComputeOptions,
}

/// `sample`: text that a model writes.
///
/// # Errors
/// If the model or a setting is refused.
pub fn sample(options: &SampleOptions) -> Result<()> {
    let mut reader =
        Reader::open(&options.model, &options.compute, options.end_of_text.as_deref())?;
    let end_of_text = reader.tokenizer.end_of_text();
    let prompt = reader.tokenizer.encode(&options.prompt)?;
    let start = if prompt.is_empty() { vec![end_of_text] } else { prompt.clone() };
    let sampling = Sampling {
        temperature: options.temperature,
        top_k: options.top_k,
        vocab: reader.tokenizer.vocab_size(),
    };
    for i in 0..options.samples {
        let key = Key::new(options.seed).named("sample").child(i);
        let (model, tokens) = (&mut *reader.model, options.tokens);
        let text = engine::generate(model, &start, tokens, sampling, Some(end_of_text), key)?;
        let text = reader.tokenizer.decode(&[prompt.as_slice(), &text].concat())?;
        let between = if i + 1 < options.samples { "\n---" } else { "" };
        print(&format!("{text}{between}\n"))?;
    }
    log(&format!("end of text: {}", reader.tokenizer.stated_end_of_text()));
    Ok(())
}
