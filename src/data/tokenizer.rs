//! Tokenizers: trained here, or read from a `tokenizer.json`.
//!
//! The paper uses a SentencePiece tokenizer (with 32,000 tokens, to judge by its model sizes); the text
//! that it was trained on is not published. [`Tokenizer::train_kind`] trains one of two
//! [kinds](TokenizerKind). Both encode any text without loss:
//!
//! - `Bpe`, GPT-2's scheme (Radford et al., "Language models are unsupervised multitask learners",
//!   2019, section 2.2; Sennrich et al., "Neural machine translation of rare words with subword
//!   units", ACL 2016): bytes, words cut by GPT-2's regular expression, and merges of the most
//!   frequent pair.
//! - `Unigram`, a unigram language model over pieces of words, with bytes for rare characters, as in
//!   SentencePiece (Kudo, ACL 2018; Kudo and Richardson, EMNLP 2018).

mod bpe;
mod bytes;
mod cuts;
mod end_of_text;
mod slow;
mod unigram;
mod words;

pub use end_of_text::{EndOfText, EndOfTextSource};

use super::mask::counts;
use super::{Encode, TokenizerKind};
use crate::formats::{HEAD, not_data};
use crate::quiet::quietly;
use crate::store::write_atomic;
use crate::{Error, Result};
use cuts::Cuts;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use tokenizers::{ModelWrapper, PostProcessorWrapper};
use words::{Words, words, words_are_independent};

/// The name of a tokenizer's file in the folder of a model.
const FILE: &str = "tokenizer.json";
/// The token between documents in a tokenizer that is trained here.
const END_OF_TEXT: &str = "<|endoftext|>";
/// Numbers of tokens are below this. The largest vocabularies have some hundred thousand tokens.
const MOST_TOKENS: u32 = 1 << 24;

/// A tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    origin: PathBuf,
    json: String,
    end_of_text: EndOfText,
    vocab_size: usize,
    /// The tokens of frequent words, if words can be encoded one by one.
    words: Option<Words>,
    /// Where long texts can be cut if words cannot be encoded one by one.
    cuts: Option<Cuts>,
}

impl Tokenizer {
    /// Trains a byte-level BPE: [`train_kind`](Self::train_kind) with [`TokenizerKind::Bpe`].
    ///
    /// # Errors
    /// As there.
    pub fn train(texts: impl Iterator<Item = String>, vocab_size: usize) -> Result<Self> {
        Self::train_kind(TokenizerKind::Bpe, texts, vocab_size)
    }

    /// Trains a tokenizer of `vocab_size` tokens, including the 256 bytes and `<|endoftext|>`.
    ///
    /// The result depends only on the texts, not on their order. A text with too few repeated strings
    /// gives a smaller vocabulary, which [`vocab_size`](Self::vocab_size) returns.
    ///
    /// # Errors
    /// If `vocab_size` is below the [smallest](TokenizerKind::min_vocab) or there is no text.
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::data::{TokenizerKind, tokenizer::Tokenizer};
    /// let texts = ["low lower lowest", "slow slower slowest"].map(String::from);
    /// for kind in TokenizerKind::ALL {
    ///     let tokenizer = Tokenizer::train_kind(kind, texts.clone().into_iter(), 300)?;
    ///     let ids = tokenizer.encode("slow, ünd low")?;
    ///     assert_eq!(tokenizer.decode(&ids)?, "slow, ünd low");
    /// }
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn train_kind(
        kind: TokenizerKind,
        texts: impl Iterator<Item = String>,
        vocab_size: usize,
    ) -> Result<Self> {
        if vocab_size < kind.min_vocab() {
            return Err(Error::setting(
                "vocabulary size",
                vocab_size,
                format!("must be at least {}: {}", kind.min_vocab(), kind.least_tokens()),
            ));
        }
        let mut counts: HashMap<String, u64> = HashMap::new();
        for text in texts {
            for word in words(&text) {
                match counts.get_mut(word) {
                    Some(count) => *count += 1,
                    None => drop(counts.insert(word.to_owned(), 1)),
                }
            }
        }
        if counts.is_empty() {
            return Err(Error::missing("text to train a tokenizer", "give some text"));
        }
        let trained = match kind {
            TokenizerKind::Bpe => bpe::train(counts, vocab_size),
            TokenizerKind::Unigram => unigram::train(counts, vocab_size, END_OF_TEXT),
        };
        let origin = PathBuf::from("trained tokenizer");
        let trained = trained.map_err(|e| Error::content(&origin, None, e.to_string()))?;
        Self::new(trained, origin, None, None)
    }

