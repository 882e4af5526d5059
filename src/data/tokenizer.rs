//! Tokenizers: trained here, or given as a `tokenizer.json`.
//!
//! The paper uses a SentencePiece tokenizer (with 32,000 tokens, by its model sizes) whose text is
//! not published. [`Tokenizer::train_kind`] learns one of two [kinds](TokenizerKind), and both encode
//! any text without loss:
//!
//! - `Bpe`, GPT-2's scheme (Radford et al., "Language models are unsupervised multitask learners",
//!   2019, section 2.2; Sennrich et al., "Neural machine translation of rare words with subword
//!   units", ACL 2016): bytes, words cut by GPT-2's regular expression, and merges of the most
//!   frequent pair.
//! - `Unigram`, a unigram language model over pieces of words, with bytes for what is rare, in the
//!   way of SentencePiece (Kudo, ACL 2018; Kudo and Richardson, EMNLP 2018).

mod bytes;
mod cuts;
mod end_of_text;
mod slow;
mod unigram;

pub use end_of_text::{EndOfText, EndOfTextSource};

use super::mask::counts;
use super::{Encode, TokenizerKind};
use crate::formats::{HEAD, not_data};
use crate::{Error, Result};
use cuts::Cuts;
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::fs::{self, File};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, ModelWrapper, PostProcessorWrapper};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString};
use tokenizers::{PreTokenizer, PreTokenizerWrapper};

/// The name of a tokenizer's file in the folder of a model.
const FILE: &str = "tokenizer.json";
/// The token between documents in a tokenizer that is trained here.
const END_OF_TEXT: &str = "<|endoftext|>";
/// A pair that occurs once is no regularity.
const MIN_FREQUENCY: u64 = 2;

/// A tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    origin: PathBuf,
    json: String,
    end_of_text: EndOfText,
    vocab_size: usize,
    /// The tokens of frequent words, where words can be encoded one by one.
    words: Option<Words>,
    /// Where long texts can be cut otherwise.
    cuts: Option<Cuts>,
}

impl Tokenizer {
    /// Learns a byte-level BPE: [`train_kind`](Self::train_kind) of [`TokenizerKind::Bpe`].
    ///
    /// # Errors
    /// As there.
    pub fn train(texts: impl Iterator<Item = String>, vocab_size: usize) -> Result<Self> {
        Self::train_kind(TokenizerKind::Bpe, texts, vocab_size)
    }

