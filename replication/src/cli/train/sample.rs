//! `replication sample`: generates text with a model.

use crate::experiment::compute::ComputeOptions;
use crate::experiment::reader::Reader;
use crate::terminal::{log, print};
use clap::Args;
use forgetting_laws::Result;
use forgetting_laws::engine::{self, Length, Sampling};
use forgetting_laws::rng::Key;
use std::path::PathBuf;

/// A model and how to sample from it.
#[derive(Args)]
pub struct SampleOptions {
    /// Folder with config.json, model.safetensors and tokenizer.json, of a run or of a family in
    /// docs/models.md; or hub:OWNER/NAME.
    pub model: PathBuf,
    /// The beginning of the text; if empty, the text begins like a document.
    #[arg(long, default_value = "")]
    pub prompt: String,
    /// The maximum length, in tokens.
    #[arg(long, default_value_t = 200)]
    pub tokens: usize,
    /// The sampling temperature; 0 always takes the most likely token.
    #[arg(long, default_value_t = 1.0)]
    pub temperature: f64,
    /// Samples only from this many most likely tokens; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Seed; the same seed gives the same text.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The end-of-text token, by name or number [default: the one that the model's files name].
    #[arg(long, value_name = "TOKEN")]
    pub end_of_text: Option<String>,
    /// Number of texts.
    #[arg(long, default_value_t = 1)]
    pub samples: u64,
    #[command(flatten)]
    pub compute: ComputeOptions,
}

/// `sample`: generates text with a model.
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
    let length = Length { tokens: options.tokens, end_of_text: Some(end_of_text) };
    for i in 0..options.samples {
        let key = Key::new(options.seed).named("sample").child(i);
        let text = engine::generate(&mut *reader.model, &start, length, sampling, key)?;
        let text = reader.tokenizer.decode(&[prompt.as_slice(), &text].concat())?;
        let between = if i + 1 < options.samples { "\n---" } else { "" };
        print(&format!("{text}{between}\n"))?;
    }
    log(&format!("end of text: {}", reader.tokenizer.stated_end_of_text()));
    Ok(())
}