    /// Reads a `tokenizer.json`, or that of a folder: [`open`](Self::open) without naming the token
    /// that ends a text.
    ///
    /// # Errors
    /// As there.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        Self::open(path.as_ref(), None)
    }

    /// Reads a `tokenizer.json` of any kind, or that of a folder. Instead of it, the folder may have
    /// `vocab.json` and `merges.txt`, like older models of GPT-2.
    ///
    /// Truncation and padding are switched off, and no token is added at the beginning or the end of a
    /// text. Whether encoding is lossless depends on the tokenizer.
    ///
    /// The token that ends a text is the first that is found of:
    ///
    /// 1. `end_of_text`, by name or number, if it is given.
    /// 2. The token that other files of the folder name, if the file is called `tokenizer.json`:
    ///    `eos_token_id` in `config.json`, then in `generation_config.json`, then `eos_token` in
    ///    `tokenizer_config.json`, then in `special_tokens_map.json`. If a field has a list, its first
    ///    token.
    /// 3. A special token with a common name: `<|endoftext|>`, `<|end_of_text|>`, `</s>`, `<eos>` and
    ///    others.
    /// 4. A token with such a name that is not special, if the tokenizer has no special tokens.
    ///
    /// # Errors
    /// If a file cannot be read, is not a tokenizer or encodes at random (BPE dropout), or if no token
    /// that ends a text is found.
    pub fn open(path: &Path, end_of_text: Option<&str>) -> Result<Self> {
        let file = if path.is_dir() { path.join(FILE) } else { path.to_path_buf() };
        // A file of another name is one of many, which a folder's config.json need not be about.
        let folder = file.parent().filter(|_| file.file_name().is_some_and(|name| name == FILE));
        if let Some(folder) = folder
            && !file.exists()
            && folder.join(slow::VOCAB).exists()
            && folder.join(slow::MERGES).exists()
        {
            let origin = folder.join(slow::VOCAB);
            return Self::new(slow::read(folder)?, origin, Some(folder), end_of_text);
        }
        let json = fs::read(&file).map_err(Error::io(&file))?;
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&json);
        let inner = whole(&file, || {
            tokenizers::Tokenizer::from_bytes(json).map_err(|error| {
                let what = not_data(&json[..json.len().min(HEAD)]);
                what.unwrap_or_else(|| format!("not a tokenizer.json ({error})")).into()
            })
        })?;
        Self::new(inner, file.clone(), folder, end_of_text)
    }

    fn new(
        mut inner: tokenizers::Tokenizer,
        origin: PathBuf,
        folder: Option<&Path>,
        end_of_text: Option<&str>,
    ) -> Result<Self> {
        let refuse = |error: tokenizers::Error| Error::content(&origin, None, error.to_string());
        inner.with_truncation(None).map_err(refuse)?;
        inner.with_padding(None);
        if let ModelWrapper::BPE(model) = inner.get_model()
            && let Some(dropout) = model.dropout.filter(|&dropout| dropout > 0.0)
        {
            let reason = format!(
                "its BPE dropout is {dropout}, which encodes at random; remove it from the file"
            );
            return Err(Error::content(&origin, None, reason));
        }
        let largest = inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id);
        // A number is a row of an embedding, and a file lists every number up to the largest.
        if let Some((name, id)) = largest.as_ref().filter(|(_, id)| *id >= MOST_TOKENS) {
            let reason =
                format!("the token {name:?} has the number {id}; it must be below {MOST_TOKENS}");
            return Err(Error::content(&origin, None, reason));
        }
        let vocab_size = largest.map_or(0, |(_, id)| id as usize + 1);
        let json = inner.to_string(false).map_err(refuse)?;
        // Adds special tokens, which are not wanted, and may move the bytes that a token stands for.
        inner.with_post_processor(None::<PostProcessorWrapper>);
        // A document that spells out the name of a special token does not end there.
        inner.set_encode_special_tokens(true);
        let end_of_text = end_of_text::find(&inner, &origin, folder, end_of_text)?;
        let words = words_are_independent(&inner).then(Words::default);
        let cuts = if words.is_some() { None } else { Cuts::of(&inner) };
        Ok(Self { inner, origin, json, end_of_text, vocab_size, words, cuts })
    }

    /// The tokenizer as the text of a `tokenizer.json`.
    pub fn to_json(&self) -> &str {
        &self.json
    }

    /// The hexadecimal SHA-256 of [`to_json`](Self::to_json).
    pub fn hash(&self) -> String {
        format!("{:x}", Sha256::digest(self.json.as_bytes()))
    }

    /// Writes [`to_json`](Self::to_json) to `path` atomically.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_atomic(path.as_ref(), self.json.as_bytes())
    }

    /// The number of rows that an embedding needs: the largest id plus 1.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The number of rows that the embedding needs for the tokens that [`encode`](Self::encode) can
    /// return. Special tokens that no text gives, such as a padding token that was added later, may be
    /// beyond them.
    pub fn needed_vocab(&self) -> usize {
        let added = self.inner.get_added_tokens_decoder();
        let of_text = added.iter().filter(|(_, token)| !token.special).map(|(&id, _)| id);
        let of_model = self.inner.get_vocab(false).into_values();
        let largest = of_model.chain(of_text).max().unwrap_or(0).max(self.end_of_text.id);
        largest as usize + 1
    }

    /// The token between documents.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text.id
    }

    /// The token between documents, with its name and how it was found.
    pub fn stated_end_of_text(&self) -> &EndOfText {
        &self.end_of_text
    }

    /// The token between documents if it differs from the one that the vocabulary alone suggests. Then
    /// it is part of the identity of the tokenised text.
    pub fn unusual_end_of_text(&self) -> Option<u32> {
        let id = self.end_of_text.id;
        (end_of_text::earlier(&self.inner) != Some(id)).then_some(id)
    }

    /// The tokens of a text. Names of special tokens in the text are ordinary text, and none of the
    /// tokens is the end of text: if the tokenizer would encode the name of the end of text as that
    /// token, the name is encoded in two parts.
    ///
    /// # Errors
    /// If the tokenizer has no token for a part of the text, or encodes something other than its name
    /// as the end of text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.without_end(text, |id| *id, |range| self.encode_text(&text[range]))
    }

    /// The tokens of [`encode`](Self::encode), and for each token whether it counts in the loss: it
    /// does if one of its bytes does. `counted` has the byte ranges that count, in order, without
    /// overlap, cut between characters.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    ///
    /// # Panics
    /// If the ranges leave the text or cut a character.
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::data::tokenizer::Tokenizer;
    /// let tokenizer = Tokenizer::train(["one two"].map(String::from).into_iter(), 300)?;
    /// let (tokens, counted) = tokenizer.encode_counted("one two", &[4..7])?;
    /// assert_eq!(tokens, tokenizer.encode("one two")?);
    /// assert_eq!(counted.len(), tokens.len());
    /// assert!(!counted[0] && counted[tokens.len() - 1]);
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn encode_counted(
        &self,
        text: &str,
        counted: &[Range<usize>],
    ) -> Result<(Vec<u32>, Vec<bool>)> {
        let mask = |range: Range<usize>| self.mask_text(text, range, counted);
        Ok(self.without_end(text, |&(id, _)| id, mask)?.into_iter().unzip())
    }

    /// Encodes a text with `encode`, in parts where the name of the end of text would give that token.
    /// `id` is the token of an element of the result.
    fn without_end<T>(
        &self,
        text: &str,
        id: impl Fn(&T) -> u32,
        encode: impl Fn(Range<usize>) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let has_end = |encoded: &[T]| encoded.iter().any(|token| id(token) == self.end_of_text.id);
        let encoded = encode(0..text.len())?;
        if !has_end(&encoded) {
            return Ok(encoded);
        }
        // Models of the unigram kind know special tokens as pieces like any other.
        let name = &self.end_of_text.name;
        let (mut encoded, mut last) = (Vec::new(), 0);
        for (start, _) in text.match_indices(name) {
            let cut = start + name.chars().next().map_or(0, char::len_utf8);
            encoded.append(&mut encode(last..cut)?);
            last = cut;
        }
        encoded.append(&mut encode(last..text.len())?);
        if !has_end(&encoded) {
            Ok(encoded)
        } else {
            let reason = format!(
                "the token that ends a text, {name:?} (token {}), is also one of ordinary text",
                self.end_of_text.id
            );
            Err(Error::content(&self.origin, None, reason))
        }
    }

    /// The tokens of [`encode_text`](Self::encode_text) for a part of a text, and whether each counts.
    fn mask_text(
        &self,
        text: &str,
        part: Range<usize>,
        counted: &[Range<usize>],
    ) -> Result<Vec<(u32, bool)>> {
        if self.words.is_none() {
            let mut masked = Vec::new();
            for piece in self.pieces(&text[part.clone()])? {
                let tokenizer = self.of_piece(piece.start);
                let piece = part.start + piece.start..part.start + piece.end;
                let start = piece.start;
                masked.append(&mut self.mask_word(tokenizer, &text[piece], start, counted)?);
            }
            return Ok(masked);
        }
        let (mut masked, mut start) = (Vec::new(), part.start);
        for word in words(&text[part]) {
            let bytes = start..start + word.len();
            // Most words count from end to end, or not at all.
            let border = |at: usize| bytes.start < at && at < bytes.end;
            if counted.iter().any(|range| border(range.start) || border(range.end)) {
                masked.append(&mut self.mask_word(&self.inner, word, start, counted)?);
            } else {
                let counts = counts(bytes.clone(), counted);
                masked.extend(self.encode_text(word)?.into_iter().map(|id| (id, counts)));
            }
            start = bytes.end;
        }
        Ok(masked)
    }

    /// The tokens of a word or text that begins at byte `start`, and whether each counts.
    fn mask_word(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        word: &str,
        start: usize,
        counted: &[Range<usize>],
    ) -> Result<Vec<(u32, bool)>> {
        let encoding = whole(&self.origin, || tokenizer.encode(word, false))?;
        // A stretch of characters without a piece is spelled out in bytes, each of which is said to
        // stand for all of it.
        let stretches = encoding.get_offsets().chunk_by(|a, b| a == b);
        let masks = stretches.flat_map(|tokens| {
            let (from, to) = (start + tokens[0].0, start + tokens[0].1);
            let bytes = tokens.len() == to - from;
            (from..)
                .take(tokens.len())
                .map(move |at| counts(if bytes { at..at + 1 } else { from..to }, counted))
        });
        Ok(encoding.get_ids().iter().copied().zip(masks).collect())
    }

    fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 2);
        match &self.words {
            Some(cache) => {
                for word in words(text) {
                    cache.append(word, &mut ids, || self.encode_word(&self.inner, word))?;
                }
            }
            None => {
                for piece in self.pieces(text)? {
                    let tokenizer = self.of_piece(piece.start);
                    ids.append(&mut self.encode_word(tokenizer, &text[piece])?);
                }
            }
        }
        Ok(ids)
    }

    /// The pieces of a text that are encoded one by one if words are not.
    fn pieces(&self, text: &str) -> Result<Vec<Range<usize>>> {
        let whole = 0..text.len();
        let pieces = self.cuts.as_ref().map_or_else(|| vec![whole], |cuts| cuts.pieces(text));
        match pieces.iter().map(Range::len).max() {
            Some(length) if length > cuts::LONGEST => {
                let reason = format!(
                    "a document has {length} bytes without a place where this tokenizer can cut; the \
                     limit is {}: split the document",
                    cuts::LONGEST
                );
                Err(Error::content(&self.origin, None, reason))
            }
            _ => Ok(pieces),
        }
    }

    /// The tokenizer of a piece that begins at a byte of a text.
    fn of_piece(&self, start: usize) -> &tokenizers::Tokenizer {
        self.cuts.as_ref().map_or(&self.inner, |cuts| cuts.tokenizer(&self.inner, start))
    }

    fn encode_word(&self, tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
        let encoding = whole(&self.origin, || tokenizer.encode_fast(text, false))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens. Special tokens give their names, and bytes that are not UTF-8 give U+FFFD.
    ///
    /// # Errors
    /// If an id is not below [`vocab_size`](Self::vocab_size).
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            return Err(Error::setting(
                "token",
                id,
                format!("must be below the vocabulary size, {}", self.vocab_size),
            ));
        }
        whole(&self.origin, || self.inner.decode(ids, false))
    }
}

/// What the crate `tokenizers` makes of a file in its format. It panics if parts of the file do not fit
/// together, on reading it or only on a text; that is an error in one line.
fn whole<T>(origin: &Path, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match quietly(AssertUnwindSafe(work)) {
        Some(Ok(done)) => Ok(done),
        Some(Err(error)) => Err(Error::content(origin, None, error.to_string())),
        None => {
            let reason =
                "not a tokenizer: its parts do not fit together; copy or download it again";
            Err(Error::content(origin, None, reason))
        }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("origin", &self.origin)
            .field("vocab_size", &self.vocab_size)
            .field("end_of_text", &self.end_of_text)
            .finish_non_exhaustive()
    }
}

impl Encode for Tokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode(text)
    }

    fn encode_counted(
        &self,
        text: &str,
        counted: &[Range<usize>],
    ) -> Result<(Vec<u32>, Vec<bool>)> {
        self.encode_counted(text, counted)
    }

    fn end_of_text(&self) -> u32 {
        self.end_of_text.id
    }
}

#[cfg(test)]
mod tests;