    /// Learns a tokenizer of `vocab_size` tokens, the 256 bytes and `<|endoftext|>` among them.
    ///
    /// The result depends on the texts only, not on their order. A text that has fewer
    /// regularities gives a smaller vocabulary; [`vocab_size`](Self::vocab_size) tells.
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
            return Err(Error::setting("text to train a tokenizer", "none", "give some text"));
        }
        let trained = match kind {
            TokenizerKind::Bpe => train_bpe(counts, vocab_size),
            TokenizerKind::Unigram => unigram::train(counts, vocab_size, END_OF_TEXT),
        };
        let origin = PathBuf::from("trained tokenizer");
        let trained = trained.map_err(|e| Error::content(&origin, None, e.to_string()))?;
        Self::new(trained, origin, None, None)
    }

    /// Reads a `tokenizer.json` of any kind, or that of a folder: [`open`](Self::open) of a file that
    /// says itself, or whose neighbours say, which token ends a text.
    ///
    /// # Errors
    /// As there.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        Self::open(path.as_ref(), None)
    }

    /// Reads a `tokenizer.json` of any kind, or that of a folder, which may have `vocab.json` and
    /// `merges.txt` in its place, as GPT-2's older models do.
    ///
    /// Truncation and padding that it may ask for are switched off, and no token is added at the
    /// beginning or the end of a text. Whether a text survives encoding without loss depends on
    /// the tokenizer.
    ///
    /// The token that ends a text is `end_of_text`, by name or number, if it is given. Else it is the
    /// one that the files of the folder name, where the file is called `tokenizer.json`:
    /// `eos_token_id` in `config.json`, then in `generation_config.json`, then `eos_token` in
    /// `tokenizer_config.json` and in `special_tokens_map.json`; of several the first. Else it is the
    /// first special token that is called `<|endoftext|>`, `<|end_of_text|>`, `</s>`, `<eos>` or as in
    /// other common tokenizers; a token of such a name that is not special is taken only where no
    /// token is.
    ///
    /// # Errors
    /// If a file cannot be read, is no tokenizer, encodes at random (BPE dropout), or nothing says
    /// which token ends a text.
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
        let inner = tokenizers::Tokenizer::from_bytes(json).map_err(|error| {
            let what = not_data(&json[..json.len().min(HEAD)]);
            let what = what.unwrap_or_else(|| format!("not a tokenizer.json ({error})"));
            Error::content(&file, None, what)
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
        let json = inner.to_string(false).map_err(refuse)?;
        // Adds special tokens, which are not wanted, and may move the bytes that a token stands for.
        inner.with_post_processor(None::<PostProcessorWrapper>);
        // A document that spells out the name of a special token does not end there.
        inner.set_encode_special_tokens(true);
        let end_of_text = end_of_text::find(&inner, &origin, folder, end_of_text)?;
        let vocab_size =
            inner.get_vocab(true).into_values().max().map_or(0, |largest| largest as usize + 1);
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

    /// Writes [`to_json`](Self::to_json) to `path`, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let written = File::create(&temporary)
            .and_then(|mut file| {
                file.write_all(self.json.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&temporary, path));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            Error::io(path)(error)
        })
    }

    /// The number of rows that an embedding needs: the largest id and 1.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The rows that the embedding of a model needs which reads what [`encode`](Self::encode) makes of
    /// text: special tokens that no text becomes, as one for padding that was added later, may lie
    /// beyond them.
    pub fn needed_vocab(&self) -> usize {
        let added = self.inner.get_added_tokens_decoder();
        let of_text = added.iter().filter(|(_, token)| !token.special).map(|(&id, _)| id);
        let of_model = self.inner.get_vocab(false).into_values();
        let largest = of_model.chain(of_text).max().unwrap_or(0).max(self.end_of_text.id);
        largest as usize + 1
    }

    /// The token that stands between documents.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text.id
    }

    /// The same, with its name and what says that it is the one.
    pub fn stated_end_of_text(&self) -> &EndOfText {
        &self.end_of_text
    }

    /// The token that stands between documents where it is not the one that a tokenizer's vocabulary
    /// suggested before files were asked: a part of the identity of what is tokenised.
    pub fn unusual_end_of_text(&self) -> Option<u32> {
        let id = self.end_of_text.id;
        (end_of_text::earlier(&self.inner) != Some(id)).then_some(id)
    }

    /// The tokens of a text. The names of special tokens in it are text like any other, and none
    /// of the tokens is the end of text: a given tokenizer that would take its name for it gets
    /// that name in two parts.
    ///
    /// # Errors
    /// If the tokenizer has no token for a part of it, or makes the end of text out of anything
    /// but its name.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.without_end(text, |id| *id, |range| self.encode_text(&text[range]))
    }

    /// The tokens of [`encode`](Self::encode), and of each whether it counts: whether one of the
    /// bytes that it stands for does. Which bytes count is in order, without overlap, and cut between
    /// characters.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    ///
    /// # Panics
    /// If the bytes are not in the text or cut within a character.
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

    /// What `encode` makes of a text, which is encoded in parts where the name of the end of text
    /// would be taken for it. `id` is the token of what it makes.
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
            let reason = format!("makes the end of text, {name}, out of text without it");
            Err(Error::content(&self.origin, None, reason))
        }
    }

    /// The tokens of [`encode_text`](Self::encode_text) of a part of a text, and whether each counts.
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

    /// The tokens of a word, or of a text, that begins at byte `start`, and whether each counts.
    fn mask_word(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        word: &str,
        start: usize,
        counted: &[Range<usize>],
    ) -> Result<Vec<(u32, bool)>> {
        let encoding = tokenizer.encode(word, false);
        let encoding =
            encoding.map_err(|error| Error::content(&self.origin, None, error.to_string()))?;
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

    /// The pieces of a text that are encoded one by one where words are not.
    fn pieces(&self, text: &str) -> Result<Vec<Range<usize>>> {
        let whole = 0..text.len();
        let pieces = self.cuts.as_ref().map_or_else(|| vec![whole], |cuts| cuts.pieces(text));
        match pieces.iter().map(Range::len).max() {
            Some(length) if length > cuts::LONGEST => {
                let reason = format!(
                    "a document has {length} bytes without a place where this tokenizer surely \
                     cuts; the limit is {}: split the document",
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
        tokenizer
            .encode_fast(text, false)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|error| Error::content(&self.origin, None, error.to_string()))
    }

    /// The text of tokens, special ones by their names. Bytes that are not UTF-8 where tokens were
    /// cut apart become U+FFFD.
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
        self.inner
            .decode(ids, false)
            .map_err(|error| Error::content(&self.origin, None, error.to_string()))
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

/// Cuts a text into runs of white space, each with the run of other characters after it.
///
/// GPT-2's regular expression never matches across these cuts, and what it matches on one side
/// does not depend on the other: it gives white space to what follows it, and a match that begins
/// with anything else ends before white space.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(|c: char| !c.is_whitespace())?;
        let end = rest[start..].find(char::is_whitespace).map_or(rest.len(), |end| start + end);
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    })
    .chain({
        let kept = text.trim_end().len();
        (kept < text.len()).then(|| &text[kept..])
    })
}

