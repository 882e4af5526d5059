//! `replication tokenizer`: trains a tokenizer and saves it as a tokenizer.json, for any reader of
//! that format and for `--tokenizer` here.

use crate::inputs::files as text;
use crate::inputs::tokenizers::kind;
use crate::inputs::tokenizers::train_tokenizer;
use crate::terminal::print;
use clap::Args;
use forgetting_laws::data::files::{Fields, Files};
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::data::{Source, TokenizerKind};
use forgetting_laws::store::write_atomic;
use forgetting_laws::{Error, Result};
use std::collections::HashSet;
use std::path::PathBuf;

/// The text and the kind of tokenizer.
#[derive(Args)]
pub struct Options {
    /// Text to train on: .txt or .jsonl files, plain, .gz or .zst, or folders of them.
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// Vocabulary size.
    #[arg(long, default_value_t = 32_000)]
    vocab: usize,
    /// bpe (bytes and merges, like GPT-2) or unigram (pieces and bytes, like SentencePiece).
    #[arg(long, default_value = "unigram", value_parser = kind)]
    kind: TokenizerKind,
    /// Maximum bytes of text to train on, from the first documents.
    #[arg(long, default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    bytes: u64,
    /// Field of .jsonl files that holds the text.
    #[arg(long, default_value = "text", value_name = "FIELD")]
    text_field: String,
    /// Field of .jsonl files that names the work; a work that was trained on is not held out.
    #[arg(long, value_name = "FIELD")]
    group: Option<String>,
    /// The file to write.
    #[arg(long, default_value = "tokenizer.json", value_name = "FILE")]
    out: PathBuf,
}

/// If all documents would be trained on, one in this many is held out.
const HELD_OUT: u64 = 20;
/// Bytes of text that the tokenizer is tried on.
const TRIED: usize = 5_000_000;

/// Trains, saves, and prints the bytes per token on other text.
///
/// # Errors
/// If the text cannot be read or the vocabulary is too small for a tokenizer of that kind.
pub fn run(options: &Options) -> Result<()> {
    let fields = Fields::plain(&options.text_field, options.group.as_deref());
    let source = text::read(&options.data, &fields)?;
    let documents = source.len().unwrap_or(0);
    // The last ones are kept, so that there is something to try it on.
    let most = documents - documents / HELD_OUT - u64::from((2..HELD_OUT).contains(&documents));
    let (kind, vocab) = (options.kind, options.vocab);
    let (tokenizer, read) = train_tokenizer(&source, most, options.bytes, kind, vocab)?;
    if let Some(folder) = options.out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    write_atomic(&options.out, tokenizer.to_json().as_bytes())?;
    let mut text = format!(
        "{}: {}, {} tokens, trained on {read} of {documents} documents\nsha256 {}\n",
        options.out.display(),
        kind.name(),
        tokenizer.vocab_size(),
        tokenizer.hash(),
    );
    if tokenizer.vocab_size() < vocab {
        text += &format!("The text yields no more tokens; {vocab} were requested.\n");
    }
    text += &match try_it(&tokenizer, &source, read)? {
        Tried { tokens: 0, .. } => "No other text is left to try it on.\n".to_string(),
        Tried { documents, bytes, tokens } => format!(
            "{:.3} bytes per token on {documents} other documents ({bytes} bytes)\n",
            bytes as f64 / tokens as f64,
        ),
    };
    print(&text)
}

/// The result on text that was not trained on.
struct Tried {
    documents: usize,
    bytes: usize,
    tokens: usize,
}

fn try_it(tokenizer: &Tokenizer, source: &Files, read: u64) -> Result<Tried> {
    let trained_on: HashSet<u64> = (0..read).map(|i| source.group(i)).collect();
    let mut tried = Tried { documents: 0, bytes: 0, tokens: 0 };
    let others =
        (read..source.len().unwrap_or(0)).filter(|&i| !trained_on.contains(&source.group(i)));
    for i in others {
        if tried.bytes >= TRIED {
            break;
        }
        let text = source.document(i)?;
        tried.documents += 1;
        tried.bytes += text.len();
        tried.tokens += tokenizer.encode(&text)?.len();
    }
    Ok(tried)
}
