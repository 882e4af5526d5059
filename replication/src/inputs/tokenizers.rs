//! Trains tokenizers on text.

use forgetting_laws::Result;
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::data::{Source, TokenizerKind};

/// Trains a tokenizer on a sample: the first `documents` of a source, or as many whole documents as
/// have `bytes` bytes. Only the sample is in memory. Also returns the number of documents in it.
///
/// # Errors
/// If a document cannot be read, there is none, or the vocabulary is too small.
pub fn train_tokenizer(
    source: &dyn Source,
    documents: u64,
    bytes: u64,
    kind: TokenizerKind,
    vocab: usize,
) -> Result<(Tokenizer, u64)> {
    let (mut left, mut read) = (bytes, 0);
    let mut error = None;
    let texts = (0..documents).map_while(|i| {
        if left == 0 {
            return None;
        }
        let text = source.document(i).map_err(|e| error = Some(e)).ok()?.into_owned();
        left = left.saturating_sub(text.len() as u64);
        read += 1;
        Some(text)
    });
    let tokenizer = Tokenizer::train_kind(kind, texts, vocab);
    match error {
        Some(error) => Err(error),
        None => Ok((tokenizer?, read)),
    }
}

/// A kind by its name.
pub fn kind(name: &str) -> std::result::Result<TokenizerKind, String> {
    let names = || TokenizerKind::ALL.map(TokenizerKind::name).join(" or ");
    let of_name = TokenizerKind::ALL.into_iter().find(|kind| kind.name() == name);
    of_name.ok_or_else(|| format!("must be {}", names()))
}