/// Whether a text's tokens are those of its [`words`], one after the other.
fn words_are_independent(tokenizer: &tokenizers::Tokenizer) -> bool {
    let cuts_words = match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::ByteLevel(byte_level)) => {
            byte_level.use_regex && !byte_level.add_prefix_space
        }
        Some(other) => unigram::cuts_words(other),
        None => false,
    };
    // An added token that is not special is looked for in the whole text, with spaces around it.
    let all_special = tokenizer.get_added_tokens_decoder().values().all(|token| token.special);
    cuts_words && all_special && tokenizer.get_normalizer().is_none()
}

/// The tokens of words that were met before, for several threads.
///
/// Most words of a text are frequent ones, and cutting and merging them anew takes ten times as
/// long as this look-up.
struct Words {
    shards: [Mutex<Known>; 64],
}

/// Words and their tokens.
type Known = HashMap<Box<str>, Box<[u32]>>;

impl Words {
    /// Words kept a shard; those that come later are encoded every time.
    const CAPACITY: usize = 1 << 12;
    /// Bytes of the longest word that is kept.
    const LONGEST: usize = 64;

    /// Appends a word's tokens to `ids`.
    fn append(
        &self,
        word: &str,
        ids: &mut Vec<u32>,
        encode: impl FnOnce() -> Result<Vec<u32>>,
    ) -> Result<()> {
        if word.len() > Self::LONGEST {
            ids.extend(encode()?);
            return Ok(());
        }
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(word);
        let shard = &self.shards[hash as usize % self.shards.len()];
        let lock = || shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) = lock().get(word) {
            ids.extend_from_slice(known);
            return Ok(());
        }
        let encoded = encode()?;
        ids.extend_from_slice(&encoded);
        let mut shard = lock();
        if shard.len() < Self::CAPACITY {
            shard.insert(word.into(), encoded.into());
        }
        Ok(())
    }
}

impl Default for Words {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

/// Learns a byte-level BPE from words with how often they occur: of pairs that are equally
/// frequent, the one with the smaller ids is merged first.
fn train_bpe(
    counts: HashMap<String, u64>,
    vocab_size: usize,
) -> tokenizers::Result<tokenizers::Tokenizer> {
    let byte_level = ByteLevel::new(false, false, true);
    // Words in the byte-level alphabet, in an order that does not depend on the hash map's.
    let mut split: BTreeMap<String, u64> = BTreeMap::new();
    for (word, count) in counts {
        let mut parts = PreTokenizedString::from(word);
        byte_level.pre_tokenize(&mut parts)?;
        for (part, _, _) in parts.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            *split.entry(part.to_owned()).or_default() += count;
        }
    }
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let tokens = std::iter::once(END_OF_TEXT.to_owned())
        .chain(alphabet.into_iter().map(String::from))
        .collect();
    let (tokens, merges) = learn(tokens, split, vocab_size);
    let vocab: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
    let merges = merges
        .into_iter()
        .map(|(a, b)| (tokens[a as usize].clone(), tokens[b as usize].clone()))
        .collect();
    let model = BPE::builder()
        .vocab_and_merges(vocab.into_iter().collect::<tokenizers::models::bpe::Vocab>(), merges)
        .build()?;
    let mut trained = tokenizers::Tokenizer::new(model);
    trained.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
    trained.add_special_tokens([AddedToken::from(END_OF_TEXT, true)])?;
    Ok(trained)
}

/// Two tokens next to each other.
type Pair = (u32, u32);

/// The merges of byte-pair encoding: as long as the vocabulary is too small, the most frequent
/// pair of neighbours becomes a token; of equally frequent ones the pair with the smaller ids.
///
/// `words` counts words as strings of one-character tokens. Returns the vocabulary and the merges
/// in order.
fn learn(
    mut tokens: Vec<String>,
    words: BTreeMap<String, u64>,
    vocab_size: usize,
) -> (Vec<String>, Vec<Pair>) {
    let mut ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
    let mut words: Vec<(Vec<u32>, u64)> = words
        .into_iter()
        .map(|(word, count)| (word.chars().map(|c| ids[&c.to_string()]).collect(), count))
        .collect();
    let mut counts: HashMap<Pair, u64> = HashMap::new();
    // The words in which a pair occurs, or occurred.
    let mut places: HashMap<Pair, Vec<usize>> = HashMap::new();
    for (i, (word, count)) in words.iter().enumerate() {
        for pair in word.windows(2).map(|pair| (pair[0], pair[1])) {
            *counts.entry(pair).or_default() += count;
            places.entry(pair).or_default().push(i);
        }
    }
    let mut queue: BinaryHeap<(u64, Reverse<Pair>)> =
        counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
    let (mut merges, mut known) = (Vec::new(), HashSet::new());
    while tokens.len() < vocab_size
        && let Some((count, Reverse(pair))) = queue.pop()
    {
        let now = counts.get(&pair).copied().unwrap_or(0);
        if now != count {
            // Since it was queued, other merges took some of its occurrences.
            if now > 0 && now < count {
                queue.push((now, Reverse(pair)));
            }
            continue;
        }
        if count < MIN_FREQUENCY {
            break;
        }
        let merged = format!("{}{}", tokens[pair.0 as usize], tokens[pair.1 as usize]);
        // Two different merges may spell the same token; then a pair can come back.
        let id = *ids.entry(merged).or_insert_with_key(|merged| {
            tokens.push(merged.clone());
            tokens.len() as u32 - 1
        });
        if known.insert(pair) {
            merges.push(pair);
        }
        let mut changed = Vec::new();
        for i in places.remove(&pair).unwrap_or_default() {
            let (word, count) = &mut words[i];
            let after = merge(word, pair, id);
            if after.len() == word.len() {
                continue;
            }
            for pair in word.windows(2).map(|pair| (pair[0], pair[1])) {
                if let Some(total) = counts.get_mut(&pair) {
                    *total -= *count;
                }
            }
            for pair in after.windows(2).map(|pair| (pair[0], pair[1])) {
                *counts.entry(pair).or_default() += *count;
                if pair.0 == id || pair.1 == id {
                    places.entry(pair).or_default().push(i);
                    changed.push(pair);
                }
            }
            *word = after;
        }
        changed.sort_unstable();
        changed.dedup();
        queue.extend(changed.into_iter().map(|pair| (counts[&pair], Reverse(pair))));
    }
    (tokens, merges)
}

/// A word in which every `pair`, from the left, is `id`.
fn merge(word: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut after = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, others)) = rest.split_first() {
        if first == pair.0 && others.first() == Some(&pair.1) {
            after.push(id);
            rest = &others[1..];
        } else {
            after.push(first);
            rest = others;
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Key;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::LazyLock;
    use tokenizers::models::bpe::BpeTrainerBuilder;

    /// Text of words that are drawn from a small lexicon, the first ones far more often.
    fn prose(seed: u64, words: u64) -> String {
        let key = Key::new(seed);
        let lexicon: Vec<String> = (0..300)
            .map(|i| {
                let key = Key::new(0).child(i);
                (0..key.below(0, 7) + 2)
                    .map(|j| char::from(b'a' + key.below(j + 1, 26) as u8))
                    .collect()
            })
            .collect();
        (0..words)
            .map(|i| {
                let rank = (key.uniform(2 * i).powi(3) * 300.0) as usize;
                let end = [" ", " ", " ", ", ", ".\n"][key.below(2 * i + 1, 5) as usize];
                format!("{}{end}", lexicon[rank])
            })
            .collect()
    }

    static PROSE: LazyLock<Tokenizer> =
        LazyLock::new(|| Tokenizer::train([prose(1, 5000)].into_iter(), 500).unwrap());

    /// One that changes characters, as GPT-NeoX's and Qwen's do, and more.
    static FOLDED: LazyLock<Tokenizer> = LazyLock::new(|| {
        let mut file = json(&PROSE);
        file["normalizer"] = json!({"type": "Sequence", "normalizers": [
            {"type": "NFKC"}, {"type": "Lowercase"}, {"type": "StripAccents"}]});
        open(&file).unwrap()
    });

    fn train(text: &str, vocab_size: usize) -> Tokenizer {
        Tokenizer::train([text.to_owned()].into_iter(), vocab_size).unwrap()
    }

    fn merges(tokenizer: &Tokenizer) -> Value {
        let json: Value = serde_json::from_str(tokenizer.to_json()).unwrap();
        json["model"]["merges"].clone()
    }

    fn open(json: &Value) -> Result<Tokenizer> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        fs::write(&path, json.to_string()).unwrap();
        Tokenizer::from_file(path)
    }

    fn json(tokenizer: &Tokenizer) -> Value {
        serde_json::from_str(tokenizer.to_json()).unwrap()
    }

    #[test]
    fn merges_by_hand() {
        // ab occurs 4 times, ba twice, abab then twice; a pair that occurs once is not merged.
        let tokenizer = train("abab abab", 1000);
        assert_eq!(merges(&tokenizer), json!([["a", "b"], ["ab", "ab"]]));
        assert_eq!(tokenizer.vocab_size(), 259);
        assert_eq!(merges(&train("abab abab", 258)), json!([["a", "b"]]));
        // Runs: after aa is merged from the left, aa and aa are left.
        let tokenizer = train("aaaa aaaa", 1000);
        assert_eq!(merges(&tokenizer), json!([["a", "a"], ["aa", "aa"]]));
        // ab, cd and a space before c occur twice each: the smaller ids first.
        let tokenizer = train("ab cd ab cd", 1000);
        assert_eq!(merges(&tokenizer), json!([["a", "b"], ["c", "d"], ["Ġ", "cd"]]));
    }

    #[test]
    fn without_merges_a_token_is_a_byte() {
        let tokenizer = train("abab", 257);
        assert_eq!(tokenizer.vocab_size(), 257);
        assert_eq!(tokenizer.encode("aé a").unwrap().len(), 5);
        assert_eq!(tokenizer.end_of_text(), 0);
        let error = Tokenizer::train(["a".to_owned()].into_iter(), 256).unwrap_err();
        assert!(error.to_string().contains("at least 257"), "{error}");
        assert!(Tokenizer::train(std::iter::empty(), 300).is_err());
    }

    /// The peer's trainer learns the same merges from the same text. It breaks ties in the same
    /// way, but where a pair is queued twice its order depends on a random hash; hence our own.
    #[test]
    fn the_peer_learns_the_same() {
        let text = prose(2, 3000);
        let ours = train(&text, 600);
        let byte_level = ByteLevel::new(false, false, true);
        let mut peer = tokenizers::TokenizerBuilder::<
            BPE,
            tokenizers::NormalizerWrapper,
            ByteLevel,
            ByteLevel,
            ByteLevel,
        >::new()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(byte_level))
        .with_post_processor(None)
        .with_decoder(Some(byte_level))
        .build()
        .unwrap();
        let mut trainer = BpeTrainerBuilder::new()
            .vocab_size(600)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        peer.train(&mut trainer, [&text].into_iter()).unwrap();
        let peer: Value = serde_json::from_str(&peer.to_string(false).unwrap()).unwrap();
        assert_eq!(json(&ours), peer);
        assert_eq!(ours.vocab_size(), 600);
    }

    #[test]
    fn neither_order_nor_repetition_changes_the_result() {
        let texts = [prose(3, 400), prose(4, 400), prose(5, 400)];
        let forward = Tokenizer::train(texts.iter().cloned(), 400).unwrap();
        let backward = Tokenizer::train(texts.iter().rev().cloned(), 400).unwrap();
        assert_eq!(forward.to_json(), backward.to_json());
        assert_ne!(forward.hash(), Tokenizer::train(texts.into_iter(), 401).unwrap().hash());
    }

    #[test]
    fn special_names_in_a_text_are_text() {
        let text = "before <|endoftext|> after";
        let ids = PROSE.encode(text).unwrap();
        assert!(!ids.contains(&PROSE.end_of_text()));
        assert_eq!(PROSE.decode(&ids).unwrap(), text);
        assert_eq!(PROSE.decode(&[PROSE.end_of_text()]).unwrap(), END_OF_TEXT);
    }

    #[test]
    fn ids_outside_the_vocabulary_are_refused() {
        assert!(PROSE.decode(&[499]).is_ok());
        assert!(PROSE.decode(&[500]).unwrap_err().to_string().contains("500"));
    }

    #[test]
    fn a_long_run_of_one_character_is_encoded() {
        for tokenizer in [&*PROSE, &*PIECES] {
            for text in
                [" ".repeat(300_000), "a".repeat(30_000), format!("{}a", "\n".repeat(30_000))]
            {
                assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap(), text);
            }
            assert!(tokenizer.encode("").unwrap().is_empty());
        }
    }

    #[test]
    fn saved_and_read_it_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        PROSE.save(&path).unwrap();
        let read = Tokenizer::from_file(&path).unwrap();
        assert_eq!(read.to_json(), PROSE.to_json());
        assert_eq!(read.hash(), PROSE.hash());
        assert_eq!(read.hash(), format!("{:x}", Sha256::digest(fs::read(&path).unwrap())));
        let text = prose(9, 50);
        assert_eq!(read.encode(&text).unwrap(), PROSE.encode(&text).unwrap());
        assert_eq!((read.end_of_text(), read.vocab_size()), (0, 500));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        assert!(PROSE.save(folder.path().join("missing/tokenizer.json")).is_err());
        assert!(PROSE.save(folder.path()).is_err());
    }

    /// Saved files often carry the truncation of the model that they came with.
    #[test]
    fn truncation_and_padding_are_switched_off() {
        let mut file = json(&PROSE);
        file["truncation"] = json!({
            "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0
        });
        file["padding"] = json!({
            "strategy": {"Fixed": 512}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": END_OF_TEXT
        });
        let text = prose(6, 100);
        let read = open(&file).unwrap();
        assert_eq!(read.encode(&text).unwrap(), PROSE.encode(&text).unwrap());
        assert_eq!(read.hash(), PROSE.hash());
    }

    #[test]
    fn files_that_are_no_tokenizer_are_refused() {
        let missing = Tokenizer::from_file("no such tokenizer.json").unwrap_err();
        assert!(matches!(missing, Error::Io { .. }));
        let error = open(&json!({"a": 1})).unwrap_err().to_string();
        assert!(error.contains("not a tokenizer.json"), "{error}");
        let mut random = json(&PROSE);
        random["model"]["dropout"] = json!(0.1);
        let error = open(&random).unwrap_err().to_string();
        assert!(error.contains("dropout"), "{error}");
        random["model"]["dropout"] = json!(0.0);
        assert!(open(&random).is_ok());
    }

    /// Ids with a gap, and the end of text under another name.
    #[test]
    fn another_kind_of_tokenizer() {
        let file = |end: &str| {
            json!({
                "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
                "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
                "post_processor": null, "decoder": null,
                "model": {"type": "WordLevel", "unk_token": "?",
                          "vocab": {"a": 0, "b": 1, "?": 2, end: 9}}
            })
        };
        let tokenizer = open(&file("</s>")).unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (10, 9));
        assert_eq!(tokenizer.encode("A b\n c").unwrap(), [0, 1, 2]);
        let masked = tokenizer.encode_counted("A b\n c", std::slice::from_ref(&(1..3))).unwrap();
        assert_eq!(masked, (vec![0, 1, 2], vec![false, true, false]));
        // What drops white space drops no byte of it.
        assert_eq!(tokenizer.token_bytes("A b\n c ").unwrap(), [1, 2, 4]);
        let error = open(&file("end")).unwrap_err().to_string();
        assert!(error.contains("--end-of-text"), "{error}");
    }

    #[test]
    fn words_are_encoded_one_by_one_only_where_that_is_the_same() {
        assert!(PROSE.words.is_some());
        let changed = |change: fn(&mut Value)| {
            let mut file = json(&PROSE);
            change(&mut file);
            open(&file).unwrap().words.is_some()
        };
        assert!(changed(|_| ()));
        assert!(!changed(|file| file["pre_tokenizer"]["add_prefix_space"] = json!(true)));
        assert!(!changed(|file| file["pre_tokenizer"]["use_regex"] = json!(false)));
        assert!(!changed(|file| file["pre_tokenizer"] = json!(null)));
        assert!(!changed(|file| file["normalizer"] = json!({"type": "NFC"})));
        assert!(!changed(|file| {
            file["added_tokens"].as_array_mut().unwrap().push(json!({
                "id": 500, "content": "a b", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": false
            }));
        }));
    }

    #[test]
    fn words_keep_what_does_not_fit() {
        let words = Words::default();
        let mut ids = Vec::new();
        let long = "x".repeat(Words::LONGEST + 1);
        for round in 0..2 {
            words.append(&long, &mut ids, || Ok(vec![round])).unwrap();
            words.append(&long[1..], &mut ids, || Ok(vec![round])).unwrap();
        }
        // What is short enough is remembered from the first round.
        assert_eq!(ids, [0, 0, 1, 0]);
    }

    fn train_unigram(text: &str, vocab_size: usize) -> Tokenizer {
        let texts = [text.to_owned()].into_iter();
        Tokenizer::train_kind(TokenizerKind::Unigram, texts, vocab_size).unwrap()
    }

    static PIECES: LazyLock<Tokenizer> = LazyLock::new(|| {
        // Some of what is rare in prose is frequent here.
        train_unigram(&format!("{} <0x41> ▁▁ <unk> naïve 汉字汉字 \n\n  \t", prose(1, 5000)), 500)
    });

    /// A piece is a byte, part of a word with at most one space before it, or white space.
    #[test]
    fn pieces_of_words() {
        let file = json(&PIECES);
        let vocab: Vec<(String, f64)> =
            serde_json::from_value(file["model"]["vocab"].clone()).unwrap();
        assert_eq!((PIECES.vocab_size(), PIECES.end_of_text(), vocab.len()), (500, 499, 499));
        assert_eq!((vocab[0].0.as_str(), vocab[1 + 0x41].0.as_str()), ("<unk>", "<0x41>"));
        let pieces = &vocab[257..];
        assert!(pieces.is_sorted_by(|a, b| a.1 >= b.1 && a.1 > vocab[0].1));
        for (piece, _) in pieces {
            let word = piece.strip_prefix(' ').unwrap_or(piece);
            let white = word.chars().filter(|c| c.is_whitespace()).count();
            assert!(white == 0 || white == word.chars().count(), "{piece:?}");
        }
        let words = pieces.iter().filter(|(piece, _)| piece.starts_with(' ') && piece.len() > 3);
        assert!(words.count() > 50);
        let text = prose(7, 500);
        let [bytes, ours] = [&train(&text, 257), &*PIECES].map(|t| t.encode(&text).unwrap().len());
        assert!(ours * 2 < bytes, "{ours} and {bytes}");
    }

    #[test]
    fn the_order_of_the_texts_changes_no_piece() {
        let texts = [prose(3, 400), prose(4, 400), prose(5, 400)];
        let train = |texts: &mut dyn Iterator<Item = &String>| {
            let texts = texts.cloned();
            Tokenizer::train_kind(TokenizerKind::Unigram, texts, 400).unwrap()
        };
        let forward = train(&mut texts.iter());
        assert_eq!(forward.to_json(), train(&mut texts.iter().rev()).to_json());
        assert_ne!(forward.hash(), train_unigram(&texts.concat(), 401).hash());
    }

    #[test]
    fn pieces_are_read_back_and_the_same() {
        let read = open(&json(&PIECES)).unwrap();
        assert_eq!(read.hash(), PIECES.hash());
        assert!(read.words.is_some());
        let text = format!("{} <|endoftext|> ż", prose(9, 50));
        assert_eq!(read.encode(&text).unwrap(), PIECES.encode(&text).unwrap());
    }

    #[test]
    fn little_text_gives_few_pieces() {
        let tokenizer = train_unigram("to be or not to be", 1000);
        assert!((280..300).contains(&tokenizer.vocab_size()), "{}", tokenizer.vocab_size());
        assert_eq!(train_unigram("to be or not to be", 280).vocab_size(), 280);
        let texts = || ["a".to_owned()].into_iter();
        let error = Tokenizer::train_kind(TokenizerKind::Unigram, texts(), 279).unwrap_err();
        assert!(error.to_string().contains("at least 280"), "{error}");
    }

    /// The name of a byte is text, and a byte is written where there is no piece.
    #[test]
    fn bytes_and_their_names() {
        let token = |name: &str| PIECES.inner.token_to_id(name).unwrap();
        assert_eq!(PIECES.encode("ż").unwrap(), [token("<0xC5>"), token("<0xBC>")]);
        for text in ["<0xC5><0xBC>", "<unk>", "<|endoftext|>", "<0x0A>"] {
            let ids = PIECES.encode(text).unwrap();
            let special = |id: &u32| (*id <= 256) || *id == PIECES.end_of_text();
            let spelled = ids.iter().filter(|id| !special(id)).count();
            assert!(spelled > 0 && !ids.contains(&token("<0xC5>")) && !ids.contains(&0), "{ids:?}");
            assert_eq!(PIECES.decode(&ids).unwrap(), text);
        }
        assert_eq!(PIECES.decode(&[PIECES.end_of_text()]).unwrap(), END_OF_TEXT);
        // Half a character is none.
        assert_eq!(PIECES.decode(&[token("<0xC5>")]).unwrap(), "\u{fffd}");
    }

    /// As in the files of Llama 2: BPE with bytes, ▁ for a space and one in front.
    #[test]
    fn a_file_with_byte_fallback() {
        let mut vocab = serde_json::Map::new();
        for name in ["<unk>", "<s>", "</s>"] {
            vocab.insert(name.into(), json!(vocab.len()));
        }
        for byte in 0..=255 {
            vocab.insert(format!("<0x{byte:02X}>"), json!(vocab.len()));
        }
        for token in ["▁", "a", "b", "▁a", "▁ab", "<", "/", "s", ">"] {
            vocab.insert(token.into(), json!(vocab.len()));
        }
        let special = |id: u32, name: &str| {
            json!({"id": id, "content": name, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        };
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            "pre_tokenizer": null,
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true,
                "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "byte_fallback": true, "vocab": vocab, "merges": [["▁", "a"], ["▁a", "b"]]},
        });
        let tokenizer = open(&file).unwrap();
        assert_eq!((tokenizer.end_of_text(), tokenizer.vocab_size()), (2, 268));
        // No <s> in front, and é as two bytes.
        assert_eq!(tokenizer.encode("ab aé").unwrap(), [263, 262, 3 + 0xC3, 3 + 0xA9]);
        assert_eq!(tokenizer.token_bytes("ab aé").unwrap(), [2, 2, 1, 1]);
        for text in ["ab aé", "  a\n\n b ", "</s> a", "", "漢\0"] {
            let ids = tokenizer.encode(text).unwrap();
            assert!(!ids.contains(&2));
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
    }

    /// As in GPT-2's file: the end of text is the last of the vocabulary.
    #[test]
    fn a_file_with_the_end_of_text_at_the_end() {
        let mut file = json(&PROSE);
        let vocab = file["model"]["vocab"].as_object_mut().unwrap();
        vocab.values_mut().for_each(|id| *id = json!((id.as_u64().unwrap() + 499) % 500));
        file["added_tokens"][0]["id"] = json!(499);
        file["added_tokens"][0]["normalized"] = json!(true);
        let tokenizer = open(&file).unwrap();
        assert_eq!((tokenizer.end_of_text(), tokenizer.vocab_size()), (499, 500));
        assert!(tokenizer.words.is_some());
        let text = "one<|endoftext|>two";
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids, PROSE.encode(text).unwrap().iter().map(|id| id - 1).collect::<Vec<_>>());
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }

    /// As in the files of T5: the special tokens are pieces of the model, with a score of 0.
    #[test]
    fn a_file_whose_model_would_end_the_text() {
        let vocab = json!([
            ["<pad>", 0.0],
            ["</s>", 0.0],
            ["<unk>", 0.0],
            ["a", -1.0],
            ["b", -1.0],
            ["<", -9.0],
            ["/", -9.0],
            ["s", -9.0],
            [">", -9.0]
        ]);
        let mut file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab}
        });
        let tokenizer = open(&file).unwrap();
        assert_eq!(tokenizer.encode("a</s>b").unwrap(), [3, 5, 6, 7, 8, 4]);
        file["normalizer"] = json!({"type": "Lowercase"});
        let error = open(&file).unwrap().encode("a</S>b").unwrap_err().to_string();
        assert!(error.contains("makes the end of text, </s>"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_survives(
            parts in prop::collection::vec(
                prop_oneof![
                    any::<String>(),
                    "[a-z]{1,6}",
                    prop::sample::select(vec![
                        " ", "  ", "\n", "\r\n", "\t ", "\u{a0}", "\u{2003}", "\u{85}", "\u{200b}",
                        "'s", "'ll", "e\u{301}", "نص", "नमस्ते", "汉字", "½", "Ⅷ", "👩‍👩‍👧", "_", "...",
                        "<|endoftext|>", "\0", "\u{feff}", "▁", "▁▁a", "<0x41>", "<0xE2>", "<unk>",
                        "</s>", "\t\t", "\u{1f9d1}\u{200d}\u{1f52c}", "\u{fffd}", "\u{10ffff}",
                    ]).prop_map(String::from),
                ],
                0..12,
            )
        ) {
            let text = parts.concat();
            // Every byte is one token's, whatever becomes of the text.
            for tokenizer in [&*PROSE, &*PIECES, &*FOLDED] {
                let bytes = tokenizer.token_bytes(&text).unwrap();
                prop_assert_eq!(bytes.len(), tokenizer.encode(&text).unwrap().len());
                let all = if bytes.is_empty() { 0 } else { text.len() };
                prop_assert_eq!(bytes.iter().sum::<usize>(), all);
            }
            for tokenizer in [&*PROSE, &*PIECES] {
                let ids = tokenizer.encode(&text).unwrap();
                prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.clone());
                prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                prop_assert!(!ids.contains(&tokenizer.end_of_text()));
                // By words, as the peer does it at one go.
                prop_assert_eq!(ids, tokenizer.encode_word(&tokenizer.inner, &text).unwrap());
            }
            prop_assert_eq!(words(&text).collect::<String>(), text);
        }

        /// What counts changes no token, and a token counts with any of its bytes: worked out from
        /// the lengths of the tokens, which make up the text.
        #[test]
        fn masks_of_tokens(
            words in prop::collection::vec(
                prop_oneof![
                    any::<String>(),
                    prop::sample::select(vec![
                        " ", "\n", "[INST] sum [/INST]", " [/INST]", " two  words\n", "naïve 汉字",
                        "👩‍👩‍👧", "<|endoftext|>", "<0x41>", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                    ]).prop_map(String::from),
                ],
                0..12,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
        ) {
            let text = words.concat();
            let borders: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| borders[cut.index(borders.len())]).collect();
            cuts.sort_unstable();
            let counted: Vec<_> = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
            for tokenizer in [&*PROSE, &*PIECES] {
                let (ids, mask) = tokenizer.encode_counted(&text, &counted).unwrap();
                prop_assert_eq!(&ids, &tokenizer.encode(&text).unwrap());
                // By words, as at one go.
                let whole = tokenizer.mask_word(&tokenizer.inner, &text, 0, &counted).unwrap();
                prop_assert_eq!(whole.into_iter().unzip::<_, _, Vec<_>, Vec<_>>(), (ids.clone(), mask.clone()));
                let (mut start, mut lengths) = (0, Vec::new());
                for (&id, counts) in ids.iter().zip(mask) {
                    let name = tokenizer.inner.id_to_token(id).unwrap();
                    let length = match (std::ptr::eq(tokenizer, &*PROSE), id) {
                        // In the byte-level alphabet a character is a byte.
                        (true, _) => name.chars().count(),
                        // The names of bytes.
                        (false, 1..=256) => 1,
                        (false, _) => name.len(),
                    };
                    let token = start..start + length;
                    let overlaps = |range: &Range<usize>| range.start < token.end && token.start < range.end;
                    let naive = counted.iter().filter(|range| !range.is_empty()).any(overlaps);
                    start = token.end;
                    lengths.push(length);
                    prop_assert_eq!(counts, naive, "{:?} at {}", name, token.start);
                }
                prop_assert_eq!(start, text.len());
                prop_assert_eq!(lengths, tokenizer.token_bytes(&text).unwrap());
            }
        }
    }
}
